/* What the shape functions of convolutions and transposed convolutions check alike. */
#include "base/shapes.h"
#include "ops/conv/conv_geometry.h"
#include "ops/shared/operand.h"

const char *const psg_conv_input_names[PSG_CONV_INPUTS] = { "input", "weight", "bias" };

static psg_status check_roles(psg_call *call) {
    for (int k = PSG_CONV_WEIGHT; k <= PSG_CONV_BIAS; k++) {
        if (call->input[k].role != PSG_BATCHED) continue;
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s is computed from an input of the pass, must be a "
                             "parameter or a constant", psg_conv_input_names[k]);
    }
    return PSG_OK;
}

psg_status psg_conv_check_operands(psg_call *call, int spatial) {
    const psg_tensor *x = &call->input[PSG_CONV_INPUT].value, *w = &call->input[PSG_CONV_WEIGHT].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operands_real(call, PSG_CONV_INPUTS);
    if (!status) status = check_roles(call);
    if (status) return status;
    if (x->rank != spatial + 2) {
        const char *hint = x->rank == spatial + 1 ? ": it has no batch dimension" : "";
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must have rank %d (batch, channels, %d "
                             "spatial)%s", psg_tensor_text(x, text), spatial + 2, spatial, hint);
    }
    if (w->rank != spatial + 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight has shape %s, must have rank %d (two dimensions of channels, "
                             "%d of the kernel)", psg_tensor_text(w, text), spatial + 2, spatial);
    }
    return psg_operand_carries_batch(call, PSG_CONV_INPUT);
}

psg_status psg_conv_check_option(psg_call *call, const char *name, int spatial, const int64_t *given, int64_t least,
                                 int64_t otherwise, int64_t *found) {
    for (int d = 0; d < spatial; d++) {
        found[d] = given[d] ? given[d] : otherwise;
        if (found[d] < least) {
            return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s[%d] is %lld, must be at least %lld", name, d,
                                 (long long)given[d], (long long)least);
        }
        if (found[d] > INT32_MAX) {
            return psg_call_fail(call, PSG_ERR_OVERFLOW, "%s[%d] is %lld, must be below 2^31", name, d,
                                 (long long)given[d]);
        }
    }
    return otherwise ? psg_operand_option_is_whole(call, name, spatial, given) : PSG_OK;
}

psg_status psg_conv_check_weight(psg_call *call, int64_t groups) {
    const psg_tensor *w = &call->input[PSG_CONV_WEIGHT].value;
    char text[PSG_SHAPE_TEXT];
    if (groups < 1) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "groups is %lld, must be greater than 0", (long long)groups);
    }
    for (int d = 0; d < w->rank; d++) {
        if (d >= 2 && w->shape[d] == 0) {
            return psg_call_fail(call, PSG_ERR_SHAPE, "weight has shape %s, must have a kernel of at least one element",
                                 psg_tensor_text(w, text));
        }
        if (w->shape[d] > INT32_MAX) {
            return psg_call_fail(call, PSG_ERR_OVERFLOW, "weight has shape %s, dimensions must be below 2^31",
                                 psg_tensor_text(w, text));
        }
    }
    if (w->shape[0] % groups == 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "groups is %lld, must divide the first dimension of weight of shape %s",
                         (long long)groups, psg_tensor_text(w, text));
}

psg_status psg_conv_check_bias(psg_call *call, int64_t outputs) {
    const psg_tensor *b = &call->input[PSG_CONV_BIAS].value;
    char text[PSG_SHAPE_TEXT];
    if (call->input[PSG_CONV_BIAS].role == PSG_ABSENT || (b->rank == 1 && b->shape[0] == outputs)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "bias has shape %s, must have one element an output channel, (%lld)",
                         psg_tensor_text(b, text), (long long)outputs);
}

/* Strides of a contiguous array whose first two dimensions are batch and channel in either order. */
static void strides_of(const psg_call *call, const psg_tensor *x, int64_t *sample, int64_t *channel) {
    const int batch = 0;
    const int64_t positions = psg_tensor_count(x) ? psg_shape_product(x->rank - 2, x->shape + 2) : 0;
    *sample = batch ? positions : positions * x->shape[1];
    *channel = batch ? positions * x->shape[1] : positions;
}

void psg_conv_fill_geometry(psg_conv_geometry *g, const psg_call *call, const psg_tensor *image,
                            const psg_tensor *output) {
    const psg_tensor *w = &call->input[PSG_CONV_WEIGHT].value;
    const int absent = 3 - g->spatial;
    for (int a = 2; a >= 0; a--) {
        const int d = a - absent;
        g->image[a] = d < 0 ? 1 : image->shape[d + 2];
        g->output[a] = d < 0 ? 1 : output->shape[d + 2];
        g->kernel[a] = d < 0 ? 1 : w->shape[d + 2];
        g->stride[a] = d < 0 ? 1 : g->stride[d];
        g->dilation[a] = d < 0 ? 1 : g->dilation[d];
        g->padding[a] = d < 0 ? 0 : g->padding[d];
    }
    g->dtype = w->dtype;
    g->samples = image->shape[0];
    g->output_channels = w->shape[0] / g->groups;
    g->image_channels = w->shape[1];
    strides_of(call, image, &g->image_sample, &g->image_channel);
    strides_of(call, output, &g->output_sample, &g->output_channel);
}
