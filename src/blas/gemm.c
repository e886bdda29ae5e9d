#include "blas/gemm.h"

#include <string.h>

#include "blas/engine.h"
#include "kernels.h"

/* ---- who serves what ---- */

/* Where the context leaves the choice, by our kernels and OpenBLAS's core: the first line whose names both begin with
 * these.  OpenBLAS serves what it does within 3 % of our kernels' time or faster.  A core of narrower vectors than ours
 * is left alone: OpenBLAS falls back to one, of 16 bytes even (Prescott), on processors that are newer than it is. */
typedef struct service {
    const char *isa, *core;
    int64_t gram_rows, gram_bytes; /* our kernels multiply Grams of at most so many rows of at least so many bytes */
    psg_gemm_engine others;
} service;

static const service *service_of(const psg_context *context) {
    static const service measured[] = {
        { "avx512", "SkylakeX", 256, 1024, PSG_GEMM_OPENBLAS },
        { "avx512", "Cooperlake", 256, 1024, PSG_GEMM_OPENBLAS },
        { "avx512", "Sapphire", 256, 1024, PSG_GEMM_OPENBLAS },
        { "avx512", "", INT64_MAX, 0, PSG_GEMM_KERNEL },
        { "avx2", "Haswell", 64, 1024, PSG_GEMM_OPENBLAS },
        { "avx2", "Zen", 64, 1024, PSG_GEMM_OPENBLAS },
        { "avx2", "SkylakeX", 64, 1024, PSG_GEMM_OPENBLAS },
        { "avx2", "Cooperlake", 64, 1024, PSG_GEMM_OPENBLAS },
        { "avx2", "Sapphire", 64, 1024, PSG_GEMM_OPENBLAS },
        { "avx2", "", INT64_MAX, 0, PSG_GEMM_KERNEL },
        { "", "", 0, 0, PSG_GEMM_OPENBLAS },
    };
    const char *core = psg_openblas_core();
    const service *line = measured;
    while (strncmp(context->isa, line->isa, strlen(line->isa)) || strncmp(core, line->core, strlen(line->core))) line++;
    return line;
}

static psg_gemm_engine engine_of_sample(const psg_context *context) { return service_of(context)->others; }

static psg_gemm_engine engine_of_gram(const psg_context *context, psg_dtype dtype, int64_t rows, int64_t k) {
    const service *line = service_of(context);
    bool ours = rows <= line->gram_rows && k * (int64_t)psg_dtype_size(dtype) >= line->gram_bytes;
    return ours ? PSG_GEMM_KERNEL : line->others;
}

bool psg_gemm_materialises(const psg_context *context) { return context->gemm == PSG_GEMM_OPENBLAS; }

static psg_gemm_engine chosen(const psg_context *context, psg_gemm_engine automatic) {
    return context->gemm == PSG_GEMM_AUTOMATIC ? automatic : context->gemm;
}

/* Chooses and counts. */
static bool takes_openblas(psg_context *context, psg_gemm_engine automatic) {
    psg_gemm_engine engine = chosen(context, automatic);
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

/* ---- Grams ---- */

/* The square at the end of the rows is symmetric where they are the rows of a; below 48 of them a whole product is
 * faster. */
static void gram_of_few_terms(const psg_gram_product *g) {
    bool square = g->m >= 48 && g->n == g->diagonal + g->m && g->lda == g->ldb &&
                  g->a == psg_gemm_at(g->b, g->dtype, g->diagonal * g->ldb);
    psg_gemm left = { .dtype = g->dtype, .transpose_b = true, .m = g->m, .n = square ? g->diagonal : g->n, .k = g->k,
                      .alpha = 1, .a = g->a, .lda = g->lda, .b = g->b, .ldb = g->ldb, .c = g->c, .ldc = g->ldc };
    void *rest = (void *)(uintptr_t)psg_gemm_at(g->c, g->dtype, g->diagonal);
    if (left.n) psg_openblas_gemm(&left);
    if (square) psg_openblas_syrk(g->dtype, g->m, g->k, 1.0, g->a, g->lda, 0.0, rest, g->ldc);
}

static void gram_by_openblas(const psg_context *context, const psg_gram_product *g) {
    psg_gram_product part = *g;
    for (int64_t t = 0; t == 0 || t < g->k; t += PSG_GRAM_TERMS) {
        part.k = g->k - t < PSG_GRAM_TERMS ? g->k - t : PSG_GRAM_TERMS;
        part.a = psg_gemm_at(g->a, g->dtype, t);
        part.b = psg_gemm_at(g->b, g->dtype, t);
        part.c = t ? g->spare : g->c;
        gram_of_few_terms(&part);
        for (int64_t i = 0; t && i < g->m; i++) {
            int64_t wanted = g->n < g->diagonal + i + 1 ? g->n : g->diagonal + i + 1;
            void *to = (void *)(uintptr_t)psg_gemm_at(g->c, g->dtype, i * g->ldc);
            const void *from = psg_gemm_at(g->spare, g->dtype, i * g->ldc);
            context->kernels[g->dtype]->scale_row((size_t)wanted, 1.0, from, 1, to, true);
        }
    }
}

static void gram_by_kernel(const psg_context *context, const psg_gram_product *g) {
    psg_row_dots dots = { .m = (size_t)g->m, .n = (size_t)g->n, .k = (size_t)g->k, .diagonal = (size_t)g->diagonal,
                          .x = g->a, .x_stride = g->lda, .y = g->b, .y_stride = g->ldb, .c = g->c, .c_stride = g->ldc };
    context->kernels[g->dtype]->row_dots(&dots);
}

void psg_gram_serial(psg_context *context, const psg_gram_product *gram) {
    psg_gemm_engine engine = engine_of_gram(context, gram->dtype, gram->n, gram->k);
    if (takes_openblas(context, engine)) gram_by_openblas(context, gram);
    else gram_by_kernel(context, gram);
}

/* Fewer rows may be ours where all of them are OpenBLAS's, never the other way round.  Of a BLAS nothing is known but
 * that a sum of k products rounds each at most k times; then the parts after its own. */
int64_t psg_gram_depth(const psg_context *context, psg_dtype dtype, int64_t rows, int64_t k) {
    int64_t ours = (int64_t)context->kernels[dtype]->row_dots_depth((size_t)k);
    int64_t blas = (k < PSG_GRAM_TERMS ? k : PSG_GRAM_TERMS) + (k + PSG_GRAM_TERMS - 1) / PSG_GRAM_TERMS;
    bool is_ours = chosen(context, engine_of_gram(context, dtype, rows, k)) == PSG_GEMM_KERNEL;
    return is_ours || blas < ours ? ours : blas;
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
