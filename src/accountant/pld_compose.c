#include "pld_compose.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define U (DBL_EPSILON / 2)

/* ---- moments ---- */

/* Of one release: the sum of the masses e^{theta y}, relative to the largest exponent. */
static psg_moments moments_of(const psg_atoms *a, double h, double theta) {
    const int64_t origin = theta > 0 ? a->most : a->least;
    double sum = 0, first = 0, second = 0;
    for (size_t k = 0; k < a->count; k++) {
        double y = h * (double)(a->atom[k].index - origin), m = a->atom[k].mass * exp(theta * y);
        sum += m;
        first += m * y;
        second += m * y * y;
    }
    double mean = first / sum, from = h * (double)origin;
    return (psg_moments){ theta * from + log(sum), from + mean, fmax(second / sum - mean * mean, 0) };
}

psg_moments psg_losses_moments(const psg_release_losses *losses, double theta) {
    psg_moments total = { 0, 0, 0 };
    for (size_t k = 0; k < losses->count; k++) {
        const psg_release_loss *loss = &losses->loss[k];
        psg_moments one = moments_of(&loss->atoms, losses->interval, theta);
        total.log_moment += loss->releases * one.log_moment;
        total.mean += loss->releases * one.mean;
        total.variance += loss->releases * one.variance;
    }
    return total;
}

/* ---- the window ---- */

/* Chernoff: the tilted mass beyond y is at most M(theta + s) / M(theta) e^{-s y}, for s > 0 above y, s < 0 below. */
static double log_beyond(const psg_release_losses *losses, double theta, double log_moment, double order, double y) {
    return psg_losses_moments(losses, order).log_moment - log_moment - (order - theta) * y;
}

static double edge_at(const psg_release_losses *losses, double theta, double log_moment, double s) {
    return (psg_losses_moments(losses, theta + s).log_moment - log_moment + PSG_OUTSIDE) / s;
}

/* The y beyond which e^-PSG_OUTSIDE is left: the best order, from that of a Gaussian on in steps that shrink. */
static double edge(const psg_release_losses *losses, double theta, const psg_moments *at, double side,
                   double *best_order) {
    double s = side * sqrt(2 * PSG_OUTSIDE / at->variance), best = edge_at(losses, theta, at->log_moment, s);
    for (double factor = 8; factor > 1.05; factor = sqrt(factor)) {
        for (int up = 0; up <= 1; up++) {
            double other = up ? s * factor : s / factor, y = edge_at(losses, theta, at->log_moment, other);
            if (side * y < side * best) best = y, s = other;
        }
    }
    *best_order = theta + s;
    return best;
}

psg_loss_window psg_losses_window(const psg_release_losses *losses, double theta) {
    psg_moments at = psg_losses_moments(losses, theta);
    at.variance = fmax(at.variance, losses->interval * losses->interval);
    psg_loss_window w;
    w.most = edge(losses, theta, &at, 1, &w.most_order);
    w.least = edge(losses, theta, &at, -1, &w.least_order);
    return w;
}

/* ---- spectra ---- */

/* X^y modulo X^length + 1: its place, and the sign that whole lengths bring; length is a power of two. */
static size_t place_of(int64_t y, size_t length, double *sign) {
    uint64_t bits = (uint64_t)y;
    *sign = bits & length ? -1 : 1;
    return (size_t)(bits & (length - 1));
}

/* The tilted masses of one release, folded into the length. */
static void fold(const psg_release_loss *loss, double h, double theta, double log_moment, double *x, size_t length) {
    memset(x, 0, length * sizeof *x);
    for (size_t k = 0; k < loss->atoms.count; k++) {
        const psg_atom *a = &loss->atoms.atom[k];
        double sign, y = h * (double)a->index;
        size_t place = place_of(a->index, length, &sign);
        x[place] += sign * a->mass * exp(theta * y - log_moment);
    }
}

#define BLOCK ((size_t)16) /* divides every length */

static void multiply_block(double *restrict re, double *restrict im, const double *a, const double *b) {
    for (size_t k = 0; k < BLOCK; k++) {
        double real = re[k] * a[k] - im[k] * b[k];
        im[k] = re[k] * b[k] + im[k] * a[k];
        re[k] = real;
    }
}

/* Squares; what falls below 1e-150 in modulus squared becomes 0, since denormals are slow.  0: nothing is left. */
static int square_block(double *restrict a, double *restrict b) {
    double largest = 0;
    for (size_t k = 0; k < BLOCK; k++) {
        double modulus = a[k] * a[k] + b[k] * b[k], keep = modulus > 1e-150 ? 1 : 0;
        double real = keep * (a[k] * a[k] - b[k] * b[k]);
        b[k] = keep * 2 * (a[k] * b[k]);
        a[k] = real;
        largest = largest > modulus ? largest : modulus;
    }
    return largest > 1e-150;
}

/* product *= base^power, by squaring. */
static void multiply_power(double *re, double *im, const double *base_re, const double *base_im, uint64_t power) {
    double a[BLOCK], b[BLOCK];
    memcpy(a, base_re, sizeof a);
    memcpy(b, base_im, sizeof b);
    for (int left = 1; power; power >>= 1) {
        if (power & 1) multiply_block(re, im, a, b);
        if (power > 1 && left) left = square_block(a, b);
    }
}

static void multiply_spectrum(double *product, const double *base, size_t m, uint64_t power) {
    for (size_t k = 0; k < m; k += BLOCK) {
        multiply_power(&product[k], &product[m + k], &base[k], &base[m + k], power);
    }
}

/* ---- errors ---- */

static double mean_modulus(const double *spectrum, size_t m) {
    double sum = 0;
    for (size_t k = 0; k < m; k++) sum += sqrt(spectrum[k] * spectrum[k] + spectrum[m + k] * spectrum[m + k]);
    return sum / (double)m;
}

/* Every value X of a spectrum is off by `fft` (its masses add up to 1), every product by sqrt(5) U of it: X^T by
 * T (fft + sqrt(5) U) |X|^(T-1), where |X|^(T-1) is at most 2 |X|^T for |X| >= 1/2 and 2^(1-T) below. */
static double composed_error(const psg_release_losses *losses, const psg_fft *fft, double mean) {
    double one = psg_fft_error(fft), error = one * mean;
    for (size_t k = 0; k < losses->count; k++) {
        double releases = losses->loss[k].releases;
        error += releases * (one + 3 * U) * (2 * mean + exp2(1 - fmin(releases, 1000)));
    }
    return error * 1.01 + 1e-70;
}

/* Of a tilted mass: the exponent's rounding, once a release. */
static double relative_error(const psg_release_losses *losses, double theta, double log_moment, double reach) {
    double error = 8 * U * (fabs(log_moment) + fabs(theta) * reach);
    for (size_t k = 0; k < losses->count; k++) {
        const psg_release_loss *loss = &losses->loss[k];
        double farthest = fmax(fabs((double)loss->atoms.least), fabs((double)loss->atoms.most));
        double largest = fabs(theta) * losses->interval * farthest;
        error += loss->releases * 4 * U * (2 * largest + 4);
    }
    return error;
}

/* ---- composition ---- */

static void take_spectra(const psg_release_losses *losses, double theta, const psg_fft *fft, double *product,
                         double *base) {
    const size_t m = fft->length;
    for (size_t k = 0; k < m; k++) product[k] = 1, product[m + k] = 0;
    for (size_t k = 0; k < losses->count; k++) {
        const psg_release_loss *loss = &losses->loss[k];
        double log_moment = moments_of(&loss->atoms, losses->interval, theta).log_moment;
        fold(loss, losses->interval, theta, log_moment, base, 2 * m);
        psg_fft_forward(fft, base, base + m);
        multiply_spectrum(product, base, m, (uint64_t)loss->releases);
    }
}

/* The window's masses, in order: place p stands for the one loss in the window that is congruent to it. */
static void unfold(const psg_tilted *t, const double *folded) {
    for (size_t k = 0; k < t->length; k++) {
        double sign;
        size_t place = place_of(t->first + (int64_t)k, t->length, &sign);
        t->mass[k] = sign * folded[place];
    }
}

int psg_losses_compose(const psg_release_losses *losses, double theta, const psg_loss_window *window,
                       const psg_fft *fft, double *work, psg_tilted *tilted) {
    const size_t m = fft->length;
    double *product = work, *base = work + 2 * m;
    psg_tilted t = { .theta = theta, .interval = losses->interval, .length = 2 * m, .mass = base };
    double reach = fmax(fabs(window->least), fabs(window->most));
    t.log_moment = psg_losses_moments(losses, theta).log_moment;
    t.relative = relative_error(losses, theta, t.log_moment, reach) + 8 * U * (double)t.length;
    if (!(t.relative < 0.01) || !(reach / t.interval < 0x1p52)) return 0;
    t.first = (int64_t)floor((window->least + window->most) / 2 / t.interval) - (int64_t)m;
    take_spectra(losses, theta, fft, product, base);
    t.error = composed_error(losses, fft, mean_modulus(product, m));
    psg_fft_backward(fft, product, product + m);
    unfold(&t, product);
    double bottom = (double)t.first * t.interval, top = (double)(t.first + (int64_t)t.length) * t.interval;
    t.outside = exp(log_beyond(losses, theta, t.log_moment, window->most_order, top) + t.relative) +
                exp(log_beyond(losses, theta, t.log_moment, window->least_order, bottom) + t.relative);
    for (size_t k = 0; k < losses->count; k++) {
        t.infinity += losses->loss[k].releases * losses->loss[k].atoms.infinity;
        t.slack += losses->loss[k].releases * losses->loss[k].atoms.slack;
    }
    *tilted = t;
    return t.outside < 1e-6;
}
