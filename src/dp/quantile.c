/* C follows a quantile of the norms (Andrew, Thakkar, McMahan and Ramaswamy, "Differentially private learning with
 * adaptive clipping", 2021).  With b_n = 1 where the norm of record n is at most C, else 0,
 *
 *   C <- C exp(-rate (b - quantile)),   b = (sum_n (b_n - 1/2) + N(0, quantile_noise^2)) / expected + 1/2.
 *
 * A record adds 1/2 or -1/2: the count is a Gaussian mechanism of multiplier 2 quantile_noise.  It and the gradients of
 * multiplier s are one of multiplier sigma where 1 / sigma^2 = 1 / s^2 + 1 / (2 quantile_noise)^2 (theorem 1 there). */
#include <math.h>

#include "dp/mechanism.h"

double psg_quantile_gradient_noise(const psg_dp_options *o) {
    double sigma = o->noise_multiplier, ratio = sigma / (2 * o->quantile_noise);
    return o->quantile > 0 ? sigma / sqrt(1 - ratio * ratio) * (1 + 0x1p-48) : sigma;
}

/* Half a record is S / (2 quantile_noise) units, rounded down. */
static int64_t half_record(const psg_dp *dp) { return (int64_t)(PSG_NOISE_SCALE / (2 * dp->options.quantile_noise)); }

int64_t psg_quantile_units(const psg_dp *dp, int64_t below, int64_t samples) {
    return (2 * below - samples) * half_record(dp);
}

double psg_quantile_next(const psg_dp *dp, int64_t count) {
    const psg_dp_options *o = &dp->options;
    double share = (double)count / (2 * (double)half_record(dp)) / o->expected_batch_size + 0.5;
    double next = dp->max_grad_norm * exp(-o->quantile_rate * (share - o->quantile));
    return fmin(fmax(next, 1e-100), 1e100);
}
