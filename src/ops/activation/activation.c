/* Elementwise functions y = f(x): the rows of activation_list.h as ops, with one shape, one forward, one backward. */
#include <math.h>
#include <string.h>

#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops.h"

/* What tells one from the others (psg_op.traits).  The attributes are the numbers, all double, or the flag, an int. */
typedef struct activation {
    psg_function f;
    psg_function flagged;                      /* where the flag is set */
    int numbers;
    const char *names[PSG_FUNCTION_NUMBERS];
    const char *(*rule)(const double *a);      /* what the first must be, NULL when it is; NULL: anything but NaN */
} activation;

/* ---- the rules of activation_list.h ---- */

#define NO_RULE NULL
static const char *not_zero(const double *a) { return a[0] != 0 ? NULL : "not 0"; }
static const char *not_negative(const double *a) { return a[0] >= 0 ? NULL : ">= 0"; }
static const char *in_order(const double *a) { return a[0] <= a[1] ? NULL : "at most max_val"; }

/* ---- shape, forward, backward ---- */

static psg_status check_numbers(psg_call *call, const activation *f) {
    const double *a = call->attributes;
    for (int k = 0; k < f->numbers; k++) {
        if (isnan(a[k])) return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %g, must be a number", f->names[k], a[k]);
    }
    const char *rule = f->rule ? f->rule(a) : NULL;
    if (!rule) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %g, must be %s", f->names[0], a[0], rule);
}

static psg_status activation_shape(psg_call *call) {
    psg_status status = check_numbers(call, call->op->traits);
    if (!status) status = psg_operands_real(call, 1);
    if (!status) status = psg_operand_carries_batch(call, 0);
    return status ? status : psg_output_like_input(call);
}

typedef struct activation_job {
    const psg_kernel_table *kernels;
    psg_function f;
    double numbers[PSG_FUNCTION_NUMBERS];
    const psg_tensor *x, *gy, *out;   /* gy: backward */
} activation_job;

static activation_job job_of(const psg_call *call, const psg_tensor *gy, const psg_tensor *out) {
    const activation *f = call->op->traits;
    activation_job job = { .kernels = psg_call_kernels(call), .f = f->f, .x = &call->input[0].value, .gy = gy,
                           .out = out };
    if (f->numbers) memcpy(job.numbers, call->attributes, (size_t)f->numbers * sizeof *job.numbers);
    else if (call->attributes && *(const int *)call->attributes) job.f = f->flagged;
    return job;
}

static void value_range(void *argument, size_t begin, size_t count) {
    const activation_job *job = argument;
    int64_t at = (int64_t)begin;
    job->kernels->function(job->f, count, job->numbers, psg_tensor_offset(job->x, at),
                           psg_tensor_offset(job->out, at));
}

static void slope_range(void *argument, size_t begin, size_t count) {
    const activation_job *job = argument;
    int64_t at = (int64_t)begin;
    job->kernels->function_backward(job->f, count, job->numbers, psg_tensor_offset(job->x, at),
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

/* ---- descriptors and fronts ---- */

static const char *const input_names[] = { "input" };

#define OP(symbol, size, ...)                                                                  \
    const psg_op psg_op_##symbol = {                                                           \
        .name = #symbol,                                                                       \
        .input_count = 1,                                                                      \
        .input_names = input_names,                                                            \
        .attributes_size = size,                                                               \
        .shape = activation_shape,                                                             \
        .forward = activation_forward,                                                         \
        .backward = activation_backward,                                                       \
        .traits = &(const activation){ .f = PSG_FUNCTION_##symbol, __VA_ARGS__ },              \
    };

#define ACTIVATION(name)                                                                       \
    OP(name, 0, .numbers = 0)                                                                  \
    psg_var psg_##name(psg_tape *tape, psg_var x) { return psg_record(tape, &psg_op_##name, &x, 1, NULL); }

#define ACTIVATION_OR(name, other, flag)                                                       \
    OP(name, sizeof(psg_##name##_attributes), .flagged = PSG_FUNCTION_##other)                 \
    psg_var psg_##name(psg_tape *tape, psg_var x, int flag) {                                  \
        return psg_record(tape, &psg_op_##name, &x, 1, &(psg_##name##_attributes){ flag });    \
    }

#define ACTIVATION_1(name, number, must)                                                       \
    OP(name, sizeof(psg_##name##_attributes), .numbers = 1, .names = { #number }, .rule = must) \
    psg_var psg_##name(psg_tape *tape, psg_var x, double number) {                             \
        return psg_record(tape, &psg_op_##name, &x, 1, &(psg_##name##_attributes){ number });  \
    }

#define ACTIVATION_2(name, first, second, must)                                                \
    OP(name, sizeof(psg_##name##_attributes), .numbers = 2, .names = { #first, #second }, .rule = must) \
    psg_var psg_##name(psg_tape *tape, psg_var x, double first, double second) {               \
        return psg_record(tape, &psg_op_##name, &x, 1, &(psg_##name##_attributes){ first, second }); \
    }

#include "activation_list.h"
