/* weighted_sum: sum_n w[n] grad[n].  A sum over blocks is a sum of sums, so every block is added by itself.
 *
 * A factored block is one product of (B T) x p by (B T) x d.  Its f32 sums are short and flushed to double: 64 samples
 * when T = 1, one sample otherwise, so that what one sample adds is rounded by itself and the sum over samples is one
 * of doubles. */
#include "gradient/weighted_sum.h"

#include <string.h>

#include "base/parallel.h"
#include "blas/gemm.h"
#include "gradient/factored.h"
#include "gradient/plan.h"
#include "gradient/range.h"
#include "gradient/sparse_rows.h"

typedef struct job {
    psg_context *context;
    const psg_kernel_table *kernels;
    psg_piece piece;
    const double *weights;
    bool squares;              /* sum of squares instead of the sum */
    bool accumulate;           /* add to what the output held */
    bool alone;                /* the parameter has no other block */
    psg_tensor out;
    int64_t rows, columns;     /* of a task's rectangle */
    int64_t across;            /* tasks side by side */
} job;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t parts_of(int64_t count, int64_t part) { return (count + part - 1) / part; }

/* ---- where a task adds in double: a tile of its own, which goes to the output once ----
 * Output lines that were in the other worker's cache the step before would cost more than this pass. */

static double *open_tile(int64_t rows, int64_t columns, void *workspace) {
    return memset(psg_tile_memory(workspace), 0, (size_t)(rows * columns) * sizeof(double));
}

/* Element `first` of the output is the tile's first. */
static void close_tile(const job *j, const double *tile, int64_t first, int64_t rows, int64_t columns, int64_t stride) {
    for (int64_t i = 0; i < rows; i++) {
        void *row = psg_elements_mutable(j->out.data, j->out.dtype, first + i * stride);
        j->context->kernels[j->out.dtype]->from_f64((size_t)columns, 1.0, tile + i * columns, row, j->accumulate);
    }
}

/* ---- factored ---- */

/* Of all positions of sample n. */
static psg_product product_of(const job *j, int64_t n, const psg_rectangle *at) {
    psg_product product = psg_product_of(&j->piece, n, at, 0, j->piece.positions);
    product.finish = j->squares ? PSG_FINISH_ADD_SQUARES_F64 : PSG_FINISH_ADD_F64;
    product.alpha = j->piece.scale;
    return product;
}

/* T = 1: weights go into the rows of g.  Squares, and weighted blocks that may cancel against others of their
 * parameter, are taken sample by sample: the norm that a weight was made for says nothing of a single block's. */
static void add_single_positions(const job *j, psg_product product, void *workspace) {
    bool apart = j->squares || (j->weights && !j->alone);
    product.k = (size_t)j->piece.batch;
    product.g_stride = j->piece.g.batch;
    product.a_stride = j->piece.a.batch;
    product.flush = apart ? 1 : PSG_SAMPLES_A_FLUSH;
    if (apart) product.flush_weight = j->weights;
    else product.row_weight = j->weights;
    j->kernels->product(&product, workspace);
}

/* T > 1 and samples evenly spaced: one call, flushed and weighted sample by sample. */
static void add_stacked(const job *j, psg_product product, ptrdiff_t g_stride, ptrdiff_t a_stride, void *workspace) {
    product.k = (size_t)(j->piece.batch * j->piece.positions);
    product.g_stride = g_stride;
    product.a_stride = a_stride;
    product.flush = (size_t)j->piece.positions;
    product.flush_weight = j->weights;
    j->kernels->product(&product, workspace);
}

/* Anything else: a call a sample; sums over more positions than a panel holds are flushed within the sample. */
static void add_by_samples(const job *j, const psg_rectangle *at, double *tile, void *workspace) {
    for (int64_t n = 0; n < j->piece.batch; n++) {
        double weight = j->weights ? j->weights[n] : 1.0;
        if (weight == 0) continue;
        psg_product product = product_of(j, n, at);
        product.flush = PSG_PRODUCT_MAX_K;
        product.alpha *= weight;
        product.c = tile;
        product.c_stride = at->columns;
        j->kernels->product(&product, workspace);
    }
}

static void run_rectangle(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    const psg_piece *p = &j->piece;
    int64_t i = (int64_t)index / j->across * j->rows, c = (int64_t)index % j->across * j->columns;
    psg_rectangle at = { i, smaller(j->rows, p->g.columns - i), c, smaller(j->columns, p->a.columns - c) };
    void *workspace = j->context->workspace[slot];
    double *tile = open_tile(at.rows, at.columns, workspace);
    psg_product product = product_of(j, 0, &at);
    product.c = tile;
    product.c_stride = at.columns;
    ptrdiff_t g_stride, a_stride;
    bool stacked = psg_operand_is_stacked(&p->g, p->batch, p->positions, &g_stride) &&
                   psg_operand_is_stacked(&p->a, p->batch, p->positions, &a_stride) &&
                   p->positions <= (int64_t)PSG_PRODUCT_MAX_K;
    if (p->form == PSG_UNFOLDED) add_by_samples(j, &at, tile, workspace);
    else if (p->positions == 1) add_single_positions(j, product, workspace);
    else if (stacked) add_stacked(j, product, g_stride, a_stride, workspace);
    else add_by_samples(j, &at, tile, workspace);
    close_tile(j, tile, p->offset + i * p->row_stride + c, at.rows, at.columns, p->row_stride);
}

/* Rectangles whose doubles (384 KiB) stay in the second cache level and whose packed operands are used often enough to
 * pay for packing; half as wide when there are few. */
static void add_factored(job *j) {
    const int64_t p = j->piece.g.columns, d = j->piece.a.columns;
    j->rows = psg_even_part(p, 192, 12);
    j->columns = psg_even_part(d, 256, 32);
    /* windows cost little to unfold, long sums pack few columns at once */
    if (j->piece.form == PSG_UNFOLDED) j->columns = psg_even_part(d, 96, 32);
    else if (parts_of(p, j->rows) * parts_of(d, j->columns) < 4) j->columns = psg_even_part(d, 128, 32);
    j->across = parts_of(d, j->columns);
    psg_parallel(j->context, (size_t)(parts_of(p, j->rows) * j->across), run_rectangle, j);
}

/* The ordinary gradient in the real type: one large product on OpenBLAS. */
static bool add_on_blas(const job *j) {
    const psg_piece *p = &j->piece;
    ptrdiff_t g_stride, a_stride;
    bool fits = p->form == PSG_FACTORED && !j->weights && !j->squares && j->out.dtype == p->dtype &&
                p->g.step == 1 && p->a.step == 1 &&
                psg_operand_is_stacked(&p->g, p->batch, p->positions, &g_stride) &&
                psg_operand_is_stacked(&p->a, p->batch, p->positions, &a_stride) && g_stride >= p->g.columns &&
                a_stride >= p->a.columns && g_stride < INT32_MAX && a_stride < INT32_MAX && p->row_stride < INT32_MAX;
    if (!fits) return false;
    psg_gemm gemm = { .dtype = p->dtype, .transpose_a = true, .m = p->g.columns, .n = p->a.columns,
                      .k = p->batch * p->positions, .alpha = p->scale, .beta = j->accumulate ? 1.0 : 0.0,
                      .a = p->g.data, .lda = g_stride, .b = p->a.data, .ldb = a_stride,
                      .c = psg_elements_mutable(j->out.data, j->out.dtype, p->offset), .ldc = p->row_stride };
    psg_gemm_rows(j->context, &gemm);
    return true;
}

/* ---- rows ---- */

static const void *row_part(const psg_piece *p, int64_t n, int64_t t, int64_t first) {
    return psg_elements(psg_row(&p->g, p->dtype, n, t), p->dtype, first * p->g.step);
}

static double weight_of(const job *j, int64_t n) { return j->weights ? j->weights[n] : 1.0; }

/* Unit steps: several rows are added a pass.  Those of weight 0 are not read. */
static void add_adjacent_rows(const job *j, int64_t first, int64_t count, double *sums) {
    const psg_piece *p = &j->piece;
    const void *row[PSG_ROWS_AT_ONCE];
    double weight[PSG_ROWS_AT_ONCE];
    size_t held = 0;
    for (int64_t n = 0; n < p->batch; n++) {
        if (weight_of(j, n) == 0) continue;
        for (int64_t t = 0; t < p->positions; t++) {
            row[held] = row_part(p, n, t, first);
            weight[held++] = weight_of(j, n) * p->scale;
            if (held < PSG_ROWS_AT_ONCE) continue;
            j->kernels->add_rows_to_f64(held, (size_t)count, weight, row, sums);
            held = 0;
        }
    }
    j->kernels->add_rows_to_f64(held, (size_t)count, weight, row, sums);
}

/* positions = the row of one sample, summed over its positions. */
static void sum_positions(const job *j, int64_t n, int64_t first, int64_t count, double *positions) {
    const psg_piece *p = &j->piece;
    memset(positions, 0, (size_t)count * sizeof(double));
    for (int64_t t = 0; t < p->positions; t++) {
        if (p->g.step == 1) {
            j->kernels->add_to_f64((size_t)count, p->scale, row_part(p, n, t, first), positions);
            continue;
        }
        for (int64_t i = 0; i < count; i++) {
            j->kernels->add_to_f64(1, p->scale, row_part(p, n, t, first + i), positions + i);
        }
    }
}

/* Any steps, and squares, which need the sum over positions first. */
static void add_single_rows(const job *j, int64_t first, int64_t count, double *sums, double *positions) {
    for (int64_t n = 0; n < j->piece.batch; n++) {
        double weight = weight_of(j, n);
        if (weight == 0) continue;
        sum_positions(j, n, first, count, positions);
        for (int64_t i = 0; i < count; i++) {
            sums[i] += weight * (j->squares ? positions[i] * positions[i] : positions[i]);
        }
    }
}

static void run_columns(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    void *workspace = j->context->workspace[slot];
    int64_t first = (int64_t)index * j->columns, count = smaller(j->columns, j->piece.g.columns - first);
    double *tile = open_tile(1, count, workspace);
    if (j->piece.g.step == 1 && !j->squares) add_adjacent_rows(j, first, count, tile);
    else add_single_rows(j, first, count, tile, psg_small_memory(workspace));
    close_tile(j, tile, j->piece.offset + first, 1, count, 0);
}

static void add_rows(job *j) {
    int64_t eighth = j->piece.g.columns / 8;
    j->columns = psg_even_part(j->piece.g.columns, eighth < 128 ? 128 : smaller(eighth, 2048), 16);
    psg_parallel(j->context, (size_t)parts_of(j->piece.g.columns, j->columns), run_columns, j);
}

/* ---- one piece, one gradient ---- */

static void add_piece(job *j) {
    j->kernels = j->context->kernels[j->piece.dtype];
    if (!j->piece.g.columns || !j->piece.a.columns) return;
    if (j->piece.form == PSG_ROWS) add_rows(j);
    else if (j->piece.form == PSG_SPARSE_ROWS) {
        psg_sum_sparse(j->context, &j->piece, j->weights, j->squares, j->accumulate, &j->out);
    }
    else if (!add_on_blas(j)) add_factored(j);
}

static void clear(const psg_tensor *out) {
    memset(out->data, 0, (size_t)psg_tensor_count(out) * psg_dtype_size(out->dtype));
}

void psg_sum_gradient(psg_context *context, const psg_gradient *gradient, const double *weights, psg_write write,
                      const psg_tensor *out) {
    int64_t numel = psg_gradient_numel(gradient);
    if (!numel) return;
    bool accumulate = write == PSG_ACCUMULATE;
    for (size_t k = 0; k < gradient->block_count; k++) {
        job j = { .context = context, .piece = psg_piece_of(gradient, k), .weights = weights,
                  .alone = gradient->block_count == 1, .out = *out };
        if (!accumulate && !psg_piece_is_whole(&j.piece, numel)) {
            clear(out);
            accumulate = true;
        }
        j.accumulate = accumulate;
        add_piece(&j);
        accumulate = true;
    }
    if (!accumulate) clear(out);
}

void psg_sum_kept(psg_context *context, const psg_gradient *gradient, const void *kept, const double *weights,
                  psg_write write, const psg_tensor *out) {
    int64_t numel = psg_gradient_numel(gradient);
    psg_piece rows = { .form = PSG_ROWS, .dtype = gradient->dtype, .batch = gradient->batch_size, .positions = 1,
                       .g = { kept, numel, numel, 0, 1 }, .a = { .columns = 1 }, .scale = 1.0, .row_stride = numel };
    job j = { .context = context, .piece = rows, .weights = weights, .alone = true,
              .accumulate = write == PSG_ACCUMULATE, .out = *out };
    add_piece(&j);
}

void psg_sum_squares_of_piece(psg_context *context, const psg_piece *piece, psg_write write, const psg_tensor *out) {
    bool accumulate = write == PSG_ACCUMULATE;
    if (!accumulate && !psg_piece_is_whole(piece, psg_tensor_count(out))) {
        clear(out);
        accumulate = true;
    }
    job j = { .context = context, .piece = *piece, .squares = true, .alone = true, .accumulate = accumulate,
              .out = *out };
    add_piece(&j);
}

psg_status psg_weighted_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                            const double *weights, psg_write write, const psg_tensor *outs) {
    psg_status status = weights ? psg_check_questions(context, "psg_weighted_sum", gradients, count)
                                : psg_check_set(context, "psg_weighted_sum", gradients, count);
    if (!status) status = psg_check_write(context, "psg_weighted_sum", write);
    if (!status) status = psg_check_tensors(context, "psg_weighted_sum", "outs", gradients, count, outs, true);
    if (status) return status;
    for (size_t k = 0; k < count; k++) psg_sum_gradient(context, gradients[k], weights, write, &outs[k]);
    return PSG_OK;
}
