/* RDP is a thousand times cheaper than a privacy loss distribution and a steady factor above it, so that RDP leads: its
 * own answer fits; the answer for the budget times that factor is close.  What is left is a few steps of the secant in
 * logarithms, in which epsilon is nearly a power of x. */
#include "budget_search.h"

#include <math.h>

#define MOST_STEPS 60 /* of one search; the distributions need about 4 */

psg_status psg_budget_try(const psg_budget *budget, double x, psg_effort effort, double *epsilon) {
    psg_accountant *a;
    psg_privacy privacy;
    psg_event event = *budget->event;
    psg_status status = psg_accountant_copy(budget->spent, &a);
    if (status) return status;
    if (budget->sought == PSG_SOUGHT_NOISE) event.noise_multiplier = x;
    if (budget->sought == PSG_SOUGHT_RATE) event.sample_rate = x;
    status = psg_accountant_add(a, &event, budget->sought == PSG_SOUGHT_RELEASES ? (uint64_t)x : budget->releases);
    if (!status) status = psg_privacy_epsilon(a, budget->function, budget->delta, effort, &privacy);
    psg_accountant_destroy(a);
    if (!status) *epsilon = privacy.epsilon;
    return status;
}

/* ---- a bracket ---- */

/* A point that fits the budget, one that exceeds it, and their epsilons; NAN where there is none yet. */
typedef struct bracket {
    const psg_budget *budget;
    double epsilon; /* of the budget */
    psg_effort effort;
    double least, most;
    double fits, fits_epsilon, exceeds, exceeds_epsilon;
} bracket;

static bracket bracket_of(const psg_budget *budget, double epsilon, psg_effort effort, double least, double most) {
    return (bracket){ budget, epsilon, effort, least, most, NAN, NAN, NAN, NAN };
}

static int is_whole(const bracket *b) { return b->budget->sought == PSG_SOUGHT_RELEASES; }

static psg_status probe(bracket *b, double x) {
    double epsilon;
    psg_status status = psg_budget_try(b->budget, x, b->effort, &epsilon);
    if (status) return status;
    if (epsilon <= b->epsilon) b->fits = x, b->fits_epsilon = epsilon;
    else b->exceeds = x, b->exceeds_epsilon = epsilon;
    return PSG_OK;
}

static int is_closed(const bracket *b) { return !isnan(b->fits) && !isnan(b->exceeds); }

/* Towards the side that is missing, by growing factors; ends at the end of the range. */
static psg_status close_bracket(bracket *b, double factor) {
    psg_status status = PSG_OK;
    double from = isnan(b->fits) ? b->exceeds : b->fits;
    while (!status && !is_closed(b)) {
        int up = isnan(b->exceeds) == (b->budget->sought != PSG_SOUGHT_NOISE);
        double next = up ? fmin(from * factor, b->most) : fmax(from / factor, b->least);
        if (is_whole(b)) next = up ? fmin(fmax(floor(next), from + 1), b->most) : fmax(floor(next), b->least);
        if (next == from) break;
        status = probe(b, from = next);
        factor = fmin(factor * factor, 1e6);
    }
    return status;
}

/* ---- narrowing ---- */

static int is_close(const bracket *b) {
    double gap = fabs(b->exceeds - b->fits);
    if (is_whole(b)) return gap <= 1 || gap <= 5e-4 * b->fits;
    return gap <= 5e-5 * b->fits || b->fits_epsilon >= b->epsilon * (1 - 2e-5);
}

/* The secant in logarithms, a little on the side that fits; `step` % 3 == 2: the middle. */
static double next_point(const bracket *b, int step) {
    double fits = log(b->fits), exceeds = log(b->exceeds), from = log(b->fits_epsilon);
    double share = (log(b->epsilon) - from - 4e-6) / (log(b->exceeds_epsilon) - from);
    if (!(share > 0 && share < 1) || step % 3 == 2) share = 0.5;
    double x = exp(fits + share * (exceeds - fits));
    return is_whole(b) ? fmin(fmax(floor(x), fmin(b->fits, b->exceeds) + 1), fmax(b->fits, b->exceeds) - 1) : x;
}

static psg_status narrow(bracket *b) {
    psg_status status = PSG_OK;
    for (int step = 0; !status && !is_close(b) && step < MOST_STEPS; step++) {
        double x = next_point(b, step);
        if (x == b->fits || x == b->exceeds) break;
        status = probe(b, x);
    }
    return status;
}

/* ---- RDP leads ---- */

/* The end of a budget of `epsilon` by RDP alone, or the end of the range. */
static psg_status lead(const psg_budget *budget, double epsilon, double start, double least, double most, double *x) {
    bracket b = bracket_of(budget, epsilon, PSG_EFFORT_QUICK, least, most);
    psg_status status = probe(&b, fmin(fmax(start, least), most));
    if (!status) status = close_bracket(&b, 2);
    if (!status && is_closed(&b)) status = narrow(&b);
    *x = isnan(b.fits) ? b.exceeds : b.fits;
    return status;
}

psg_status psg_budget_search(const psg_budget *budget, double least, double most, double *x) {
    bracket b = bracket_of(budget, budget->epsilon, PSG_EFFORT_UPPER, least, most);
    double first, second;
    psg_status status = lead(budget, budget->epsilon, 1, least, most, &first);
    if (!status) status = probe(&b, first);
    if (status) return status;
    double found = isnan(b.fits) ? b.exceeds_epsilon : b.fits_epsilon, quick;
    status = psg_budget_try(budget, first, PSG_EFFORT_QUICK, &quick);
    if (!status) status = lead(budget, budget->epsilon * fmax(quick / found, 1e-3), first, least, most, &second);
    if (!status && second != first) status = probe(&b, second);
    if (!status) status = close_bracket(&b, 1.002);
    if (!status && is_closed(&b)) status = narrow(&b);
    if (!status) *x = b.fits;
    return status;
}
