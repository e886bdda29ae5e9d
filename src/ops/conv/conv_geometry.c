/* The three functions of conv and conv_transpose, and what they check alike. */
#include "ops/conv/conv_geometry.h"

#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/spatial.h"

const char *const psg_conv_input_names[PSG_CONV_INPUTS] = { "input", "weight", "bias" };

static const psg_conv_traits *traits_of(const psg_call *call) { return call->op->traits; }

static psg_status check_operands(psg_call *call, int spatial) {
    const psg_tensor *w = &call->input[PSG_CONV_WEIGHT].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operands_real(call, PSG_CONV_INPUTS);
    for (int k = PSG_CONV_WEIGHT; k <= PSG_CONV_BIAS && !status; k++) status = psg_operand_not_computed(call, k);
    if (status || w->rank == spatial + 2) return status;
    return psg_call_fail(call, PSG_ERR_SHAPE, "weight has shape %s, must have rank %d (two dimensions of channels, %d "
                         "of the kernel)", psg_tensor_text(w, text), spatial + 2, spatial);
}

/* Kernels are not empty, groups divides the first dimension. */
static psg_status check_weight(psg_call *call, int64_t groups) {
    const psg_tensor *w = &call->input[PSG_CONV_WEIGHT].value;
    char text[PSG_SHAPE_TEXT];
    if (groups < 1) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "groups is %lld, must be greater than 0", (long long)groups);
    }
    for (int d = 0; d < w->rank; d++) {
        if (w->shape[d] <= INT32_MAX && (d < 2 || w->shape[d] > 0)) continue;
        return psg_call_fail(call, w->shape[d] ? PSG_ERR_OVERFLOW : PSG_ERR_SHAPE, "weight has shape %s, must have a "
                             "kernel of at least one element, and dimensions below 2^31", psg_tensor_text(w, text));
    }
    if (w->shape[0] % groups == 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "groups is %lld, must divide the first dimension of weight of shape %s",
                         (long long)groups, psg_tensor_text(w, text));
}

/* The input has the channels of all groups. */
static psg_status check_channels(psg_call *call, const psg_conv_geometry *g) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    const int64_t channels = traits_of(call)->is_transposed ? g->output_channels : g->image_channels;
    if (x->shape[1] % g->groups == 0 && x->shape[1] / g->groups == channels) return PSG_OK;
    char text[PSG_SHAPE_TEXT], given[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s and %lld channels, weight of shape %s with groups = "
                         "%lld takes %lld times %lld", psg_tensor_text(x, text), (long long)x->shape[1],
                         psg_tensor_text(w, given), (long long)g->groups, (long long)g->groups, (long long)channels);
}

psg_status psg_conv_begin(psg_call *call, int spatial, const int64_t *stride, const int64_t *dilation, int64_t groups,
                          psg_conv_geometry *g) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    *g = (psg_conv_geometry){ .groups = groups ? groups : 1 };
    psg_status status = psg_spatial_count(call, spatial, &spatial);
    if (!status) status = check_operands(call, spatial);
    if (!status) status = check_weight(call, g->groups);
    if (status) return status;
    g->first = 3 - spatial;
    for (int a = 0; a < 3; a++) {
        g->image[a] = g->output[a] = g->stride[a] = g->dilation[a] = 1;
        g->kernel[a] = a < g->first ? 1 : w->shape[a - g->first + 2];
    }
    g->dtype = w->dtype;
    g->samples = x->shape[0];
    g->output_channels = w->shape[0] / g->groups;
    g->image_channels = w->shape[1];
    status = psg_spatial_option(call, "stride", spatial, stride, psg_spatial_ones, 1, g->stride + g->first);
    if (!status) {
        status = psg_spatial_option(call, "dilation", spatial, dilation, psg_spatial_ones, 1, g->dilation + g->first);
    }
    return status ? status : check_channels(call, g);
}

static psg_status check_bias(psg_call *call, int64_t channels) {
    const psg_tensor *b = &call->input[PSG_CONV_BIAS].value;
    char text[PSG_SHAPE_TEXT];
    if (call->input[PSG_CONV_BIAS].role == PSG_ABSENT || (b->rank == 1 && b->shape[0] == channels)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "bias has shape %s, must have one element an output channel, (%lld)",
                         psg_tensor_text(b, text), (long long)channels);
}

psg_status psg_conv_shape(psg_call *call) {
    const bool is_transposed = traits_of(call)->is_transposed;
    psg_conv_geometry g;
    psg_status status = traits_of(call)->read(call, &g);
    if (status) return status;
    int64_t shape[5] = { g.samples };
    if (!psg_size_multiply(is_transposed ? g.image_channels : g.output_channels, g.groups, &shape[1])) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "groups is %lld, too many output channels", (long long)g.groups);
    }
    for (int a = g.first; a < 3; a++) shape[a - g.first + 2] = is_transposed ? g.image[a] : g.output[a];
    status = check_bias(call, shape[1]);
    return status ? status : psg_call_output(call, g.dtype, 5 - g.first, shape);
}

/* A convolution, or its adjoint, plus the bias. */
psg_status psg_conv_forward(psg_call *call) {
    const void *x = call->input[PSG_CONV_INPUT].value.data, *bias = call->input[PSG_CONV_BIAS].value.data;
    psg_conv_geometry g;
    psg_status status = traits_of(call)->read(call, &g);
    if (status) return status;
    if (traits_of(call)->is_transposed) return psg_conv_scatter(call, &g, x, bias, call->output.data);
    return psg_conv_gather(call, &g, x, bias, call->output.data);
}

/* The input gradient is the other direction of the output's. */
psg_status psg_conv_backward(psg_call *call) {
    const bool is_transposed = traits_of(call)->is_transposed;
    const psg_operand *x = &call->input[PSG_CONV_INPUT];
    const void *value = x->value.data, *grad = call->grad_output.data;
    psg_conv_geometry g;
    psg_status status = traits_of(call)->read(call, &g);
    if (!status && x->grad.data) {
        status = (is_transposed ? psg_conv_gather : psg_conv_scatter)(call, &g, grad, NULL, x->grad.data);
    }
    if (!status) {
        status = psg_conv_add_weight(call, &g, is_transposed ? grad : value, is_transposed ? value : grad);
    }
    return status ? status : psg_conv_add_bias(call);
}
