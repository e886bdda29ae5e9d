#include "ops/shape/views.h"

#include "base/shapes.h"
#include "ops/shared/strided_copy.h"

const char *const psg_view_input_names[1] = { "input" };

psg_status psg_view_forward(psg_call *call) {
    psg_tensor from = call->input[0].value;
    psg_status status = call->op->view(call, &from);
    if (!status) psg_strided_copy(call->context, &from, &call->output);
    return status;
}

psg_status psg_view_backward(psg_call *call) {
    const psg_tensor *grad = &call->input[0].grad, *from = &call->grad_output;
    if (!grad->data) return PSG_OK;
    psg_tensor to = *grad;
    psg_status status = call->op->view(call, &to);
    if (status) return status;
    if (psg_tensor_count(from) != psg_tensor_count(grad)) psg_fill_zero(call->context, grad);
    psg_strided_copy(call->context, from, &to);
    return PSG_OK;
}

psg_status psg_view_output(psg_call *call) {
    psg_tensor view = call->input[0].value;
    psg_status status = call->op->view(call, &view);
    return status ? status : psg_call_output(call, view.dtype, view.rank, view.shape);
}
