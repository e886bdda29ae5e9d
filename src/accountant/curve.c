#include "curve.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/context.h"
#include "base/memory.h"
#include "bins_rdp.h"
#include "numeric.h"
#include "replace_rdp.h"

#define LAST_ORDER 1e5
#define FACTOR 1.3 /* between orders beyond 63 */

/* ---- orders ---- */

#define MOST_ORDERS 200

static double next_order(double order) {
    if (order < 10.95) return round(order * 10 + 1) / 10;
    if (order < 63) return order + 1;
    return fmin(ceil(order * FACTOR), LAST_ORDER);
}

static int list_orders(double *order) {
    int count = 1;
    for (order[0] = 1.1; order[count - 1] < LAST_ORDER; count++) order[count] = next_order(order[count - 1]);
    return count;
}

/* ---- the curve ---- */

/* What parts keep between orders; replace: one a part that needs it. */
typedef struct curve {
    const psg_composition *composition;
    psg_replace_rdp *replace;
} curve;

static int needs_replace(const psg_composition *c, const psg_mechanism *part) {
    return part->kind == PSG_MECHANISM_TRUNCATED || part->kind == PSG_MECHANISM_FIXED_SIZE ||
           (part->kind == PSG_MECHANISM_POISSON && c->relation == PSG_REPLACE_ONE);
}

/* A batch meets a group of k with probability 1 - (1 - q)^k at most. */
static double group_rate(const psg_mechanism *part) {
    return part->group == 1 ? part->rate : -expm1((double)part->group * log1p(-part->rate));
}

static void start_replace(const psg_mechanism *part, psg_replace_rdp *replace) {
    double sigma = part->sigma / (2 * (double)part->group);
    if (part->kind == PSG_MECHANISM_TRUNCATED) psg_replace_rdp_init(replace, part->full_rate, part->sigma / 4);
    else if (part->kind == PSG_MECHANISM_FIXED_SIZE) psg_replace_rdp_init(replace, part->rate, sigma);
    else psg_replace_rdp_init(replace, group_rate(part), sigma);
}

/* A group's sum moves by at most group, and by 0 unless the batch meets it. */
static double poisson_at(const psg_mechanism *part, double alpha) {
    double rdp = INFINITY;
    psg_rdp_sampled_gaussian(group_rate(part), part->sigma / (double)part->group, alpha, &rdp);
    return rdp;
}

/* The moment of a mixture that is known to all is the mixture of the moments. */
static double truncated_at(const psg_mechanism *part, psg_replace_rdp *replace, double alpha) {
    double usual = (alpha - 1) * poisson_at(part, alpha), full = (alpha - 1) * psg_replace_rdp_at(replace, alpha);
    return psg_log_add(log1p(-part->full) + usual, log(part->full) + full) / (alpha - 1);
}

static double part_at(const curve *c, size_t k, double alpha) {
    const psg_mechanism *part = &c->composition->parts[k];
    if (part->kind == PSG_MECHANISM_BINS) return psg_bins_rdp(part, alpha);
    double releases = (double)part->releases;
    if (part->kind == PSG_MECHANISM_TRUNCATED) return releases * truncated_at(part, &c->replace[k], alpha);
    if (needs_replace(c->composition, part)) return releases * psg_replace_rdp_at(&c->replace[k], alpha);
    return releases * poisson_at(part, alpha);
}

static double curve_at(const curve *c, double alpha) {
    double rdp = alpha * (c->composition->squared_mu / 2 + c->composition->rho);
    for (size_t k = 0; k < c->composition->part_count; k++) rdp += part_at(c, k, alpha);
    return isnan(rdp) ? INFINITY : rdp;
}

/* ---- conversion ---- */

/* rdp + log((alpha - 1) / alpha) - (log(delta) + log(alpha)) / (alpha - 1), and what rounding may have taken from the
 * sum. */
static double epsilon_at(double order, double rdp, double log_delta) {
    double log_share = log1p(-1 / order);
    double log_odds = -(log_delta + log(order)) / (order - 1);
    return rdp + log_share + log_odds + 8 * DBL_EPSILON * (rdp + fabs(log_share) + fabs(log_odds));
}

/* The same for log(delta). */
static double log_delta_at(double order, double rdp, double epsilon) {
    double excess = (order - 1) * (rdp - epsilon), log_share = (order - 1) * log1p(-1 / order);
    return excess + log_share - log(order) +
           8 * DBL_EPSILON * ((order - 1) * (rdp + epsilon) + fabs(log_share) + log(order));
}

typedef double (*conversion)(double order, double rdp, double given);

/* Orders ascend, and the curve with them, so that the search may end where even delta = 1 would not do: from there
 * epsilon > rdp + log(1 - 1/alpha) - log(alpha) / (alpha - 1), which is more than the bound found. */
static int is_hopeless(conversion convert, double order, double rdp, double given, const psg_curve_bound *best) {
    if (convert == epsilon_at) return rdp + log1p(-1 / order) - log(order) / (order - 1) > best->value;
    return rdp > given && best->value < 0;
}

typedef struct scan {
    const curve *curve;
    conversion convert;
    double given, order[MOST_ORDERS];
    int count, best_at;
    psg_curve_bound best;
} scan;

/* 0 where no larger order can do better. */
static int try_order(scan *s, int k) {
    double order = s->order[k], rdp = curve_at(s->curve, order), bound = s->convert(order, rdp, s->given);
    if (bound < s->best.value) {
        s->best = (psg_curve_bound){ bound, order };
        s->best_at = k;
    }
    return !is_hopeless(s->convert, order, rdp, s->given, &s->best);
}

#define STRIDE 8

/* Every order is a bound, and near the best one they differ little: a few of the list, then those around the best. */
static psg_curve_bound smallest(const curve *c, conversion convert, double given) {
    scan s = { .curve = c, .convert = convert, .given = given, .best = { INFINITY, 0 } };
    s.count = list_orders(s.order);
    for (int k = 0; k < s.count && try_order(&s, k); k += STRIDE) continue;
    const int middle = s.best_at;
    for (int k = middle - STRIDE + 1; k < middle + STRIDE && k < s.count; k++) {
        if (k >= 0 && k != middle) try_order(&s, k);
    }
    return s.best;
}

static psg_status bound_of(const psg_composition *composition, const char *function, conversion convert, double given,
                           psg_curve_bound *bound) {
    curve c = { composition, NULL };
    size_t bytes = composition->part_count * sizeof *c.replace;
    if (!(c.replace = psg_alloc(composition->context, bytes))) {
        return psg_fail_memory(composition->context, function, bytes);
    }
    for (size_t k = 0; k < composition->part_count; k++) {
        if (needs_replace(composition, &composition->parts[k])) start_replace(&composition->parts[k], &c.replace[k]);
    }
    *bound = smallest(&c, convert, given);
    psg_free(composition->context, c.replace);
    return PSG_OK;
}

psg_status psg_curve_epsilon(const psg_composition *composition, const char *function, double delta,
                             psg_curve_bound *bound) {
    psg_status status = bound_of(composition, function, epsilon_at, log(delta), bound);
    if (!status) bound->value = fmax(bound->value * (1 + PSG_OUTWARD), DBL_MIN);
    return status;
}

psg_status psg_curve_log_delta(const psg_composition *composition, const char *function, double epsilon,
                               psg_curve_bound *bound) {
    return bound_of(composition, function, log_delta_at, epsilon, bound);
}

/* ---- zCDP ---- */

/* The smallest of a function with one minimum over log(order - 1): a coarse scan, then sections. */
static psg_curve_bound smallest_zcdp(conversion convert, double rho, double given) {
    double best = 0, width = 4;
    for (double t = -30; t <= 60; t += width) {
        if (convert(1 + exp(t), rho * (1 + exp(t)), given) < convert(1 + exp(best), rho * (1 + exp(best)), given)) {
            best = t;
        }
    }
    for (; width > 1e-6; width /= 2) {
        for (int side = -1; side <= 1; side += 2) {
            double t = best + side * width, order = 1 + exp(t), old = 1 + exp(best);
            if (convert(order, rho * order, given) < convert(old, rho * old, given)) best = t;
        }
    }
    double order = 1 + exp(best);
    return (psg_curve_bound){ convert(order, rho * order, given), order };
}

psg_curve_bound psg_zcdp_epsilon(double rho, double delta) {
    psg_curve_bound bound = smallest_zcdp(epsilon_at, rho, log(delta));
    bound.value = fmax(bound.value * (1 + PSG_OUTWARD), DBL_MIN);
    return bound;
}

psg_curve_bound psg_zcdp_log_delta(double rho, double epsilon) { return smallest_zcdp(log_delta_at, rho, epsilon); }
