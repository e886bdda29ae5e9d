/* expand: dimensions of size 1 repeated, new ones in front. */
#include "base/shapes.h"
#include "ops/arithmetic/broadcast.h"
#include "ops/shared/operand.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops.h"

/* Dimension d of the input is dimension d + new of the output. */
static psg_status expand_shape(psg_call *call) {
    const psg_expand_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    int64_t shape[PSG_MAX_RANK];
    const int rank = attributes->rank;
    if (rank < x->rank || rank > PSG_MAX_RANK) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "rank must be in [%d, %d] for input of rank %d, and shape not "
                             "NULL",
                             x->rank, PSG_MAX_RANK, x->rank);
    }
    const int new = rank - x->rank;
    for (int d = 0; d < rank; d++) {
        int64_t wanted = attributes->shape[d], size = d < new ? 1 : x->shape[d - new];
        shape[d] = wanted == -1 && d >= new ? size : wanted;
        if (shape[d] >= 0 && (size == 1 || shape[d] == size)) continue;
        return psg_call_fail(call, PSG_ERR_SHAPE, "shape[%d] is %lld, but that dimension of input has size %lld; only "
                             "size 1 can be repeated, -1 keeps a size", d, (long long)wanted, (long long)size);
    }
    psg_status status = psg_operand_carries_batch(call, 0);
    int batch = psg_call_batch_dim(call, x);
    if (!status) status = psg_call_output(call, x->dtype, rank, shape);
    if (!status) status = psg_output_batch_at(call, batch + new);
    if (status || !psg_operand_per_sample(call, 0) || shape[batch + new] == x->shape[batch]) return status;
    return psg_call_fail(call, PSG_ERR_BATCH, "shape[%d] is %lld, but the batch of %lld samples cannot be repeated",
                         batch + new, (long long)shape[batch + new], (long long)x->shape[batch]);
}

static psg_status expand_forward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    psg_tensor view = call->output;
    view.data = x->data;
    for (int d = 0; d < view.rank; d++) {
        int at = d - (view.rank - x->rank);
        view.stride[d] = at < 0 || x->shape[at] == 1 ? 0 : x->stride[at];
    }
    psg_strided_copy(call->context, &view, &call->output);
    return PSG_OK;
}

static psg_status expand_backward(psg_call *call) {
    const psg_tensor *grad = &call->input[0].grad;
    int batch = psg_operand_per_sample(call, 0) ? psg_call_batch_dim(call, &call->output) : -1;
    if (grad->data) psg_broadcast_sum(call->context, &call->grad_output, NULL, 1, grad, batch);
    return PSG_OK;
}

static const char *const input_names[] = { "input" };

const psg_op psg_op_expand = {
    .name = "expand",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_expand_attributes),
    .shape = expand_shape,
    .forward = expand_forward,
    .backward = expand_backward,
};

psg_var psg_expand(psg_tape *tape, psg_var x, int rank, const int64_t *shape) {
    int given = rank >= 0 && rank <= PSG_MAX_RANK && (shape || !rank);
    psg_expand_attributes attributes = { .rank = given ? rank : -1 };
    for (int d = 0; d < attributes.rank; d++) attributes.shape[d] = shape[d];
    return psg_record(tape, &psg_op_expand, &x, 1, &attributes);
}
