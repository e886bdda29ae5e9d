#include "statistics.h"

#include <math.h>

double normal_above(double x) { return erfc(x / sqrt(2)) / 2; }

double normal_quantile(double p) {
    double low = -40, high = 40;
    for (int k = 0; k < 100; k++) {
        double middle = (low + high) / 2;
        if (normal_above(-middle) < p) low = middle;
        else high = middle;
    }
    return high;
}

/* Its continued fraction, by Lentz's method; it takes about sqrt(max(a, b)) terms. */
static double beta_fraction(double a, double b, double x) {
    double f = 1, c = 1, d = 0;
    for (int k = 0; k < 1000000; k++) {
        int m = k / 2;
        double term = k == 0 ? 1 : k % 2 ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                         : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / (1 + term * d);
        c = 1 + term / c;
        f *= c * d;
        if (k && fabs(c * d - 1) < 1e-14) break;
    }
    return f - 1;
}

double beta_below(double a, double b, double x) {
    if (x <= 0 || x >= 1) return x >= 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double binomial_at_least(int64_t k, int64_t n, double p) {
    if (k <= 0 || k > n) return k <= 0;
    return beta_below((double)k, (double)(n - k + 1), p);
}

double probability_bound(int64_t hits, int64_t n, double level) {
    double low = 0, high = 1;
    if (hits == n) return 1;
    for (int k = 0; k < 60; k++) {
        double middle = (low + high) / 2;
        if (binomial_at_least(hits + 1, n, middle) < 1 - level) low = middle;
        else high = middle;
    }
    return high;
}

/* The tails are of the side on which the count lies, so that small ones keep their digits. */
double deviate_of_count(int64_t hits, int64_t n, double p) {
    if ((double)hits > (double)n * p) return -normal_quantile(fmin(binomial_at_least(hits, n, p), 0.5));
    return normal_quantile(fmin(binomial_at_least(n - hits, n, 1 - p), 0.5));
}

double deviate_of_chi_square(double chi, double k) {
    const double spread = 2 / (9 * k);
    return (cbrt(chi / k) - (1 - spread)) / sqrt(spread);
}
