/* Theorem 27 of Wang, Balle and Kasiviswanathan (2019), for the Gaussian: at integer orders
 *
 *   (alpha - 1) RDP <= log(1 + sum over j = 2 .. alpha of C(alpha, j) rate^j t_j),
 *   t_2 = min(4 (e^{1/sigma^2} - 1), 2 e^{1/sigma^2}),
 *   t_j = min(4 sqrt(B(2 floor(j/2)) B(2 ceil(j/2))), 2 e^{j (j-1) / (2 sigma^2)}),
 *
 * with B(l) = E|w - 1|^l, w = e^{(2x - 1) / (2 sigma^2)}, x ~ N(0, sigma^2). */
#include "replace_rdp.h"

#include <math.h>

#include "numeric.h"

#define MOST_NODES 20000 /* of one quadrature: beyond, the second bound of t_j has to do */
#define REACH 10         /* standard deviations beyond the outermost peak */
#define LOG_SQRT_2PI 0.91893853320467274178

void psg_replace_rdp_init(psg_replace_rdp *curve, double rate, double sigma) {
    curve->rate = rate;
    curve->sigma = sigma;
    curve->terms = curve->moments = 1;
}

/* log B(l), l even, by the trapezoidal rule: the integrand is entire and never negative, and B(l) needs none of the
 * cancelling differences of the exponentials.  Its step and its reach are those of rdp_quadrature.c. */
static double log_even_moment(double sigma, double l) {
    double step = fmin(sigma, sigma * sigma) / 2, first = -REACH * sigma;
    double count = ceil((fmax(l, 2) - 2 * first) / step);
    if (!(count <= MOST_NODES)) return INFINITY;
    double log_sum = -INFINITY;
    for (double i = 0; i <= count; i++) {
        double x = first + i * step, z = x / sigma;
        log_sum = psg_log_add(log_sum, l * psg_log_abs_expm1((x - 0.5) / sigma / sigma) - z * z / 2);
    }
    return log_sum + log(step / sigma) - LOG_SQRT_2PI + PSG_OUTWARD;
}

static double moment(psg_replace_rdp *c, int l) {
    for (; c->moments < l; c->moments++) {
        int next = c->moments + 1;
        c->log_moment[next] = next % 2 ? NAN : log_even_moment(c->sigma, next);
    }
    return c->log_moment[l];
}

static double log_term(psg_replace_rdp *c, int j) {
    double plain = log(2) + 0.5 * j * (j - 1) / c->sigma / c->sigma;
    if (j == 2) return fmin(log(4) + psg_log_abs_expm1(1 / c->sigma / c->sigma), plain);
    return fmin(log(4) + 0.5 * (moment(c, j - j % 2) + moment(c, j + j % 2)), plain);
}

/* (alpha - 1) RDP at an integer order. */
static double log_moment_at(psg_replace_rdp *c, int alpha) {
    double log_sum = -INFINITY, log_binomial = log(alpha);
    for (int j = 2; j <= alpha; j++) {
        if (c->terms < j) c->log_term[c->terms = j] = log_term(c, j);
        log_binomial += log((double)(alpha - j + 1) / j);
        log_sum = psg_log_add(log_sum, log_binomial + j * log(c->rate) + c->log_term[j]);
    }
    double full_batch = 0.5 * alpha * (alpha - 1) / c->sigma / c->sigma;
    return fmin(psg_log_add(0, log_sum), full_batch);
}

/* (alpha - 1) RDP is convex in alpha and 0 at 1: between integers a chord is above it. */
double psg_replace_rdp_at(psg_replace_rdp *curve, double alpha) {
    if (alpha > PSG_REPLACE_ORDERS) return 0.5 * alpha / curve->sigma / curve->sigma;
    int below = (int)alpha;
    double share = alpha - below;
    double low = below > 1 ? log_moment_at(curve, below) : 0;
    double high = share > 0 ? log_moment_at(curve, below + 1) : 0;
    return ((1 - share) * low + share * high) / (alpha - 1);
}
