/* Where samples meet, every place adds with the same bits: products that add to the sums, gradients that were stored
 * first, and rows several at a time; in double and on the grid, on every instruction set. */
#include "kernels.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "grid_sum.h"

enum { MOST = 4096, ROUNDS = 300, TERMS = 40 };

/* Two samples' gradients, m x n of k terms, their weights, and what their sums begin with. */
typedef struct meeting {
    psg_dtype dtype;
    size_t m, n, k;
    bool on_grid;
    char *g[2], *a[2], *gradient[2];   /* (k, m), (k, n), (m, n) */
    double weight[2], begin[MOST];
} meeting;

static char workspace[PSG_PRODUCT_WORKSPACE] __attribute__((aligned(64)));

static void set(psg_dtype dtype, char *data, size_t i, double value) {
    if (dtype == PSG_F32) ((float *)(void *)data)[i] = (float)value;
    else ((double *)(void *)data)[i] = value;
}

static double get(psg_dtype dtype, const char *data, size_t i) {
    return dtype == PSG_F32 ? (double)((const float *)(const void *)data)[i] : ((const double *)(const void *)data)[i];
}

static void product(const psg_kernel_table *kernels, const meeting *at, int sample, psg_product *finish) {
    psg_product product = *finish;
    product.m = at->m, product.n = at->n, product.k = at->k;
    product.g = at->g[sample], product.g_stride = (ptrdiff_t)at->m, product.g_step = 1;
    product.a = at->a[sample], product.a_stride = (ptrdiff_t)at->n, product.a_step = 1;
    product.c_stride = (ptrdiff_t)at->n;
    kernels->product(&product, workspace);
}

/* An odd weight whose product with x lies beside k + 1/2, nearer than a double of that size tells. */
static double weight_beside_half(test_random *random, double x) {
    double weight = fabs((floor(test_uniform(random) * 0x1p36) + 0.5) / x);
    uint64_t bits;
    memcpy(&bits, &weight, sizeof bits);
    bits |= 1;
    memcpy(&weight, &bits, sizeof weight);
    return weight;
}

static void meeting_draw(meeting *at, test_random *random, const psg_kernel_table *kernels, psg_dtype dtype,
                         bool grid) {
    at->dtype = dtype, at->on_grid = grid;
    at->m = (size_t)test_range(random, 1, 30), at->n = (size_t)test_range(random, 1, 100);
    at->k = (size_t)test_range(random, 2, TERMS);
    for (int s = 0; s < 2; s++) {
        double alike = test_normal(random);
        bool same = grid && test_range(random, 0, 1);   /* every element is alike */
        for (size_t e = 0; e < at->k * at->m; e++) set(dtype, at->g[s], e, same ? e < at->m : test_normal(random));
        for (size_t e = 0; e < at->k * at->n; e++) set(dtype, at->a[s], e, same ? alike : test_normal(random));
        product(kernels, at, s, &(psg_product){ .finish = PSG_FINISH_STORE, .alpha = 1, .c = at->gradient[s] });
        at->weight[s] = grid ? weight_beside_half(random, get(dtype, at->gradient[s], 0)) : test_normal(random);
    }
    for (size_t e = 0; e < at->m * at->n; e++) {
        at->begin[e] = grid ? PSG_GRID_ZERO + (double)test_range(random, 0, 1) : test_normal(random);
    }
}

static void by_products(const psg_kernel_table *kernels, const meeting *at, double *sums) {
    for (int s = 0; s < 2; s++) {
        product(kernels, at, s, &(psg_product){ .finish = PSG_FINISH_ADD_F64, .alpha = at->weight[s],
                                                .grid = at->on_grid, .c = sums });
    }
}

static void by_gradients(const psg_kernel_table *kernels, const meeting *at, double *sums) {
    for (int s = 0; s < 2; s++) {
        const void *row = at->gradient[s];
        if (at->on_grid) kernels->add_rows_to_grid(1, at->m * at->n, &at->weight[s], &row, sums);
        else kernels->add_to_f64(at->m * at->n, at->weight[s], row, sums);
    }
}

static void by_rows(const psg_kernel_table *kernels, const meeting *at, double *sums) {
    for (size_t i = 0; i < at->m; i++) {
        const void *row[2];
        for (int s = 0; s < 2; s++) row[s] = at->gradient[s] + i * at->n * psg_dtype_size(at->dtype);
        if (at->on_grid) kernels->add_rows_to_grid(2, at->n, at->weight, row, sums + i * at->n);
        else kernels->add_rows_to_f64(2, at->n, at->weight, row, sums + i * at->n);
    }
}

static void check_meeting(const psg_kernel_table *kernels, const meeting *at) {
    static double sums[3][MOST];
    void (*const places[])(const psg_kernel_table *, const meeting *, double *) = { by_products, by_gradients,
                                                                                    by_rows };
    size_t bytes = at->m * at->n * sizeof(double);
    for (int p = 0; p < 3; p++) {
        memcpy(sums[p], at->begin, bytes);
        places[p](kernels, at, sums[p]);
        if (memcmp(sums[p], sums[0], bytes)) fail_msg("place %d: %d x %d, other bits", p, (int)at->m, (int)at->n);
    }
}

/* On the grid what a sample adds does not follow what is there: from sums one apart, sums one apart. */
static void check_addends(const psg_kernel_table *kernels, const meeting *at) {
    static double sums[MOST];
    size_t count = at->m * at->n;
    meeting moved = *at;
    memcpy(sums, at->begin, count * sizeof *sums);
    by_products(kernels, at, sums);
    for (size_t e = 0; e < count; e++) moved.begin[e] += 1;
    by_products(kernels, &moved, moved.begin);
    for (size_t e = 0; e < count; e++) {
        if (moved.begin[e] != sums[e] + 1) fail_msg("element %d: an addend follows the sum", (int)e);
    }
}

static void check_dtype(const psg_kernel_table *kernels, psg_dtype dtype) {
    meeting *at = malloc(sizeof *at);
    assert_true(at != NULL);
    for (int s = 0; s < 2; s++) {
        at->g[s] = malloc(MOST * sizeof(double));
        at->a[s] = malloc(MOST * sizeof(double));
        at->gradient[s] = malloc(MOST * sizeof(double));
        assert_true(at->g[s] && at->a[s] && at->gradient[s]);
    }
    test_random random = { 11 };
    for (int round = 0; round < ROUNDS; round++) {
        meeting_draw(at, &random, kernels, dtype, round % 2);
        check_meeting(kernels, at);
        if (at->on_grid) check_addends(kernels, at);
    }
    for (int s = 0; s < 2; s++) free(at->g[s]), free(at->a[s]), free(at->gradient[s]);
    free(at);
}

static void every_place_adds_alike(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t i = 0; i < count; i++) {
        psg_context *context = test_context(1, isas[i]);
        check_dtype(context->kernels[PSG_F32], PSG_F32);
        check_dtype(context->kernels[PSG_F64], PSG_F64);
        test_context_free(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_place_adds_alike) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
