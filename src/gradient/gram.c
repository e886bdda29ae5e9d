/* gram: inner products between samples, in double.
 *
 * For each tile of the parameter every sample's gradient there is written as a row of doubles, D (B x F), and D D^T is
 * added: 2 B T p d + B^2 p d operations and one tile of memory.  A factored gradient with T = 1 needs no p x d object:
 * <g_i a_i^T, g_j a_j^T> = <g_i, g_j> <a_i, a_j>. */
#include <string.h>

#include "base/parallel.h"
#include "base/shape.h"
#include "blas/gemm.h"
#include "gradient/plan.h"
#include "gradient/range.h"
#include "gradient/sparse_rows.h"

typedef struct job {
    psg_context *context;
    const psg_gradient *gradient;
    double *gram;
    int64_t batch;
    double *tile;            /* B x width doubles, row stride width */
    int64_t first, width;
    int64_t block;           /* samples a task */
    psg_piece piece;
} job;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- any form: tiles ---- */

static void widen_row(const job *j, const void *row, int64_t count, double *out) {
    memset(out, 0, (size_t)count * sizeof(double));
    j->context->kernels[j->gradient->dtype]->add_to_f64((size_t)count, 1.0, row, out);
}

static void run_fill(void *argument, size_t n, unsigned slot) {
    const job *j = argument;
    void *workspace = j->context->workspace[slot], *part = psg_tile_memory(workspace);
    memset(part, 0, (size_t)j->width * psg_dtype_size(j->gradient->dtype));
    psg_add_range(j->context, j->gradient, (int64_t)n, 1.0, j->first, j->first + j->width, part, workspace);
    widen_row(j, part, j->width, j->tile + (int64_t)n * j->width);
}

/* Rows [i, i + block) of gram += D D^T, up to the diagonal block. */
static void run_product(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const job *j = argument;
    int64_t i = (int64_t)index * j->block, rows = smaller(j->block, j->batch - i);
    psg_gemm gemm = { .dtype = PSG_F64, .transpose_b = true, .m = rows, .n = i + rows, .k = j->width, .alpha = 1,
                      .beta = 1, .a = j->tile + i * j->width, .lda = j->width, .b = j->tile, .ldb = j->width,
                      .c = j->gram + i * j->batch, .ldc = j->batch };
    psg_gemm_rows_serial(j->context, &gemm);
}

/* Doubles of a sample in a tile: the B rows of it take a workspace, and at least 16 each. */
static int64_t tile_width(const psg_gradient *gradient) {
    int64_t room = (int64_t)(PSG_WORKSPACE_BYTES / sizeof(double)) / gradient->batch_size;
    int64_t most = (int64_t)(PSG_TILE_BYTES / sizeof(double));
    return smaller(smaller(room > 16 ? room : 16, most), psg_gradient_numel(gradient));
}

static void add_by_tiles(job *j) {
    int64_t numel = psg_gradient_numel(j->gradient), width = tile_width(j->gradient);
    for (j->first = 0; j->first < numel; j->first += width) {
        j->width = smaller(width, numel - j->first);
        psg_parallel(j->context, (size_t)j->batch, run_fill, j);
        psg_parallel(j->context, (size_t)((j->batch + j->block - 1) / j->block), run_product, j);
    }
}

/* ---- T = 1 ---- */

/* out (rows x columns) = inner products of samples [i, i + rows) and [k, k + columns), in double. */
static void inner_products(const job *j, const psg_operand_view *x, int64_t i, int64_t rows, int64_t k,
                           int64_t columns, double *out) {
    const psg_kernel_table *kernels = j->context->kernels[j->piece.dtype];
    for (int64_t r = 0; r < rows; r++) {
        const void *left = psg_row(x, j->piece.dtype, i + r, 0);
        for (int64_t c = 0; c < columns; c++) {
            out[r * columns + c] = kernels->dot((size_t)x->columns, left, psg_row(x, j->piece.dtype, k + c, 0));
        }
    }
}

static void run_pairs(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    int64_t i = (int64_t)index * j->block, rows = smaller(j->block, j->batch - i);
    double *g = j->context->workspace[slot], *a = g + j->block * j->block;
    double square = j->piece.scale * j->piece.scale;
    for (int64_t k = 0; k < i + rows; k += j->block) {
        int64_t columns = smaller(j->block, j->batch - k);
        inner_products(j, &j->piece.g, i, rows, k, columns, g);
        inner_products(j, &j->piece.a, i, rows, k, columns, a);
        for (int64_t r = 0; r < rows; r++) {
            double *out = j->gram + (i + r) * j->batch + k;
            for (int64_t c = 0; c < columns; c++) out[c] += square * g[r * columns + c] * a[r * columns + c];
        }
    }
}

/* ---- the question ---- */

static bool is_empty(const psg_gradient *gradient) {
    return !gradient->block_count || !gradient->batch_size || !psg_gradient_numel(gradient);
}

/* The most memory that a gradient of the set needs: a tile, or the rows of a table that the samples touch. */
static size_t memory_bytes(const psg_context *context, const psg_gradient *const *gradients, size_t count) {
    size_t most = 0;
    for (size_t k = 0; k < count; k++) {
        if (is_empty(gradients[k])) continue;
        psg_route route = psg_plan_gram(context, gradients[k]);
        size_t bytes = route == PSG_ROUTE_IDENTITY ? 0 : route == PSG_ROUTE_MERGE ? psg_sparse_gram_bytes(gradients[k])
                       : (size_t)(gradients[k]->batch_size * tile_width(gradients[k])) * sizeof(double);
        if (bytes > most) most = bytes;
    }
    return most;
}

static void add_gradient(job *j) {
    if (is_empty(j->gradient)) return;
    switch (psg_plan_gram(j->context, j->gradient)) {
    case PSG_ROUTE_MERGE: psg_add_sparse_gram(j->context, j->gradient, j->tile, j->gram); break;
    case PSG_ROUTE_IDENTITY:
        j->piece = psg_piece_of(j->gradient, 0);
        psg_parallel(j->context, (size_t)((j->batch + j->block - 1) / j->block), run_pairs, j);
        break;
    default: add_by_tiles(j);
    }
}

static void mirror(double *gram, int64_t batch) {
    for (int64_t i = 0; i < batch; i++) {
        for (int64_t k = 0; k < i; k++) gram[k * batch + i] = gram[i * batch + k];
    }
}

psg_status psg_gram(psg_context *context, const psg_gradient *const *gradients, size_t count, double *gram) {
    psg_status status = psg_check_questions(context, "psg_gram", gradients, count);
    if (status) return status;
    if (!gram) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_gram: gram is NULL");
    int64_t batch = gradients[0]->batch_size, cells;
    size_t bytes;
    if (!psg_size_multiply(batch, batch, &cells) || !psg_size_bytes(cells, sizeof(double), &bytes)) {
        return psg_fail(context, PSG_ERR_OVERFLOW, "psg_gram: B x B does not fit, B = %lld", (long long)batch);
    }
    size_t bytes_needed = memory_bytes(context, gradients, count);
    double *memory = psg_scratch(context, bytes_needed);
    if (!memory) return psg_fail_memory(context, "psg_gram", bytes_needed);
    memset(gram, 0, bytes);
    for (size_t k = 0; k < count; k++) {
        job j = { .context = context, .gradient = gradients[k], .gram = gram, .batch = batch, .tile = memory,
                  .block = 32 };
        add_gradient(&j);
    }
    mirror(gram, batch);
    return PSG_OK;
}
