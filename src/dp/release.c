/* The release: the only place where something of the sums leaves them. */
#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shape.h"
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
    static const char function[] = "psg_dp_release_to";
    if (!optimizer || optimizer->count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "%s: the optimizer has %zu values, must have %zu, one a parameter",
                        function, optimizer ? optimizer->count : 0, dp->param_count);
    }
    for (size_t k = 0; k < dp->param_count; k++) {
        if (psg_tensor_count(&optimizer->values[k]) == (int64_t)psg_dp_elements(dp, k)) continue;
        char text[PSG_SHAPE_TEXT];
        return psg_fail(dp->context, PSG_ERR_SHAPE, "%s: value %zu of the optimizer has shape %s, must have %zu elements",
                        function, k, psg_tensor_text(&optimizer->values[k], text), psg_dp_elements(dp, k));
    }
    return psg_generator_check(dp->generator, function);
}

/* ---- the sum over all ranks ---- */

static psg_status reduce_sums(psg_dp *dp) {
    if (!dp->reduce) return PSG_OK;
    psg_status status = dp->reduce(dp->reduce_user, dp->sums, dp->offset[dp->param_count]);
    if (!status) return PSG_OK;
    sodium_memzero(dp->sums, dp->offset[dp->param_count] * sizeof *dp->sums);
    return psg_fail(dp->context, status,
                    "psg_dp_release: the reduce hook returned %s; the step is over, its sums are gone",
                    psg_status_name(status));
}

/* ---- noise and division ---- */

typedef struct parameter_release {
    const psg_dp *dp;
    psg_stream stream;
    double *sums;
    size_t parameter, count;
    psg_dtype dtype;
    const psg_tensor *out;          /* or NULL: */
    psg_optimizer *optimizer;
} parameter_release;

/* sum += noise_multiplier * max_grad_norm * N(0, I). */
static void add_noise(const parameter_release *job, size_t first, size_t count, double *sum, unsigned slot) {
    const psg_dp *dp = job->dp;
    const double deviation = dp->options.noise_multiplier * dp->options.max_grad_norm;
    if (deviation == 0) return;
    double *scratch = dp->context->workspace[slot];
    const double *noise = psg_normals(dp->generator, &job->stream, first, count, scratch);
    dp->context->kernels[PSG_F64]->add_to_f64(count, deviation, noise, sum);
    sodium_memzero(scratch, PSG_NORMALS_SCRATCH(count) * sizeof *scratch);
}

/* The update of a chunk goes from here to the optimizer while it is near. */
static void release_chunk(void *argument, size_t index, unsigned slot) {
    _Alignas(64) double update[CHUNK];
    const parameter_release *job = argument;
    const psg_dp *dp = job->dp;
    size_t first = index * CHUNK, count = job->count - first < CHUNK ? job->count - first : CHUNK;
    double *sum = job->sums + first;
    void *to = job->out ? psg_tensor_offset(job->out, (int64_t)first) : update;
    add_noise(job, first, count, sum, slot);
    dp->context->kernels[job->dtype]->from_f64(count, 1 / dp->options.expected_batch_size, sum, to, false);
    memset(sum, 0, count * sizeof *sum);
    if (!job->out) psg_optimizer_update(job->optimizer, job->parameter, first, count, to);
}

/* outs NULL: to the optimizer. */
static void release_parameter(psg_dp *dp, size_t k, uint64_t step, const psg_tensor *outs, psg_optimizer *optimizer) {
    parameter_release job = { .dp = dp, .stream = { PSG_PURPOSE_GAUSSIAN, (uint32_t)k, dp->owner, step },
                              .sums = dp->sums + dp->offset[k], .parameter = k, .count = psg_dp_elements(dp, k),
                              .dtype = outs ? outs[k].dtype : optimizer->values[k].dtype,
                              .out = outs ? &outs[k] : NULL, .optimizer = optimizer };
    psg_parallel(dp->context, (job.count + CHUNK - 1) / CHUNK, release_chunk, &job);
}

/* ---- the step ends ---- */

/* One release more at every order; what psg_accountant_add would add, computed once.  It cannot fail. */
static void record(psg_dp *dp) {
    for (int k = 0; k < dp->accountant.order_count; k++) dp->accountant.rdp[k] += dp->one_release.rdp[k];
    dp->accountant.releases++;
}

/* Checks come first and change nothing.  Then the release is in the accountant before the sums leave this function, to
 * the hook or to outs, and stays there: the accountant never counts too few.  A hook that fails may have left anything
 * in the sums, so the step ends without output; its noise is not used again, since the step has been counted. */
static psg_status release(psg_dp *dp, const psg_tensor *outs, psg_optimizer *optimizer) {
    uint64_t step = dp->accountant.releases;
    record(dp);
    dp->samples = 0;
    psg_status status = reduce_sums(dp);
    if (status) return status;
    if (optimizer) psg_optimizer_begin(optimizer);
    for (size_t k = 0; k < dp->param_count; k++) release_parameter(dp, k, step, outs, optimizer);
    return PSG_OK;
}

psg_status psg_dp_release(psg_dp *dp, const psg_tensor *outs, size_t count) {
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_release(dp, outs, count);
    return status ? status : release(dp, outs, NULL);
}

psg_status psg_dp_release_to(psg_dp *dp, psg_optimizer *optimizer) {
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_optimizer(dp, optimizer);
    return status ? status : release(dp, NULL, optimizer);
}
