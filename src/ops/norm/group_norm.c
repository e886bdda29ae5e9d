/* group_norm: layer_norm's formula over each group of channels and all positions, with one weight a channel. */
#include "base/shapes.h"
#include "ops/norm/norm_common.h"
#include "ops/shared/operand.h"
#include "psg/ops/norm.h"

static psg_norm_groups groups_of(const psg_call *call) {
    const psg_group_norm_attributes *attributes = call->attributes;
    return psg_norm_groups_of(call, attributes->num_groups, attributes->eps);
}

static psg_status check_groups(psg_call *call) {
    const psg_group_norm_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const long long groups = attributes->num_groups, channels = x->shape[1];
    char text[PSG_SHAPE_TEXT];
    if (groups <= 0) return psg_call_fail(call, PSG_ERR_ARGUMENT, "num_groups is %lld, must be greater than 0", groups);
    if (channels % groups == 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "num_groups is %lld, must divide the %lld channels of input of shape %s",
                         groups, channels, psg_tensor_text(x, text));
}

static psg_status group_norm_shape(psg_call *call) {
    psg_status status = psg_norm_check_channels(call);
    if (!status) status = check_groups(call);
    return status ? status : psg_output_like_input(call);
}

static psg_status group_norm_forward(psg_call *call) {
    const psg_norm_groups groups = groups_of(call);
    return psg_norm_groups_forward(call, &groups, NULL, &call->kept);
}

static psg_status group_norm_backward(psg_call *call) {
    const psg_norm_groups groups = groups_of(call);
    return psg_norm_groups_gradients(call, &groups);
}

const psg_op psg_op_group_norm = {
    .name = "group_norm",
    .input_count = PSG_NORM_INPUTS,
    .input_names = psg_norm_input_names,
    .optional_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .parameter_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .attributes_size = sizeof(psg_group_norm_attributes),
    .shape = group_norm_shape,
    .forward = group_norm_forward,
    .backward = group_norm_backward,
};

psg_var psg_group_norm(psg_tape *tape, psg_var x, int64_t num_groups, psg_var weight, psg_var bias, double eps) {
    psg_group_norm_attributes attributes = { num_groups, eps };
    return psg_record(tape, &psg_op_group_norm, (psg_var[]){ x, weight, bias }, PSG_NORM_INPUTS, &attributes);
}
