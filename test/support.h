/* What all test programs share: deterministic random numbers, arrays of any strides inside a halo, a counting and
 * failing allocator, contexts, bounds. */
#ifndef PSG_TEST_SUPPORT_H
#define PSG_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "psg/psg.h"

/* ---- random numbers: splitmix64 ---- */

typedef struct test_random { uint64_t state; } test_random;

uint64_t test_random_bits(test_random *random);
double test_uniform(test_random *random);                                  /* [0, 1) */
double test_normal(test_random *random);
int64_t test_range(test_random *random, int64_t low, int64_t high);        /* both ends included */
int64_t test_pick(test_random *random, const int64_t *list, size_t count);
#define TEST_PICK(random, list) test_pick(random, list, sizeof(list) / sizeof(list)[0])

/* ---- elements, as double; index by dimension, or k-th in row-major order ---- */

double test_get(const psg_tensor *tensor, const int64_t *index);
void test_set(const psg_tensor *tensor, const int64_t *index, double value);
double test_get_at(const psg_tensor *tensor, int64_t k);
void test_set_at(const psg_tensor *tensor, int64_t k, double value);
double test_get3(const psg_tensor *tensor, int64_t i, int64_t j, int64_t k);

void test_fill_value(const psg_tensor *tensor, double value);
void test_fill_normal(test_random *random, const psg_tensor *tensor, double scale);
void test_fill_uniform(test_random *random, const psg_tensor *tensor, double low, double high);
void test_fill_integers(test_random *random, const psg_tensor *tensor, int64_t low, int64_t high);  /* both included */

/* ---- arrays: a view inside memory of its own; everything that is not the view is a halo of NaN ---- */

typedef enum test_layout {
    TEST_CONTIGUOUS = 0,     /* row-major, with a halo before and after */
    TEST_PERMUTED = 1,       /* dimensions in random order in memory */
    TEST_PADDED = 2,         /* gaps between rows and between elements */
    TEST_NEGATIVE = 4,       /* some strides negative */
    TEST_SHARED_BATCH = 8,   /* stride 0 along dimension 0: for inputs only */
    TEST_ANY = 16            /* a random mix of the first three */
} test_layout;

typedef struct test_array {
    psg_tensor view;
    unsigned char *memory;
    unsigned char *member;   /* one byte an element of memory: whether it belongs to the view */
    int64_t elements;
    size_t element_size;
} test_array;

/* Elements of the view are NaN (integers: a pattern) too until they are filled. */
test_array test_array_new(test_random *random, psg_dtype dtype, int rank, const int64_t *shape, int layout);
/* The same, filled with normal values. */
test_array test_array_normal(test_random *random, psg_dtype dtype, int rank, const int64_t *shape, int layout);
/* Fails the test when the halo was written. */
void test_array_check_halo(const test_array *array);
/* Checks the halo and frees. */
void test_array_free(test_array *array);
/* A copy of the whole memory, and whether the memory still equals it bit for bit (caller frees). */
void *test_array_snapshot(const test_array *array);
bool test_array_unchanged(const test_array *array, const void *snapshot);
/* Same shape, same bits element by element, whatever the strides. */
bool test_same_bits(const psg_tensor *a, const psg_tensor *b);

/* ---- allocator ---- */

typedef struct test_allocator {
    size_t live_bytes;
    size_t live_blocks;
    uint64_t calls;          /* of allocate, failed ones included */
    uint64_t fail_at;        /* the call (from 1) that fails; 0: none */
    bool forever;            /* all later calls fail too */
    uint64_t failed;
    uint64_t mistakes;       /* releases with another size than allocated, or a broken guard */
} test_allocator;

psg_allocator test_allocator_hook(test_allocator *allocator);
/* Counts from here: call number n from now on fails (0: none), once or forever. */
void test_allocator_arm(test_allocator *allocator, uint64_t n, bool forever);

/* ---- contexts ---- */

/* isa NULL: the best.  Fails the test when it cannot be made. */
psg_context *test_context(unsigned threads, const char *isa);
/* With a hook (or NULL) and a memory budget. */
psg_context *test_context_with(test_allocator *allocator, unsigned threads, const char *isa, size_t memory_budget);
/* psg_context_destroy. */
void test_context_free(psg_context *context);
/* The instruction sets of this processor; returns how many. */
size_t test_isas(const char *isas[3]);

/* ---- bounds ---- */

/* k u / (1 - k u), u = 2^-24 (f32) or 2^-53 (f64). */
double test_gamma(psg_dtype dtype, double k);
/* What |x - ref| may be: 1e-10 * terms for f64, gamma_k * terms for f32, where terms = sum |terms| of the reduction
 * and k its length plus a small constant. */
double test_bound(psg_dtype dtype, double k, double terms);
/* Fails the test, naming what and where, unless |actual - expected| <= bound.  NaN agrees with NaN, Inf with itself. */
void test_near(double actual, double expected, double bound, const char *what, int64_t where);

/* ---- statuses ---- */

/* Fails the test with the message of the context unless status is expected. */
void test_status(psg_context *context, psg_status status, psg_status expected, const char *what);
#define TEST_OK(context, call) test_status(context, call, PSG_OK, #call)
/* Fails the test unless status is expected and the message of the context has these words. */
void test_fails(psg_context *context, psg_status status, psg_status expected, const char *words);
/* Fails the test unless the pass has failed with that status, in those words. */
void test_refused(const psg_tape *tape, psg_status status, const char *words);

#endif
