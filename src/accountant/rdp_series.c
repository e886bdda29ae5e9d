/* The moment A as sums: at integer orders the binomial theorem, at fractional ones the binomial series. */
#include "numeric.h"
#include "rdp.h"

#include <float.h>
#include <math.h>

#define RELATIVE_ERROR 1e-10 /* of the RDP, beyond which the fractional series declines */
#define MORE_TERMS 128       /* beyond alpha, after which it declines */
#define MINUTE (-45.0)       /* a million terms of e^-45 are 3e-14 of the sum */
#define NEGLIGIBLE (-37.0)   /* log of a term against the sum: e^-37 is half of DBL_EPSILON */

/* A = sum over i <= alpha of C(alpha, i) (1-q)^{alpha-i} q^i e^{i (i-1) / (2 sigma^2)} (Mironov, Talwar and Zhang 2019,
 * section 3.3).  Without the exponential the sum is 1; subtracted term by term that leaves e^{...} - 1, which is 0 for
 * i = 0 and 1 and positive after. */
double psg_rdp_log_excess_integer(double q, double sigma, double alpha) {
    const double log_q = log(q), log_rest = log1p(-q);
    double log_excess = -INFINITY;
    double log_binomial = log(alpha);
    for (double i = 2; i <= alpha; i++) {
        log_binomial += log((alpha - i + 1) / i);
        double exponent = i * (i - 1) * 0.5 / sigma / sigma;
        double term = log_binomial + (alpha - i) * log_rest + i * log_q;
        if (term + exponent > log_excess + MINUTE)
            log_excess = psg_log_add(log_excess, term + psg_log_abs_expm1(exponent));
    }
    return log_excess;
}

/* The fractional series under way: positive and negative terms apart, so that what cancels is seen. */
typedef struct series {
    double q, sigma;
    double log_positive, log_negative; /* sums so far */
    double largest_part;               /* in absolute value, of what was added up to the log of a term */
} series;

/* log of q^power (1-q)^rest E[w^power; a half line], E[w^p; x < z] = e^{p (p-1) / (2 sigma^2)} Phi((z - p) / sigma);
 * `beyond` is p - z, or z - p for the other half line. */
static double log_partial_moment(series *s, double power, double rest, double beyond) {
    double exponent = power * (power - 1) * 0.5 / s->sigma / s->sigma;
    double log_rates = power * log(s->q) + rest * log1p(-s->q);
    double log_tail = psg_log_erfc(beyond / s->sigma * M_SQRT1_2) - M_LN2;
    s->largest_part = fmax(s->largest_part, fmax(fabs(exponent), fmax(fabs(log_rates), fabs(log_tail))));
    return exponent + log_rates + log_tail;
}

/* Every term carries a relative error of about DBL_EPSILON times its largest part; what has cancelled magnifies it. */
static double log_excess_of(const series *s) {
    double log_moment = psg_log_subtract(s->log_positive, s->log_negative);
    double error = 8 * DBL_EPSILON * (1 + s->largest_part) * exp(s->log_positive - log_moment);
    if (error < RELATIVE_ERROR * log_moment)
        return psg_log_subtract(log_moment, 0);
    return NAN;
}

/* (1 - q + q w)^alpha expanded in q w below z0, where q w = 1 - q, and in 1 - q above it (Mironov, Talwar and Zhang
 * 2019, section 3.3).  C(alpha, i) alternates in sign from i > alpha + 1 on; without its sign the sum is only a bound.
 * Terms need not fall before i = alpha. */
double psg_rdp_log_excess_series(double q, double sigma, double alpha) {
    series s = { q, sigma, -INFINITY, -INFINITY, 0 };
    double z0 = sigma * sigma * (log1p(-q) - log(q)) + 0.5;
    double log_binomial = 0;
    int negative = 0;
    for (double i = 0; i <= alpha + MORE_TERMS; i++) {
        double below = log_partial_moment(&s, i, alpha - i, i - z0);
        double above = log_partial_moment(&s, alpha - i, i, z0 - (alpha - i));
        double term = log_binomial + psg_log_add(below, above);
        double *side = negative ? &s.log_negative : &s.log_positive;
        *side = psg_log_add(*side, term);
        if (i > alpha && term < s.log_positive + NEGLIGIBLE)
            return log_excess_of(&s);
        log_binomial += log(fabs(alpha - i) / (i + 1));
        negative ^= i > alpha;
    }
    return NAN;
}
