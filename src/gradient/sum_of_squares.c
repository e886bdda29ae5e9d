/* sum_of_squares: sum_n grad[n]^2, elementwise.  One block is squared as it is summed; several must be added first. */
#include <string.h>

#include "base/parallel.h"
#include "gradient/range.h"
#include "gradient/sparse_rows.h"
#include "gradient/weighted_sum.h"

typedef struct job {
    psg_context *context;
    const psg_gradient *gradient;
    psg_tensor out;
    bool accumulate;
    int64_t numel, part;
} job;

/* A tile of the parameter: every sample's gradient there, squared and added in double. */
static void run_tile(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    const psg_kernel_table *kernels = j->context->kernels[j->gradient->dtype];
    int64_t first = (int64_t)index * j->part, last = first + j->part < j->numel ? first + j->part : j->numel;
    size_t count = (size_t)(last - first);
    void *tile = psg_tile_memory(j->context->workspace[slot]);
    double *sums = psg_small_memory(j->context->workspace[slot]);
    memset(sums, 0, count * sizeof(double));
    for (int64_t n = 0; n < j->gradient->batch_size; n++) {
        memset(tile, 0, count * psg_dtype_size(j->gradient->dtype));
        psg_add_range(j->context, j->gradient, n, 1.0, first, last, tile, j->context->workspace[slot]);
        kernels->add_squares_to_f64(count, 1.0, tile, sums);
    }
    void *out = psg_elements_mutable(j->out.data, j->out.dtype, first);
    j->context->kernels[j->out.dtype]->from_f64(count, 1.0, sums, out, j->accumulate);
}

static void square_mixed(job *j) {
    j->part = psg_even_part(j->numel, (int64_t)(PSG_SMALL_BYTES / sizeof(double)) / 2, 16);
    psg_parallel(j->context, (size_t)((j->numel + j->part - 1) / j->part), run_tile, j);
}

static void square_gradient(psg_context *context, const psg_gradient *gradient, psg_write write,
                            const psg_tensor *out) {
    job j = { .context = context, .gradient = gradient, .out = *out, .accumulate = write == PSG_ACCUMULATE,
              .numel = psg_gradient_numel(gradient) };
    if (!j.numel) return;
    if (gradient->block_count == 1) {
        psg_piece piece = psg_piece_of(gradient, 0);
        int64_t most = piece.form == PSG_SPARSE_ROWS ? PSG_SORTED_MOST : (int64_t)PSG_PRODUCT_MAX_K;
        if (piece.positions <= most) {
            psg_sum_squares_of_piece(context, &piece, write, out);
            return;
        }
    }
    square_mixed(&j);
}

psg_status psg_sum_of_squares(psg_context *context, const psg_gradient *const *gradients, size_t count,
                              psg_write write, const psg_tensor *outs) {
    psg_status status = psg_check_questions(context, "psg_sum_of_squares", gradients, count);
    if (!status) status = psg_check_write(context, "psg_sum_of_squares", write);
    if (!status) status = psg_check_tensors(context, "psg_sum_of_squares", "outs", gradients, count, outs, true);
    if (status) return status;
    for (size_t k = 0; k < count; k++) square_gradient(context, gradients[k], write, &outs[k]);
    return PSG_OK;
}
