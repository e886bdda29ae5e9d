/* pad: more elements (or fewer) at the ends of dimensions, constant or taken from the input. */
#include <string.h>

#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/shape.h"

/* ---- shape ---- */

typedef struct padding {
    int64_t left, right;
} padding;

/* The attributes name the last dimension first. */
static padding padding_of(const psg_call *call, int dim) {
    const psg_pad_attributes *attributes = call->attributes;
    int rank = call->input[0].value.rank, k = rank - 1 - psg_call_dim(call, 0, rank, dim);
    if (2 * k >= attributes->count) return (padding){ 0, 0 };
    return (padding){ attributes->pad[2 * k], attributes->pad[2 * k + 1] };
}

static const char *const mode_names[] = { "constant", "reflect", "replicate", "circular" };

/* Reflection and repetition take what they add from the dimension itself. */
static psg_status check_source(psg_call *call, int dim, int64_t pad) {
    const psg_pad_attributes *attributes = call->attributes;
    int64_t size = call->input[0].value.shape[dim];
    if (attributes->mode == PSG_PAD_CONSTANT || pad == 0) return PSG_OK;
    const char *mode = mode_names[attributes->mode], *rule = NULL;
    if (pad < 0) rule = "at least minus the size of the dimension, and leave a size";
    else if (attributes->mode == PSG_PAD_REFLECT && pad >= size) rule = "less than the size of the dimension";
    else if (attributes->mode == PSG_PAD_CIRCULAR && pad > size) rule = "at most the size of the dimension";
    else if (size == 0) rule = "0 where the dimension is empty";
    if (!rule) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "pad of dimension %d is %lld, in %s mode must be %s, here %lld", dim,
                         (long long)pad, mode, rule, (long long)size);
}

static psg_status pad_dimension(psg_call *call, int dim, int64_t *size) {
    padding pad = padding_of(call, dim);
    psg_status status = PSG_OK;
    if (pad.left || pad.right) {
        status = psg_operand_not_batch(call, 0, "a padded dimension", dim, "what is added belongs to no sample");
    }
    if (!status) status = check_source(call, dim, pad.left);
    if (!status) status = check_source(call, dim, pad.right);
    if (status) return status;
    if (__builtin_add_overflow(*size, pad.left, size) || __builtin_add_overflow(*size, pad.right, size)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "pad of dimension %d is too large", dim);
    }
    if (*size >= 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "pad of dimension %d is %lld and %lld, which leaves %lld "
                         "elements", dim, (long long)pad.left, (long long)pad.right, (long long)*size);
}

static psg_status check_attributes(psg_call *call) {
    const psg_pad_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    if (attributes->count < 0 || attributes->count % 2 || attributes->count > 2 * x->rank) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "count is %d, must be even and in [0, %d] for input of rank %d, and "
                             "pad not NULL", attributes->count, 2 * x->rank, x->rank);
    }
    if (attributes->mode < PSG_PAD_CONSTANT || attributes->mode > PSG_PAD_CIRCULAR) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "mode is %d, must be PSG_PAD_CONSTANT, PSG_PAD_REFLECT, "
                             "PSG_PAD_REPLICATE or PSG_PAD_CIRCULAR", (int)attributes->mode);
    }
    double value = attributes->value;
    if (psg_dtype_is_real(x->dtype) || (value >= INT32_MIN && value <= INT32_MAX && value == (int32_t)value)) {
        return PSG_OK;
    }
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "value is %g, must be an integer of 32 bits for input of type %s",
                         value, psg_dtype_name(x->dtype));
}

static psg_status pad_shape(psg_call *call) {
    psg_tensor output = call->input[0].value;
    psg_status status = check_attributes(call);
    if (status) return status;
    for (int d = 0; d < output.rank; d++) {
        status = pad_dimension(call, d, &output.shape[d]);
        if (status) return status;
    }
    return psg_call_output(call, output.dtype, output.rank, output.shape);
}

/* ---- one dimension: where elements of the output come from, and where those of the input go ---- */

enum { NOWHERE = -1 };

static int64_t source_of(psg_pad_mode mode, int64_t size, int64_t i) {
    if (i >= 0 && i < size) return i;
    switch (mode) {
    case PSG_PAD_REFLECT: return i < 0 ? -i : 2 * (size - 1) - i;
    case PSG_PAD_REPLICATE: return i < 0 ? 0 : size - 1;
    case PSG_PAD_CIRCULAR: return i < 0 ? i + size : i - size;
    default: return NOWHERE;
    }
}

/* ---- the arrays: rows along the last dimension that is padded, of cells of `cell` elements ---- */

typedef struct pad_job {
    const psg_kernel_table *kernels;
    psg_pad_mode mode;
    int rank;                          /* up to the last padded dimension; at least 1 */
    int64_t size[PSG_MAX_RANK];        /* of the input */
    int64_t out[PSG_MAX_RANK];
    padding pad[PSG_MAX_RANK];
    int64_t cell, bytes;               /* elements and bytes of a cell */
    size_t element;                    /* bytes */
    const char *from;                  /* forward: the input; backward: the output's gradient */
    char *to;
    char fill[8];                      /* one element */
} pad_job;

static pad_job job_of(const psg_call *call, const psg_tensor *from, const psg_tensor *to) {
    const psg_pad_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    pad_job job = { .mode = attributes->mode, .rank = 1, .size = { 1 }, .out = { 1 }, .cell = 1,
                    .element = psg_dtype_size(x->dtype), .from = from->data, .to = to->data };
    job.kernels = psg_dtype_is_real(x->dtype) ? psg_call_kernels(call) : NULL;
    for (int d = 0; d < x->rank; d++) {
        job.size[d] = x->shape[d];
        job.out[d] = call->output.shape[d];
        job.pad[d] = padding_of(call, d);
        if (job.pad[d].left || job.pad[d].right) job.rank = d + 1;
    }
    for (int d = job.rank; d < x->rank; d++) job.cell *= x->shape[d];
    job.bytes = job.cell * (int64_t)job.element;
    return job;
}

/* ---- forward: each row of the output is written once ---- */

static void fill_cells(const pad_job *job, char *to, int64_t cells) {
    for (int64_t k = 0; k < cells * job->cell; k++) memcpy(to + k * (int64_t)job->element, job->fill, job->element);
}

/* The input row that output row `row` comes from. */
static int64_t source_row(const pad_job *job, int64_t row) {
    int64_t source = 0, step = 1;
    for (int d = job->rank - 2; d >= 0; d--) {
        int64_t i = source_of(job->mode, job->size[d], row % job->out[d] - job->pad[d].left);
        if (i == NOWHERE) return NOWHERE;
        row /= job->out[d];
        source += i * step;
        step *= job->size[d];
    }
    return source;
}

/* Cells [begin, end) of a row that lie outside the input. */
static void outer_cells(const pad_job *job, const char *from, char *to, int64_t begin, int64_t end) {
    int last = job->rank - 1;
    if (job->mode == PSG_PAD_CONSTANT) {
        fill_cells(job, to + begin * job->bytes, end - begin);
        return;
    }
    for (int64_t o = begin; o < end; o++) {
        int64_t i = source_of(job->mode, job->size[last], o - job->pad[last].left);
        memcpy(to + o * job->bytes, from + i * job->bytes, (size_t)job->bytes);
    }
}

static int64_t clamp(int64_t i, int64_t high) {
    if (i < 0) return 0;
    return i > high ? high : i;
}

static void pad_row(const pad_job *job, int64_t row) {
    int last = job->rank - 1;
    int64_t out = job->out[last], size = job->size[last], left = job->pad[last].left, source = source_row(job, row);
    char *to = job->to + row * out * job->bytes;
    if (source == NOWHERE) {
        fill_cells(job, to, out);
        return;
    }
    const char *from = job->from + source * size * job->bytes;
    int64_t begin = clamp(left, out), end = clamp(left + size, out);
    outer_cells(job, from, to, 0, begin);
    if (end > begin) memcpy(to + begin * job->bytes, from + (begin - left) * job->bytes,
                            (size_t)((end - begin) * job->bytes));
    outer_cells(job, from, to, end > begin ? end : begin, out);
}

static void pad_rows(void *argument, size_t begin, size_t count) {
    for (size_t k = begin; k < begin + count; k++) pad_row(argument, (int64_t)k);
}

static void set_fill(const psg_call *call, pad_job *job) {
    const psg_pad_attributes *attributes = call->attributes;
    psg_tensor one = psg_tensor_of(call->output.dtype, job->fill, 0, NULL);
    if (psg_dtype_is_real(one.dtype)) {
        psg_scalar_set(call, attributes->value, &one);
        return;
    }
    int32_t word = (int32_t)attributes->value;
    int64_t wide = word;
    memcpy(job->fill, one.dtype == PSG_I32 ? (const void *)&word : &wide, job->element);
}

static psg_status pad_forward(psg_call *call) {
    pad_job job = job_of(call, &call->input[0].value, &call->output);
    if (!psg_tensor_count(&call->output)) return PSG_OK;
    set_fill(call, &job);
    int64_t rows = psg_shape_product(job.rank - 1, job.out), work = psg_tensor_count(&call->output) / rows;
    psg_for_ranges(call->context, (size_t)rows, psg_range_unit(work), pad_rows, &job);
    return PSG_OK;
}

/* ---- backward: each row of the input gathers from the rows of the output that were taken from it ---- */

/* How many places of the output element i went to, some of them outside it; the 0th is its own. */
static int64_t target_count(const pad_job *job, int d, int64_t i) {
    if (!job->pad[d].left && !job->pad[d].right) return 1;
    switch (job->mode) {
    case PSG_PAD_REPLICATE:
        return 1 + (i == 0 ? job->pad[d].left : 0) + (i == job->size[d] - 1 ? job->pad[d].right : 0);
    case PSG_PAD_CONSTANT: return 1;
    default: return 3;
    }
}

static int64_t target_of(const pad_job *job, int d, int64_t i, int64_t k) {
    int64_t size = job->size[d], left = job->pad[d].left, at = i;
    if (k && job->mode == PSG_PAD_REPLICATE) {
        at = i == 0 && k <= left ? -k : size - 1 + k - (i == 0 ? left : 0);
    } else if (k && job->mode == PSG_PAD_CIRCULAR) {
        at = k == 1 ? i - size : i + size;
    } else if (k) {
        at = k == 1 ? -i : 2 * (size - 1) - i;
        if (at == i) return NOWHERE;
    }
    return at + left >= 0 && at + left < job->out[d] ? at + left : NOWHERE;
}

static void add_cells(const pad_job *job, const char *from, char *to, int64_t cells) {
    job->kernels->scale_row((size_t)(cells * job->cell), 1.0, from, 1, to, true);
}

/* to, a row of the input's gradient, (+)= what reached it of `from`, one of the output's. */
static void gather_row(const pad_job *job, const char *from, char *to, bool accumulate) {
    int last = job->rank - 1;
    int64_t out = job->out[last], size = job->size[last], left = job->pad[last].left;
    int64_t begin = clamp(left, out), end = clamp(left + size, out);
    if (end < begin) end = begin;
    const char *inner = from + begin * job->bytes;
    char *inner_to = to + (begin - left) * job->bytes;
    if (accumulate) {
        add_cells(job, inner, inner_to, end - begin);
    } else {
        if (end - begin < size) memset(to, 0, (size_t)(size * job->bytes));
        if (end > begin) memcpy(inner_to, inner, (size_t)((end - begin) * job->bytes));
    }
    if (job->mode == PSG_PAD_CONSTANT) return;
    for (int64_t o = 0; o < out; o++) {
        if (o == begin) o = end;
        if (o >= out) return;
        add_cells(job, from + o * job->bytes, to + source_of(job->mode, size, o - left) * job->bytes, 1);
    }
}

/* The k-th combination of places, over the outer dimensions, that row `row` of the input went to. */
static int64_t target_row(const pad_job *job, int64_t row, int64_t k) {
    int64_t target = 0, step = 1;
    for (int d = job->rank - 2; d >= 0; d--) {
        int64_t i = row % job->size[d], count = target_count(job, d, i), at = target_of(job, d, i, k % count);
        if (at == NOWHERE) return NOWHERE;
        row /= job->size[d];
        k /= count;
        target += at * step;
        step *= job->out[d];
    }
    return target;
}

static int64_t target_rows(const pad_job *job, int64_t row) {
    int64_t count = 1;
    for (int d = job->rank - 2; d >= 0; d--) {
        count *= target_count(job, d, row % job->size[d]);
        row /= job->size[d];
    }
    return count;
}

static void gather_rows(void *argument, size_t begin, size_t count) {
    const pad_job *job = argument;
    int last = job->rank - 1;
    int64_t from_row = job->out[last] * job->bytes, to_row = job->size[last] * job->bytes;
    for (int64_t row = (int64_t)begin; row < (int64_t)(begin + count); row++) {
        char *to = job->to + row * to_row;
        bool written = false;
        for (int64_t k = 0, targets = target_rows(job, row); k < targets; k++) {
            int64_t target = target_row(job, row, k);
            if (target == NOWHERE) continue;
            gather_row(job, job->from + target * from_row, to, written);
            written = true;
        }
        if (!written) memset(to, 0, (size_t)to_row);
    }
}

static psg_status pad_backward(psg_call *call) {
    const psg_tensor *grad = &call->input[0].grad;
    int64_t count = grad->data ? psg_tensor_count(grad) : 0;
    if (!count) return PSG_OK;
    pad_job job = job_of(call, &call->grad_output, grad);
    int64_t rows = psg_shape_product(job.rank - 1, job.size);
    psg_for_ranges(call->context, (size_t)rows, psg_range_unit(count / rows), gather_rows, &job);
    return PSG_OK;
}

static const char *const input_names[] = { "input" };

const psg_op psg_op_pad = {
    .name = "pad",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_pad_attributes),
    .shape = pad_shape,
    .forward = pad_forward,
    .backward = pad_backward,
};

/* ---- front ---- */

/* Pads the op takes: without negative ones in the modes that repeat the input.  False: nothing has to be cropped, or
 * the op is to say what is wrong. */
static bool split_crops(psg_tape *tape, psg_var x, const psg_pad_attributes *given, psg_pad_attributes *kept) {
    psg_tensor value;
    bool negative = false;
    *kept = *given;
    for (int k = 0; k < given->count; k++) {
        negative |= given->pad[k] < 0;
        if (given->pad[k] < 0) kept->pad[k] = 0;
    }
    if (!negative || given->mode == PSG_PAD_CONSTANT || psg_tape_status(tape)) return false;
    if (psg_value_shape(tape, x, &value) || given->count % 2 || given->count > 2 * value.rank) return false;
    for (int k = 0; k < given->count; k += 2) {
        int64_t size = value.shape[value.rank - 1 - k / 2], left = given->pad[k], right = given->pad[k + 1];
        if (left < -size || right < -size || left > INT64_MAX / 4 || right > INT64_MAX / 4) return false;
        if (size + left + right < 0) return false;
    }
    return true;
}

/* What negative pads name is cut off. */
static psg_var crop(psg_tape *tape, psg_var x, const psg_pad_attributes *given) {
    for (int k = 0; k < given->count; k += 2) {
        int64_t left = given->pad[k], right = given->pad[k + 1];
        if (left >= 0 && right >= 0) continue;
        x = psg_slice(tape, x, -1 - k / 2, left < 0 ? -left : 0, right < 0 ? right : INT64_MAX, 1);
    }
    return x;
}

/* As in PyTorch what is cut off is neither reflected nor repeated when the mode is circular, else it is. */
psg_var psg_pad(psg_tape *tape, psg_var x, int count, const int64_t *pad, psg_pad_mode mode, double value) {
    bool given = count >= 0 && count <= 2 * PSG_MAX_RANK && (pad || !count);
    psg_pad_attributes attributes = { .count = given ? count : -1, .mode = mode, .value = value };
    for (int k = 0; k < attributes.count; k++) attributes.pad[k] = pad[k];
    psg_pad_attributes kept;
    bool crops = split_crops(tape, x, &attributes, &kept);
    if (crops && mode == PSG_PAD_CIRCULAR) x = crop(tape, x, &attributes);
    x = psg_record(tape, &psg_op_pad, &x, 1, crops ? &kept : &attributes);
    return crops && mode != PSG_PAD_CIRCULAR ? crop(tape, x, &attributes) : x;
}
