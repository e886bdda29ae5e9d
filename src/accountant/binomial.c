#include "binomial.h"

#include <math.h>

#include "numeric.h"

#define MOST_SUMMED 1e5 /* deviation of a distribution whose tails are summed */

/* log(n!) - log(sqrt(2 pi n) (n / e)^n): Stirling's series (DLMF 5.11.1) where its first terms suffice. */
static double stirling_error(double n) {
    if (n < 16) return lgamma(n + 1) - (n + 0.5) * log(n) + n - 0.91893853320467274178;
    double r = 1 / (n * n);
    return (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r / 1188)))) / n;
}

/* x log(x / mean) + mean - x, the deviance of a count. */
static double deviance(double x, double mean) {
    double d = (x - mean) / mean;
    return x == 0 ? mean : mean * ((1 + d) * log1p(d) - d);
}

/* The saddle-point form of Loader (2000), which does not cancel for large n as log-gammas do. */
double psg_binomial_mass(uint64_t count, double q, uint64_t drawn) {
    double n = (double)count, k = (double)drawn, rest = n - k;
    if (drawn > count) return 0;
    if (q == 0 || q == 1) return drawn == (q == 0 ? 0 : count);
    if (drawn == 0) return exp(n * log1p(-q));
    if (drawn == count) return exp(n * log(q));
    double log_error = stirling_error(n) - stirling_error(k) - stirling_error(rest);
    return sqrt(n / (2 * M_PI * k * rest)) * exp(log_error - deviance(k, n * q) - deviance(rest, n * (1 - q)));
}

/* Chernoff's bound takes the place of a sum that would be long. */
double psg_binomial_tail(uint64_t count, double q, uint64_t first) {
    double n = (double)count, mean = n * q, k = (double)first, deviation = sqrt(mean * (1 - q));
    if (first == 0 || (first <= count && k <= mean - 10 * deviation)) return 1;
    if (first > count || q == 0) return 0;
    if (deviation > MOST_SUMMED) return k <= mean ? 1 : exp(-deviance(k, mean) - deviance(n - k, n - mean));
    double term = psg_binomial_mass(count, q, first), sum = 0;
    for (; k <= n && (k <= mean || term > sum * 1e-18) && term > 0; k++) {
        sum += term;
        term *= (n - k) / (k + 1) * (q / (1 - q));
    }
    return fmin(sum * (1 + PSG_OUTWARD), 1);
}
