/* What LAPACKE serves, in double, row-major. */
#ifndef PSG_BLAS_LAPACK_H
#define PSG_BLAS_LAPACK_H

#include <stdbool.h>
#include <stdint.h>

/* Eigenvalues (ascending, in values) of the symmetric n x n matrix a, which is overwritten: with vectors, by the unit
 * eigenvectors in its columns.  False when the iteration fails or there is no memory for it. */
bool psg_symmetric_eigen(int64_t n, double *a, double *values, bool vectors);

/* Solves a x = b for symmetric positive definite a (n x n, overwritten by its Cholesky factor); b becomes x.
 * False when a is not positive definite. */
bool psg_cholesky_solve(int64_t n, double *a, double *b);

#endif
