/* The engine of products: an element is one chain of operations, written out here in plain C, wherever it stands; who
 * serves which product, and who says so. */
#include "kernels.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "blas/engine.h"
#include "blas/gemm.h"

enum { CHAIN = 256 };

/* ---- reals ---- */

static double get(psg_dtype dtype, const void *data, int64_t i) {
    return dtype == PSG_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void set(psg_dtype dtype, void *data, int64_t i, double value) {
    if (dtype == PSG_F32) ((float *)data)[i] = (float)value;
    else ((double *)data)[i] = value;
}

static void *reals(int64_t count) {
    double *data = aligned_alloc(64, (size_t)((count + 16) / 8 * 8) * sizeof(double));
    assert_non_null(data);
    return data;
}

static void *normal(test_random *random, psg_dtype dtype, int64_t count) {
    void *data = reals(count);
    for (int64_t i = 0; i < count; i++) set(dtype, data, i, test_normal(random));
    return data;
}

static const void *at(psg_dtype dtype, const void *data, int64_t i) {
    return (const char *)data + i * (int64_t)psg_dtype_size(dtype);
}

/* ---- the chain ---- */

/* Whether the instruction set fuses multiply-adds. */
static bool fuses(const psg_context *context) {
#if defined(__x86_64__)
    return strcmp(psg_context_isa(context), "baseline") != 0;
#else
    (void)context;
    return true;
#endif
}

static float step_f32(bool fused, float x, float y, float sum) { return fused ? fmaf(x, y, sum) : x * y + sum; }
static double step_f64(bool fused, double x, double y, double sum) { return fused ? fma(x, y, sum) : x * y + sum; }

/* sum over t < k of a[t * a_step] b[t * b_step]: blocks of CHAIN terms, added in order. */
static double chain(psg_dtype dtype, bool fused, int64_t k, const void *a, int64_t a_step, const void *b,
                    int64_t b_step) {
    float total = 0;
    double total_f64 = 0;
    for (int64_t first = 0; first < k; first += CHAIN) {
        float sum = 0;
        double sum_f64 = 0;
        for (int64_t t = first; t < k && t < first + CHAIN; t++) {
            if (dtype == PSG_F32) {
                sum = step_f32(fused, ((const float *)a)[t * a_step], ((const float *)b)[t * b_step], sum);
            } else {
                sum_f64 = step_f64(fused, ((const double *)a)[t * a_step], ((const double *)b)[t * b_step], sum_f64);
            }
        }
        total = total + sum;
        total_f64 = total_f64 + sum_f64;
    }
    return dtype == PSG_F32 ? (double)total : total_f64;
}

/* x y + z, each operation rounded to the type. */
static double scaled(psg_dtype dtype, double x, double y, double z) {
    if (dtype == PSG_F64) {
        double product = x * y;
        return product + z;
    }
    float product = (float)x * (float)y;
    return (double)(product + (float)z);
}

/* Element (i, j) of the product, from what c held. */
static double element(const psg_gemm *g, bool fused, int64_t i, int64_t j, double before) {
    int64_t a_step = g->transpose_a ? g->lda : 1, b_step = g->transpose_b ? 1 : g->ldb;
    const void *a = at(g->dtype, g->a, g->transpose_a ? i : i * g->lda);
    const void *b = at(g->dtype, g->b, g->transpose_b ? j * g->ldb : j);
    if (g->bias) {
        return scaled(g->dtype, g->alpha, chain(g->dtype, fused, g->k, a, a_step, b, b_step),
                      get(g->dtype, g->bias, j));
    }
    if (g->beta == 0) return scaled(g->dtype, g->alpha, chain(g->dtype, fused, g->k, a, a_step, b, b_step), 0);
    double c = scaled(g->dtype, g->beta, before, 0);
    for (int64_t t = 0; t == 0 || t < g->k; t += CHAIN) {   /* onto c, block by block */
        int64_t terms = g->k - t < CHAIN ? g->k - t : CHAIN;
        double sum = chain(g->dtype, fused, terms, at(g->dtype, a, t * a_step), a_step, at(g->dtype, b, t * b_step),
                           b_step);
        c = scaled(g->dtype, g->alpha, sum, c);
    }
    return c;
}

/* ---- products drawn at random ---- */

typedef struct problem {
    psg_gemm gemm;
    void *a, *b, *bias, *before;
    int64_t c_elements;
} problem;

static const int64_t depths[] = { 0, 1, 2, 255, 256, 257, 512, 513, 1500 };

static problem draw(test_random *random, psg_dtype dtype, int round) {
    psg_gemm g = { .dtype = dtype, .transpose_a = test_range(random, 0, 1), .transpose_b = test_range(random, 0, 1),
                   .m = test_range(random, 1, 40), .n = test_range(random, 1, 70),
                   .alpha = test_range(random, 0, 1) ? 1 : -0.7 };
    g.k = test_range(random, 0, 2) ? TEST_PICK(random, depths) : test_range(random, 0, 700);
    if (round % 5 == 0) {
        g.m = test_range(random, 200, 600);
        g.k = test_range(random, 60, 300);
    }
    if (round % 7 == 0) g.m = 1;
    g.beta = (double[]){ 0, 0, 1, -0.3 }[test_range(random, 0, 3)];
    g.lda = (g.transpose_a ? g.m : g.k) + test_range(random, 1, 3);
    g.ldb = (g.transpose_b ? g.k : g.n) + test_range(random, 1, 3);
    g.ldc = g.n + test_range(random, 0, 3);
    problem p = { .gemm = g, .c_elements = g.m * g.ldc };
    p.gemm.a = p.a = normal(random, dtype, g.lda * (g.transpose_a ? g.k : g.m) + 1);
    p.gemm.b = p.b = normal(random, dtype, g.ldb * (g.transpose_b ? g.n : g.k) + 1);
    p.bias = normal(random, dtype, g.n);
    p.before = normal(random, dtype, p.c_elements);
    if (test_range(random, 0, 2) == 0) p.gemm.bias = p.bias;
    return p;
}

static void problem_free(problem *p) { free(p->a), free(p->b), free(p->bias), free(p->before); }

/* What c is after the product: the caller's to free. */
static void *result(psg_context *context, const problem *p, void (*run)(psg_context *, const psg_gemm *)) {
    size_t bytes = (size_t)p->c_elements * psg_dtype_size(p->gemm.dtype);
    void *c = malloc(bytes + 1);
    assert_non_null(c);
    memcpy(c, p->before, bytes);
    psg_gemm g = p->gemm;
    g.c = c;
    run(context, &g);
    return c;
}

static psg_context *context_of(unsigned threads, const char *isa, psg_gemm_engine engine) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.threads = threads;
    options.isa = isa;
    options.gemm = engine;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    return context;
}

/* Same value, -0 and +0 alike; and nothing written between the rows. */
static void check_same(const problem *p, const void *c, const void *expected, const char *what) {
    const psg_gemm *g = &p->gemm;
    for (int64_t e = 0; e < p->c_elements; e++) {
        const void *other = e % g->ldc < g->n ? expected : p->before;
        if (get(g->dtype, c, e) == get(g->dtype, other, e)) continue;
        fail_msg("%s: element (%lld, %lld) of %lld x %lld, k %lld: %a, not %a", what, (long long)(e / g->ldc),
                 (long long)(e % g->ldc), (long long)g->m, (long long)g->n, (long long)g->k, get(g->dtype, c, e),
                 get(g->dtype, other, e));
    }
}

static void *expected_of(const problem *p, bool fused) {
    const psg_gemm *g = &p->gemm;
    void *expected = malloc((size_t)p->c_elements * sizeof(double) + 1);
    for (int64_t e = 0; e < p->c_elements; e++) {
        double before = get(g->dtype, p->before, e);
        set(g->dtype, expected, e, e % g->ldc < g->n ? element(g, fused, e / g->ldc, e % g->ldc, before) : before);
    }
    return expected;
}

/* One row of the batch, by itself. */
static void check_row_alone(psg_context *context, const problem *p, int64_t i, const void *expected) {
    problem alone = *p;
    psg_gemm *g = &alone.gemm;
    g->a = at(g->dtype, g->a, g->transpose_a ? i : i * g->lda);
    g->m = 1;
    alone.before = (void *)(uintptr_t)at(g->dtype, p->before, i * g->ldc);
    alone.c_elements = g->n;
    void *c = result(context, &alone, psg_gemm_rows);
    check_same(&alone, c, at(g->dtype, expected, i * g->ldc), "a row alone");
    free(c);
}

static void check_problem(psg_context *const contexts[4], test_random *random, const problem *p) {
    void *expected = expected_of(p, fuses(contexts[0]));
    for (int k = 0; k < 4; k++) {
        void *c = result(contexts[k], p, psg_gemm_rows);
        check_same(p, c, expected, "the chain");
        free(c);
    }
    void *c = result(contexts[0], p, psg_gemm_rows_serial);
    check_same(p, c, expected, "on one thread");
    free(c);
    check_row_alone(contexts[1], p, test_range(random, 0, p->gemm.m - 1), expected);
    free(expected);
}

static const unsigned thread_counts[4] = { 1, 2, 3, 5 };

static void rows_are_one_chain(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t v = 0; v < count * 2; v++) {
        psg_context *contexts[4];
        test_random random = { 80 + v };
        for (int k = 0; k < 4; k++) contexts[k] = context_of(thread_counts[k], isas[v / 2], PSG_GEMM_AUTOMATIC);
        for (int round = 0; round < 40; round++) {
            problem p = draw(&random, v % 2 ? PSG_F64 : PSG_F32, round);
            check_problem(contexts, &random, &p);
            problem_free(&p);
        }
        for (int k = 0; k < 4; k++) test_context_free(contexts[k]);
    }
}

/* Panels that do not fit at once, and more terms than a panel has. */
static void large_matrices_are_cut(void **state) {
    (void)state;
    static const int64_t sizes[][3] = { { 30, 1100, 1100 }, { 13, 40, 5000 }, { 1, 300, 4097 } };
    for (int s = 0; s < 6; s++) {
        psg_context *contexts[4];
        test_random random = { 90 };
        problem p = draw(&random, s % 2 ? PSG_F64 : PSG_F32, 1);
        problem_free(&p);
        psg_gemm *g = &p.gemm;
        g->m = sizes[s / 2][0], g->n = g->ldc = sizes[s / 2][1], g->k = sizes[s / 2][2];
        g->lda = g->transpose_a ? g->m : g->k, g->ldb = g->transpose_b ? g->k : g->n;
        g->beta = 0;
        p.c_elements = g->m * g->n;
        g->a = p.a = normal(&random, g->dtype, g->m * g->k);
        g->b = p.b = normal(&random, g->dtype, g->n * g->k);
        p.bias = normal(&random, g->dtype, g->n);
        if (g->bias) g->bias = p.bias;
        p.before = normal(&random, g->dtype, p.c_elements);
        for (int k = 0; k < 4; k++) contexts[k] = context_of(thread_counts[k], NULL, PSG_GEMM_AUTOMATIC);
        check_problem(contexts, &random, &p);
        for (int k = 0; k < 4; k++) test_context_free(contexts[k]);
        problem_free(&p);
    }
}

/* Terms of zero at the end, through both entries. */
static void zeros_at_the_end_change_nothing(void **state) {
    (void)state;
    psg_context *context = context_of(2, NULL, PSG_GEMM_AUTOMATIC);
    test_random random = { 91 };
    for (int round = 0; round < 30; round++) {
        problem p = draw(&random, round % 2 ? PSG_F64 : PSG_F32, round);
        psg_gemm *g = &p.gemm;
        int64_t live = g->k - test_range(&random, 0, g->k);
        for (int64_t t = live; t < g->k; t++) {
            for (int64_t i = 0; i < g->m; i++) set(g->dtype, p.a, g->transpose_a ? t * g->lda + i : i * g->lda + t, 0);
        }
        void *padded = result(context, &p, psg_gemm_rows);
        g->k = live;
        void *c = result(context, &p, psg_gemm_rows);
        check_same(&p, padded, c, "zeros");
        free(padded), free(c);
        problem_free(&p);
    }
    test_context_free(context);
}

/* ---- the product kernel ---- */

static double run_product(psg_context *context, psg_dtype dtype, psg_product p) {
    double squares = 0;
    bool adds = p.finish == PSG_FINISH_ADD_F64 || p.finish == PSG_FINISH_ADD_SQUARES_F64;
    if (!adds) p.squares = &squares;
    context->kernels[dtype]->product(&p, context->workspace[0]);
    return squares;
}

/* STORE with alpha is the chain, at every place of a rectangle. */
static void check_stored(psg_context *context, test_random *random, psg_dtype dtype) {
    int64_t m = test_range(random, 1, 60), n = test_range(random, 1, 70), k = TEST_PICK(random, depths);
    void *g = normal(random, dtype, m * k + 1), *a = normal(random, dtype, n * k + 1), *c = reals(m * n);
    int64_t i0 = test_range(random, 0, m - 1), j0 = test_range(random, 0, n - 1);
    psg_product p = { .finish = PSG_FINISH_STORE, .m = (size_t)(m - i0), .n = (size_t)(n - j0), .k = (size_t)k,
                      .alpha = -0.7, .g = at(dtype, g, i0), .g_stride = m, .g_step = 1, .a = at(dtype, a, j0),
                      .a_stride = n, .a_step = 1, .c = c, .c_stride = n };
    run_product(context, dtype, p);
    for (int64_t i = i0; i < m; i++) {
        for (int64_t j = j0; j < n; j++) {
            double sum = chain(dtype, fuses(context), k, at(dtype, g, i), m, at(dtype, a, j), n);
            test_near(get(dtype, c, (i - i0) * n + j - j0), scaled(dtype, -0.7, sum, 0), 0, "stored", i * n + j);
        }
    }
    free(g), free(a), free(c);
}

/* Every finish, with rows of zeros behind and without, in little workspace and in much. */
static void check_padding(psg_context *context, test_random *random, psg_dtype dtype, psg_finish finish) {
    int64_t m = test_range(random, 1, 90), n = test_range(random, 1, 90), live = test_range(random, 0, 600);
    int64_t k = live + test_range(random, 1, 1400);
    bool adds = finish == PSG_FINISH_ADD_F64 || finish == PSG_FINISH_ADD_SQUARES_F64;
    void *g = normal(random, dtype, m * k), *a = normal(random, dtype, n * k);
    void *before = normal(random, adds ? PSG_F64 : dtype, m * n), *c[2];
    for (int64_t e = live * m; e < k * m; e++) set(dtype, g, e, 0);
    double squares[2];
    for (int padded = 0; padded < 2; padded++) {
        c[padded] = reals(m * n);
        memcpy(c[padded], before, (size_t)(m * n) * (adds ? sizeof(double) : psg_dtype_size(dtype)));
        psg_product p = { .finish = finish, .m = (size_t)m, .n = (size_t)n, .k = (size_t)(padded ? k : live),
                          .alpha = 1.5, .g = g, .g_stride = m, .g_step = 1, .a = a, .a_stride = n, .a_step = 1,
                          .c = c[padded], .c_stride = n, .accumulate = finish == PSG_FINISH_STORE,
                          .workspace_bytes = padded ? 0 : PSG_WORKSPACE_BYTES };
        squares[padded] = run_product(context, dtype, p);
    }
    test_near(squares[1], squares[0], 0, "squares", finish);
    for (int64_t e = 0; e < m * n; e++) {
        psg_dtype type = adds ? PSG_F64 : dtype;
        test_near(get(type, c[1], e), get(type, c[0], e), 0, "padded", e);
    }
    free(g), free(a), free(before), free(c[0]), free(c[1]);
}

/* outer is the product of one term. */
static void check_outer(psg_context *context, test_random *random, psg_dtype dtype) {
    int64_t m = test_range(random, 1, 30), n = test_range(random, 1, 70);
    double alpha = test_range(random, 0, 1) ? 1 : 0.3;
    bool accumulate = test_range(random, 0, 1);
    void *g = normal(random, dtype, m), *a = normal(random, dtype, n), *before = normal(random, dtype, m * n), *c[2];
    for (int k = 0; k < 2; k++) {
        c[k] = reals(m * n);
        memcpy(c[k], before, (size_t)(m * n) * psg_dtype_size(dtype));
    }
    psg_product p = { .finish = PSG_FINISH_STORE, .m = (size_t)m, .n = (size_t)n, .k = 1, .alpha = alpha, .g = g,
                      .g_stride = m, .g_step = 1, .a = a, .a_stride = n, .a_step = 1, .c = c[0], .c_stride = n,
                      .accumulate = accumulate };
    run_product(context, dtype, p);
    context->kernels[dtype]->outer((size_t)m, (size_t)n, alpha, g, a, c[1], n, accumulate, test_range(random, 0, 1));
    for (int64_t e = 0; e < m * n; e++) test_near(get(dtype, c[1], e), get(dtype, c[0], e), 0, "outer", e);
    free(g), free(a), free(before), free(c[0]), free(c[1]);
}

static void tiles_are_one_chain(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t v = 0; v < count * 2; v++) {
        psg_context *context = context_of(1, isas[v / 2], PSG_GEMM_AUTOMATIC);
        test_random random = { 100 + v };
        psg_dtype dtype = v % 2 ? PSG_F64 : PSG_F32;
        for (int round = 0; round < 25; round++) {
            check_stored(context, &random, dtype);
            check_outer(context, &random, dtype);
            for (int finish = PSG_FINISH_STORE; finish <= PSG_FINISH_ADD_SQUARES_F64 && round % 5 == 0; finish++) {
                check_padding(context, &random, dtype, (psg_finish)finish);
            }
        }
        test_context_free(context);
    }
}

/* ---- a step of a recurrent layer: the start and 128 terms in one chain, then as above ---- */

enum { STEP_CHAIN = 128 };

static double panel_element(psg_dtype dtype, bool fused, int64_t k, const void *a, const void *w, int64_t w_step,
                            double start) {
    int64_t first = k < STEP_CHAIN ? k : STEP_CHAIN;
    double total = start;
    for (int64_t t = 0; t < first; t++) {
        double x = get(dtype, a, t), y = get(dtype, w, t * w_step);
        total = dtype == PSG_F64 ? step_f64(fused, x, y, total)
                                 : (double)step_f32(fused, (float)x, (float)y, (float)total);
    }
    for (int64_t t = first; t < k; t += STEP_CHAIN) {
        int64_t terms = k - t < STEP_CHAIN ? k - t : STEP_CHAIN;
        total = scaled(dtype, 1, total, chain(dtype, fused, terms, at(dtype, a, t), 1, at(dtype, w, t * w_step),
                                              w_step));
    }
    return total;
}

static void check_panels(psg_context *context, test_random *random, psg_dtype dtype) {
    const psg_kernel_table *kernels = context->kernels[dtype];
    int64_t rows = test_range(random, 1, 20), width = (int64_t)kernels->panel_width();
    int64_t n = test_range(random, 1, width), k = TEST_PICK(random, depths);
    void *a = normal(random, dtype, rows * k + 1), *w = normal(random, dtype, k * n + 1);
    void *bias = normal(random, dtype, n), *panel = reals(k * width), *c = reals(rows * n), *row[20];
    for (int64_t i = 0; i < rows; i++) row[i] = (void *)(uintptr_t)at(dtype, c, i * n);
    kernels->pack_panel((size_t)n, (size_t)k, w, 1, n, panel);
    psg_panel_product p = { .rows = (size_t)rows, .n = (size_t)n, .k = (size_t)k, .a = a, .a_stride = (size_t)k,
                            .panels = panel, .bias = bias, .c = row };
    kernels->panel_product(&p);
    for (int64_t e = 0; e < rows * n; e++) {
        double expected = panel_element(dtype, fuses(context), k, at(dtype, a, e / n * k), at(dtype, w, e % n), n,
                                        get(dtype, bias, e % n));
        test_near(get(dtype, c, e), expected, 0, "panel", e);
    }
    free(a), free(w), free(bias), free(panel), free(c);
}

static void recurrent_steps_are_one_chain(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t v = 0; v < count * 2; v++) {
        psg_context *context = context_of(1, isas[v / 2], PSG_GEMM_AUTOMATIC);
        test_random random = { 120 + v };
        for (int round = 0; round < 30; round++) check_panels(context, &random, v % 2 ? PSG_F64 : PSG_F32);
        test_context_free(context);
    }
}

/* ---- two engines ---- */

static void check_agreement(psg_context *const contexts[2], const problem *p,
                            void (*run)(psg_context *, const psg_gemm *)) {
    const psg_gemm *g = &p->gemm;
    void *c[2] = { result(contexts[0], p, run), result(contexts[1], p, run) };
    psg_gemm sizes = *g;   /* of absolute values: the terms */
    int64_t a_count = g->lda * (g->transpose_a ? g->k : g->m) + 1;
    int64_t b_count = g->ldb * (g->transpose_b ? g->n : g->k) + 1;
    void *a = reals(a_count), *b = reals(b_count);
    for (int64_t i = 0; i < a_count; i++) set(g->dtype, a, i, fabs(get(g->dtype, p->a, i)));
    for (int64_t i = 0; i < b_count; i++) set(g->dtype, b, i, fabs(get(g->dtype, p->b, i)));
    sizes.a = a, sizes.b = b, sizes.alpha = 1, sizes.beta = 0, sizes.bias = NULL;
    for (int64_t e = 0; e < p->c_elements; e++) {
        if (e % g->ldc >= g->n) continue;
        double more = fabs(get(g->dtype, p->before, e)) + fabs(get(g->dtype, p->bias, e % g->ldc));
        double terms = element(&sizes, false, e / g->ldc, e % g->ldc, 0) + more;
        test_near(get(g->dtype, c[0], e), get(g->dtype, c[1], e),
                  2 * test_gamma(g->dtype, (double)g->k + 4) * terms, "engines", e);
    }
    free(c[0]), free(c[1]), free(a), free(b);
}

static void run_gram(psg_context *context, const psg_gemm *g) {
    void *spare = reals(g->m * g->ldc);
    psg_gram_product gram = { g->dtype, g->m, g->n, g->k, 0, g->b, g->ldb, g->b, g->ldb, g->c, g->ldc, spare };
    psg_gram_serial(context, &gram);
    free(spare);
    for (int64_t i = 0; i < g->m; i++) {   /* undefined above the diagonal */
        for (int64_t j = i + 1; j < g->n; j++) set(g->dtype, g->c, i * g->ldc + j, 0);
    }
}

static void engines_agree(void **state) {
    (void)state;
    psg_context *contexts[2] = { context_of(3, NULL, PSG_GEMM_OPENBLAS), context_of(3, NULL, PSG_GEMM_KERNEL) };
    test_random random = { 140 };
    for (int round = 0; round < 60; round++) {
        problem p = draw(&random, round % 2 ? PSG_F64 : PSG_F32, round);
        check_agreement(contexts, &p, psg_gemm_rows);
        check_agreement(contexts, &p, psg_gemm_rows_serial);
        check_agreement(contexts, &p, psg_gemm_serial);
        if (p.gemm.transpose_b && p.gemm.n <= p.gemm.m) {
            p.gemm.m = p.gemm.n;
            p.c_elements = p.gemm.m * p.gemm.ldc;
            p.gemm.bias = NULL;
            p.gemm.transpose_a = false;
            p.gemm.lda = p.gemm.ldb;
            free(p.a);
            p.a = p.b;
            p.gemm.a = p.a;
            check_agreement(contexts, &p, run_gram);
            p.a = NULL;
        }
        problem_free(&p);
    }
    test_context_free(contexts[0]), test_context_free(contexts[1]);
}

/* Rows of a longer array against all of them, up to their own: lengths around a vector and around what the engines take
 * at once (4 KiB, 256 terms), strides beyond the rows.  Sums of equal terms lose the same way at every addition. */
static void check_grams(psg_context *context) {
    static const int64_t terms[] = { 0, 1, 15, 16, 17, 255, 256, 511, 513, 1023, 1024, 1025, 2100, 9000 };
    test_random random = { 145 };
    for (int round = 0; round < 90; round++) {
        const psg_dtype dtype = round % 2 ? PSG_F64 : PSG_F32;
        const int64_t m = test_range(&random, 1, round % 10 ? 13 : 60), diagonal = test_range(&random, 0, 9);
        const int64_t k = TEST_PICK(&random, terms), n = diagonal + m, ld = k + test_range(&random, 1, 3), ldc = n + 2;
        void *rows = normal(&random, dtype, n * ld), *c = normal(&random, dtype, m * ldc), *spare = reals(m * ldc);
        psg_gram_product gram = { dtype, m, n, k, diagonal, at(dtype, rows, diagonal * ld), ld, rows, ld, c, ldc,
                                  spare };
        const double equal = 1 + test_uniform(&random), depth = (double)psg_gram_depth(context, dtype, n, k);
        for (int64_t e = 0; e < n * ld && round % 3 == 0; e++) set(dtype, rows, e, equal);
        psg_gram_serial(context, &gram);
        assert_true(depth <= fmin((double)k, 256) + (double)k / 256 + 8);
        for (int64_t e = 0; e < m * n; e++) {
            const int64_t i = e / n, j = e % n;
            long double dot = 0, size = 0;
            for (int64_t t = 0; t < k && j <= diagonal + i; t++) {
                long double product = (long double)get(dtype, gram.a, i * ld + t) * get(dtype, rows, j * ld + t);
                dot += product;
                size += fabsl(product);
            }
            if (j > diagonal + i) continue;
            long double most = test_gamma(dtype, depth) * size, off = fabsl(get(dtype, c, i * ldc + j) - dot);
            if (!(off <= most)) fail_msg("%lld terms, gram[%lld]: %Lg, not %Lg", (long long)k, (long long)e, off, most);
        }
        free(rows), free(c), free(spare);
    }
}

static void grams_are_inner_products(void **state) {
    (void)state;
    const char *isas[3];
    for (size_t i = 0, count = test_isas(isas); i < 2 * count; i++) {
        psg_context *context = context_of(1, isas[i / 2], i % 2 ? PSG_GEMM_OPENBLAS : PSG_GEMM_KERNEL);
        check_grams(context);
        test_context_free(context);
    }
}

/* Whether OpenBLAS's core has vectors as wide as the kernels of an instruction set. */
static bool core_is_as_wide(const char *isa) {
    static const char *const cores[] = { "SkylakeX", "Cooperlake", "Sapphire", "Haswell", "Zen" };   /* avx512: three */
    const size_t count = strcmp(isa, "avx512") == 0 ? 3 : 5;
    for (size_t k = 0; k < count; k++) {
        if (strncmp(psg_openblas_core(), cores[k], strlen(cores[k])) == 0) return true;
    }
    return strcmp(isa, "baseline") == 0;
}

/* Where the choice is left: a Gram of rows of 1 KiB is the kernels', where these are vectors of 256 bits and more;
 * short rows and many of them are OpenBLAS's, unless its vectors are shorter. */
static void grams_are_shared_out(void **state) {
    (void)state;
    const psg_gemm_engine of_512 = core_is_as_wide("avx512") ? PSG_GEMM_OPENBLAS : PSG_GEMM_KERNEL;
    const psg_gemm_engine of_256 = core_is_as_wide("avx2") ? PSG_GEMM_OPENBLAS : PSG_GEMM_KERNEL;
    const struct { const char *isa; int64_t rows, terms; psg_gemm_engine engine; } cases[] = {
        { "avx512", 64, 256, PSG_GEMM_KERNEL },     { "avx2", 64, 256, PSG_GEMM_KERNEL },
        { "baseline", 64, 256, PSG_GEMM_OPENBLAS }, { "avx512", 64, 255, of_512 }, { "avx2", 64, 255, of_256 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
        psg_context *context;
        options.threads = 1, options.isa = cases[c].isa;
        if (psg_context_create(&options, &context)) continue;   /* not of this processor */
        test_random random = { 146 };
        void *rows = normal(&random, PSG_F32, 64 * 256), *out = reals(64 * 64);
        psg_gram_product gram = { PSG_F32, cases[c].rows, cases[c].rows, cases[c].terms, 0, rows, 256, rows, 256, out,
                                  64, NULL };
        psg_gram_serial(context, &gram);
        assert_int_equal(psg_context_products(context, cases[c].engine), 1);
        free(rows), free(out);
        test_context_free(context);
    }
}

/* A materialised gradient goes to OpenBLAS, a sample a call, only where the context says so. */
static void materialised_gradients_follow_the_context(void **state) {
    (void)state;
    enum { B = 3, T = 5, P = 4, D = 6 };
    test_random random = { 147 };
    float *g = normal(&random, PSG_F32, B * T * P), *a = normal(&random, PSG_F32, B * T * D), out[3][B * P * D];
    psg_tensor backprop = psg_f32_3d(g, B, T, P), activation = psg_f32_3d(a, B, T, D);
    psg_block block = psg_factored(&backprop, &activation);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ P, D });
    for (int engine = PSG_GEMM_AUTOMATIC; engine <= PSG_GEMM_KERNEL; engine++) {
        psg_context *context = context_of(2, NULL, (psg_gemm_engine)engine);
        psg_tensor view = psg_f32_3d(out[engine], B, P, D);
        TEST_OK(context, psg_grad_sample(context, &gradient, 2.0, PSG_OVERWRITE, &view));
        TEST_OK(context, psg_grad_sample(context, &gradient, -1.0, PSG_ACCUMULATE, &view));
        assert_int_equal(psg_context_products(context, PSG_GEMM_OPENBLAS), engine == PSG_GEMM_OPENBLAS ? 2 * B : 0);
        test_context_free(context);
    }
    for (int64_t e = 0; e < B * P * D; e++) {
        double sum = 0, size = 0;
        for (int64_t n = e / (P * D), t = 0; t < T; t++) {
            double product = (double)g[(n * T + t) * P + e / D % P] * (double)a[(n * T + t) * D + e % D];
            sum += product;
            size += fabs(product);
        }
        for (int k = 0; k < 3; k++) {
            test_near(out[k][e], sum, 3 * test_gamma(PSG_F32, T + 3) * size, "grad_sample", e);
        }
    }
    free(g), free(a);
}

static void counters_say_who_served(void **state) {
    (void)state;
    /* rows, rows_serial, serial, Gram of short rows: by OpenBLAS */
    uint64_t by_openblas[3][4] = { { 0, 0, 1, 1 }, { 1, 1, 1, 1 }, { 0, 0, 0, 0 } };
    psg_context *first = context_of(1, NULL, PSG_GEMM_AUTOMATIC);
    by_openblas[0][2] = by_openblas[0][3] = core_is_as_wide(psg_context_isa(first));
    test_context_free(first);
    test_random random = { 150 };
    problem p = draw(&random, PSG_F32, 1);
    p.gemm.transpose_b = true, p.gemm.m = p.gemm.n = 3, p.gemm.k = 1, p.gemm.ldb = 1;
    void (*const runs[4])(psg_context *, const psg_gemm *) = { psg_gemm_rows, psg_gemm_rows_serial, psg_gemm_serial,
                                                               run_gram };
    for (int engine = PSG_GEMM_AUTOMATIC; engine <= PSG_GEMM_KERNEL; engine++) {
        psg_context *context = context_of(2, NULL, (psg_gemm_engine)engine);
        for (int k = 0; k < 4; k++) {
            uint64_t before = psg_context_products(context, PSG_GEMM_OPENBLAS);
            free(result(context, &p, runs[k]));
            assert_int_equal(psg_context_products(context, PSG_GEMM_OPENBLAS) - before, by_openblas[engine][k]);
            assert_int_equal(psg_context_products(context, PSG_GEMM_AUTOMATIC), k + 1);
        }
        uint64_t openblas = psg_context_products(context, PSG_GEMM_OPENBLAS);
        assert_int_equal(openblas + psg_context_products(context, PSG_GEMM_KERNEL), 4);
        test_context_free(context);
    }
    problem_free(&p);
}

/* ---- ops whose products are over batched rows: a sample has the bits that it has alone ---- */

typedef struct model {
    const char *name;
    psg_var (*build)(psg_tape *tape, psg_var x, psg_var z, psg_var *parameters);
    int64_t x[2], z[2];               /* the sample's part of two inputs */
    int64_t parameters[4][3];         /* shapes, 0 from their rank on */
} model;

static psg_var build_linear(psg_tape *tape, psg_var x, psg_var z, psg_var *p) {
    (void)z;
    return psg_linear(tape, x, p[0], p[1]);
}

static psg_var build_matmul(psg_tape *tape, psg_var x, psg_var z, psg_var *p) {
    (void)z;
    return psg_matmul(tape, x, p[0]);
}

static psg_var build_matmul_of_samples(psg_tape *tape, psg_var x, psg_var z, psg_var *p) {
    (void)p;
    return psg_matmul(tape, x, z);
}

static psg_var build_matmul_from_left(psg_tape *tape, psg_var x, psg_var z, psg_var *p) {
    (void)z;
    return psg_matmul(tape, p[0], x);
}

static psg_var build_bilinear(psg_tape *tape, psg_var x, psg_var z, psg_var *p) {
    return psg_bilinear(tape, x, z, p[0], p[1]);
}

static psg_var build_lstm(psg_tape *tape, psg_var x, psg_var z, psg_var *p) {
    (void)z;
    psg_rnn_weights weights = { p[0], p[1], p[2], p[3], psg_none() };
    return psg_lstm(tape, x, psg_none(), psg_none(), psg_none(), &weights, NULL, NULL, NULL);
}

static psg_var build_attention(psg_tape *tape, psg_var x, psg_var z, psg_var *p) {
    psg_multi_head_attention_weights weights = { .in_proj_weight = p[0], .in_proj_bias = p[1],
                                                 .out_proj_weight = p[2], .out_proj_bias = p[3] };
    return psg_multi_head_attention(tape, x, z, z, 4, &weights, NULL, NULL);
}

static const model models[] = {
    { "linear", build_linear, { 3, 300 }, { 1, 1 }, { { 37, 300 }, { 37 } } },
    { "linear to few", build_linear, { 1, 700 }, { 1, 1 }, { { 10, 700 }, { 10 } } },
    { "matmul", build_matmul, { 4, 290 }, { 1, 1 }, { { 290, 19 } } },
    { "matmul of samples", build_matmul_of_samples, { 7, 270 }, { 270, 9 }, { { 0 } } },
    { "matmul from the left", build_matmul_from_left, { 280, 21 }, { 1, 1 }, { { 6, 280 } } },
    { "bilinear", build_bilinear, { 2, 30 }, { 2, 20 }, { { 11, 30, 20 }, { 11 } } },
    { "lstm", build_lstm, { 4, 280 }, { 1, 1 }, { { 132, 280 }, { 132, 33 }, { 132 }, { 132 } } },
    { "attention", build_attention, { 5, 64 }, { 6, 64 }, { { 192, 64 }, { 192 }, { 64, 64 }, { 64 } } },
};

typedef struct scene {
    const model *model;
    psg_dtype dtype;
    void *x, *z, *grad;               /* of all samples */
    psg_param *parameters[4];
} scene;

/* What a pass gives: output, gradients of x and z; those of samples [first, first + count). */
typedef struct answer { psg_tensor part[3]; } answer;

static psg_var input_of(psg_tape *tape, psg_dtype dtype, const void *data, const int64_t size[2], int64_t first,
                        int64_t count) {
    int64_t shape[3] = { count, size[0], size[1] };
    void *part = (void *)(uintptr_t)at(dtype, data, first * size[0] * size[1]);
    psg_tensor view = psg_tensor_of(dtype, part, 3, shape);
    return psg_input_with_grad(tape, &view);
}

static answer run_scene(psg_tape *tape, const scene *s, int64_t first, int64_t count) {
    psg_context *context = psg_tape_context(tape);
    psg_pass pass = PSG_PASS_INIT;
    psg_var p[4];
    answer a = { 0 };
    TEST_OK(context, psg_tape_begin(tape, &pass));
    psg_var x = input_of(tape, s->dtype, s->x, s->model->x, first, count);
    psg_var z = input_of(tape, s->dtype, s->z, s->model->z, first, count);
    for (int k = 0; k < 4; k++) p[k] = s->parameters[k] ? psg_use(tape, s->parameters[k]) : psg_none();
    psg_var y = s->model->build(tape, x, z, p);
    TEST_OK(context, psg_value(tape, y, &a.part[0]));
    psg_tensor grad = a.part[0];
    grad.data = (void *)(uintptr_t)at(s->dtype, s->grad, first * (psg_tensor_count(&grad) / count));
    TEST_OK(context, psg_backward_from(tape, y, &grad));
    TEST_OK(context, psg_input_grad(tape, x, &a.part[1]));
    if (psg_input_grad(tape, z, &a.part[2]) != PSG_OK) a.part[2] = (psg_tensor){ 0 };   /* not in this model */
    return a;
}

static void check_alone(const scene *s, const answer *all, const answer *alone, int64_t n) {
    for (int k = 0; k < 3 && all->part[k].data; k++) {
        int64_t count = psg_tensor_count(&alone->part[k]);
        for (int64_t e = 0; e < count; e++) {
            double expected = get(s->dtype, alone->part[k].data, e);
            if (get(s->dtype, all->part[k].data, n * count + e) == expected) continue;
            fail_msg("%s, %s of sample %lld: element %lld is %a, alone %a", s->model->name,
                     (const char *[]){ "output", "gradient of x", "gradient of z" }[k], (long long)n, (long long)e,
                     get(s->dtype, all->part[k].data, n * count + e), expected);
        }
    }
}

static void check_model(psg_context *context, const model *m, psg_dtype dtype, int64_t batch) {
    test_random random = { 170 };
    scene s = { .model = m, .dtype = dtype };
    psg_tape *whole, *single;
    s.x = normal(&random, dtype, batch * m->x[0] * m->x[1]);
    s.z = normal(&random, dtype, batch * m->z[0] * m->z[1]);
    s.grad = normal(&random, dtype, batch * 1000);
    void *values[4] = { NULL };
    for (int k = 0; k < 4 && m->parameters[k][0]; k++) {
        int rank = 1 + (m->parameters[k][1] > 0) + (m->parameters[k][2] > 0);
        psg_tensor value = psg_tensor_of(dtype, NULL, rank, m->parameters[k]);
        value.data = values[k] = normal(&random, dtype, psg_tensor_count(&value));
        TEST_OK(context, psg_param_create(context, "p", &value, &s.parameters[k]));
    }
    TEST_OK(context, psg_tape_create(context, &whole));
    TEST_OK(context, psg_tape_create(context, &single));
    answer all = run_scene(whole, &s, 0, batch);
    for (int64_t n = 0; n < batch; n++) {
        answer alone = run_scene(single, &s, n, 1);
        check_alone(&s, &all, &alone, n);
    }
    psg_tape_destroy(whole), psg_tape_destroy(single);
    for (int k = 0; k < 4; k++) {
        if (s.parameters[k]) psg_param_destroy(s.parameters[k]);
        free(values[k]);
    }
    free(s.x), free(s.z), free(s.grad);
}

static void samples_have_the_bits_they_have_alone(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t v = 0; v < count * 2; v++) {
        psg_context *context = context_of(v % 2 ? 3 : 1, isas[v / 2], PSG_GEMM_AUTOMATIC);
        for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
            check_model(context, &models[k], v % 2 ? PSG_F64 : PSG_F32, 5);
            check_model(context, &models[k], v % 2 ? PSG_F32 : PSG_F64, 67);
        }
        test_context_free(context);
    }
}

/* ---- the choice ---- */

static psg_status create(psg_gemm_engine engine, psg_context **context) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.gemm = engine;
    return psg_context_create(&options, context);
}

static void context_reads_psg_gemm(void **state) {
    (void)state;
    static const char *const names[] = { "automatic", "openblas", "kernel" };
    static const char *const unknown[] = { "", "OpenBLAS", "mkl", "kernel " };
    psg_context *context;
    for (int k = 0; k < 3; k++) {
        setenv("PSG_GEMM", names[k], 1);
        assert_int_equal(create(PSG_GEMM_AUTOMATIC, &context), PSG_OK);
        assert_int_equal(context->gemm, k);
        psg_context_destroy(context);
        assert_int_equal(create(PSG_GEMM_KERNEL, &context), PSG_OK);   /* the option goes before the environment */
        assert_int_equal(context->gemm, PSG_GEMM_KERNEL);
        psg_context_destroy(context);
    }
    for (int k = 0; k < 4; k++) {
        setenv("PSG_GEMM", unknown[k], 1);
        assert_int_equal(create(PSG_GEMM_AUTOMATIC, &context), PSG_ERR_ARGUMENT);
        assert_null(context);
    }
    unsetenv("PSG_GEMM");
    assert_int_equal(create((psg_gemm_engine)3, &context), PSG_ERR_ARGUMENT);
    assert_int_equal(create((psg_gemm_engine)-1, &context), PSG_ERR_ARGUMENT);
}

/* ---- steady state: a larger batch takes no memory ---- */

static void rows_take_memory_once(void **state) {
    (void)state;
    psg_context *context = context_of(2, NULL, PSG_GEMM_AUTOMATIC);
    test_random random = { 160 };
    void *a = normal(&random, PSG_F32, 300 * 200), *b = normal(&random, PSG_F32, 200 * 90), *c = reals(300 * 90);
    psg_gemm g = { .m = 1, .n = 90, .k = 200, .alpha = 1, .a = a, .lda = 200, .b = b, .ldb = 90, .c = c, .ldc = 90 };
    psg_gemm_rows(context, &g);
    uint64_t allocations = psg_context_allocations(context);
    g.m = 300;
    psg_gemm_rows(context, &g);
    assert_int_equal(psg_context_allocations(context), allocations);
    test_context_free(context);
    free(a), free(b), free(c);
}

int main(void) {
    unsetenv("PSG_GEMM");   /* each test names its engine */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_one_chain),
        cmocka_unit_test(large_matrices_are_cut),
        cmocka_unit_test(zeros_at_the_end_change_nothing),
        cmocka_unit_test(tiles_are_one_chain),
        cmocka_unit_test(recurrent_steps_are_one_chain),
        cmocka_unit_test(samples_have_the_bits_they_have_alone),
        cmocka_unit_test(engines_agree),
        cmocka_unit_test(grams_are_inner_products),
        cmocka_unit_test(grams_are_shared_out),
        cmocka_unit_test(materialised_gradients_follow_the_context),
        cmocka_unit_test(counters_say_who_served),
        cmocka_unit_test(context_reads_psg_gemm),
        cmocka_unit_test(rows_take_memory_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
