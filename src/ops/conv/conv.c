/* conv1d, conv2d, conv3d: y[o, t] = b[o] + sum_{c, k} w[o, c, k] x[c, t stride + k dilation - padding]. */
#include "base/shapes.h"
#include "ops/conv/conv_geometry.h"
#include "psg/ops.h"

extern const psg_op psg_op_conv1d, psg_op_conv2d, psg_op_conv3d;

/* ---- options ---- */

static int spatial_of(const psg_call *call) {
    return call->op == &psg_op_conv1d ? 1 : call->op == &psg_op_conv2d ? 2 : 3;
}

static int64_t groups_of(const psg_call *call) {
    const psg_conv_options *options = call->attributes;
    return options->groups ? options->groups : 1;
}

/* Elements added before and behind dimension d, given a checked kernel and dilation. */
static void padding_of(const psg_conv_options *o, int d, int64_t kernel, int64_t *before, int64_t *after) {
    const int64_t dilation = o->dilation[d] ? o->dilation[d] : 1, total = dilation * (kernel - 1);
    *before = *after = 0;
    if (o->padding_rule == PSG_CONV_SAME) {
        *before = total / 2;
        *after = total - total / 2;
    } else if (o->padding_rule == PSG_CONV_EXPLICIT) {
        *before = o->padding[d];
        *after = o->has_padding_after ? o->padding_after[d] : o->padding[d];
    }
}

/* ---- shape ---- */

static psg_status check_padding(psg_call *call, int spatial) {
    const psg_conv_options *o = call->attributes;
    int64_t found[3];
    if (o->padding_rule < PSG_CONV_EXPLICIT || o->padding_rule > PSG_CONV_SAME) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "padding_rule is %d, must be PSG_CONV_EXPLICIT, PSG_CONV_VALID or "
                             "PSG_CONV_SAME", (int)o->padding_rule);
    }
    if (o->padding_mode != PSG_PAD_CONSTANT) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "padding_mode is %d, the op itself adds zeros alone; psg_conv1d "
                             "to psg_conv3d record a pad before it", (int)o->padding_mode);
    }
    psg_status status = psg_conv_check_option(call, "padding", spatial, o->padding, 0, 0, found);
    if (!status && o->has_padding_after) {
        status = psg_conv_check_option(call, "padding_after", spatial, o->padding_after, 0, 0, found);
    }
    for (int d = 0; d < spatial && !status && o->padding_rule; d++) {
        if (!o->padding[d] && !o->has_padding_after) continue;
        status = psg_call_fail(call, PSG_ERR_ARGUMENT, "padding[%d] is %lld, must be 0 with padding_rule valid or same",
                               d, (long long)o->padding[d]);
    }
    return status;
}

static psg_status check_channels(psg_call *call) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    const int64_t channels = x->shape[1 - 0], groups = groups_of(call);
    if (channels % groups == 0 && channels / groups == w->shape[1]) return PSG_OK;
    char text[PSG_SHAPE_TEXT], given[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s and %lld channels, weight of shape %s with groups = "
                         "%lld takes %lld times %lld", psg_tensor_text(x, text), (long long)channels,
                         psg_tensor_text(w, given), (long long)groups, (long long)groups, (long long)w->shape[1]);
}

static psg_status output_size(psg_call *call, int d, int64_t stride, int64_t dilation, int64_t *size) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    int64_t before, after, padded, reach = dilation * (w->shape[d + 2] - 1) + 1;
    padding_of(call->attributes, d, w->shape[d + 2], &before, &after);
    if (__builtin_add_overflow(x->shape[d + 2], before + after, &padded)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "input of %lld elements does not fit its padding",
                             (long long)x->shape[d + 2]);
    }
    if (padded < reach) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "kernel reaches over %lld elements of spatial dimension %d, must be "
                             "at most the padded input's %lld", (long long)reach, d, (long long)padded);
    }
    *size = (padded - reach) / stride + 1;
    return PSG_OK;
}

static psg_status conv_shape(psg_call *call) {
    const psg_conv_options *o = call->attributes;
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    const int spatial = spatial_of(call);
    int64_t stride[3], dilation[3];
    psg_status status = psg_conv_check_operands(call, spatial);
    if (!status) status = psg_conv_check_option(call, "stride", spatial, o->stride, 1, 1, stride);
    if (!status) status = psg_conv_check_option(call, "dilation", spatial, o->dilation, 1, 1, dilation);
    if (!status) status = check_padding(call, spatial);
    if (!status) status = psg_conv_check_weight(call, groups_of(call));
    if (!status) status = check_channels(call);
    if (!status) status = psg_conv_check_bias(call, w->shape[0]);
    psg_tensor output = *x;
    if (!status) output.shape[1 - 0] = w->shape[0];
    for (int d = 0; d < spatial && !status; d++) {
        status = output_size(call, d, stride[d], dilation[d], &output.shape[d + 2]);
    }
    return status ? status : psg_call_output(call, x->dtype, x->rank, output.shape);
}

static psg_conv_geometry geometry_of(const psg_call *call) {
    const psg_conv_options *o = call->attributes;
    psg_conv_geometry g = { .spatial = spatial_of(call), .groups = groups_of(call) };
    int64_t after;
    for (int d = 0; d < g.spatial; d++) {
        g.stride[d] = o->stride[d] ? o->stride[d] : 1;
        g.dilation[d] = o->dilation[d] ? o->dilation[d] : 1;
        padding_of(o, d, call->input[PSG_CONV_WEIGHT].value.shape[d + 2], &g.padding[d], &after);
    }
    psg_conv_fill_geometry(&g, call, &call->input[PSG_CONV_INPUT].value, &call->output);
    return g;
}

/* ---- forward and backward ---- */

static psg_status conv_forward(psg_call *call) {
    const psg_conv_geometry g = geometry_of(call);
    const psg_operand *bias = &call->input[PSG_CONV_BIAS];
    return psg_conv_gather(call, &g, call->input[PSG_CONV_INPUT].value.data, bias->role ? bias->value.data : NULL,
                           call->output.data);
}

static psg_status conv_backward(psg_call *call) {
    const psg_conv_geometry g = geometry_of(call);
    const psg_operand *x = &call->input[PSG_CONV_INPUT];
    psg_status status = PSG_OK;
    if (x->grad.data) status = psg_conv_scatter(call, &g, call->grad_output.data, NULL, x->grad.data);
    if (!status) status = psg_conv_add_weight(call, &g, x->value.data, call->grad_output.data);
    return status ? status : psg_conv_add_bias(call);
}

const psg_op psg_op_conv1d = {
    .name = "conv1d",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_options),
    .shape = conv_shape,
    .forward = conv_forward,
    .backward = conv_backward,
};

const psg_op psg_op_conv2d = {
    .name = "conv2d",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_options),
    .shape = conv_shape,
    .forward = conv_forward,
    .backward = conv_backward,
};

const psg_op psg_op_conv3d = {
    .name = "conv3d",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_options),
    .shape = conv_shape,
    .forward = conv_forward,
    .backward = conv_backward,
};

/* ---- fronts ---- */

/* What psg_pad is to add around the spatial dimensions of x, the last one first; false when that is nothing, or when
 * the op will refuse what it is given. */
static bool find_pads(psg_tape *tape, psg_var weight, int spatial, const psg_conv_options *o, int64_t pads[6]) {
    psg_tensor w;
    if (psg_tape_status(tape) || psg_value(tape, weight, &w) || w.rank != spatial + 2) return false;
    bool any = false;
    for (int d = 0; d < spatial; d++) {
        int64_t *at = pads + 2 * (spatial - 1 - d);
        if (o->dilation[d] < 0 || o->dilation[d] > INT32_MAX || w.shape[d + 2] > INT32_MAX) return false;
        padding_of(o, d, w.shape[d + 2], &at[0], &at[1]);
        if (at[0] < 0 || at[1] < 0) return false;
        any |= at[0] || at[1];
    }
    return any;
}

static psg_var record(psg_tape *tape, const psg_op *op, int spatial, psg_var x, psg_var weight, psg_var bias,
                      const psg_conv_options *given) {
    psg_conv_options options = PSG_CONV_OPTIONS_INIT;
    int64_t pads[6];
    if (given) options = *given;
    const psg_pad_mode mode = options.padding_mode;
    if (mode == PSG_PAD_REFLECT || mode == PSG_PAD_REPLICATE || mode == PSG_PAD_CIRCULAR) {
        options.padding_mode = PSG_PAD_CONSTANT;
        if (find_pads(tape, weight, spatial, &options, pads)) {
            x = psg_pad(tape, x, 2 * spatial, pads, mode, 0);
            options.padding_rule = PSG_CONV_EXPLICIT;
            options.has_padding_after = 0;
            for (int d = 0; d < 3; d++) options.padding[d] = 0;
        }
    }
    return psg_record(tape, op, (psg_var[]){ x, weight, bias }, PSG_CONV_INPUTS, &options);
}

psg_var psg_conv1d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options) {
    return record(tape, &psg_op_conv1d, 1, x, weight, bias, options);
}

psg_var psg_conv2d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options) {
    return record(tape, &psg_op_conv2d, 2, x, weight, bias, options);
}

psg_var psg_conv3d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options) {
    return record(tape, &psg_op_conv3d, 3, x, weight, bias, options);
}
