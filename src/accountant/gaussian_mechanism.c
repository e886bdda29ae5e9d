/* The exact privacy of Gaussian releases without sampling. */
#include "gaussian_mechanism.h"

#include "base/floats.h"
#include "numeric.h"
#include "psg/accountant.h"

#include <float.h>
#include <math.h>

#define TOLERANCE 1e-12 /* of the bisection */

static double log_phi(double x) {
    return psg_log_erfc(-x * M_SQRT1_2) - M_LN2;
}

typedef struct gaussian_setting {
    double mu;
    double log_delta;
} gaussian_setting;

/* delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu) (Balle and Wang 2018, theorem 8) as
 * Phi(a) (1 - e^{-gap}); the gap loses digits as its parts grow, so it is widened by what may be lost. */
static double log_delta_of(double mu, double epsilon, double direction) {
    double log_first = log_phi(mu / 2 - epsilon / mu);
    double log_second = log_phi(-mu / 2 - epsilon / mu);
    if (log_first == -INFINITY) return -INFINITY;
    double error = 4 * DBL_EPSILON * (epsilon + fabs(log_first) + fabs(log_second));
    double gap = fmax(fmax(log_first - log_second - epsilon, 0) + direction * error, 0);
    return log_first + direction * error + log(-expm1(-gap));
}

static int is_private(const void *setting, double epsilon) {
    const gaussian_setting *s = setting;
    if (log_phi(s->mu / 2 - epsilon / s->mu) <= s->log_delta)
        return 1;
    return log_delta_of(s->mu, epsilon, 1) <= s->log_delta;
}

double psg_gaussian_epsilon_of(double mu, double delta) {
    const gaussian_setting s = { mu, log(delta) };
    if (mu == 0)
        return 0;
    double bound = isfinite(mu) ? psg_smallest(is_private, &s, DBL_MAX, TOLERANCE) * (1 + PSG_OUTWARD) : INFINITY;
    return isnan(bound) ? INFINITY : bound;
}

static int may_be_private(const void *setting, double epsilon) {
    const gaussian_setting *s = setting;
    return log_delta_of(s->mu, epsilon, -1) <= s->log_delta;
}

/* Below the point from which the lower bound of delta is small enough, the exact one is not.  Of an infinite mu the
 * lower bound of delta is 0. */
double psg_gaussian_epsilon_lower(double mu, double delta) {
    const gaussian_setting s = { mu, log(delta) };
    if (mu == 0 || may_be_private(&s, 0)) return 0;
    double point = psg_smallest(may_be_private, &s, DBL_MAX, TOLERANCE);
    return isnan(point) ? 0 : point * (1 - PSG_OUTWARD);
}

double psg_gaussian_log_delta(double mu, double epsilon, double direction) {
    if (mu == 0)
        return -INFINITY;
    return isfinite(mu) ? fmin(log_delta_of(mu, epsilon, direction), 0) : 0;
}

psg_status psg_gaussian_epsilon(double noise_multiplier, uint64_t releases, double delta, double *epsilon) {
    PSG_DEFAULT_FLOATS;
    int valid = noise_multiplier >= 0 && isfinite(noise_multiplier) && delta > 0 && delta < 1;
    if (!valid || epsilon == NULL)
        return PSG_ERR_ARGUMENT;
    *epsilon = releases > 0 ? psg_gaussian_epsilon_of(sqrt((double)releases) / noise_multiplier, delta) : 0;
    return PSG_OK;
}
