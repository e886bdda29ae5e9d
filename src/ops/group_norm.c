/* group_norm: layer_norm's formula over each group of channels and all positions, with one weight a channel. */
#include <string.h>

#include "base/context.h"
#include "base/shape.h"
#include "ops/norm.h"
#include "ops/operand.h"
#include "ops/ranges.h"
#include "psg/ops.h"

/* Channel c of sample n is a run of spatial elements from n * sample_stride + c * channel_stride. */
typedef struct layout {
    int64_t samples, channels, spatial, sample_stride, channel_stride;
    int64_t groups, group_channels;
} layout;

/* ---- shape ---- */

static int channel_dim(const psg_call *call) {
    return 1 - psg_call_batch_dim(call, &call->input[PSG_NORM_INPUT].value);
}

static psg_status check_groups(psg_call *call) {
    const psg_group_norm_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const long long groups = attributes->num_groups;
    char text[PSG_SHAPE_TEXT];
    if (x->rank < 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must have a batch and a channel dimension",
                             psg_tensor_text(x, text));
    }
    if (groups <= 0) return psg_call_fail(call, PSG_ERR_ARGUMENT, "num_groups is %lld, must be greater than 0", groups);
    if (x->shape[channel_dim(call)] % groups == 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "num_groups is %lld, must divide the %lld channels of input of shape %s",
                         groups, (long long)x->shape[channel_dim(call)], psg_tensor_text(x, text));
}

static psg_status group_norm_shape(psg_call *call) {
    psg_status status = psg_norm_check_operands(call);
    if (!status) status = check_groups(call);
    if (status) return status;
    status = psg_norm_check_affine(call, 1, &call->input[PSG_NORM_INPUT].value.shape[channel_dim(call)],
                                   "one element a channel");
    return status ? status : psg_output_like_input(call);
}

static layout layout_of(const psg_call *call) {
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const int channel = channel_dim(call);
    layout l = { .samples = x->shape[1 - channel], .channels = x->shape[channel] };
    l.spatial = psg_tensor_count(x) ? psg_shape_product(x->rank - 2, x->shape + 2) : 0;
    l.sample_stride = l.spatial * (channel == 1 ? l.channels : 1);
    l.channel_stride = l.spatial * (channel == 1 ? 1 : l.samples);
    l.groups = ((const psg_group_norm_attributes *)call->attributes)->num_groups;
    l.group_channels = l.channels / l.groups;
    return l;
}

/* ---- forward and backward: one job a group of a sample ---- */

typedef struct group_job {
    const psg_call *call;
    const psg_kernel_table *kernels;
    layout layout;
    double *stats;
    void *grad_weight, *grad_bias;   /* backward: (samples, channels), or NULL */
    bool stream;
} group_job;

/* Views of one group: where its elements and its channels begin. */
typedef struct group {
    int64_t at, channel, sample_channel;
    double *stats;
} group;

static group group_at(const group_job *j, size_t index) {
    const layout *l = &j->layout;
    int64_t n = (int64_t)index / l->groups, channel = (int64_t)index % l->groups * l->group_channels;
    return (group){ n * l->sample_stride + channel * l->channel_stride, channel, n * l->channels + channel,
                    j->stats ? j->stats + 2 * index : NULL };
}

static void *element(const group_job *j, void *memory, int64_t k) {
    return memory ? (char *)memory + k * (int64_t)psg_dtype_size(j->call->output.dtype) : NULL;
}

/* Channels without positions are a row of elements, each with its own weight. */
static bool is_row(const layout *l) { return l->spatial == 1 && l->channel_stride == 1; }

static void forward_group(const group_job *j, size_t index) {
    const psg_operand *input = j->call->input;
    const layout *l = &j->layout;
    const group g = group_at(j, index);
    const double eps = ((const psg_group_norm_attributes *)j->call->attributes)->eps;
    const void *x = psg_tensor_offset(&input[PSG_NORM_INPUT].value, g.at);
    const void *weight = psg_tensor_offset(&input[PSG_NORM_WEIGHT].value, g.channel);
    const void *bias = psg_tensor_offset(&input[PSG_NORM_BIAS].value, g.channel);
    void *y = psg_tensor_offset(&j->call->output, g.at);
    if (is_row(l)) {
        j->kernels->layer_norm(1, (size_t)l->group_channels, eps, x, weight, bias, y, g.stats, j->stream);
    } else {
        j->kernels->group_norm((size_t)l->group_channels, (size_t)l->spatial, l->channel_stride, eps, x, weight, bias,
                               y, g.stats, j->stream);
    }
}

static void forward_groups(void *argument, size_t begin, size_t count) {
    for (size_t index = begin; index < begin + count; index++) forward_group(argument, index);
}

static void backward_group(const group_job *j, size_t index) {
    const psg_operand *input = j->call->input;
    const layout *l = &j->layout;
    const group g = group_at(j, index);
    const void *x = psg_tensor_offset(&input[PSG_NORM_INPUT].value, g.at);
    const void *grad_output = psg_tensor_offset(&j->call->grad_output, g.at);
    const void *weight = psg_tensor_offset(&input[PSG_NORM_WEIGHT].value, g.channel);
    void *grad_input = psg_tensor_offset(&input[PSG_NORM_INPUT].grad, g.at);
    void *grad_weight = element(j, j->grad_weight, g.sample_channel);
    void *grad_bias = element(j, j->grad_bias, g.sample_channel);
    if (is_row(l)) {
        j->kernels->layer_norm_backward(1, (size_t)l->group_channels, x, grad_output, weight, g.stats, grad_input,
                                        grad_weight, grad_bias, j->stream);
    } else {
        j->kernels->group_norm_backward((size_t)l->group_channels, (size_t)l->spatial, l->channel_stride, x,
                                        grad_output, weight, g.stats, grad_input, grad_weight, grad_bias, j->stream);
    }
}

static void backward_groups(void *argument, size_t begin, size_t count) {
    for (size_t index = begin; index < begin + count; index++) backward_group(argument, index);
}

static void for_groups(const psg_call *call, psg_range_task task, group_job *j) {
    const layout *l = &j->layout;
    size_t groups = l->spatial && l->group_channels ? (size_t)(l->samples * l->groups) : 0;
    psg_for_ranges(call->context, groups, psg_range_unit(l->group_channels * l->spatial), task, j);
}

static group_job job_of(psg_call *call) {
    group_job j = { .call = call, .kernels = psg_call_kernels(call), .layout = layout_of(call), .stats = call->kept };
    j.stream = psg_norm_streams(call, is_row(&j.layout) ? j.layout.group_channels : j.layout.spatial);
    return j;
}

static psg_status group_norm_forward(psg_call *call) {
    group_job j = job_of(call);
    int64_t groups = psg_tensor_count(&call->output) ? j.layout.samples * j.layout.groups : 0;
    psg_status status = psg_norm_keep_stats(call, groups, &j.stats);
    if (!status) for_groups(call, forward_groups, &j);
    return status;
}

/* Memory for the (samples, channels) gradient of input k when it is wanted, 0 where no group will write or add. */
static psg_status keep_channels(psg_call *call, int k, const layout *l, void **memory) {
    if (!call->input[k].wants_grad) return PSG_OK;
    int64_t count;
    if (!psg_size_multiply(l->samples, l->channels, &count)) count = -1;
    psg_status status = psg_norm_keep_reals(call, count, memory);
    if (!status && (!l->spatial || is_row(l))) memset(*memory, 0, (size_t)count * psg_dtype_size(call->output.dtype));
    return status;
}

/* As layer_norm's, where the sums of g and of g (x - mean) over a channel give its bias and weight gradients, and those
 * of the group's channels the two means. */
static psg_status group_norm_backward(psg_call *call) {
    group_job j = job_of(call);
    const layout *l = &j.layout;
    psg_status status = keep_channels(call, PSG_NORM_WEIGHT, l, &j.grad_weight);
    if (!status) status = keep_channels(call, PSG_NORM_BIAS, l, &j.grad_bias);
    if (status) return status;
    for_groups(call, backward_groups, &j);
    if (j.grad_weight) status = psg_norm_add_rows(call, PSG_NORM_WEIGHT, j.grad_weight, l->samples, 1, l->channels);
    if (status || !j.grad_bias) return status;
    return psg_norm_add_rows(call, PSG_NORM_BIAS, j.grad_bias, l->samples, 1, l->channels);
}

const psg_op psg_op_group_norm = {
    .name = "group_norm",
    .input_count = PSG_NORM_INPUTS,
    .input_names = psg_norm_input_names,
    .optional_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .parameter_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .attributes_size = sizeof(psg_group_norm_attributes),
    .shape = group_norm_shape,
    .forward = group_norm_forward,
    .backward = group_norm_backward,
};

psg_var psg_group_norm(psg_tape *tape, psg_var x, int64_t num_groups, psg_var weight, psg_var bias, double eps) {
    psg_group_norm_attributes attributes = { num_groups, eps };
    return psg_record(tape, &psg_op_group_norm, (psg_var[]){ x, weight, bias }, PSG_NORM_INPUTS, &attributes);
}
