/* mse and binary_cross_entropy_with_logits: an elementwise loss of x and a target y, none, summed or averaged. */
#include "base/context.h"
#include "base/shape.h"
#include "ops/operand.h"
#include "ops/ranges.h"
#include "psg/ops.h"

enum { INPUT, TARGET };

typedef void (*loss_kernel)(size_t n, const void *x, const void *y, void *out);
typedef double (*loss_sum_kernel)(size_t n, const void *x, const void *y);
typedef void (*slope_kernel)(size_t n, double factor, const void *gy, const void *x, const void *y, void *out);

typedef struct loss_job {
    const psg_tensor *x, *y, *gy, *out;   /* gy NULL: ones */
    loss_kernel loss;
    loss_sum_kernel loss_sum;
    slope_kernel slope;
    double factor;
} loss_job;

/* ---- shape ---- */

static psg_reduction reduction_of(const psg_call *call) {
    const psg_loss_attributes *attributes = call->attributes;
    return attributes->reduction;
}

static psg_status loss_shape(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *y = &call->input[TARGET].value;
    psg_reduction reduction = reduction_of(call);
    if (reduction != PSG_MEAN && reduction != PSG_SUM && reduction != PSG_NONE) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "reduction is %d, must be PSG_MEAN, PSG_SUM or PSG_NONE",
                             (int)reduction);
    }
    psg_status status = psg_operands_real(call, 2);
    if (status) return status;
    if (!psg_shape_equal(x->rank, x->shape, y->rank, y->shape)) {
        char text[PSG_SHAPE_TEXT], target[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s and target %s, must be equal",
                             psg_tensor_text(x, text), psg_tensor_text(y, target));
    }
    status = psg_operand_carries_batch(call, INPUT);
    if (!status) status = psg_operand_carries_batch(call, TARGET);
    return status ? status : psg_call_output(call, x->dtype, reduction == PSG_NONE ? x->rank : 0, x->shape);
}

/* ---- forward ---- */

static void loss_range(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    int64_t at = (int64_t)begin;
    job->loss(count, psg_tensor_offset(job->x, at), psg_tensor_offset(job->y, at), psg_tensor_offset(job->out, at));
}

static double loss_range_sum(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    int64_t at = (int64_t)begin;
    return job->loss_sum(count, psg_tensor_offset(job->x, at), psg_tensor_offset(job->y, at));
}

/* The mean of no elements is NaN, but the loss of an empty batch of samples 0. */
static double divisor_of(const psg_call *call) {
    int64_t count = psg_tensor_count(&call->input[INPUT].value);
    bool no_samples = !count && call->per_sample && call->batch_size == 0;
    return reduction_of(call) == PSG_MEAN && !no_samples ? (double)count : 1;
}

static psg_status forward(psg_call *call, loss_kernel loss, loss_sum_kernel loss_sum) {
    loss_job job = { .x = &call->input[INPUT].value, .y = &call->input[TARGET].value, .out = &call->output };
    size_t count = (size_t)psg_tensor_count(job.x);
    job.loss = loss;
    job.loss_sum = loss_sum;
    if (reduction_of(call) == PSG_NONE) {
        psg_for_ranges(call->context, count, PSG_RANGE, loss_range, &job);
        return PSG_OK;
    }
    double sum;
    psg_status status = psg_sum_ranges(call, count, loss_range_sum, &job, &sum);
    if (!status) psg_scalar_set(call, sum / divisor_of(call), &call->output);
    return status;
}

/* ---- backward ---- */

static void slope_range(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    int64_t at = (int64_t)begin;
    const void *gy = job->gy ? psg_tensor_offset(job->gy, at) : NULL;
    job->slope(count, job->factor, gy, psg_tensor_offset(job->x, at), psg_tensor_offset(job->y, at),
               psg_tensor_offset(job->out, at));
}

/* The gradient of operand k: factor times the output gradient times the slope. */
static void backward(psg_call *call, int k, double factor, slope_kernel slope) {
    if (!call->input[k].grad.data) return;
    loss_job job = { .x = &call->input[INPUT].value, .y = &call->input[TARGET].value, .out = &call->input[k].grad };
    job.slope = slope;
    job.factor = factor;
    if (reduction_of(call) == PSG_NONE) job.gy = &call->grad_output;
    else job.factor *= psg_scalar_value(call, &call->grad_output) / divisor_of(call);
    psg_for_ranges(call->context, (size_t)psg_tensor_count(job.x), PSG_RANGE, slope_range, &job);
}

static const char *const input_names[] = { "input", "target" };

/* ---- mse ---- */

static psg_status mse_forward(psg_call *call) {
    const psg_kernel_table *kernels = psg_call_kernels(call);
    return forward(call, kernels->squared_error, kernels->squared_error_sum);
}

static psg_status mse_backward(psg_call *call) {
    backward(call, INPUT, 2, psg_call_kernels(call)->difference_backward);
    backward(call, TARGET, -2, psg_call_kernels(call)->difference_backward);
    return PSG_OK;
}

const psg_op psg_op_mse = {
    .name = "mse",
    .input_count = 2,
    .input_names = input_names,
    .attributes_size = sizeof(psg_loss_attributes),
    .shape = loss_shape,
    .forward = mse_forward,
    .backward = mse_backward,
};

psg_var psg_mse(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {
    psg_loss_attributes attributes = { reduction };
    return psg_record(tape, &psg_op_mse, (psg_var[]){ x, target }, 2, &attributes);
}

/* ---- binary_cross_entropy_with_logits ---- */

static psg_status logistic_forward(psg_call *call) {
    const psg_kernel_table *kernels = psg_call_kernels(call);
    return forward(call, kernels->logistic_loss, kernels->logistic_loss_sum);
}

static psg_status logistic_backward(psg_call *call) {
    backward(call, INPUT, 1, psg_call_kernels(call)->logistic_backward);
    backward(call, TARGET, -1, psg_call_kernels(call)->first_backward);
    return PSG_OK;
}

const psg_op psg_op_binary_cross_entropy_with_logits = {
    .name = "binary_cross_entropy_with_logits",
    .input_count = 2,
    .input_names = input_names,
    .attributes_size = sizeof(psg_loss_attributes),
    .shape = loss_shape,
    .forward = logistic_forward,
    .backward = logistic_backward,
};

psg_var psg_binary_cross_entropy_with_logits(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {
    psg_loss_attributes attributes = { reduction };
    return psg_record(tape, &psg_op_binary_cross_entropy_with_logits, (psg_var[]){ x, target }, 2, &attributes);
}
