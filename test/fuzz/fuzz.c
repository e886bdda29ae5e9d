#include "fuzz.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- bytes ---- */

uint8_t fuzz_byte(fuzz_bytes *bytes) {
    if (!bytes->left) return 0;
    bytes->left--;
    return *bytes->at++;
}

int fuzz_one_in(fuzz_bytes *bytes, int n) { return fuzz_byte(bytes) % n == n - 1; }

int64_t fuzz_range(fuzz_bytes *bytes, int64_t low, int64_t high) { return low + fuzz_byte(bytes) % (high - low + 1); }

int64_t fuzz_pick(fuzz_bytes *bytes, const int64_t *list, size_t count) { return list[fuzz_byte(bytes) % count]; }

double fuzz_odd(fuzz_bytes *bytes) {
    static const double odd[] = { 0,    1,     -1,   NAN,     INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, FLT_MIN, 1e-45,
                                  -0.0, 1e30,  1e19, 1e-30,   DBL_MAX,  DBL_MIN,   5e-324,  1e100,    1e-100,  1e190,
                                  1e200, 1e-200, 3,  1e10,    -1e10,    0.5 };
    return odd[fuzz_byte(bytes) % (sizeof odd / sizeof odd[0])];
}

static void put(psg_dtype dtype, void *values, int64_t k, double value) {
    if (dtype == PSG_F64) ((double *)values)[k] = value;
    else ((float *)values)[k] = (float)value;
}

/* A generator of its own (Knuth's MMIX) keeps inputs short: what is computed depends on a few bytes. */
int fuzz_fill(fuzz_bytes *bytes, psg_dtype dtype, void *values, int64_t count) {
    uint64_t state = fuzz_byte(bytes);
    for (int64_t k = 0; k < count; k++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        put(dtype, values, k, (double)(int64_t)(state >> 58) / 16 - 2);
    }
    int64_t odd = fuzz_one_in(bytes, 4) && count ? fuzz_range(bytes, 0, 7) : 0;
    for (int64_t k = 0; k < odd; k++) {
        int64_t at = (fuzz_byte(bytes) << 8 | fuzz_byte(bytes)) % count;
        put(dtype, values, at, fuzz_odd(bytes));
    }
    return odd > 0;
}

/* ---- edits ---- */

static size_t remove_range(uint8_t *file, size_t length, size_t at, size_t count) {
    if (count > length - at) count = length - at;
    memmove(file + at, file + at + count, length - at - count);
    return length - count;
}

static size_t insert(uint8_t *file, size_t length, size_t capacity, size_t at, const void *text, size_t count) {
    if (count > capacity - length) return length;
    memmove(file + at + count, file + at, length - at);
    memcpy(file + at, text, count);
    return length + count;
}

static size_t replace_number(fuzz_bytes *bytes, uint8_t *file, size_t length, size_t capacity, size_t at) {
    static const char *const numbers[] = { "0",  "1",  "-1", "2", "3", "8", "17", "1e3", "0.5", "255", "4294967296",
                                           "9223372036854775807", "18446744073709551615", "1e400", "-0", "null" };
    const char *number = numbers[fuzz_byte(bytes) % (sizeof numbers / sizeof numbers[0])];
    size_t digits = 0;
    while (at < length && (file[at] < '0' || file[at] > '9')) at++;
    while (at + digits < length && file[at + digits] >= '0' && file[at + digits] <= '9') digits++;
    length = remove_range(file, length, at, digits);
    return insert(file, length, capacity, at, number, strlen(number));
}

static size_t edit_once(fuzz_bytes *bytes, uint8_t *file, size_t length, size_t capacity) {
    uint8_t kind = fuzz_byte(bytes), copy[64];
    size_t at = (size_t)(fuzz_byte(bytes) << 8 | fuzz_byte(bytes)) % (length + 1), count = fuzz_byte(bytes) % 64;
    if (count > length - at) count = length - at;
    switch (kind % 6) {
    case 0:
        if (at < length) file[at] = fuzz_byte(bytes);
        return length;
    case 1: return remove_range(file, length, at, count);
    case 2: return replace_number(bytes, file, length, capacity, at);
    case 3:
        memcpy(copy, file + at, count);
        return insert(file, length, capacity, at, copy, count);
    case 4:
        if (at < length) file[at] ^= (uint8_t)(1 << count % 8);
        return length;
    default: return count < 8 ? at : length;
    }
}

size_t fuzz_edit(fuzz_bytes *bytes, uint8_t *file, size_t length, size_t capacity) {
    for (int64_t edits = fuzz_range(bytes, 0, 8); edits > 0; edits--) length = edit_once(bytes, file, length, capacity);
    return length;
}

/* ---- the end ---- */

_Noreturn void fuzz_fail(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

/* ---- memory ---- */

typedef struct memory {
    size_t live;
    unsigned fails;
} memory;

enum { MOST_BYTES = 64 << 20 };

static void *allocate(void *user, size_t bytes) {
    memory *m = user;
    if (m->fails && !--m->fails) m->fails = 1;
    else if (bytes <= MOST_BYTES - m->live) {
        void *block = malloc(bytes + !bytes);
        if (block) m->live += bytes;
        return block;
    }
    return NULL;
}

static void release(void *user, void *block, size_t bytes) {
    ((memory *)user)->live -= bytes;
    free(block);
}

/* Contexts are made once, which takes milliseconds, and lent to one input after another. */
typedef struct lent {
    psg_context *context;
    size_t budget;
    memory memory;
    int is_out;
} lent;

enum { MOST_CONTEXTS = 8 };
static lent contexts[MOST_CONTEXTS];

static void free_contexts(void) {
    for (int k = 0; k < MOST_CONTEXTS; k++) {
        psg_context_destroy(contexts[k].context);
        FUZZ_CHECK(contexts[k].memory.live == 0);
    }
}

static void make_context(lent *to, size_t budget) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    if (to == contexts) atexit(free_contexts);
    to->budget = budget;
    options.threads = 1;
    options.memory_budget = budget;
    options.allocator = (psg_allocator){ allocate, release, &to->memory };
    FUZZ_CHECK(psg_context_create(&options, &to->context) == PSG_OK);
}

psg_context *fuzz_context(unsigned fails, size_t budget) {
    int k = 0;
    while (k < MOST_CONTEXTS && contexts[k].context && (contexts[k].is_out || contexts[k].budget != budget)) k++;
    FUZZ_CHECK(k < MOST_CONTEXTS);
    if (!contexts[k].context) make_context(&contexts[k], budget);
    FUZZ_CHECK(psg_context_force_route(contexts[k].context, NULL) == PSG_OK);
    contexts[k].memory.fails = fails;
    contexts[k].is_out = 1;
    return contexts[k].context;
}

void fuzz_context_return(psg_context *context) {
    for (int k = 0; k < MOST_CONTEXTS; k++) {
        if (contexts[k].context != context) continue;
        contexts[k].is_out = 0;
        contexts[k].memory.fails = 0;
    }
}

/* ---- calls ---- */

#define MARK "no such route, by which messages of later calls are known"

void fuzz_before(psg_context *context) {
    FUZZ_CHECK(psg_context_force_route(context, MARK) == PSG_ERR_ARGUMENT);
    FUZZ_CHECK(strstr(psg_context_message(context), MARK));
}

psg_status fuzz_after(psg_context *context, psg_status status) {
    const char *message = psg_context_message(context);
    FUZZ_CHECK(status == PSG_OK || !strncmp(psg_status_name(status), "PSG_ERR_", 8));
    FUZZ_CHECK((status == PSG_OK) == (strstr(message, MARK) != NULL));
    FUZZ_CHECK(status == PSG_OK || strstr(message, ": "));
    return status;
}

/* ---- files ---- */

static char folder[64];

static void remove_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) perror(folder);
}

const char *fuzz_path(const char *name) {
    static char path[8][160];
    static unsigned last;
    if (!*folder) {
        snprintf(folder, sizeof folder, "%s/psg-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        FUZZ_CHECK(mkdtemp(folder));
        atexit(remove_folder);
    }
    char *out = path[last++ % 8];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

void fuzz_write(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file);
    FUZZ_CHECK(fwrite(bytes, 1, length, file) == length);
    FUZZ_CHECK(fclose(file) == 0);
}

size_t fuzz_read(const char *path, void *bytes, size_t capacity) {
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t length = fread(bytes, 1, capacity, file);
    fclose(file);
    return length;
}
