/* clipped_sum: norms, clip factors, weighted sum, as one plan. */
#include <float.h>
#include <math.h>

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
    double bound = clip->max_grad_norm;
    if (!(isinf(bound) && bound > 0) && !(bound >= 1e-100 && bound <= 1e100)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_grad_norm is %g, must be from 1e-100 to 1e100, or infinity",
                        function, bound);
    }
    if (clip->max_batch_size < 0 || psg_capacity_of(clip) < batch) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_batch_size is %lld, must be at least B = %lld, or 0 for %d",
                        function, (long long)clip->max_batch_size, (long long)batch, PSG_DEFAULT_MAX_BATCH_SIZE);
    }
    if (margin_of(psg_capacity_of(clip)) <= 0.5) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_batch_size %lld needs a margin of %.2f for rounding, more "
                    "than half of max_grad_norm", function, (long long)clip->max_batch_size,
                    margin_of(clip->max_batch_size));
}

static psg_status check_outs(psg_context *context, const psg_clip *clip, psg_write write, size_t count,
                             const psg_tensor *outs) {
    double most = clip->max_grad_norm * (double)psg_capacity_of(clip);
    if (write == PSG_ACCUMULATE && !clip->max_batch_size) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_clipped_sum: max_batch_size is 0, must be given with "
                        "PSG_ACCUMULATE: the samples of all micro-batches");
    }
    for (size_t k = 0; k < count; k++) {
        if (outs[k].dtype == PSG_F64 || isinf(most) || most <= (double)FLT_MAX) continue;
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_clipped_sum: max_grad_norm %g times max_batch_size %lld leaves "
                        "the range of outs[%zu], f32; use f64", clip->max_grad_norm,
                        (long long)psg_capacity_of(clip), k);
    }
    return PSG_OK;
}

/* A function of a sample's bound and of constants.  A norm beyond 2^900 C is removed like an infinite one: its factor
 * would not be a full double. */
static double factor_of(const psg_clip *clip, long double upper, psg_clip_report *report) {
    double limit = clip->max_grad_norm * (1 - margin_of(psg_capacity_of(clip)));
    long double norm = sqrtl(upper);
    if (!(norm <= DBL_MAX) || norm * 0x1p-900L > limit) {
        report->removed++;
        return 0;
    }
    report->clipped += norm > clip->max_grad_norm;
    if (norm > report->max_norm) report->max_norm = (double)norm;
    report->mean_norm += (double)norm;
    return norm > limit ? limit / (double)norm : 1.0;
}

psg_status psg_clip_factors(psg_context *context, const psg_clip *clip, const double *upper, int64_t batch_size,
                            double *factors, psg_clip_report *report) {
    const char *function = "psg_clip_factors";
    psg_clip_report local = { 0, 0, 0, 0, 0 };
    if (!context) return PSG_ERR_ARGUMENT;
    if (batch_size < 0 || (batch_size && (!upper || !factors))) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: upper or factors is NULL, or batch_size %lld below 0", function,
                        (long long)batch_size);
    }
    if (check_clip(context, function, clip, batch_size)) return PSG_ERR_ARGUMENT;
    for (int64_t n = 0; n < batch_size; n++) factors[n] = factor_of(clip, upper[n], &local);
    local.mean_norm /= (double)psg_most(1, batch_size - local.removed);
    if (report) *report = local;
    return PSG_OK;
}

void psg_add_upper(int64_t batch_size, const double *upper, double *total) {
    for (int64_t n = 0; n < batch_size; n++) total[n] = psg_round_up((long double)total[n] + upper[n]);
}

static psg_status clip_and_sum(psg_plan *plan, const psg_clip *clip, psg_write write, const psg_tensor *outs,
                               double *norms, double *factors, psg_clip_report *report) {
    if (!factors) factors = psg_plan_take(plan, (size_t)plan->batch * sizeof *factors);
    if (!factors) return PSG_ERR_MEMORY;
    psg_plan_norms(plan);
    for (int64_t n = 0; n < plan->batch; n++) {
        double told = psg_round_up(plan->upper[n]);   /* by psg_sqnorm */
        long double bound = isfinite(told) ? told : plan->upper[n];
        if (norms) norms[n] = (double)sqrtl(bound);
        factors[n] = factor_of(clip, bound, report);
    }
    report->mean_norm /= (double)psg_most(1, plan->batch - report->removed);
    report->fallbacks = plan->fallbacks;
    psg_sum_samples(plan, factors, write, outs);
    return PSG_OK;
}

psg_status psg_clipped_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                           const psg_clip *clip, psg_write write, const psg_tensor *outs, double *norms,
                           double *factors, psg_clip_report *report) {
    psg_set set = { context, "psg_clipped_sum", gradients, count };
    psg_clip_report local = { 0, 0, 0, 0, 0 };
    psg_plan plan = { .question = PSG_ASK_CLIPPED_SUM, .capacity = psg_capacity_of(clip) };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = check_clip(context, set.function, clip, gradients[0]->batch_size);
    if (!status) status = psg_check_write(&set, write);
    if (!status) status = psg_check_tensors(&set, "outs", outs, PSG_ALLOW_F64);
    if (!status) status = check_outs(context, clip, write, count, outs);
    if (!status) status = clip_and_sum(&plan, clip, write, outs, norms, factors, &local);
    if (!status && report) *report = local;
    psg_plan_end(&plan);
    return status;
}
