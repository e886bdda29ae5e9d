/* conv_transpose1d, 2d, 3d: the adjoint of a convolution, plus bias.  Its own input gradient is that convolution, and
 * its weight gradient the convolution's with the roles of input and output gradient exchanged. */
#include "base/shapes.h"
#include "ops/conv/conv_geometry.h"
#include "psg/ops.h"

extern const psg_op psg_op_conv_transpose1d, psg_op_conv_transpose2d, psg_op_conv_transpose3d;

/* ---- options ---- */

static int spatial_of(const psg_call *call) {
    return call->op == &psg_op_conv_transpose1d ? 1 : call->op == &psg_op_conv_transpose2d ? 2 : 3;
}

static int64_t groups_of(const psg_call *call) {
    const psg_conv_transpose_options *options = call->attributes;
    return options->groups ? options->groups : 1;
}

/* ---- shape ---- */

typedef struct numbers {
    int64_t stride[3], padding[3], dilation[3], output_padding[3];
} numbers;

static psg_status check_options(psg_call *call, int spatial, numbers *found) {
    const psg_conv_transpose_options *o = call->attributes;
    psg_status status = psg_conv_check_option(call, "stride", spatial, o->stride, 1, 1, found->stride);
    if (!status) status = psg_conv_check_option(call, "dilation", spatial, o->dilation, 1, 1, found->dilation);
    if (!status) status = psg_conv_check_option(call, "padding", spatial, o->padding, 0, 0, found->padding);
    if (!status) {
        status = psg_conv_check_option(call, "output_padding", spatial, o->output_padding, 0, 0,
                                       found->output_padding);
    }
    for (int d = 0; d < spatial && !status; d++) {
        const long long more = found->output_padding[d], stride = found->stride[d], dilation = found->dilation[d];
        if (more < stride || more < dilation) continue;
        status = psg_call_fail(call, PSG_ERR_ARGUMENT, "output_padding[%d] is %lld, must be less than stride %lld or "
                               "dilation %lld", d, more, stride, dilation);
    }
    return status;
}

static psg_status check_channels(psg_call *call) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    const int64_t channels = x->shape[1 - 0];
    if (channels == w->shape[0]) return PSG_OK;
    char text[PSG_SHAPE_TEXT], given[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s and %lld channels, weight of shape %s takes %lld",
                         psg_tensor_text(x, text), (long long)channels, psg_tensor_text(w, given),
                         (long long)w->shape[0]);
}

static psg_status output_size(psg_call *call, int d, const numbers *o, int64_t *size) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    const int64_t reach = o->dilation[d] * (w->shape[d + 2] - 1) + 1 - 2 * o->padding[d] + o->output_padding[d];
    int64_t span;
    if (__builtin_mul_overflow(x->shape[d + 2] - 1, o->stride[d], &span) ||
        __builtin_add_overflow(span, reach, size)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "the output of spatial dimension %d does not fit 63 bits", d);
    }
    if (*size > 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "the output of spatial dimension %d would have %lld elements: input has "
                         "%lld, stride is %lld, padding %lld", d, (long long)*size, (long long)x->shape[d + 2],
                         (long long)o->stride[d], (long long)o->padding[d]);
}

static psg_status conv_transpose_shape(psg_call *call) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    const int spatial = spatial_of(call);
    numbers o;
    int64_t outputs = 0;
    psg_status status = psg_conv_check_operands(call, spatial);
    if (!status) status = check_options(call, spatial, &o);
    if (!status) status = psg_conv_check_weight(call, groups_of(call));
    if (!status) status = check_channels(call);
    if (!status && !psg_size_multiply(w->shape[1], groups_of(call), &outputs)) {
        status = psg_call_fail(call, PSG_ERR_OVERFLOW, "groups is %lld, too many output channels",
                               (long long)groups_of(call));
    }
    if (!status) status = psg_conv_check_bias(call, outputs);
    psg_tensor output = *x;
    if (!status) output.shape[1 - 0] = outputs;
    for (int d = 0; d < spatial && !status; d++) status = output_size(call, d, &o, &output.shape[d + 2]);
    return status ? status : psg_call_output(call, x->dtype, x->rank, output.shape);
}

/* The convolution that this is the adjoint of: its image is the op's output. */
static psg_conv_geometry geometry_of(const psg_call *call) {
    const psg_conv_transpose_options *o = call->attributes;
    psg_conv_geometry g = { .spatial = spatial_of(call), .groups = groups_of(call) };
    for (int d = 0; d < g.spatial; d++) {
        g.stride[d] = o->stride[d] ? o->stride[d] : 1;
        g.dilation[d] = o->dilation[d] ? o->dilation[d] : 1;
        g.padding[d] = o->padding[d];
    }
    psg_conv_fill_geometry(&g, call, &call->output, &call->input[PSG_CONV_INPUT].value);
    return g;
}

/* ---- forward and backward ---- */

static psg_status conv_transpose_forward(psg_call *call) {
    const psg_conv_geometry g = geometry_of(call);
    const psg_operand *bias = &call->input[PSG_CONV_BIAS];
    return psg_conv_scatter(call, &g, call->input[PSG_CONV_INPUT].value.data, bias->role ? bias->value.data : NULL,
                            call->output.data);
}

static psg_status conv_transpose_backward(psg_call *call) {
    const psg_conv_geometry g = geometry_of(call);
    const psg_operand *x = &call->input[PSG_CONV_INPUT];
    psg_status status = PSG_OK;
    if (x->grad.data) status = psg_conv_gather(call, &g, call->grad_output.data, NULL, x->grad.data);
    if (!status) status = psg_conv_add_weight(call, &g, call->grad_output.data, x->value.data);
    return status ? status : psg_conv_add_bias(call);
}

const psg_op psg_op_conv_transpose1d = {
    .name = "conv_transpose1d",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_transpose_options),
    .shape = conv_transpose_shape,
    .forward = conv_transpose_forward,
    .backward = conv_transpose_backward,
};

const psg_op psg_op_conv_transpose2d = {
    .name = "conv_transpose2d",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_transpose_options),
    .shape = conv_transpose_shape,
    .forward = conv_transpose_forward,
    .backward = conv_transpose_backward,
};

const psg_op psg_op_conv_transpose3d = {
    .name = "conv_transpose3d",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_transpose_options),
    .shape = conv_transpose_shape,
    .forward = conv_transpose_forward,
    .backward = conv_transpose_backward,
};

psg_var psg_conv_transpose1d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                             const psg_conv_transpose_options *options) {
    return psg_record(tape, &psg_op_conv_transpose1d, (psg_var[]){ x, weight, bias }, PSG_CONV_INPUTS, options);
}

psg_var psg_conv_transpose2d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                             const psg_conv_transpose_options *options) {
    return psg_record(tape, &psg_op_conv_transpose2d, (psg_var[]){ x, weight, bias }, PSG_CONV_INPUTS, options);
}

psg_var psg_conv_transpose3d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                             const psg_conv_transpose_options *options) {
    return psg_record(tape, &psg_op_conv_transpose3d, (psg_var[]){ x, weight, bias }, PSG_CONV_INPUTS, options);
}
