/* clipped_sum: norms, clip factors, weighted sum, as one plan. */
#include <float.h>
#include <math.h>

#include "base/floats.h"
#include "base/label.h"
#include "base/reserved.h"
#include "gradient/clipped_sum_on_grid.h"
#include "gradient/plan.h"

/* Each addend goes through at most N + 8 additions of doubles, each off by u of a partial sum, which is at most N C in
 * norm: 2 N gamma_{N+8} C for the two sums that are compared, and a few roundings of the addend itself. */
static double margin_of(int64_t most) {
    double n = (double)most;
    return 2 * n * psg_gamma(PSG_F64, n + 8) + 0x1p-40;
}

int64_t psg_capacity_of(const psg_clip *clip) {
    return clip && clip->max_batch_size > 0 ? clip->max_batch_size : PSG_DEFAULT_MAX_BATCH_SIZE;
}

static psg_status check_clip(psg_context *context, const char *function, const psg_clip *clip, int64_t batch) {
    if (!clip) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: clip is NULL", function);
    if (psg_reserved_is_set(clip->reserved)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: clip" PSG_RESERVED_TEXT, function);
    }
    double bound = clip->max_grad_norm;
    bool none = isinf(bound) && bound > 0 && clip->clipping == PSG_CLIP_FLAT;
    if ((int)clip->clipping < PSG_CLIP_FLAT || clip->clipping > PSG_CLIP_NORMALIZED) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: clipping is %d, must be flat, automatic or normalized",
                        function, (int)clip->clipping);
    }
    if (!(clip->stability >= 0 && isfinite(clip->stability))) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: stability is %g, must be finite and at least 0", function,
                        clip->stability);
    }
    if (!none && !(bound >= 1e-100 && bound <= 1e100)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_grad_norm is %g, must be from 1e-100 to 1e100, or infinity",
                        function, bound);
    }
    if (clip->max_batch_size < 0 || psg_capacity_of(clip) < batch) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_batch_size is %lld, must be at least B = %lld, or 0 for %d",
                        function, (long long)clip->max_batch_size, (long long)batch, PSG_DEFAULT_MAX_BATCH_SIZE);
    }
    return PSG_OK;
}

/* Of sums of doubles. */
static psg_status check_margin(psg_context *context, const char *function, const psg_clip *clip) {
    if (margin_of(psg_capacity_of(clip)) <= 0.5) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_batch_size %lld needs a margin of %.2f for rounding, more "
                    "than half of max_grad_norm", function, (long long)clip->max_batch_size,
                    margin_of(clip->max_batch_size));
}

static psg_status check_outs(const psg_set *set, const psg_clip *clip, psg_write write, const psg_tensor *outs) {
    double most = clip->max_grad_norm * (double)psg_capacity_of(clip);
    if (write == PSG_ACCUMULATE && !clip->max_batch_size) {
        return psg_fail(set->context, PSG_ERR_ARGUMENT, "psg_clipped_sum: max_batch_size is 0, must be given with "
                        "PSG_ACCUMULATE: the samples of all micro-batches");
    }
    for (size_t k = 0; k < set->count; k++) {
        if (outs[k].dtype == PSG_F64 || isinf(most) || most <= (double)FLT_MAX) continue;
        return psg_fail(set->context, PSG_ERR_ARGUMENT, "psg_clipped_sum: max_grad_norm %g times max_batch_size %lld "
                        "leaves the range of %s, f32; use f64", clip->max_grad_norm, (long long)psg_capacity_of(clip),
                        psg_label_at("outs", k, set->gradients[k]->name).text);
    }
    return PSG_OK;
}

/* What a sample adds is at most this, which leaves C for what rounding adds. */
static double limit_of(const psg_clip *clip) { return clip->max_grad_norm * (1 - margin_of(psg_capacity_of(clip))); }

/* Times the norm at most limit.  A gradient of norm 0 may have any. */
static double quotient(const psg_clip *clip, double limit, double norm) {
    if (clip->clipping == PSG_CLIP_AUTOMATIC) return limit / (norm + (clip->stability > 0 ? clip->stability : 0.01));
    if (clip->clipping == PSG_CLIP_NORMALIZED) return norm > limit * 0x1p-900 ? limit / norm : 0;
    return norm > limit ? limit / norm : 1.0;
}

/* A function of a sample's bound and of constants.  A norm beyond 2^900 C is removed like an infinite one: its factor
 * would not be a full double. */
static double factor_of(const psg_clip *clip, double limit, long double upper, psg_clip_report *report) {
    long double norm = sqrtl(upper);
    if (!(norm <= DBL_MAX) || norm * 0x1p-900L > limit) {
        report->removed++;
        return 0;
    }
    report->clipped += norm > clip->max_grad_norm;
    if (norm > report->max_norm) report->max_norm = (double)norm;
    report->mean_norm += (double)norm;
    return quotient(clip, limit, (double)norm);
}

psg_status psg_clip_factors(psg_context *context, const psg_clip *clip, const double *upper, int64_t batch_size,
                            double *factors, psg_clip_report *report) {
    PSG_DEFAULT_FLOATS;
    const char *function = "psg_clip_factors";
    psg_clip_report local = { 0 };
    if (!context) return PSG_ERR_ARGUMENT;
    if (batch_size < 0) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: batch_size is %lld, must be at least 0", function,
                        (long long)batch_size);
    }
    if (batch_size && !upper) return psg_fail_null(context, function, "upper");
    if (batch_size && !factors) return psg_fail_null(context, function, "factors");
    if (check_clip(context, function, clip, batch_size)) return PSG_ERR_ARGUMENT;
    if (check_margin(context, function, clip)) return PSG_ERR_ARGUMENT;
    double limit = limit_of(clip);
    for (int64_t n = 0; n < batch_size; n++) factors[n] = factor_of(clip, limit, upper[n], &local);
    local.mean_norm /= (double)psg_most(1, batch_size - local.removed);
    if (report) *report = local;
    return PSG_OK;
}

void psg_add_upper(int64_t batch_size, const double *upper, double *total) {
    PSG_DEFAULT_FLOATS;
    for (int64_t n = 0; total && n < batch_size; n++) {
        total[n] = upper ? psg_round_up((long double)total[n] + upper[n]) : NAN;
    }
}

static void find_factors(psg_plan *plan, const psg_clip *clip, double limit, double *norms, double *factors,
                         psg_clip_report *report) {
    *report = (psg_clip_report){ 0 };
    psg_plan_norms(plan);
    for (int64_t n = 0; n < plan->batch; n++) {
        double told = psg_round_up(plan->upper[n]);   /* by psg_sqnorm */
        long double bound = isfinite(told) ? told : plan->upper[n];
        if (norms) norms[n] = (double)sqrtl(bound);
        factors[n] = factor_of(clip, limit, bound, report);
    }
    report->mean_norm /= (double)psg_most(1, plan->batch - report->removed);
    report->fallbacks = plan->fallbacks;
}

static double *factors_of(psg_plan *plan, double *given) {
    return given ? given : psg_plan_take(plan, (size_t)plan->batch * sizeof *given);
}

psg_status psg_clipped_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                           const psg_clip *clip, psg_write write, const psg_tensor *outs, double *norms,
                           double *factors, psg_clip_report *report) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_clipped_sum", gradients, count };
    psg_clip_report local;
    psg_plan plan = { .question = PSG_ASK_CLIPPED_SUM, .capacity = psg_capacity_of(clip) };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = check_clip(context, set.function, clip, gradients[0]->batch_size);
    if (!status) status = check_margin(context, set.function, clip);
    if (!status) status = psg_check_write(&set, write);
    if (!status) status = psg_check_tensors(&set, "outs", outs, PSG_ALLOW_F64);
    if (!status) status = check_outs(&set, clip, write, outs);
    if (!status && !(factors = factors_of(&plan, factors))) status = PSG_ERR_MEMORY;
    if (!status) find_factors(&plan, clip, limit_of(clip), norms, factors, &local);
    if (!status) psg_sum_samples(&plan, factors, write, outs);
    if (!status && report) *report = local;
    psg_plan_end(&plan);
    return status;
}

/* Of an addend's roundings before it meets the grid: a few of doubles. */
static const double grid_margin = 0x1p-40;

psg_status psg_clipped_sum_on_grid(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                   const psg_clip *clip, double units, const psg_tensor *outs,
                                   psg_clip_report *report) {
    psg_set set = { context, "psg_dp_accumulate", gradients, count };
    psg_plan plan = { .question = PSG_ASK_CLIPPED_SUM, .capacity = psg_capacity_of(clip), .units = units };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = check_clip(context, set.function, clip, gradients[0]->batch_size);
    double *factors = status ? NULL : factors_of(&plan, NULL);
    if (!status && !factors) status = PSG_ERR_MEMORY;
    if (!status) find_factors(&plan, clip, clip->max_grad_norm * (1 - grid_margin), NULL, factors, report);
    if (!status) psg_sum_on_grid(&plan, factors, clip->max_grad_norm * units, outs);
    psg_plan_end(&plan);
    return status;
}
