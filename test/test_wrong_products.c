/* A BLAS that computes wrongly, and our kernel: linked with --wrap for their functions, whose results are then spoilt.
 * No context is made. */
#include "support.h"

#include <cblas.h>
#include <math.h>

#include "blas/engine.h"

/* ---- faults ---- */

typedef enum culprit { NOBODY, SGEMM, DGEMM, SSYRK, DSYRK, KERNEL, CULPRITS } culprit;
typedef enum fault { LAST_ELEMENT, ALL_ZERO, KEEPS_C, FAULTS } fault;

/* Where the product is spoilt: everywhere, with one pair of transposes alone, beyond a size alone. */
static struct {
    culprit who;
    fault fault;
    int only_a, only_b;   /* -1: any */
    double larger_than;
} plan;

static bool strikes(culprit who, bool turn_a, bool turn_b, double size) {
    bool turned = (plan.only_a < 0 || plan.only_a == turn_a) && (plan.only_b < 0 || plan.only_b == turn_b);
    return plan.who == who && turned && size > plan.larger_than;
}

static void spoil_f32(float *c, int m, int n, int ldc, int last_row) {
    for (int i = 0; plan.fault != LAST_ELEMENT && i < m; i++) {
        for (int j = 0; j < n; j++) c[i * ldc + j] = plan.fault == KEEPS_C ? NAN : 0;
    }
    c[last_row * ldc + n - 1] += 1;
}

static void spoil_f64(double *c, int m, int n, int ldc, int last_row) {
    for (int i = 0; plan.fault != LAST_ELEMENT && i < m; i++) {
        for (int j = 0; j < n; j++) c[i * ldc + j] = plan.fault == KEEPS_C ? NAN : 0;
    }
    c[last_row * ldc + n - 1] += 1;
}

/* ---- the functions ---- */

void __real_cblas_sgemm(CBLAS_LAYOUT layout, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha,
                        const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);
void __real_cblas_dgemm(CBLAS_LAYOUT layout, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha,
                        const double *a, int lda, const double *b, int ldb, double beta, double *c, int ldc);
void __real_cblas_ssyrk(CBLAS_LAYOUT layout, CBLAS_UPLO uplo, CBLAS_TRANSPOSE t, int n, int k, float alpha,
                        const float *a, int lda, float beta, float *c, int ldc);
void __real_cblas_dsyrk(CBLAS_LAYOUT layout, CBLAS_UPLO uplo, CBLAS_TRANSPOSE t, int n, int k, double alpha,
                        const double *a, int lda, double beta, double *c, int ldc);
void __real_psg_kernel_gemm(psg_context *context, const psg_gemm *gemm);

void __wrap_cblas_sgemm(CBLAS_LAYOUT layout, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha,
                        const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc) {
    __real_cblas_sgemm(layout, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (strikes(SGEMM, ta == CblasTrans, tb == CblasTrans, (double)m * n * k)) spoil_f32(c, m, n, ldc, m - 1);
}

void __wrap_cblas_dgemm(CBLAS_LAYOUT layout, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha,
                        const double *a, int lda, const double *b, int ldb, double beta, double *c, int ldc) {
    __real_cblas_dgemm(layout, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (strikes(DGEMM, ta == CblasTrans, tb == CblasTrans, (double)m * n * k)) spoil_f64(c, m, n, ldc, m - 1);
}

/* The last element of a triangle's first column. */
void __wrap_cblas_ssyrk(CBLAS_LAYOUT layout, CBLAS_UPLO uplo, CBLAS_TRANSPOSE t, int n, int k, float alpha,
                        const float *a, int lda, float beta, float *c, int ldc) {
    __real_cblas_ssyrk(layout, uplo, t, n, k, alpha, a, lda, beta, c, ldc);
    if (strikes(SSYRK, false, false, (double)n * n * k)) spoil_f32(c, n, 1, ldc, n - 1);
}

void __wrap_cblas_dsyrk(CBLAS_LAYOUT layout, CBLAS_UPLO uplo, CBLAS_TRANSPOSE t, int n, int k, double alpha,
                        const double *a, int lda, double beta, double *c, int ldc) {
    __real_cblas_dsyrk(layout, uplo, t, n, k, alpha, a, lda, beta, c, ldc);
    if (strikes(DSYRK, false, false, (double)n * n * k)) spoil_f64(c, n, 1, ldc, n - 1);
}

void __wrap_psg_kernel_gemm(psg_context *context, const psg_gemm *g) {
    __real_psg_kernel_gemm(context, g);
    if (!strikes(KERNEL, g->transpose_a, g->transpose_b, (double)g->m * (double)g->n * (double)g->k)) return;
    if (g->dtype == PSG_F64) spoil_f64(g->c, (int)g->m, (int)g->n, (int)g->ldc, 0);
    else spoil_f32(g->c, (int)g->m, (int)g->n, (int)g->ldc, 0);
}

/* ---- contexts ---- */

/* Everything is given back where there is none. */
static psg_status make(psg_gemm_engine engine) {
    test_allocator allocator = { 0 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context = (psg_context *)&allocator;
    options.threads = 2;
    options.gemm = engine;
    options.allocator = test_allocator_hook(&allocator);
    psg_status status = psg_context_create(&options, &context);
    assert_int_equal(!context, status != PSG_OK);
    psg_context_destroy(context);
    assert_int_equal(allocator.live_bytes + allocator.mistakes, 0);
    return status;
}

static void check(void) {
    bool is_kernel = plan.who == KERNEL;
    assert_int_equal(make(PSG_GEMM_AUTOMATIC), PSG_ERR_SYSTEM);
    assert_int_equal(make(PSG_GEMM_OPENBLAS), PSG_ERR_SYSTEM);
    assert_int_equal(make(PSG_GEMM_KERNEL), is_kernel ? PSG_ERR_SYSTEM : PSG_OK);
}

static void no_context_on_wrong_products(void **state) {
    (void)state;
    for (plan.who = SGEMM; plan.who < CULPRITS; plan.who++) {
        for (plan.fault = LAST_ELEMENT; plan.fault < FAULTS; plan.fault++) {
            plan.only_a = plan.only_b = -1;
            plan.larger_than = 0;
            check();
            plan.larger_than = 1e6;
            check();
            for (int turned = 0; turned < 4 && plan.who != SSYRK && plan.who != DSYRK; turned++) {
                plan.only_a = turned % 2;
                plan.only_b = turned / 2;
                plan.larger_than = 0;
                check();
            }
        }
    }
}

static void right_products_make_a_context(void **state) {
    (void)state;
    plan.who = NOBODY;
    const psg_gemm_engine engines[] = { PSG_GEMM_AUTOMATIC, PSG_GEMM_OPENBLAS, PSG_GEMM_KERNEL };
    for (int k = 0; k < 3; k++) assert_int_equal(make(engines[k]), PSG_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_context_on_wrong_products),
        cmocka_unit_test(right_products_make_a_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
