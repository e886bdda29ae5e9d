/* prelu: x where x > 0, else weight times x, one weight or one a channel.  The weight's gradient is rows: the sum of
 * g x over a sample's elements (of a channel) where x <= 0. */
#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/activation.h"

enum { INPUT, WEIGHT };

/* x as `count` runs of `length` elements, one after the other, of a sample each or of a channel of it.  A run has one
 * weight; where a channel is one element a run is a sample, a row of weights. */
typedef struct runs {
    int64_t count, length, channels;    /* run k is of channel k % channels */
    bool row;
} runs;

/* ---- shape ---- */

static psg_status shape(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *w = &call->input[WEIGHT].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operands_real(call, 2);
    if (!status) status = psg_operand_carries_batch(call, INPUT);
    if (!status) status = psg_operand_not_computed(call, WEIGHT);
    if (status) return status;
    if (!x->rank) return psg_call_fail(call, PSG_ERR_SHAPE, "input is a scalar, must have a batch dimension");
    int64_t channels = x->rank > 1 ? x->shape[1] : 1;
    bool single = w->rank == 0 || (w->rank == 1 && w->shape[0] == 1);
    if (!single && (w->rank != 1 || w->shape[0] != channels)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight must have shape (), (1) or (%lld), one element a channel, has %s",
                             (long long)channels, psg_tensor_text(w, text));
    }
    return psg_output_like_input(call);
}

static runs runs_of(const psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value;
    bool shared = psg_tensor_count(&call->input[WEIGHT].value) == 1;
    int64_t samples = x->shape[0], sample = psg_shape_product(x->rank - 1, x->shape + 1);
    int64_t channel = x->rank > 2 ? psg_shape_product(x->rank - 2, x->shape + 2) : 1;
    if (shared || channel == 1) return (runs){ samples, sample, 1, !shared };
    return (runs){ samples * x->shape[1], channel, x->shape[1], false };
}

/* ---- forward and backward: one job a run ---- */

typedef struct run_job {
    const psg_call *call;
    const psg_kernel_table *kernels;
    runs runs;
    const psg_tensor *gx;     /* backward; data NULL: not wanted */
    psg_tensor gw;            /* backward: (samples, weights), or data NULL */
} run_job;

/* A run's place in x, and its first weight. */
static int64_t run_at(const run_job *j, size_t index, const void **weight) {
    *weight = psg_tensor_offset(&j->call->input[WEIGHT].value, (int64_t)index % j->runs.channels);
    return (int64_t)index * j->runs.length;
}

static void forward_runs(void *argument, size_t begin, size_t count) {
    const run_job *j = argument;
    for (size_t index = begin; index < begin + count; index++) {
        const void *w;
        int64_t at = run_at(j, index, &w);
        j->kernels->prelu((size_t)j->runs.length, psg_tensor_offset(&j->call->input[INPUT].value, at), w, j->runs.row,
                          psg_tensor_offset(&j->call->output, at));
    }
}

static void weight_gradient(const run_job *j, size_t index, const void *x, const void *gy) {
    size_t n = (size_t)j->runs.length;
    if (j->runs.row) {
        j->kernels->prelu_weights(n, x, gy, psg_tensor_offset(&j->gw, (int64_t)(index * n)));
    } else {
        double sum = j->kernels->prelu_weight(n, x, gy);
        j->kernels->from_f64(1, 1, &sum, psg_tensor_offset(&j->gw, (int64_t)index), false);
    }
}

static void backward_runs(void *argument, size_t begin, size_t count) {
    const run_job *j = argument;
    for (size_t index = begin; index < begin + count; index++) {
        const void *w;
        int64_t at = run_at(j, index, &w);
        const void *x = psg_tensor_offset(&j->call->input[INPUT].value, at);
        const void *gy = psg_tensor_offset(&j->call->grad_output, at);
        if (j->gx->data) {
            j->kernels->prelu_backward((size_t)j->runs.length, x, gy, w, j->runs.row, psg_tensor_offset(j->gx, at));
        }
        if (j->gw.data) weight_gradient(j, index, x, gy);
    }
}

/* Runs without elements only have sums, of 0, to write. */
static void for_runs(psg_call *call, psg_range_task task, run_job *job) {
    if (!job->runs.length && (!job->gw.data || job->runs.row)) return;
    psg_for_ranges(call->context, (size_t)job->runs.count, psg_range_unit(job->runs.length), task, job);
}

static psg_status forward(psg_call *call) {
    run_job j = { .call = call, .kernels = psg_call_kernels(call), .runs = runs_of(call) };
    for_runs(call, forward_runs, &j);
    return PSG_OK;
}

static psg_status backward(psg_call *call) {
    run_job j = { .call = call, .kernels = psg_call_kernels(call), .runs = runs_of(call),
                  .gx = &call->input[INPUT].grad };
    bool wanted = call->input[WEIGHT].wants_grad;
    if (wanted) {
        int64_t samples = call->output.shape[0], weights = psg_tensor_count(&call->input[WEIGHT].value);
        j.gw = psg_tensor_of(call->output.dtype, NULL, 2, (int64_t[]){ samples, weights });
        j.gw.data = psg_call_keep(call, (size_t)psg_tensor_count(&j.gw) * psg_dtype_size(j.gw.dtype));
        if (!j.gw.data) return PSG_ERR_MEMORY;
    }
    for_runs(call, backward_runs, &j);
    return wanted ? psg_call_add_rows(call, WEIGHT, &j.gw) : PSG_OK;
}

static const char *const names[] = { "input", "weight" };

const psg_op psg_op_prelu = {
    .name = "prelu",
    .input_count = 2,
    .input_names = names,
    .parameter_inputs = 1u << WEIGHT,
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_prelu(psg_tape *tape, psg_var x, psg_var weight) {
    return psg_record(tape, &psg_op_prelu, (psg_var[]){ x, weight }, 2, NULL);
}
