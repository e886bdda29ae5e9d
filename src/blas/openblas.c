#include <cblas.h>
#include <string.h>

#include "base/parallel.h"
#include "blas/engine.h"

/* Weak: another BLAS behind the same soname may lack it. */
extern char *openblas_get_corename(void) __attribute__((weak));

/* What one BLAS call is given at most: well inside 32-bit integers.  Leading dimensions are the caller's to keep below
 * 2^31. */
static const int64_t largest = INT64_C(1) << 30;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static CBLAS_TRANSPOSE transpose(bool yes) { return yes ? CblasTrans : CblasNoTrans; }

static void call_gemm(const psg_gemm *g) {
    CBLAS_TRANSPOSE ta = transpose(g->transpose_a), tb = transpose(g->transpose_b);
    blasint m = (blasint)g->m, n = (blasint)g->n, k = (blasint)g->k;
    blasint lda = (blasint)g->lda, ldb = (blasint)g->ldb, ldc = (blasint)g->ldc;
    if (g->dtype == PSG_F64) {
        cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, g->alpha, g->a, lda, g->b, ldb, g->beta, g->c, ldc);
    } else {
        cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, (float)g->alpha, g->a, lda, g->b, ldb, (float)g->beta, g->c, ldc);
    }
}

static void over_k(const psg_gemm *g) {
    for (int64_t t = 0; t < g->k; t += largest) {
        psg_gemm part = psg_gemm_part(g, t, smaller(largest, g->k - t));
        if (t) part.beta = 1.0;
        call_gemm(&part);
    }
}

/* An empty sum: BLAS versions differ on k = 0, so it is done here.  beta = 0 must not read c. */
static void without_terms(const psg_gemm *g) {
    for (int64_t i = 0; i < g->m; i++) {
        void *row = (void *)(uintptr_t)psg_gemm_at(g->c, g->dtype, i * g->ldc);
        for (int64_t j = 0; j < g->n; j++) {
            if (g->dtype == PSG_F64) ((double *)row)[j] = g->beta == 0 ? 0 : g->beta * ((double *)row)[j];
            else ((float *)row)[j] = g->beta == 0 ? 0 : (float)g->beta * ((float *)row)[j];
        }
    }
}

/* Done a tile at a time, so that the rows are still in the cache when the product is added to them. */
static void start_from_bias(psg_gemm *g) {
    for (int64_t i = 0; i < g->m; i++) {
        void *row = (void *)(uintptr_t)psg_gemm_at(g->c, g->dtype, i * g->ldc);
        memcpy(row, g->bias, (size_t)g->n * psg_dtype_size(g->dtype));
    }
    g->beta = 1;
    g->bias = NULL;
}

void psg_openblas_gemm(const psg_gemm *gemm) {
    psg_gemm started = *gemm, *g = &started;
    if (g->bias) start_from_bias(g);
    if (g->k == 0) {
        without_terms(g);
        return;
    }
    for (int64_t i = 0; i < g->m; i += largest) {
        for (int64_t j = 0; j < g->n; j += largest) {
            psg_gemm part = psg_gemm_tile(g, i, smaller(largest, g->m - i), j, smaller(largest, g->n - j));
            over_k(&part);
        }
    }
}

/* ---- tiles over the workers ---- */

typedef struct tiling {
    const psg_gemm *gemm;
    int64_t rows, columns;   /* of a tile */
    int64_t across;          /* tiles in a row */
} tiling;

static void run_tile(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const tiling *t = argument;
    int64_t i = (int64_t)index / t->across * t->rows, j = (int64_t)index % t->across * t->columns;
    psg_gemm tile = psg_gemm_tile(t->gemm, i, smaller(t->rows, t->gemm->m - i), j, smaller(t->columns, t->gemm->n - j));
    psg_openblas_gemm(&tile);
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

/* Wide tiles pack the operands least: on a Zen 4 with OpenBLAS 0.3.21, (4096, 768, 768) runs at 164 GF/s in tiles of
 * 256 x 256 and at 198 in tiles of 512 x 768. */
static tiling tiles_for(const psg_gemm *g) {
    tiling t = { .gemm = g, .rows = g->m, .columns = g->n };
    const double small = 64.0 * 64 * 64;
    if ((double)g->m * (double)g->n * (double)g->k > small) {
        t.rows = clamp(g->m / 4 / 64 * 64, 128, 512);
        t.columns = g->n <= 800 ? g->n : 512;
    }
    t.rows = clamp(t.rows, 1, g->m > 0 ? g->m : 1);
    t.columns = clamp(t.columns, 1, g->n > 0 ? g->n : 1);
    t.across = (g->n + t.columns - 1) / t.columns;
    return t;
}

void psg_openblas_rows(psg_context *context, const psg_gemm *gemm) {
    tiling t = tiles_for(gemm);
    int64_t down = (gemm->m + t.rows - 1) / t.rows;
    psg_parallel(context, (size_t)(down * t.across), run_tile, &t);
}

void psg_openblas_syrk(psg_dtype dtype, int64_t n, int64_t k, double alpha, const void *a, int64_t lda, double beta,
                       void *c, int64_t ldc) {
    for (int64_t done = 0; done == 0 || done < k; done += largest) {
        blasint part = (blasint)smaller(largest, k - done);
        const void *from = psg_gemm_at(a, dtype, done);
        double keep = done ? 1.0 : beta;
        if (dtype == PSG_F64) {
            cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, part, alpha, from, (blasint)lda, keep, c,
                        (blasint)ldc);
        } else {
            cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, part, (float)alpha, from, (blasint)lda,
                        (float)keep, c, (blasint)ldc);
        }
    }
}

const char *psg_openblas_core(void) { return openblas_get_corename ? openblas_get_corename() : ""; }
