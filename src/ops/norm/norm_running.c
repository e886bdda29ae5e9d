/* Running statistics: their checks, their update from a batch, and normalization by them. */
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "ops/norm/norm_common.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"

/* ---- checks ---- */

static psg_status check_array(psg_call *call, const psg_tensor *array, const char *name) {
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const int64_t channels = x->shape[1];
    char text[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(array) || !psg_tensor_is_contiguous(array)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s must be a valid contiguous array", name);
    }
    if (array->dtype != x->dtype) {
        return psg_call_fail(call, PSG_ERR_DTYPE, "%s is %s, but input is %s", name, psg_dtype_name(array->dtype),
                             psg_dtype_name(x->dtype));
    }
    if (psg_shape_equal(array->rank, array->shape, 1, &channels)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, must have one element a channel, (%lld)", name,
                         psg_tensor_text(array, text), (long long)channels);
}

psg_status psg_norm_check_running(psg_call *call, const psg_norm_running *running, const char *required, bool updates) {
    if (!running->mean != !running->variance) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is given without %s; both are, or neither",
                             running->mean ? "running_mean" : "running_var",
                             running->mean ? "running_var" : "running_mean");
    }
    if (!running->mean) {
        return required ? psg_call_fail(call, PSG_ERR_ARGUMENT, "running_mean and running_var are absent, but required "
                                        "when %s is 0", required) : PSG_OK;
    }
    psg_status status = check_array(call, running->mean, "running_mean");
    if (!status) status = check_array(call, running->variance, "running_var");
    if (status || !updates || psg_may_update(call)) return status;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "running_mean and running_var would be updated from the batch, a "
                         "change of the model outside what clipping and noise protect, so a per-sample pass refuses "
                         "it; leave them out, normalize by them without input statistics, or set "
                         "psg_pass.allow_updates");
}

/* ---- update ---- */

static const psg_kernel_table *kernels_of(const psg_call *call) { return call->context->kernels[call->output.dtype]; }

static void *element(const psg_tensor *array, int64_t c) { return psg_tensor_offset(array, c); }

static void move(const psg_call *call, const psg_tensor *array, int64_t c, double momentum, double found) {
    double old = kernels_of(call)->sum(1, element(array, c)), moved = (1 - momentum) * old + momentum * found;
    kernels_of(call)->from_f64(1, 1.0, &moved, element(array, c), false);
}

void psg_norm_update_running(const psg_call *call, const psg_norm_running *running, const psg_norm_groups *groups,
                             const psg_norm_stats *stats, const double *variance) {
    const double sets = (double)groups->sets, count = (double)(groups->lines * groups->spatial);
    for (int64_t c = 0; c < groups->groups && groups->sets && count > 0; c++) {
        double mean = 0, spread = 0;
        for (int64_t k = c; k < groups->sets * groups->groups; k += groups->groups) {
            mean += stats[k].mean / stats[k].scale / sets;
            spread += variance[k] / sets;
        }
        move(call, running->mean, c, running->momentum, mean);
        move(call, running->variance, c, running->momentum, spread * (count / (count - 1)));
    }
}

/* ---- normalization by them ---- */

/* What is kept: the mean and 1 / sqrt(var + eps) of every channel as they were in forward, in the real type; before
 * them scratch in double. */
typedef struct fixed {
    char *mean, *rstd;
    double *wide;
} fixed;

static fixed fixed_at(void *kept, int64_t channels, size_t size) {
    double *wide = kept;
    char *mean = (char *)(wide + channels);
    return (fixed){ mean, mean + (size_t)channels * size, wide };
}

static psg_status keep_fixed(psg_call *call, const psg_norm_running *running, double eps, void **kept) {
    const psg_kernel_table *kernels = kernels_of(call);
    const int64_t channels = running->mean->shape[0];
    const size_t size = psg_dtype_size(call->output.dtype), count = (size_t)channels;
    psg_status status = psg_norm_keep(call, channels, sizeof(double) + 2 * size, kept);
    if (status) return status;
    fixed f = fixed_at(*kept, channels, size);
    memcpy(f.mean, running->mean->data, count * size);
    memset(f.wide, 0, count * sizeof *f.wide);
    kernels->add_to_f64(count, 1.0, running->variance->data, f.wide);
    const double most = size == sizeof(double) ? 0x1.fffffffffffffp1023 : 0x1.fffffep127;   /* 0 times it is 0 */
    for (size_t c = 0; c < count; c++) {
        double rstd = 1 / sqrt(f.wide[c] + eps);
        f.wide[c] = rstd > most && !isinf(rstd) ? most : rstd;
    }
    kernels->from_f64(count, 1.0, f.wide, f.rstd, false);
    return PSG_OK;
}

typedef struct fixed_job {
    const psg_call *call;
    psg_norm_layout layout;
    fixed fixed;
    size_t size;
    bool rows;                       /* a unit is a sample, a row of channels; else a line of one channel */
    char *grad_weight, *grad_bias;   /* (samples, channels), or NULL */
} fixed_job;

static fixed_job job_of(const psg_call *call, void *kept) {
    fixed_job j = { .call = call, .layout = psg_norm_layout_of(call), .size = psg_dtype_size(call->output.dtype) };
    j.fixed = fixed_at(kept, j.layout.channels, j.size);
    j.rows = j.layout.spatial == 1;
    return j;
}

/* One unit: its elements, their channel (of rows: the first) and its place in (samples, channels). */
typedef struct unit {
    int64_t at, channel, place;
    size_t length;
} unit;

static unit unit_at(const fixed_job *j, size_t index) {
    const int64_t k = (int64_t)index, channels = j->layout.channels, spatial = j->layout.spatial;
    return j->rows ? (unit){ k * channels, 0, k * channels, (size_t)channels }
                   : (unit){ k * spatial, k % channels, k, (size_t)spatial };
}

static char *place(const fixed_job *j, char *memory, int64_t at) {
    return memory ? memory + (size_t)at * j->size : NULL;
}

static void forward_units(void *argument, size_t begin, size_t count) {
    const fixed_job *j = argument;
    for (size_t index = begin; index < begin + count; index++) {
        const unit u = unit_at(j, index);
        kernels_of(j->call)->fixed_norm(u.length, j->rows, psg_norm_data(j->call, PSG_NORM_INPUT, u.at),
                                        place(j, j->fixed.mean, u.channel), place(j, j->fixed.rstd, u.channel),
                                        psg_norm_data(j->call, PSG_NORM_WEIGHT, u.channel),
                                        psg_norm_data(j->call, PSG_NORM_BIAS, u.channel),
                                        psg_tensor_offset(&j->call->output, u.at));
    }
}

static void backward_units(void *argument, size_t begin, size_t count) {
    const fixed_job *j = argument;
    const psg_call *call = j->call;
    for (size_t index = begin; index < begin + count; index++) {
        const unit u = unit_at(j, index);
        kernels_of(call)->fixed_norm_backward(u.length, j->rows, psg_norm_data(call, PSG_NORM_INPUT, u.at),
                                              psg_tensor_offset(&call->grad_output, u.at),
                                              place(j, j->fixed.mean, u.channel), place(j, j->fixed.rstd, u.channel),
                                              psg_norm_data(call, PSG_NORM_WEIGHT, u.channel),
                                              psg_tensor_offset(&call->input[PSG_NORM_INPUT].grad, u.at),
                                              place(j, j->grad_weight, u.place), place(j, j->grad_bias, u.place));
    }
}

static void for_units(psg_range_task task, fixed_job *j) {
    const psg_norm_layout *l = &j->layout;
    const int64_t units = j->rows ? l->samples : l->samples * l->channels, length = j->rows ? l->channels : l->spatial;
    if (length) psg_for_ranges(j->call->context, (size_t)units, psg_range_unit(length), task, j);
}

psg_status psg_norm_fixed_forward(psg_call *call, const psg_norm_running *running, double eps, void **kept) {
    psg_status status = keep_fixed(call, running, eps, kept);
    if (status) return status;
    fixed_job j = job_of(call, *kept);
    for_units(forward_units, &j);
    return PSG_OK;
}

static psg_status keep_channels(const fixed_job *j, psg_call *call, int k, char **memory) {
    const int64_t count = j->layout.samples * j->layout.channels;
    void *taken = NULL;
    psg_status status = psg_norm_wants(call, k) ? psg_norm_keep(call, count, j->size, &taken) : PSG_OK;
    if (taken && !j->layout.spatial) memset(taken, 0, (size_t)count * j->size);
    *memory = taken;
    return status;
}

/* With xh = (x - mean) rstd, all given:  grad_input = g weight rstd, grad_weight = sum g xh, grad_bias = sum g. */
psg_status psg_norm_fixed_backward(psg_call *call) {
    fixed_job j = job_of(call, call->kept);
    const psg_norm_layout *l = &j.layout;
    psg_status status = keep_channels(&j, call, PSG_NORM_WEIGHT, &j.grad_weight);
    if (!status) status = keep_channels(&j, call, PSG_NORM_BIAS, &j.grad_bias);
    if (status) return status;
    if (j.grad_weight || j.grad_bias || call->input[PSG_NORM_INPUT].grad.data) for_units(backward_units, &j);
    if (j.grad_weight) status = psg_norm_add_rows(call, PSG_NORM_WEIGHT, j.grad_weight, l->samples, 1, l->channels);
    if (status || !j.grad_bias) return status;
    return psg_norm_add_rows(call, PSG_NORM_BIAS, j.grad_bias, l->samples, 1, l->channels);
}
