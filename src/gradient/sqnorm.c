/* sqnorm: per-sample squared norms with certified upper bounds.
 *
 * Every part returns a value and a bound on its error; the bound of a gradient whose computed norm is v and whose
 * rounding in the real type is at most e is (v + e)^2, which holds for the exact gradient and for any computed one. */
#include <math.h>

#include "gradient/plan.h"

typedef struct norm_job {
    const psg_plan *plan;
    long double *square, *upper;
} norm_job;

/* Sums of as many doubles as the part has elements, and a few operations more. */
static long double upper_of(const psg_part *part, psg_estimate e) {
    double slack = psg_gamma(PSG_F64, 2 * (double)psg_place_span(&part->place) + 64);
    long double norm = sqrtl(e.square > 0 ? e.square : 0) + e.error;
    return isnan(e.square) ? e.square : norm * norm * (1 + slack);
}

static void run_sample(void *argument, size_t n, unsigned slot) {
    const norm_job *j = argument;
    void *workspace = j->plan->context->workspace[slot];
    j->square[n] = j->upper[n] = 0;
    for (size_t k = 0; k < j->plan->part_count; k++) {
        const psg_part *part = &j->plan->parts[k];
        if (part->is_partner) continue;
        psg_estimate e = part->room->square(part, (int64_t)n, workspace);
        j->square[n] += e.square;
        j->upper[n] += upper_of(part, e);
    }
}

void psg_add_norms(psg_plan *plan, long double *square, long double *upper) {
    norm_job job = { plan, square, upper };
    psg_plan_samples(plan, run_sample, &job);
}

double psg_round_up(long double x) {
    double rounded = (double)(x * (1 + 0x1p-52L));
    return rounded < x ? nextafter(rounded, INFINITY) : rounded;
}

psg_status psg_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, double *sqnorm,
                      double *upper, int64_t *fallbacks) {
    psg_set set = { context, "psg_sqnorm", gradients, count };
    psg_plan plan = { .question = PSG_ASK_SQNORM };
    psg_status status = psg_check_set(&set, false);
    if (!status) status = psg_check_array(&set, "sqnorm", sqnorm);
    if (!status) status = psg_plan_make(&set, &plan);
    if (status) return status;
    size_t batch = (size_t)plan.batch;
    long double *sums = psg_plan_take(&plan, 2 * batch * sizeof *sums);
    if (!sums) return PSG_ERR_MEMORY;
    psg_add_norms(&plan, sums, sums + batch);
    for (size_t n = 0; n < batch; n++) {
        sqnorm[n] = (double)sums[n];
        if (upper) upper[n] = psg_round_up(sums[batch + n]);
    }
    if (fallbacks) *fallbacks = plan.fallbacks;
    psg_plan_end(&plan);
    return PSG_OK;
}
