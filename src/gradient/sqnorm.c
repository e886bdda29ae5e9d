/* sqnorm: per-sample squared norms with certified upper bounds.
 *
 * Every part returns a value and a bound on its error; the bound of a gradient whose computed norm is v and whose
 * rounding in the real type is at most e is (v + e)^2, which holds for the exact gradient and for any computed one. */
#include <math.h>

#include "base/floats.h"
#include "gradient/plan.h"

static long double upper_of(psg_estimate e) {
    long double norm = sqrtl(e.square > 0 ? e.square : 0) + e.error;
    return isnan(e.square) || e.error == 0 ? e.square : norm * norm;
}

static void add_norms(const psg_part *part, const psg_visit *visit, long double *square, long double *upper) {
    /* Sums of as many doubles as the part has elements, and a few operations more. */
    long double slack = 1 + psg_gamma(PSG_F64, 2 * (double)psg_place_span(&part->place) + 64);
    for (int64_t n = visit->sample; n < visit->last; n++) {
        psg_estimate e = part->room->square(part, n, visit->workspace);
        square[n] += e.square;
        upper[n] += upper_of(e) * slack;
    }
}

static void visit_norms(void *argument, const psg_visit *visit) {
    const psg_plan *plan = argument;
    long double *square = plan->square + visit->run * plan->batch, *upper = plan->upper + visit->run * plan->batch;
    for (int64_t n = visit->sample; n < visit->last; n++) square[n] = upper[n] = 0;
    for (const psg_part *part = visit->first; part < visit->end; part++) {
        if (!part->is_partner) add_norms(part, visit, square, upper);
    }
}

void psg_plan_norms(psg_plan *plan) {
    psg_plan_visit(plan, visit_norms, plan);
    for (int64_t k = plan->batch; k < plan->runs * plan->batch; k++) {
        plan->square[k % plan->batch] += plan->square[k];
        plan->upper[k % plan->batch] += plan->upper[k];
    }
    for (int64_t n = 0; n < plan->batch; n++) {
        if (psg_plan_is_bad(plan, n)) plan->square[n] = plan->upper[n] = NAN;
    }
}

double psg_round_up(long double x) {
    double rounded = (double)(x * (1 + 0x1p-52L));
    return rounded < x ? nextafter(rounded, INFINITY) : rounded;
}

psg_status psg_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, double *sqnorm,
                      double *upper, int64_t *fallbacks) {
    PSG_DEFAULT_FLOATS;
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
