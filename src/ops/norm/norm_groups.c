/* Normalization by the statistics of groups of lines: one task a few groups. */
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "ops/norm/norm_common.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"

psg_norm_groups psg_norm_groups_of(const psg_call *call, int64_t num_groups, double eps) {
    const psg_norm_layout l = psg_norm_layout_of(call);
    const int64_t lines = l.channels / num_groups;
    return (psg_norm_groups){ .sets = l.samples, .groups = num_groups, .lines = lines, .spatial = l.spatial,
                              .group_stride = lines * l.spatial, .line_stride = l.spatial, .eps = eps };
}

typedef struct group_job {
    const psg_call *call;
    const psg_kernel_table *kernels;
    psg_norm_groups groups;
    psg_norm_stats *stats;
    double *variance;
    void *grad_weight, *grad_bias;   /* backward: (sets, groups, lines), or NULL */
    bool stream;
} group_job;

/* Where the elements of one group and its weights begin. */
typedef struct group {
    int64_t at, weight;
} group;

static group group_at(const psg_norm_groups *g, size_t index) {
    return (group){ (int64_t)index * g->group_stride,
                    (int64_t)index % g->groups * (g->one_weight ? 1 : g->lines) };
}

static void *element(const group_job *j, void *memory, int64_t k) {
    return memory ? (char *)memory + k * (int64_t)psg_dtype_size(j->call->output.dtype) : NULL;
}

/* Lines of one element side by side are a row, each element with its own weight. */
static bool is_row(const psg_norm_groups *g) { return g->spatial == 1 && !g->one_weight; }

static void forward_group(const group_job *j, size_t index) {
    const psg_norm_groups *g = &j->groups;
    const group at = group_at(g, index);
    const void *x = psg_norm_data(j->call, PSG_NORM_INPUT, at.at);
    const void *weight = psg_norm_data(j->call, PSG_NORM_WEIGHT, at.weight);
    const void *bias = psg_norm_data(j->call, PSG_NORM_BIAS, at.weight);
    void *y = psg_tensor_offset(&j->call->output, at.at);
    psg_norm_stats *stats = j->stats ? j->stats + index : NULL;
    if (is_row(g)) {
        j->kernels->layer_norm(1, (size_t)g->lines, g->eps, x, weight, bias, y, stats, j->stream);
    } else {
        j->kernels->group_norm((size_t)g->lines, (size_t)g->spatial, g->line_stride, g->eps, x, weight, bias,
                               !g->one_weight, y, stats, j->variance ? j->variance + index : NULL, j->stream);
    }
}

static void forward_groups(void *argument, size_t begin, size_t count) {
    for (size_t index = begin; index < begin + count; index++) forward_group(argument, index);
}

static void backward_group(const group_job *j, size_t index) {
    const psg_norm_groups *g = &j->groups;
    const group at = group_at(g, index);
    const void *x = psg_norm_data(j->call, PSG_NORM_INPUT, at.at);
    const void *grad_output = psg_tensor_offset(&j->call->grad_output, at.at);
    const void *weight = psg_norm_data(j->call, PSG_NORM_WEIGHT, at.weight);
    void *grad_input = psg_tensor_offset(&j->call->input[PSG_NORM_INPUT].grad, at.at);
    void *grad_weight = element(j, j->grad_weight, (int64_t)index * g->lines);
    void *grad_bias = element(j, j->grad_bias, (int64_t)index * g->lines);
    const psg_norm_stats *stats = (const psg_norm_stats *)j->call->kept + index;
    if (is_row(g)) {
        j->kernels->layer_norm_backward(1, (size_t)g->lines, x, grad_output, weight, stats, grad_input, grad_weight,
                                        grad_bias, (size_t)g->lines, j->stream);
    } else {
        j->kernels->group_norm_backward((size_t)g->lines, (size_t)g->spatial, g->line_stride, x, grad_output, weight,
                                        !g->one_weight, stats, grad_input, grad_weight, grad_bias, j->stream);
    }
}

static void backward_groups(void *argument, size_t begin, size_t count) {
    for (size_t index = begin; index < begin + count; index++) backward_group(argument, index);
}

static group_job job_of(const psg_call *call, const psg_norm_groups *groups) {
    return (group_job){ .call = call, .kernels = psg_call_kernels(call), .groups = *groups,
                        .stream = psg_norm_streams(call, is_row(groups) ? groups->lines : groups->spatial) };
}

static void for_groups(psg_range_task task, group_job *j) {
    const psg_norm_groups *g = &j->groups;
    size_t count = g->spatial && g->lines ? (size_t)(g->sets * g->groups) : 0;
    psg_for_ranges(j->call->context, count, psg_range_unit(g->lines * g->spatial), task, j);
}

/* Statistics and, where they are to update others, variances behind them. */
static psg_status keep_statistics(psg_call *call, const psg_norm_groups *g, bool updates, group_job *j) {
    const int64_t count = g->spatial ? g->sets * g->groups : 0;
    void *memory;
    if (!updates) return psg_norm_keep_stats(call, count, &j->stats);
    psg_status status = psg_norm_keep(call, count, sizeof *j->stats + sizeof *j->variance, &memory);
    if (status) return status;
    j->stats = memory;
    j->variance = (double *)(j->stats + count);
    return PSG_OK;
}

psg_status psg_norm_groups_forward(psg_call *call, const psg_norm_groups *groups, const psg_norm_running *running,
                                   void **kept) {
    const bool updates = running && running->mean;
    group_job j = job_of(call, groups);
    psg_status status = keep_statistics(call, groups, updates, &j);
    if (status) return status;
    for_groups(forward_groups, &j);
    if (updates) psg_norm_update_running(call, running, groups, j.stats, j.variance);
    *kept = j.stats;
    return PSG_OK;
}

/* As layer_norm's, where the sums of g and of g (x - mean) over a line give its bias and weight gradients, and those of
 * the group's lines the two means. */
void psg_norm_groups_backward(const psg_call *call, const psg_norm_groups *groups, void *grad_weight,
                              void *grad_bias) {
    group_job j = job_of(call, groups);
    j.grad_weight = grad_weight;
    j.grad_bias = grad_bias;
    for_groups(backward_groups, &j);
}

psg_status psg_norm_keep_lines(psg_call *call, int k, const psg_norm_groups *g, void **memory) {
    const size_t size = psg_dtype_size(call->output.dtype);
    *memory = NULL;
    if (!psg_norm_wants(call, k)) return PSG_OK;
    int64_t count;
    if (!psg_size_multiply(g->sets, g->groups * g->lines, &count)) count = -1;
    psg_status status = psg_norm_keep(call, count, size, memory);
    if (!status && !g->spatial) memset(*memory, 0, (size_t)count * size);
    return status;
}

psg_status psg_norm_groups_gradients(psg_call *call, const psg_norm_groups *g) {
    void *grad_weight, *grad_bias;
    psg_status status = psg_norm_keep_lines(call, PSG_NORM_WEIGHT, g, &grad_weight);
    if (!status) status = psg_norm_keep_lines(call, PSG_NORM_BIAS, g, &grad_bias);
    if (status) return status;
    psg_norm_groups_backward(call, g, grad_weight, grad_bias);
    if (grad_weight) status = psg_norm_add_rows(call, PSG_NORM_WEIGHT, grad_weight, g->sets, 1, g->groups * g->lines);
    if (status || !grad_bias) return status;
    return psg_norm_add_rows(call, PSG_NORM_BIAS, grad_bias, g->sets, 1, g->groups * g->lines);
}
