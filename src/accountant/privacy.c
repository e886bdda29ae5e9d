/* The smallest of all bounds that hold. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "composition.h"
#include "curve.h"
#include "gaussian_mechanism.h"
#include "numeric.h"
#include "pld.h"
#include "privacy.h"

static int nothing_was_released(const psg_composition *c) {
    return !c->unbounded && c->squared_mu == 0 && c->rho == 0 && c->part_count == 0;
}

static int is_gaussian(const psg_composition *c) { return c->part_count == 0 && c->rho == 0; }

/* ---- epsilon, residues left out ---- */

static void take(psg_privacy *best, double epsilon, const char *name, double order) {
    if (!(epsilon < best->epsilon)) return;
    best->epsilon = epsilon;
    best->accountant = name;
    best->order = order;
    best->interval = 0;
}

/* All but the privacy loss distributions, which take longer. */
static psg_status quick_epsilon(const psg_composition *c, const char *function, double delta, psg_privacy *best) {
    *best = (psg_privacy){ .epsilon = INFINITY, .delta = delta, .accountant = "none" };
    if (c->rho == 0) take(best, psg_gaussian_epsilon_of(sqrt(c->squared_mu_all), delta), "Gaussian", 0);
    if (is_gaussian(c)) return PSG_OK;
    if (c->rho > 0) {
        psg_curve_bound zcdp = psg_zcdp_epsilon(c->rho + c->squared_mu_all / 2, delta);
        take(best, zcdp.value, "zCDP", zcdp.order);
    }
    psg_curve_bound rdp;
    psg_status status = psg_curve_epsilon(c, function, delta, &rdp);
    if (!status) take(best, rdp.value, "RDP", rdp.order);
    return status;
}

static const char *note_of(const psg_composition *c, const psg_pld_bound *pld, int won) {
    if (c->coarse) return "too many kinds of events: some were counted as others that cost more";
    if (pld->note) return pld->note;
    return won ? NULL : "the privacy loss distribution is coarser here";
}

/* Upper bound at delta, lower bound at delta_lower. */
static psg_status smallest_epsilon(const psg_composition *c, const char *function, double delta, double delta_lower,
                                   psg_effort effort, psg_privacy *best) {
    psg_pld_bound pld;
    psg_status status = quick_epsilon(c, function, delta, best);
    if (!status && is_gaussian(c)) {
        best->epsilon_lower = psg_gaussian_epsilon_lower(sqrt(c->squared_mu), delta_lower);
        return PSG_OK;
    }
    if (effort == PSG_EFFORT_QUICK) return status;
    if (!status) {
        int with_lower = effort == PSG_EFFORT_BOTH && !c->coarse;
        status = psg_pld_epsilon(c, function, log(delta), log(delta_lower), with_lower, &pld);
    }
    if (status) return status;
    double upper = fmax(pld.upper * (1 + PSG_OUTWARD), DBL_MIN);
    int won = upper <= best->epsilon;
    take(best, upper, "PLD", 0);
    best->interval = strcmp(best->accountant, "PLD") == 0 ? pld.interval : 0;
    best->epsilon_lower = fmin(pld.lower * (1 - PSG_OUTWARD), best->epsilon);
    best->note = note_of(c, &pld, won);
    return PSG_OK;
}

/* ---- delta, residues left out ---- */

static void take_log(psg_privacy *best, double *log_delta, double bound, const char *name, double order) {
    if (!(bound < *log_delta)) return;
    *log_delta = bound;
    best->accountant = name;
    best->order = order;
}

static psg_status quick_log_delta(const psg_composition *c, const char *function, double epsilon, psg_privacy *best,
                                  double *log_delta) {
    *log_delta = 0;
    if (c->rho == 0) {
        take_log(best, log_delta, psg_gaussian_log_delta(sqrt(c->squared_mu_all), epsilon, 1), "Gaussian", 0);
    }
    if (is_gaussian(c)) return PSG_OK;
    if (c->rho > 0) {
        psg_curve_bound zcdp = psg_zcdp_log_delta(c->rho + c->squared_mu_all / 2, epsilon);
        take_log(best, log_delta, zcdp.value, "zCDP", zcdp.order);
    }
    psg_curve_bound rdp;
    psg_status status = psg_curve_log_delta(c, function, epsilon, &rdp);
    if (!status) take_log(best, log_delta, rdp.value, "RDP", rdp.order);
    return status;
}

#define LOG_MARGIN 7 /* by how much of its logarithm the others are taken to be above the delta of the distributions */
#define LOG_WIDE 0.1 /* between bounds: they may be farther above */

/* The masses that are left out are far below the delta that the others expect.  Where that is much too large, as for few
 * releases at a small rate, they are most of the upper bound: then once more from the lower one. */
static psg_status distribution_delta(const psg_composition *c, const char *function, double epsilon, double log_delta,
                                     psg_pld_bound *pld) {
    psg_pld_bound again;
    psg_status status = psg_pld_log_delta(c, function, epsilon, log_delta - LOG_MARGIN, !c->coarse, pld);
    if (status || pld->note || !isfinite(pld->lower) || pld->upper <= pld->lower + LOG_WIDE) return status;
    status = psg_pld_log_delta(c, function, epsilon, pld->lower - LOG_MARGIN, 1, &again);
    if (!status && !again.note && again.upper < pld->upper) *pld = again;
    return status;
}

static psg_status smallest_delta(const psg_composition *c, const char *function, double epsilon, psg_privacy *best) {
    double log_delta, lower = -INFINITY;
    *best = (psg_privacy){ .epsilon = epsilon, .accountant = "none" };
    psg_status status = quick_log_delta(c, function, epsilon, best, &log_delta);
    if (!status && is_gaussian(c)) lower = psg_gaussian_log_delta(sqrt(c->squared_mu), epsilon, -1);
    if (!status && !is_gaussian(c)) {
        psg_pld_bound pld;
        status = distribution_delta(c, function, epsilon, log_delta, &pld);
        if (status) return status;
        int won = pld.upper < log_delta;
        take_log(best, &log_delta, pld.upper, "PLD", 0);
        best->interval = won ? pld.interval : 0;
        best->note = note_of(c, &pld, won);
        lower = pld.lower;
    }
    best->delta = fmax(fmin(exp(log_delta) * (1 + PSG_OUTWARD), 1), DBL_MIN);
    best->delta_lower = fmin(exp(lower) * (1 - PSG_OUTWARD), best->delta);
    return status;
}

/* ---- residues ----
 * T releases, each within e^{+-kappa} of the ideal outside a set of probability eta: (epsilon, delta) of the ideal
 * become epsilon + 2 T kappa, e^{T kappa} delta + (1 + e^epsilon) T eta.  The same holds with the ideal and the real
 * exchanged, which serves the lower bounds. */

static int has_residues(const psg_composition *c) { return c->residue_epsilon > 0 || c->residue_delta > 0; }

static double residue_at(const psg_composition *c, double epsilon) {
    return c->residue_delta == 0 ? 0 : (1 + exp(epsilon)) * c->residue_delta;
}

/* The epsilon that the residues of delta are taken at, not below what comes out. */
static double guess_of(const psg_composition *c, double epsilon) {
    return 1.001 * epsilon + 2.001 * c->residue_epsilon + 1e-9;
}

/* With residues at `guess`: 1 where the epsilon found is not above it. */
static psg_status confirm(const psg_composition *c, const char *function, double delta, double guess, psg_effort effort,
                          psg_privacy *privacy, int *confirmed) {
    double residue = residue_at(c, guess), kappa = c->residue_epsilon;
    double rest = (delta - residue) * exp(-kappa) * (1 - 8 * DBL_EPSILON);
    double more = fmin((delta * exp(kappa) + residue) * (1 + 8 * DBL_EPSILON), 1 - DBL_EPSILON);
    *confirmed = 0;
    if (!(rest > 0)) return PSG_OK;
    psg_status status = smallest_epsilon(c, function, rest, more, effort, privacy);
    privacy->epsilon = (privacy->epsilon + 2 * kappa) * (1 + 4 * DBL_EPSILON);
    privacy->epsilon_lower = fmax(privacy->epsilon_lower - 2 * kappa, 0);
    *confirmed = privacy->epsilon <= guess;
    return status;
}

/* epsilon stands on both sides, so it is guessed from the quick bounds, then from the best one, and confirmed. */
static psg_status epsilon_with_residues(const psg_composition *c, const char *function, double delta, psg_effort effort,
                                        psg_privacy *privacy) {
    int confirmed;
    if (!has_residues(c)) return smallest_epsilon(c, function, delta, delta, effort, privacy);
    psg_status status = quick_epsilon(c, function, delta, privacy);
    if (!status) status = confirm(c, function, delta, guess_of(c, privacy->epsilon), effort, privacy, &confirmed);
    if (status || confirmed) return status;
    status = smallest_epsilon(c, function, delta / 2, delta / 2, PSG_EFFORT_UPPER, privacy);
    if (!status) status = confirm(c, function, delta, guess_of(c, privacy->epsilon), effort, privacy, &confirmed);
    if (status || confirmed) return status;
    *privacy = (psg_privacy){ .epsilon = INFINITY, .delta = delta, .accountant = "none",
                              .note = "the residues of the releases exceed delta" };
    return PSG_OK;
}

/* The upper bound at epsilon; *residue: its share of delta. */
static psg_status upper_delta(const psg_composition *c, const char *function, double epsilon, psg_privacy *privacy,
                              double *residue) {
    const double kappa = c->residue_epsilon;
    *residue = residue_at(c, epsilon);
    *privacy = (psg_privacy){ .delta = 1, .accountant = "none", .note = "the residues of the releases exceed epsilon" };
    if (epsilon < 2 * kappa) return PSG_OK;
    psg_status status = smallest_delta(c, function, epsilon - 2 * kappa, privacy);
    privacy->delta = fmin(exp(kappa) * privacy->delta + *residue, 1);
    return status;
}

#define RESIDUE_STEPS 32

/* delta falls with epsilon, its residue rises: beyond the epsilon where they meet a smaller one has a smaller bound,
 * which holds too.  It is sought on a fixed grid up to where the residue is 1, so that bounds never rise. */
static psg_status delta_of_smaller(const psg_composition *c, const char *function, double epsilon,
                                   psg_privacy *privacy) {
    const double all = -log(c->residue_delta), step = fmax(all, 0) / RESIDUE_STEPS;
    int low = 0, high = (int)fmin(epsilon / fmax(step, DBL_MIN), RESIDUE_STEPS) + 1;   /* low < the first such point <= high */
    psg_status status = PSG_OK;
    while (!status && high - low > 1) {
        const int k = (low + high) / 2;
        psg_privacy smaller;
        double residue;
        status = upper_delta(c, function, k * step, &smaller, &residue);
        if (!status && smaller.delta < privacy->delta) *privacy = smaller;
        if (residue > smaller.delta / 2) high = k;
        else low = k;
    }
    return status;
}

static psg_status delta_with_residues(const psg_composition *c, const char *function, double epsilon,
                                      psg_privacy *privacy) {
    const double kappa = c->residue_epsilon;
    double residue;
    if (!has_residues(c)) return smallest_delta(c, function, epsilon, privacy);
    psg_status status = upper_delta(c, function, epsilon, privacy, &residue);
    if (!status && residue > privacy->delta / 2) status = delta_of_smaller(c, function, epsilon, privacy);
    if (status || epsilon < 2 * kappa) return status;
    psg_privacy above;
    status = smallest_delta(c, function, epsilon + 2 * kappa, &above);
    const double lower = fmax(above.delta_lower - residue_at(c, epsilon + 2 * kappa), 0) * exp(-kappa);
    privacy->delta_lower = fmin(lower, privacy->delta);
    return status;
}

/* ---- public ---- */

/* What needs no accountant: nothing released, or nothing that bounds. */
static int is_settled(const psg_accountant *a, const psg_composition *c, psg_privacy *privacy) {
    if (!nothing_was_released(c) && !a->not_private && !c->unbounded) return 0;
    if (nothing_was_released(c) && !a->not_private) {
        *privacy = (psg_privacy){ .delta = privacy->delta, .accountant = "none" };
        return 1;
    }
    *privacy = (psg_privacy){ .epsilon = INFINITY, .delta = 1, .accountant = "none",
                              .note = a->not_private ? "marked as not private" : "a release without noise" };
    return 1;
}

psg_status psg_privacy_epsilon(const psg_accountant *accountant, const char *function, double delta, psg_effort effort,
                               psg_privacy *privacy) {
    psg_composition c;
    psg_privacy found = { .delta = delta };
    psg_status status = psg_composition_of(accountant, function, &c);
    if (!status && !is_settled(accountant, &c, &found)) {
        status = epsilon_with_residues(&c, function, delta, effort, &found);
    }
    psg_composition_free(&c);
    found.delta = delta;
    if (!status) *privacy = found;
    return status;
}

static psg_status check_delta(const psg_accountant *a, const char *function, double delta, const void *out) {
    if (!out) return psg_fail_null(a->context, function, "the result");
    if (delta > 0 && delta < 1) return PSG_OK;
    return psg_fail(a->context, PSG_ERR_ARGUMENT, "%s: delta is %g, must be in (0, 1)", function, delta);
}

psg_status psg_accountant_epsilon(const psg_accountant *accountant, double delta, psg_privacy *privacy) {
    PSG_DEFAULT_FLOATS;
    if (!accountant) return PSG_ERR_ARGUMENT;
    psg_status status = check_delta(accountant, "psg_accountant_epsilon", delta, privacy);
    return status ? status : psg_privacy_epsilon(accountant, "psg_accountant_epsilon", delta, PSG_EFFORT_BOTH, privacy);
}

psg_status psg_accountant_epsilon_upper(const psg_accountant *accountant, double delta, double *epsilon) {
    PSG_DEFAULT_FLOATS;
    const char *function = "psg_accountant_epsilon_upper";
    psg_privacy privacy;
    if (!accountant) return PSG_ERR_ARGUMENT;
    psg_status status = check_delta(accountant, function, delta, epsilon);
    if (!status) status = psg_privacy_epsilon(accountant, function, delta, PSG_EFFORT_UPPER, &privacy);
    if (!status) *epsilon = privacy.epsilon;
    return status;
}

psg_status psg_accountant_delta(const psg_accountant *accountant, double epsilon, psg_privacy *privacy) {
    PSG_DEFAULT_FLOATS;
    const char *function = "psg_accountant_delta";
    if (!accountant) return PSG_ERR_ARGUMENT;
    if (!privacy) return psg_fail_null(accountant->context, function, "privacy");
    if (!(epsilon >= 0 && isfinite(epsilon))) {
        return psg_fail(accountant->context, PSG_ERR_ARGUMENT, "%s: epsilon is %g, must be finite and at least 0",
                        function, epsilon);
    }
    psg_composition c;
    psg_privacy found = { .epsilon = epsilon };
    psg_status status = psg_composition_of(accountant, function, &c);
    if (!status && !is_settled(accountant, &c, &found)) status = delta_with_residues(&c, function, epsilon, &found);
    psg_composition_free(&c);
    found.epsilon = epsilon;
    if (!status) *privacy = found;
    return status;
}
