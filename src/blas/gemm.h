/* Matrix products, on OpenBLAS or on our own kernel as the context says (psg_gemm_engine).  Row-major; types are
 * PSG_F32 or PSG_F64; row strides must be below 2^31. */
#ifndef PSG_BLAS_GEMM_H
#define PSG_BLAS_GEMM_H

#include <stdbool.h>

#include "psg/tensor.h"

/* c (m x n, row stride ldc) = alpha * op(a) op(b) + beta * c, op(a) m x k and op(b) k x n, op a transpose or nothing.
 * With a bias (n elements) it is added to every row instead: beta and what c held do not matter. */
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

/* The tile [i, i + m) x [j, j + n) of the product. */
psg_gemm psg_gemm_tile(const psg_gemm *gemm, int64_t i, int64_t m, int64_t j, int64_t n);

/* Rows of c are batched rows, or may be: on our own kernel, where a row has the same bits in any company, at any place
 * and for any number of threads, unless the context asks for OpenBLAS.  Over the workers, outside psg_parallel; takes
 * psg_panel_memory. */
void psg_gemm_rows(psg_context *context, const psg_gemm *gemm);
/* The same bits on one thread: for use inside psg_parallel. */
void psg_gemm_rows_serial(psg_context *context, const psg_gemm *gemm);

/* A product that belongs to one sample, with sizes that depend on the sample alone.  On one thread: for use inside
 * psg_parallel. */
void psg_gemm_serial(psg_context *context, const psg_gemm *gemm);
/* Likewise: lower triangle of c (n x n) = alpha * a a^T + beta * c, a n x k.  What c holds above the diagonal is
 * undefined afterwards. */
void psg_syrk_serial(psg_context *context, psg_dtype dtype, int64_t n, int64_t k, double alpha, const void *a,
                     int64_t lda, double beta, void *c, int64_t ldc);

#endif
