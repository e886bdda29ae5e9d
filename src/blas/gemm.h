/* Matrix products on OpenBLAS.  Row-major.  Types are PSG_F32 or PSG_F64; sizes beyond BLAS's integers are cut here;
 * row strides must be below 2^31. */
#ifndef PSG_BLAS_GEMM_H
#define PSG_BLAS_GEMM_H

#include <stdbool.h>

#include "psg/tensor.h"

/* c (m x n, row stride ldc) = alpha * op(a) op(b) + beta * c, op(a) m x k and op(b) k x n, op a transpose or nothing.
 * With a bias (n elements) every row of c starts from it instead: beta and what c held do not matter. */
typedef struct psg_gemm {
    psg_dtype dtype;
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    double alpha, beta;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    void *c;
    int64_t ldc;
    const void *bias;
} psg_gemm;

/* On one thread: for use inside psg_parallel. */
void psg_gemm_serial(const psg_gemm *gemm);

/* Over the context's workers, in tiles of c that depend on the shape alone. */
void psg_gemm_parallel(psg_context *context, const psg_gemm *gemm);

/* Lower triangle of c (n x n) = alpha * a a^T + beta * c, a n x k.  On one thread. */
void psg_syrk_serial(psg_dtype dtype, int64_t n, int64_t k, double alpha, const void *a, int64_t lda, double beta,
                     void *c, int64_t ldc);

#endif
