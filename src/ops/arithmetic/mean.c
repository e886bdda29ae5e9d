/* mean, sum over some dimensions. */
#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/arithmetic/broadcast.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/shape.h"

/* What tells the two apart. */
typedef struct reduce_traits { bool divides; } reduce_traits;

/* ---- shape ---- */

/* reduced[d]: dimension d is summed over. */
static psg_status find_reduced(psg_call *call, bool reduced[PSG_MAX_RANK]) {
    const psg_mean_attributes *attributes = call->attributes;
    int rank = call->input[0].value.rank, dim;
    for (int d = 0; d < PSG_MAX_RANK; d++) reduced[d] = false;
    if (attributes->count < 1 || attributes->count > rank) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "count is %d, must be in [1, %d] for input of rank %d, and dims not "
                             "NULL", attributes->count, rank, rank);
    }
    for (int k = 0; k < attributes->count; k++) {
        psg_status status = psg_operand_dim(call, "a dim", attributes->dims[k], rank, &dim);
        if (status) return status;
        if (reduced[dim]) return psg_call_fail(call, PSG_ERR_ARGUMENT, "dim %d is given twice", attributes->dims[k]);
        reduced[dim] = true;
    }
    return PSG_OK;
}

/* The input's shape with 1 for every dimension summed over. */
static psg_tensor kept_view(const psg_call *call, const bool reduced[PSG_MAX_RANK], void *data) {
    psg_tensor kept = call->input[0].value;
    for (int d = 0; d < kept.rank; d++) {
        if (reduced[d]) kept.shape[d] = 1;
    }
    return psg_tensor_of(kept.dtype, data, kept.rank, kept.shape);
}

/* In a per-sample pass the batch stays, or everything is summed: then the result is a loss. */
static psg_status check_batch(psg_call *call, const bool reduced[PSG_MAX_RANK], int64_t result_count) {
    const psg_tensor *x = &call->input[0].value;
    if (!psg_operand_keeps_batch(call, 0)) return PSG_OK;
    psg_status status = psg_operand_carries_batch(call, 0);
    if (status) return status;
    if (reduced[0]) call->reduces = ((const reduce_traits *)call->op->traits)->divides ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    if (!reduced[0] || result_count == 1) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "dims contain %d, the batch dimension: a %s over it that is not a "
                         "loss of one element mixes the samples", psg_call_dim(call, 0, x->rank, 0), call->op->name);
}

static psg_status reduce_shape(psg_call *call) {
    const psg_mean_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    bool reduced[PSG_MAX_RANK];
    psg_status status = psg_operands_real(call, 1);
    if (!status) status = find_reduced(call, reduced);
    if (status) return status;
    int64_t shape[PSG_MAX_RANK];
    int rank = 0;
    for (int d = 0; d < x->rank; d++) {
        if (!reduced[d] || attributes->keepdim) shape[rank++] = reduced[d] ? 1 : x->shape[d];
    }
    status = psg_call_output(call, x->dtype, rank, shape);
    return status ? status : check_batch(call, reduced, psg_shape_product(rank, shape));
}

/* ---- forward ---- */

/* Of a sum 1.  Of a mean 1 / the number of elements behind it; infinite when there are none, and 0 for a loss of no
 * samples.  Times scale, which cancels exactly in the batch. */
static double weight_of(const psg_call *call, double scale) {
    if (!((const reduce_traits *)call->op->traits)->divides) return scale;
    int64_t count = psg_tensor_count(&call->input[0].value), results = psg_tensor_count(&call->output);
    if (!count && psg_operand_per_sample(call, 0) && call->pass->batch_size == 0) return 0;
    return results ? scale * (double)results / (double)count : 0;
}

static double sum_range(void *argument, size_t begin, size_t count) {
    const psg_call *call = argument;
    return psg_call_kernels(call)->sum(count, psg_tensor_offset(&call->input[0].value, (int64_t)begin));
}

static psg_status reduce_forward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    double weight = weight_of(call, 1), sum;
    bool reduced[PSG_MAX_RANK];
    psg_status status = find_reduced(call, reduced);
    int batch = psg_operand_per_sample(call, 0) && !reduced[0] ? 0 : -1;
    if (psg_tensor_count(&call->output) == 1 && batch < 0) {
        if (!status) status = psg_sum_ranges(call, (size_t)psg_tensor_count(x), sum_range, call, &sum);
        if (!status) psg_scalar_set(call, sum * weight, &call->output);
        return status;
    }
    psg_tensor kept = kept_view(call, reduced, call->output.data);
    psg_broadcast_sum(call->context, x, NULL, weight, &kept, batch);
    return status;
}

/* ---- backward ---- */

static psg_status reduce_backward(psg_call *call) {
    const psg_tensor *grad = &call->input[0].grad;
    if (!grad->data) return PSG_OK;
    bool reduced[PSG_MAX_RANK];
    psg_status status = find_reduced(call, reduced);
    int64_t element;
    psg_tensor weight = psg_tensor_of(grad->dtype, &element, 0, NULL);
    psg_tensor kept = kept_view(call, reduced, call->grad_output.data);
    psg_scalar_set(call, weight_of(call, call->loss_scale), &weight);
    psg_broadcast_apply(call->context, psg_call_kernels(call)->broadcast_mul, grad, &kept, &weight);
    return status;
}

static const char *const input_names[] = { "input" };

const psg_op psg_op_mean = {
    .name = "mean",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_mean_attributes),
    .scales_loss = 1,
    .shape = reduce_shape,
    .forward = reduce_forward,
    .backward = reduce_backward,
    .traits = &(const reduce_traits){ true },
};

const psg_op psg_op_sum = {
    .name = "sum",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_sum_attributes),
    .scales_loss = 1,
    .shape = reduce_shape,
    .forward = reduce_forward,
    .backward = reduce_backward,
    .traits = &(const reduce_traits){ false },
};

static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, int count, const int *dims, int keepdim) {
    bool given = dims && count >= 0 && count <= PSG_MAX_RANK;
    psg_mean_attributes attributes = { .count = given ? count : -1, .keepdim = keepdim };
    for (int k = 0; k < attributes.count; k++) attributes.dims[k] = dims[k];
    return psg_record(tape, op, &x, 1, &attributes);
}

psg_var psg_mean(psg_tape *tape, psg_var x, int count, const int *dims, int keepdim) {
    return record(tape, &psg_op_mean, x, count, dims, keepdim);
}

psg_var psg_sum(psg_tape *tape, psg_var x, int count, const int *dims, int keepdim) {
    return record(tape, &psg_op_sum, x, count, dims, keepdim);
}
