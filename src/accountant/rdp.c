/* RDP of one release: which of the three ways to take, and the bounds that hold whatever they say. */
#include "base/floats.h"
#include "numeric.h"
#include "psg/accountant.h"
#include "rdp.h"

#include <float.h>
#include <math.h>

/* Each way takes time in proportion to alpha; beyond this order the bound of the full batch has to do. */
#define LARGEST_ORDER 1e6

/* Below sigma = 0.01 quadrature declines; the series only does so there when A - 1 is minute all the same, that is when
 * q < e^{-alpha (alpha - 1) / (2 sigma^2)} or so.  NaN is then right: the bound of the full batch takes over. */
static double log_excess(double q, double sigma, double alpha) {
    if (alpha == floor(alpha))
        return psg_rdp_log_excess_integer(q, sigma, alpha);
    double excess = psg_rdp_log_excess_series(q, sigma, alpha);
    return isnan(excess) ? psg_rdp_log_excess_quadrature(q, sigma, alpha) : excess;
}

/* Subsampling never costs privacy, so alpha / (2 sigma^2), the RDP of q = 1, bounds every q: A is convex in q and the
 * moment at q = 0 is 1.  A positive RDP that underflows is rounded up to the smallest normal number. */
static double rdp_of_one(double q, double sigma, double alpha) {
    if (q == 0)
        return 0;
    double full_batch = fmax(alpha * 0.5 / sigma / sigma, DBL_MIN);
    if (q == 1 || sigma == 0 || alpha > LARGEST_ORDER)
        return full_batch;
    double rdp = psg_log_add(0, log_excess(q, sigma, alpha)) / (alpha - 1);
    return rdp <= full_batch ? fmax(rdp, DBL_MIN) : full_batch;
}

psg_status psg_rdp_sampled_gaussian(double sample_rate, double noise_multiplier, double alpha, double *rdp) {
    PSG_DEFAULT_FLOATS;
    int valid = sample_rate >= 0 && sample_rate <= 1 && noise_multiplier >= 0 && isfinite(noise_multiplier) &&
                alpha > 1 && isfinite(alpha);
    if (!valid || rdp == NULL)
        return PSG_ERR_ARGUMENT;
    *rdp = rdp_of_one(sample_rate, noise_multiplier, alpha);
    return PSG_OK;
}
