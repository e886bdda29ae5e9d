/* The exact privacy of Gaussian releases without sampling. */
#include "numeric.h"
#include "psg/accountant.h"

#include <float.h>
#include <math.h>

#define TOLERANCE 1e-12 /* of the bisection */

static double log_phi(double x) {
    return psg_log_erfc(-x * M_SQRT1_2) - M_LN2;
}

typedef struct gaussian_setting {
    double mu; /* sensitivity over standard deviation of all releases together: sqrt(releases) / noise_multiplier */
    double log_delta;
} gaussian_setting;

/* delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu) (Balle and Wang 2018, theorem 8) as
 * Phi(a) (1 - e^{-gap}); the gap loses digits as its parts grow, so it is widened by what may be lost. */
static int is_private(const void *setting, double epsilon) {
    const gaussian_setting *s = setting;
    double log_first = log_phi(s->mu / 2 - epsilon / s->mu);
    if (log_first <= s->log_delta)
        return 1;
    double log_second = log_phi(-s->mu / 2 - epsilon / s->mu);
    double error = 4 * DBL_EPSILON * (epsilon + fabs(log_first) + fabs(log_second));
    double gap = fmax(log_first - log_second - epsilon, 0) + error;
    return log_first + error + log(-expm1(-gap)) <= s->log_delta;
}

psg_status psg_gaussian_epsilon(double noise_multiplier, uint64_t releases, double delta, double *epsilon) {
    int valid = noise_multiplier >= 0 && isfinite(noise_multiplier) && delta > 0 && delta < 1;
    if (!valid || epsilon == NULL)
        return PSG_ERR_ARGUMENT;
    gaussian_setting s = { sqrt((double)releases) / noise_multiplier, log(delta) };
    double bound = 0;
    if (releases > 0 && isfinite(s.mu))
        bound = psg_smallest(is_private, &s, DBL_MAX, TOLERANCE) * (1 + PSG_OUTWARD);
    else if (releases > 0)
        bound = INFINITY;
    *epsilon = isnan(bound) ? INFINITY : bound;
    return PSG_OK;
}
