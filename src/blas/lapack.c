/* LAPACKE's functions of two names: those without _work take memory from malloc and print where there is none, and
 * those with it do the same for what is row-major.  A symmetric matrix is the same in both orders; its eigenvectors,
 * columns in column-major order, are rows in ours. */
#include "blas/lapack.h"

#include <lapacke.h>

#include "base/context.h"
#include "base/memory.h"
#include "base/parallel.h"

/* ---- eigenvalues ---- */

typedef struct eigen {
    lapack_int n;
    char job;
    double *a, *values;
    lapack_int reals, integers;   /* of workspace */
} eigen;

static lapack_int solve(const eigen *e, double *reals, lapack_int *integers) {
    return LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, e->job, 'L', e->n, e->a, e->n, e->values, reals, e->reals, integers,
                               e->integers);
}

/* A length of -1 asks for the best lengths. */
static bool ask_for_workspace(eigen *e) {
    double reals;
    lapack_int integers;
    e->reals = e->integers = -1;
    if (solve(e, &reals, &integers) || !(reals <= INT32_MAX)) return false;
    e->reals = (lapack_int)reals;
    e->integers = integers;
    return true;
}

/* 2 n^2 + 6 n + 1 doubles at least for vectors: a length beyond 32 bits from n = 32767 on. */
psg_status psg_symmetric_eigen(psg_context *context, const char *function, int64_t n, double *a, double *values,
                               bool vectors) {
    if (n == 0) return PSG_OK;
    eigen e = { .n = (lapack_int)n, .job = vectors ? 'V' : 'N', .a = a, .values = values };
    if (n > (vectors ? 32766 : INT32_MAX / 32) || !ask_for_workspace(&e)) {
        return psg_fail(context, PSG_ERR_OVERFLOW, "%s: a matrix of %lld rows is too large for LAPACK", function,
                        (long long)n);
    }
    size_t bytes = (size_t)e.reals * sizeof(double) + (size_t)e.integers * sizeof(lapack_int);
    double *workspace = psg_alloc(context, bytes);
    if (!workspace) return psg_fail_memory(context, function, bytes);
    int saved = psg_blas_enter(context);
    lapack_int failed = solve(&e, workspace, (lapack_int *)(void *)(workspace + e.reals));
    psg_blas_leave(context, saved);
    psg_free(context, workspace);
    if (!failed) return PSG_OK;
    return psg_fail(context, PSG_ERR_NUMERIC, "%s: dsyevd failed on the %lld x %lld matrix", function, (long long)n,
                    (long long)n);
}

/* ---- linear systems ---- */

bool psg_cholesky_solve(psg_context *context, int64_t n, double *a, double *b) {
    if (n == 0) return true;
    if (n > INT32_MAX) return false;
    lapack_int size = (lapack_int)n;
    int saved = psg_blas_enter(context);
    bool solved = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', size, a, size) == 0 &&
                  LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'L', size, 1, a, size, b, size) == 0;
    psg_blas_leave(context, saved);
    return solved;
}
