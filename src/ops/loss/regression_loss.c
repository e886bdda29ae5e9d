/* Elementwise losses of an input and a target of one shape, kept, summed or averaged: the rows of
 * regression_loss_list.h as ops, with one shape, one forward, one backward. */
#include <math.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/loss/reduction.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/loss.h"

enum { INPUT, TARGET };

/* ---- what tells one from the others (psg_op.traits) ---- */

/* What the attributes say to the kernels. */
typedef struct loss {
    psg_loss f;
    double p[PSG_LOSS_NUMBERS];
    const char *wrong, *rule;      /* the attribute that breaks a rule; NULL: none */
} loss;

/* Every attributes struct of the family begins with the reduction. */
typedef struct loss_kind {
    psg_loss f;
    void (*read)(const void *attributes, loss *out);   /* NULL: no numbers */
    bool batch_mean;                                   /* PSG_BATCH_MEAN is a reduction */
    bool of_probability;                               /* the input must be in [0, 1] */
} loss_kind;

static bool not_negative(double number) { return number >= 0 && isfinite(number); }
static bool positive(double number) { return number > 0; }
static bool a_number(double number) { return !isnan(number); }

static void read_number(loss *out, double number, bool holds, const char *name, const char *rule) {
    out->p[0] = number;
    out->rule = rule;
    if (!holds) out->wrong = name;
}

static void read_kl_div(const void *attributes, loss *out) {
    if (((const psg_kl_div_attributes *)attributes)->log_target) out->f = PSG_LOSS_kl_div_log;
}

static void read_poisson_nll(const void *attributes, loss *out) {
    const psg_poisson_nll_options *options = attributes;
    double eps = options->eps != 0 ? options->eps : 1e-8;
    if (options->input_is_rate) out->f = PSG_LOSS_poisson_nll_rate;
    read_number(out, eps, positive(eps), "eps", "positive");
    out->p[1] = options->full;
}

static const loss_kind *kind_of(const psg_call *call) { return call->op->traits; }

static loss loss_of(const psg_call *call) {
    const loss_kind *kind = kind_of(call);
    loss l = { .f = kind->f };
    if (kind->read) kind->read(call->attributes, &l);
    return l;
}

/* ---- shape ---- */

static psg_reduction reduction_of(const psg_call *call) {
    const psg_loss_attributes *attributes = call->attributes;
    return attributes->reduction;
}

static psg_status check_reduction(psg_call *call) {
    psg_reduction reduction = reduction_of(call);
    psg_status status = psg_check_reduction(call, reduction, kind_of(call)->batch_mean);
    if (status || reduction != PSG_BATCH_MEAN || call->input[INPUT].value.rank > 0) return status;
    return psg_call_fail(call, PSG_ERR_SHAPE, "input is a scalar, which PSG_BATCH_MEAN cannot divide by a batch");
}

static psg_status loss_shape(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *y = &call->input[TARGET].value;
    loss l = loss_of(call);
    psg_status status = check_reduction(call);
    if (!status && l.wrong) {
        status = psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %g, must be %s", l.wrong, l.p[0], l.rule);
    }
    if (!status) status = psg_operands_real(call, 2);
    if (status) return status;
    if (!psg_shape_equal(x->rank, x->shape, y->rank, y->shape)) {
        char text[PSG_SHAPE_TEXT], target[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s and target %s, must be equal",
                             psg_tensor_text(x, text), psg_tensor_text(y, target));
    }
    status = psg_operand_beside_batch(call, INPUT);
    if (!status) status = psg_operand_beside_batch(call, TARGET);
    int rank = reduction_of(call) == PSG_NONE ? x->rank : 0;
    return status ? status : psg_call_output(call, x->dtype, rank, x->shape);
}

/* ---- forward ---- */

typedef struct loss_job {
    const psg_kernel_table *kernels;
    psg_loss_range all;      /* of every element */
    psg_loss_part part;
    psg_dtype dtype;
} loss_job;

static loss_job job_of(const psg_call *call, psg_loss_part part, const psg_tensor *out) {
    const psg_tensor *x = &call->input[INPUT].value;
    loss l = loss_of(call);
    return (loss_job){ psg_call_kernels(call),
                       { .f = l.f, .n = (size_t)psg_tensor_count(x), .p = { l.p[0], l.p[1] }, .scale = 1, .x = x->data,
                         .y = call->input[TARGET].value.data, .out = out ? out->data : NULL },
                       part, x->dtype };
}

static psg_loss_range range_of(const loss_job *job, size_t begin, size_t count) {
    psg_loss_range range = job->all;
    size_t bytes = begin * psg_dtype_size(job->dtype);
    range.n = count;
    range.x = (const char *)range.x + bytes;
    range.y = (const char *)range.y + bytes;
    if (range.gy) range.gy = (const char *)range.gy + bytes;
    if (range.out) range.out = (char *)range.out + bytes;
    return range;
}

static void write_range(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    psg_loss_range range = range_of(job, begin, count);
    job->kernels->loss(&range, job->part);
}

static double sum_range(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    psg_loss_range range = range_of(job, begin, count);
    return job->kernels->loss_sum(&range);
}

/* The mean of no elements is NaN, but the loss of an empty batch of samples 0. */
static double divisor_of(const psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value;
    int64_t count = psg_tensor_count(x);
    if (!count && !call->pass->ordinary && call->pass->batch_size == 0) return 1;
    if (reduction_of(call) == PSG_BATCH_MEAN) return (double)x->shape[0];
    return reduction_of(call) == PSG_MEAN ? (double)count : 1;
}

/* 1/2 stands in for what a record that is removed has. */
static psg_status correct_probability(psg_call *call, size_t at) {
    psg_tensor one = call->input[INPUT].value;
    bool own = call->input[INPUT].role == PSG_BATCHED && one.rank > 0;
    int64_t row = own ? psg_tensor_count(&one) / one.shape[0] : 1;
    if (!own || !psg_call_removes(call, (int64_t)at / row)) {
        one.data = psg_tensor_offset(&one, (int64_t)at);
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "input[%zu] (in memory order) is %g, must be in [0, 1]", at,
                             psg_scalar_value(call, &one));
    }
    one.data = psg_call_own(call, INPUT);
    if (!one.data) return PSG_ERR_MEMORY;
    one.data = psg_tensor_offset(&one, (int64_t)at);
    psg_scalar_set(call, 0.5, &one);
    return PSG_OK;
}

/* NaN passes. */
static psg_status check_probabilities(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value;
    size_t count = (size_t)psg_tensor_count(x), first = 0;
    psg_status status = PSG_OK;
    while (!status) {
        first += psg_call_kernels(call)->first_outside(count - first, 0, 1, psg_tensor_offset(x, (int64_t)first));
        if (first == count) break;
        status = correct_probability(call, first);
    }
    return status;
}

static psg_status loss_forward(psg_call *call) {
    psg_status status = kind_of(call)->of_probability ? check_probabilities(call) : PSG_OK;
    if (status) return status;
    loss_job job = job_of(call, PSG_LOSS_VALUE, &call->output);
    if (reduction_of(call) != PSG_NONE) {
        return psg_reduce_loss(call, job.all.n, sum_range, &job, &job.all.scale, divisor_of(call));
    }
    psg_for_ranges(call->context, job.all.n, PSG_RANGE, write_range, &job);
    return PSG_OK;
}

/* ---- backward ---- */

static void write_slopes(psg_call *call, int k, psg_loss_part part) {
    if (!call->input[k].grad.data) return;
    loss_job job = job_of(call, part, &call->input[k].grad);
    if (reduction_of(call) == PSG_NONE) job.all.gy = call->grad_output.data;
    else job.all.scale = psg_loss_factor(call, divisor_of(call));
    psg_for_ranges(call->context, job.all.n, PSG_RANGE, write_range, &job);
}

static psg_status loss_backward(psg_call *call) {
    write_slopes(call, INPUT, PSG_LOSS_DX);
    write_slopes(call, TARGET, PSG_LOSS_DY);
    return PSG_OK;
}

/* ---- descriptors and fronts ---- */

static const char *const input_names[] = { "input", "target" };

#define ROW(symbol, attributes, words, ...)                                             \
    const psg_op psg_op_##symbol = {                                             \
        .name = #symbol,                                                         \
        .input_count = 2,                                                        \
        .input_names = input_names,                                              \
        .attributes_size = sizeof(attributes),                                   \
        .reserved_at = words,                                                    \
        .scales_loss = 1,                                                        \
        .shape = loss_shape,                                                     \
        .forward = loss_forward,                                                 \
        .backward = loss_backward,                                               \
        .traits = &(const loss_kind){ .f = PSG_LOSS_##symbol, __VA_ARGS__ },     \
    };

static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, psg_var target, const void *attributes) {
    return psg_record(tape, op, (psg_var[]){ x, target }, 2, attributes);
}

#define PLAIN(symbol, ...)                                                                             \
    ROW(symbol, psg_loss_attributes, 0, __VA_ARGS__)                                                      \
    psg_var psg_##symbol(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {         \
        return record(tape, &psg_op_##symbol, x, target, &(psg_loss_attributes){ reduction });         \
    }
#define LOSS(symbol) PLAIN(symbol, .of_probability = false)
#define LOSS_OF_PROBABILITY(symbol) PLAIN(symbol, .of_probability = true)

#define LOSS_1(symbol, number, holds, rule)                                                            \
    static void read_##symbol(const void *attributes, loss *out) {                                     \
        double given = ((const psg_##symbol##_attributes *)attributes)->number;                        \
        read_number(out, given, holds(given), #number, rule);                                          \
    }                                                                                                  \
    ROW(symbol, psg_##symbol##_attributes, 0, .read = read_##symbol)                                      \
    psg_var psg_##symbol(psg_tape *tape, psg_var x, psg_var target, double number, psg_reduction reduction) { \
        return record(tape, &psg_op_##symbol, x, target, &(psg_##symbol##_attributes){ reduction, number }); \
    }

#define LOSS_OR(symbol, other)
#include "regression_loss_list.h"

ROW(kl_div, psg_kl_div_attributes, 0, .read = read_kl_div, .batch_mean = true)
ROW(poisson_nll, psg_poisson_nll_options, offsetof(psg_poisson_nll_options, reserved), .read = read_poisson_nll)

psg_var psg_kl_div(psg_tape *tape, psg_var x, psg_var target, int log_target, psg_reduction reduction) {
    return record(tape, &psg_op_kl_div, x, target, &(psg_kl_div_attributes){ reduction, log_target });
}

psg_var psg_poisson_nll(psg_tape *tape, psg_var x, psg_var target, const psg_poisson_nll_options *options) {
    return record(tape, &psg_op_poisson_nll, x, target, options);
}
