/* Balls in bins: P, the mean over j of N(m_j, sigma^2 I), against Q = N(0, sigma^2 I), where m_j is 1 at the releases
 * of bin j.  Bins share no release, so that P/Q is the mean w of independent log-normal w_j of mean 1 and variance
 * parameter v_j = |m_j|^2 / sigma^2.  Both directions at integer orders, without Monte Carlo:
 *
 *   E_Q[w^alpha]        the coefficient of x^alpha in the product over bins of sum_k e^{v_j k (k-1) / 2} x^k / k!,
 *                       times alpha! / b^alpha
 *   E_Q[w^(1 - alpha)]  = 1 / Gamma(alpha - 1) times the integral over lambda of lambda^(alpha - 2) E[e^{-lambda w}] */
#include "bins_rdp.h"

#include <math.h>

#include "numeric.h"

#define LAST_ORDER 64 /* beyond, and for v above MOST_VARIANCE, there is no credit for sampling */
#define MOST_VARIANCE 25
#define LOG_SQRT_2PI 0.91893853320467274178
#define REACH 10      /* deviations on either side of where an integrand is */
#define DEEPEST 25    /* deviations below which w does not count in doubles */
#define NEGLIGIBLE 42 /* e^-42: what both integrals leave out */

/* `more` bins have one release more than the others. */
typedef struct bins {
    double count, more, v, v_more;
} bins;

static bins bins_of(const psg_mechanism *part) {
    uint64_t whole = part->releases / part->batches;
    double precision = 1 / part->sigma / part->sigma;
    return (bins){ (double)part->batches, (double)(part->releases % part->batches), (double)whole * precision,
                   (double)(whole + 1) * precision };
}

/* ---- P against Q ---- */

typedef struct series {
    double log_coefficient[LAST_ORDER + 1];
} series;

static series series_of(double v, int order) {
    series s;
    for (int k = 0; k <= order; k++) s.log_coefficient[k] = v * k * (k - 1) / 2 - lgamma(k + 1.0);
    return s;
}

static series product(const series *a, const series *b, int order) {
    series c;
    for (int n = 0; n <= order; n++) {
        c.log_coefficient[n] = -INFINITY;
        for (int k = 0; k <= n; k++) {
            c.log_coefficient[n] = psg_log_add(c.log_coefficient[n], a->log_coefficient[k] + b->log_coefficient[n - k]);
        }
    }
    return c;
}

static void multiply_power(series *result, series base, double exponent, int order) {
    for (; exponent >= 1; exponent = floor(exponent / 2)) {
        if (fmod(exponent, 2) == 1) *result = product(result, &base, order);
        if (exponent >= 2) base = product(&base, &base, order);
    }
}

static double log_moment_forward(const bins *b, int order) {
    series all = { { 0 } };
    for (int k = 1; k <= order; k++) all.log_coefficient[k] = -INFINITY;
    multiply_power(&all, series_of(b->v_more, order), b->more, order);
    multiply_power(&all, series_of(b->v, order), b->count - b->more, order);
    return all.log_coefficient[order] + lgamma(order + 1.0) - order * log(b->count);
}

/* ---- Q against P ---- */

/* log E[e^{-t w_j}] by the trapezoidal rule: entire in z, falls double exponentially to the right, as a Gaussian to
 * the left. */
static double log_laplace(double log_t, double v, double depth) {
    if (v == 0) return -exp(log_t);
    double deviation = sqrt(v), step = fmin(0.2, 0.2 / deviation), sum = 0;
    for (double z = -depth - REACH; z <= REACH; z += step) {
        sum += exp(-exp(log_t + deviation * z - v / 2) - z * z / 2 - LOG_SQRT_2PI);
    }
    return fmin(log(sum * step), 0);
}

/* Over u = log(lambda / b): the integrand is e^{s u} at the left, falls faster than any exponential at the right.
 * Small w count most where all w_j are: s sqrt(v) / b deviations down. */
static double log_moment_backward(const bins *b, int order) {
    const double s = order - 1, step = 0.1, depth = s * sqrt(b->v_more) / b->count;
    if (depth > DEEPEST) return INFINITY;
    double log_sum = -INFINITY, largest = -INFINITY, term = 0;
    for (double u = log(s / b->count) - NEGLIGIBLE / s - 1; term > largest - NEGLIGIBLE; u += step) {
        term = s * u + b->more * log_laplace(u, b->v_more, depth) +
               (b->count - b->more) * log_laplace(u, b->v, depth);
        log_sum = psg_log_add(log_sum, term);
        largest = fmax(largest, term);
        if (u < log(s / b->count)) term = largest;
    }
    return log_sum + log(step) + s * log(b->count) - lgamma(s);
}

/* ---- any order ---- */

/* (alpha - 1) RDP at an integer order, the larger direction. */
static double log_moment_at(const bins *b, int order, double v_most) {
    if (order < 2) return 0;
    double larger = fmax(log_moment_forward(b, order), log_moment_backward(b, order));
    return fmin(larger * (1 + PSG_OUTWARD) + 1e-11, 0.5 * order * (order - 1) * v_most);
}

/* Between integer orders a chord of the convex (alpha - 1) RDP. */
double psg_bins_rdp(const psg_mechanism *part, double alpha) {
    const bins b = bins_of(part);
    double v_most = b.more > 0 ? b.v_more : b.v;
    if (alpha > LAST_ORDER || v_most > MOST_VARIANCE) return 0.5 * alpha * v_most;
    int below = (int)alpha;
    double share = alpha - below, high = share > 0 ? log_moment_at(&b, below + 1, v_most) : 0;
    return ((1 - share) * log_moment_at(&b, below, v_most) + share * high) / (alpha - 1);
}

double psg_bins_log_moment(const psg_mechanism *part, int order, int mirrored) {
    const bins b = bins_of(part);
    return mirrored ? log_moment_backward(&b, order) : log_moment_forward(&b, order);
}
