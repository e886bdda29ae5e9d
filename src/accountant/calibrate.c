/* The accountant turned round: one monotone field, or the number of releases, from a budget. */
#include <float.h>
#include <math.h>

#include "base/context.h"
#include "base/floats.h"
#include "budget_search.h"

#define LARGEST_NOISE 1e6
#define MOST_RELEASES 0x1p53 /* the whole numbers that doubles count; more are no limit */

/* ---- arguments ---- */

static psg_status check_budget(psg_context *context, const char *function, double epsilon, double delta,
                               const void *out) {
    if (!out) return psg_fail_null(context, function, "the result");
    if (!(epsilon > 0 && isfinite(epsilon))) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: epsilon is %g, must be finite and above 0", function, epsilon);
    }
    if (delta > 0 && delta < 1) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: delta is %g, must be in (0, 1)", function, delta);
}

/* The event with something valid in the place of what is sought. */
static psg_status check_event(psg_context *context, const psg_budget *b, psg_relation relation) {
    if (!b->event) return psg_event_check(context, b->function, NULL, relation);
    psg_event event = *b->event;
    if (b->sought == PSG_SOUGHT_NOISE) event.noise_multiplier = 1;
    if (b->sought == PSG_SOUGHT_RATE) event.sample_rate = 1;
    return psg_event_check(context, b->function, &event, relation);
}

static psg_status refuse_budget(const psg_budget *b, const char *what) {
    return psg_fail(b->spent->context, PSG_ERR_NUMERIC, "%s: %s keeps epsilon at or below %g at delta %g", b->function,
                    what, b->epsilon, b->delta);
}

/* ---- one field ---- */

static psg_status search_noise(const psg_budget *b, double *noise_multiplier) {
    double epsilon, noise = 0;
    psg_status status = psg_budget_try(b, 0, PSG_EFFORT_QUICK, &epsilon);
    if (!status && epsilon > b->epsilon) status = psg_budget_search(b, DBL_MIN, LARGEST_NOISE, &noise);
    if (!status && isnan(noise)) return refuse_budget(b, "no noise_multiplier up to 1e6");
    if (!status) *noise_multiplier = noise;
    return status;
}

static psg_status search_rate(const psg_budget *b, double *sample_rate) {
    double rate;
    psg_status status = psg_budget_search(b, DBL_MIN, 1, &rate);
    if (!status && isnan(rate)) return refuse_budget(b, "no sample_rate");
    if (!status) *sample_rate = rate;
    return status;
}

static psg_status search_releases(const psg_budget *b, uint64_t *releases) {
    double epsilon, number;
    psg_status status = psg_budget_try(b, MOST_RELEASES, PSG_EFFORT_QUICK, &epsilon);
    if (status) return status;
    if (epsilon <= b->epsilon) {
        *releases = UINT64_MAX;
        return PSG_OK;
    }
    status = psg_budget_search(b, 1, MOST_RELEASES, &number);
    if (!status) *releases = isnan(number) ? 0 : (uint64_t)number;
    return status;
}

/* ---- public ---- */

typedef psg_status (*field_search)(const psg_budget *budget, double *value);

static psg_status calibrate(psg_budget *b, psg_context *context, psg_relation relation, field_search find,
                            double *value) {
    psg_accountant *nothing;
    if (!context) return PSG_ERR_ARGUMENT;
    psg_status status = check_budget(context, b->function, b->epsilon, b->delta, value);
    if (!status) status = check_event(context, b, relation);
    if (!status) status = psg_accountant_create(context, relation, &nothing);
    if (status) return status;
    b->spent = nothing;
    status = find(b, value);
    psg_accountant_destroy(nothing);
    return status;
}

psg_status psg_calibrate_noise(psg_context *context, const psg_event *event, uint64_t releases, psg_relation relation,
                               double epsilon, double delta, double *noise_multiplier) {
    PSG_DEFAULT_FLOATS;
    psg_budget b = { NULL, "psg_calibrate_noise", event, releases, epsilon, delta, PSG_SOUGHT_NOISE };
    return calibrate(&b, context, relation, search_noise, noise_multiplier);
}

psg_status psg_calibrate_rate(psg_context *context, const psg_event *event, uint64_t releases, psg_relation relation,
                              double epsilon, double delta, double *sample_rate) {
    PSG_DEFAULT_FLOATS;
    psg_budget b = { NULL, "psg_calibrate_rate", event, releases, epsilon, delta, PSG_SOUGHT_RATE };
    return calibrate(&b, context, relation, search_rate, sample_rate);
}

psg_status psg_accountant_remaining(const psg_accountant *accountant, const psg_event *event, double epsilon,
                                    double delta, uint64_t *releases) {
    PSG_DEFAULT_FLOATS;
    if (!accountant) return PSG_ERR_ARGUMENT;
    const psg_budget b = { accountant, "psg_accountant_remaining", event, 0, epsilon, delta, PSG_SOUGHT_RELEASES };
    psg_status status = check_budget(accountant->context, b.function, epsilon, delta, releases);
    if (!status) status = check_event(accountant->context, &b, accountant->relation);
    return status ? status : search_releases(&b, releases);
}

psg_status psg_calibrate_steps(psg_context *context, const psg_event *event, psg_relation relation, double epsilon,
                               double delta, uint64_t *releases) {
    PSG_DEFAULT_FLOATS;
    psg_accountant *nothing;
    if (!context) return PSG_ERR_ARGUMENT;
    psg_status status = check_budget(context, "psg_calibrate_steps", epsilon, delta, releases);
    if (!status) status = psg_accountant_create(context, relation, &nothing);
    if (status) return status;
    status = psg_accountant_remaining(nothing, event, epsilon, delta, releases);
    psg_accountant_destroy(nothing);
    return status;
}
