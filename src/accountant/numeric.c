#include "numeric.h"

#include <float.h>
#include <math.h>

#define LOG_SQRT_PI 0.57236494292470008707

/* Not by fmax and fmin, which would pass over a NaN. */
double psg_log_add(double a, double b) {
    double larger = a > b ? a : b;
    double smaller = a > b ? b : a;
    if (smaller == -INFINITY)
        return larger;
    return larger + log1p(exp(smaller - larger));
}

double psg_log_subtract(double a, double b) {
    if (!(a > b))
        return NAN;
    return a + log(-expm1(b - a));
}

double psg_log_abs_expm1(double x) {
    if (x > 1)
        return x + log1p(-exp(-x));
    return log(fabs(expm1(x)));
}

/* erfc(x) = e^{-x^2} / (x sqrt(pi)) (1 - 1/(2x^2) + 3/(4x^4) - 15/(8x^6) + 105/(16x^8) - ...), DLMF 7.12.1: from x = 25
 * on, the terms left out are below 1e-12, and erfc itself leaves the normal doubles. */
double psg_log_erfc(double x) {
    if (x < 25)
        return log(erfc(x));
    double r = 0.5 / (x * x);
    return -x * x - log(x) - LOG_SQRT_PI + log1p(r * (-1 + r * (3 + r * (-15 + r * 105))));
}

/* Halve or double to a bracket (hi / 2, hi], then bisect it geometrically. */
double psg_smallest(psg_condition holds, const void *setting, double highest, double tolerance) {
    double hi = 1;
    while (hi > DBL_MIN && holds(setting, hi / 2))
        hi /= 2;
    if (hi <= DBL_MIN)
        return hi;
    while (!holds(setting, hi)) {
        if (hi >= highest)
            return NAN;
        hi = fmin(2 * hi, highest);
    }
    double lo = hi / 2;
    while (hi - lo > tolerance * lo) {
        double middle = sqrt(lo) * sqrt(hi);
        if (holds(setting, middle))
            hi = middle;
        else
            lo = middle;
    }
    return hi;
}
