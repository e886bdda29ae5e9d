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

/* Inner products of a sample's rows: c[i][j] = <row i of a, row j of b>, k terms, m x n.  Of row i the columns up to
 * diagonal + i are wanted; what c holds in the others is undefined afterwards. */
typedef struct psg_gram_product {
    psg_dtype dtype;
    int64_t m, n, k, diagonal;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    void *c;
    int64_t ldc;
    void *spare;               /* memory of as many elements as c, ldc apart too, where k is beyond PSG_GRAM_TERMS */
} psg_gram_product;
/* Longer rows are multiplied so many terms at a time: what a BLAS guarantees of the rounding of a sum grows with its
 * terms. */
#define PSG_GRAM_TERMS 256

void psg_gram_serial(psg_context *context, const psg_gram_product *gram);
/* The most roundings that one of k terms passes through in inner products with at most `rows` rows, whoever multiplies:
 * computed and exact ones differ by at most gamma of it times sum_t |a[i][t] b[j][t]|. */
int64_t psg_gram_depth(const psg_context *context, psg_dtype dtype, int64_t rows, int64_t k);

/* Whether a sample's materialised gradient is OpenBLAS's: then it goes through psg_gemm_serial. */
bool psg_gemm_materialises(const psg_context *context);

#endif
