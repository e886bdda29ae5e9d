/* batch_norm: by running statistics a linear layer, exact for every sample; by those of the batch in an ordinary pass
 * only. */
#include "base/shapes.h"
#include "ops/norm/norm_common.h"
#include "ops/shared/operand.h"
#include "psg/ops/norm.h"

static psg_norm_running running_of(const psg_call *call) {
    const psg_batch_norm_attributes *attributes = call->attributes;
    return (psg_norm_running){ attributes->running_mean, attributes->running_var, attributes->momentum };
}

static bool is_training(const psg_call *call) {
    return ((const psg_batch_norm_attributes *)call->attributes)->training != 0;
}

/* One group a channel, whose lines are the samples. */
static psg_norm_groups groups_of(const psg_call *call) {
    const psg_norm_layout l = psg_norm_layout_of(call);
    return (psg_norm_groups){ .sets = 1, .groups = l.channels, .lines = l.samples, .spatial = l.spatial,
                              .group_stride = l.spatial, .line_stride = l.channels * l.spatial, .one_weight = true,
                              .eps = ((const psg_batch_norm_attributes *)call->attributes)->eps };
}

static psg_status check_training(psg_call *call) {
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    char text[PSG_SHAPE_TEXT];
    if (!is_training(call)) return PSG_OK;
    if (!call->pass->ordinary) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "in training it normalizes by statistics over the batch, which "
                             "couple the samples, so no per-sample gradient exists; use group_norm, layer_norm or "
                             "instance_norm, or running statistics (training = 0)");
    }
    int64_t values = x->shape[0] * psg_shape_product(x->rank - 2, x->shape + 2);
    if (values != 1) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must have more than 1 value a channel in training",
                         psg_tensor_text(x, text));
}

static psg_status batch_norm_shape(psg_call *call) {
    const psg_norm_running running = running_of(call);
    psg_status status = psg_norm_check_channels(call);
    if (!status) status = check_training(call);
    if (!status) status = psg_norm_check_running(call, &running, is_training(call) ? NULL : "training",
                                                 is_training(call));
    return status ? status : psg_output_like_input(call);
}

static psg_status batch_norm_forward(psg_call *call) {
    const psg_norm_running running = running_of(call);
    const psg_norm_groups groups = groups_of(call);
    return is_training(call) ? psg_norm_groups_forward(call, &groups, &running, &call->kept)
                             : psg_norm_fixed_forward(call, &running, groups.eps, &call->kept);
}

/* memory: (channels, samples), the gradient of parameter input k. */
static psg_status add_lines(psg_call *call, int k, void *memory, const psg_norm_groups *g) {
    if (!memory) return PSG_OK;
    psg_tensor by_channel = psg_tensor_of(call->output.dtype, memory, 2, (int64_t[]){ g->groups, g->lines });
    psg_tensor rows = psg_tensor_swap(&by_channel, 0, 1);
    return psg_call_add_rows(call, k, &rows);
}

static psg_status training_backward(psg_call *call) {
    const psg_norm_groups groups = groups_of(call);
    void *grad_weight, *grad_bias;
    psg_status status = psg_norm_keep_lines(call, PSG_NORM_WEIGHT, &groups, &grad_weight);
    if (!status) status = psg_norm_keep_lines(call, PSG_NORM_BIAS, &groups, &grad_bias);
    if (status) return status;
    psg_norm_groups_backward(call, &groups, grad_weight, grad_bias);
    status = add_lines(call, PSG_NORM_WEIGHT, grad_weight, &groups);
    return status ? status : add_lines(call, PSG_NORM_BIAS, grad_bias, &groups);
}

static psg_status batch_norm_backward(psg_call *call) {
    return is_training(call) ? training_backward(call) : psg_norm_fixed_backward(call);
}

const psg_op psg_op_batch_norm = {
    .name = "batch_norm",
    .input_count = PSG_NORM_INPUTS,
    .input_names = psg_norm_input_names,
    .optional_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .parameter_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .attributes_size = sizeof(psg_batch_norm_attributes),
    .shape = batch_norm_shape,
    .forward = batch_norm_forward,
    .backward = batch_norm_backward,
};

psg_var psg_batch_norm(psg_tape *tape, psg_var x, const psg_tensor *running_mean, const psg_tensor *running_var,
                       psg_var weight, psg_var bias, int training, double momentum, double eps) {
    psg_batch_norm_attributes attributes = { running_mean, running_var, training, momentum, eps };
    return psg_record(tape, &psg_op_batch_norm, (psg_var[]){ x, weight, bias }, PSG_NORM_INPUTS, &attributes);
}
