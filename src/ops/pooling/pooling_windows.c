#include "ops/pooling/pooling_windows.h"

#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"

const char *const psg_pooling_input_names[1] = { "input" };

/* ---- shape ---- */

psg_status psg_pooling_input(psg_call *call, int spatial, psg_pooling_windows *windows) {
    const psg_tensor *x = &call->input[0].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operands_real(call, 1);
    if (status) return status;
    if (x->rank != spatial + 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must have rank %d: batch, channels and %d "
                             "spatial dimension%s", psg_tensor_text(x, text), spatial + 2, spatial,
                             spatial > 1 ? "s" : "");
    }
    int64_t plane = psg_shape_product(spatial, x->shape + 2);
    if (!plane) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, its spatial dimensions must not be 0",
                             psg_tensor_text(x, text));
    }
    if (plane < 0 || plane > INT32_MAX) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "input has shape %s, its spatial dimensions must have fewer than "
                             "2^31 elements", psg_tensor_text(x, text));
    }
    *windows = (psg_pooling_windows){ .spatial = spatial };
    for (int d = 0; d < spatial; d++) windows->axis[d].in = x->shape[2 + d];
    return psg_operand_carries_batch(call, 0);
}

static psg_status check_range(psg_call *call, const char *name, int d, int64_t value, int64_t least) {
    if (value >= least && value <= INT32_MAX) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s[%d] is %lld, must be in [%lld, 2147483647]", name, d,
                         (long long)value, (long long)least);
}

static psg_status check_axis(psg_call *call, int d, const psg_pooling_axis *axis) {
    psg_status status = check_range(call, "kernel_size", d, axis->kernel, 1);
    if (!status) status = check_range(call, "stride", d, axis->stride, 1);
    if (!status) status = check_range(call, "padding", d, axis->padding, 0);
    if (!status) status = check_range(call, "dilation", d, axis->dilation, 1);
    if (status || axis->padding <= axis->kernel / 2) return status;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "padding[%d] is %lld, must be at most half of kernel_size[%d], %lld",
                         d, (long long)axis->padding, d, (long long)axis->kernel);
}

static int64_t output_size(const psg_pooling_axis *axis, bool ceil_mode) {
    const int64_t room = axis->in + 2 * axis->padding - axis->dilation * (axis->kernel - 1) - 1;
    if (room < 0 && (!ceil_mode || room + axis->stride - 1 < 0)) return 0;
    int64_t out = (room + (ceil_mode ? axis->stride - 1 : 0)) / axis->stride + 1;
    return ceil_mode && (out - 1) * axis->stride >= axis->in + axis->padding ? out - 1 : out;
}

psg_status psg_pooling_fixed(psg_call *call, const int64_t *kernel, const int64_t *stride, const int64_t *padding,
                             const int64_t *dilation, bool ceil_mode, psg_pooling_windows *windows) {
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operand_option_is_whole(call, "stride", windows->spatial, stride);
    if (!status && dilation) status = psg_operand_option_is_whole(call, "dilation", windows->spatial, dilation);
    for (int d = 0; d < windows->spatial && !status; d++) {
        psg_pooling_axis *axis = &windows->axis[d];
        axis->kernel = kernel[d];
        axis->stride = stride[d] ? stride[d] : kernel[d];
        axis->padding = padding[d];
        axis->dilation = dilation && dilation[d] ? dilation[d] : 1;
        status = check_axis(call, d, axis);
        if (status) return status;
        axis->out = output_size(axis, ceil_mode);
        if (axis->out > 0) continue;
        return psg_call_fail(call, PSG_ERR_SHAPE, "kernel_size[%d] is %lld, too large for input of shape %s: no window "
                             "fits", d, (long long)axis->kernel, psg_tensor_text(&call->input[0].value, text));
    }
    return status;
}

psg_status psg_pooling_adaptive(psg_call *call, const int64_t *output, psg_pooling_windows *windows) {
    for (int d = 0; d < windows->spatial; d++) {
        psg_pooling_axis *axis = &windows->axis[d];
        axis->out = output[d] == -1 ? axis->in : output[d];
        psg_status status = check_range(call, "output_size", d, output[d], -1);
        if (status) return status;
    }
    return PSG_OK;
}

psg_status psg_pooling_output(psg_call *call, const psg_pooling_windows *windows) {
    const psg_tensor *x = &call->input[0].value;
    int64_t shape[5] = { x->shape[0], x->shape[1] };
    for (int d = 0; d < windows->spatial; d++) shape[2 + d] = windows->axis[d].out;
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

static psg_status keep_windows(psg_call *call, const psg_pooling_windows *windows, bool argmax, kept **found) {
    int64_t outputs = 0, total = argmax ? psg_tensor_count(&call->output) : 0;
    size_t tables, bytes;
    for (int d = 0; d < 3; d++) outputs += axis_at(windows, d).out;
    if (!psg_size_bytes(outputs, sizeof(double) + 2 * sizeof(int32_t), &tables) ||
        !psg_size_bytes(total, sizeof(int32_t), &bytes) || bytes > SIZE_MAX / 2 || tables > SIZE_MAX / 4) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "the output is too large");
    }
    kept *k = psg_call_keep(call, sizeof *k + tables + bytes);
    call->kept = k;
    if (!k) return PSG_ERR_MEMORY;
    fill_tables(windows, (char *)(k + 1), &k->pooling);
    k->argmax = argmax ? (int32_t *)(void *)((char *)(k + 1) + tables) : NULL;
    *found = k;
    return PSG_OK;
}

/* ---- planes ---- */

/* Plane p of two arrays. */
typedef struct plane_job {
    const psg_call *call;
    const psg_kernel_table *kernels;
    const kept *kept;
    psg_tensor in, out;
    int64_t plane_in, plane_out;
} plane_job;

static plane_job job_of(const psg_call *call, const psg_tensor *in, const psg_tensor *out) {
    const int spatial = in->rank - 2;
    return (plane_job){ call, psg_call_kernels(call), call->kept, *in, *out, psg_shape_product(spatial, in->shape + 2),
                        psg_shape_product(spatial, out->shape + 2) };
}

/* Planes without outputs are gone through for the input gradient, which is 0. */
static void for_planes(psg_range_task task, plane_job *j) {
    const size_t planes = (size_t)(j->in.shape[0] * j->in.shape[1]);
    psg_for_ranges(j->call->context, planes, psg_range_unit(j->plane_in + j->plane_out), task, j);
}

static int32_t *argmax_at(const plane_job *j, size_t plane) {
    return j->kept->argmax ? j->kept->argmax + (int64_t)plane * j->plane_out : NULL;
}

static void max_planes(void *argument, size_t begin, size_t count) {
    const plane_job *j = argument;
    j->kernels->max_pool(&j->kept->pooling, count, psg_tensor_offset(&j->in, (int64_t)begin * j->plane_in),
                         psg_tensor_offset(&j->out, (int64_t)begin * j->plane_out), argmax_at(j, begin));
}

static void max_backward_planes(void *argument, size_t begin, size_t count) {
    const plane_job *j = argument;
    j->kernels->max_pool_backward(&j->kept->pooling, count,
                                  psg_tensor_offset(&j->out, (int64_t)begin * j->plane_out), argmax_at(j, begin),
                                  psg_tensor_offset(&j->in, (int64_t)begin * j->plane_in));
}

static void avg_planes(void *argument, size_t begin, size_t count) {
    const plane_job *j = argument;
    j->kernels->avg_pool(&j->kept->pooling, count, psg_tensor_offset(&j->in, (int64_t)begin * j->plane_in),
                         psg_tensor_offset(&j->out, (int64_t)begin * j->plane_out));
}

static void avg_backward_planes(void *argument, size_t begin, size_t count) {
    const plane_job *j = argument;
    j->kernels->avg_pool_backward(&j->kept->pooling, count,
                                  psg_tensor_offset(&j->out, (int64_t)begin * j->plane_out),
                                  psg_tensor_offset(&j->in, (int64_t)begin * j->plane_in));
}

static psg_status forward(psg_call *call, const psg_pooling_windows *windows, bool argmax, psg_range_task task) {
    kept *k = NULL;
    psg_status status = keep_windows(call, windows, argmax, &k);
    if (status) return status;
    plane_job j = job_of(call, &call->input[0].value, &call->output);
    j.kept = k;
    for_planes(task, &j);
    return PSG_OK;
}

static psg_status backward(psg_call *call, psg_range_task task) {
    plane_job j = job_of(call, &call->input[0].grad, &call->grad_output);
    if (call->input[0].grad.data) for_planes(task, &j);
    return PSG_OK;
}

psg_status psg_max_pooling_forward(psg_call *call, const psg_pooling_windows *windows) {
    return forward(call, windows, call->input[0].wants_grad != 0, max_planes);
}

psg_status psg_max_pooling_backward(psg_call *call) { return backward(call, max_backward_planes); }

psg_status psg_avg_pooling_forward(psg_call *call, const psg_pooling_windows *windows) {
    return forward(call, windows, false, avg_planes);
}

psg_status psg_avg_pooling_backward(psg_call *call) { return backward(call, avg_backward_planes); }
