/* grad_sample: the materialised B x P array, one sample and one range of the parameter a task. */
#include "base/parallel.h"
#include "base/shape.h"
#include "gradient/factored.h"
#include "gradient/grad_sample.h"
#include "gradient/range.h"
#include "gradient/sparse_rows.h"

#include <string.h>

/* An array larger than this leaves the cache before anybody reads it, so it is written around the cache. */
static const int64_t stream_bytes = INT64_C(24) << 20;

typedef struct job {
    psg_context *context;
    const psg_gradient *gradient;
    double scale;
    bool accumulate, stream;
    psg_tensor out;
    int64_t numel, part;       /* elements of a sample, of a task */
    int64_t parts;             /* tasks a sample */
    double *squares;           /* parts doubles a sample, or NULL */
} job;

static const psg_kernel_table *kernels_of(const job *j) { return j->context->kernels[j->gradient->dtype]; }

/* One block that fills the parameter: written straight to its place. */
static bool is_single(const psg_gradient *gradient, int64_t numel) {
    if (gradient->block_count != 1) return false;
    psg_piece piece = psg_piece_of(gradient, 0);
    return psg_is_product(&piece) && piece.positions > 0 && psg_piece_is_whole(&piece, numel);
}

static void store_single(const job *j, int64_t n, int64_t first, int64_t last, void *out, unsigned slot,
                         double *square) {
    psg_piece piece = psg_piece_of(j->gradient, 0);
    psg_rectangle at = { first / piece.a.columns, (last - first) / piece.a.columns, 0, piece.a.columns };
    void *workspace = j->context->workspace[slot];
    double scale = j->scale * piece.scale;
    if (square) {
        *square = psg_store_rectangle_square(kernels_of(j), &piece, n, &at, scale, out, piece.a.columns, j->stream,
                                             workspace);
    } else {
        psg_store_rectangle(kernels_of(j), &piece, n, &at, scale, out, piece.a.columns, j->accumulate, j->stream,
                            workspace);
    }
}

static void store_any(const job *j, int64_t n, int64_t first, int64_t last, void *out, unsigned slot,
                      double *square) {
    size_t count = (size_t)(last - first);
    if (!j->accumulate && j->stream && psg_is_row_sparse(j->gradient)) kernels_of(j)->clear(count, out);
    else if (!j->accumulate) memset(out, 0, count * psg_dtype_size(j->gradient->dtype));
    psg_add_range(j->context, j->gradient, n, j->scale, first, last, out, j->context->workspace[slot]);
    if (square) *square = kernels_of(j)->dot(count, out, out);
}

static void run_direct(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    int64_t n = (int64_t)index / j->parts, first = (int64_t)index % j->parts * j->part;
    int64_t last = first + j->part < j->numel ? first + j->part : j->numel;
    void *out = psg_tensor_offset(&j->out, n * j->out.stride[0] + first);
    double *square = j->squares ? &j->squares[index] : NULL;
    if (is_single(j->gradient, j->numel)) store_single(j, n, first, last, out, slot, square);
    else store_any(j, n, first, last, out, slot, square);
}

/* Tasks of whole rows of the first block; few samples are cut finer, so that there is work for every worker. */
static void cut(job *j) {
    int64_t row = j->gradient->block_count ? j->gradient->blocks[0].row_stride : 1;
    if (row < 1 || row > j->numel) row = j->numel > 0 ? j->numel : 1;
    int64_t rows = (j->numel + row - 1) / row;
    int64_t target = j->gradient->batch_size >= 32 || rows <= 96 ? rows : rows / 8 > 96 ? rows / 8 : 96;
    j->part = psg_even_part(rows, target > 0 ? target : 1, 12) * row;
    j->parts = j->numel ? (j->numel + j->part - 1) / j->part : 0;
}

/* ---- outputs whose samples are not contiguous: through a tile ---- */

static void *element_of(const psg_tensor *sample, int64_t flat) {
    int64_t position = 0;
    for (int d = sample->rank - 1; d >= 0; d--) {
        position += flat % sample->shape[d] * sample->stride[d];
        flat /= sample->shape[d];
    }
    return psg_tensor_offset(sample, position);
}

static void run_scattered(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    int64_t n = (int64_t)index / j->parts, first = (int64_t)index % j->parts * j->part;
    int64_t last = first + j->part < j->numel ? first + j->part : j->numel;
    void *tile = psg_tile_memory(j->context->workspace[slot]);
    job overwrite = *j;
    overwrite.accumulate = overwrite.stream = false;
    store_any(&overwrite, n, first, last, tile, slot, NULL);
    psg_tensor sample = psg_tensor_at(&j->out, n);
    for (int64_t f = first; f < last; f++) {
        kernels_of(j)->scale_row(1, 1.0, psg_elements(tile, j->out.dtype, f - first), 1, element_of(&sample, f),
                                 j->accumulate);
    }
}

static bool samples_are_contiguous(const psg_tensor *out) {
    psg_tensor sample = psg_tensor_at(out, 0);
    return psg_tensor_is_contiguous(&sample);
}

/* ---- vectors that are there already: one row a sample, scaled on the way ---- */

static bool is_vectors(const job *j) {
    if (j->gradient->block_count != 1 || j->squares) return false;
    psg_piece piece = psg_piece_of(j->gradient, 0);
    return piece.form == PSG_ROWS && piece.positions == 1 && psg_piece_is_whole(&piece, j->numel);
}

/* part: samples a task. */
static void run_vectors(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const job *j = argument;
    psg_piece piece = psg_piece_of(j->gradient, 0);
    int64_t first = (int64_t)index * j->part, last = first + j->part;
    for (int64_t n = first; n < last && n < piece.batch; n++) {
        kernels_of(j)->scale_row((size_t)j->numel, j->scale * piece.scale, psg_row(&piece.g, piece.dtype, n, 0),
                                 piece.g.step, psg_tensor_offset(&j->out, n * j->out.stride[0]), j->accumulate);
    }
}

/* ---- the array ---- */

static void in_place(job *j) {
    const int64_t elements_a_task = 1 << 15;
    size_t tasks;
    if (is_vectors(j)) {
        j->part = elements_a_task / j->numel + 1;
        tasks = (size_t)((j->gradient->batch_size + j->part - 1) / j->part);
    } else {
        cut(j);
        tasks = (size_t)(j->gradient->batch_size * j->parts);
    }
    psg_parallel(j->context, tasks, is_vectors(j) ? run_vectors : run_direct, j);
}

static void scattered(job *j) {
    int64_t tile = (int64_t)(PSG_TILE_BYTES / psg_dtype_size(j->out.dtype));
    j->part = j->numel < tile ? j->numel : tile;
    j->parts = (j->numel + j->part - 1) / j->part;
    psg_parallel(j->context, (size_t)(j->gradient->batch_size * j->parts), run_scattered, j);
}

static void materialise(job *j) {
    if (!j->gradient->batch_size || !j->numel) return;
    if (samples_are_contiguous(&j->out)) in_place(j);
    else scattered(j);
}

static job job_for(psg_context *context, const psg_gradient *gradient, double scale, const psg_tensor *out) {
    job j = { .context = context, .gradient = gradient, .scale = scale, .out = *out,
              .numel = psg_gradient_numel(gradient) };
    int64_t bytes = j.numel * gradient->batch_size * (int64_t)psg_dtype_size(gradient->dtype);
    j.stream = bytes > stream_bytes;
    return j;
}

static psg_status check_out(psg_context *context, const psg_gradient *gradient, const psg_tensor *out) {
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (!out) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_grad_sample: out is NULL");
    bool valid = psg_tensor_is_valid(out);
    if (!valid || out->rank != gradient->rank + 1 || out->shape[0] != gradient->batch_size ||
        !psg_shape_equal(gradient->rank, gradient->shape, out->rank - 1, out->shape + 1)) {
        return psg_fail(context, PSG_ERR_SHAPE,
                        "psg_grad_sample: out must have shape (%lld, *%s), is %s", (long long)gradient->batch_size,
                        psg_shape_text(gradient->rank, gradient->shape, want),
                        valid ? psg_tensor_text(out, have) : "no valid view");
    }
    if (out->dtype != gradient->dtype) {
        return psg_fail(context, PSG_ERR_DTYPE, "psg_grad_sample: out is %s, the gradient is %s",
                        psg_dtype_name(out->dtype), psg_dtype_name(gradient->dtype));
    }
    return PSG_OK;
}

psg_status psg_grad_sample(psg_context *context, const psg_gradient *gradient, double scale, psg_write write,
                           const psg_tensor *out) {
    psg_status status = psg_check_questions(context, "psg_grad_sample", &gradient, 1);
    if (!status) status = psg_check_write(context, "psg_grad_sample", write);
    if (!status) status = check_out(context, gradient, out);
    if (status) return status;
    job j = job_for(context, gradient, scale, out);
    j.accumulate = write == PSG_ACCUMULATE;
    materialise(&j);
    return PSG_OK;
}

/* ---- for clipped_sum: gradients kept between their norms and their sum ---- */

size_t psg_kept_parts(const psg_gradient *gradient) {
    job j = { .gradient = gradient, .numel = psg_gradient_numel(gradient) };
    cut(&j);
    return (size_t)j.parts;
}

void psg_keep_with_squares(psg_context *context, const psg_gradient *gradient, void *kept, double *squares) {
    int64_t shape[2] = { gradient->batch_size, psg_gradient_numel(gradient) };
    psg_tensor out = psg_tensor_of(gradient->dtype, kept, 2, shape);
    job j = job_for(context, gradient, 1.0, &out);
    j.squares = squares;
    materialise(&j);
}
