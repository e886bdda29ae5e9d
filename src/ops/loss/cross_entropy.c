/* cross_entropy: -sum_c w_c q_c log softmax(logits)_c, q a label or given probabilities. */
#include <math.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/loss/positions.h"
#include "ops/loss/reduction.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/loss.h"

enum { LOGITS, TARGET, WEIGHT };

static bool is_soft(const psg_call *call) { return psg_dtype_is_real(call->input[TARGET].value.dtype); }

static bool is_class_last(const psg_call *call) {
    return ((const psg_cross_entropy_options *)call->attributes)->class_last != 0;
}

static psg_ignored ignored_of(const psg_call *call) {
    const psg_cross_entropy_options *options = call->attributes;
    return (psg_ignored){ options->has_ignore_index, options->ignore_index };
}

/* ---- shape ---- */

static psg_status check_options(psg_call *call) {
    const psg_cross_entropy_options *options = call->attributes;
    if (!(options->label_smoothing >= 0 && options->label_smoothing <= 1)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "label_smoothing is %g, must be in [0, 1]",
                             options->label_smoothing);
    }
    if (is_soft(call) && options->has_ignore_index) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "ignore_index is %lld, but target is %s: probabilities, none "
                             "of which can be ignored", (long long)options->ignore_index,
                             psg_dtype_name(call->input[TARGET].value.dtype));
    }
    bool counts = options->has_ignore_index || (call->input[WEIGHT].role != PSG_ABSENT && !is_soft(call));
    psg_status status = psg_check_reduction(call, options->reduction, false);
    return status ? status : psg_check_counted_mean(call, options->reduction, counts);
}

static psg_status check_probabilities_shape(psg_call *call) {
    const psg_tensor *logits = &call->input[LOGITS].value, *target = &call->input[TARGET].value;
    char text[PSG_SHAPE_TEXT], target_text[PSG_SHAPE_TEXT];
    psg_status status = psg_operands_real(call, 1);
    if (status) return status;
    if (logits->rank < 2 || !psg_shape_equal(logits->rank, logits->shape, target->rank, target->shape)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "logits has shape %s and target, which is real, %s; must both be %s, or "
                             "target integers",
                             psg_tensor_text(logits, text), psg_tensor_text(target, target_text),
                             is_class_last(call) ? "(N, *, C)" : "(N, C, *)");
    }
    if (logits->shape[psg_class_dim(call, is_class_last(call))] == 0) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "logits has shape %s, there must be at least one class",
                             psg_tensor_text(logits, text));
    }
    status = psg_operand_beside_batch(call, LOGITS);
    return status ? status : psg_operand_beside_batch(call, TARGET);
}

static psg_status cross_entropy_shape(psg_call *call) {
    const psg_cross_entropy_options *options = call->attributes;
    const psg_tensor *logits = &call->input[LOGITS].value;
    psg_status status = check_options(call);
    const bool last = is_class_last(call);
    if (!status) status = is_soft(call) ? check_probabilities_shape(call) : psg_check_labels_shape(call, last);
    if (!status) status = psg_check_class_weight(call, WEIGHT, last);
    if (status) return status;
    int64_t shape[PSG_MAX_RANK];
    int rank = options->reduction == PSG_NONE ? psg_positions_shape(call, last, shape) : 0;
    return psg_call_output(call, logits->dtype, rank, shape);
}

/* ---- forward ---- */

typedef struct kept {
    double divisor;
    psg_cross_entropy_row row[];     /* one a position */
} kept;

typedef struct cross_entropy_job {
    psg_call *call;
    const psg_cross_entropy_options *options;
    psg_positions at;
    kept *kept;
    double scale;                    /* of the losses */
    double weight;                   /* backward: of every position; PSG_NONE reads its own */
} cross_entropy_job;

static cross_entropy_job job_of(psg_call *call, kept *of_forward) {
    return (cross_entropy_job){ .call = call, .options = call->attributes, .kept = of_forward,
                                .at = psg_positions_of(call, is_class_last(call)) };
}

/* What the rows that are more than one label look at: probabilities, or a smoothed label with weights. */
static bool is_general(const cross_entropy_job *job) {
    return is_soft(job->call) || (job->options->label_smoothing > 0 && job->call->input[WEIGHT].role != PSG_ABSENT);
}

static psg_class_target target_at(const cross_entropy_job *job, int64_t p) {
    const psg_operand *input = job->call->input;
    psg_class_target target = { .smoothing = job->options->label_smoothing, .weight = input[WEIGHT].value.data };
    if (is_soft(job->call)) target.q = psg_tensor_offset(&input[TARGET].value, psg_scores_at(&job->at, p));
    else target.label = (size_t)psg_integer_at(&input[TARGET].value, p);
    return target;
}

/* What multiplies the loss of a row, 0 where it does not count; in general rows the classes have weights. */
static double row_weight(const cross_entropy_job *job, const psg_class_target *target) {
    if (!target->q && psg_is_ignored(ignored_of(job->call), (int64_t)target->label)) return 0;
    return is_general(job) ? 1 : psg_label_weight(job->call, WEIGHT, ignored_of(job->call), (int64_t)target->label);
}

static void forward_row(const cross_entropy_job *job, int64_t p) {
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    const void *logits = psg_tensor_offset(&job->call->input[LOGITS].value, psg_scores_at(&job->at, p));
    const size_t classes = (size_t)job->at.classes;
    psg_cross_entropy_row *row = &job->kept->row[p];
    psg_class_target target = target_at(job, p);
    double weight = row_weight(job, &target);
    if (weight == 0) {
        row->loss = 0;
    } else if (is_general(job)) {
        kernels->class_target_row(classes, job->at.stride, logits, &target, row);
    } else {
        kernels->cross_entropy_row(classes, job->at.stride, logits, target.label, target.smoothing, row);
        row->loss *= weight;
    }
}

static void forward_rows(void *argument, size_t begin, size_t count) {
    for (size_t p = begin; p < begin + count; p++) forward_row(argument, (int64_t)p);
}

static double sum_losses(void *argument, size_t begin, size_t count) {
    const cross_entropy_job *job = argument;
    double sum = 0;
    for (size_t p = begin; p < begin + count; p++) sum += job->scale * job->kept->row[p].loss;
    return sum;
}

static psg_status write_losses(cross_entropy_job *job) {
    psg_call *call = job->call;
    if (job->options->reduction != PSG_NONE) {
        return psg_reduce_loss(call, (size_t)job->at.count, sum_losses, job, &job->scale, job->kept->divisor);
    }
    for (int64_t p = 0; p < job->at.count; p++) {
        psg_tensor one = call->output;
        one.data = psg_tensor_offset(&call->output, p);
        psg_scalar_set(call, job->kept->row[p].loss, &one);
    }
    return PSG_OK;
}

/* What a mean divides by; the loss of an empty batch of samples is 0. */
static double divisor_of(const cross_entropy_job *job) {
    const psg_call *call = job->call;
    bool no_samples = !call->pass->ordinary && call->input[LOGITS].value.shape[0] == 0;
    if (job->options->reduction != PSG_MEAN || no_samples) return 1;
    return is_soft(call) ? (double)job->at.count : psg_label_weights(call, WEIGHT, ignored_of(call));
}

static psg_status cross_entropy_forward(psg_call *call) {
    cross_entropy_job job = job_of(call, NULL);
    int64_t positions = job.at.count;
    size_t bytes;
    psg_status status = is_soft(call) ? PSG_OK : psg_check_labels(call, job.at.classes, ignored_of(call));
    if (status) return status;
    if (!psg_size_bytes(positions, sizeof job.kept->row[0], &bytes) || bytes > SIZE_MAX / 2) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "target has too many elements: %lld", (long long)positions);
    }
    job.kept = psg_call_keep(call, sizeof *job.kept + bytes);
    if (!job.kept) return PSG_ERR_MEMORY;
    call->kept = job.kept;
    job.kept->divisor = divisor_of(&job);
    psg_for_ranges(call->context, (size_t)positions, psg_range_unit(job.at.classes), forward_rows, &job);
    return write_losses(&job);
}

/* ---- backward ---- */

static double position_weight(const cross_entropy_job *job, int64_t p) {
    if (job->options->reduction != PSG_NONE) return job->weight;
    psg_tensor one = job->call->grad_output;
    one.data = psg_tensor_offset(&one, p);
    return psg_scalar_value(job->call, &one);
}

static void *gradient_at(const psg_operand *operand, int64_t place) {
    return operand->grad.data ? psg_tensor_offset(&operand->grad, place) : NULL;
}

static void backward_row(const cross_entropy_job *job, int64_t p) {
    const psg_operand *input = job->call->input;
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    const int64_t place = psg_scores_at(&job->at, p);
    const void *logits = psg_tensor_offset(&input[LOGITS].value, place);
    const size_t classes = (size_t)job->at.classes;
    const psg_cross_entropy_row *row = &job->kept->row[p];
    void *grad = gradient_at(&input[LOGITS], place);
    psg_class_target target = target_at(job, p);
    double weight = row_weight(job, &target), factor = weight * position_weight(job, p);
    if (weight == 0) {
        kernels->fill_zero(classes, job->at.stride, grad);
    } else if (is_general(job)) {
        void *target_grad = target.q ? gradient_at(&input[TARGET], place) : NULL;
        kernels->class_target_row_backward(classes, job->at.stride, logits, &target, factor, row, grad, target_grad);
    } else {
        kernels->cross_entropy_row_backward(classes, job->at.stride, logits, target.label, target.smoothing, factor,
                                            row, grad);
    }
}

static void backward_rows(void *argument, size_t begin, size_t count) {
    for (size_t p = begin; p < begin + count; p++) backward_row(argument, (int64_t)p);
}

static psg_status cross_entropy_backward(psg_call *call) {
    if (!call->input[LOGITS].grad.data && !call->input[TARGET].grad.data) return PSG_OK;
    cross_entropy_job job = job_of(call, call->kept);
    if (job.options->reduction != PSG_NONE) job.weight = psg_loss_factor(call, job.kept->divisor);
    psg_for_ranges(call->context, (size_t)job.at.count, psg_range_unit(job.at.classes), backward_rows, &job);
    return PSG_OK;
}

static const char *const input_names[] = { "logits", "target", "weight" };

const psg_op psg_op_cross_entropy = {
    .name = "cross_entropy",
    .input_count = 3,
    .input_names = input_names,
    .optional_inputs = 1u << WEIGHT,
    .attributes_size = sizeof(psg_cross_entropy_options),
    .reserved_at = offsetof(psg_cross_entropy_options, reserved),
    .scales_loss = 1,
    .shape = cross_entropy_shape,
    .forward = cross_entropy_forward,
    .backward = cross_entropy_backward,
};

psg_var psg_cross_entropy(psg_tape *tape, psg_var logits, psg_var target, const psg_cross_entropy_options *options) {
    return psg_cross_entropy_weighted(tape, logits, target, psg_none(), options);
}

psg_var psg_cross_entropy_weighted(psg_tape *tape, psg_var logits, psg_var target, psg_var weight,
                                   const psg_cross_entropy_options *options) {
    static const psg_cross_entropy_options defaults = PSG_CROSS_ENTROPY_OPTIONS_INIT;
    return psg_record(tape, &psg_op_cross_entropy, (psg_var[]){ logits, target, weight }, 3,
                      options ? options : &defaults);
}
