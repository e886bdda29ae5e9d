/* The accountant: RDP curves added, and turned into one epsilon. */
#include "numeric.h"
#include "psg/accountant.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- orders ---- */

static int set_default_orders(double *order) {
    int count = 0;
    for (int tenths = 1; tenths <= 99; tenths++)
        order[count++] = 1 + tenths / 10.0;
    for (int whole = 11; whole <= 63; whole++)
        order[count++] = whole;
    for (int power = 128; power <= 1024; power *= 2)
        order[count++] = power;
    return count;
}

static int orders_are_valid(const double *order, int count) {
    if (count < 1 || count > PSG_ACCOUNTANT_MAX_ORDERS)
        return 0;
    for (int k = 0; k < count; k++) {
        double previous = k == 0 ? 1 : order[k - 1];
        if (!(order[k] > previous && isfinite(order[k])))
            return 0;
    }
    return 1;
}

psg_status psg_accountant_init(psg_accountant *accountant, const double *orders, int order_count) {
    if (accountant == NULL || (orders != NULL && !orders_are_valid(orders, order_count)))
        return PSG_ERR_ARGUMENT;
    psg_accountant fresh = { 0 };
    if (orders == NULL) {
        fresh.order_count = set_default_orders(fresh.order);
    } else {
        fresh.order_count = order_count;
        memcpy(fresh.order, orders, (size_t)order_count * sizeof *orders);
    }
    *accountant = fresh;
    return PSG_OK;
}

/* ---- releases ---- */

/* Composition: at each order the RDP of independent releases adds (Mironov 2017, proposition 1). */
psg_status psg_accountant_add(psg_accountant *accountant, double sample_rate, double noise_multiplier,
                              uint64_t releases) {
    if (accountant == NULL || !orders_are_valid(accountant->order, accountant->order_count))
        return PSG_ERR_ARGUMENT;
    double rdp[PSG_ACCOUNTANT_MAX_ORDERS];
    for (int k = 0; k < accountant->order_count; k++) {
        psg_status status = psg_rdp_sampled_gaussian(sample_rate, noise_multiplier, accountant->order[k], &rdp[k]);
        if (status != PSG_OK)
            return status;
    }
    if (releases > UINT64_MAX - accountant->releases)
        return PSG_ERR_OVERFLOW;
    if (releases == 0)
        return PSG_OK;
    accountant->releases += releases;
    for (int k = 0; k < accountant->order_count; k++)
        accountant->rdp[k] += (double)releases * rdp[k];
    return PSG_OK;
}

void psg_accountant_mark_not_private(psg_accountant *accountant) {
    if (accountant != NULL)
        accountant->not_private = 1;
}

/* ---- epsilon ---- */

/* rdp + log((alpha - 1) / alpha) - log(delta alpha) / (alpha - 1) (Canonne, Kamath and Steinke 2020, proposition 12),
 * and what rounding may have taken from the sum. */
static double epsilon_at(double order, double rdp, double delta) {
    double log_share = log1p(-1 / order);
    double log_odds = -(log(delta) + log(order)) / (order - 1);
    return rdp + log_share + log_odds + 8 * DBL_EPSILON * (rdp + fabs(log_share) + fabs(log_odds));
}

/* A positive RDP at any order says that some record took part in some release. */
static int nothing_was_released(const psg_accountant *accountant) {
    for (int k = 0; k < accountant->order_count; k++)
        if (accountant->rdp[k] != 0)
            return 0;
    return 1;
}

/* Where the formula is not positive, the mechanism is (0, delta)-private, so that every positive epsilon is a true
 * bound; the smallest normal number is returned, since 0 would claim that nothing was released. */
static double smallest_epsilon(const psg_accountant *accountant, double delta, double *best_order) {
    double best = INFINITY;
    for (int k = 0; k < accountant->order_count; k++) {
        double epsilon = epsilon_at(accountant->order[k], accountant->rdp[k], delta);
        if (epsilon < best) {
            best = epsilon;
            *best_order = accountant->order[k];
        }
    }
    return fmax(best * (1 + PSG_OUTWARD), DBL_MIN);
}

psg_status psg_accountant_epsilon(const psg_accountant *accountant, double delta, double *epsilon, double *best_order) {
    if (accountant == NULL || epsilon == NULL || !(delta > 0 && delta < 1) ||
        !orders_are_valid(accountant->order, accountant->order_count))
        return PSG_ERR_ARGUMENT;
    double bound = 0;
    double order = 0;
    if (accountant->not_private)
        bound = INFINITY;
    else if (!nothing_was_released(accountant))
        bound = smallest_epsilon(accountant, delta, &order);
    *epsilon = bound;
    if (best_order != NULL)
        *best_order = order;
    return PSG_OK;
}
