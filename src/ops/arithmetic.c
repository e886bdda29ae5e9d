/* add, mul, scale. */
#include "base/context.h"
#include "base/shape.h"
#include "ops/broadcast.h"
#include "ops/operand.h"
#include "ops/ranges.h"
#include "psg/ops.h"

/* ---- to = factor * from ---- */

typedef struct scale_job {
    const psg_kernel_table *kernels;
    double factor;
    const psg_tensor *from, *to;
} scale_job;

static void scale_range(void *argument, size_t begin, size_t count) {
    const scale_job *job = argument;
    int64_t at = (int64_t)begin;
    job->kernels->scale_row(count, job->factor, psg_tensor_offset(job->from, at), 1, psg_tensor_offset(job->to, at),
                            false);
}

static void copy_scaled(psg_call *call, double factor, const psg_tensor *from, const psg_tensor *to) {
    scale_job job = { psg_call_kernels(call), factor, from, to };
    psg_for_ranges(call->context, (size_t)psg_tensor_count(from), PSG_RANGE, scale_range, &job);
}

static const char *const pair_names[] = { "a", "b" };

/* ---- the shapes of add and mul ---- */

/* Batched operand k keeps its batch where the output has it, at full size. */
static psg_status check_aligned(psg_call *call, int k) {
    if (!psg_operand_per_sample(call, k)) return PSG_OK;
    const psg_tensor *value = &call->input[k].value, *output = &call->output;
    int batch = psg_call_batch_dim(call, value), shift = output->rank - value->rank;
    bool carries = value->rank > batch && batch + shift == psg_call_batch_dim(call, output);
    if (carries && value->shape[batch] == output->shape[batch + shift]) return PSG_OK;
    if (psg_shape_equal(value->rank, value->shape, output->rank, output->shape)) return PSG_OK;
    char text[PSG_SHAPE_TEXT], whole[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_BATCH, "%s of shape %s would be broadcast over the batch of the output %s",
                         pair_names[k], psg_tensor_text(value, text), psg_tensor_text(output, whole));
}

static psg_status pair_shape(psg_call *call) {
    const psg_tensor *a = &call->input[0].value, *b = &call->input[1].value;
    int rank;
    int64_t shape[PSG_MAX_RANK];
    psg_status status = psg_operands_real(call, 2);
    if (status) return status;
    if (!psg_broadcast_shape(a, b, &rank, shape)) {
        char text_a[PSG_SHAPE_TEXT], text_b[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "a has shape %s and b %s, which do not broadcast",
                             psg_tensor_text(a, text_a), psg_tensor_text(b, text_b));
    }
    status = psg_call_output(call, a->dtype, rank, shape);
    if (!status) status = check_aligned(call, 0);
    return status ? status : check_aligned(call, 1);
}

/* The product of two values without a batch is no sum over samples. */
static psg_status mul_shape(psg_call *call) {
    bool both = call->input[0].role == PSG_BATCHED && call->input[1].role == PSG_BATCHED;
    psg_status status = both ? psg_operand_carries_batch(call, 0) : PSG_OK;
    if (!status && both) status = psg_operand_carries_batch(call, 1);
    return status ? status : pair_shape(call);
}

static bool fills(const psg_tensor *operand, const psg_tensor *output) {
    return psg_tensor_count(operand) == psg_tensor_count(output);
}

/* ---- add ---- */

static psg_status add_forward(psg_call *call) {
    psg_broadcast_apply(call->context, psg_call_kernels(call)->broadcast_add, &call->output, &call->input[0].value,
                        &call->input[1].value);
    return PSG_OK;
}

static psg_status add_backward(psg_call *call) {
    for (int k = 0; k < 2; k++) {
        const psg_tensor *grad = &call->input[k].grad;
        if (!grad->data) continue;
        if (fills(grad, &call->grad_output)) copy_scaled(call, 1, &call->grad_output, grad);
        else psg_broadcast_sum(call->context, &call->grad_output, NULL, 1, grad);
    }
    return PSG_OK;
}

const psg_op psg_op_add = {
    .name = "add",
    .input_count = 2,
    .input_names = pair_names,
    .shape = pair_shape,
    .forward = add_forward,
    .backward = add_backward,
};

psg_var psg_add(psg_tape *tape, psg_var a, psg_var b) {
    return psg_record(tape, &psg_op_add, (psg_var[]){ a, b }, 2, NULL);
}

/* ---- mul ---- */

static psg_status mul_forward(psg_call *call) {
    psg_broadcast_apply(call->context, psg_call_kernels(call)->broadcast_mul, &call->output, &call->input[0].value,
                        &call->input[1].value);
    return PSG_OK;
}

/* The gradient of one factor is that of the product times the other factor. */
static psg_status mul_backward(psg_call *call) {
    for (int k = 0; k < 2; k++) {
        const psg_tensor *grad = &call->input[k].grad, *other = &call->input[1 - k].value;
        if (!grad->data) continue;
        if (fills(grad, &call->grad_output)) {
            psg_tensor whole = call->grad_output;
            whole.data = grad->data;
            psg_broadcast_apply(call->context, psg_call_kernels(call)->broadcast_mul, &whole, &call->grad_output,
                                other);
        } else {
            psg_broadcast_sum(call->context, &call->grad_output, other, 1, grad);
        }
    }
    return PSG_OK;
}

const psg_op psg_op_mul = {
    .name = "mul",
    .input_count = 2,
    .input_names = pair_names,
    .shape = mul_shape,
    .forward = mul_forward,
    .backward = mul_backward,
};

psg_var psg_mul(psg_tape *tape, psg_var a, psg_var b) {
    return psg_record(tape, &psg_op_mul, (psg_var[]){ a, b }, 2, NULL);
}

/* ---- scale ---- */

static psg_status scale_shape(psg_call *call) {
    psg_status status = psg_operands_real(call, 1);
    return status ? status : psg_output_like_input(call);
}

static double scale_factor(const psg_call *call) {
    const psg_scale_attributes *attributes = call->attributes;
    return attributes->factor;
}

static psg_status scale_forward(psg_call *call) {
    copy_scaled(call, scale_factor(call), &call->input[0].value, &call->output);
    return PSG_OK;
}

static psg_status scale_backward(psg_call *call) {
    const psg_tensor *grad = &call->input[0].grad;
    if (grad->data) copy_scaled(call, scale_factor(call), &call->grad_output, grad);
    return PSG_OK;
}

static const char *const scale_names[] = { "input" };

const psg_op psg_op_scale = {
    .name = "scale",
    .input_count = 1,
    .input_names = scale_names,
    .attributes_size = sizeof(psg_scale_attributes),
    .shape = scale_shape,
    .forward = scale_forward,
    .backward = scale_backward,
};

psg_var psg_scale(psg_tape *tape, psg_var x, double factor) {
    psg_scale_attributes attributes = { factor };
    return psg_record(tape, &psg_op_scale, &x, 1, &attributes);
}
