/* The parameters' gradients of convolutions. */
#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/conv/conv_geometry.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"

/* ---- weight ---- */

/* Three axes as the op's own spatial dimensions. */
static psg_window window_of(const psg_conv_geometry *g) {
    psg_window w = { .spatial = 3 - g->first };
    for (int a = g->first; a < 3; a++) {
        const int d = a - g->first;
        w.kernel[d] = g->kernel[a];
        w.stride[d] = g->stride[a];
        w.dilation[d] = g->dilation[a];
        w.padding[d] = g->padding[a];
        w.output[d] = g->output[a];
    }
    return w;
}

/* The channels of a group. */
static psg_tensor image_of(const psg_conv_geometry *g, const void *data, int64_t group) {
    int64_t shape[5] = { g->samples, g->groups * g->image_channels };
    for (int a = g->first; a < 3; a++) shape[a - g->first + 2] = g->image[a];
    psg_tensor view = psg_tensor_of(g->dtype, (void *)(uintptr_t)data, 5 - g->first, shape);
    view.shape[1] = g->image_channels;
    view.data = psg_tensor_offset(&view, group * g->image_channels * view.stride[1]);
    return view;
}

static psg_tensor backprop_of(const psg_conv_geometry *g, const void *data, int64_t group) {
    const int64_t positions = psg_shape_product(3, g->output), channels = g->output_channels;
    const int64_t shape[] = { g->samples, positions, channels };
    const int64_t stride[] = { g->groups * channels * positions, 1, positions };
    psg_tensor view = psg_tensor_strided(g->dtype, (void *)(uintptr_t)data, 3, shape, stride);
    view.data = psg_tensor_offset(&view, group * channels * positions);
    return view;
}

static psg_status add_unfolded(psg_call *call, const psg_conv_geometry *g, const void *image, const void *output) {
    const psg_window window = window_of(g);
    const int64_t d = g->image_channels * psg_shape_product(3, g->kernel);
    psg_status status = PSG_OK;
    for (int64_t group = 0; group < g->groups && !status; group++) {
        psg_tensor windows_of = image_of(g, image, group), backprop = backprop_of(g, output, group);
        psg_block block = psg_unfolded(&backprop, &windows_of, &window);
        block.offset = group * g->output_channels * d;
        block.row_stride = d;
        status = psg_call_add_block(call, PSG_CONV_WEIGHT, &block);
    }
    return status;
}

static psg_status add_rows(psg_call *call, const psg_conv_geometry *g, const void *image, const void *output) {
    const int64_t weight = psg_tensor_count(&call->input[PSG_CONV_WEIGHT].value);
    const int64_t shape[] = { g->samples, weight };
    int64_t count;
    size_t bytes;
    if (!psg_size_multiply(g->samples, weight, &count) || !psg_size_bytes(count, psg_dtype_size(g->dtype), &bytes)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "%lld gradients of %lld elements do not fit the memory",
                             (long long)g->samples, (long long)weight);
    }
    psg_tensor rows = psg_tensor_of(g->dtype, psg_call_keep(call, bytes), 2, shape);
    if (!rows.data) return PSG_ERR_MEMORY;
    psg_status status = psg_conv_weight_rows(call, g, image, output, rows.data);
    return status ? status : psg_call_add_rows(call, PSG_CONV_WEIGHT, &rows);
}

/* sum_t g[o, t] x[c, t stride + k dilation - padding]: a block a group.  Groups of few channels are too many to be
 * blocks and too small for products of matrices. */
psg_status psg_conv_add_weight(psg_call *call, const psg_conv_geometry *g, const void *image, const void *output) {
    const int64_t few = g->groups > 1 ? 16 : 2;
    if (!call->input[PSG_CONV_WEIGHT].wants_grad) return PSG_OK;
    if (g->image_channels * g->output_channels <= few) return add_rows(call, g, image, output);
    return add_unfolded(call, g, image, output);
}

/* ---- bias: the sum of each channel of each sample's output gradient ---- */

typedef struct bias_job {
    const psg_kernel_table *kernels;
    const psg_tensor *grad, *rows;    /* (B, O, *X), (B, O) */
    int64_t positions;
} bias_job;

static void sum_channels(void *argument, size_t begin, size_t count) {
    const bias_job *j = argument;
    for (int64_t k = (int64_t)begin; k < (int64_t)(begin + count); k++) {
        double sum = j->kernels->sum((size_t)j->positions, psg_tensor_offset(j->grad, k * j->positions));
        j->kernels->from_f64(1, 1.0, &sum, psg_tensor_offset(j->rows, k), false);
    }
}

psg_status psg_conv_add_bias(psg_call *call) {
    if (!call->input[PSG_CONV_BIAS].wants_grad) return PSG_OK;
    const psg_tensor *g = &call->grad_output;
    const int64_t count = g->shape[0] * g->shape[1];
    void *memory = psg_call_keep(call, (size_t)count * psg_dtype_size(g->dtype));
    if (!memory) return PSG_ERR_MEMORY;
    const psg_tensor rows = psg_tensor_of(g->dtype, memory, 2, g->shape);
    bias_job j = { psg_call_kernels(call), g, &rows, count ? psg_tensor_count(g) / count : 0 };
    psg_for_ranges(call->context, (size_t)count, psg_range_unit(j.positions), sum_channels, &j);
    return psg_call_add_rows(call, PSG_CONV_BIAS, &rows);
}
