/* Products of small integers, which are exact in either real type and any order of additions, by both engines before
 * their results are believed.  A BLAS that is built for another processor, or miscompiled, may be wrong on some cores,
 * in some shapes alone; a bound from a wrong Gram is no bound.  C is compared through C v = A (B v) for one vector v of
 * positive integers (Freivalds 1977): one wrong element in a row always shows. */
#include <math.h>

#include "base/parallel.h"
#include "blas/engine.h"
#include "kernels.h"

/* One row; edges of every tile; beyond the 10^6 multiplications where OpenBLAS leaves its kernels for small products, a
 * kernel for each pair of transposes, for one that takes copies of each operand by itself: there none and both do. */
static const struct { int64_t m, n, k; bool is_large; } shapes[] = {
    { 1, 5, 64, false }, { 13, 9, 40, false }, { 65, 49, 325, true }
};
enum { MOST_M = 65, MOST_N = 49, MOST_K = 325, PAD = 3 };

/* Lies in a worker's workspace. */
typedef struct trial {
    psg_context *context;
    int64_t m, n, k;
    bool is_large;
    double v[MOST_M], product[MOST_M], gram[MOST_M];          /* v; A (B v); of the Gram's triangle times v */
    double left[MOST_M * MOST_K], right[MOST_K * MOST_N];     /* A, B */
    psg_dtype dtype;
    double a[2][(MOST_M + PAD) * (MOST_K + PAD)];             /* of it: each and its transpose, rows PAD apart */
    double b[2][(MOST_K + PAD) * (MOST_N + PAD)];
    double c[MOST_M * (MOST_M + PAD)];
} trial;

_Static_assert(sizeof(trial) <= PSG_WORKSPACE_BYTES, "a trial fits the workspace");

static void set(const trial *t, double *x, int64_t at, double value) {
    if (t->dtype == PSG_F64) x[at] = value;
    else ((float *)(void *)x)[at] = (float)value;
}

static double get(const trial *t, const double *x, int64_t at) {
    return t->dtype == PSG_F64 ? x[at] : (double)((const float *)(const void *)x)[at];
}

/* ---- the truth ---- */

static void draw(int64_t count, uint32_t state, double *x) {
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (double)((int)(state >> 29) - 4);
    }
}

static void expect_product(trial *t) {
    double u[MOST_K];
    for (int64_t i = 0; i < t->k; i++) {
        u[i] = 0;
        for (int64_t j = 0; j < t->n; j++) u[i] += t->right[i * t->n + j] * t->v[j];
    }
    for (int64_t i = 0; i < t->m; i++) {
        t->product[i] = 0;
        for (int64_t j = 0; j < t->k; j++) t->product[i] += t->left[i * t->k + j] * u[j];
    }
}

/* Row i of the lower triangle of A A^T. */
static void expect_gram(trial *t) {
    double u[MOST_K] = { 0 };   /* sum over rows j <= i of v_j A_j */
    for (int64_t i = 0; i < t->m; i++) {
        t->gram[i] = 0;
        for (int64_t j = 0; j < t->k; j++) {
            u[j] += t->left[i * t->k + j] * t->v[i];
            t->gram[i] += t->left[i * t->k + j] * u[j];
        }
    }
}

/* ---- products ---- */

static void place(const trial *t, int64_t rows, int64_t columns, const double *x, double *plain, double *turned) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            set(t, plain, i * (columns + PAD) + j, x[i * columns + j]);
            set(t, turned, j * (rows + PAD) + i, x[i * columns + j]);
        }
    }
}

/* c begins as NaN, which beta = 0 must not read. */
static void clear(trial *t, int64_t columns) {
    for (int64_t i = 0; i < t->m * (columns + PAD); i++) set(t, t->c, i, NAN);
}

/* Whether the first columns + rise i of row i of c, times v, are scale * expected[i]. */
static bool agrees(const trial *t, int64_t row, int64_t columns, int64_t rise, const double *expected, double scale) {
    for (int64_t i = 0; i < t->m; i++) {
        double sum = 0;
        for (int64_t j = 0; j < columns + rise * i; j++) sum += get(t, t->c, i * row + j) * t->v[j];
        if (!(sum == scale * expected[i])) return false;
    }
    return true;
}

static void multiply(trial *t, psg_gemm_engine engine, bool turn_a, bool turn_b, double alpha, double beta) {
    psg_gemm gemm = { .dtype = t->dtype, .transpose_a = turn_a, .transpose_b = turn_b, .m = t->m, .n = t->n, .k = t->k,
                      .alpha = alpha, .beta = beta, .a = t->a[turn_a], .lda = (turn_a ? t->m : t->k) + PAD,
                      .b = t->b[turn_b], .ldb = (turn_b ? t->k : t->n) + PAD, .c = t->c, .ldc = t->n + PAD };
    if (engine == PSG_GEMM_OPENBLAS) psg_openblas_gemm(&gemm);
    else psg_kernel_gemm(t->context, &gemm);
}

static bool multiplies(trial *t, psg_gemm_engine engine, bool turn_a, bool turn_b) {
    clear(t, t->n);
    multiply(t, engine, turn_a, turn_b, 1, 0);
    return agrees(t, t->n + PAD, t->n, 0, t->product, 1);
}

/* To what the last product left. */
static bool adds(trial *t, psg_gemm_engine engine) {
    multiply(t, engine, false, false, 2, 1);
    return agrees(t, t->n + PAD, t->n, 0, t->product, 3);
}

static bool squares(trial *t, psg_gemm_engine engine) {
    const int64_t row = t->k + PAD, out = t->m + PAD;
    psg_row_dots dots = { .m = (size_t)t->m, .n = (size_t)t->m, .k = (size_t)t->k, .x = t->a[0], .x_stride = row,
                          .y = t->a[0], .y_stride = row, .c = t->c, .c_stride = out };
    clear(t, t->m);
    if (engine == PSG_GEMM_OPENBLAS) psg_openblas_syrk(t->dtype, t->m, t->k, 1, t->a[0], row, 0, t->c, out);
    else t->context->kernels[t->dtype]->row_dots(&dots);
    return agrees(t, out, 1, 1, t->gram, 1);
}

static bool passes(trial *t, psg_gemm_engine engine) {
    bool right = true;
    for (int turned = 0; turned < 4; turned += t->is_large ? 3 : 1) {
        right &= multiplies(t, engine, turned & 1, turned & 2);
    }
    return right && (t->is_large || adds(t, engine)) && squares(t, engine);
}

/* ---- all ---- */

static bool passes_in(trial *t, psg_dtype dtype) {
    t->dtype = dtype;
    place(t, t->m, t->k, t->left, t->a[0], t->a[1]);
    place(t, t->k, t->n, t->right, t->b[0], t->b[1]);
    return passes(t, PSG_GEMM_KERNEL) && (t->context->gemm == PSG_GEMM_KERNEL || passes(t, PSG_GEMM_OPENBLAS));
}

bool psg_products_are_right(psg_context *context) {
    trial *t = context->workspace[0];
    bool right = true;
    int saved = psg_blas_enter(context);
    t->context = context;
    for (int64_t j = 0; j < MOST_M; j++) t->v[j] = (double)(1 + j * 37 % 101);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0] && right; s++) {
        t->m = shapes[s].m;
        t->n = shapes[s].n;
        t->k = shapes[s].k;
        t->is_large = shapes[s].is_large;
        draw(t->m * t->k, 1, t->left);
        draw(t->k * t->n, 2, t->right);
        expect_product(t);
        expect_gram(t);
        right = passes_in(t, PSG_F32) && passes_in(t, PSG_F64);
    }
    psg_blas_leave(context, saved);
    return right;
}
