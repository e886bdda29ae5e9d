/* layer_norm: y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimensions. */
#include <string.h>

#include "base/context.h"
#include "base/shape.h"
#include "ops/norm.h"
#include "ops/operand.h"
#include "ops/ranges.h"
#include "psg/ops.h"

/* Sample n has outer runs of inner rows of d elements; run o begins at row (o * samples + n) * inner. */
typedef struct layout {
    int64_t samples, outer, inner, d;
} layout;

/* ---- shape ---- */

static psg_status check_normalized_shape(psg_call *call) {
    const psg_layer_norm_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const int rank = attributes->rank, leading = x->rank - rank;
    char text[PSG_SHAPE_TEXT], given[PSG_SHAPE_TEXT];
    if (rank < 1 || rank > PSG_MAX_RANK) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "normalized_shape has rank %d, must have 1 to %d dimensions", rank,
                             PSG_MAX_RANK);
    }
    if (leading < 0 || !psg_shape_equal(rank, attributes->normalized_shape, rank, x->shape + leading)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "normalized_shape is %s, must equal the last dimensions of input, "
                             "which has shape %s", psg_shape_text(rank, attributes->normalized_shape, given),
                             psg_tensor_text(x, text));
    }
    if (psg_operand_per_sample(call, PSG_NORM_INPUT) && psg_call_batch_dim(call, x) >= leading) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "normalized_shape %s includes the batch dimension %d of input "
                             "of shape %s; a mean over the batch mixes the samples, so there are no per-sample "
                             "gradients",
                             psg_shape_text(rank, attributes->normalized_shape, given), psg_call_batch_dim(call, x),
                             psg_tensor_text(x, text));
    }
    if (psg_shape_product(rank, attributes->normalized_shape) >= 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_OVERFLOW, "normalized_shape %s is too large",
                         psg_shape_text(rank, attributes->normalized_shape, given));
}

static psg_status layer_norm_shape(psg_call *call) {
    const psg_layer_norm_attributes *attributes = call->attributes;
    psg_status status = psg_norm_check_operands(call);
    if (!status) status = check_normalized_shape(call);
    if (!status) {
        status = psg_norm_check_affine(call, attributes->rank, attributes->normalized_shape, "the normalized_shape");
    }
    return status ? status : psg_output_like_input(call);
}

/* Normalizing over the batch, which an ordinary pass may, leaves one sample. */
static layout layout_of(const psg_call *call) {
    const psg_layer_norm_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    const int leading = x->rank - attributes->rank, batch = psg_call_batch_dim(call, x);
    layout l = { 1, 1, 1, psg_shape_product(attributes->rank, attributes->normalized_shape) };
    if (batch < leading) {
        l.outer = psg_shape_product(batch, x->shape);
        l.samples = x->shape[batch];
        l.inner = psg_shape_product(leading - batch - 1, x->shape + batch + 1);
    } else {
        l.inner = psg_shape_product(leading, x->shape);
    }
    return l;
}

/* ---- forward ---- */

typedef struct forward_job {
    const psg_call *call;
    int64_t d;
    double *stats;
    bool stream;
} forward_job;

static void forward_rows(void *argument, size_t begin, size_t count) {
    const forward_job *j = argument;
    const psg_operand *input = j->call->input;
    const double eps = ((const psg_layer_norm_attributes *)j->call->attributes)->eps;
    const int64_t at = (int64_t)begin * j->d;
    psg_call_kernels(j->call)->layer_norm(count, (size_t)j->d, eps, psg_tensor_offset(&input[PSG_NORM_INPUT].value, at),
                                          input[PSG_NORM_WEIGHT].value.data, input[PSG_NORM_BIAS].value.data,
                                          psg_tensor_offset(&j->call->output, at),
                                          j->stats ? j->stats + 2 * begin : NULL, j->stream);
}

static psg_status layer_norm_forward(psg_call *call) {
    const layout l = layout_of(call);
    forward_job job = { .call = call, .d = l.d, .stream = psg_norm_streams(call, l.d) };
    const int64_t rows = psg_tensor_count(&call->output) ? l.samples * l.outer * l.inner : 0;
    psg_status status = psg_norm_keep_stats(call, rows, &job.stats);
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

/* One part a sample is enough where the samples are many; of fewer, parts of at least 8 rows and a range of work. */
static int64_t parts_of(const layout *l) {
    const int64_t enough = 64, rows = l->outer * l->inner, samples = l->samples ? l->samples : 1;
    if (l->samples >= enough / 2 || !rows || !l->d) return 1;
    int64_t parts = rows / 8, work = rows / (int64_t)psg_range_unit(l->d), most = enough / samples;
    if (parts > work) parts = work;
    if (parts > most) parts = most;
    return parts < 1 ? 1 : parts;
}

static void *part_sums(const backward_job *j, void *sums, size_t part) {
    if (!sums) return NULL;
    size_t bytes = (size_t)j->layout.d * psg_dtype_size(j->call->output.dtype);
    void *own = (char *)sums + part * bytes;
    memset(own, 0, bytes);
    return own;
}

static void backward_part(const backward_job *j, size_t part) {
    const psg_operand *input = j->call->input;
    const layout *l = &j->layout;
    const int64_t rows = l->outer * l->inner, n = (int64_t)part / j->parts, p = (int64_t)part % j->parts;
    const int64_t end = rows / j->parts * (p + 1) + (p + 1 == j->parts ? rows % j->parts : 0);
    void *grad_weight = part_sums(j, j->grad_weight, part), *grad_bias = part_sums(j, j->grad_bias, part);
    for (int64_t r = rows / j->parts * p, count; r < end && l->d; r += count) {
        int64_t left = l->inner - r % l->inner, row = (r / l->inner * l->samples + n) * l->inner + r % l->inner;
        count = left < end - r ? left : end - r;
        psg_call_kernels(j->call)->layer_norm_backward(
            (size_t)count, (size_t)l->d, psg_tensor_offset(&input[PSG_NORM_INPUT].value, row * l->d),
            psg_tensor_offset(&j->call->grad_output, row * l->d), input[PSG_NORM_WEIGHT].value.data,
            (const double *)j->call->kept + 2 * row, psg_tensor_offset(&input[PSG_NORM_INPUT].grad, row * l->d),
            grad_weight, grad_bias, j->stream);
    }
}

static void backward_parts(void *argument, size_t begin, size_t count) {
    for (size_t part = begin; part < begin + count; part++) backward_part(argument, part);
}

static psg_status run_backward(psg_call *call, backward_job *j) {
    const int64_t units = j->layout.samples * j->parts, rows = j->layout.outer * j->layout.inner;
    int64_t elements;
    if (!psg_size_multiply(units, j->layout.d, &elements)) elements = -1;
    psg_status status = PSG_OK;
    if (call->input[PSG_NORM_WEIGHT].wants_grad) status = psg_norm_keep_reals(call, elements, &j->grad_weight);
    if (!status && call->input[PSG_NORM_BIAS].wants_grad && rows != 1) {
        status = psg_norm_keep_reals(call, elements, &j->grad_bias);
    }
    if (status || (!j->grad_weight && !j->grad_bias && !call->input[PSG_NORM_INPUT].grad.data)) return status;
    psg_for_ranges(call->context, (size_t)units, psg_range_unit(rows / j->parts * j->layout.d), backward_parts, j);
    return PSG_OK;
}

/* With h = g weight and xh = (x - mean) rstd:  grad_input = rstd (h - mean(h) - xh mean(h xh)); per sample, summed over
 * its rows, grad_weight = g xh and grad_bias = g, which for one row is the output gradient itself. */
static psg_status layer_norm_backward(psg_call *call) {
    backward_job j = { .call = call, .layout = layout_of(call) };
    const layout *l = &j.layout;
    j.parts = parts_of(l);
    j.stream = psg_norm_streams(call, l->d);
    psg_status status = run_backward(call, &j);
    if (!status && j.grad_weight) {
        status = psg_norm_add_rows(call, PSG_NORM_WEIGHT, j.grad_weight, l->samples, j.parts, l->d);
    }
    if (status || !call->input[PSG_NORM_BIAS].wants_grad) return status;
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
    .shape = layer_norm_shape,
    .forward = layer_norm_forward,
    .backward = layer_norm_backward,
};

psg_var psg_layer_norm(psg_tape *tape, psg_var x, int rank, const int64_t *normalized_shape, psg_var weight,
                       psg_var bias, double eps) {
    psg_layer_norm_attributes attributes = { .rank = normalized_shape ? rank : 0, .eps = eps };
    for (int d = 0; d < attributes.rank && d < PSG_MAX_RANK; d++) attributes.normalized_shape[d] = normalized_shape[d];
    return psg_record(tape, &psg_op_layer_norm, (psg_var[]){ x, weight, bias }, PSG_NORM_INPUTS, &attributes);
}
