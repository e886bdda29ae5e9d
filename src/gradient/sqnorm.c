/* sqnorm: per-sample squared norms with certified upper bounds.
 *
 * Every part returns a value and a bound on its error; the bound of a gradient whose computed norm is v and whose
 * rounding in the real type is at most e is (v + e)^2, which holds for the exact gradient and for any computed one. */
#include <math.h>

#include "gradient/plan.h"

/* Sums of as many doubles as the part has elements, and a few operations more. */
static long double upper_of(const psg_part *part, psg_estimate e) {
    double slack = psg_gamma(PSG_F64, 2 * (double)psg_place_span(&part->place) + 64);
    long double norm = sqrtl(e.square > 0 ? e.square : 0) + e.error;
    return isnan(e.square) ? e.square : norm * norm * (1 + slack);
}

static void run_sample(void *argument, size_t n, unsigned slot) {
    const psg_plan *plan = argument;
    plan->square[n] = plan->upper[n] = 0;
    for (const psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        if (part->is_partner) continue;
        psg_estimate e = part->room->square(part, (int64_t)n, plan->context->workspace[slot]);
        plan->square[n] += e.square;
        plan->upper[n] += upper_of(part, e);
    }
}

void psg_plan_norms(psg_plan *plan) { psg_plan_samples(plan, run_sample, plan); }

double psg_round_up(long double x) {
    double rounded = (double)(x * (1 + 0x1p-52L));
    return rounded < x ? nextafter(rounded, INFINITY) : rounded;
}

psg_status psg_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, double *sqnorm,
                      double *upper, int64_t *fallbacks) {
    psg_set set = { context, "psg_sqnorm", gradients, count };
    psg_plan plan = { .question = PSG_ASK_SQNORM };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = psg_check_array(&set, "sqnorm", sqnorm);
    if (!status) psg_plan_norms(&plan);
    for (int64_t n = 0; !status && n < plan.batch; n++) {
        sqnorm[n] = (double)plan.square[n];
        if (upper) upper[n] = psg_round_up(plan.upper[n]);
    }
    if (!status && fallbacks) *fallbacks = plan.fallbacks;
    psg_plan_end(&plan);
    return status;
}
