#include "blas/lapack.h"

#include <lapacke.h>

bool psg_symmetric_eigen(int64_t n, double *a, double *values, bool vectors) {
    if (n == 0) return true;
    return n <= INT32_MAX &&
           LAPACKE_dsyevd(LAPACK_ROW_MAJOR, vectors ? 'V' : 'N', 'L', (lapack_int)n, a, (lapack_int)n, values) == 0;
}

bool psg_cholesky_solve(int64_t n, double *a, double *b) {
    if (n == 0) return true;
    if (n > INT32_MAX) return false;
    lapack_int size = (lapack_int)n;
    return LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', size, a, size) == 0 &&
           LAPACKE_dpotrs(LAPACK_ROW_MAJOR, 'L', size, 1, a, size, b, 1) == 0;
}
