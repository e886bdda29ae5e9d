/* Elementwise functions and their derivatives, at kinks those of PyTorch.  Each derivative is computed from x, so that
 * it keeps its relative accuracy where the function has saturated (1 - tanh^2 from tanh would not).  NaN passes.
 *
 * VALUE(name) is f(x) and SLOPE(name) is g f'(x) of the row `name` of activation_list.h, p the numbers of that row. */
#include "kernels.h"
#include "logistic.h"

#define UNUSED __attribute__((unused))
#define VALUE(name) static inline vec name##_value(vec x, UNUSED const real *p)
#define SLOPE(name) static inline vec name##_slope(vec x, vec g, UNUSED const real *p)

static inline vec positive_part(vec x) { return vec_select(x <= vec_zero(), vec_zero(), x); }

/* ---- piecewise linear ---- */

VALUE(relu) { return positive_part(x); }
SLOPE(relu) { return vec_select(x <= vec_zero(), vec_zero(), g); }

VALUE(leaky_relu) { return vec_select(x > vec_zero(), x, p[0] * x); }
SLOPE(leaky_relu) { return vec_select(x > vec_zero(), g, p[0] * g); }

static inline vec between(vec x, real low, real high) {
    x = vec_select(x > vec_set(high), vec_set(high), x);
    return vec_select(x < vec_set(low), vec_set(low), x);
}

static inline vec between_slope(vec x, vec g, real low, real high) {
    return vec_select((x <= vec_set(low)) | (x >= vec_set(high)), vec_zero(), g);
}

VALUE(hardtanh) { return between(x, p[0], p[1]); }
SLOPE(hardtanh) { return between_slope(x, g, p[0], p[1]); }

VALUE(relu6) { return between(x, 0, 6); }
SLOPE(relu6) { return between_slope(x, g, 0, 6); }

/* (x + 3) / 6 in [0, 1] */
VALUE(hardsigmoid) { return (between(x, -3, 3) + 3) / 6; }
SLOPE(hardsigmoid) { return between_slope(x, g / 6, -3, 3); }

VALUE(hardswish) { return x * hardsigmoid_value(x, p); }
SLOPE(hardswish) {
    vec inner = g * (x / 3 + (real)0.5);
    return vec_select(x <= vec_set(-3), vec_zero(), vec_select(x >= vec_set(3), g, inner));
}

VALUE(softshrink) {
    vec least = vec_set(p[0]), inner = vec_select(x == x, vec_zero(), x);
    return vec_select(x > least, x - least, vec_select(x < -least, x + least, inner));
}

static inline vec outside(vec x, vec v, real bound) {
    return vec_select((x >= vec_set(-bound)) & (x <= vec_set(bound)), vec_zero(), v);
}

SLOPE(softshrink) { return outside(x, g, p[0]); }

VALUE(hardshrink) { return outside(x, x, p[0]); }
SLOPE(hardshrink) { return outside(x, g, p[0]); }

VALUE(threshold) { return vec_select(x <= vec_set(p[0]), vec_set(p[1]), x); }
SLOPE(threshold) { return vec_select(x <= vec_set(p[0]), vec_zero(), g); }

VALUE(abs) { return vec_abs(x); }
SLOPE(abs) { return vec_select(x > vec_zero(), g, vec_select(x < vec_zero(), -g, vec_zero())); }

/* ---- tanh ---- */

VALUE(tanh) { return vec_tanh(x); }

/* sech^2 x = 4 t / (1 + t)^2, t = exp(-2 |x|) */
SLOPE(tanh) {
    vec t = decay(2 * x), d = 1 + t;
    return g * (4 * t / (d * d));
}

VALUE(tanhshrink) { return x - vec_tanh(x); }
SLOPE(tanhshrink) {
    vec t = vec_tanh(x);
    return g * (t * t);
}

/* ---- the logistic family: see logistic.h ---- */

VALUE(sigmoid) { return logistic(x); }
SLOPE(sigmoid) { return g * logistic_derivative(x); }

VALUE(silu) { return x * logistic(x); }

/* s + x s' = (s (1 + t) (1 + t) + x t) / (1 + t)^2, the first term (1 + t) or t (1 + t) */
SLOPE(silu) {
    vec t = decay(x), d = 1 + t, first = vec_select(x < vec_zero(), t, vec_set(1));
    return g * ((first * d + x * t) / (d * d));
}

static inline vec softplus_of(vec x) { return positive_part(x) + vec_log1p(decay(x)); }

/* log(1 + exp(p0 x)) / p0; x where p0 x > p1 */
VALUE(softplus) {
    vec v = p[0] * x;
    return vec_select(v > vec_set(p[1]), x, softplus_of(v) / p[0]);
}
SLOPE(softplus) {
    vec v = p[0] * x;
    return vec_select(v > vec_set(p[1]), g, g * logistic(v));
}

VALUE(logsigmoid) { return -softplus_of(-x); }
SLOPE(logsigmoid) { return g * logistic(-x); }

/* tanh(log(1 + e)) = n / d with e = exp x, n = e^2 + 2 e, d = n + 2; above 0 both divided by e^2. */
VALUE(mish) {
    vec t = decay(x), n = vec_select(x < vec_zero(), t * (t + 2), 1 + 2 * t);
    return x * (n / (n + 2 * vec_select(x < vec_zero(), vec_set(1), t * t)));
}

/* n / d + x 4 e (1 + e) / d^2 */
SLOPE(mish) {
    vec_bits negative = x < vec_zero();
    vec t = decay(x), n = vec_select(negative, t * (t + 2), 1 + 2 * t);
    vec d = n + 2 * vec_select(negative, vec_set(1), t * t);
    vec e = vec_select(negative, t, t * t);
    return g * (n / d + x * (4 * e * (1 + t) / (d * d)));
}

/* ---- gelu: x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2, which does not cancel for negative x ---- */

static const real sqrt_half = (real)0.70710678118654752440;
static const real inv_sqrt_2pi = (real)0.39894228040143267794;

static inline vec normal_cdf(vec x) { return (real)0.5 * vec_erfc(-sqrt_half * x); }

VALUE(gelu) { return x * normal_cdf(x); }

/* Phi(x) + x phi(x) */
SLOPE(gelu) {
    vec density = inv_sqrt_2pi * vec_exp_below((real)-0.5 * x * x);
    return g * (normal_cdf(x) + x * density);
}

/* ---- gelu, tanh form: x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) ---- */

static const real two_root = (real)1.59576912160573071176;   /* 2 sqrt(2 / pi) */
static const real cubic = (real)0.044715;

/* sigmoid(2 u) is 0 or 1 beyond +-64 in either type; a cube that overflowed would give NaN there. */
static inline vec cubed_part(vec x) { return between(x, -64, 64); }

VALUE(gelu_tanh) {
    vec c = cubed_part(x);
    return x * logistic(two_root * c * (1 + cubic * c * c));
}

/* s + x s' (2 u)' */
SLOPE(gelu_tanh) {
    vec c = cubed_part(x), square = c * c, v = two_root * c * (1 + cubic * square);
    return g * (logistic(v) + c * logistic_derivative(v) * (two_root * (1 + 3 * cubic * square)));
}

/* ---- elu, celu, selu: x > 0: scale x, else below (exp(inverse x) - 1) ---- */

/* min(x, 0): exp of the rest is not needed, and slow where it overflows. */
static inline vec negative_part(vec x) { return vec_select(x > vec_zero(), vec_zero(), x); }

static inline vec elu_of(vec x, real scale, real below, real inverse) {
    vec v = inverse * negative_part(x);
    v = vec_select(v < vec_set(-40), vec_set(-40), v);   /* exp(-40) - 1 is -1 */
    return vec_select(x > vec_zero(), scale * x, below * vec_expm1(v));
}

static inline vec elu_slope_of(vec x, vec g, real scale, real below, real inverse) {
    vec slope = below * inverse * vec_exp_below(inverse * negative_part(x));
    return vec_select(x > vec_zero(), scale * g, g * slope);
}

VALUE(elu) { return elu_of(x, 1, p[0], 1); }
SLOPE(elu) { return elu_slope_of(x, g, 1, p[0], 1); }

VALUE(celu) { return elu_of(x, 1, p[0], 1 / p[0]); }
SLOPE(celu) { return elu_slope_of(x, g, 1, p[0], 1 / p[0]); }

static const real selu_scale = (real)1.0507009873554804934193349852946;
static const real selu_below = (real)(1.0507009873554804934193349852946 * 1.6732632423543772848170429916717);

VALUE(selu) { return elu_of(x, selu_scale, selu_below, 1); }
SLOPE(selu) { return elu_slope_of(x, g, selu_scale, selu_below, 1); }

/* ---- x / (1 + |x|) ---- */

VALUE(softsign) { return x / (1 + vec_abs(x)); }
SLOPE(softsign) {
    vec d = 1 + vec_abs(x);
    return g / d / d;
}

/* ---- exp, log, sqrt, square, sin, cos ---- */

VALUE(exp) { return vec_exp(x); }
SLOPE(exp) { return g * vec_exp(x); }

VALUE(log) { return vec_log(x); }
SLOPE(log) { return g / x; }

VALUE(sqrt) { return vec_sqrt(x); }
SLOPE(sqrt) { return g / (2 * vec_sqrt(x)); }

VALUE(square) { return x * x; }
SLOPE(square) { return g * (2 * x); }

VALUE(sin) { return vec_sin(x); }
SLOPE(sin) { return g * vec_cos(x); }

VALUE(cos) { return vec_cos(x); }
SLOPE(cos) { return -g * vec_sin(x); }

/* ---- the loops ---- */

typedef vec (*value_function)(vec x, const real *p);
typedef vec (*slope_function)(vec x, vec g, const real *p);

static inline __attribute__((always_inline)) void map(size_t n, const real *x, real *y, const real *p,
                                                      value_function f) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(y + i, f(vec_load(x + i), p));
    if (i < n) vec_store_part(y + i, f(vec_load_part(x + i, n - i), p), n - i);
}

static inline __attribute__((always_inline)) void map_slope(size_t n, const real *x, const real *g, real *gx,
                                                            const real *p, slope_function f) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(gx + i, f(vec_load(x + i), vec_load(g + i), p));
    if (i < n) vec_store_part(gx + i, f(vec_load_part(x + i, n - i), vec_load_part(g + i, n - i), p), n - i);
}

#define ACTIVATION(name)                                                                        \
    static void name##_values(size_t n, const real *x, real *y, const real *p) {                \
        map(n, x, y, p, name##_value);                                                          \
    }                                                                                           \
    static void name##_slopes(size_t n, const real *x, const real *g, real *gx, const real *p) { \
        map_slope(n, x, g, gx, p, name##_slope);                                                \
    }
#define ACTIVATION_OR(name, other, flag) ACTIVATION(name) ACTIVATION(other)
#include "activation_list.h"

static const struct {
    void (*values)(size_t n, const real *x, real *y, const real *p);
    void (*slopes)(size_t n, const real *x, const real *g, real *gx, const real *p);
} loops[] = {
#define ACTIVATION(name) [PSG_FUNCTION_##name] = { name##_values, name##_slopes },
#define ACTIVATION_OR(name, other, flag) ACTIVATION(name) ACTIVATION(other)
#include "activation_list.h"
};

void PSG_KERNEL(function)(psg_function f, size_t n, const double *numbers, const void *x, void *y) {
    real p[PSG_FUNCTION_NUMBERS];
    for (int k = 0; k < PSG_FUNCTION_NUMBERS; k++) p[k] = (real)numbers[k];
    loops[f].values(n, x, y, p);
}

void PSG_KERNEL(function_backward)(psg_function f, size_t n, const double *numbers, const void *x, const void *g,
                                   void *gx) {
    real p[PSG_FUNCTION_NUMBERS];
    for (int k = 0; k < PSG_FUNCTION_NUMBERS; k++) p[k] = (real)numbers[k];
    loops[f].slopes(n, x, g, gx, p);
}
