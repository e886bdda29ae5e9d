/* layer_norm: y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimensions;
 * rms_norm: y = x / sqrt(mean(x^2) + eps) * weight. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "ops/norm/norm_common.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/norm.h"

/* Each sample has rows of d elements. */
typedef struct layout {
    int64_t samples, rows, d;
} layout;

/* ---- what tells the ops apart ---- */

typedef struct kind {
    psg_layer_norm_attributes (*attributes)(const psg_call *call);
    bool about_mean;
} kind;

static const kind *kind_of(const psg_call *call) { return call->op->traits; }

static psg_layer_norm_attributes attributes_of(const psg_call *call) { return kind_of(call)->attributes(call); }

static psg_layer_norm_attributes layer_attributes(const psg_call *call) {
    return *(const psg_layer_norm_attributes *)call->attributes;
}

static psg_layer_norm_attributes rms_attributes(const psg_call *call) {
    const psg_rms_norm_attributes *own = call->attributes;
    const double epsilon = call->input[PSG_NORM_INPUT].value.dtype == PSG_F64 ? DBL_EPSILON : FLT_EPSILON;
    psg_layer_norm_attributes attributes = { .rank = own->rank, .eps = own->has_eps ? own->eps : epsilon };
    memcpy(attributes.normalized_shape, own->normalized_shape, sizeof attributes.normalized_shape);
    return attributes;
}

/* ---- shape ---- */

static psg_status check_normalized_shape(psg_call *call, const psg_layer_norm_attributes *attributes) {
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const int rank = attributes->rank;
    char text[PSG_SHAPE_TEXT], given[PSG_SHAPE_TEXT];
    if (rank < 1 || rank > PSG_MAX_RANK) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "normalized_shape has rank %d, must have 1 to %d dimensions and not be "
                             "NULL", rank, PSG_MAX_RANK);
    }
    const int leading = x->rank - rank;
    int batch = psg_call_dim(call, PSG_NORM_INPUT, x->rank, 0);
    if (psg_operand_keeps_batch(call, PSG_NORM_INPUT) && leading >= 0 && batch >= leading) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "normalized_shape %s includes the batch dimension %d of input "
                             "of shape %s; a mean over the batch mixes the samples, so there are no per-sample "
                             "gradients",
                             psg_shape_text(rank, attributes->normalized_shape, given), batch,
                             psg_tensor_text(x, text));
    }
    if (leading < 0 || !psg_shape_equal(rank, attributes->normalized_shape, rank, x->shape + leading)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "normalized_shape is %s, must equal the last dimensions of input, "
                             "which has shape %s", psg_shape_text(rank, attributes->normalized_shape, given),
                             psg_tensor_text(x, text));
    }
    if (psg_shape_product(rank, attributes->normalized_shape) >= 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_OVERFLOW, "normalized_shape %s is too large",
                         psg_shape_text(rank, attributes->normalized_shape, given));
}

static psg_status layer_norm_shape(psg_call *call) {
    const psg_layer_norm_attributes attributes = attributes_of(call);
    psg_status status = psg_norm_check_operands(call);
    if (!status) status = check_normalized_shape(call, &attributes);
    if (!status) {
        status = psg_norm_check_affine(call, attributes.rank, attributes.normalized_shape, "the normalized_shape");
    }
    return status ? status : psg_output_like_input(call);
}

/* Normalizing over the batch, which an ordinary pass may, leaves one sample. */
static layout layout_of(const psg_call *call) {
    const psg_layer_norm_attributes attributes = attributes_of(call);
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const int leading = x->rank - attributes.rank;
    const int64_t d = psg_shape_product(attributes.rank, attributes.normalized_shape);
    if (!leading) return (layout){ 1, 1, d };
    return (layout){ x->shape[0], psg_shape_product(leading - 1, x->shape + 1), d };
}

/* ---- forward ---- */

typedef struct forward_job {
    const psg_call *call;
    int64_t d;
    double eps;
    psg_norm_stats *stats;
    bool stream;
} forward_job;

static void forward_rows(void *argument, size_t begin, size_t count) {
    const forward_job *j = argument;
    const psg_kernel_table *kernels = psg_call_kernels(j->call);
    const int64_t at = (int64_t)begin * j->d;
    (kind_of(j->call)->about_mean ? kernels->layer_norm : kernels->rms_norm)(
        count, (size_t)j->d, j->eps, psg_norm_data(j->call, PSG_NORM_INPUT, at),
        psg_norm_data(j->call, PSG_NORM_WEIGHT, 0), psg_norm_data(j->call, PSG_NORM_BIAS, 0),
        psg_tensor_offset(&j->call->output, at), j->stats ? j->stats + begin : NULL, j->stream);
}

static psg_status layer_norm_forward(psg_call *call) {
    const layout l = layout_of(call);
    forward_job job = { .call = call, .d = l.d, .eps = attributes_of(call).eps, .stream = psg_norm_streams(call, l.d) };
    const int64_t rows = psg_tensor_count(&call->output) ? l.samples * l.rows : 0;
    psg_status status = psg_norm_keep_stats(call, rows, &job.stats);
    call->kept = job.stats;
    if (!status) psg_for_ranges(call->context, (size_t)rows, psg_range_unit(l.d), forward_rows, &job);
    return status;
}

/* ---- backward ---- */

/* The rows of a sample are cut into parts, each with its own sums of weight and bias gradients. */
typedef struct backward_job {
    const psg_call *call;
    layout layout;
    int64_t parts;
    void *grad_weight, *grad_bias;   /* (samples, parts, d), or NULL */
    bool stream;
} backward_job;

/* A part's terms are added in the real type, the parts in double: parts of 64 to 127 rows keep the rounding of a long
 * sum, give several workers something to do, and cost little beside their rows.  However many samples there are, or a
 * sample's sums would be others among others. */
static int64_t parts_of(const layout *l) {
    return l->rows < 128 || !l->d ? 1 : l->rows / 64;
}

static void *sums_at(const backward_job *j, void *sums, int64_t part) {
    return sums ? (char *)sums + part * j->layout.d * (int64_t)psg_dtype_size(j->call->output.dtype) : NULL;
}

/* Rows next to each other, whose terms are added to those of a part, or (sum_stride d) are a part each. */
static void backward_rows(const backward_job *j, int64_t row, int64_t count, int64_t part, int64_t sum_stride) {
    const psg_call *call = j->call;
    const psg_kernel_table *kernels = psg_call_kernels(call);
    const int64_t d = j->layout.d, at = row * d;
    (kind_of(call)->about_mean ? kernels->layer_norm_backward : kernels->rms_norm_backward)(
        (size_t)count, (size_t)d, psg_norm_data(call, PSG_NORM_INPUT, at), psg_tensor_offset(&call->grad_output, at),
        psg_norm_data(call, PSG_NORM_WEIGHT, 0), (const psg_norm_stats *)call->kept + row,
        psg_tensor_offset(&call->input[PSG_NORM_INPUT].grad, at), sums_at(j, j->grad_weight, part),
        sums_at(j, j->grad_bias, part), (size_t)sum_stride, j->stream);
}

static void clear_sums(const backward_job *j, void *sums, int64_t part) {
    if (sums) memset(sums_at(j, sums, part), 0, (size_t)j->layout.d * psg_dtype_size(j->call->output.dtype));
}

static void backward_part(const backward_job *j, int64_t part) {
    const int64_t rows = j->layout.rows, n = part / j->parts, p = part % j->parts, count = rows / j->parts;
    clear_sums(j, j->grad_weight, part);
    clear_sums(j, j->grad_bias, part);
    backward_rows(j, n * rows + p * count, p + 1 == j->parts ? rows - p * count : count, part, 0);
}

/* Samples of one row each lie side by side, and so do their parts. */
static void backward_parts(void *argument, size_t begin, size_t count) {
    const backward_job *j = argument;
    const int64_t first = (int64_t)begin, end = first + (int64_t)count;
    if (j->layout.rows == 1) {
        backward_rows(j, first, end - first, first, j->layout.d);
    } else {
        for (int64_t part = first; part < end; part++) backward_part(j, part);
    }
}

static psg_status keep_sums(const backward_job *j, psg_call *call, int k, void **sums) {
    int64_t elements;
    if (!psg_norm_wants(call, k)) return PSG_OK;
    if (!psg_size_multiply(j->layout.samples * j->parts, j->layout.d, &elements)) elements = -1;
    return psg_norm_keep(call, elements, psg_dtype_size(call->output.dtype), sums);
}

static psg_status run_backward(psg_call *call, backward_job *j) {
    const int64_t units = j->layout.d ? j->layout.samples * j->parts : 0, rows = j->layout.rows;
    psg_status status = keep_sums(j, call, PSG_NORM_WEIGHT, &j->grad_weight);
    if (!status && rows != 1) status = keep_sums(j, call, PSG_NORM_BIAS, &j->grad_bias);
    const bool writes = call->input[PSG_NORM_INPUT].grad.data && psg_tensor_count(&call->output);
    if (status || (!j->grad_weight && !j->grad_bias && !writes)) return status;
    psg_for_ranges(call->context, (size_t)units, psg_range_unit(rows / j->parts * j->layout.d), backward_parts, j);
    return PSG_OK;
}

/* With h = g weight and xh = (x - mean) rstd:  grad_input = rstd (h - mean(h) - xh mean(h xh)); per sample, summed over
 * its rows, grad_weight = g xh and grad_bias = g, which for one row is the output gradient itself.  rms_norm is the
 * same without mean and mean(h). */
static psg_status layer_norm_backward(psg_call *call) {
    backward_job j = { .call = call, .layout = layout_of(call) };
    const layout *l = &j.layout;
    j.parts = parts_of(l);
    j.stream = psg_norm_streams(call, l->d);
    psg_status status = run_backward(call, &j);
    if (!status && j.grad_weight) {
        status = psg_norm_add_rows(call, PSG_NORM_WEIGHT, j.grad_weight, l->samples, j.parts, l->d);
    }
    if (status || !psg_norm_wants(call, PSG_NORM_BIAS)) return status;
    void *grad_bias = j.grad_bias ? j.grad_bias : call->grad_output.data;
    return psg_norm_add_rows(call, PSG_NORM_BIAS, grad_bias, l->samples, j.parts, l->d);
}

const psg_op psg_op_layer_norm = {
    .name = "layer_norm",
    .input_count = PSG_NORM_INPUTS,
    .input_names = psg_norm_input_names,
    .optional_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .parameter_inputs = 1u << PSG_NORM_WEIGHT | 1u << PSG_NORM_BIAS,
    .attributes_size = sizeof(psg_layer_norm_attributes),
    .traits = &(const kind){ layer_attributes, true },
    .shape = layer_norm_shape,
    .forward = layer_norm_forward,
    .backward = layer_norm_backward,
};

const psg_op psg_op_rms_norm = {
    .name = "rms_norm",
    .input_count = PSG_NORM_BIAS,
    .input_names = psg_norm_input_names,
    .optional_inputs = 1u << PSG_NORM_WEIGHT,
    .parameter_inputs = 1u << PSG_NORM_WEIGHT,
    .attributes_size = sizeof(psg_rms_norm_attributes),
    .traits = &(const kind){ rms_attributes, false },
    .shape = layer_norm_shape,
    .forward = layer_norm_forward,
    .backward = layer_norm_backward,
};

static void copy_shape(int rank, const int64_t *from, int64_t to[PSG_MAX_RANK]) {
    for (int d = 0; d < rank && d < PSG_MAX_RANK; d++) to[d] = from[d];
}

psg_var psg_layer_norm(psg_tape *tape, psg_var x, int rank, const int64_t *normalized_shape, psg_var weight,
                       psg_var bias, double eps) {
    psg_layer_norm_attributes attributes = { .rank = normalized_shape ? rank : 0, .eps = eps };
    copy_shape(attributes.rank, normalized_shape, attributes.normalized_shape);
    return psg_record(tape, &psg_op_layer_norm, (psg_var[]){ x, weight, bias }, PSG_NORM_INPUTS, &attributes);
}

psg_var psg_rms_norm(psg_tape *tape, psg_var x, int rank, const int64_t *normalized_shape, psg_var weight,
                     double eps) {
    psg_rms_norm_attributes attributes = { .rank = normalized_shape ? rank : 0, .has_eps = !isnan(eps), .eps = eps };
    copy_shape(attributes.rank, normalized_shape, attributes.normalized_shape);
    return psg_record(tape, &psg_op_rms_norm, (psg_var[]){ x, weight }, PSG_NORM_BIAS, &attributes);
}
