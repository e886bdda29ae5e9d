/* expand: dimensions of size 1 repeated, new ones in front. */
#include "base/shapes.h"
#include "ops/arithmetic/broadcast.h"
#include "ops/shared/operand.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops/shape.h"

/* The input with the output's rank, and the shape that is wanted; -1 keeps a size. */
static psg_status expand_shape(psg_call *call) {
    const psg_expand_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    const int rank = attributes->rank;
    if (rank < x->rank || rank > PSG_MAX_RANK) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "rank must be in [%d, %d] for input of rank %d, and shape not "
                             "NULL", x->rank, PSG_MAX_RANK, x->rank);
    }
    psg_status status = psg_operand_carries_batch(call, 0);
    if (!status) status = psg_operand_check_aligned(call, 0, rank);
    if (status) return status;
    psg_tensor whole = psg_operand_aligned(call, 0, rank);
    for (int d = 0; d < rank; d++) {
        int at = psg_call_dim(call, 0, rank, d);
        int64_t wanted = attributes->shape[d], size = whole.shape[at];
        if (wanted == -1 && d >= rank - x->rank) continue;
        if (wanted < 0 || (size != 1 && wanted != size)) {
            return psg_call_fail(call, PSG_ERR_SHAPE, "shape[%d] is %lld, but that dimension of input has size %lld; "
                                 "only size 1 can be repeated, -1 keeps a size", d, (long long)wanted, (long long)size);
        }
        if (at == 0 && wanted != size && psg_operand_keeps_batch(call, 0)) {
            return psg_call_fail(call, PSG_ERR_BATCH, "shape[%d] is %lld, but the batch of %lld samples cannot be "
                                 "repeated", d, (long long)wanted, (long long)size);
        }
        whole.shape[at] = wanted;
    }
    return psg_call_output(call, x->dtype, rank, whole.shape);
}

static psg_status expand_forward(psg_call *call) {
    psg_tensor view = psg_operand_aligned(call, 0, call->output.rank);
    for (int d = 0; d < view.rank; d++) {
        if (view.shape[d] == 1) view.stride[d] = 0;
        view.shape[d] = call->output.shape[d];
    }
    psg_strided_copy(call->context, &view, &call->output);
    return PSG_OK;
}

static psg_status expand_backward(psg_call *call) {
    psg_tensor grad = psg_operand_aligned(call, 0, call->output.rank);
    grad.data = call->input[0].grad.data;
    int batch = psg_operand_per_sample(call, 0) ? 0 : -1;
    if (grad.data) psg_broadcast_sum(call->context, &call->grad_output, NULL, 1, &grad, batch);
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
