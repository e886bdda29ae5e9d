/* clipped_sum: norms, clip factors, weighted sum, as one plan. */
#include <math.h>

#include "gradient/factored.h"
#include "gradient/grad_sample.h"
#include "gradient/plan.h"
#include "gradient/sqnorm.h"
#include "gradient/weighted_sum.h"

/* Arrays of the question, in the context's scratch. */
typedef struct arrays {
    double *sqnorm, *upper, *room, *factors;   /* B each */
    double *squares;                    /* partial sums of the kept gradient under way */
} arrays;

typedef struct clip_job {
    psg_context *context;
    const psg_gradient *const *gradients;
    size_t count;
    psg_clip clip;
    psg_write write;
    const psg_tensor *outs;
    arrays a;
    char *kept;          /* the budget's memory; kept gradients one after another */
    size_t kept_bytes;
} clip_job;

/* The budget is given to gradients in their order; *used is what those before k hold. */
static bool keeps(const clip_job *j, size_t k, size_t *used) {
    const psg_context *context = j->context;
    if (psg_plan_clip(context, j->gradients[k], context->memory_budget - *used) != PSG_ROUTE_KEEP) return false;
    *used += psg_keep_bytes(j->gradients[k]);
    return true;
}

static psg_status take_memory(clip_job *j, double *factors) {
    size_t batch = (size_t)j->gradients[0]->batch_size, parts = 0;
    for (size_t k = 0; k < j->count; k++) {
        if (!keeps(j, k, &j->kept_bytes)) continue;
        size_t more = psg_kept_parts(j->gradients[k]);
        if (more > parts) parts = more;
    }
    size_t bytes = (4 + parts) * batch * sizeof(double);
    double *scratch = psg_scratch(j->context, bytes);
    if (!scratch) return psg_fail_memory(j->context, "psg_clipped_sum", bytes);
    j->a = (arrays){ scratch, scratch + batch, scratch + 2 * batch, factors ? factors : scratch + 3 * batch,
                     scratch + 4 * batch };
    if (j->kept_bytes) {
        j->kept = psg_budget_memory(j->context, j->kept_bytes);
        if (!j->kept) return psg_fail_memory(j->context, "psg_clipped_sum", j->kept_bytes);
    }
    return PSG_OK;
}

static void compute_norms(clip_job *j, int64_t *fallbacks) {
    size_t used = 0;
    for (int64_t n = 0; n < j->gradients[0]->batch_size; n++) {
        j->a.sqnorm[n] = j->a.upper[n] = j->a.room[n] = 0;
    }
    for (size_t k = 0; k < j->count; k++) {
        char *kept = j->kept + used;
        if (!keeps(j, k, &used)) {
            psg_add_sqnorm(j->context, j->gradients, j->count, k, j->a.sqnorm, j->a.upper, j->a.room,
                           fallbacks);
            continue;
        }
        psg_keep_with_squares(j->context, j->gradients[k], kept, j->a.squares);
        psg_add_kept_sqnorm(j->context, j->gradients[k], j->a.squares, psg_kept_parts(j->gradients[k]), j->a.sqnorm,
                            j->a.upper);
        size_t partner = psg_plan_partner(j->gradients, j->count, k);
        if (partner < j->count) {   /* its weight does not answer for it here */
            psg_add_sqnorm(j->context, &j->gradients[partner], 1, 0, j->a.sqnorm, j->a.upper, j->a.room,
                           fallbacks);
        }
    }
}

/* What the sum's own rounding may add, for the type and the largest batch. */
static double margin_of(const clip_job *j) {
    int64_t batch = j->clip.max_batch_size ? j->clip.max_batch_size : j->gradients[0]->batch_size;
    return 2 * psg_gamma(j->gradients[0]->dtype, PSG_SAMPLES_A_FLUSH + 1) * (double)batch + 0x1p-22;
}

static void compute_factors(const clip_job *j, double limit, double *norms, psg_clip_report *report) {
    double total = 0;
    int64_t batch = j->gradients[0]->batch_size;
    for (int64_t n = 0; n < batch; n++) {
        double norm = sqrt(j->a.upper[n]), most = limit - j->a.room[n];
        if (norms) norms[n] = norm;
        if (!isfinite(norm) || (norm > most && most <= 0)) {
            j->a.factors[n] = 0;
            report->removed++;
            continue;
        }
        j->a.factors[n] = norm > most ? most / norm : 1.0;
        report->clipped += norm > j->clip.max_grad_norm;
        if (norm > report->max_norm) report->max_norm = norm;
        total += norm;
    }
    if (batch > report->removed) report->mean_norm = total / (double)(batch - report->removed);
}

static void sum_all(const clip_job *j) {
    size_t used = 0;
    for (size_t k = 0; k < j->count; k++) {
        const char *kept = j->kept + used;
        if (keeps(j, k, &used)) {
            psg_sum_kept(j->context, j->gradients[k], kept, j->a.factors, j->write, &j->outs[k]);
        } else {
            psg_sum_gradient(j->context, j->gradients[k], j->a.factors, j->write, &j->outs[k]);
        }
    }
}

static psg_status check_clip(psg_context *context, const psg_clip *clip, int64_t batch) {
    if (!clip) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_clipped_sum: clip is NULL");
    if (!(clip->max_grad_norm > 0)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_clipped_sum: max_grad_norm is %g, must be > 0",
                        clip->max_grad_norm);
    }
    if (clip->max_batch_size < 0 || (clip->max_batch_size && clip->max_batch_size < batch)) {
        return psg_fail(context, PSG_ERR_ARGUMENT,
                        "psg_clipped_sum: max_batch_size is %lld, must be 0 or at least B = %lld",
                        (long long)clip->max_batch_size, (long long)batch);
    }
    return PSG_OK;
}

psg_status psg_clipped_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                           const psg_clip *clip, psg_write write, const psg_tensor *outs, double *norms,
                           double *factors, psg_clip_report *report) {
    psg_status status = psg_check_questions(context, "psg_clipped_sum", gradients, count);
    if (!status) status = check_clip(context, clip, gradients[0]->batch_size);
    if (!status) status = psg_check_write(context, "psg_clipped_sum", write);
    if (!status) status = psg_check_tensors(context, "psg_clipped_sum", "outs", gradients, count, outs, true);
    if (status) return status;
    clip_job j = { .context = context, .gradients = gradients, .count = count, .clip = *clip, .write = write,
                   .outs = outs };
    double margin = margin_of(&j);
    if (!(margin <= 0.5)) {
        return psg_fail(context, PSG_ERR_ARGUMENT,
                        "psg_clipped_sum: max_batch_size %lld needs a margin of %.2f for rounding, more than half of "
                        "max_grad_norm; use smaller batches or f64", (long long)clip->max_batch_size, margin);
    }
    status = take_memory(&j, factors);
    if (status) return status;
    psg_clip_report local = { 0, 0, 0, 0, 0 };
    double limit = clip->max_grad_norm * (1 - margin);
    compute_norms(&j, &local.fallbacks);
    compute_factors(&j, limit, norms, &local);
    sum_all(&j);
    if (report) *report = local;
    return PSG_OK;
}
