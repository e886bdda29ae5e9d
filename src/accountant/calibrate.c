/* The accountant turned round: one monotone field, or the number of releases, from a budget.
 *
 * epsilon as a function of the sought x (noise, rate, releases) is close to a power of x over small ranges, so that the
 * secant through two evaluations in logarithms converges in a few steps; the answer is always a point that was seen to
 * fit. */
#include <float.h>
#include <math.h>

#include "base/context.h"
#include "privacy.h"

#define LARGEST_NOISE 1e6
#define MOST_EVALUATIONS 40 /* of the search: a bracket by doubling, then a few steps */

/* ---- the search ---- */

typedef struct search {
    psg_accountant *accountant; /* what there is before; copied for each try */
    const char *function;
    const psg_event *event;
    uint64_t releases;
    double epsilon, delta;
    enum { NOISE, RATE, RELEASES } sought;
} search;

static psg_status try_event(const search *s, double x, double *epsilon) {
    psg_accountant *a;
    psg_privacy privacy;
    psg_event event = *s->event;
    psg_status status = psg_accountant_copy(s->accountant, &a);
    if (status) return status;
    if (s->sought == NOISE) event.noise_multiplier = x;
    if (s->sought == RATE) event.sample_rate = x;
    status = psg_accountant_add(a, &event, s->sought == RELEASES ? (uint64_t)x : s->releases);
    if (!status) status = psg_privacy_epsilon(a, s->function, s->delta, 0, &privacy);
    psg_accountant_destroy(a);
    if (!status) *epsilon = privacy.epsilon;
    return status;
}

/* A point where the budget holds, one where it does not, and their epsilons; NAN where there is none yet. */
typedef struct bracket {
    double fits, fits_epsilon, exceeds, exceeds_epsilon;
} bracket;

static void note(const search *s, bracket *b, double x, double epsilon) {
    if (epsilon <= s->epsilon) {
        b->fits = x;
        b->fits_epsilon = epsilon;
    } else {
        b->exceeds = x;
        b->exceeds_epsilon = epsilon;
    }
}

static int is_close(const search *s, const bracket *b) {
    double gap = fabs(b->exceeds - b->fits);
    if (s->sought == RELEASES) return gap <= 1 || gap <= 5e-4 * b->fits;
    return gap <= 5e-5 * b->fits || b->fits_epsilon >= s->epsilon * (1 - 2e-5);
}

/* The secant in logarithms, a little on the side that fits; the middle where it leads nowhere. */
static double next_try(const search *s, const bracket *b) {
    double fits = log(b->fits), exceeds = log(b->exceeds), middle = 0.5 * (fits + exceeds);
    double from = log(b->fits_epsilon), to = log(b->exceeds_epsilon);
    double share = (log(s->epsilon) - from - 5e-6) / (to - from);
    double t = isfinite(share) && share > 0 && share < 1 ? fits + share * (exceeds - fits) : middle;
    double x = exp(t);
    if (s->sought != RELEASES) return x;
    return fmin(fmax(floor(x), fmin(b->fits, b->exceeds) + 1), fmax(b->fits, b->exceeds) - 1);
}

static psg_status narrow(const search *s, bracket *b) {
    psg_status status = PSG_OK;
    for (int k = 0; !status && !is_close(s, b) && k < MOST_EVALUATIONS; k++) {
        double epsilon, x = k % 3 == 2 ? exp(0.5 * (log(b->fits) + log(b->exceeds))) : next_try(s, b);
        if (s->sought == RELEASES) x = floor(x);
        if (x == b->fits || x == b->exceeds) break;
        status = try_event(s, x, &epsilon);
        if (!status) note(s, b, x, epsilon);
    }
    return status;
}

/* Steps by growing factors from `start` until both sides are known or the end of the range is.  up: epsilon grows with
 * x. */
static psg_status find_bracket(const search *s, int up, double start, double least, double most, bracket *b) {
    double x = start, factor = 2;
    *b = (bracket){ NAN, NAN, NAN, NAN };
    for (;;) {
        double epsilon;
        psg_status status = try_event(s, x, &epsilon);
        if (status) return status;
        note(s, b, x, epsilon);
        if (!isnan(b->fits) && !isnan(b->exceeds)) return PSG_OK;
        int upwards = isnan(b->exceeds) == up;
        double next = upwards ? fmin(x * factor, most) : fmax(x / factor, least);
        if (s->sought == RELEASES) next = floor(next);
        if (next == x) return PSG_OK;
        x = next;
        factor *= factor < 1e3 ? factor : 1;
    }
}

/* ---- arguments ---- */

static psg_status check_budget(psg_context *context, const char *function, double epsilon, double delta,
                               const void *out) {
    if (!out) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: the result is NULL, must not be", function);
    if (!(epsilon > 0 && isfinite(epsilon))) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: epsilon is %g, must be finite and above 0", function, epsilon);
    }
    if (delta > 0 && delta < 1) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: delta is %g, must be in (0, 1)", function, delta);
}

static psg_status refuse_budget(const search *s, const char *what) {
    return psg_fail(s->accountant->context, PSG_ERR_NUMERIC, "%s: %s keeps epsilon below %g at delta %g", s->function,
                    what, s->epsilon, s->delta);
}

/* ---- noise and rate ---- */

static psg_status search_noise(const search *s, double *noise_multiplier) {
    bracket b;
    double epsilon;
    psg_status status = try_event(s, 0, &epsilon);
    if (status) return status;
    if (epsilon <= s->epsilon) {
        *noise_multiplier = 0;
        return PSG_OK;
    }
    status = find_bracket(s, 0, 1, DBL_MIN, LARGEST_NOISE, &b);
    if (!status && isnan(b.fits)) return refuse_budget(s, "no noise_multiplier up to 1e6");
    if (!status && !isnan(b.exceeds)) status = narrow(s, &b);
    if (!status) *noise_multiplier = b.fits;
    return status;
}

static psg_status search_rate(const search *s, double *sample_rate) {
    bracket b;
    psg_status status = find_bracket(s, 1, 1, DBL_MIN, 1, &b);
    if (!status && isnan(b.fits)) return refuse_budget(s, "no sample_rate");
    if (!status && !isnan(b.exceeds)) status = narrow(s, &b);
    if (!status) *sample_rate = b.fits;
    return status;
}

typedef psg_status (*field_search)(const search *s, double *value);

static psg_status calibrate(const search *s, psg_context *context, psg_relation relation, field_search find,
                            double *value) {
    search own = *s;
    psg_status status = psg_accountant_create(context, relation, &own.accountant);
    if (status) return status;
    status = find(&own, value);
    psg_accountant_destroy(own.accountant);
    return status;
}

psg_status psg_calibrate_noise(psg_context *context, const psg_event *event, uint64_t releases, psg_relation relation,
                               double epsilon, double delta, double *noise_multiplier) {
    const search s = { NULL, "psg_calibrate_noise", event, releases, epsilon, delta, NOISE };
    if (!context) return PSG_ERR_ARGUMENT;
    psg_status status = check_budget(context, s.function, epsilon, delta, noise_multiplier);
    if (!status && !event) status = psg_event_check(context, s.function, event, relation);
    return status ? status : calibrate(&s, context, relation, search_noise, noise_multiplier);
}

psg_status psg_calibrate_rate(psg_context *context, const psg_event *event, uint64_t releases, psg_relation relation,
                              double epsilon, double delta, double *sample_rate) {
    const search s = { NULL, "psg_calibrate_rate", event, releases, epsilon, delta, RATE };
    if (!context) return PSG_ERR_ARGUMENT;
    psg_status status = check_budget(context, s.function, epsilon, delta, sample_rate);
    if (!status && !event) status = psg_event_check(context, s.function, event, relation);
    return status ? status : calibrate(&s, context, relation, search_rate, sample_rate);
}

/* ---- releases ---- */

#define MOST_RELEASES 0x1p53 /* the whole numbers that doubles count; more are no limit */

static psg_status search_releases(const search *s, uint64_t *releases) {
    bracket b;
    double epsilon;
    psg_status status = try_event(s, MOST_RELEASES, &epsilon);
    if (status) return status;
    if (epsilon <= s->epsilon) {
        *releases = UINT64_MAX;
        return PSG_OK;
    }
    *releases = 0;
    status = try_event(s, 0, &epsilon);
    if (status || epsilon > s->epsilon) return status;
    status = find_bracket(s, 1, 1, 1, MOST_RELEASES, &b);
    if (status || isnan(b.fits)) return status;
    status = narrow(s, &b);
    if (!status) *releases = (uint64_t)b.fits;
    return status;
}

psg_status psg_accountant_remaining(const psg_accountant *accountant, const psg_event *event, double epsilon,
                                    double delta, uint64_t *releases) {
    if (!accountant) return PSG_ERR_ARGUMENT;
    search s = { NULL, "psg_accountant_remaining", event, 0, epsilon, delta, RELEASES };
    psg_status status = check_budget(accountant->context, s.function, epsilon, delta, releases);
    if (!status) status = psg_event_check(accountant->context, s.function, event, accountant->relation);
    if (!status) status = psg_accountant_copy(accountant, &s.accountant);
    if (status) return status;
    status = search_releases(&s, releases);
    psg_accountant_destroy(s.accountant);
    return status;
}

psg_status psg_calibrate_steps(psg_context *context, const psg_event *event, psg_relation relation, double epsilon,
                               double delta, uint64_t *releases) {
    search s = { NULL, "psg_calibrate_steps", event, 0, epsilon, delta, RELEASES };
    if (!context) return PSG_ERR_ARGUMENT;
    psg_status status = check_budget(context, s.function, epsilon, delta, releases);
    if (!status) status = psg_event_check(context, s.function, event, relation);
    if (!status) status = psg_accountant_create(context, relation, &s.accountant);
    if (status) return status;
    status = search_releases(&s, releases);
    psg_accountant_destroy(s.accountant);
    return status;
}
