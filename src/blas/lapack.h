/* What LAPACKE serves, in double.  Its memory is the context's. */
#ifndef PSG_BLAS_LAPACK_H
#define PSG_BLAS_LAPACK_H

#include <stdbool.h>

#include "psg/base.h"

/* Eigenvalues (ascending, in values) of the symmetric n x n matrix a, which is overwritten: with vectors, by the unit
 * eigenvectors in its rows.  PSG_ERR_NUMERIC when the iteration fails, PSG_ERR_MEMORY, PSG_ERR_OVERFLOW when LAPACK's
 * 32-bit integers cannot say how much: the messages begin with function. */
psg_status psg_symmetric_eigen(psg_context *context, const char *function, int64_t n, double *a, double *values,
                               bool vectors);

/* Solves a x = b for symmetric positive definite a (n x n, overwritten by its Cholesky factor); b becomes x.
 * False when a is not positive definite. */
bool psg_cholesky_solve(psg_context *context, int64_t n, double *a, double *b);

#endif
