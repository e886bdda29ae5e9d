/* conv_transpose: the adjoint of a convolution, plus bias.  Its own input gradient is that convolution, and its weight
 * gradient the convolution's with the roles of input and output gradient exchanged. */
#include "ops/conv/conv_geometry.h"
#include "ops/shared/spatial.h"
#include "psg/ops/conv.h"

/* ---- shape ---- */

static psg_status check_output_padding(psg_call *call, const psg_conv_geometry *g, const int64_t more[3]) {
    for (int a = g->first; a < 3; a++) {
        if (more[a] < g->stride[a] || more[a] < g->dilation[a]) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "output_padding[%d] is %lld, must be less than stride %lld or "
                             "dilation %lld", a - g->first, (long long)more[a], (long long)g->stride[a],
                             (long long)g->dilation[a]);
    }
    return PSG_OK;
}

/* (X - 1) stride + dilation (K - 1) + 1 - 2 padding + more */
static psg_status find_size(psg_call *call, int a, int64_t more, psg_conv_geometry *g) {
    const int d = a - g->first;
    const int64_t reach = g->dilation[a] * (g->kernel[a] - 1) + 1 - 2 * g->padding[a] + more;
    int64_t span;
    g->output[a] = call->input[PSG_CONV_INPUT].value.shape[d + 2];
    if (__builtin_mul_overflow(g->output[a] - 1, g->stride[a], &span) ||
        __builtin_add_overflow(span, reach, &g->image[a])) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "the output of spatial dimension %d does not fit 63 bits", d);
    }
    if (g->image[a] > 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "the output of spatial dimension %d would have %lld elements: input has "
                         "%lld, stride is %lld, padding %lld", d, (long long)g->image[a], (long long)g->output[a],
                         (long long)g->stride[a], (long long)g->padding[a]);
}

/* The convolution that this is the adjoint of: its image is the op's output. */
static psg_status read(psg_call *call, psg_conv_geometry *g) {
    const psg_conv_transpose_attributes *attributes = call->attributes;
    const psg_conv_transpose_options *o = &attributes->options;
    int64_t more[3] = { 0 };
    psg_status status = psg_conv_begin(call, attributes->spatial, o->stride, o->dilation, o->groups, g);
    if (status) return status;
    const int first = g->first, spatial = 3 - first;
    status = psg_spatial_option(call, "padding", spatial, o->padding, NULL, 0, g->padding + first);
    if (!status) {
        status = psg_spatial_option(call, "output_padding", spatial, o->output_padding, NULL, 0, more + first);
    }
    if (!status) status = check_output_padding(call, g, more);
    for (int a = first; a < 3 && !status; a++) status = find_size(call, a, more[a], g);
    return status;
}

static const psg_conv_traits traits = { read, true };

const psg_op psg_op_conv_transpose = {
    .name = "conv_transpose",
    .input_count = PSG_CONV_INPUTS,
    .input_names = psg_conv_input_names,
    .optional_inputs = 1u << PSG_CONV_BIAS,
    .parameter_inputs = 1u << PSG_CONV_WEIGHT | 1u << PSG_CONV_BIAS,
    .attributes_size = sizeof(psg_conv_transpose_attributes),
    .reserved_at = offsetof(psg_conv_transpose_attributes, options.reserved),
    .shape = psg_conv_shape,
    .forward = psg_conv_forward,
    .backward = psg_conv_backward,
    .traits = &traits,
};

/* ---- fronts ---- */

static psg_var record(psg_tape *tape, int spatial, psg_var x, psg_var weight, psg_var bias,
                      const psg_conv_transpose_options *options) {
    psg_conv_transpose_attributes attributes = { .spatial = spatial };
    if (options) attributes.options = *options;
    return psg_record(tape, &psg_op_conv_transpose, (psg_var[]){ x, weight, bias }, PSG_CONV_INPUTS, &attributes);
}

psg_var psg_conv_transpose1d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                             const psg_conv_transpose_options *options) {
    return record(tape, 1, x, weight, bias, options);
}

psg_var psg_conv_transpose2d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                             const psg_conv_transpose_options *options) {
    return record(tape, 2, x, weight, bias, options);
}

psg_var psg_conv_transpose3d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                             const psg_conv_transpose_options *options) {
    return record(tape, 3, x, weight, bias, options);
}
