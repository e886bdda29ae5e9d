/* Calls a fuzzer where there is no libFuzzer: with random inputs and mutations of earlier ones, or with a file's bytes.
 *
 *     fuzz_NAME [--seconds N] [--runs N] [--seed S]       a failing input is written beside the program
 *     fuzz_NAME FILE...                                   tries these inputs again */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

enum { LONGEST = 2048, KEPT = 256, SECONDS_TO_HANG = 60 };

typedef struct input {
    size_t size;
    uint8_t data[LONGEST];
} input;

/* ---- the last words ---- */

static const input *tried;
static char failing_path[512];

static void keep_failing(void) {
    int file = tried ? open(failing_path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    if (file < 0) return;
    ssize_t written = write(file, tried->data, tried->size);
    written += write(STDERR_FILENO, "the input: ", 11);
    written += write(STDERR_FILENO, failing_path, strlen(failing_path));
    written += write(STDERR_FILENO, "\n", 1);
    (void)written;
    tried = NULL;
}

static void die(int signal_number) {
    keep_failing();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* gcc's two sanitizers have a callback each, of which only one can be set: the other one ends by a signal. */
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "halt_on_error=1:abort_on_error=1:print_stacktrace=1"; }
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void watch(void) {
    static const int signals[] = { SIGABRT, SIGALRM };
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(keep_failing);
    for (size_t k = 0; k < sizeof signals / sizeof signals[0]; k++) signal(signals[k], die);
}

static void try(const input *next) {
    tried = next;
    alarm(SECONDS_TO_HANG);
    LLVMFuzzerTestOneInput(next->data, next->size);
    alarm(0);
    tried = NULL;
}

/* ---- inputs ---- */

static uint64_t random_state;

/* splitmix64 (Steele, Lea and Flood, 2014) */
static uint64_t random_bits(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void draw(input *next) {
    next->size = random_bits() % 4 ? random_bits() % 128 : random_bits() % LONGEST;
    for (size_t k = 0; k < next->size; k++) next->data[k] = (uint8_t)random_bits();
}

/* A few bytes changed, or the end of another input. */
static void mutate(input *next, const input *other) {
    size_t at = next->size ? random_bits() % next->size : 0;
    if (random_bits() % 4 == 0 && other->size > at) {
        memcpy(next->data + at, other->data + at, other->size - at);
        next->size = other->size;
    }
    for (uint64_t k = random_bits() % 4; k > 0 && next->size; k--) {
        next->data[random_bits() % next->size] = (uint8_t)(random_bits() >> (random_bits() % 8));
    }
}

static void next_input(input *next, input *kept, long long run) {
    if (run < KEPT || random_bits() % 2) {
        draw(next);
    } else {
        *next = kept[random_bits() % KEPT];
        mutate(next, &kept[random_bits() % KEPT]);
    }
    if (run < KEPT || random_bits() % 8 == 0) kept[(size_t)run % KEPT] = *next;
}

/* ---- the program ---- */

static int replay(const char *path) {
    static input from;
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 2;
    }
    from.size = fread(from.data, 1, LONGEST, file);
    fclose(file);
    LLVMFuzzerTestOneInput(from.data, from.size);
    printf("%s: passed\n", path);
    return 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run(const char *program, double seconds, long long runs, uint64_t seed) {
    static input kept[KEPT], next;
    double end = now() + seconds;
    long long done = 0;
    random_state = seed;
    for (; done < runs && now() < end; done++) {
        next_input(&next, kept, done);
        snprintf(failing_path, sizeof failing_path, "%s-seed-%llu-run-%lld", program, (unsigned long long)seed, done);
        try(&next);
    }
    printf("%lld inputs passed\n", done);
}

int main(int argc, char **argv) {
    double seconds = 1e9;
    long long runs = 1LL << 62;
    uint64_t seed = (uint64_t)time(NULL);
    int k = 1, failed = 0;
    for (; k + 1 < argc && !strncmp(argv[k], "--", 2); k += 2) {
        if (!strcmp(argv[k], "--seconds")) seconds = atof(argv[k + 1]);
        else if (!strcmp(argv[k], "--runs")) runs = atoll(argv[k + 1]);
        else if (!strcmp(argv[k], "--seed")) seed = strtoull(argv[k + 1], NULL, 10);
        else break;
    }
    if (k < argc && argv[k][0] == '-') {
        fprintf(stderr, "usage: %s [--seconds N] [--runs N] [--seed S] | FILE...\n", argv[0]);
        return 2;
    }
    watch();
    if (k < argc) {
        for (; k < argc; k++) failed |= replay(argv[k]);
        return failed;
    }
    printf("%s --seed %llu\n", argv[0], (unsigned long long)seed);
    fflush(stdout);
    run(argv[0], seconds, runs, seed);
    return 0;
}
