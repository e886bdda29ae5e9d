#include "blas/gemm.h"

#include <string.h>

#include "blas/engine.h"

/* ---- who serves what ---- */

/* For what belongs to one sample where the context leaves the choice: by our kernels and OpenBLAS's core, the first
 * line whose names both begin with these. */
static psg_gemm_engine engine_of_sample(const psg_context *context) {
    static const struct {
        const char *isa, *core;
        psg_gemm_engine engine;
    } measured[] = {
        { "", "", PSG_GEMM_OPENBLAS },
    };
    const char *core = psg_openblas_core();
    size_t line = 0;
    while (strncmp(context->isa, measured[line].isa, strlen(measured[line].isa)) ||
           strncmp(core, measured[line].core, strlen(measured[line].core))) {
        line++;
    }
    return measured[line].engine;
}

/* Chooses and counts. */
static bool takes_openblas(psg_context *context, psg_gemm_engine automatic) {
    psg_gemm_engine engine = context->gemm == PSG_GEMM_AUTOMATIC ? automatic : context->gemm;
    atomic_fetch_add_explicit(&context->products[engine == PSG_GEMM_KERNEL], 1, memory_order_relaxed);
    return engine == PSG_GEMM_OPENBLAS;
}

void psg_gemm_rows(psg_context *context, const psg_gemm *gemm) {
    if (takes_openblas(context, PSG_GEMM_KERNEL)) psg_openblas_rows(context, gemm);
    else psg_kernel_rows(context, gemm);
}

void psg_gemm_rows_serial(psg_context *context, const psg_gemm *gemm) {
    if (takes_openblas(context, PSG_GEMM_KERNEL)) psg_openblas_gemm(gemm);
    else psg_kernel_gemm(context, gemm);
}

void psg_gemm_serial(psg_context *context, const psg_gemm *gemm) {
    if (takes_openblas(context, engine_of_sample(context))) psg_openblas_gemm(gemm);
    else psg_kernel_gemm(context, gemm);
}

/* Blocks of rows up to their last diagonal element. */
static void syrk_by_blocks(psg_context *context, const psg_gemm *gemm) {
    enum { ROWS = 96 };
    for (int64_t i = 0; i < gemm->m; i += ROWS) {
        int64_t rows = gemm->m - i < ROWS ? gemm->m - i : ROWS;
        psg_gemm block = psg_gemm_tile(gemm, i, rows, 0, i + rows);
        psg_kernel_gemm(context, &block);
    }
}

void psg_syrk_serial(psg_context *context, psg_dtype dtype, int64_t n, int64_t k, double alpha, const void *a,
                     int64_t lda, double beta, void *c, int64_t ldc) {
    if (takes_openblas(context, engine_of_sample(context))) {
        psg_openblas_syrk(dtype, n, k, alpha, a, lda, beta, c, ldc);
        return;
    }
    psg_gemm gemm = { .dtype = dtype, .transpose_b = true, .m = n, .n = n, .k = k, .alpha = alpha, .beta = beta, .a = a,
                      .lda = lda, .b = a, .ldb = lda, .c = c, .ldc = ldc };
    syrk_by_blocks(context, &gemm);
}

/* ---- parts of a product ---- */

psg_gemm psg_gemm_tile(const psg_gemm *g, int64_t i, int64_t m, int64_t j, int64_t n) {
    psg_gemm tile = *g;
    tile.m = m;
    tile.n = n;
    tile.a = psg_gemm_at(g->a, g->dtype, g->transpose_a ? i : i * g->lda);
    tile.b = psg_gemm_at(g->b, g->dtype, g->transpose_b ? j * g->ldb : j);
    tile.c = (void *)(uintptr_t)psg_gemm_at(g->c, g->dtype, i * g->ldc + j);
    tile.bias = g->bias ? psg_gemm_at(g->bias, g->dtype, j) : NULL;
    return tile;
}

psg_gemm psg_gemm_part(const psg_gemm *g, int64_t t, int64_t k) {
    psg_gemm part = *g;
    part.k = k;
    part.a = psg_gemm_at(g->a, g->dtype, g->transpose_a ? t * g->lda : t);
    part.b = psg_gemm_at(g->b, g->dtype, g->transpose_b ? t : t * g->ldb);
    return part;
}
