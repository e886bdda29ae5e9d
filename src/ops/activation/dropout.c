/* dropout, feature_dropout: an element, or a whole channel, is kept with probability 1 - p and then divided by it. */
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/activation.h"

/* psg_op.traits: whether one draw decides over a whole channel. */
typedef struct dropout_kind {
    bool channels;
} dropout_kind;

/* A draw decides over `width` elements that lie together: one, or a channel. */
typedef struct dropout_job {
    psg_call *call;
    size_t draws, width;      /* draws of a sample */
    uint64_t threshold;       /* a word below it drops its element */
    uint64_t *words;          /* of a sample, for each worker; NULL: they fit the worker's workspace */
    unsigned char *mask;      /* a byte a draw, in the order of the elements in memory */
    double scale;
    const psg_tensor *from, *to;
} dropout_job;

/* ---- shape ---- */

static bool drops_channels(const psg_call *call) { return ((const dropout_kind *)call->op->traits)->channels; }

/* The first field of both attributes. */
static double dropout_p(const psg_call *call) { return *(const double *)call->attributes; }

static int is_identity(const psg_call *call) { return call->pass->evaluation || dropout_p(call) == 0; }

/* A mask belongs to a sample. */
static psg_status check_samples(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    if (call->input[0].role != PSG_BATCHED || x->rank == 0) {
        return psg_call_fail(call, PSG_ERR_BATCH, "input carries no batch, but a mask belongs to a sample");
    }
    return psg_call_draws(call, x->shape[0]);
}

static psg_status check_rank(psg_call *call) {
    const psg_feature_dropout_attributes *attributes = call->attributes;
    char text[PSG_SHAPE_TEXT];
    if (!drops_channels(call) || call->input[0].value.rank - 2 == attributes->spatial) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must be (N, C) and %d spatial dimensions",
                         psg_tensor_text(&call->input[0].value, text), attributes->spatial);
}

static psg_status dropout_shape(psg_call *call) {
    double p = dropout_p(call);
    if (!(p >= 0 && p <= 1)) return psg_call_fail(call, PSG_ERR_ARGUMENT, "p is %g, must be in [0, 1]", p);
    psg_status status = psg_operands_real(call, 1);
    if (!status) status = check_rank(call);
    if (!status) status = psg_operand_carries_batch(call, 0);
    if (!status && !is_identity(call)) status = check_samples(call);
    return status ? status : psg_output_like_input(call);
}

/* ---- forward ---- */

static uint64_t *words_of(const dropout_job *job, unsigned slot) {
    if (!job->words) return job->call->context->workspace[slot];
    return job->words + slot * job->draws;
}

static void mask_sample(void *argument, size_t sample, unsigned slot) {
    const dropout_job *job = argument;
    uint64_t *words = words_of(job, slot);
    unsigned char *mask = job->mask + sample * job->draws;
    psg_call_random(job->call, (int64_t)sample, words, job->draws);
    for (size_t i = 0; i < job->draws; i++) mask[i] = words[i] >= job->threshold;
}

/* The dimensions that draws have: all, or those of samples and channels. */
static int drawn_rank(const psg_call *call) { return drops_channels(call) ? 2 : call->input[0].value.rank; }

static psg_status draw_masks(psg_call *call, unsigned char *mask) {
    const psg_tensor *x = &call->input[0].value;
    dropout_job job = {
        .call = call,
        .draws = (size_t)psg_shape_product(drawn_rank(call) - 1, x->shape + 1),
        .threshold = (uint64_t)ldexp(dropout_p(call), 64),
        .mask = mask,
    };
    size_t bytes = job.draws * sizeof *job.words;
    if (bytes > PSG_WORKSPACE_BYTES) {
        job.words = psg_call_keep(call, bytes * call->context->threads);
        if (!job.words) return PSG_ERR_MEMORY;
    }
    if (bytes) psg_parallel(call->context, (size_t)x->shape[0], mask_sample, &job);
    return PSG_OK;
}

static void apply_elements(void *argument, size_t begin, size_t count) {
    const dropout_job *job = argument;
    int64_t at = (int64_t)begin;
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    const void *from = psg_tensor_offset(job->from, at);
    void *to = psg_tensor_offset(job->to, at);
    if (job->mask) kernels->masked_scale(count, job->scale, job->mask + begin, from, to);
    else kernels->scale_row(count, job->scale, from, 1, to, false);
}

static void apply_channels(void *argument, size_t begin, size_t count) {
    const dropout_job *job = argument;
    const psg_kernel_table *kernels = psg_call_kernels(job->call);
    for (size_t k = begin; k < begin + count; k++) {
        int64_t at = (int64_t)(k * job->width);
        void *to = psg_tensor_offset(job->to, at);
        if (job->mask[k]) kernels->scale_row(job->width, job->scale, psg_tensor_offset(job->from, at), 1, to, false);
        else memset(to, 0, job->width * psg_dtype_size(job->to->dtype));
    }
}

static void apply_mask(psg_call *call, const unsigned char *mask, const psg_tensor *from, const psg_tensor *to) {
    double kept = 1 - dropout_p(call);
    int drawn = drawn_rank(call);
    dropout_job job = { .call = call, .mask = (unsigned char *)(uintptr_t)mask, .from = from, .to = to };
    job.scale = mask && kept > 0 ? 1 / kept : 1;
    job.width = (size_t)psg_shape_product(from->rank - drawn, from->shape + drawn);
    if (mask && drops_channels(call)) {
        psg_for_ranges(call->context, (size_t)psg_shape_product(drawn, from->shape), psg_range_unit((int64_t)job.width),
                       apply_channels, &job);
    } else {
        psg_for_ranges(call->context, (size_t)psg_tensor_count(from), PSG_RANGE, apply_elements, &job);
    }
}

static psg_status dropout_forward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    size_t draws = (size_t)psg_shape_product(drawn_rank(call), x->shape);
    unsigned char *mask = NULL;
    if (!is_identity(call)) {
        mask = psg_call_keep(call, draws);
        if (!mask) return PSG_ERR_MEMORY;
    }
    if (mask && dropout_p(call) == 1) {
        memset(mask, 0, draws);
    } else if (mask) {
        psg_status status = draw_masks(call, mask);
        if (status) return status;
    }
    call->kept = mask;
    apply_mask(call, mask, x, &call->output);
    return PSG_OK;
}

/* ---- backward ---- */

static psg_status dropout_backward(psg_call *call) {
    if (call->input[0].grad.data) apply_mask(call, call->kept, &call->grad_output, &call->input[0].grad);
    return PSG_OK;
}

static const char *const input_names[] = { "input" };

#define OP(symbol, drops)                                       \
    const psg_op psg_op_##symbol = {                            \
        .name = #symbol,                                        \
        .input_count = 1,                                       \
        .input_names = input_names,                             \
        .attributes_size = sizeof(psg_##symbol##_attributes),   \
        .shape = dropout_shape,                                 \
        .forward = dropout_forward,                             \
        .backward = dropout_backward,                           \
        .traits = &(const dropout_kind){ drops },               \
    }

OP(dropout, false);
OP(feature_dropout, true);

psg_var psg_dropout(psg_tape *tape, psg_var x, double p) {
    psg_dropout_attributes attributes = { p };
    return psg_record(tape, &psg_op_dropout, &x, 1, &attributes);
}

static psg_var record(psg_tape *tape, psg_var x, double p, int spatial) {
    psg_feature_dropout_attributes attributes = { p, spatial };
    return psg_record(tape, &psg_op_feature_dropout, &x, 1, &attributes);
}

psg_var psg_dropout1d(psg_tape *tape, psg_var x, double p) { return record(tape, x, p, 1); }
psg_var psg_dropout2d(psg_tape *tape, psg_var x, double p) { return record(tape, x, p, 2); }
psg_var psg_dropout3d(psg_tape *tape, psg_var x, double p) { return record(tape, x, p, 3); }
