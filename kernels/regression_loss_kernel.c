/* Elementwise losses of a prediction x and a target y, their sums, and their slopes in x (dx) and in y (dy).
 *
 * VALUE(name), DX(name) and DY(name) belong to the row `name` of regression_loss_list.h, p the numbers of that row.
 * Elements where they are not finite get what regression_loss_exact.h says. */
#include <math.h>

#include "kernels.h"
#include "regression_loss_exact.h"
#include "vector.h"

/* A value is a product, which sums form in double: squares overflow and underflow f32. */
typedef struct factors {
    vec a, b;
} factors;

#define VALUE(name) static inline factors name##_value(vec x, vec y, UNUSED const real *p)
#define SLOPE(name, part) static inline vec name##_##part(UNUSED vec x, UNUSED vec y, UNUSED const real *p)
#define DX(name) SLOPE(name, dx)
#define DY(name) SLOPE(name, dy)
#define SYMMETRIC(name) \
    DY(name) { return name##_dx(y, x, p); }

static inline factors single(vec v) { return (factors){ vec_set(1), v }; }

static inline vec positive_part(vec x) { return vec_select(x < vec_zero(), vec_zero(), x); }

/* ---- (x - y)^2 ---- */

VALUE(mse) { return (factors){ x - y, x - y }; }
DX(mse) { return 2 * (x - y); }
SYMMETRIC(mse)

/* ---- |x - y| ---- */

static inline vec sign(vec x) {
    vec one = vec_set(1);
    return vec_select(x > vec_zero(), one, vec_select(x < vec_zero(), -one, x));
}

VALUE(l1) { return single(vec_abs(x - y)); }
DX(l1) { return sign(x - y); }
SYMMETRIC(l1)

/* ---- d = |x - y| < p0: d^2 / (2 p0), else d - p0 / 2 ---- */

VALUE(smooth_l1) {
    vec d = vec_abs(x - y), beta = vec_set(p[0]);
    vec_bits inside = d < beta;
    return (factors){ vec_select(inside, (real)0.5 * (d / beta), vec_set(1)),
                      vec_select(inside, d, d - (real)0.5 * beta) };
}
DX(smooth_l1) {
    vec d = x - y, beta = vec_set(p[0]);
    return vec_select(vec_abs(d) < beta, d / beta, sign(d));
}
SYMMETRIC(smooth_l1)

/* ---- d = |x - y| <= p0: d^2 / 2, else p0 (d - p0 / 2); with c = min(d, p0) both are c (d - c / 2) ---- */

VALUE(huber) {
    vec d = vec_abs(x - y), delta = vec_set(p[0]), c = vec_select(d < delta, d, delta);
    return (factors){ c, d - (real)0.5 * c };
}
DX(huber) {
    vec d = x - y, delta = vec_set(p[0]);
    return vec_select(d > delta, delta, vec_select(d < -delta, -delta, d));
}
SYMMETRIC(huber)

/* ---- max(x, 0) - x y + log(1 + exp(-|x|)); the first two as x (1 - y), which does not cancel ---- */

VALUE(binary_cross_entropy_with_logits) {
    vec weight = vec_select(x < vec_zero(), vec_zero(), vec_set(1)) - y;
    return single(weight * x + vec_log1p(vec_exp_below(-vec_abs(x))));
}

/* sigmoid(x) - y; for x >= 0 as (1 - y) - sigmoid(-x), which does not cancel when y is 1. */
DX(binary_cross_entropy_with_logits) {
    vec t = vec_exp_below(-vec_abs(x)), small = t / (1 + t);
    return vec_select(x < vec_zero(), small - y, (1 - y) - small);
}
DY(binary_cross_entropy_with_logits) { return -x; }

/* ---- log(1 + exp(-x y)) ---- */

VALUE(soft_margin) {
    vec v = x * y;
    return single(positive_part(-v) + vec_log1p(vec_exp_below(-vec_abs(v))));
}
DX(soft_margin) {
    vec v = x * y, t = vec_exp_below(-vec_abs(v));
    return -y * (vec_select(v > vec_zero(), t, vec_set(1)) / (1 + t));
}
SYMMETRIC(soft_margin)

/* ---- -y log x - (1 - y) log(1 - x), logarithms at least -100 ---- */

static inline vec bounded(vec logarithm) {
    return vec_select(logarithm < vec_set(-100), vec_set(-100), logarithm);
}

VALUE(binary_cross_entropy) {
    return single((y - 1) * bounded(vec_log1p(-x)) - y * bounded(vec_log(x)));
}

/* (1 - y) / (1 - x) - y / x, without the second term at x = 0 and the first at x = 1: there log is the bound. */
DX(binary_cross_entropy) {
    vec variance = (1 - x) * x;
    return vec_select(variance == vec_zero(), (1 - x) - y, (x - y) / variance);
}
DY(binary_cross_entropy) { return bounded(vec_log1p(-x)) - bounded(vec_log(x)); }

/* ---- y (log y - x), 0 at y = 0; and with log y given ---- */

VALUE(kl_div) { return (factors){ y, vec_log(vec_select(y == vec_zero(), vec_set(1), y)) - x }; }
DX(kl_div) { return -y; }
DY(kl_div) { return vec_log(y) + 1 - x; }

VALUE(kl_div_log) { return (factors){ vec_exp(y), y - x }; }
DX(kl_div_log) { return -vec_exp(y); }
DY(kl_div_log) { return vec_exp(y) * (y - x + 1); }

/* ---- exp(x) - y x, x - y log(x + p0), and where p1 is not 0 Stirling's approximation of log y! for y > 1 ---- */

static const real two_pi = (real)6.28318530717958647693;

static inline vec stirling(vec y, const real *p) {
    if (p[1] == 0) return vec_zero();
    vec v = vec_select(y > vec_set(1), y, vec_set(1));
    return vec_select(y > vec_set(1), v * vec_log(v) - v + (real)0.5 * vec_log(two_pi * v), vec_zero());
}

static inline vec stirling_slope(vec y, const real *p) {
    if (p[1] == 0) return vec_zero();
    vec v = vec_select(y > vec_set(1), y, vec_set(1));
    return vec_select(y > vec_set(1), vec_log(v) + (real)0.5 / v, vec_zero());
}

VALUE(poisson_nll) { return single(vec_exp(x) - y * x + stirling(y, p)); }
DX(poisson_nll) { return vec_exp(x) - y; }
DY(poisson_nll) { return stirling_slope(y, p) - x; }

VALUE(poisson_nll_rate) { return single(x - y * vec_log(x + p[0]) + stirling(y, p)); }
DX(poisson_nll_rate) { return ((x - y) + p[0]) / (x + p[0]); }
DY(poisson_nll_rate) { return stirling_slope(y, p) - vec_log(x + p[0]); }

/* ---- x for y = 1, max(0, p0 - x) for y = -1, their sum for any other y ---- */

VALUE(hinge_embedding) {
    vec one = vec_set(1), below = positive_part(p[0] - x);
    vec sum = vec_select(y == -one, vec_zero(), x) + vec_select(y == one, vec_zero(), below);
    return single(vec_select(y == y, sum, y));
}
DX(hinge_embedding) {
    vec one = vec_set(1), below = vec_select(x > vec_set(p[0]), vec_zero(), -one);
    vec sum = vec_select(y == -one, vec_zero(), one) + vec_select(y == one, vec_zero(), below);
    return vec_select(y == y, sum, y);
}
DY(hinge_embedding) { return vec_zero(); }

/* ---- the loops ---- */

typedef factors (*value_function)(vec x, vec y, const real *p);
typedef vec (*slope_function)(vec x, vec y, const real *p);

static const real least_normal = (real)(PSG_REAL_IS_F64 ? 0x1p-1022 : 0x1p-126);

/* Whether the real type has v, but for rounding. */
static bool is_held(double v) {
    real r = (real)v;
    return (double)r == v || !(v - v == 0) || (r - r == 0 && (r < 0 ? -r : r) >= least_normal);
}

static bool are_held(const psg_loss_range *range) {
    bool held = is_held(range->scale);
    for (int k = 0; k < PSG_LOSS_NUMBERS; k++) held &= is_held(range->p[k]);
    return held;
}

static exact exact_at(const psg_loss_range *range, exact_function f, size_t i) {
    exact x = ((const real *)range->x)[i], y = ((const real *)range->y)[i];
    exact weight = range->scale * (range->gy ? (exact)((const real *)range->gy)[i] : 1);
    return isnan(x) || isnan(y) || isnan(weight) ? x + y + weight : times(weight, f(x, y, range->p));
}

/* Of all elements, or those that are not finite. */
static void mend(const psg_loss_range *range, exact_function f, bool all) {
    real *out = range->out;
    for (size_t i = 0; i < range->n; i++) {
        if (all || !(out[i] - out[i] == 0)) out[i] = (real)exact_at(range, f, i);
    }
}

/* out = f(x, y), weighted: scale gy f(x, y) */
static inline __attribute__((always_inline)) void map(const psg_loss_range *range, slope_function f,
                                                      exact_function f_exact, bool weighted) {
    const real *x = range->x, *y = range->y, *gy = range->gy, p[] = { (real)range->p[0], (real)range->p[1] };
    real *out = range->out;
    vec scale = vec_set((real)range->scale), wrong = vec_zero();   /* NaN once a result is not finite */
    bool held = are_held(range), mended = !held;
    size_t i = 0, n = held ? range->n : 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = f(vec_load(x + i), vec_load(y + i), p);
        if (weighted) v *= gy ? scale * vec_load(gy + i) : scale;
        wrong += v - v;
        vec_store(out + i, v);
    }
    if (i < n) {
        vec v = f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i), p);
        if (weighted) v *= gy ? scale * vec_load_part(gy + i, n - i) : scale;
        wrong += vec_first(v - v, n - i);
        vec_store_part(out + i, v, n - i);
    }
    for (size_t k = 0; k < LANES; k++) mended |= wrong[k] != 0;
    if (mended) mend(range, f_exact, !held);
}

static double exact_sum(const psg_loss_range *range, exact_function f) {
    double sum = 0;
    for (size_t i = 0; i < range->n; i++) sum += (double)exact_at(range, f, i);
    return sum;
}

static inline __attribute__((always_inline)) double map_sum(const psg_loss_range *range, value_function f,
                                                            exact_function f_exact) {
    const real *x = range->x, *y = range->y, p[] = { (real)range->p[0], (real)range->p[1] };
    wide sum = wide_zero();
    size_t i = 0, n = range->n;
    for (; i + LANES <= n; i += LANES) {
        factors v = f(vec_load(x + i), vec_load(y + i), p);
        sum = wide_add_product(sum, v.a, v.b);
    }
    double total = wide_sum(sum);
    if (i < n) {
        factors v = f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i), p);
        for (size_t k = 0; k < n - i; k++) total = add_product(total, (double)v.a[k], (double)v.b[k]);
    }
    total *= range->scale;
    return total - total == 0 && are_held(range) ? total : exact_sum(range, f_exact);
}

#define LOSS(name)                                                                                                  \
    static inline vec name##_product(vec x, vec y, const real *p) {                                                 \
        factors v = name##_value(x, y, p);                                                                          \
        return v.a * v.b;                                                                                           \
    }                                                                                                               \
    static void name##_values(const psg_loss_range *range) { map(range, name##_product, name##_exact_value, false); } \
    static void name##_dxs(const psg_loss_range *range) { map(range, name##_dx, name##_exact_dx, true); }           \
    static void name##_dys(const psg_loss_range *range) { map(range, name##_dy, name##_exact_dy, true); }           \
    static double name##_sum(const psg_loss_range *range) { return map_sum(range, name##_value, name##_exact_value); }
#define LOSS_OR(name, other) LOSS(name) LOSS(other)
#include "regression_loss_list.h"

static const struct {
    void (*part[3])(const psg_loss_range *range);   /* by psg_loss_part */
    double (*sum)(const psg_loss_range *range);
} loops[] = {
#define LOSS(name) [PSG_LOSS_##name] = { { name##_values, name##_dxs, name##_dys }, name##_sum },
#define LOSS_OR(name, other) LOSS(name) LOSS(other)
#include "regression_loss_list.h"
};

void PSG_KERNEL(loss)(const psg_loss_range *range, psg_loss_part part) { loops[range->f].part[part](range); }

double PSG_KERNEL(loss_sum)(const psg_loss_range *range) { return loops[range->f].sum(range); }

/* ---- ranges of values ---- */

size_t PSG_KERNEL(first_outside)(size_t n, double low, double high, const void *x_) {
    const real *x = x_;
    vec least = vec_set((real)low), most = vec_set((real)high);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = vec_load(x + i);
        vec_bits outside = (v < least) | (v > most);
        real_bits any = 0;
        for (size_t k = 0; k < LANES; k++) any |= outside[k];
        if (any) break;
    }
    while (i < n && !(x[i] < (real)low || x[i] > (real)high)) i++;
    return i;
}
