/* The release: the only place where something of the sums leaves them. */
#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "dp/random.h"
#include "dp/sum.h"
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

static psg_status check_release(const psg_dp *dp, const psg_tensor *outs, size_t count) {
    if (!outs || count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_release: count is %zu, must be %zu, one tensor a parameter", outs ? count : 0,
                        dp->param_count);
    }
    psg_status status = psg_generator_check(dp->generator, "psg_dp_release");
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
    return psg_generator_check(dp->generator, "psg_dp_release_to");
}

/* ---- the sum over all ranks ---- */

static psg_status reduce_sums(psg_dp *dp, const char *function) {
    if (!dp->reduce) return PSG_OK;
    psg_status status = dp->reduce(dp->reduce_user, dp->sums, dp->offset[dp->param_count]);
    if (!status) return PSG_OK;
    sodium_memzero(dp->sums, dp->offset[dp->param_count] * sizeof *dp->sums);
    return psg_fail(dp->context, status,
                    "%s: the reduce hook returned %s; the step is over, its sums are gone", function,
                    psg_status_name(status));
}

/* ---- noise and division ---- */

/* To outs, or where these are NULL to the optimizer. */
typedef struct release_job {
    const psg_dp *dp;
    uint64_t step;
    const psg_tensor *outs;
    const psg_optimizer *optimizer;
} release_job;

/* sum += noise_multiplier * max_grad_norm * N(0, I), elements [first, first + count) of parameter k. */
static void add_noise(const release_job *job, size_t k, size_t first, size_t count, double *sum, double *scratch) {
    const psg_dp *dp = job->dp;
    const psg_stream stream = { PSG_PURPOSE_GAUSSIAN, (uint32_t)k, dp->owner, job->step };
    const double deviation = dp->options.noise_multiplier * dp->options.max_grad_norm;
    if (deviation == 0) return;
    const double *noise = psg_normals(dp->generator, &stream, first, count, scratch);
    dp->context->kernels[PSG_F64]->add_to_f64(count, deviation, noise, sum);
    sodium_memzero(scratch, PSG_NORMALS_SCRATCH(count) * sizeof *scratch);
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
    double *sum = dp->sums + dp->offset[k] + first;
    const psg_tensor *target = job->outs ? &job->outs[k] : &job->optimizer->values[k];
    void *to = job->outs ? psg_tensor_offset(target, (int64_t)first) : workspace;
    add_noise(job, k, first, count, sum, workspace);
    dp->context->kernels[target->dtype]->from_f64(count, 1 / dp->options.expected_batch_size, sum, to, false);
    memset(sum, 0, count * sizeof *sum);
    if (!job->outs) psg_optimizer_update(job->optimizer, k, first, count, to);
}

static void release_all(release_job *job) {
    size_t chunks = 0;
    for (size_t k = 0; k < job->dp->param_count; k++) chunks += chunks_of(job->dp, k);
    psg_parallel(job->dp->context, chunks, release_chunk, job);
}

/* ---- the step ends ---- */

/* Checks come first and change nothing.  Then the release is in the accountant before the sums leave this function, to
 * the hook or to outs, and stays there: the accountant never counts too few.  A hook that fails may have left anything
 * in the sums, so the step ends without output; its noise is not used again, since the step has been counted. */
static psg_status release(psg_dp *dp, const char *function, const psg_tensor *outs, psg_optimizer *optimizer) {
    release_job job = { dp, psg_accountant_releases(dp->accountant), outs, optimizer };
    psg_status status = psg_accountant_add(dp->accountant, &dp->event, 1);
    if (status) return status;
    dp->samples = 0;
    status = reduce_sums(dp, function);
    if (status) return status;
    if (optimizer) psg_optimizer_begin(optimizer);
    release_all(&job);
    return PSG_OK;
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
