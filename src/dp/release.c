/* The release: the only place where something of the sums leaves them. */
#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "dp/grid_noise.h"
#include "dp/mechanism.h"
#include "dp/random.h"
#include "optim/optimizer.h"

#define CHUNK ((size_t)4096)   /* elements a task: noise and sums stay in the first two cache levels */

/* ---- checks, before anything happens ---- */

static psg_status check_out(const psg_dp *dp, size_t k, const psg_tensor *out) {
    char text[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(out)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_release: outs[%zu] is no tensor, must have type, shape and data", k);
    }
    if (psg_tensor_count(out) != (int64_t)psg_dp_elements(dp, k)) {
        return psg_fail(dp->context, PSG_ERR_SHAPE, "psg_dp_release: outs[%zu] has shape %s, must have %zu elements", k,
                        psg_tensor_text(out, text), psg_dp_elements(dp, k));
    }
    if (!psg_dtype_is_real(out->dtype)) {
        return psg_fail(dp->context, PSG_ERR_DTYPE, "psg_dp_release: outs[%zu] is %s, must be f32 or f64", k,
                        psg_dtype_name(out->dtype));
    }
    if (!psg_tensor_is_contiguous(out)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_release: outs[%zu] has strides, must be contiguous", k);
    }
    return PSG_OK;
}

/* A release without its batch, which has counted as drawn, would be another mechanism. */
static psg_status check_step(const psg_dp *dp, const char *function) {
    psg_status status = psg_generator_check(dp->generator, function);
    if (!status) status = psg_dp_check_budget(dp, function);
    if (status || dp->is_drawn || dp->options.sampling == PSG_SAMPLING_EXTERNAL) return status;
    return psg_fail(dp->context, PSG_ERR_STATE, "%s: no batch was drawn for step %llu, must be: psg_dp_sample",
                    function, (unsigned long long)dp->step);
}

static psg_status check_release(const psg_dp *dp, const psg_tensor *outs, size_t count) {
    if (!outs || count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_release: count is %zu, must be %zu, one tensor a parameter", outs ? count : 0,
                        dp->param_count);
    }
    psg_status status = check_step(dp, "psg_dp_release");
    for (size_t k = 0; !status && k < count; k++) status = check_out(dp, k, &outs[k]);
    return status;
}

static psg_status check_optimizer(const psg_dp *dp, const psg_optimizer *optimizer) {
    if (!optimizer || optimizer->count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_release_to: the optimizer has %zu values, must have %zu, one a parameter",
                        optimizer ? optimizer->count : 0, dp->param_count);
    }
    for (size_t k = 0; k < dp->param_count; k++) {
        if (psg_tensor_count(&optimizer->values[k]) == (int64_t)psg_dp_elements(dp, k)) continue;
        char text[PSG_SHAPE_TEXT];
        return psg_fail(dp->context, PSG_ERR_SHAPE,
                        "psg_dp_release_to: value %zu of the optimizer has shape %s, must have %zu elements", k,
                        psg_tensor_text(&optimizer->values[k], text), psg_dp_elements(dp, k));
    }
    return check_step(dp, "psg_dp_release_to");
}

/* ---- the sum over all ranks ---- */

static psg_status reduce_sums(psg_dp *dp, const char *function) {
    size_t count = psg_dp_sum_count(dp);
    if (!dp->reduce) return PSG_OK;
    psg_status status = dp->reduce(dp->reduce_user, dp->sums, count);
    if (!status) return PSG_OK;
    sodium_memzero(dp->sums, count * sizeof *dp->sums);
    return psg_fail(dp->context, status,
                    "%s: the reduce hook returned %s; the step is over, its sums are gone", function,
                    psg_status_name(status));
}

/* ---- noise and division ---- */

/* To outs, or where these are NULL to the optimizer. */
typedef struct release_job {
    const psg_dp *dp;
    const psg_tensor *outs;
    const psg_optimizer *optimizer;
    double factor;                  /* of the integers: unit / expected_batch_size */
} release_job;

/* sums += z, elements [first, first + count) of parameter k; the count of a quantile is one more parameter. */
static void add_noise(const psg_dp *dp, size_t k, size_t first, size_t count, int64_t *sums, void *workspace) {
    const psg_stream stream = { PSG_PURPOSE_GRID_NOISE, (uint32_t)k, dp->owner, dp->step };
    int64_t *noise = workspace;
    if (dp->options.noise_multiplier == 0) return;
    psg_grid_noise(dp->generator, &stream, first, count, noise, noise + count);
    for (size_t i = 0; i < count; i++) sums[i] += noise[i];
    sodium_memzero(noise, count * sizeof *noise);
}

static size_t chunks_of(const psg_dp *dp, size_t k) { return (psg_dp_elements(dp, k) + CHUNK - 1) / CHUNK; }

/* The chunks of all parameters are one loop, since many parameters are smaller than a chunk.  What goes to the
 * optimizer does so while it is near. */
static void release_chunk(void *argument, size_t index, unsigned slot) {
    const release_job *job = argument;
    const psg_dp *dp = job->dp;
    void *workspace = dp->context->workspace[slot];
    size_t k = 0;
    for (; index >= chunks_of(dp, k); k++) index -= chunks_of(dp, k);
    size_t first = index * CHUNK, rest = psg_dp_elements(dp, k) - first, count = rest < CHUNK ? rest : CHUNK;
    int64_t *sums = dp->sums + dp->offset[k] + first;
    const psg_tensor *target = job->outs ? &job->outs[k] : &job->optimizer->values[k];
    void *to = job->outs ? psg_tensor_offset(target, (int64_t)first) : workspace;
    add_noise(dp, k, first, count, sums, workspace);
    dp->context->kernels[target->dtype]->from_grid(count, job->factor, sums, to);
    memset(sums, 0, count * sizeof *sums);
    if (!job->outs) psg_optimizer_update(job->optimizer, k, first, count, to);
}

static void release_all(release_job *job) {
    size_t chunks = 0;
    for (size_t k = 0; k < job->dp->param_count; k++) chunks += chunks_of(job->dp, k);
    psg_parallel(job->dp->context, chunks, release_chunk, job);
}

/* C of the next step, and with it the grid. */
static void move_quantile(psg_dp *dp) {
    if (!psg_dp_has_quantile(dp)) return;
    int64_t *count = dp->sums + psg_dp_total(dp);
    add_noise(dp, dp->param_count, 0, 1, count, dp->context->workspace[0]);
    double next = psg_quantile_next(dp, *count);
    psg_grid grid = psg_grid_of(dp->gradient_noise, next, (double)psg_dp_total(dp));
    *count = 0;
    if (grid.unit == 0) return;   /* C has no grid: it stays */
    dp->max_grad_norm = next;
    dp->grid = grid;
}

/* ---- the step ends ---- */

/* Checks come first and change nothing.  Then the release is in the accountant before the sums leave this function, to
 * the hook or to outs, and stays there: the accountant never counts too few.  A hook that fails may have left anything
 * in the sums, so the step ends without output; its noise is not used again, since the step has been counted. */
static psg_status release(psg_dp *dp, const char *function, const psg_tensor *outs, psg_optimizer *optimizer) {
    release_job job = { dp, outs, optimizer, dp->grid.unit / dp->options.expected_batch_size };
    psg_status status = psg_accountant_add(dp->accountant, &dp->event, 1);
    if (status) return status;
    psg_dp_forget_batch(dp);
    dp->is_lost = false;
    status = reduce_sums(dp, function);
    if (!status && optimizer) psg_optimizer_begin(optimizer);
    if (!status) release_all(&job);
    if (!status) move_quantile(dp);
    dp->step++;
    return status;
}

psg_status psg_dp_release(psg_dp *dp, const psg_tensor *outs, size_t count) {
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_release(dp, outs, count);
    return status ? status : release(dp, "psg_dp_release", outs, NULL);
}

psg_status psg_dp_release_to(psg_dp *dp, psg_optimizer *optimizer) {
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_optimizer(dp, optimizer);
    return status ? status : release(dp, "psg_dp_release_to", NULL, optimizer);
}
