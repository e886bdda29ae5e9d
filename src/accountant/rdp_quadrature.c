/* The moment A as an integral of something that is never negative: E[w] = 1, so that with u = q (w - 1)
 *
 *     A - 1 = E[(1 + u)^alpha - 1 - alpha u],
 *
 * and Bernoulli's inequality says the rest.  In the logarithm of each node nothing overflows, nothing cancels. */
#include "numeric.h"
#include "rdp.h"

#include <float.h>
#include <math.h>

#define LOG_SQRT_2PI 0.91893853320467274178

#define SMALLEST_SIGMA 0.01 /* keeps the nodes few: 20,000 for each unit of alpha */
#define LARGEST_SIGMA 1e100 /* keeps sigma^2 finite */
#define REACH 10            /* standard deviations beyond the outermost peak: e^-50 of it is left out */

/* The binomial series from its second term on, over that term: sum of C(alpha, k) u^{k-2} / C(alpha, 2), k >= 2.  With
 * |alpha u| < 0.1 each term is below a tenth of the last. */
static double series_over_square(double u, double alpha) {
    double sum = 0;
    double term = 1;
    for (double k = 2; fabs(term) > DBL_EPSILON / 8; k++) {
        sum += term;
        term *= (alpha - k) / (k + 1) * u;
    }
    return sum;
}

/* log((1 + u)^alpha - 1 - alpha u) for u = q (w - 1).  With l = log(1 + u), the bracket is
 * e^l (e^{(alpha-1) l} - 1 + (alpha - 1) (e^{-l} - 1)), which is exact near alpha = 1 too; where u is small, it is
 * u^2 alpha (alpha - 1) / 2 times a series. */
static double log_bernoulli(double q, double log_w, double alpha) {
    double log_abs_u = log(q) + psg_log_abs_expm1(log_w);
    double u = copysign(exp(log_abs_u), log_w);
    if (alpha * fabs(u) < 0.1)
        return log(alpha * (alpha - 1) / 2) + 2 * log_abs_u + log(series_over_square(u, alpha));
    double l = log_abs_u < 700 ? log1p(u) : log_abs_u;
    double power = (alpha - 1) * l;
    if (power > 80)
        return l + power;
    return l + log(expm1(power) + (alpha - 1) * expm1(-l));
}

/* The trapezoidal rule on the whole line: for an integrand analytic in the strip |Im x| < y its error falls like
 * e^{-2 pi y / h} (Trefethen and Weideman 2014, theorem 5.1).  Here 1 + u first vanishes at |Im x| = pi sigma^2, and a
 * Gaussian grows by e^{y^2 / (2 sigma^2)}: the step below leaves about e^-34 of the integral.  The integrand has its
 * peaks between -1.5 sigma and the larger of alpha, 2 and 1.5 sigma. */
double psg_rdp_log_excess_quadrature(double q, double sigma, double alpha) {
    if (!(sigma >= SMALLEST_SIGMA && sigma <= LARGEST_SIGMA))
        return NAN;
    double step = fmin(sigma, sigma * sigma) / 2;
    double first = -REACH * sigma;
    double count = ceil((fmax(alpha, 2) - 2 * first) / step);
    double log_sum = -INFINITY;
    for (double i = 0; i <= count; i++) {
        double x = first + i * step;
        double log_w = (x - 0.5) / sigma / sigma;
        double z = x / sigma;
        log_sum = psg_log_add(log_sum, log_bernoulli(q, log_w, alpha) - z * z / 2);
    }
    return log_sum + log(step / sigma) - LOG_SQRT_2PI;
}
