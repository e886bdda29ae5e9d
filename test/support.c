#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers ---- */

uint64_t test_random_bits(test_random *random) {
    uint64_t z = random->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double test_uniform(test_random *random) { return (double)(test_random_bits(random) >> 11) * 0x1p-53; }

double test_normal(test_random *random) {
    double radius = sqrt(-2.0 * log(1.0 - test_uniform(random)));
    return radius * cos(6.283185307179586 * test_uniform(random));
}

int64_t test_range(test_random *random, int64_t low, int64_t high) {
    return low + (int64_t)(test_random_bits(random) % (uint64_t)(high - low + 1));
}

int64_t test_pick(test_random *random, const int64_t *list, size_t count) {
    return list[test_range(random, 0, (int64_t)count - 1)];
}

/* ---- elements ---- */

static void *element(const psg_tensor *tensor, const int64_t *index) {
    int64_t at = 0;
    for (int d = 0; d < tensor->rank; d++) at += index[d] * tensor->stride[d];
    return (char *)tensor->data + at * (int64_t)psg_dtype_size(tensor->dtype);
}

static bool is_contiguous(const psg_tensor *tensor) {
    int64_t run = 1;
    for (int d = tensor->rank - 1; d >= 0; d--) {
        if (tensor->shape[d] != 1 && tensor->stride[d] != run) return false;
        run *= tensor->shape[d];
    }
    return true;
}

static void *element_at(const psg_tensor *tensor, int64_t k) {
    int64_t at = 0;
    const bool plain = is_contiguous(tensor);
    for (int d = tensor->rank - 1; d >= 0 && !plain; d--) {
        at += k % tensor->shape[d] * tensor->stride[d];
        k /= tensor->shape[d];
    }
    return (char *)tensor->data + (plain ? k : at) * (int64_t)psg_dtype_size(tensor->dtype);
}

static double load(psg_dtype dtype, const void *from) {
    float f32;
    double f64;
    int32_t i32;
    int64_t i64;
    switch (dtype) {
    case PSG_F32: memcpy(&f32, from, sizeof f32); return (double)f32;
    case PSG_F64: memcpy(&f64, from, sizeof f64); return f64;
    case PSG_I32: memcpy(&i32, from, sizeof i32); return (double)i32;
    case PSG_I64: memcpy(&i64, from, sizeof i64); return (double)i64;
    }
    return NAN;
}

static void store(psg_dtype dtype, void *to, double value) {
    switch (dtype) {
    case PSG_F32: { float x = (float)value; memcpy(to, &x, sizeof x); break; }
    case PSG_F64: memcpy(to, &value, sizeof value); break;
    case PSG_I32: { int32_t x = (int32_t)value; memcpy(to, &x, sizeof x); break; }
    case PSG_I64: { int64_t x = (int64_t)value; memcpy(to, &x, sizeof x); break; }
    }
}

double test_get(const psg_tensor *tensor, const int64_t *index) {
    return load(tensor->dtype, element(tensor, index));
}

void test_set(const psg_tensor *tensor, const int64_t *index, double value) {
    store(tensor->dtype, element(tensor, index), value);
}

double test_get_at(const psg_tensor *tensor, int64_t k) { return load(tensor->dtype, element_at(tensor, k)); }

void test_set_at(const psg_tensor *tensor, int64_t k, double value) {
    store(tensor->dtype, element_at(tensor, k), value);
}

double test_get3(const psg_tensor *tensor, int64_t i, int64_t j, int64_t k) {
    return test_get(tensor, (int64_t[]){ i, j, k });
}

void test_fill_value(const psg_tensor *tensor, double value) {
    int64_t count = psg_tensor_count(tensor);
    for (int64_t k = 0; k < count; k++) test_set_at(tensor, k, value);
}

void test_fill_normal(test_random *random, const psg_tensor *tensor, double scale) {
    int64_t count = psg_tensor_count(tensor);
    for (int64_t k = 0; k < count; k++) test_set_at(tensor, k, scale * test_normal(random));
}

void test_fill_uniform(test_random *random, const psg_tensor *tensor, double low, double high) {
    int64_t count = psg_tensor_count(tensor);
    for (int64_t k = 0; k < count; k++) test_set_at(tensor, k, low + (high - low) * test_uniform(random));
}

void test_fill_integers(test_random *random, const psg_tensor *tensor, int64_t low, int64_t high) {
    int64_t count = psg_tensor_count(tensor);
    for (int64_t k = 0; k < count; k++) test_set_at(tensor, k, (double)test_range(random, low, high));
}

/* ---- arrays ---- */

enum { HALO = 24 };                        /* elements before and after */
static const unsigned char halo_byte = 0xFF;   /* all ones: a NaN in both real types, -1 in both integer types */

static int random_layout(test_random *random, int layout) {
    if (!(layout & TEST_ANY)) return layout;
    int mix = (int)test_range(random, 0, 7);
    return (layout & TEST_SHARED_BATCH) | mix;
}

/* Memory order of the dimensions: order[0] is the slowest. */
static void choose_order(test_random *random, int rank, bool permuted, int order[PSG_MAX_RANK]) {
    for (int d = 0; d < rank; d++) order[d] = d;
    for (int d = rank - 1; permuted && d > 0; d--) {
        int other = (int)test_range(random, 0, d), swap = order[d];
        order[d] = order[other];
        order[other] = swap;
    }
}

/* Fills strides; returns elements from the lowest to the highest, and where element (0, ..., 0) stands. */
static int64_t choose_strides(test_random *random, int rank, const int64_t *shape, int layout, int64_t *stride,
                              int64_t *origin) {
    int order[PSG_MAX_RANK];
    choose_order(random, rank, layout & TEST_PERMUTED, order);
    int64_t step = (layout & TEST_PADDED) ? test_range(random, 1, 2) : 1, extent = 1;
    *origin = 0;
    for (int k = rank - 1; k >= 0; k--) {
        int d = order[k];
        if (d == 0 && (layout & TEST_SHARED_BATCH)) {
            stride[d] = 0;
            continue;
        }
        stride[d] = step;
        int64_t reach = shape[d] > 0 ? (shape[d] - 1) * step : 0;
        if ((layout & TEST_NEGATIVE) && test_range(random, 0, 1)) {
            stride[d] = -step;
            *origin += reach;
        }
        extent += reach;
        step *= shape[d] > 0 ? shape[d] : 1;
        if (layout & TEST_PADDED) step += test_range(random, 0, 3);
    }
    return extent;
}

static void mark_members(test_array *array) {
    size_t size = psg_dtype_size(array->view.dtype);
    int64_t count = psg_tensor_count(&array->view);
    for (int64_t k = 0; k < count; k++) {
        ptrdiff_t at = (unsigned char *)element_at(&array->view, k) - array->memory;
        array->member[(size_t)at / size] = 1;
    }
}

test_array test_array_new(test_random *random, psg_dtype dtype, int rank, const int64_t *shape, int layout) {
    int64_t stride[PSG_MAX_RANK], origin;
    int64_t extent = choose_strides(random, rank, shape, random_layout(random, layout), stride, &origin);
    test_array array = { .elements = extent + 2 * HALO, .element_size = psg_dtype_size(dtype) };
    size_t bytes = (size_t)array.elements * array.element_size;
    array.memory = malloc(bytes);
    array.member = calloc((size_t)array.elements, 1);
    assert_non_null(array.memory);
    assert_non_null(array.member);
    memset(array.memory, halo_byte, bytes);
    void *data = array.memory + (size_t)(HALO + origin) * array.element_size;
    array.view = psg_tensor_strided(dtype, data, rank, shape, stride);
    mark_members(&array);
    return array;
}

test_array test_array_normal(test_random *random, psg_dtype dtype, int rank, const int64_t *shape, int layout) {
    test_array array = test_array_new(random, dtype, rank, shape, layout);
    test_fill_normal(random, &array.view, 1.0);
    return array;
}

void test_array_check_halo(const test_array *array) {
    size_t size = array->element_size;
    for (int64_t k = 0; k < array->elements; k++) {
        if (array->member[k]) continue;
        for (size_t byte = 0; byte < size; byte++) {
            if (array->memory[(size_t)k * size + byte] != halo_byte) {
                fail_msg("memory outside a view was written, element %lld of %lld", (long long)k,
                         (long long)array->elements);
            }
        }
    }
}

void test_array_free(test_array *array) {
    if (!array->memory) return;
    test_array_check_halo(array);
    free(array->memory);
    free(array->member);
    *array = (test_array){ 0 };
}

static size_t array_bytes(const test_array *array) { return (size_t)array->elements * array->element_size; }

void *test_array_snapshot(const test_array *array) {
    void *copy = malloc(array_bytes(array));
    assert_non_null(copy);
    return memcpy(copy, array->memory, array_bytes(array));
}

bool test_array_unchanged(const test_array *array, const void *snapshot) {
    return memcmp(array->memory, snapshot, array_bytes(array)) == 0;
}

bool test_same_bits(const psg_tensor *a, const psg_tensor *b) {
    int64_t count = psg_tensor_count(a);
    if (a->dtype != b->dtype || a->rank != b->rank || count != psg_tensor_count(b)) return false;
    for (int64_t k = 0; k < count; k++) {
        if (memcmp(element_at(a, k), element_at(b, k), psg_dtype_size(a->dtype))) return false;
    }
    return true;
}

/* ---- allocator: a guard word on either side, the size in front ---- */

enum { GUARD = 32 };
static const uint64_t guard_word = 0xA5C3F00DBAADCAFEu;

static void *counting_allocate(void *user, size_t bytes) {
    test_allocator *allocator = user;
    allocator->calls++;
    bool fails = allocator->fail_at && (allocator->forever ? allocator->calls >= allocator->fail_at
                                                           : allocator->calls == allocator->fail_at);
    unsigned char *base = fails ? NULL : malloc(bytes + 2 * GUARD);
    if (!base) {
        allocator->failed++;
        return NULL;
    }
    uint64_t size = bytes;
    memcpy(base, &size, sizeof size);
    memcpy(base + GUARD - sizeof guard_word, &guard_word, sizeof guard_word);
    memcpy(base + GUARD + bytes, &guard_word, sizeof guard_word);
    memset(base + GUARD, 0xFF, bytes);   /* nobody may count on zeros */
    allocator->live_bytes += bytes;
    allocator->live_blocks++;
    return base + GUARD;
}

static void counting_release(void *user, void *memory, size_t bytes) {
    test_allocator *allocator = user;
    unsigned char *base = (unsigned char *)memory - GUARD;
    uint64_t size;
    memcpy(&size, base, sizeof size);
    bool sound = size == bytes && !memcmp(base + GUARD - sizeof guard_word, &guard_word, sizeof guard_word) &&
                 !memcmp(base + GUARD + size, &guard_word, sizeof guard_word);
    if (!sound) allocator->mistakes++;
    allocator->live_bytes -= size;
    allocator->live_blocks--;
    free(base);
}

psg_allocator test_allocator_hook(test_allocator *allocator) {
    return (psg_allocator){ counting_allocate, counting_release, allocator };
}

void test_allocator_arm(test_allocator *allocator, uint64_t n, bool forever) {
    allocator->calls = 0;
    allocator->failed = 0;
    allocator->fail_at = n;
    allocator->forever = forever;
}

/* ---- contexts ---- */

psg_context *test_context_with(test_allocator *allocator, unsigned threads, const char *isa, size_t memory_budget) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    options.isa = isa;
    options.memory_budget = memory_budget;
    if (allocator) options.allocator = test_allocator_hook(allocator);
    psg_context *context = NULL;
    psg_status status = psg_context_create(&options, &context);
    if (status) fail_msg("psg_context_create: %s", psg_status_name(status));
    return context;
}

psg_context *test_context(unsigned threads, const char *isa) { return test_context_with(NULL, threads, isa, 0); }

void test_context_free(psg_context *context) { psg_context_destroy(context); }

size_t test_isas(const char *isas[3]) {
    static const char *const known[] = { "baseline", "avx2", "avx512" };
    size_t count = 0;
    for (size_t k = 0; k < 3; k++) {
        psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
        options.threads = 1;
        options.isa = known[k];
        psg_context *context = NULL;
        if (psg_context_create(&options, &context) == PSG_OK) isas[count++] = known[k];
        psg_context_destroy(context);
    }
    return count;
}

/* ---- bounds ---- */

double test_gamma(psg_dtype dtype, double k) {
    double u = dtype == PSG_F32 ? 0x1p-24 : 0x1p-53;
    return k * u / (1.0 - k * u);
}

double test_bound(psg_dtype dtype, double k, double terms) {
    return dtype == PSG_F32 ? test_gamma(PSG_F32, k) * terms : 1e-10 * terms;
}

void test_near(double actual, double expected, double bound, const char *what, int64_t where) {
    if (isnan(expected) ? isnan(actual) : actual == expected || fabs(actual - expected) <= bound) return;
    fail_msg("%s[%lld] is %.17g, expected %.17g, error %.3g, bound %.3g", what, (long long)where, actual, expected,
             fabs(actual - expected), bound);
}

void test_status(psg_context *context, psg_status status, psg_status expected, const char *what) {
    if (status == expected) return;
    fail_msg("%s is %s, expected %s; message: %s", what, psg_status_name(status), psg_status_name(expected),
             psg_context_message(context));
}

void test_fails(psg_context *context, psg_status status, psg_status expected, const char *words) {
    if (status == expected && strstr(psg_context_message(context), words)) return;
    fail_msg("%s \"%s\", expected %s \"%s\"", psg_status_name(status), psg_context_message(context),
             psg_status_name(expected), words);
}

void test_refused(const psg_tape *tape, psg_status status, const char *words) {
    if (psg_tape_status(tape) == status && strstr(psg_tape_message(tape), words)) return;
    fail_msg("%s \"%s\", expected %s \"%s\"", psg_status_name(psg_tape_status(tape)), psg_tape_message(tape),
             psg_status_name(status), words);
}
