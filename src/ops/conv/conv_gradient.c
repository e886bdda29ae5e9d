/* The parameters' gradients of convolutions. */
#include "base/context.h"
#include "base/shapes.h"
#include "ops/conv/conv_geometry.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"

/* ---- weight ---- */

/* Three axes as the op's own spatial dimensions. */
static psg_window window_of(const psg_conv_geometry *g) {
    psg_window w = { .spatial = g->spatial };
    for (int d = 0; d < g->spatial; d++) {
        const int a = d + 3 - g->spatial;
        w.kernel[d] = g->kernel[a];
        w.stride[d] = g->stride[a];
        w.dilation[d] = g->dilation[a];
        w.padding[d] = g->padding[a];
        w.output[d] = g->output[a];
    }
    return w;
}

static psg_tensor image_of(const psg_conv_geometry *g, const void *data, int64_t group) {
    int64_t shape[5] = { g->samples, g->image_channels }, stride[5] = { g->image_sample, g->image_channel };
    for (int d = 0; d < g->spatial; d++) shape[d + 2] = g->image[d + 3 - g->spatial];
    for (int d = g->spatial - 1, step = 1; d >= 0; d--) {
        stride[d + 2] = d == g->spatial - 1 ? step : stride[d + 3] * shape[d + 3];
    }
    psg_tensor view = psg_tensor_strided(g->dtype, NULL, g->spatial + 2, shape, stride);
    view.data = (char *)(uintptr_t)data +
                group * g->image_channels * g->image_channel * (int64_t)psg_dtype_size(g->dtype);
    return view;
}

static psg_tensor backprop_of(const psg_conv_geometry *g, const void *data, int64_t group) {
    const int64_t shape[] = { g->samples, psg_shape_product(3, g->output), g->output_channels };
    const int64_t stride[] = { g->output_sample, 1, g->output_channel };
    psg_tensor view = psg_tensor_strided(g->dtype, NULL, 3, shape, stride);
    view.data = (char *)(uintptr_t)data +
                group * g->output_channels * g->output_channel * (int64_t)psg_dtype_size(g->dtype);
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
    const psg_tensor *grad;
    void *rows;                       /* (B, O) */
    int64_t channels, positions, sample, channel;
} bias_job;

static void sum_channels(void *argument, size_t begin, size_t count) {
    const bias_job *j = argument;
    for (size_t k = begin; k < begin + count; k++) {
        int64_t n = (int64_t)k / j->channels, c = (int64_t)k % j->channels;
        double sum = j->kernels->sum((size_t)j->positions,
                                     psg_tensor_offset(j->grad, n * j->sample + c * j->channel));
        j->kernels->from_f64(1, 1.0, &sum, (char *)j->rows + k * psg_dtype_size(j->grad->dtype), false);
    }
}

psg_status psg_conv_add_bias(psg_call *call) {
    if (!call->input[PSG_CONV_BIAS].wants_grad) return PSG_OK;
    const psg_tensor *g = &call->grad_output;
    const int batch = 0;
    const int64_t shape[] = { g->shape[batch], g->shape[1 - batch] };
    bias_job j = { .kernels = psg_call_kernels(call), .grad = g, .channels = shape[1],
                   .positions = psg_tensor_count(g) ? psg_shape_product(g->rank - 2, g->shape + 2) : 0 };
    j.sample = batch ? j.positions : j.positions * shape[1];
    j.channel = batch ? j.positions * shape[0] : j.positions;
    const size_t count = (size_t)(shape[0] * shape[1]);
    j.rows = psg_call_keep(call, count * psg_dtype_size(g->dtype));
    if (!j.rows) return PSG_ERR_MEMORY;
    psg_for_ranges(call->context, count, psg_range_unit(j.positions), sum_channels, &j);
    const psg_tensor rows = psg_tensor_of(g->dtype, j.rows, 2, shape);
    return psg_call_add_rows(call, PSG_CONV_BIAS, &rows);
}
