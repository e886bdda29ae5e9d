/* unfold, fold: an image as the matrix of its windows (im2col), and the sum of windows as an image (col2im).  Each is
 * the other's gradient. */
#include <string.h>

#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/shape.h"

static const char *const input_names[] = { "input" };

/* ---- geometry ---- */

/* Image plane (n, c) starts at n * image_n + c * image_c elements; row r = (c kernel + window place) of the matrix of
 * sample n at n * matrix_n + r * matrix_r. */
typedef struct geometry {
    psg_unfold_options o;                  /* defaults filled in */
    int64_t samples, channels;
    int64_t size[2], places[2];            /* of the image; how many windows */
    int64_t image_n, image_c, matrix_n, matrix_r;
} geometry;

static psg_status check_options(psg_call *call, psg_unfold_options *o) {
    static const char *const axis_names[2] = { "height", "width" };
    for (int d = 0; d < 2; d++) {
        if (!o->dilation[d]) o->dilation[d] = 1;
        if (!o->stride[d]) o->stride[d] = 1;
        const char *wrong = o->kernel[d] < 1 ? "kernel" : o->dilation[d] < 1 ? "dilation" : o->stride[d] < 1 ? "stride"
                            : o->padding[d] < 0 ? "padding" : NULL;
        if (!wrong) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "kernel, dilation, stride and padding of the %s are %lld, %lld, "
                             "%lld, %lld; %s must be %s", axis_names[d], (long long)o->kernel[d],
                             (long long)o->dilation[d], (long long)o->stride[d], (long long)o->padding[d], wrong,
                             o->padding[d] < 0 && wrong[0] == 'p' ? ">= 0" : "positive");
    }
    return PSG_OK;
}

/* places = (size + 2 padding - dilation (kernel - 1) - 1) / stride + 1 */
static psg_status count_places(psg_call *call, geometry *g) {
    for (int d = 0; d < 2; d++) {
        const psg_unfold_options *o = &g->o;
        int64_t span, room;
        bool fits = !__builtin_mul_overflow(o->dilation[d], o->kernel[d] - 1, &span) &&
                    !__builtin_mul_overflow(o->padding[d], 2, &room) &&
                    !__builtin_add_overflow(room, g->size[d], &room) &&
                    !__builtin_sub_overflow(room, span, &room);
        if (!fits) return psg_call_fail(call, PSG_ERR_OVERFLOW, "the windows are too large");
        if (room < 1) {
            return psg_call_fail(call, PSG_ERR_SHAPE, "an image of %lld by %lld has no room for windows of kernel %lld "
                                 "by %lld, dilation %lld by %lld, padding %lld by %lld", (long long)g->size[0],
                                 (long long)g->size[1], (long long)o->kernel[0], (long long)o->kernel[1],
                                 (long long)o->dilation[0], (long long)o->dilation[1], (long long)o->padding[0],
                                 (long long)o->padding[1]);
        }
        g->places[d] = (room - 1) / o->stride[d] + 1;
    }
    return PSG_OK;
}

static psg_status set_strides(psg_call *call, geometry *g) {
    int64_t rows;
    bool fits = psg_size_multiply(g->size[0], g->size[1], &g->image_c) &&
                psg_size_multiply(g->places[0], g->places[1], &g->matrix_r) &&
                psg_size_multiply(g->o.kernel[0], g->o.kernel[1], &rows) &&
                psg_size_multiply(rows, g->channels, &rows) &&
                psg_size_multiply(g->image_c, g->channels, &g->image_n) &&
                psg_size_multiply(g->matrix_r, rows, &g->matrix_n);
    if (fits) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_OVERFLOW, "the image or its windows have too many elements");
}

static psg_status declare(psg_call *call, const geometry *g, int rank, int64_t channels, const int64_t *size) {
    int64_t shape[4] = { g->samples, channels, size[0], rank == 4 ? size[1] : 0 };
    return psg_call_output(call, call->input[0].value.dtype, rank, shape);
}

/* ---- both directions, a plane a task ---- */

typedef struct unfold_job {
    const psg_kernel_table *kernels;
    geometry g;
    size_t size;               /* of an element */
    char *image, *matrix;
} unfold_job;

/* The part [begin, end) of the places along d whose element at window place k lies inside the image. */
static void inside(const geometry *g, int d, int64_t k, int64_t *begin, int64_t *end) {
    int64_t offset = k * g->o.dilation[d] - g->o.padding[d], stride = g->o.stride[d];
    int64_t last = g->size[d] - 1 - offset;
    *begin = offset >= 0 ? 0 : (-offset - 1) / stride + 1;
    *end = last < 0 ? 0 : last / stride + 1;
    if (*end > g->places[d]) *end = g->places[d];
    if (*begin > *end) *begin = *end;
}

static inline __attribute__((always_inline)) void gather(int64_t n, const char *from, int64_t stride, char *to,
                                                         size_t size) {
    for (int64_t i = 0; i < n; i++) memcpy(to + i * (int64_t)size, from + i * stride * (int64_t)size, size);
}

static void gather_line(int64_t n, const char *from, int64_t stride, char *to, size_t size) {
    if (stride == 1) memcpy(to, from, (size_t)n * size);
    else if (size == 4) gather(n, from, stride, to, 4);
    else gather(n, from, stride, to, 8);
}

/* Row (kh, kw) of the matrix from its plane, or added to it. */
static void window_row(const unfold_job *job, char *plane, char *row, int64_t kh, int64_t kw, bool adds) {
    const geometry *g = &job->g;
    int64_t size = (int64_t)job->size, top, bottom, left, right;
    inside(g, 0, kh, &top, &bottom);
    inside(g, 1, kw, &left, &right);
    if (!adds) {
        memset(row, 0, (size_t)(top * g->places[1] * size));
        memset(row + bottom * g->places[1] * size, 0, (size_t)((g->places[0] - bottom) * g->places[1] * size));
    }
    for (int64_t h = top; h < bottom; h++) {
        char *line = row + h * g->places[1] * size;
        int64_t y = h * g->o.stride[0] + kh * g->o.dilation[0] - g->o.padding[0];
        int64_t x = left * g->o.stride[1] + kw * g->o.dilation[1] - g->o.padding[1];
        char *pixel = plane + (y * g->size[1] + (left < right ? x : 0)) * size;
        if (adds) {
            job->kernels->add_spread((size_t)(right - left), line + left * size, pixel, g->o.stride[1]);
            continue;
        }
        memset(line, 0, (size_t)(left * size));
        gather_line(right - left, pixel, g->o.stride[1], line + left * size, job->size);
        memset(line + right * size, 0, (size_t)((g->places[1] - right) * size));
    }
}

static void one_plane(const unfold_job *job, int64_t k, bool adds) {
    const geometry *g = &job->g;
    int64_t n = k / g->channels, c = k % g->channels, windows = g->o.kernel[0] * g->o.kernel[1];
    char *plane = job->image + (n * g->image_n + c * g->image_c) * (int64_t)job->size;
    if (adds) memset(plane, 0, (size_t)(g->size[0] * g->size[1]) * job->size);
    for (int64_t r = 0; r < windows; r++) {
        char *row = job->matrix + (n * g->matrix_n + (c * windows + r) * g->matrix_r) * (int64_t)job->size;
        window_row(job, plane, row, r / g->o.kernel[1], r % g->o.kernel[1], adds);
    }
}

static void unfold_planes(void *argument, size_t begin, size_t count) {
    for (size_t k = begin; k < begin + count; k++) one_plane(argument, (int64_t)k, false);
}

static void fold_planes(void *argument, size_t begin, size_t count) {
    for (size_t k = begin; k < begin + count; k++) one_plane(argument, (int64_t)k, true);
}

static void run(psg_call *call, const geometry *g, const psg_tensor *image, const psg_tensor *matrix,
                psg_range_task planes) {
    unfold_job job = { .g = *g, .size = psg_dtype_size(image->dtype), .image = image->data, .matrix = matrix->data };
    job.kernels = psg_dtype_is_real(image->dtype) ? psg_call_kernels(call) : NULL;
    int64_t count = g->samples * g->channels, work = count ? psg_tensor_count(matrix) / count : 0;
    psg_for_ranges(call->context, (size_t)count, psg_range_unit(work), planes, &job);
}

/* ---- unfold ---- */

static psg_status unfold_geometry(psg_call *call, geometry *g) {
    const psg_tensor *x = &call->input[0].value;
    *g = (geometry){ .o = *(const psg_unfold_options *)call->attributes };
    psg_status status = check_options(call, &g->o);
    if (status) return status;
    g->samples = x->shape[0];
    g->channels = x->shape[1];
    g->size[0] = x->shape[2];
    g->size[1] = x->shape[3];
    status = count_places(call, g);
    return status ? status : set_strides(call, g);
}

static psg_status unfold_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    geometry g;
    char text[PSG_SHAPE_TEXT];
    if (x->rank != 4) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must be (N, C, H, W)", psg_tensor_text(x, text));
    }
    psg_status status = psg_operand_carries_batch(call, 0);
    if (!status) status = unfold_geometry(call, &g);
    if (status) return status;
    const int64_t row = g.places[0] * g.places[1];
    return declare(call, &g, 3, g.channels * g.o.kernel[0] * g.o.kernel[1], &row);
}

static psg_status unfold_forward(psg_call *call) {
    geometry g;
    psg_status status = unfold_geometry(call, &g);
    if (!status) run(call, &g, &call->input[0].value, &call->output, unfold_planes);
    return status;
}

static psg_status unfold_backward(psg_call *call) {
    geometry g;
    if (!call->input[0].grad.data) return PSG_OK;
    psg_status status = unfold_geometry(call, &g);
    if (!status) run(call, &g, &call->input[0].grad, &call->grad_output, fold_planes);
    return status;
}

const psg_op psg_op_unfold = {
    .name = "unfold",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_unfold_options),
    .reserved_at = offsetof(psg_unfold_options, reserved),
    .shape = unfold_shape,
    .forward = unfold_forward,
    .backward = unfold_backward,
};

psg_var psg_unfold(psg_tape *tape, psg_var x, const psg_unfold_options *options) {
    return psg_record(tape, &psg_op_unfold, &x, 1, options);
}

/* ---- fold ---- */

static psg_status fold_geometry(psg_call *call, geometry *g) {
    const psg_fold_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    *g = (geometry){ .o = attributes->windows, .samples = x->shape[0] };
    psg_status status = check_options(call, &g->o);
    if (status) return status;
    memcpy(g->size, attributes->output_size, sizeof g->size);
    if (g->size[0] < 0 || g->size[1] < 0) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "output_size is %lld by %lld, must be >= 0", (long long)g->size[0],
                             (long long)g->size[1]);
    }
    status = count_places(call, g);
    if (status) return status;
    int64_t rows = x->shape[1], windows, row;
    bool fits = psg_size_multiply(g->o.kernel[0], g->o.kernel[1], &windows) && rows % windows == 0 &&
                psg_size_multiply(g->places[0], g->places[1], &row) && row == x->shape[2];
    if (!fits) {
        char text[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must be (N, C * %lld, %lld * %lld): windows of "
                             "kernel %lld by %lld of an image of %lld by %lld", psg_tensor_text(x, text),
                             (long long)(g->o.kernel[0] * g->o.kernel[1]), (long long)g->places[0],
                             (long long)g->places[1], (long long)g->o.kernel[0], (long long)g->o.kernel[1],
                             (long long)g->size[0], (long long)g->size[1]);
    }
    g->channels = rows / windows;
    return set_strides(call, g);
}

static psg_status fold_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    geometry g;
    char text[PSG_SHAPE_TEXT];
    if (x->rank != 3) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must be (N, C * kernel, L)",
                             psg_tensor_text(x, text));
    }
    psg_status status = psg_operands_real(call, 1);
    if (!status) status = psg_operand_carries_batch(call, 0);
    if (!status) status = fold_geometry(call, &g);
    return status ? status : declare(call, &g, 4, g.channels, g.size);
}

static psg_status fold_forward(psg_call *call) {
    geometry g;
    psg_status status = fold_geometry(call, &g);
    if (!status) run(call, &g, &call->output, &call->input[0].value, fold_planes);
    return status;
}

static psg_status fold_backward(psg_call *call) {
    geometry g;
    if (!call->input[0].grad.data) return PSG_OK;
    psg_status status = fold_geometry(call, &g);
    if (!status) run(call, &g, &call->grad_output, &call->input[0].grad, unfold_planes);
    return status;
}

const psg_op psg_op_fold = {
    .name = "fold",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_fold_attributes),
    .reserved_at = offsetof(psg_fold_attributes, windows.reserved),
    .shape = fold_shape,
    .forward = fold_forward,
    .backward = fold_backward,
};

psg_var psg_fold(psg_tape *tape, psg_var x, const int64_t output_size[2], const psg_unfold_options *options) {
    psg_fold_attributes attributes = { .output_size = { 0, 0 } };
    if (output_size) memcpy(attributes.output_size, output_size, sizeof attributes.output_size);
    if (options) attributes.windows = *options;
    return psg_record(tape, &psg_op_fold, &x, 1, &attributes);
}
