/* The two engines behind gemm.h. */
#ifndef PSG_BLAS_ENGINE_H
#define PSG_BLAS_ENGINE_H

#include "base/context.h"
#include "blas/gemm.h"

static inline const void *psg_gemm_at(const void *base, psg_dtype dtype, int64_t elements) {
    return elements ? (const char *)base + elements * (int64_t)psg_dtype_size(dtype) : base;
}

/* The part of the product over terms [t, t + k). */
psg_gemm psg_gemm_part(const psg_gemm *gemm, int64_t t, int64_t k);

/* ---- openblas.c ---- */
void psg_openblas_gemm(const psg_gemm *gemm);
/* In tiles over the workers; they depend on the shape alone. */
void psg_openblas_rows(psg_context *context, const psg_gemm *gemm);
void psg_openblas_syrk(psg_dtype dtype, int64_t n, int64_t k, double alpha, const void *a, int64_t lda, double beta,
                       void *c, int64_t ldc);
/* "Haswell", ...: the core whose kernels it runs; "" where that is not known. */
const char *psg_openblas_core(void);

/* ---- row_product.c ---- */
void psg_kernel_gemm(psg_context *context, const psg_gemm *gemm);
void psg_kernel_rows(psg_context *context, const psg_gemm *gemm);

#endif
