#include "ops/pooling/pooling_windows.h"

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "ops/shared/spatial.h"

const char *const psg_pooling_input_names[1] = { "input" };

static psg_status windows_of(psg_call *call, psg_pooling_windows *windows) {
    const psg_pooling_traits *traits = call->op->traits;
    return traits->windows(call, windows);
}

static bool is_max(const psg_call *call) { return ((const psg_pooling_traits *)call->op->traits)->is_max; }

/* ---- shape ---- */

psg_status psg_pooling_input(psg_call *call, int spatial, psg_pooling_windows *windows) {
    const psg_tensor *x = &call->input[0].value;
    char text[PSG_SHAPE_TEXT];
    *windows = (psg_pooling_windows){ .spatial = 0 };
    psg_status status = psg_spatial_count(call, spatial, &windows->spatial);
    if (status) return status;
    const int64_t plane = psg_shape_product(windows->spatial, x->shape + 2);
    for (int d = 0; d < windows->spatial; d++) {
        windows->axis[d].in = x->shape[2 + d];
        if (x->shape[2 + d]) continue;
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, its spatial dimensions must not be 0",
                             psg_tensor_text(x, text));
    }
    if (plane > 0 && plane <= INT32_MAX) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_OVERFLOW, "input has shape %s, its spatial dimensions must have fewer than 2^31 "
                         "elements", psg_tensor_text(x, text));
}

static int64_t output_size(const psg_pooling_axis *axis, bool ceil_mode) {
    const int64_t room = axis->in + 2 * axis->padding - axis->dilation * (axis->kernel - 1) - 1;
    if (room < 0 && (!ceil_mode || room + axis->stride - 1 < 0)) return 0;
    int64_t out = (room + (ceil_mode ? axis->stride - 1 : 0)) / axis->stride + 1;
    return ceil_mode && (out - 1) * axis->stride >= axis->in + axis->padding ? out - 1 : out;
}

psg_status psg_pooling_fixed(psg_call *call, const int64_t *kernel, const int64_t *stride, const int64_t *padding,
                             const int64_t *dilation, bool ceil_mode, psg_pooling_windows *windows) {
    const int spatial = windows->spatial;
    int64_t size[3], apart[3], before[3], step[3] = { 1, 1, 1 };
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_spatial_option(call, "kernel_size", spatial, kernel, NULL, 1, size);
    if (!status) status = psg_spatial_option(call, "stride", spatial, stride, size, 1, apart);
    if (!status) status = psg_spatial_option(call, "padding", spatial, padding, NULL, 0, before);
    if (!status && dilation) {
        status = psg_spatial_option(call, "dilation", spatial, dilation, psg_spatial_ones, 1, step);
    }
    for (int d = 0; d < spatial && !status; d++) {
        psg_pooling_axis *axis = &windows->axis[d];
        axis->kernel = size[d];
        axis->stride = apart[d];
        axis->padding = before[d];
        axis->dilation = step[d];
        if (before[d] > size[d] / 2) {
            return psg_call_fail(call, PSG_ERR_ARGUMENT, "padding[%d] is %lld, must be at most half of "
                                 "kernel_size[%d], %lld", d, (long long)before[d], d, (long long)size[d]);
        }
        axis->out = output_size(axis, ceil_mode);
        if (axis->out > 0) continue;
        return psg_call_fail(call, PSG_ERR_SHAPE, "kernel_size[%d] is %lld, too large for input of shape %s: no window "
                             "fits", d, (long long)size[d], psg_tensor_text(&call->input[0].value, text));
    }
    return status;
}

psg_status psg_pooling_adaptive(psg_call *call, const int64_t *output_size, psg_pooling_windows *windows) {
    int64_t out[3];
    psg_status status = psg_spatial_option(call, "output_size", windows->spatial, output_size, NULL, -1, out);
    for (int d = 0; d < windows->spatial && !status; d++) {
        windows->axis[d].out = out[d] == -1 ? windows->axis[d].in : out[d];
    }
    return status;
}

psg_status psg_pooling_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    psg_pooling_windows windows;
    psg_status status = windows_of(call, &windows);
    if (status) return status;
    int64_t shape[5] = { x->shape[0], x->shape[1] };
    for (int d = 0; d < windows.spatial; d++) shape[2 + d] = windows.axis[d].out;
    return psg_call_output(call, x->dtype, x->rank, shape);
}

/* ---- tables ---- */

/* call->kept. */
typedef struct kept {
    psg_pooling pooling;
    int32_t *argmax;     /* one an output, or NULL */
} kept;

/* The mutable side of one dimension's tables. */
typedef struct table {
    double *divisor;
    int32_t *first, *count;
} table;

static void fill_adaptive(const psg_pooling_axis *axis, table t, psg_pooling_dim *dim) {
    for (int64_t o = 0; o < axis->out; o++) {
        int64_t begin = o * axis->in / axis->out, end = ((o + 1) * axis->in + axis->out - 1) / axis->out;
        t.first[o] = (int32_t)begin;
        t.count[o] = (int32_t)(end - begin);
        t.divisor[o] = (double)(end - begin);
    }
    if (!axis->out || axis->in % axis->out) return;
    dim->run_end = (size_t)axis->out;
    dim->stride = dim->full = (size_t)(axis->in / axis->out);
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Window o: elements start + k dilation, of which [skip, skip + count) lie in the input. */
static void fill_fixed(const psg_pooling_axis *axis, table t, psg_pooling_dim *dim) {
    dim->step = (size_t)axis->dilation;
    dim->stride = (size_t)axis->stride;
    dim->full = (size_t)axis->kernel;
    for (int64_t o = 0; o < axis->out; o++) {
        int64_t start = o * axis->stride - axis->padding;
        int64_t skip = start < 0 ? (axis->dilation - 1 - start) / axis->dilation : 0;
        int64_t first = start + skip * axis->dilation;
        int64_t fit = first < axis->in ? (axis->in - 1 - first) / axis->dilation + 1 : 0;
        int64_t count = smaller(fit, axis->kernel - skip);
        int64_t window = smaller(start + axis->kernel, axis->in + axis->padding) - start;
        t.first[o] = count > 0 ? (int32_t)first : 0;
        t.count[o] = count > 0 ? (int32_t)count : 0;
        t.divisor[o] = (double)(axis->exclude_padding ? count : window);
        if (count < axis->kernel) continue;
        if (dim->run == dim->run_end) dim->run = (size_t)o;
        dim->run_end = (size_t)o + 1;
    }
}

/* One window over the whole dimension. */
static bool is_whole(const psg_pooling_dim *dim) {
    return dim->out == 1 && (size_t)dim->count[0] == dim->in && (dim->step == 1 || dim->in == 1);
}

/* Windows over whole rows of whole planes are windows over one long row. */
static void merge_whole(psg_pooling *pooling, const table *tables) {
    psg_pooling_dim *height = &pooling->dim[1], *width = &pooling->dim[2];
    if (!is_whole(height) || !is_whole(width)) return;
    width->in *= height->in;
    width->step = height->step = 1;
    width->full = width->stride = width->in;
    width->run = 0;
    width->run_end = 1;
    tables[2].count[0] = (int32_t)width->in;
    tables[2].divisor[0] *= tables[1].divisor[0];
    height->in = 1;
    tables[1].count[0] = 1;
    tables[1].divisor[0] = 1;
}

/* Missing dimensions, in front, are one window of one element. */
static psg_pooling_axis axis_at(const psg_pooling_windows *windows, int d) {
    const int missing = 3 - windows->spatial;
    return d < missing ? (psg_pooling_axis){ .in = 1, .out = 1 } : windows->axis[d - missing];
}

static void fill_tables(const psg_pooling_windows *windows, char *memory, psg_pooling *pooling) {
    table tables[3];
    *pooling = (psg_pooling){ .divisor = (double)windows->divisor };
    for (int d = 0; d < 3; d++) {
        psg_pooling_axis axis = axis_at(windows, d);
        psg_pooling_dim *dim = &pooling->dim[d];
        tables[d].divisor = (double *)(void *)memory;
        tables[d].first = (int32_t *)(void *)(tables[d].divisor + axis.out);
        tables[d].count = tables[d].first + axis.out;
        memory = (char *)(tables[d].count + axis.out);
        *dim = (psg_pooling_dim){ .in = (size_t)axis.in, .out = (size_t)axis.out, .step = 1, .stride = 1,
                                  .first = tables[d].first, .count = tables[d].count, .divisor = tables[d].divisor };
        if (axis.kernel) fill_fixed(&axis, tables[d], dim);
        else fill_adaptive(&axis, tables[d], dim);
    }
    merge_whole(pooling, tables);
}

static kept *keep_windows(psg_call *call, const psg_pooling_windows *windows, bool argmax) {
    int64_t outputs = 0;
    for (int d = 0; d < 3; d++) outputs += axis_at(windows, d).out;
    const size_t tables = (size_t)outputs * (sizeof(double) + 2 * sizeof(int32_t));
    const size_t bytes = argmax ? (size_t)psg_tensor_count(&call->output) * sizeof(int32_t) : 0;
    kept *k = psg_call_keep(call, sizeof *k + tables + bytes);
    if (!k) return NULL;
    fill_tables(windows, (char *)(k + 1), &k->pooling);
    k->argmax = argmax ? (int32_t *)(void *)((char *)(k + 1) + tables) : NULL;
    return k;
}

/* ---- planes ---- */

/* Planes of two arrays: the input or its gradient, the output or its. */
typedef struct plane_job {
    const psg_call *call;
    const psg_kernel_table *kernels;
    const kept *kept;
    const psg_tensor *in, *out;
    int64_t plane_in, plane_out;
} plane_job;

/* What a range of planes begins with. */
typedef struct planes {
    void *in, *out;
    int32_t *argmax;
} planes;

static planes planes_at(const plane_job *j, size_t begin) {
    const int64_t out = (int64_t)begin * j->plane_out;
    return (planes){ psg_tensor_offset(j->in, (int64_t)begin * j->plane_in), psg_tensor_offset(j->out, out),
                     j->kept->argmax ? j->kept->argmax + out : NULL };
}

static void pool(void *argument, size_t begin, size_t count) {
    const plane_job *j = argument;
    const planes p = planes_at(j, begin);
    if (is_max(j->call)) j->kernels->max_pool(&j->kept->pooling, count, p.in, p.out, p.argmax);
    else j->kernels->avg_pool(&j->kept->pooling, count, p.in, p.out);
}

static void pool_backward(void *argument, size_t begin, size_t count) {
    const plane_job *j = argument;
    const planes p = planes_at(j, begin);
    if (is_max(j->call)) j->kernels->max_pool_backward(&j->kept->pooling, count, p.out, p.argmax, p.in);
    else j->kernels->avg_pool_backward(&j->kept->pooling, count, p.out, p.in);
}

/* Planes without outputs are gone through for the input gradient, which is 0. */
static void for_planes(const psg_call *call, const psg_tensor *in, const psg_tensor *out, psg_range_task task) {
    const int spatial = in->rank - 2;
    plane_job j = { call, psg_call_kernels(call), call->kept, in, out, psg_shape_product(spatial, in->shape + 2),
                    psg_shape_product(spatial, out->shape + 2) };
    psg_for_ranges(call->context, (size_t)(in->shape[0] * in->shape[1]), psg_range_unit(j.plane_in + j.plane_out), task,
                   &j);
}

static bool has_planes(const psg_call *call) { return call->output.shape[0] && call->output.shape[1]; }

psg_status psg_pooling_forward(psg_call *call) {
    psg_pooling_windows windows;
    if (!has_planes(call)) return PSG_OK;
    psg_status status = windows_of(call, &windows);
    if (status) return status;
    call->kept = keep_windows(call, &windows, is_max(call) && call->input[0].wants_grad);
    if (!call->kept) return PSG_ERR_MEMORY;
    for_planes(call, &call->input[0].value, &call->output, pool);
    return PSG_OK;
}

psg_status psg_pooling_backward(psg_call *call) {
    if (!has_planes(call) || !call->input[0].grad.data) return PSG_OK;
    for_planes(call, &call->input[0].grad, &call->grad_output, pool_backward);
    return PSG_OK;
}
