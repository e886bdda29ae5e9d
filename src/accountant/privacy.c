/* The smallest of all bounds that hold. */
#include <float.h>
#include <math.h>

#include "base/context.h"
#include "composition.h"
#include "curve.h"
#include "gaussian_mechanism.h"
#include "numeric.h"
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
}

static psg_status smallest_epsilon(const psg_composition *c, const char *function, double delta, int with_lower,
                                   psg_privacy *best) {
    (void)with_lower;
    *best = (psg_privacy){ .epsilon = INFINITY, .delta = delta, .accountant = "none" };
    if (c->rho == 0) take(best, psg_gaussian_epsilon_of(sqrt(c->squared_mu_all), delta), "Gaussian", 0);
    if (is_gaussian(c)) {
        best->epsilon_lower = best->epsilon * (1 - 2 * PSG_OUTWARD);
        return PSG_OK;
    }
    if (c->rho > 0) {
        psg_curve_bound zcdp = psg_zcdp_epsilon(c->rho + c->squared_mu_all / 2, delta);
        take(best, zcdp.value, "zCDP", zcdp.order);
    }
    psg_curve_bound rdp;
    psg_status status = psg_curve_epsilon(c, function, delta, &rdp);
    if (!status) take(best, rdp.value, "RDP", rdp.order);
    return status;
}

/* ---- delta, residues left out ---- */

static void take_log(psg_privacy *best, double *log_delta, double bound, const char *name, double order) {
    if (!(bound < *log_delta)) return;
    *log_delta = bound;
    best->accountant = name;
    best->order = order;
}

static psg_status smallest_delta(const psg_composition *c, const char *function, double epsilon, psg_privacy *best) {
    double log_delta = 0;
    psg_status status = PSG_OK;
    *best = (psg_privacy){ .epsilon = epsilon, .accountant = "none" };
    if (c->rho == 0) {
        take_log(best, &log_delta, psg_gaussian_log_delta(sqrt(c->squared_mu_all), epsilon, 1), "Gaussian", 0);
    }
    if (is_gaussian(c)) {
        best->delta_lower = exp(psg_gaussian_log_delta(sqrt(c->squared_mu), epsilon, -1)) * (1 - PSG_OUTWARD);
    } else {
        psg_curve_bound rdp;
        status = psg_curve_log_delta(c, function, epsilon, &rdp);
        if (!status) take_log(best, &log_delta, rdp.value, "RDP", rdp.order);
        if (c->rho > 0) {
            psg_curve_bound zcdp = psg_zcdp_log_delta(c->rho + c->squared_mu_all / 2, epsilon);
            take_log(best, &log_delta, zcdp.value, "zCDP", zcdp.order);
        }
    }
    best->delta = fmax(fmin(exp(log_delta) * (1 + PSG_OUTWARD), 1), DBL_MIN);
    return status;
}

/* ---- residues ----
 * T releases, each within e^{+-kappa} of the ideal outside a set of probability eta: (epsilon, delta) of the ideal
 * become epsilon + 2 T kappa, e^{T kappa} delta + (1 + e^epsilon) T eta.  The same holds with the ideal and the real
 * exchanged, which serves the lower bounds. */

static double residue_at(const psg_composition *c, double epsilon) {
    return c->residue_delta == 0 ? 0 : (1 + exp(epsilon)) * c->residue_delta;
}

static psg_status epsilon_with_residues(const psg_composition *c, const char *function, double delta, int with_lower,
                                        psg_privacy *privacy) {
    psg_status status = smallest_epsilon(c, function, delta, with_lower, privacy);
    if (c->residue_epsilon == 0 && c->residue_delta == 0) return status;
    double guess = privacy->epsilon;
    for (int attempt = 0; !status && isfinite(guess) && attempt < 8; attempt++) {
        guess = 1.001 * guess + 2.001 * c->residue_epsilon + 1e-9;
        double rest = (delta - residue_at(c, guess)) * exp(-c->residue_epsilon) * (1 - 8 * DBL_EPSILON);
        if (!(rest > 0)) break;
        status = smallest_epsilon(c, function, rest, 0, privacy);
        privacy->epsilon = (privacy->epsilon + 2 * c->residue_epsilon) * (1 + 4 * DBL_EPSILON);
        privacy->delta = delta;
        if (privacy->epsilon <= guess) return status;
        guess = privacy->epsilon;
    }
    *privacy = (psg_privacy){ .epsilon = INFINITY, .delta = delta, .accountant = "none",
                              .note = "the residues of the releases exceed delta" };
    return status;
}

static psg_status delta_with_residues(const psg_composition *c, const char *function, double epsilon,
                                      psg_privacy *privacy) {
    double ideal = epsilon - 2 * c->residue_epsilon;
    *privacy = (psg_privacy){ .epsilon = epsilon, .delta = 1, .accountant = "none",
                              .note = "the residues of the releases exceed epsilon" };
    if (ideal < 0) return PSG_OK;
    psg_status status = smallest_delta(c, function, ideal, privacy);
    privacy->epsilon = epsilon;
    if (c->residue_epsilon == 0 && c->residue_delta == 0) return status;
    privacy->delta = fmin(exp(c->residue_epsilon) * privacy->delta + residue_at(c, epsilon), 1);
    privacy->delta_lower = 0;
    return status;
}

/* ---- public ---- */

/* What needs no accountant: nothing released, or nothing that bounds. */
static int is_settled(const psg_accountant *a, const psg_composition *c, psg_privacy *privacy) {
    if (!nothing_was_released(c) && !a->not_private && !c->unbounded) return 0;
    if (nothing_was_released(c) && !a->not_private) {
        *privacy = (psg_privacy){ .delta = privacy->delta, .accountant = "none" };
        return c->residue_epsilon == 0 && c->residue_delta == 0;
    }
    *privacy = (psg_privacy){ .epsilon = INFINITY, .delta = 1, .accountant = "none",
                              .note = a->not_private ? "marked as not private" : "a release without noise" };
    return 1;
}

psg_status psg_privacy_epsilon(const psg_accountant *accountant, const char *function, double delta, int with_lower,
                               psg_privacy *privacy) {
    psg_composition c;
    psg_privacy found = { .delta = delta };
    psg_status status = psg_composition_of(accountant, function, &c);
    if (!status && !is_settled(accountant, &c, &found)) {
        status = epsilon_with_residues(&c, function, delta, with_lower, &found);
    }
    psg_composition_free(&c);
    found.delta = delta;
    if (!status) *privacy = found;
    return status;
}

static psg_status check_delta(const psg_accountant *a, const char *function, double delta, const void *out) {
    if (!out) return psg_fail(a->context, PSG_ERR_ARGUMENT, "%s: the result is NULL, must not be", function);
    if (delta > 0 && delta < 1) return PSG_OK;
    return psg_fail(a->context, PSG_ERR_ARGUMENT, "%s: delta is %g, must be in (0, 1)", function, delta);
}

psg_status psg_accountant_epsilon(const psg_accountant *accountant, double delta, psg_privacy *privacy) {
    if (!accountant) return PSG_ERR_ARGUMENT;
    psg_status status = check_delta(accountant, "psg_accountant_epsilon", delta, privacy);
    return status ? status : psg_privacy_epsilon(accountant, "psg_accountant_epsilon", delta, 1, privacy);
}

psg_status psg_accountant_epsilon_upper(const psg_accountant *accountant, double delta, double *epsilon) {
    psg_privacy privacy;
    if (!accountant) return PSG_ERR_ARGUMENT;
    psg_status status = check_delta(accountant, "psg_accountant_epsilon_upper", delta, epsilon);
    if (!status) status = psg_privacy_epsilon(accountant, "psg_accountant_epsilon_upper", delta, 0, &privacy);
    if (!status) *epsilon = privacy.epsilon;
    return status;
}

psg_status psg_accountant_delta(const psg_accountant *accountant, double epsilon, psg_privacy *privacy) {
    const char *function = "psg_accountant_delta";
    if (!accountant) return PSG_ERR_ARGUMENT;
    if (!privacy) return psg_fail(accountant->context, PSG_ERR_ARGUMENT, "%s: privacy is NULL, must not be", function);
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
