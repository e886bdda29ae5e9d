/* Elementwise losses of an input and a target of one shape, kept, summed or averaged: a table of them, one shape, one
 * forward, one backward. */
#include <math.h>

#include "base/context.h"
#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops.h"

enum { INPUT, TARGET };

#define OP(name) extern const psg_op psg_op_##name;
#include "ops/op_list.h"
#undef OP

/* ---- the table ---- */

/* What the attributes say to the kernels. */
typedef struct loss {
    psg_loss f;
    double p[PSG_LOSS_PARAMETERS];
    const char *wrong, *rule;      /* the attribute that breaks a rule; NULL: none */
    double value;                  /* of that one */
} loss;

/* Every attributes struct of the family begins with the reduction. */
typedef struct loss_kind {
    const psg_op *op;
    psg_loss f;
    void (*read)(const void *attributes, loss *out);   /* NULL: no parameters */
} loss_kind;

static void require(loss *out, bool holds, double value, const char *name, const char *rule) {
    if (holds) return;
    out->wrong = name;
    out->value = value;
    out->rule = rule;
}

static void read_smooth_l1(const void *attributes, loss *out) {
    out->p[0] = ((const psg_smooth_l1_attributes *)attributes)->beta;
    require(out, out->p[0] >= 0, out->p[0], "beta", ">= 0");
}

static void read_huber(const void *attributes, loss *out) {
    out->p[0] = ((const psg_huber_attributes *)attributes)->delta;
    require(out, out->p[0] > 0, out->p[0], "delta", "positive");
}

static void read_kl_div(const void *attributes, loss *out) {
    if (((const psg_kl_div_attributes *)attributes)->log_target) out->f = PSG_LOSS_KL_LOG;
}

static void read_poisson(const void *attributes, loss *out) {
    const psg_poisson_nll_options *options = attributes;
    if (!options->input_is_rate) out->f = PSG_LOSS_POISSON_LOG;
    out->p[0] = options->eps != 0 ? options->eps : 1e-8;
    out->p[1] = options->full;
    require(out, out->p[0] > 0, out->p[0], "eps", "positive");
}

static void read_hinge(const void *attributes, loss *out) {
    out->p[0] = ((const psg_hinge_embedding_attributes *)attributes)->margin;
    require(out, !isnan(out->p[0]), out->p[0], "margin", "a number");
}

static const loss_kind kinds[] = {
    { &psg_op_mse, PSG_LOSS_SQUARED, NULL },
    { &psg_op_l1, PSG_LOSS_ABSOLUTE, NULL },
    { &psg_op_smooth_l1, PSG_LOSS_SMOOTH_L1, read_smooth_l1 },
    { &psg_op_huber, PSG_LOSS_HUBER, read_huber },
    { &psg_op_binary_cross_entropy_with_logits, PSG_LOSS_LOGISTIC, NULL },
    { &psg_op_binary_cross_entropy, PSG_LOSS_BINARY, NULL },
    { &psg_op_kl_div, PSG_LOSS_KL, read_kl_div },
    { &psg_op_poisson_nll, PSG_LOSS_POISSON, read_poisson },
    { &psg_op_soft_margin, PSG_LOSS_SOFT_MARGIN, NULL },
    { &psg_op_hinge_embedding, PSG_LOSS_HINGE_EMBEDDING, read_hinge },
};

static loss loss_of(const psg_call *call) {
    const loss_kind *kind = kinds;
    while (kind->op != call->op) kind++;
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
    bool batch_mean = call->op == &psg_op_kl_div;
    if (reduction == PSG_MEAN || reduction == PSG_SUM || reduction == PSG_NONE) return PSG_OK;
    if (reduction != PSG_BATCH_MEAN || !batch_mean) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "reduction is %d, must be PSG_MEAN, PSG_SUM or PSG_NONE%s",
                             (int)reduction, batch_mean ? " or PSG_BATCH_MEAN" : "");
    }
    if (call->input[INPUT].value.rank > 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "input is a scalar, which PSG_BATCH_MEAN cannot divide by a batch");
}

static psg_status loss_shape(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *y = &call->input[TARGET].value;
    loss l = loss_of(call);
    psg_status status = check_reduction(call);
    if (!status && l.wrong) {
        status = psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is %g, must be %s", l.wrong, l.value, l.rule);
    }
    if (!status) status = psg_operands_real(call, 2);
    if (status) return status;
    if (!psg_shape_equal(x->rank, x->shape, y->rank, y->shape)) {
        char text[PSG_SHAPE_TEXT], target[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s and target %s, must be equal",
                             psg_tensor_text(x, text), psg_tensor_text(y, target));
    }
    status = psg_operand_carries_batch(call, INPUT);
    if (!status) status = psg_operand_carries_batch(call, TARGET);
    int rank = reduction_of(call) == PSG_NONE ? x->rank : 0;
    return status ? status : psg_call_output(call, x->dtype, rank, x->shape);
}

/* ---- forward ---- */

typedef struct loss_job {
    const psg_kernel_table *kernels;
    loss loss;
    const psg_tensor *x, *y, *gy, *out;   /* gy NULL: ones */
    double factor;
    bool in_target;                       /* the slope wanted is that in y */
} loss_job;

static loss_job job_of(const psg_call *call, const psg_tensor *out) {
    return (loss_job){ .kernels = psg_call_kernels(call), .loss = loss_of(call), .x = &call->input[INPUT].value,
                       .y = &call->input[TARGET].value, .out = out };
}

static void loss_range(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    int64_t at = (int64_t)begin;
    job->kernels->loss(job->loss.f, count, job->loss.p, psg_tensor_offset(job->x, at), psg_tensor_offset(job->y, at),
                       psg_tensor_offset(job->out, at));
}

static double loss_range_sum(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    int64_t at = (int64_t)begin;
    return job->kernels->loss_sum(job->loss.f, count, job->loss.p, psg_tensor_offset(job->x, at),
                                  psg_tensor_offset(job->y, at));
}

/* The mean of no elements is NaN, but the loss of an empty batch of samples 0. */
static double divisor_of(const psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value;
    int64_t count = psg_tensor_count(x);
    if (!count && !call->pass->ordinary && call->pass->batch_size == 0) return 1;
    if (reduction_of(call) == PSG_BATCH_MEAN) return (double)x->shape[0];
    return reduction_of(call) == PSG_MEAN ? (double)count : 1;
}

/* NaN passes. */
static psg_status check_probabilities(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value;
    size_t count = (size_t)psg_tensor_count(x), at = psg_call_kernels(call)->first_outside(count, 0, 1, x->data);
    if (at == count) return PSG_OK;
    psg_tensor one = *x;
    one.data = psg_tensor_offset(x, (int64_t)at);
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "input[%zu] (in memory order) is %g, must be in [0, 1]", at,
                         psg_scalar_value(call, &one));
}

static psg_status loss_forward(psg_call *call) {
    loss_job job = job_of(call, &call->output);
    size_t count = (size_t)psg_tensor_count(job.x);
    psg_status status = job.loss.f == PSG_LOSS_BINARY ? check_probabilities(call) : PSG_OK;
    if (status) return status;
    if (reduction_of(call) == PSG_NONE) {
        psg_for_ranges(call->context, count, PSG_RANGE, loss_range, &job);
        return PSG_OK;
    }
    double sum;
    status = psg_sum_ranges(call, count, loss_range_sum, &job, &sum);
    if (!status) psg_scalar_set(call, sum / divisor_of(call), &call->output);
    return status;
}

/* ---- backward ---- */

static void slope_range(void *argument, size_t begin, size_t count) {
    const loss_job *job = argument;
    int64_t at = (int64_t)begin;
    const void *gy = job->gy ? psg_tensor_offset(job->gy, at) : NULL, *x = psg_tensor_offset(job->x, at);
    const void *y = psg_tensor_offset(job->y, at);
    void *out = psg_tensor_offset(job->out, at);
    if (job->in_target) job->kernels->loss_dy(job->loss.f, count, job->loss.p, job->factor, gy, x, y, out);
    else job->kernels->loss_dx(job->loss.f, count, job->loss.p, job->factor, gy, x, y, out);
}

static void backward_operand(psg_call *call, int k) {
    if (!call->input[k].grad.data) return;
    loss_job job = job_of(call, &call->input[k].grad);
    job.in_target = k == TARGET;
    job.factor = 1;
    if (reduction_of(call) == PSG_NONE) job.gy = &call->grad_output;
    else job.factor = psg_loss_factor(call, divisor_of(call));
    psg_for_ranges(call->context, (size_t)psg_tensor_count(job.x), PSG_RANGE, slope_range, &job);
}

static psg_status loss_backward(psg_call *call) {
    backward_operand(call, INPUT);
    backward_operand(call, TARGET);
    return PSG_OK;
}

/* ---- descriptors and fronts ---- */

static const char *const input_names[] = { "input", "target" };

#define DESCRIPTOR(symbol, size)       \
    const psg_op psg_op_##symbol = {   \
        .name = #symbol,               \
        .input_count = 2,              \
        .input_names = input_names,    \
        .attributes_size = size,       \
        .scales_loss = 1,              \
        .shape = loss_shape,           \
        .forward = loss_forward,       \
        .backward = loss_backward,     \
    }

DESCRIPTOR(mse, sizeof(psg_loss_attributes));
DESCRIPTOR(l1, sizeof(psg_loss_attributes));
DESCRIPTOR(smooth_l1, sizeof(psg_smooth_l1_attributes));
DESCRIPTOR(huber, sizeof(psg_huber_attributes));
DESCRIPTOR(binary_cross_entropy_with_logits, sizeof(psg_loss_attributes));
DESCRIPTOR(binary_cross_entropy, sizeof(psg_loss_attributes));
DESCRIPTOR(kl_div, sizeof(psg_kl_div_attributes));
DESCRIPTOR(poisson_nll, sizeof(psg_poisson_nll_options));
DESCRIPTOR(soft_margin, sizeof(psg_loss_attributes));
DESCRIPTOR(hinge_embedding, sizeof(psg_hinge_embedding_attributes));

static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, psg_var target, const void *attributes) {
    return psg_record(tape, op, (psg_var[]){ x, target }, 2, attributes);
}

psg_var psg_mse(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {
    return record(tape, &psg_op_mse, x, target, &(psg_loss_attributes){ reduction });
}

psg_var psg_l1(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {
    return record(tape, &psg_op_l1, x, target, &(psg_loss_attributes){ reduction });
}

psg_var psg_smooth_l1(psg_tape *tape, psg_var x, psg_var target, double beta, psg_reduction reduction) {
    return record(tape, &psg_op_smooth_l1, x, target, &(psg_smooth_l1_attributes){ reduction, beta });
}

psg_var psg_huber(psg_tape *tape, psg_var x, psg_var target, double delta, psg_reduction reduction) {
    return record(tape, &psg_op_huber, x, target, &(psg_huber_attributes){ reduction, delta });
}

psg_var psg_binary_cross_entropy_with_logits(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {
    return record(tape, &psg_op_binary_cross_entropy_with_logits, x, target, &(psg_loss_attributes){ reduction });
}

psg_var psg_binary_cross_entropy(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {
    return record(tape, &psg_op_binary_cross_entropy, x, target, &(psg_loss_attributes){ reduction });
}

psg_var psg_kl_div(psg_tape *tape, psg_var x, psg_var target, int log_target, psg_reduction reduction) {
    return record(tape, &psg_op_kl_div, x, target, &(psg_kl_div_attributes){ reduction, log_target });
}

psg_var psg_poisson_nll(psg_tape *tape, psg_var x, psg_var target, const psg_poisson_nll_options *options) {
    return record(tape, &psg_op_poisson_nll, x, target, options);
}

psg_var psg_soft_margin(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction) {
    return record(tape, &psg_op_soft_margin, x, target, &(psg_loss_attributes){ reduction });
}

psg_var psg_hinge_embedding(psg_tape *tape, psg_var x, psg_var target, double margin, psg_reduction reduction) {
    return record(tape, &psg_op_hinge_embedding, x, target, &(psg_hinge_embedding_attributes){ reduction, margin });
}
