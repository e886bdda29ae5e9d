/* The elementwise losses in long double, by limits where a formula says 0 * inf or inf - inf: what the kernels take for
 * the elements of which the formulas in their own type make no finite number, and for options that this type cannot
 * hold.  Neither x nor y is NaN. */
#ifndef PSG_KERNELS_REGRESSION_LOSS_EXACT_H
#define PSG_KERNELS_REGRESSION_LOSS_EXACT_H

#include <math.h>

typedef long double exact;
typedef exact (*exact_function)(exact x, exact y, const double *p);

#define UNUSED __attribute__((unused))
#define EXACT(name, part) static exact name##_exact_##part(UNUSED exact x, UNUSED exact y, UNUSED const double *p)
#define EXACT_SYMMETRIC(name) EXACT(name, dy) { return name##_exact_dx(y, x, p); }

/* A weight of 0 leaves the value out, whatever it is. */
static inline exact times(exact weight, exact value) { return weight == 0 || value == 0 ? 0 : weight * value; }

EXACT(mse, value) { return (x - y) * (x - y); }
EXACT(mse, dx) { return 2 * (x - y); }
EXACT_SYMMETRIC(mse)

static exact exact_sign(exact d) { return d > 0 ? 1 : d < 0 ? -1 : d; }

EXACT(l1, value) { return fabsl(x - y); }
EXACT(l1, dx) { return exact_sign(x - y); }
EXACT_SYMMETRIC(l1)

EXACT(smooth_l1, value) {
    exact d = fabsl(x - y);
    return d < p[0] ? d / p[0] * d / 2 : d - (exact)p[0] / 2;
}
EXACT(smooth_l1, dx) { return fabsl(x - y) < p[0] ? (x - y) / p[0] : exact_sign(x - y); }
EXACT_SYMMETRIC(smooth_l1)

EXACT(huber, value) {
    exact d = fabsl(x - y);
    return d <= p[0] ? d * d / 2 : p[0] * (d - (exact)p[0] / 2);
}
EXACT(huber, dx) { return fabsl(x - y) <= p[0] ? x - y : p[0] * exact_sign(x - y); }
EXACT_SYMMETRIC(huber)

static exact exact_softplus(exact x) { return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))); }
static exact exact_sigmoid(exact x) { return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x)); }

EXACT(binary_cross_entropy_with_logits, value) {
    return times(x < 0 ? -y : 1 - y, x) + exact_softplus(-fabsl(x));
}
EXACT(binary_cross_entropy_with_logits, dx) {
    return x < 0 ? exact_sigmoid(x) - y : (1 - y) - exact_sigmoid(-x);
}
EXACT(binary_cross_entropy_with_logits, dy) { return -x; }

EXACT(soft_margin, value) { return exact_softplus(-times(x, y)); }
EXACT(soft_margin, dx) { return -times(exact_sigmoid(-times(x, y)), y); }
EXACT_SYMMETRIC(soft_margin)

static exact exact_bounded(exact logarithm) { return logarithm < -100 ? -100 : logarithm; }

EXACT(binary_cross_entropy, value) {
    return -times(y, exact_bounded(logl(x))) - times(1 - y, exact_bounded(log1pl(-x)));
}
EXACT(binary_cross_entropy, dx) {
    exact variance = x * (1 - x);
    return variance == 0 ? 1 - x - y : (x - y) / variance;
}
EXACT(binary_cross_entropy, dy) { return exact_bounded(log1pl(-x)) - exact_bounded(logl(x)); }

EXACT(kl_div, value) { return times(y, logl(y) - x); }
EXACT(kl_div, dx) { return -y; }
EXACT(kl_div, dy) { return y == 0 && x < 0 && isinf(x) ? 0 : logl(y) + 1 - x; }

EXACT(kl_div_log, value) { return times(expl(y), y - x); }
EXACT(kl_div_log, dx) { return -expl(y); }
EXACT(kl_div_log, dy) { return times(expl(y), y - x + 1); }

static exact exact_stirling(exact y, const double *p) {
    return p[1] == 0 || !(y > 1) ? 0 : y * logl(y) - y + logl(8 * atanl(1) * y) / 2;
}
static exact exact_stirling_slope(exact y, const double *p) {
    return p[1] == 0 || !(y > 1) ? 0 : logl(y) + 1 / (2 * y);
}

/* An infinite target's logarithm outgrows the logarithm of any rate. */
static bool outgrown(exact y, const double *p) { return p[1] != 0 && y > 0 && isinf(y); }

/* An infinite rate outgrows its logarithm. */
EXACT(poisson_nll_rate, value) {
    return outgrown(y, p) ? y : (x > 0 && isinf(x) ? x : x - times(y, logl(x + p[0]))) + exact_stirling(y, p);
}
EXACT(poisson_nll_rate, dx) { return 1 - (y == 0 ? 0 : y / (x + p[0])); }
EXACT(poisson_nll_rate, dy) { return exact_stirling_slope(y, p) - logl(x + p[0]); }

EXACT(poisson_nll, value) {
    return outgrown(y, p) ? y : (x > 0 && isinf(x) ? x : expl(x) - times(y, x)) + exact_stirling(y, p);
}
EXACT(poisson_nll, dx) { return expl(x) - y; }
EXACT(poisson_nll, dy) { return exact_stirling_slope(y, p) - x; }

static exact exact_below(exact x, const double *p) { return x > p[0] ? 0 : p[0] - x; }

EXACT(hinge_embedding, value) {
    if (y == 1) return x;
    return y == -1 ? exact_below(x, p) : x > p[0] ? x : p[0];
}
EXACT(hinge_embedding, dx) { return (y == -1 ? 0 : 1) - (y == 1 || x > p[0] ? 0 : 1); }
EXACT(hinge_embedding, dy) { return 0; }

#endif
