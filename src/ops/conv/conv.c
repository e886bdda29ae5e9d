/* conv: y[o, t] = b[o] + sum_{c, k} w[o, c, k] x[c, t stride + k dilation - padding]. */
#include "base/shapes.h"
#include "ops/conv/conv_geometry.h"
#include "ops/shared/spatial.h"
#include "psg/ops/conv.h"

/* ---- shape ---- */

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

static psg_status check_padding(psg_call *call, const psg_conv_options *o, int spatial) {
    int64_t found[3];
    if (o->padding_rule < PSG_CONV_EXPLICIT || o->padding_rule > PSG_CONV_SAME) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "padding_rule is %d, must be PSG_CONV_EXPLICIT, PSG_CONV_VALID or "
                             "PSG_CONV_SAME", (int)o->padding_rule);
    }
    if (o->padding_mode != PSG_PAD_CONSTANT) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "padding_mode is %d, the op itself adds zeros alone; psg_conv1d "
                             "to psg_conv3d record a pad before it", (int)o->padding_mode);
    }
    psg_status status = psg_spatial_option(call, "padding", spatial, o->padding, NULL, 0, found);
    if (!status && o->has_padding_after) {
        status = psg_spatial_option(call, "padding_after", spatial, o->padding_after, NULL, 0, found);
    }
    for (int d = 0; d < spatial && !status && o->padding_rule; d++) {
        if (!o->padding[d] && !o->has_padding_after) continue;
        status = psg_call_fail(call, PSG_ERR_ARGUMENT, "padding[%d] is %lld, must be 0 with padding_rule valid or same",
                               d, (long long)o->padding[d]);
    }
    return status;
}

static psg_status find_size(psg_call *call, const psg_conv_options *o, int a, psg_conv_geometry *g) {
    const int d = a - g->first;
    int64_t after, padded, reach = g->dilation[a] * (g->kernel[a] - 1) + 1;
    g->image[a] = call->input[PSG_CONV_INPUT].value.shape[d + 2];
    padding_of(o, d, g->kernel[a], &g->padding[a], &after);
    if (__builtin_add_overflow(g->image[a], g->padding[a] + after, &padded)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "input of %lld elements does not fit its padding",
                             (long long)g->image[a]);
    }
    if (padded < reach) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "kernel reaches over %lld elements of spatial dimension %d, must be "
                             "at most the padded input's %lld", (long long)reach, d, (long long)padded);
    }
    g->output[a] = (padded - reach) / g->stride[a] + 1;
    return PSG_OK;
}

static psg_status read(psg_call *call, psg_conv_geometry *g) {
    const psg_conv_attributes *attributes = call->attributes;
    const psg_conv_options *o = &attributes->options;
    psg_status status = psg_conv_begin(call, attributes->spatial, o->stride, o->dilation, o->groups, g);
    if (!status) status = check_padding(call, o, 3 - g->first);
    for (int a = g->first; a < 3 && !status; a++) status = find_size(call, o, a, g);
    return status;
}

static const psg_conv_traits traits = { read, false };

const psg_op psg_op_conv = {
    .name = "conv",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_attributes),
    .reserved_at = offsetof(psg_conv_attributes, options.reserved),
    .shape = psg_conv_shape,
    .forward = psg_conv_forward,
    .backward = psg_conv_backward,
    .traits = &traits,
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

static psg_var record(psg_tape *tape, int spatial, psg_var x, psg_var weight, psg_var bias,
                      const psg_conv_options *given) {
    psg_conv_attributes attributes = { .spatial = spatial };
    psg_conv_options *o = &attributes.options;
    int64_t pads[6];
    if (given) *o = *given;
    const psg_pad_mode mode = o->padding_mode;
    if (mode == PSG_PAD_REFLECT || mode == PSG_PAD_REPLICATE || mode == PSG_PAD_CIRCULAR) {
        o->padding_mode = PSG_PAD_CONSTANT;
        if (find_pads(tape, weight, spatial, o, pads)) {
            x = psg_pad(tape, x, 2 * spatial, pads, mode, 0);
            o->padding_rule = PSG_CONV_EXPLICIT;
            o->has_padding_after = 0;
            for (int d = 0; d < 3; d++) o->padding[d] = 0;
        }
    }
    return psg_record(tape, &psg_op_conv, (psg_var[]){ x, weight, bias }, PSG_CONV_INPUTS, &attributes);
}

psg_var psg_conv1d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options) {
    return record(tape, 1, x, weight, bias, options);
}

psg_var psg_conv2d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options) {
    return record(tape, 2, x, weight, bias, options);
}

psg_var psg_conv3d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options) {
    return record(tape, 3, x, weight, bias, options);
}
