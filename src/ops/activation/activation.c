/* Elementwise functions y = f(x): the rows of activation_list.h as ops, with one shape, one forward, one backward. */
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/activation.h"

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
static const char *is_finite(const double *a) { return isfinite(a[0]) ? NULL : "finite"; }
static const char *not_zero(const double *a) { return isfinite(a[0]) && a[0] != 0 ? NULL : "finite and not 0"; }
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
    const psg_kernel_table *kernels, *in_double;   /* in_double: of f64, for x of f32; or NULL */
    psg_function f;
    double numbers[PSG_FUNCTION_NUMBERS];
    const psg_tensor *x, *gy, *out;                /* gy: backward */
} activation_job;

/* Whether f32 holds a number, with room for what is computed of it: not 1e-50, nor 1e30, whose inverse it lacks. */
static bool fits_f32(double a) { return a == 0 || isinf(a) || (fabs(a) >= 0x1p-40 && fabs(a) <= 0x1p40); }

static activation_job job_of(const psg_call *call, const psg_tensor *gy, const psg_tensor *out) {
    const activation *f = call->op->traits;
    activation_job job = { .kernels = psg_call_kernels(call), .f = f->f, .x = &call->input[0].value, .gy = gy,
                           .out = out };
    if (f->numbers) memcpy(job.numbers, call->attributes, (size_t)f->numbers * sizeof *job.numbers);
    else if (call->attributes && *(const int *)call->attributes) job.f = f->flagged;
    bool fits = fits_f32(job.numbers[0]) && fits_f32(job.numbers[1]);
    if (!fits && job.x->dtype != PSG_F64) job.in_double = call->context->kernels[PSG_F64];
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

/* ---- in double, and rounded once ---- */

enum { PIECE = 256 };

static void to_double(const activation_job *job, const psg_tensor *from, size_t begin, size_t count, double *to) {
    memset(to, 0, count * sizeof *to);
    job->kernels->add_to_f64(count, 1, psg_tensor_offset(from, (int64_t)begin), to);
}

static void run_piece(const activation_job *job, size_t begin, size_t count) {
    double x[PIECE], gy[PIECE], out[PIECE];
    to_double(job, job->x, begin, count, x);
    if (job->gy) {
        to_double(job, job->gy, begin, count, gy);
        job->in_double->function_backward(job->f, count, job->numbers, x, gy, out);
    } else {
        job->in_double->function(job->f, count, job->numbers, x, out);
    }
    job->kernels->from_f64(count, 1, out, psg_tensor_offset(job->out, (int64_t)begin), false);
}

static void range_in_double(void *argument, size_t begin, size_t count) {
    for (size_t end = begin + count; begin < end; begin += PIECE) {
        run_piece(argument, begin, end - begin < PIECE ? end - begin : PIECE);
    }
}

static void run(const psg_call *call, activation_job job) {
    psg_range_task task = job.in_double ? range_in_double : job.gy ? slope_range : value_range;
    psg_for_ranges(call->context, (size_t)psg_tensor_count(job.x), PSG_RANGE, task, &job);
}

static psg_status activation_forward(psg_call *call) {
    run(call, job_of(call, NULL, &call->output));
    return PSG_OK;
}

static psg_status activation_backward(psg_call *call) {
    if (call->input[0].grad.data) run(call, job_of(call, &call->grad_output, &call->input[0].grad));
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
