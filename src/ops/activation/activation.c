/* Elementwise functions y = f(x): a table of them, one shape, one forward, one backward. */
#include <math.h>
#include <string.h>

#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops.h"

/* ---- the table ---- */

/* Parameters of f as a user gives them (attributes, all double) and as its kernel takes them. */
typedef struct function {
    const psg_op *op;
    psg_function f;
    const char *names[2];                                 /* of the attributes */
    const char *(*rule)(const double *a);                 /* what they must be, NULL when they are; may be NULL */
    void (*parameters)(const double *a, double *p);       /* NULL: p = a */
} function;

static const char *not_zero(const double *a) { return a[0] != 0 ? NULL : "not 0"; }
static const char *not_negative(const double *a) { return a[0] >= 0 ? NULL : ">= 0"; }
static const char *in_order(const double *a) { return a[0] <= a[1] ? NULL : "at most max_val"; }

static void elu_parameters(const double *a, double *p) {
    p[0] = a[0];
    p[1] = p[2] = 1;
}

static void celu_parameters(const double *a, double *p) {
    p[0] = a[0];
    p[1] = 1;
    p[2] = 1 / a[0];
}

static void selu_parameters(const double *a, double *p) {
    static const double alpha = 1.6732632423543772848170429916717, scale = 1.0507009873554804934193349852946;
    (void)a;
    p[0] = alpha * scale;
    p[1] = scale;
    p[2] = 1;
}

static void relu6_parameters(const double *a, double *p) {
    (void)a;
    p[0] = 0;
    p[1] = 6;
}

#define OP(name) extern const psg_op psg_op_##name;
#include "ops/op_list.h"
#undef OP

static const function functions[] = {
    { &psg_op_relu, PSG_RELU, { NULL }, NULL, NULL },
    { &psg_op_relu6, PSG_HARDTANH, { NULL }, NULL, relu6_parameters },
    { &psg_op_tanh, PSG_TANH, { NULL }, NULL, NULL },
    { &psg_op_sigmoid, PSG_SIGMOID, { NULL }, NULL, NULL },
    { &psg_op_logsigmoid, PSG_LOGSIGMOID, { NULL }, NULL, NULL },
    { &psg_op_silu, PSG_SILU, { NULL }, NULL, NULL },
    { &psg_op_mish, PSG_MISH, { NULL }, NULL, NULL },
    { &psg_op_hardsigmoid, PSG_HARDSIGMOID, { NULL }, NULL, NULL },
    { &psg_op_hardswish, PSG_HARDSWISH, { NULL }, NULL, NULL },
    { &psg_op_softsign, PSG_SOFTSIGN, { NULL }, NULL, NULL },
    { &psg_op_tanhshrink, PSG_TANHSHRINK, { NULL }, NULL, NULL },
    { &psg_op_exp, PSG_EXP, { NULL }, NULL, NULL },
    { &psg_op_log, PSG_LOG, { NULL }, NULL, NULL },
    { &psg_op_sqrt, PSG_SQRT, { NULL }, NULL, NULL },
    { &psg_op_square, PSG_SQUARE, { NULL }, NULL, NULL },
    { &psg_op_abs, PSG_ABS, { NULL }, NULL, NULL },
    { &psg_op_sin, PSG_SIN, { NULL }, NULL, NULL },
    { &psg_op_cos, PSG_COS, { NULL }, NULL, NULL },
    { &psg_op_elu, PSG_ELU, { "alpha" }, NULL, elu_parameters },
    { &psg_op_celu, PSG_ELU, { "alpha" }, not_zero, celu_parameters },
    { &psg_op_selu, PSG_ELU, { NULL }, NULL, selu_parameters },
    { &psg_op_leaky_relu, PSG_LEAKY_RELU, { "negative_slope" }, NULL, NULL },
    { &psg_op_softplus, PSG_SOFTPLUS, { "beta", "threshold" }, not_zero, NULL },
    { &psg_op_hardtanh, PSG_HARDTANH, { "min_val", "max_val" }, in_order, NULL },
    { &psg_op_softshrink, PSG_SOFTSHRINK, { "lambda" }, not_negative, NULL },
    { &psg_op_hardshrink, PSG_HARDSHRINK, { "lambda" }, NULL, NULL },
    { &psg_op_threshold, PSG_THRESHOLD, { "threshold", "value" }, NULL, NULL },
    { &psg_op_gelu, PSG_GELU, { NULL }, NULL, NULL },
};

static const function *function_of(const psg_call *call) {
    const function *f = functions;
    while (f->op != call->op) f++;
    return f;
}

/* ---- shape, forward, backward ---- */

static psg_status activation_shape(psg_call *call) {
    const function *f = function_of(call);
    const double *a = call->attributes;
    for (int k = 0; k < 2 && f->names[k]; k++) {
        if (isnan(a[k])) return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %g, must be a number", f->names[k], a[k]);
    }
    const char *rule = f->rule ? f->rule(a) : NULL;
    if (rule) return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %g, must be %s", f->names[0], a[0], rule);
    psg_status status = psg_operands_real(call, 1);
    if (!status) status = psg_operand_carries_batch(call, 0);
    return status ? status : psg_output_like_input(call);
}

typedef struct activation_job {
    const psg_kernel_table *kernels;
    psg_function f;
    double p[PSG_FUNCTION_PARAMETERS];
    const psg_tensor *x, *gy, *out;   /* gy: backward */
} activation_job;

static activation_job job_of(const psg_call *call, const psg_tensor *gy, const psg_tensor *out) {
    const function *f = function_of(call);
    activation_job job = { .kernels = psg_call_kernels(call), .f = f->f, .x = &call->input[0].value, .gy = gy,
                           .out = out };
    if (call->op == &psg_op_gelu) {
        const psg_gelu_attributes *attributes = call->attributes;
        if (attributes->approximate_tanh) job.f = PSG_GELU_TANH;
    } else if (f->parameters) {
        f->parameters(call->attributes, job.p);
    } else if (call->op->attributes_size) {
        memcpy(job.p, call->attributes, call->op->attributes_size);
    }
    return job;
}

static void value_range(void *argument, size_t begin, size_t count) {
    const activation_job *job = argument;
    int64_t at = (int64_t)begin;
    job->kernels->function(job->f, count, job->p, psg_tensor_offset(job->x, at), psg_tensor_offset(job->out, at));
}

static void slope_range(void *argument, size_t begin, size_t count) {
    const activation_job *job = argument;
    int64_t at = (int64_t)begin;
    job->kernels->function_backward(job->f, count, job->p, psg_tensor_offset(job->x, at),
                                    psg_tensor_offset(job->gy, at), psg_tensor_offset(job->out, at));
}

static psg_status activation_forward(psg_call *call) {
    activation_job job = job_of(call, NULL, &call->output);
    psg_for_ranges(call->context, (size_t)psg_tensor_count(job.x), PSG_RANGE, value_range, &job);
    return PSG_OK;
}

static psg_status activation_backward(psg_call *call) {
    if (!call->input[0].grad.data) return PSG_OK;
    activation_job job = job_of(call, &call->grad_output, &call->input[0].grad);
    psg_for_ranges(call->context, (size_t)psg_tensor_count(job.x), PSG_RANGE, slope_range, &job);
    return PSG_OK;
}

/* ---- descriptors ---- */

static const char *const input_names[] = { "input" };

#define DESCRIPTOR(symbol, size)           \
    const psg_op psg_op_##symbol = {       \
        .name = #symbol,                   \
        .input_count = 1,                  \
        .input_names = input_names,        \
        .attributes_size = size,           \
        .shape = activation_shape,         \
        .forward = activation_forward,     \
        .backward = activation_backward,   \
    }

DESCRIPTOR(relu, 0);
DESCRIPTOR(relu6, 0);
DESCRIPTOR(tanh, 0);
DESCRIPTOR(sigmoid, 0);
DESCRIPTOR(logsigmoid, 0);
DESCRIPTOR(silu, 0);
DESCRIPTOR(mish, 0);
DESCRIPTOR(hardsigmoid, 0);
DESCRIPTOR(hardswish, 0);
DESCRIPTOR(softsign, 0);
DESCRIPTOR(tanhshrink, 0);
DESCRIPTOR(exp, 0);
DESCRIPTOR(log, 0);
DESCRIPTOR(sqrt, 0);
DESCRIPTOR(square, 0);
DESCRIPTOR(abs, 0);
DESCRIPTOR(sin, 0);
DESCRIPTOR(cos, 0);
DESCRIPTOR(elu, sizeof(psg_elu_attributes));
DESCRIPTOR(celu, sizeof(psg_celu_attributes));
DESCRIPTOR(selu, 0);
DESCRIPTOR(leaky_relu, sizeof(psg_leaky_relu_attributes));
DESCRIPTOR(softplus, sizeof(psg_softplus_attributes));
DESCRIPTOR(hardtanh, sizeof(psg_hardtanh_attributes));
DESCRIPTOR(softshrink, sizeof(psg_softshrink_attributes));
DESCRIPTOR(hardshrink, sizeof(psg_hardshrink_attributes));
DESCRIPTOR(threshold, sizeof(psg_threshold_attributes));
DESCRIPTOR(gelu, sizeof(psg_gelu_attributes));

/* ---- fronts ---- */

static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, double first, double second) {
    double attributes[2] = { first, second };
    return psg_record(tape, op, &x, 1, attributes);
}

psg_var psg_relu(psg_tape *tape, psg_var x) { return record(tape, &psg_op_relu, x, 0, 0); }
psg_var psg_relu6(psg_tape *tape, psg_var x) { return record(tape, &psg_op_relu6, x, 0, 0); }
psg_var psg_tanh(psg_tape *tape, psg_var x) { return record(tape, &psg_op_tanh, x, 0, 0); }
psg_var psg_sigmoid(psg_tape *tape, psg_var x) { return record(tape, &psg_op_sigmoid, x, 0, 0); }
psg_var psg_logsigmoid(psg_tape *tape, psg_var x) { return record(tape, &psg_op_logsigmoid, x, 0, 0); }
psg_var psg_silu(psg_tape *tape, psg_var x) { return record(tape, &psg_op_silu, x, 0, 0); }
psg_var psg_mish(psg_tape *tape, psg_var x) { return record(tape, &psg_op_mish, x, 0, 0); }
psg_var psg_hardsigmoid(psg_tape *tape, psg_var x) { return record(tape, &psg_op_hardsigmoid, x, 0, 0); }
psg_var psg_hardswish(psg_tape *tape, psg_var x) { return record(tape, &psg_op_hardswish, x, 0, 0); }
psg_var psg_softsign(psg_tape *tape, psg_var x) { return record(tape, &psg_op_softsign, x, 0, 0); }
psg_var psg_tanhshrink(psg_tape *tape, psg_var x) { return record(tape, &psg_op_tanhshrink, x, 0, 0); }
psg_var psg_exp(psg_tape *tape, psg_var x) { return record(tape, &psg_op_exp, x, 0, 0); }
psg_var psg_log(psg_tape *tape, psg_var x) { return record(tape, &psg_op_log, x, 0, 0); }
psg_var psg_sqrt(psg_tape *tape, psg_var x) { return record(tape, &psg_op_sqrt, x, 0, 0); }
psg_var psg_square(psg_tape *tape, psg_var x) { return record(tape, &psg_op_square, x, 0, 0); }
psg_var psg_abs(psg_tape *tape, psg_var x) { return record(tape, &psg_op_abs, x, 0, 0); }
psg_var psg_sin(psg_tape *tape, psg_var x) { return record(tape, &psg_op_sin, x, 0, 0); }
psg_var psg_cos(psg_tape *tape, psg_var x) { return record(tape, &psg_op_cos, x, 0, 0); }
psg_var psg_selu(psg_tape *tape, psg_var x) { return record(tape, &psg_op_selu, x, 0, 0); }

psg_var psg_elu(psg_tape *tape, psg_var x, double alpha) { return record(tape, &psg_op_elu, x, alpha, 0); }
psg_var psg_celu(psg_tape *tape, psg_var x, double alpha) { return record(tape, &psg_op_celu, x, alpha, 0); }

psg_var psg_leaky_relu(psg_tape *tape, psg_var x, double negative_slope) {
    return record(tape, &psg_op_leaky_relu, x, negative_slope, 0);
}

psg_var psg_softplus(psg_tape *tape, psg_var x, double beta, double threshold) {
    return record(tape, &psg_op_softplus, x, beta, threshold);
}

psg_var psg_hardtanh(psg_tape *tape, psg_var x, double min_val, double max_val) {
    return record(tape, &psg_op_hardtanh, x, min_val, max_val);
}

psg_var psg_softshrink(psg_tape *tape, psg_var x, double lambda) {
    return record(tape, &psg_op_softshrink, x, lambda, 0);
}

psg_var psg_hardshrink(psg_tape *tape, psg_var x, double lambda) {
    return record(tape, &psg_op_hardshrink, x, lambda, 0);
}

psg_var psg_threshold(psg_tape *tape, psg_var x, double threshold, double value) {
    return record(tape, &psg_op_threshold, x, threshold, value);
}

psg_var psg_gelu(psg_tape *tape, psg_var x, int approximate_tanh) {
    psg_gelu_attributes attributes = { approximate_tanh };
    return psg_record(tape, &psg_op_gelu, &x, 1, &attributes);
}
