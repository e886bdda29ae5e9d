/* A host whose address space runs short (RLIMIT_AS) after the context was made: every call returns, in a child process
 * with a watchdog.  OpenBLAS asks for its buffers until it has them. */
#include "gradient_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a child process ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CAN_LIMIT = 0 };   /* sanitizers need address space of their own */
#else
enum { CAN_LIMIT = 1 };
#endif

/* No more than extra bytes beyond what is mapped. */
static bool limit_address_space(size_t extra) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu", &pages) != 1) return false;
    fclose(file);
    rlim_t most = pages * (rlim_t)sysconf(_SC_PAGESIZE) + extra;
    return setrlimit(RLIMIT_AS, &(struct rlimit){ most, most }) == 0;
}

/* What body returns in a child of its own: 0 is good. */
static void run_in_child(int (*body)(size_t extra), size_t extra) {
    int outcome;
    if (!CAN_LIMIT) skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        alarm(60);
        _exit(body(extra));
    }
    assert_int_equal(waitpid(child, &outcome, 0), child);
    if (WIFSIGNALED(outcome)) fail_msg("a call did not return: signal %d", WTERMSIG(outcome));
    assert_int_equal(WEXITSTATUS(outcome), 0);
}

/* ---- memory of the context's alone ---- */

/* An allocator that has what it needs from the start. */
typedef struct store { char *memory; size_t used; } store;
enum { STORE_BYTES = 64 << 20 };

static void *take(void *user, size_t bytes) {
    store *s = user;
    size_t rounded = (bytes + 63) & ~(size_t)63;
    if (rounded > STORE_BYTES - s->used) return NULL;
    s->used += rounded;
    return s->memory + s->used - rounded;
}

static void give(void *user, void *memory, size_t bytes) {
    store *s = user;
    size_t rounded = (bytes + 63) & ~(size_t)63;
    if ((char *)memory + rounded == s->memory + s->used) s->used -= rounded;
}

enum { MATRIX = 300 };

static psg_status spectrum(psg_context *context, double *gram, double *values, double *vectors) {
    for (int i = 0; i < MATRIX * MATRIX; i++) gram[i] = i / MATRIX == i % MATRIX ? 1 + i % 7 : 0.001;
    return psg_gram_spectrum(context, gram, MATRIX, values, vectors);
}

/* LAPACK's workspace is several MB: malloc would map them. */
static int spectrum_without_malloc(size_t extra) {
    static store s;
    s.memory = malloc(STORE_BYTES);
    double *gram = malloc(3 * MATRIX * MATRIX * sizeof *gram), *vectors = gram + MATRIX * MATRIX, values[MATRIX];
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.threads = 1;
    options.allocator = (psg_allocator){ take, give, &s };
    if (psg_context_create(&options, &context) || spectrum(context, gram, values, vectors)) return 1;
    if (!limit_address_space(extra)) return 2;
    return spectrum(context, gram, values, vectors) ? 3 : 0;
}

static void lapack_has_the_contexts_memory(void **state) {
    (void)state;
    run_in_child(spectrum_without_malloc, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lapack_has_the_contexts_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
