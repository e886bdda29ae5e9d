/* nll: the negative of the log-probability that a label names, times the weight of its class. */
#include "base/shapes.h"
#include "ops/loss/positions.h"
#include "ops/loss/reduction.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops/loss.h"

enum { INPUT, TARGET, WEIGHT };

static psg_ignored ignored_of(const psg_call *call) {
    const psg_nll_options *options = call->attributes;
    return (psg_ignored){ options->has_ignore_index, options->ignore_index };
}

static psg_reduction reduction_of(const psg_call *call) {
    const psg_nll_options *options = call->attributes;
    return options->reduction;
}

/* ---- shape ---- */

static psg_status nll_shape(psg_call *call) {
    const psg_nll_options *options = call->attributes;
    const psg_tensor *target = &call->input[TARGET].value;
    bool counts = options->has_ignore_index || call->input[WEIGHT].role != PSG_ABSENT;
    psg_status status = psg_check_reduction(call, options->reduction, false);
    if (!status) status = psg_check_counted_mean(call, options->reduction, counts);
    if (!status) status = psg_check_labels_shape(call, false);
    if (!status) status = psg_check_class_weight(call, WEIGHT, false);
    int rank = options->reduction == PSG_NONE ? target->rank : 0;
    return status ? status : psg_call_output(call, call->input[INPUT].value.dtype, rank, target->shape);
}

/* ---- forward and backward: a position a task ---- */

typedef struct nll_job {
    psg_call *call;
    psg_positions at;
    double scale;       /* of the losses */
    double factor;      /* backward: of every position; PSG_NONE reads its own */
} nll_job;

static psg_tensor element(const psg_tensor *tensor, int64_t k) {
    psg_tensor one = psg_tensor_of(tensor->dtype, tensor->data, 0, NULL);
    one.data = psg_tensor_offset(tensor, k);
    return one;
}

static int64_t label_of(const nll_job *job, int64_t p) {
    return psg_integer_at(&job->call->input[TARGET].value, p);
}

/* Where the score of its label is in the input. */
static int64_t chosen_at(const nll_job *job, int64_t p, int64_t label) {
    return psg_scores_at(&job->at, p) + label * job->at.stride;
}

static double loss_at(const nll_job *job, int64_t p) {
    int64_t label = label_of(job, p);
    double weight = psg_label_weight(job->call, WEIGHT, ignored_of(job->call), label);
    if (weight == 0) return 0;
    psg_tensor chosen = element(&job->call->input[INPUT].value, chosen_at(job, p, label));
    return -weight * psg_scalar_value(job->call, &chosen);
}

static void write_losses(void *argument, size_t begin, size_t count) {
    const nll_job *job = argument;
    for (int64_t p = (int64_t)begin; p < (int64_t)(begin + count); p++) {
        psg_tensor out = element(&job->call->output, p);
        psg_scalar_set(job->call, loss_at(job, p), &out);
    }
}

static double sum_losses(void *argument, size_t begin, size_t count) {
    const nll_job *job = argument;
    double sum = 0;
    for (int64_t p = (int64_t)begin; p < (int64_t)(begin + count); p++) sum += job->scale * loss_at(job, p);
    return sum;
}

/* What a mean divides by; the loss of an empty batch of samples is 0. */
static double divisor_of(const psg_call *call) {
    bool no_samples = !call->pass->ordinary && call->input[INPUT].value.shape[0] == 0;
    if (reduction_of(call) != PSG_MEAN || no_samples) return 1;
    return psg_label_weights(call, WEIGHT, ignored_of(call));
}

static psg_status nll_forward(psg_call *call) {
    nll_job job = { .call = call, .at = psg_positions_of(call, false) };
    size_t positions = (size_t)job.at.count;
    psg_status status = psg_check_labels(call, job.at.classes, ignored_of(call));
    if (status) return status;
    if (reduction_of(call) == PSG_NONE) {
        psg_for_ranges(call->context, positions, PSG_RANGE, write_losses, &job);
        return PSG_OK;
    }
    return psg_reduce_loss(call, positions, sum_losses, &job, &job.scale, divisor_of(call));
}

static void write_slopes(void *argument, size_t begin, size_t count) {
    const nll_job *job = argument;
    for (int64_t p = (int64_t)begin; p < (int64_t)(begin + count); p++) {
        int64_t label = label_of(job, p);
        double weight = psg_label_weight(job->call, WEIGHT, ignored_of(job->call), label), factor = job->factor;
        if (weight == 0) continue;
        if (reduction_of(job->call) == PSG_NONE) {
            psg_tensor gy = element(&job->call->grad_output, p);
            factor = psg_scalar_value(job->call, &gy);
        }
        psg_tensor slope = element(&job->call->input[INPUT].grad, chosen_at(job, p, label));
        psg_scalar_set(job->call, -weight * factor, &slope);
    }
}

static psg_status nll_backward(psg_call *call) {
    const psg_tensor *grad = &call->input[INPUT].grad;
    if (!grad->data) return PSG_OK;
    nll_job job = { .call = call, .at = psg_positions_of(call, false) };
    if (reduction_of(call) != PSG_NONE) job.factor = psg_loss_factor(call, divisor_of(call));
    psg_fill_zero(call->context, grad);
    psg_for_ranges(call->context, (size_t)job.at.count, PSG_RANGE, write_slopes, &job);
    return PSG_OK;
}

static const char *const input_names[] = { "input", "target", "weight" };

const psg_op psg_op_nll = {
    .name = "nll",
    .input_count = 3,
    .input_names = input_names,
    .optional_inputs = 1u << WEIGHT,
    .attributes_size = sizeof(psg_nll_options),
    .reserved_at = offsetof(psg_nll_options, reserved),
    .scales_loss = 1,
    .shape = nll_shape,
    .forward = nll_forward,
    .backward = nll_backward,
};

psg_var psg_nll(psg_tape *tape, psg_var log_probabilities, psg_var target, psg_var weight,
                const psg_nll_options *options) {
    return psg_record(tape, &psg_op_nll, (psg_var[]){ log_probabilities, target, weight }, 3, options);
}
