#include "pld_pair.h"

#include <float.h>
#include <math.h>

#include "binomial.h"
#include "numeric.h"

psg_pair psg_pair_of(double sigma, double rate, uint64_t group, int two_sided) {
    psg_pair pair = { .sigma = sigma, .rate = rate, .two_sided = two_sided, .means = 2 };
    if (group >= PSG_MOST_MEANS) {
        pair.sigma = sigma / (double)group;
        pair.rate = rate < 1 ? -expm1((double)group * log1p(-rate)) : 1;
        group = 1;
    }
    pair.means = (int)group + 1;
    for (int j = 0; j < pair.means; j++) pair.weight[j] = psg_binomial_mass(group, pair.rate, (uint64_t)j);
    if (group == 1) pair.weight[0] = 1 - pair.rate, pair.weight[1] = pair.rate;
    return pair;
}

/* ---- the loss ---- */

/* log of sum pi_j e^{(2 j x - j^2) / (2 sigma^2)}: P(x) over the density of N(0, sigma^2).  Where the exponents are
 * small, log1p of sum pi_j (e^{...} - 1), since the weights add up to 1. */
static double log_mixture(const psg_pair *pair, double x) {
    double small = 0, largest = -INFINITY, sum = 0, exponent[PSG_MOST_MEANS + 1];
    for (int j = 0; j < pair->means; j++) {
        exponent[j] = j * (2 * x - j) * 0.5 / pair->sigma / pair->sigma;
        if (pair->weight[j] > 0) largest = fmax(largest, exponent[j]);
    }
    if (largest < 1) {
        for (int j = 1; j < pair->means; j++) small += pair->weight[j] * expm1(exponent[j]);
        return log1p(small);
    }
    for (int j = 0; j < pair->means; j++) sum += pair->weight[j] * exp(exponent[j] - largest);
    return largest + log(sum);
}

double psg_pair_loss(const psg_pair *pair, double x) {
    return pair->two_sided ? log_mixture(pair, x) - log_mixture(pair, -x) : log_mixture(pair, x);
}

/* ---- its inverse ---- */

/* 1 - q + q e^{(2x - 1) / (2 sigma^2)} = e^epsilon. */
static double inverse_one(const psg_pair *pair, double epsilon) {
    double v = pair->sigma * pair->sigma, q = pair->rate;
    if (epsilon > 500) return 0.5 + v * (epsilon - log(q) + log1p(-(1 - q) * exp(-epsilon)));
    double share = expm1(epsilon) / q;
    return share > -1 ? 0.5 + v * log1p(share) : -INFINITY;
}

/* (1 - q + c u) / (1 - q + c / u) = e^epsilon with u = e^{x / sigma^2}, c = q e^{-1 / (2 sigma^2)}: a quadratic in u;
 * epsilon > 0.  log(c) is kept apart, since c may be 0 in double precision. */
static double inverse_two_sided(const psg_pair *pair, double epsilon) {
    double v = pair->sigma * pair->sigma, q = pair->rate, log_c = log(q) - 0.5 / v;
    double half = -(1 - q) * expm1(-epsilon) / 2, root = exp(2 * log_c - epsilon);
    return v * (epsilon + log(half + sqrt(half * half + root)) - log_c);
}

/* Groups have no closed form: the secant of a bracket, its stale end halved (the Illinois rule), and every third time
 * its middle. */
static double inverse_by_search(const psg_pair *pair, double epsilon) {
    double lo = -1, hi = 1, below, above;
    while ((above = psg_pair_loss(pair, hi) - epsilon) < 0 && hi < 1e300) hi *= 2;
    while ((below = psg_pair_loss(pair, lo) - epsilon) > 0 && lo > -1e300) lo *= 2;
    if (below > 0) return -INFINITY;
    for (int k = 1; k < 300 && hi - lo > 4 * DBL_EPSILON * (fabs(lo) + fabs(hi)); k++) {
        double secant = lo + (hi - lo) * (below / (below - above));
        double x = k % 3 && secant > lo && secant < hi ? secant : 0.5 * (lo + hi);
        double value = psg_pair_loss(pair, x) - epsilon;
        if (value == 0) return x;
        if (value < 0) lo = x, below = value, above /= k % 3 ? 2 : 1;
        else hi = x, above = value, below /= k % 3 ? 2 : 1;
    }
    return 0.5 * (lo + hi);
}

double psg_pair_inverse(const psg_pair *pair, double epsilon) {
    if (pair->two_sided && epsilon < 0) return -psg_pair_inverse(pair, -epsilon);
    if (pair->two_sided && epsilon == 0) return 0;
    if (pair->means > 2) return inverse_by_search(pair, epsilon);
    return pair->two_sided ? inverse_two_sided(pair, epsilon) : inverse_one(pair, epsilon);
}

/* The slope of log_mixture is a mean of j / sigma^2, for one record at most a share e^|loss| - 1 + rate of it.  In the
 * two-sided inverse log(rate) cancels. */
double psg_pair_slack(const psg_pair *pair, double x, double epsilon) {
    double sides = pair->two_sided ? 2 : 1, share = fmin(expm1(fabs(epsilon)) + pair->rate, 1);
    double slope = (pair->means == 2 ? share : 1) * sides * (pair->means - 1) / pair->sigma / pair->sigma;
    double reach = isfinite(x) ? fabs(x) + 1 : 0, cancelled = pair->two_sided ? share * (1 - log(pair->rate)) : 0;
    return 8 * DBL_EPSILON * (slope * reach + cancelled + fabs(epsilon));
}

/* ---- probabilities ---- */

typedef struct mass {
    double value, error;
} mass;

static double tail(double z) { return 0.5 * erfc(z * M_SQRT1_2); }

/* A relative error of 3 DBL_EPSILON in z and in erfc moves the tail by z^2 + 2 of it at most, for each of both ends. */
static double tail_error(double z, double probability) {
    return probability > 0 ? 4 * DBL_EPSILON * (z * z + 3) * probability : 0;
}

/* N(0, 1) between a and b, from the tails on their side of 0. */
static mass interval(double a, double b) {
    double lower = tail(fabs(a)), upper = tail(fabs(b));
    double error = tail_error(a, lower) + tail_error(b, upper);
    if (a >= 0) return (mass){ fmax(lower - upper, 0), error };
    if (b <= 0) return (mass){ fmax(upper - lower, 0), error };
    return (mass){ 1 - lower - upper, error + DBL_EPSILON };
}

psg_bucket psg_pair_bucket(const psg_pair *pair, double from, double to) {
    const double s = pair->sigma;
    const mass center = interval(from / s, to / s);
    psg_bucket b = { 0 };
    if (!pair->two_sided) b = (psg_bucket){ .q = center.value, .q_error = center.error };
    else b = (psg_bucket){ .q = pair->weight[0] * center.value, .q_error = pair->weight[0] * center.error };
    for (int j = 1; j < pair->means; j++) {
        const double w = pair->weight[j];
        const mass right = interval((from - j) / s, (to - j) / s);
        const mass left = pair->two_sided ? interval((from + j) / s, (to + j) / s) : center;
        b.excess += w * (right.value - left.value);
        b.excess_error += w * (right.error + left.error + 2 * DBL_EPSILON * (right.value + left.value));
        if (pair->two_sided) b.q += w * left.value, b.q_error += w * left.error;
    }
    b.q_error += 2 * DBL_EPSILON * b.q * pair->means;
    return b;
}
