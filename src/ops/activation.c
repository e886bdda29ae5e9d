/* relu, tanh, sigmoid, gelu: y = f(x) element by element. */
#include "base/shape.h"
#include "ops/operand.h"
#include "ops/ranges.h"
#include "psg/ops.h"

typedef void (*value_kernel)(size_t n, const void *x, void *y);
typedef void (*slope_kernel)(size_t n, const void *x, const void *gy, void *gx);

typedef struct activation_job {
    const psg_tensor *x, *gy, *out;   /* gy: backward */
    value_kernel value;
    slope_kernel slope;
} activation_job;

/* ---- the family's shape, forward, backward ---- */

static psg_status activation_shape(psg_call *call) {
    psg_status status = psg_operands_real(call, 1);
    if (!status) status = psg_operand_carries_batch(call, 0);
    return status ? status : psg_output_like_input(call);
}

static void value_range(void *argument, size_t begin, size_t count) {
    const activation_job *job = argument;
    int64_t at = (int64_t)begin;
    job->value(count, psg_tensor_offset(job->x, at), psg_tensor_offset(job->out, at));
}

static void slope_range(void *argument, size_t begin, size_t count) {
    const activation_job *job = argument;
    int64_t at = (int64_t)begin;
    job->slope(count, psg_tensor_offset(job->x, at), psg_tensor_offset(job->gy, at), psg_tensor_offset(job->out, at));
}

static psg_status forward(psg_call *call, value_kernel value) {
    activation_job job = { .x = &call->input[0].value, .out = &call->output, .value = value };
    psg_for_ranges(call->context, (size_t)psg_tensor_count(job.x), PSG_RANGE, value_range, &job);
    return PSG_OK;
}

static psg_status backward(psg_call *call, slope_kernel slope) {
    const psg_operand *x = &call->input[0];
    if (!x->grad.data) return PSG_OK;
    activation_job job = { .x = &x->value, .gy = &call->grad_output, .out = &x->grad, .slope = slope };
    psg_for_ranges(call->context, (size_t)psg_tensor_count(job.x), PSG_RANGE, slope_range, &job);
    return PSG_OK;
}

static const char *const input_names[] = { "input" };

/* ---- relu ---- */

static psg_status relu_forward(psg_call *call) { return forward(call, psg_call_kernels(call)->relu); }
static psg_status relu_backward(psg_call *call) { return backward(call, psg_call_kernels(call)->relu_backward); }

const psg_op psg_op_relu = {
    .name = "relu",
    .input_count = 1,
    .input_names = input_names,
    .shape = activation_shape,
    .forward = relu_forward,
    .backward = relu_backward,
};

psg_var psg_relu(psg_tape *tape, psg_var x) { return psg_record(tape, &psg_op_relu, &x, 1, NULL); }

/* ---- tanh ---- */

static psg_status tanh_forward(psg_call *call) { return forward(call, psg_call_kernels(call)->tanh); }
static psg_status tanh_backward(psg_call *call) { return backward(call, psg_call_kernels(call)->tanh_backward); }

const psg_op psg_op_tanh = {
    .name = "tanh",
    .input_count = 1,
    .input_names = input_names,
    .shape = activation_shape,
    .forward = tanh_forward,
    .backward = tanh_backward,
};

psg_var psg_tanh(psg_tape *tape, psg_var x) { return psg_record(tape, &psg_op_tanh, &x, 1, NULL); }

/* ---- sigmoid ---- */

static psg_status sigmoid_forward(psg_call *call) { return forward(call, psg_call_kernels(call)->sigmoid); }
static psg_status sigmoid_backward(psg_call *call) { return backward(call, psg_call_kernels(call)->sigmoid_backward); }

const psg_op psg_op_sigmoid = {
    .name = "sigmoid",
    .input_count = 1,
    .input_names = input_names,
    .shape = activation_shape,
    .forward = sigmoid_forward,
    .backward = sigmoid_backward,
};

psg_var psg_sigmoid(psg_tape *tape, psg_var x) { return psg_record(tape, &psg_op_sigmoid, &x, 1, NULL); }

/* ---- gelu ---- */

static int approximates(const psg_call *call) {
    const psg_gelu_attributes *attributes = call->attributes;
    return attributes->approximate_tanh;
}

static psg_status gelu_forward(psg_call *call) {
    const psg_kernel_table *kernels = psg_call_kernels(call);
    return forward(call, approximates(call) ? kernels->gelu_tanh : kernels->gelu);
}

static psg_status gelu_backward(psg_call *call) {
    const psg_kernel_table *kernels = psg_call_kernels(call);
    return backward(call, approximates(call) ? kernels->gelu_tanh_backward : kernels->gelu_backward);
}

const psg_op psg_op_gelu = {
    .name = "gelu",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_gelu_attributes),
    .shape = activation_shape,
    .forward = gelu_forward,
    .backward = gelu_backward,
};

psg_var psg_gelu(psg_tape *tape, psg_var x, int approximate_tanh) {
    psg_gelu_attributes attributes = { approximate_tanh };
    return psg_record(tape, &psg_op_gelu, &x, 1, &attributes);
}
