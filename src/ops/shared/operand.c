#include "ops/shared/operand.h"

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"

psg_status psg_operands_real(psg_call *call, int count) {
    for (int k = 0; k < count; k++) {
        psg_dtype dtype = call->input[k].value.dtype;
        if (call->input[k].role == PSG_ABSENT || psg_dtype_is_real(dtype)) continue;
        return psg_call_fail(call, PSG_ERR_DTYPE, "%s is %s, must be f32 or f64", call->op->input_names[k],
                             psg_dtype_name(dtype));
    }
    return PSG_OK;
}

bool psg_operand_per_sample(const psg_call *call, int k) {
    return !call->pass->ordinary && call->input[k].role == PSG_BATCHED;
}

bool psg_operand_keeps_batch(const psg_call *call, int k) {
    return psg_operand_per_sample(call, k) || call->input[k].batch_second;
}

bool psg_call_is_batch_second(const psg_call *call) {
    bool second = call->op->repeats_over_batch && call->pass->batch_second;
    for (int k = 0; k < call->input_count; k++) second |= call->input[k].batch_second != 0;
    return second;
}

psg_status psg_operand_carries_batch(psg_call *call, int k) {
    if (!psg_operand_per_sample(call, k)) return PSG_OK;
    const psg_tensor *value = &call->input[k].value;
    if (value->rank > 0 && value->shape[0] == call->pass->batch_size) return PSG_OK;
    char text[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_BATCH, "%s has shape %s, in a per-sample pass its dimension 0 must be the "
                         "batch of %lld samples", call->op->input_names[k], psg_tensor_text(value, text),
                         (long long)call->pass->batch_size);
}

psg_status psg_operand_beside_batch(psg_call *call, int k) {
    const psg_operand *operand = &call->input[k];
    bool turned = operand->role != PSG_ABSENT && !operand->batch_second && operand->value.rank >= 3 &&
                  psg_call_is_batch_second(call);
    if (!turned) return psg_operand_carries_batch(call, k);
    char text[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_BATCH, "%s is a constant of shape %s, which would run along the batch of a "
                         "batch_second pass; make it a psg_input", call->op->input_names[k],
                         psg_tensor_text(&operand->value, text));
}

psg_status psg_output_like_input(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    return psg_call_output(call, x->dtype, x->rank, x->shape);
}

int psg_operand_dim_of(const psg_call *call, int dim, int rank) {
    return psg_call_dim(call, 0, rank, dim < 0 ? dim + rank : dim);
}

psg_status psg_operand_dim(psg_call *call, const char *name, int dim, int rank, int *found) {
    bool there = dim >= -rank && dim < rank;
    *found = there ? psg_operand_dim_of(call, dim, rank) : 0;
    if (there) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %d, must be in [%d, %d) for %s of rank %d", name, dim, -rank,
                         rank, call->op->input_names[0], rank);
}

psg_status psg_operand_not_batch(psg_call *call, int k, const char *name, int dim, const char *reason) {
    psg_status status = psg_operand_carries_batch(call, k);
    if (status || dim != 0 || !psg_operand_keeps_batch(call, k)) return status;
    return psg_call_fail(call, PSG_ERR_BATCH, "%s is %d, the batch dimension: %s", name,
                         psg_call_dim(call, k, call->input[k].value.rank, 0), reason);
}

psg_tensor psg_operand_aligned(const psg_call *call, int k, int rank) {
    const psg_operand *operand = &call->input[k];
    int64_t shape[PSG_MAX_RANK];
    const int missing = rank - operand->value.rank;
    const bool second = psg_call_is_batch_second(call) && rank >= 3;
    for (int d = 0; d < rank; d++) shape[d] = d < missing ? 1 : operand->value.shape[d - missing];
    if (second && (operand->batch_second ? missing > 0 : missing < 2)) {
        int64_t first = shape[0];
        shape[0] = shape[1];
        shape[1] = first;
    }
    return psg_tensor_of(operand->value.dtype, operand->value.data, rank, shape);
}

const psg_kernel_table *psg_call_kernels(const psg_call *call) {
    return call->context->kernels[call->input[0].value.dtype];
}

double psg_scalar_value(const psg_call *call, const psg_tensor *tensor) {
    return call->context->kernels[tensor->dtype]->sum(1, tensor->data);
}

void psg_scalar_set(const psg_call *call, double value, const psg_tensor *tensor) {
    call->context->kernels[tensor->dtype]->from_f64(1, 1.0, &value, tensor->data, false);
}

psg_status psg_integer_correct(psg_call *call, int input, int64_t k) {
    void *own = psg_call_own(call, input);
    if (!own) return PSG_ERR_MEMORY;
    if (call->input[input].value.dtype == PSG_I32) ((int32_t *)own)[k] = 0;
    else ((int64_t *)own)[k] = 0;
    return PSG_OK;
}

double psg_loss_factor(const psg_call *call, double divisor) {
    return psg_scalar_value(call, &call->grad_output) * (call->loss_scale / divisor);
}

bool psg_may_update(const psg_call *call) { return call->pass->ordinary || call->pass->allow_updates; }

psg_status psg_operand_not_computed(psg_call *call, int k) {
    if (call->input[k].role != PSG_BATCHED) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s is computed in this pass, must be a parameter or a constant",
                         call->op->input_names[k]);
}

/* A batched operand of rank 2 beside one of rank 3 is (1, N, D) beside (T, N, D) to who has the batch second. */
static bool has_batch_aligned(const psg_call *call, int k, int rank) {
    const psg_operand *operand = &call->input[k];
    return operand->value.rank == rank || (operand->batch_second && operand->value.rank == 2 && rank == 3);
}

psg_status psg_operand_check_aligned(psg_call *call, int k, int rank) {
    const psg_operand *operand = &call->input[k];
    const psg_tensor whole = psg_operand_aligned(call, k, rank);
    char text[PSG_SHAPE_TEXT];
    psg_tensor_text(&operand->value, text);
    if (psg_operand_keeps_batch(call, k)) {
        if (has_batch_aligned(call, k, rank)) return PSG_OK;
        return psg_call_fail(call, PSG_ERR_BATCH, "%s of shape %s would be broadcast over the batch of an output of "
                             "rank %d", call->op->input_names[k], text, rank);
    }
    bool trainable = operand->role == PSG_PARAMETER && operand->wants_grad && !call->pass->ordinary;
    bool shared = trainable || psg_call_is_batch_second(call);
    if (!shared || !rank || whole.shape[0] == 1) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "%s is a %s of shape %s, which would run along the batch of the output; "
                         "its size there must be 1", call->op->input_names[k],
                         operand->role == PSG_PARAMETER ? "parameter" : "constant", text);
}
