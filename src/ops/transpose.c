/* transpose: two dimensions change places. */
#include <string.h>

#include "base/context.h"
#include "base/shape.h"
#include "ops/operand.h"
#include "ops/ranges.h"
#include "psg/ops.h"

/* ---- shape ---- */

/* With dim0 < dim1 the input is (outer, first, middle, second, inner), the output (outer, second, middle, first,
 * inner). */
typedef struct transpose_job {
    int64_t outer, first, middle, second, inner;
    size_t size;              /* of an element */
    const char *from;
    char *to;
} transpose_job;

static psg_status transpose_shape(psg_call *call) {
    const psg_transpose_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    int dim0, dim1;
    psg_status status = psg_operand_dim(call, "dim0", attributes->dim0, x->rank, &dim0);
    if (!status) status = psg_operand_dim(call, "dim1", attributes->dim1, x->rank, &dim1);
    if (status) return status;
    int batch = psg_call_batch_dim(call, x);
    if (psg_operand_per_sample(call, 0) && dim0 != dim1 && (dim0 == batch || dim1 == batch)) {
        return psg_call_fail(call, PSG_ERR_BATCH, "dim0 %d and dim1 %d would move the batch from dimension %d, where "
                             "the ops of a per-sample pass look for it", attributes->dim0, attributes->dim1, batch);
    }
    psg_tensor output = psg_tensor_swap(x, dim0, dim1);
    return psg_call_output(call, x->dtype, output.rank, output.shape);
}

/* ---- forward and backward ---- */

/* One tile: element (i, j) of `from`, whose rows are from_row elements apart, becomes (j, i) of `to`.  A copy of a size
 * known to the compiler is one move. */
static inline __attribute__((always_inline)) void copy_tile(const char *from, int64_t from_row, char *to,
                                                            int64_t to_row, int64_t rows, int64_t columns,
                                                            size_t size) {
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < rows; i++) {
            memcpy(to + (j * to_row + i) * (int64_t)size, from + (i * from_row + j) * (int64_t)size, size);
        }
    }
}

enum { TILE = 16 };

/* Tile t of the job: first in steps of TILE, second in steps of TILE, for each of the outer and middle indices. */
static void transpose_tile(const transpose_job *job, int64_t t) {
    int64_t tiles_first = (job->first + TILE - 1) / TILE, tiles_second = (job->second + TILE - 1) / TILE;
    int64_t j = t % tiles_second * TILE, i = t / tiles_second % tiles_first * TILE;
    int64_t m = t / tiles_second / tiles_first % job->middle, o = t / tiles_second / tiles_first / job->middle;
    int64_t rows = job->first - i < TILE ? job->first - i : TILE;
    int64_t columns = job->second - j < TILE ? job->second - j : TILE;
    int64_t n = job->inner, block = job->first * job->middle * job->second;
    int64_t from_row = job->middle * job->second * n, to_row = job->middle * job->first * n;
    int64_t from_at = (o * block + m * job->second + j) * n + i * from_row;
    int64_t to_at = (o * block + m * job->first + i) * n + j * to_row;
    const char *from = job->from + from_at * (int64_t)job->size;
    char *to = job->to + to_at * (int64_t)job->size;
    if (n == 1 && job->size == 4) copy_tile(from, from_row, to, to_row, rows, columns, 4);
    else if (n == 1 && job->size == 8) copy_tile(from, from_row, to, to_row, rows, columns, 8);
    else copy_tile(from, from_row / n, to, to_row / n, rows, columns, (size_t)n * job->size);
}

static void transpose_tiles(void *argument, size_t begin, size_t count) {
    for (size_t t = begin; t < begin + count; t++) transpose_tile(argument, (int64_t)t);
}

static void transpose(psg_call *call, const psg_tensor *from, const psg_tensor *to) {
    const psg_transpose_attributes *attributes = call->attributes;
    int a = attributes->dim0 < 0 ? attributes->dim0 + from->rank : attributes->dim0;
    int b = attributes->dim1 < 0 ? attributes->dim1 + from->rank : attributes->dim1;
    int low = a < b ? a : b, high = a < b ? b : a;
    if (!psg_tensor_count(from)) return;
    transpose_job job = {
        .outer = psg_shape_product(low, from->shape),
        .first = from->shape[low],
        .middle = high > low ? psg_shape_product(high - low - 1, from->shape + low + 1) : 1,
        .second = high > low ? from->shape[high] : 1,
        .inner = psg_shape_product(from->rank - high - 1, from->shape + high + 1),
        .size = psg_dtype_size(from->dtype),
        .from = from->data,
        .to = to->data,
    };
    int64_t tiles = (job.first + TILE - 1) / TILE * ((job.second + TILE - 1) / TILE) * job.middle * job.outer;
    size_t unit = psg_range_unit(psg_tensor_count(from) / tiles);
    psg_for_ranges(call->context, (size_t)tiles, unit, transpose_tiles, &job);
}

static psg_status transpose_forward(psg_call *call) {
    transpose(call, &call->input[0].value, &call->output);
    return PSG_OK;
}

static psg_status transpose_backward(psg_call *call) {
    if (call->input[0].grad.data) transpose(call, &call->grad_output, &call->input[0].grad);
    return PSG_OK;
}

static const char *const input_names[] = { "input" };

const psg_op psg_op_transpose = {
    .name = "transpose",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_transpose_attributes),
    .shape = transpose_shape,
    .forward = transpose_forward,
    .backward = transpose_backward,
};

psg_var psg_transpose(psg_tape *tape, psg_var x, int dim0, int dim1) {
    psg_transpose_attributes attributes = { dim0, dim1 };
    return psg_record(tape, &psg_op_transpose, &x, 1, &attributes);
}
