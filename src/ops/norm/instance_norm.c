/* instance_norm: every channel of every sample by its own statistics, or by running ones. */
#include "base/shapes.h"
#include "ops/norm/norm_common.h"
#include "ops/shared/operand.h"
#include "psg/ops/norm.h"

static psg_norm_running running_of(const psg_call *call) {
    const psg_instance_norm_attributes *attributes = call->attributes;
    return (psg_norm_running){ attributes->running_mean, attributes->running_var, attributes->momentum };
}

static bool uses_input_stats(const psg_call *call) {
    return ((const psg_instance_norm_attributes *)call->attributes)->use_input_stats != 0;
}

static psg_norm_groups groups_of(const psg_call *call) {
    const int64_t channels = call->input[PSG_NORM_INPUT].value.shape[1];
    return psg_norm_groups_of(call, channels ? channels : 1,
                              ((const psg_instance_norm_attributes *)call->attributes)->eps);
}

/* The variance of one element says nothing: every output would be the bias. */
static psg_status check_positions(psg_call *call) {
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    char text[PSG_SHAPE_TEXT];
    if (!uses_input_stats(call) || psg_shape_product(x->rank - 2, x->shape + 2) != 1) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must have more than 1 spatial element when "
                         "use_input_stats is not 0", psg_tensor_text(x, text));
}

static psg_status instance_norm_shape(psg_call *call) {
    const psg_norm_running running = running_of(call);
    psg_status status = psg_norm_check_channels(call);
    if (!status) status = check_positions(call);
    if (!status) status = psg_norm_check_running(call, &running, uses_input_stats(call) ? NULL : "use_input_stats",
                                                 uses_input_stats(call));
    return status ? status : psg_output_like_input(call);
}

static psg_status instance_norm_forward(psg_call *call) {
    const psg_norm_running running = running_of(call);
    const psg_norm_groups groups = groups_of(call);
    return uses_input_stats(call) ? psg_norm_groups_forward(call, &groups, &running, &call->kept)
                                  : psg_norm_fixed_forward(call, &running, groups.eps, &call->kept);
}

static psg_status instance_norm_backward(psg_call *call) {
    const psg_norm_groups groups = groups_of(call);
    return uses_input_stats(call) ? psg_norm_groups_gradients(call, &groups) : psg_norm_fixed_backward(call);
}

const psg_op psg_op_instance_norm = {
    .name = "instance_norm",
    .input_count = PSG_NORM_INPUTS,
    .input_names = psg_norm_input_names,
    .optional_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .parameter_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .attributes_size = sizeof(psg_instance_norm_attributes),
    .shape = instance_norm_shape,
    .forward = instance_norm_forward,
    .backward = instance_norm_backward,
};

psg_var psg_instance_norm(psg_tape *tape, psg_var x, const psg_tensor *running_mean, const psg_tensor *running_var,
                          psg_var weight, psg_var bias, int use_input_stats, double momentum, double eps) {
    psg_instance_norm_attributes attributes = { running_mean, running_var, use_input_stats, momentum, eps };
    return psg_record(tape, &psg_op_instance_norm, (psg_var[]){ x, weight, bias }, PSG_NORM_INPUTS, &attributes);
}
