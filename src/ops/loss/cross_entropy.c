/* cross_entropy: -sum_c w_c q_c log softmax(logits)_c, q a label or given probabilities. */
#include <math.h>

#include "base/context.h"
#include "base/shapes.h"
#include "ops/loss/positions.h"
#include "ops/loss/reduction.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops.h"

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
        return psg_call_fail(call, PSG_ERR_SHAPE, "logits has shape %s and target, which is real, %s; must both be %s",
                             psg_tensor_text(logits, text), psg_tensor_text(target, target_text),
                             is_class_last(call) ? "(N, *, C)" : "(N, C, *)");
    }
    if (logits->shape[psg_class_dim(call, is_class_last(call))] == 0) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "logits has shape %s, there must be at least one class",
                             psg_tensor_text(logits, text));
    }
    status = psg_operand_carries_batch(call, LOGITS);
    return status ? status : psg_operand_carries_batch(call, TARGET);
}

static psg_status cross_entropy_shape(psg_call *call) {
    const psg_cross_entropy_options *options = call->attributes;
    const psg_tensor *logits = &call->input[LOGITS].value;
    psg_status status = check_options(call);
    if (!status) status = is_soft(call) ? check_probabilities_shape(call) : psg_check_labels_shape(call, is_class_last(call));
    if (!status) status = psg_check_class_weight(call, WEIGHT, is_class_last(call));
    if (status) return status;
    if (options->reduction != PSG_NONE) return psg_call_output(call, logits->dtype, 0, NULL);
    psg_tensor front = psg_tensor_swap(logits, 0, 0), output = front;
    output.rank--;
    for (int d = 1; d < output.rank && !options->class_last; d++) output.shape[d] = front.shape[d + 1];
    output = psg_tensor_swap(&output, 0, 0);
    return psg_call_output(call, logits->dtype, output.rank, output.shape);
}

/* ---- forward ---- */

typedef struct kept {
    double divisor;                  /* of a mean */
    psg_cross_entropy_row row[];     /* one a position */
} kept;

typedef struct cross_entropy_job {
    psg_call *call;
    const psg_cross_entropy_options *options;
    psg_positions at;
    kept *kept;
    double weight;                   /* backward: of every position; PSG_NONE reads its own */
} cross_entropy_job;

/* What the rows that are more than one label look at: probabilities, or a smoothed label with weights. */
static bool is_general(const cross_entropy_job *job) {
    return is_soft(job->call) || (job->options->label_smoothing > 0 && job->call->input[WEIGHT].role != PSG_ABSENT);
}

static psg_class_target target_at(const cross_entropy_job *job, int64_t p) {
    const psg_operand *input = job->call->input;
    psg_class_target target = { .smoothing = job->options->label_smoothing, .weight = input[WEIGHT].value.data };
    if (is_soft(job->call)) target.q = psg_tensor_offset(&input[TARGET].value, psg_scores_at(&job->at, p));
    else target.label = (size_t)psg_integer_at(&input[TARGET].value, psg_label_place(&job->at, p));
    return target;
}

static void forward_rows(void *argument, size_t begin, size_t count) {
    const cross_entropy_job *job = argument;
    const psg_positions *at = &job->at;
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    size_t classes = (size_t)at->classes;
    for (int64_t p = (int64_t)begin; p < (int64_t)(begin + count); p++) {
        psg_cross_entropy_row *row = &job->kept->row[p];
        const void *logits = psg_tensor_offset(&job->call->input[LOGITS].value, psg_scores_at(at, p));
        psg_class_target target = target_at(job, p);
        int64_t label = is_soft(job->call) ? 0 : (int64_t)target.label;
        row->loss = 0;
        if (!is_soft(job->call) && psg_is_ignored(ignored_of(job->call), label)) continue;
        if (is_general(job)) {
            kernels->class_target_row(classes, at->class_stride, logits, &target, row);
            continue;
        }
        kernels->cross_entropy_row(classes, at->class_stride, logits, target.label, target.smoothing, row);
        row->loss *= psg_label_weight(job->call, WEIGHT, ignored_of(job->call), label);
    }
}

static void write_losses(const cross_entropy_job *job, int64_t positions) {
    psg_call *call = job->call;
    double sum = 0;
    for (int64_t p = 0; p < positions; p++) {
        psg_tensor one = call->output;
        sum += job->kept->row[p].loss;
        if (job->options->reduction != PSG_NONE) continue;
        one.data = psg_tensor_offset(&call->output, psg_label_place(&job->at, p));
        psg_scalar_set(call, job->kept->row[p].loss, &one);
    }
    if (job->options->reduction == PSG_SUM) psg_scalar_set(call, sum, &call->output);
    if (job->options->reduction != PSG_MEAN) return;
    bool no_samples = !call->pass->ordinary && !job->at.samples;
    psg_scalar_set(call, no_samples ? 0 : sum / job->kept->divisor, &call->output);
}

static psg_status cross_entropy_forward(psg_call *call) {
    cross_entropy_job job = { .call = call, .options = call->attributes, .at = psg_positions_of(call, is_class_last(call)) };
    int64_t positions = psg_position_count(&job.at);
    size_t bytes;
    psg_status status = is_soft(call) ? PSG_OK : psg_check_labels(call, job.at.classes, ignored_of(call));
    if (status) return status;
    if (!psg_size_bytes(positions, sizeof job.kept->row[0], &bytes) || bytes > SIZE_MAX / 2) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "target has too many elements: %lld", (long long)positions);
    }
    job.kept = psg_call_keep(call, sizeof *job.kept + bytes);
    if (!job.kept) return PSG_ERR_MEMORY;
    call->kept = job.kept;
    job.kept->divisor = is_soft(call) ? (double)positions : psg_label_weights(call, WEIGHT, ignored_of(call));
    psg_for_ranges(call->context, (size_t)positions, psg_range_unit(job.at.classes), forward_rows, &job);
    write_losses(&job, positions);
    return PSG_OK;
}

/* ---- backward ---- */

static double position_weight(const cross_entropy_job *job, int64_t p) {
    if (job->options->reduction != PSG_NONE) return job->weight;
    psg_tensor one = job->call->grad_output;
    one.data = psg_tensor_offset(&one, psg_label_place(&job->at, p));
    return psg_scalar_value(job->call, &one);
}

static void *gradient_at(const psg_operand *operand, int64_t place) {
    return operand->grad.data ? psg_tensor_offset(&operand->grad, place) : NULL;
}

static void backward_row(const cross_entropy_job *job, int64_t p) {
    const psg_positions *at = &job->at;
    const psg_operand *input = job->call->input;
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    int64_t place = psg_scores_at(at, p);
    size_t classes = (size_t)at->classes;
    const void *logits = psg_tensor_offset(&input[LOGITS].value, place);
    void *grad = gradient_at(&input[LOGITS], place);
    psg_class_target target = target_at(job, p);
    double weight = position_weight(job, p);
    if (!is_soft(job->call) && psg_is_ignored(ignored_of(job->call), (int64_t)target.label)) {
        kernels->fill_zero(classes, at->class_stride, grad);
    } else if (is_general(job)) {
        void *target_grad = is_soft(job->call) ? gradient_at(&input[TARGET], place) : NULL;
        kernels->class_target_row_backward(classes, at->class_stride, logits, &target, weight, &job->kept->row[p], grad,
                                           target_grad);
    } else {
        weight *= psg_label_weight(job->call, WEIGHT, ignored_of(job->call), (int64_t)target.label);
        kernels->cross_entropy_row_backward(classes, at->class_stride, logits, target.label, target.smoothing, weight,
                                            &job->kept->row[p], grad);
    }
}

static void backward_rows(void *argument, size_t begin, size_t count) {
    for (size_t p = begin; p < begin + count; p++) backward_row(argument, (int64_t)p);
}

static psg_status cross_entropy_backward(psg_call *call) {
    if (!call->input[LOGITS].grad.data && !call->input[TARGET].grad.data) return PSG_OK;
    cross_entropy_job job = { .call = call, .options = call->attributes, .at = psg_positions_of(call, is_class_last(call)),
                              .kept = call->kept };
    int64_t positions = psg_position_count(&job.at);
    double divisor = job.options->reduction == PSG_MEAN ? job.kept->divisor : 1;
    if (job.options->reduction != PSG_NONE) job.weight = psg_loss_factor(call, divisor);
    psg_for_ranges(call->context, (size_t)positions, psg_range_unit(job.at.classes), backward_rows, &job);
    return PSG_OK;
}

static const char *const input_names[] = { "logits", "target", "weight" };

const psg_op psg_op_cross_entropy = {
    .name = "cross_entropy",
    .input_count = 3,
    .input_names = input_names,
    .optional_inputs = 1u << WEIGHT,
    .attributes_size = sizeof(psg_cross_entropy_options),
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
