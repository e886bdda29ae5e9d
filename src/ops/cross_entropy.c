/* cross_entropy: -sum_c q_c log softmax(logits)_c for integer targets. */
#include <math.h>

#include "base/context.h"
#include "base/shape.h"
#include "ops/operand.h"
#include "ops/ranges.h"
#include "psg/ops.h"

enum { LOGITS, TARGET };

/* ---- where things lie ----
 * Position p = (n, s): sample n, s-th of the `spatial` further positions.  Its logits start at n * sample_stride + s
 * and are class_stride apart; its target lies at ((s / run) * samples + n) * run + s % run, which is p itself unless
 * the batch is dimension 1 of the target. */
typedef struct layout {
    int64_t samples, classes, spatial;
    int64_t sample_stride, class_stride;
    int64_t run;
} layout;

static layout layout_of(const psg_call *call) {
    const psg_tensor *logits = &call->input[LOGITS].value, *target = &call->input[TARGET].value;
    int batch = psg_call_batch_dim(call, logits), target_batch = psg_call_batch_dim(call, target);
    layout l = { .samples = logits->shape[batch], .classes = logits->shape[1 - batch] };
    l.spatial = psg_shape_product(logits->rank - 2, logits->shape + 2);
    l.sample_stride = batch ? l.spatial : l.classes * l.spatial;
    l.class_stride = batch ? l.samples * l.spatial : l.spatial;
    l.run = psg_shape_product(target->rank - target_batch - 1, target->shape + target_batch + 1);
    return l;
}

static int64_t logits_at(const layout *l, int64_t p) { return p / l->spatial * l->sample_stride + p % l->spatial; }

static int64_t target_at(const layout *l, int64_t p) {
    int64_t n = p / l->spatial, s = p % l->spatial;
    return (s / l->run * l->samples + n) * l->run + s % l->run;
}

static int64_t label_at(const psg_tensor *target, int64_t k) {
    if (target->dtype == PSG_I32) return ((const int32_t *)target->data)[k];
    return ((const int64_t *)target->data)[k];
}

static int is_ignored(const psg_cross_entropy_options *options, int64_t label) {
    return options->has_ignore_index && label == options->ignore_index;
}

/* ---- shape ---- */

static psg_status check_options(psg_call *call) {
    const psg_cross_entropy_options *options = call->attributes;
    if (options->reduction != PSG_MEAN && options->reduction != PSG_SUM && options->reduction != PSG_NONE) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "reduction is %d, must be PSG_MEAN, PSG_SUM or PSG_NONE",
                             (int)options->reduction);
    }
    if (!(options->label_smoothing >= 0 && options->label_smoothing <= 1)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "label_smoothing is %g, must be in [0, 1]",
                             options->label_smoothing);
    }
    if (call->per_sample && options->has_ignore_index && options->reduction == PSG_MEAN) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "a mean over the targets that are not ignored divides the loss "
                             "of each sample by a count over all samples, which mixes them; use reduction PSG_SUM or "
                             "PSG_NONE");
    }
    return PSG_OK;
}

static psg_status check_types(psg_call *call) {
    psg_dtype target = call->input[TARGET].value.dtype;
    psg_status status = psg_operands_real(call, 1);
    if (status || target == PSG_I32 || target == PSG_I64) return status;
    return psg_call_fail(call, PSG_ERR_DTYPE, "target is %s, must be i32 or i64", psg_dtype_name(target));
}

/* The target's shape is that of the logits, both with the batch in front, without the classes. */
static psg_status check_shapes(psg_call *call) {
    psg_tensor logits = call->input[LOGITS].value, target = call->input[TARGET].value;
    char text[PSG_SHAPE_TEXT], target_text[PSG_SHAPE_TEXT];
    psg_tensor_text(&logits, text);
    psg_tensor_text(&target, target_text);
    if (logits.rank < 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "logits has shape %s, must be of rank >= 2: (N, C, *)", text);
    }
    bool fits = target.rank == logits.rank - 1;
    if (fits) {
        logits = psg_tensor_swap(&logits, 0, psg_call_batch_dim(call, &logits));
        target = psg_tensor_swap(&target, 0, psg_call_batch_dim(call, &target));
        fits = logits.shape[0] == target.shape[0] &&
               psg_shape_equal(target.rank - 1, target.shape + 1, logits.rank - 2, logits.shape + 2);
    }
    if (!fits) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "logits has shape %s and target %s, must be (N, C, *) and (N, *)%s",
                             text, target_text, call->batch_first ? "" : " with N as dimension 1 of rank >= 3");
    }
    if (logits.shape[1] > 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "logits has shape %s, there must be at least one class", text);
}

static psg_status cross_entropy_shape(psg_call *call) {
    const psg_cross_entropy_options *options = call->attributes;
    const psg_tensor *target = &call->input[TARGET].value;
    psg_status status = check_options(call);
    if (!status) status = check_types(call);
    if (!status) status = check_shapes(call);
    if (!status) status = psg_operand_carries_batch(call, LOGITS);
    if (!status) status = psg_operand_carries_batch(call, TARGET);
    if (status) return status;
    int rank = options->reduction == PSG_NONE ? target->rank : 0;
    return psg_call_output(call, call->input[LOGITS].value.dtype, rank, target->shape);
}

/* ---- forward ---- */

typedef struct kept {
    int64_t counted;                 /* targets that are not ignored */
    psg_cross_entropy_row row[];     /* one a position */
} kept;

typedef struct cross_entropy_job {
    psg_call *call;
    const psg_cross_entropy_options *options;
    layout at;
    kept *kept;
    double weight;                   /* backward: of every position; PSG_NONE reads its own */
} cross_entropy_job;

static psg_status check_labels(psg_call *call, int64_t classes) {
    const psg_cross_entropy_options *options = call->attributes;
    const psg_tensor *target = &call->input[TARGET].value;
    int64_t count = psg_tensor_count(target);
    for (int64_t k = 0; k < count; k++) {
        int64_t label = label_at(target, k);
        if ((label >= 0 && label < classes) || is_ignored(options, label)) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "target[%lld] (in memory order) is %lld, must be in [0, %lld)",
                             (long long)k, (long long)label, (long long)classes);
    }
    return PSG_OK;
}

static void forward_rows(void *argument, size_t begin, size_t count) {
    const cross_entropy_job *job = argument;
    const layout *at = &job->at;
    const psg_operand *input = job->call->input;
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    for (int64_t p = (int64_t)begin; p < (int64_t)(begin + count); p++) {
        psg_cross_entropy_row *row = &job->kept->row[p];
        int64_t label = label_at(&input[TARGET].value, target_at(at, p));
        row->loss = 0;
        if (is_ignored(job->options, label)) continue;
        kernels->cross_entropy_row((size_t)at->classes, at->class_stride,
                                   psg_tensor_offset(&input[LOGITS].value, logits_at(at, p)), (size_t)label,
                                   job->options->label_smoothing, row);
    }
}

static int64_t count_labels(const psg_call *call) {
    const psg_tensor *target = &call->input[TARGET].value;
    int64_t counted = 0;
    for (int64_t k = 0; k < psg_tensor_count(target); k++) {
        counted += !is_ignored(call->attributes, label_at(target, k));
    }
    return counted;
}

static void write_losses(const cross_entropy_job *job, int64_t positions) {
    psg_call *call = job->call;
    double sum = 0;
    for (int64_t p = 0; p < positions; p++) {
        psg_tensor one = call->output;
        sum += job->kept->row[p].loss;
        if (job->options->reduction != PSG_NONE) continue;
        one.data = psg_tensor_offset(&call->output, target_at(&job->at, p));
        psg_scalar_set(call, job->kept->row[p].loss, &one);
    }
    if (job->options->reduction == PSG_SUM) psg_scalar_set(call, sum, &call->output);
    if (job->options->reduction != PSG_MEAN) return;
    bool no_samples = call->per_sample && !job->at.samples;
    psg_scalar_set(call, no_samples ? 0 : sum / (double)job->kept->counted, &call->output);
}

static psg_status cross_entropy_forward(psg_call *call) {
    cross_entropy_job job = { .call = call, .options = call->attributes, .at = layout_of(call) };
    int64_t positions = psg_tensor_count(&call->input[TARGET].value);
    size_t bytes;
    psg_status status = check_labels(call, job.at.classes);
    if (status) return status;
    if (!psg_size_bytes(positions, sizeof job.kept->row[0], &bytes) || bytes > SIZE_MAX / 2) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "target has too many elements: %lld", (long long)positions);
    }
    job.kept = psg_call_keep(call, sizeof *job.kept + bytes);
    if (!job.kept) return PSG_ERR_MEMORY;
    job.kept->counted = count_labels(call);
    psg_for_ranges(call->context, (size_t)positions, psg_range_unit(job.at.classes), forward_rows, &job);
    write_losses(&job, positions);
    return PSG_OK;
}

/* ---- backward ---- */

static double position_weight(const cross_entropy_job *job, int64_t p) {
    if (job->options->reduction != PSG_NONE) return job->weight;
    psg_tensor one = job->call->grad_output;
    one.data = psg_tensor_offset(&one, target_at(&job->at, p));
    return psg_scalar_value(job->call, &one);
}

static void backward_rows(void *argument, size_t begin, size_t count) {
    const cross_entropy_job *job = argument;
    const layout *at = &job->at;
    const psg_operand *logits = &job->call->input[LOGITS];
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    for (int64_t p = (int64_t)begin; p < (int64_t)(begin + count); p++) {
        int64_t label = label_at(&job->call->input[TARGET].value, target_at(at, p)), place = logits_at(at, p);
        void *grad = psg_tensor_offset(&logits->grad, place);
        if (is_ignored(job->options, label)) {
            kernels->fill_zero((size_t)at->classes, at->class_stride, grad);
            continue;
        }
        kernels->cross_entropy_row_backward((size_t)at->classes, at->class_stride,
                                            psg_tensor_offset(&logits->value, place), (size_t)label,
                                            job->options->label_smoothing, position_weight(job, p),
                                            &job->kept->row[p], grad);
    }
}

static psg_status cross_entropy_backward(psg_call *call) {
    if (!call->input[LOGITS].grad.data) return PSG_OK;
    cross_entropy_job job = { .call = call, .options = call->attributes, .at = layout_of(call), .kept = call->kept };
    int64_t positions = psg_tensor_count(&call->input[TARGET].value);
    if (job.options->reduction != PSG_NONE) job.weight = psg_scalar_value(call, &call->grad_output);
    if (job.options->reduction == PSG_MEAN) job.weight /= (double)job.kept->counted;
    psg_for_ranges(call->context, (size_t)positions, psg_range_unit(job.at.classes), backward_rows, &job);
    return PSG_OK;
}

static const char *const input_names[] = { "logits", "target" };

const psg_op psg_op_cross_entropy = {
    .name = "cross_entropy",
    .input_count = 2,
    .input_names = input_names,
    .attributes_size = sizeof(psg_cross_entropy_options),
    .shape = cross_entropy_shape,
    .forward = cross_entropy_forward,
    .backward = cross_entropy_backward,
};

psg_var psg_cross_entropy(psg_tape *tape, psg_var logits, psg_var target, const psg_cross_entropy_options *options) {
    static const psg_cross_entropy_options defaults = PSG_CROSS_ENTROPY_INIT;
    return psg_record(tape, &psg_op_cross_entropy, (psg_var[]){ logits, target }, 2, options ? options : &defaults);
}
