#include "dp/sum.h"

#include <math.h>
#include <sodium.h>

#include "base/context.h"
#include "base/memory.h"
#include "base/shapes.h"
#include "dp/random.h"

/* ---- options ---- */

static psg_status refuse(psg_context *context, const char *name, double value, const char *rule) {
    return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: %s is %g, must be %s", name, value, rule);
}

/* The deviation of the noise must be a normal number: below that, less noise would be added than is accounted for. */
static psg_status check_options(psg_context *context, const psg_dp_options *o) {
    double deviation = o->noise_multiplier * o->max_grad_norm;
    if (!(isfinite(o->max_grad_norm) && o->max_grad_norm > 0)) {
        return refuse(context, "max_grad_norm", o->max_grad_norm, "finite and above 0");
    }
    if (!(isfinite(o->noise_multiplier) && o->noise_multiplier >= 0)) {
        return refuse(context, "noise_multiplier", o->noise_multiplier, "finite and at least 0");
    }
    if (o->noise_multiplier > 0 && !isnormal(deviation)) {
        return refuse(context, "noise_multiplier * max_grad_norm", deviation, "a normal number");
    }
    if (!(o->expected_batch_size > 0 && o->expected_batch_size <= 0x1p53)) {
        return refuse(context, "expected_batch_size", o->expected_batch_size, "above 0 and at most 2^53");
    }
    if (!(o->sample_rate > 0 && o->sample_rate <= 1)) {
        return refuse(context, "sample_rate", o->sample_rate, "in (0, 1]: that of the Poisson sampler");
    }
    if (o->max_batch_size < 0) {
        return refuse(context, "max_batch_size", (double)o->max_batch_size, "at least 0");
    }
    return PSG_OK;
}

/* What psg_clipped_sum would refuse, and an engine under which its bound does not hold. */
static psg_status check_clipping(psg_context *context, const psg_dp_options *o) {
    const psg_clip clip = { .max_grad_norm = o->max_grad_norm, .max_batch_size = o->max_batch_size };
    psg_status status = psg_clip_factors(context, &clip, NULL, 0, NULL, NULL);
    if (status) return status;
    if (context->gemm != PSG_GEMM_OPENBLAS || o->allow_openblas) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: the context's gemm is openblas, under which a record "
                    "changes the gradients of others, so max_grad_norm bounds nothing; use automatic or kernel, or set "
                    "allow_openblas");
}

static int64_t default_max_batch_size(double expected) { return (int64_t)ceil(expected + 12 * sqrt(expected) + 64); }

static psg_status check_arguments(psg_context *context, const psg_generator *generator, const psg_dp_options *options,
                                  const int64_t *param_counts, size_t param_count) {
    if (!generator || !options || !param_counts) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: %s is NULL, must not be",
                        !generator ? "generator" : !options ? "options" : "param_counts");
    }
    if (generator->context != context) {
        return psg_fail(context, PSG_ERR_ARGUMENT,
                        "psg_dp_create: generator is of another context, must be of this one");
    }
    if (!param_count || param_count > UINT32_MAX) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: param_count is %zu, must be in [1, 2^32)",
                        param_count);
    }
    psg_status status = psg_generator_check(generator, "psg_dp_create");
    return status ? status : check_options(context, options);
}

/* ---- creation ---- */

static psg_status count_elements(psg_context *context, const int64_t *param_counts, size_t param_count,
                                 int64_t *total) {
    *total = 0;
    for (size_t k = 0; k < param_count; k++) {
        if (param_counts[k] < 0) {
            return psg_fail(context, PSG_ERR_SHAPE, "psg_dp_create: param_counts[%zu] is %lld, must be at least 0", k,
                            (long long)param_counts[k]);
        }
        if (__builtin_add_overflow(*total, param_counts[k], total)) {
            return psg_fail(context, PSG_ERR_OVERFLOW, "psg_dp_create: the sum of param_counts must be below 2^63");
        }
    }
    return PSG_OK;
}

/* PSG_ERR_MEMORY leaves what was taken in dp, for psg_dp_destroy. */
static psg_status take_memory(psg_dp *dp, int64_t total) {
    const char *function = "psg_dp_create";
    size_t sums, views, offsets;
    if (!psg_size_bytes(total, sizeof *dp->sums, &sums) ||
        !psg_size_bytes((int64_t)dp->param_count, sizeof *dp->views, &views) ||
        !psg_size_bytes((int64_t)dp->param_count + 1, sizeof *dp->offset, &offsets)) {
        return psg_fail(dp->context, PSG_ERR_OVERFLOW, "%s: %lld elements do not fit memory", function,
                        (long long)total);
    }
    if (!(dp->offset = psg_alloc(dp->context, offsets))) return psg_fail_memory(dp->context, function, offsets);
    if (!(dp->views = psg_alloc(dp->context, views))) return psg_fail_memory(dp->context, function, views);
    if (!(dp->sums = psg_alloc_zeroed(dp->context, sums))) return psg_fail_memory(dp->context, function, sums);
    return PSG_OK;
}

static void lay_out(psg_dp *dp, const int64_t *param_counts) {
    dp->offset[0] = 0;
    for (size_t k = 0; k < dp->param_count; k++) dp->offset[k + 1] = dp->offset[k] + (size_t)param_counts[k];
}

static psg_status start_accountant(psg_dp *dp) {
    const psg_dp_options *o = &dp->options;
    psg_status status = psg_accountant_init(&dp->accountant, NULL, 0);
    dp->one_release = dp->accountant;
    if (!status) status = psg_accountant_add(&dp->one_release, o->sample_rate, o->noise_multiplier, 1);
    if (status) {
        return psg_fail(dp->context, status,
                        "psg_dp_create: the accountant refuses sample_rate %g, noise_multiplier %g", o->sample_rate,
                        o->noise_multiplier);
    }
    if (psg_generator_is_seeded(dp->generator)) psg_accountant_mark_not_private(&dp->accountant);
    return PSG_OK;
}

static psg_status fill(psg_dp *dp, const int64_t *param_counts) {
    int64_t total;
    if (!dp->options.max_batch_size) {
        dp->options.max_batch_size = default_max_batch_size(dp->options.expected_batch_size);
    }
    psg_status status = check_clipping(dp->context, &dp->options);
    if (!status) status = count_elements(dp->context, param_counts, dp->param_count, &total);
    if (!status) status = take_memory(dp, total);
    if (!status) status = start_accountant(dp);
    if (status) return status;
    lay_out(dp, param_counts);
    dp->owner = dp->generator->next_owner++;
    return PSG_OK;
}

psg_status psg_dp_create(psg_context *context, psg_generator *generator, const psg_dp_options *options,
                         const int64_t *param_counts, size_t param_count, psg_dp **dp) {
    if (!context) return PSG_ERR_ARGUMENT;
    if (!dp) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: dp is NULL, must point to a handle");
    *dp = NULL;
    psg_status status = check_arguments(context, generator, options, param_counts, param_count);
    if (status) return status;
    psg_dp *made = psg_alloc(context, sizeof *made);
    if (!made) return psg_fail_memory(context, "psg_dp_create", sizeof *made);
    *made = (psg_dp){ .context = context, .generator = generator, .options = *options, .param_count = param_count };
    status = fill(made, param_counts);
    if (status) {
        psg_dp_destroy(made);
        return status;
    }
    *dp = made;
    return PSG_OK;
}

/* Sums that were never released are wiped. */
void psg_dp_destroy(psg_dp *dp) {
    if (!dp) return;
    if (dp->sums) sodium_memzero(dp->sums, dp->offset[dp->param_count] * sizeof *dp->sums);
    psg_free(dp->context, dp->sums);
    psg_free(dp->context, dp->views);
    psg_free(dp->context, dp->offset);
    psg_free(dp->context, dp);
}

void psg_dp_set_reduce(psg_dp *dp, psg_dp_reduce reduce, void *user) {
    dp->reduce = reduce;
    dp->reduce_user = user;
}

uint64_t psg_dp_step(const psg_dp *dp) { return dp->accountant.releases; }
const psg_accountant *psg_dp_accountant(const psg_dp *dp) { return &dp->accountant; }

/* ---- accumulation ---- */

/* A view of the sums of parameter k in the shape of its gradient. */
static psg_status view_sums(psg_dp *dp, size_t k, const psg_gradient *gradient) {
    if (!gradient) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_accumulate: gradients[%zu] is NULL, must not be", k);
    }
    bool has_rank = gradient->rank >= 0 && gradient->rank <= PSG_MAX_RANK;
    if (!has_rank || psg_shape_product(gradient->rank, gradient->shape) != (int64_t)psg_dp_elements(dp, k)) {
        char text[PSG_SHAPE_TEXT];
        return psg_fail(dp->context, PSG_ERR_SHAPE,
                        "psg_dp_accumulate: gradients[%zu] has rank %d, shape %s, must have %zu elements", k,
                        gradient->rank, psg_shape_text(has_rank ? gradient->rank : 0, gradient->shape, text),
                        psg_dp_elements(dp, k));
    }
    dp->views[k] = psg_tensor_of(PSG_F64, dp->sums + dp->offset[k], gradient->rank, gradient->shape);
    return PSG_OK;
}

static psg_status check_samples(const psg_dp *dp, int64_t batch_size) {
    if (batch_size < 0) {
        return psg_fail(dp->context, PSG_ERR_BATCH, "psg_dp_accumulate: the batch size is %lld, must be at least 0",
                        (long long)batch_size);
    }
    if (batch_size <= dp->options.max_batch_size - dp->samples) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_STATE,
                    "psg_dp_accumulate: %lld samples after %lld of this step, must be at most max_batch_size %lld",
                    (long long)batch_size, (long long)dp->samples, (long long)dp->options.max_batch_size);
}

static psg_status check_gradients(psg_dp *dp, const psg_gradient *const *gradients, size_t count) {
    if (!gradients || count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_accumulate: count is %zu, must be %zu, one gradient a parameter", gradients ? count : 0,
                        dp->param_count);
    }
    for (size_t k = 0; k < count; k++) {
        psg_status status = view_sums(dp, k, gradients[k]);
        if (status) return status;
    }
    return check_samples(dp, gradients[0]->batch_size);
}

psg_status psg_dp_accumulate(psg_dp *dp, const psg_gradient *const *gradients, size_t count,
                             psg_clip_report *report) {
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_gradients(dp, gradients, count);
    if (status) return status;
    const psg_clip clip = { .max_grad_norm = dp->options.max_grad_norm, .max_batch_size = dp->options.max_batch_size };
    status = psg_clipped_sum(dp->context, gradients, count, &clip, PSG_ACCUMULATE, dp->views, NULL, NULL, report);
    if (!status) dp->samples += gradients[0]->batch_size;
    return status;
}
