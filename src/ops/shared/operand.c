#include "ops/shared/operand.h"

#include "base/context.h"
#include "base/shapes.h"

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
    return call->per_sample && call->input[k].role == PSG_BATCHED;
}

psg_status psg_operand_carries_batch(psg_call *call, int k) {
    if (!psg_operand_per_sample(call, k)) return PSG_OK;
    const psg_tensor *value = &call->input[k].value;
    int batch = psg_call_batch_dim(call, value);
    if (value->rank > batch && value->shape[batch] == call->batch_size) return PSG_OK;
    char text[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_BATCH, "%s has shape %s, in a per-sample pass its dimension %d must be the "
                         "batch of %lld samples", call->op->input_names[k], psg_tensor_text(value, text), batch,
                         (long long)call->batch_size);
}

psg_status psg_output_like_input(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    return psg_call_output(call, x->dtype, x->rank, x->shape);
}

psg_status psg_operand_dim(psg_call *call, const char *name, int dim, int rank, int *found) {
    *found = dim < 0 ? dim + rank : dim;
    if (*found >= 0 && *found < rank) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %d, must be in [%d, %d) for %s of rank %d", name, dim, -rank,
                         rank, call->op->input_names[0], rank);
}

psg_status psg_operand_not_batch(psg_call *call, int k, const char *name, int dim, const char *reason) {
    psg_status status = psg_operand_carries_batch(call, k);
    if (status || !psg_operand_per_sample(call, k)) return status;
    if (dim != psg_call_batch_dim(call, &call->input[k].value)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "%s is %d, the batch dimension: %s", name, dim, reason);
}

psg_status psg_output_batch_at(psg_call *call, int place) {
    if (!psg_operand_per_sample(call, 0) || place == psg_call_batch_dim(call, &call->output)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "the batch would become dimension %d of the result, where the ops of a "
                         "per-sample pass do not look for it", place);
}

psg_status psg_operand_positions(psg_call *call, const psg_tensor *x, psg_tensor *view) {
    int batch_dim = call->per_sample ? psg_call_batch_dim(call, x) : 0;
    *view = psg_tensor_swap(x, 0, batch_dim);
    if (x->rank == 2 || psg_tensor_merge(view, 1, x->rank - 2)) return PSG_OK;
    psg_tensor copy = psg_tensor_of(x->dtype, NULL, view->rank, view->shape);
    copy.data = psg_call_keep(call, (size_t)psg_tensor_count(view) * psg_dtype_size(x->dtype));
    if (!copy.data) return PSG_ERR_MEMORY;
    psg_tensor_copy(view, &copy);
    *view = copy;
    psg_tensor_merge(view, 1, x->rank - 2);
    return PSG_OK;
}

psg_status psg_operand_option_is_whole(psg_call *call, const char *name, int spatial, const int64_t *given) {
    int absent = -1, present = -1;
    for (int d = 0; d < spatial; d++) {
        if (!given[d] && absent < 0) absent = d;
        if (given[d] && present < 0) present = d;
    }
    if (absent < 0 || present < 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s[%d] is 0: give all %d entries or none (PSG_ALL(%lld))", name,
                         absent, spatial, (long long)given[present]);
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

double psg_loss_factor(const psg_call *call, double divisor) {
    return psg_scalar_value(call, &call->grad_output) * (call->loss_scale / divisor);
}

psg_status psg_operand_not_computed(psg_call *call, int k) {
    if (call->input[k].role != PSG_BATCHED) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s is computed in this pass, must be a parameter or a constant",
                         call->op->input_names[k]);
}
