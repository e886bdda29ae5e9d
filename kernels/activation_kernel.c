/* Elementwise functions and their derivatives, at kinks those of PyTorch.  Each derivative is computed from x, so that
 * it keeps its relative accuracy where the function has saturated (1 - tanh^2 from tanh would not).  At +-Inf value and
 * slope are their limits: a factor that vanishes is multiplied by x held within bounds beyond which it is 0, for 0 Inf
 * is NaN.  NaN gives NaN.
 *
 * VALUE(name) is f(x) and SLOPE(name) is g f'(x) of the row `name` of activation_list.h, p the numbers of that row. */
#include "kernels.h"
#include "logistic.h"

#define UNUSED __attribute__((unused))
#define VALUE(name) static inline vec name##_value(vec x, UNUSED const real *p)
#define SLOPE(name) static inline vec name##_slope(vec x, vec g, UNUSED const real *p)

/* NaN passes. */
static inline vec at_least(vec x, real low) { return vec_max(vec_set(low), x); }
static inline vec at_most(vec x, real high) { return vec_min(vec_set(high), x); }
static inline vec between(vec x, real low, real high) { return at_least(at_most(x, high), low); }

static inline vec negative_part(vec x) { return at_most(x, 0); }

/* v, and NaN (all bits set) where x is: what comparisons choose has forgotten it. */
static inline vec keep_nan(vec v, vec x) { return (vec)((vec_bits)v | (x != x)); }

/* ---- piecewise linear ---- */

VALUE(relu) { return at_least(x, 0); }
SLOPE(relu) { return keep_nan(vec_select(x <= vec_zero(), vec_zero(), g), x); }

/* Slope 0 is that of relu, at -Inf too. */
VALUE(leaky_relu) { return vec_select(x > vec_zero(), x, p[0] == 0 ? keep_nan(vec_zero(), x) : p[0] * x); }
SLOPE(leaky_relu) { return keep_nan(vec_select(x > vec_zero(), g, p[0] == 0 ? vec_zero() : p[0] * g), x); }

static inline vec between_slope(vec x, vec g, real low, real high) {
    return keep_nan(vec_select((x <= vec_set(low)) | (x >= vec_set(high)), vec_zero(), g), x);
}

VALUE(hardtanh) { return between(x, p[0], p[1]); }
SLOPE(hardtanh) { return between_slope(x, g, p[0], p[1]); }

VALUE(relu6) { return between(x, 0, 6); }
SLOPE(relu6) { return between_slope(x, g, 0, 6); }

/* (x + 3) / 6 in [0, 1] */
VALUE(hardsigmoid) { return (between(x, -3, 3) + 3) / 6; }
SLOPE(hardsigmoid) { return between_slope(x, g / 6, -3, 3); }

VALUE(hardswish) { return at_least(x, -3) * hardsigmoid_value(x, p); }
SLOPE(hardswish) {
    vec inner = g * (x / 3 + (real)0.5);
    return vec_select(x <= vec_set(-3), vec_zero(), vec_select(x >= vec_set(3), g, inner));
}

/* v where |x| > bound, else 0 */
static inline vec outside(vec x, vec v, real bound) {
    return vec_select((x >= vec_set(-bound)) & (x <= vec_set(bound)), vec_zero(), v);
}

VALUE(softshrink) {
    vec rest = vec_select(x < -vec_set(p[0]), x + p[0], keep_nan(vec_zero(), x));
    return vec_select(x > vec_set(p[0]), x - p[0], rest);
}
SLOPE(softshrink) { return keep_nan(outside(x, g, p[0]), x); }

VALUE(hardshrink) { return outside(x, x, p[0]); }
SLOPE(hardshrink) { return keep_nan(outside(x, g, p[0]), x); }

VALUE(threshold) { return vec_select(x <= vec_set(p[0]), vec_set(p[1]), x); }
SLOPE(threshold) { return keep_nan(vec_select(x <= vec_set(p[0]), vec_zero(), g), x); }

VALUE(abs) { return vec_abs(x); }
SLOPE(abs) {
    return keep_nan(vec_select(x > vec_zero(), g, vec_select(x < vec_zero(), -g, vec_zero())), x);
}

/* ---- tanh ---- */

VALUE(tanh) { return vec_tanh(x); }

/* sech^2 x = 4 t / (1 + t)^2, t = exp(-2 |x|) */
SLOPE(tanh) {
    vec t = decay(2 * x), d = 1 + t;
    return g * (4 * t / (d * d));
}

/* x - tanh x for |x| < 1, where the difference would cancel: with tanh x = x / (1 + w), w = y / (3 + y / (5 + ...)) and
 * y = x^2 it is x w / (1 + w), here w to its eighth step, within 1e-16 of it. */
static inline vec tanhshrink_near_zero(vec x) {
    vec y = x * x;
    vec w = y * (((real)(44.0 / 34459425) * y + (real)(2.0 / 5355)) * y + (real)(2.0 / 85)) + (real)(1.0 / 3);
    vec d = (((real)(1.0 / 765765) * y + (real)(4.0 / 9945)) * y + (real)(7.0 / 255)) * y + (real)(8.0 / 17);
    return x * (y * w / (1 + y * d));
}

VALUE(tanhshrink) { return vec_select(vec_abs(x) < vec_set(1), tanhshrink_near_zero(x), x - vec_tanh(x)); }
SLOPE(tanhshrink) {
    vec t = vec_tanh(x);
    return g * (t * t);
}

/* ---- the logistic family: see logistic.h.  Beyond +-1000 exp(-|x|) is 0 in either type ---- */

VALUE(sigmoid) { return logistic(x); }
SLOPE(sigmoid) { return g * logistic_derivative(x); }

VALUE(silu) { return at_least(x, -1000) * logistic(x); }

/* s + x s' = (s (1 + t) (1 + t) + x t) / (1 + t)^2, the first term (1 + t) or t (1 + t) */
SLOPE(silu) {
    vec c = between(x, -1000, 1000), t = decay(c), d = 1 + t, first = vec_select(c < vec_zero(), t, vec_set(1));
    return g * ((first * d + c * t) / (d * d));
}

/* log(1 + exp(v)) / p0 with v = p0 x, and x where v > p1.  Above v = 0 it is x + log(1 + exp(-v)) / p0. */
VALUE(softplus) {
    vec v = p[0] * x, linear = vec_select(v <= vec_zero(), vec_zero(), x);
    return vec_select(v > vec_set(p[1]), x, linear + vec_log1p(decay(v)) / p[0]);
}
SLOPE(softplus) {
    vec v = p[0] * x;
    return vec_select(v > vec_set(p[1]), g, g * logistic(v));
}

VALUE(logsigmoid) { return negative_part(x) - vec_log1p(decay(x)); }
SLOPE(logsigmoid) { return g * logistic(-x); }

/* tanh(log(1 + e)) = n / d with e = exp x, n = e^2 + 2 e, d = n + 2; above 0 both divided by e^2. */
VALUE(mish) {
    vec t = decay(x), n = vec_select(x < vec_zero(), t * (t + 2), 1 + 2 * t);
    return at_least(x, -1000) * (n / (n + 2 * vec_select(x < vec_zero(), vec_set(1), t * t)));
}

/* n / d + x 4 e (1 + e) / d^2 */
SLOPE(mish) {
    vec c = between(x, -1000, 1000), t = decay(c);
    vec_bits negative = c < vec_zero();
    vec n = vec_select(negative, t * (t + 2), 1 + 2 * t);
    vec d = n + 2 * vec_select(negative, vec_set(1), t * t);
    vec e = vec_select(negative, t, t * t);
    return g * (n / d + c * (4 * e * (1 + t) / (d * d)));
}

/* ---- gelu: x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2, which does not cancel for negative x ---- */

static const real sqrt_half = (real)0.70710678118654752440;
static const real inv_sqrt_2pi = (real)0.39894228040143267794;

static inline vec normal_cdf(vec x) { return (real)0.5 * vec_erfc(-sqrt_half * x); }

/* Phi(-64) is 0 in either type. */
VALUE(gelu) { return at_least(x, -64) * normal_cdf(x); }

/* Phi(x) + x phi(x) */
SLOPE(gelu) {
    return g * (normal_cdf(x) + vec_times_exp_below(inv_sqrt_2pi * x, (real)-0.5 * x * x));
}

/* ---- gelu, tanh form: x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) ---- */

static const real two_root = (real)1.59576912160573071176;   /* 2 sqrt(2 / pi) */
static const real cubic = (real)0.044715;

/* sigmoid(2 u) is 0 or 1 beyond +-64 in either type; a cube that overflowed would give NaN there. */
VALUE(gelu_tanh) {
    vec low = at_least(x, -64), c = at_most(low, 64);
    return low * logistic(two_root * c * (1 + cubic * c * c));
}

/* s + x s' (2 u)' */
SLOPE(gelu_tanh) {
    vec c = between(x, -64, 64), square = c * c, v = two_root * c * (1 + cubic * square);
    return g * (logistic(v) + c * logistic_derivative(v) * (two_root * (1 + 3 * cubic * square)));
}

/* ---- elu, selu, celu: exp(v) - 1 of v <= 0 alone, for it is slow where it overflows; it is -1 from -40 on ---- */

static inline vec expm1_below(vec v) { return vec_expm1(at_least(v, -40)); }

/* scale x, below 0 scale_below (exp(x) - 1) */
static inline vec elu(vec x, real scale, real scale_below) {
    return vec_select(x > vec_zero(), scale * x, scale_below * expm1_below(negative_part(x)));
}
static inline vec elu_gradient(vec x, vec g, real scale, real scale_below) {
    return vec_select(x > vec_zero(), scale * g, g * (scale_below * vec_exp_below(negative_part(x))));
}

VALUE(elu) { return elu(x, 1, p[0]); }
SLOPE(elu) { return elu_gradient(x, g, 1, p[0]); }

static const real selu_scale = (real)1.0507009873554804934193349852946;
static const real selu_below = (real)(1.0507009873554804934193349852946 * 1.6732632423543772848170429916717);

VALUE(selu) { return elu(x, selu_scale, selu_below); }
SLOPE(selu) { return elu_gradient(x, g, selu_scale, selu_below); }

/* p0 (exp(v) - 1), v = x / p0; x itself where v is so small that it may have lost its last bits. */
VALUE(celu) {
    vec v = negative_part(x) / p[0];
    vec_bits linear = (x > vec_zero()) | (vec_abs(v) < vec_set((real)0x1p-60));
    return vec_select(linear, x, p[0] * expm1_below(v));
}
SLOPE(celu) { return vec_select(x > vec_zero(), g, g * vec_exp_below(negative_part(x) / p[0])); }

/* ---- x / (1 + |x|), +-1 beyond 2^60 ---- */

VALUE(softsign) {
    vec c = between(x, (real)-0x1p60, (real)0x1p60);
    return c / (1 + vec_abs(c));
}
SLOPE(softsign) {
    vec d = 1 + vec_abs(x);
    return g / d / d;
}

/* ---- exp, log, sqrt, square, sin, cos ---- */

VALUE(exp) { return vec_exp(x); }
SLOPE(exp) { return g * vec_exp(x); }

/* The slopes of log and sqrt at -0 are those at 0: -0 + 0 is 0. */
VALUE(log) { return vec_log(x); }
SLOPE(log) { return g / (x + vec_zero()); }

VALUE(sqrt) { return vec_sqrt(x); }
SLOPE(sqrt) { return g / (2 * vec_sqrt(x + vec_zero())); }

VALUE(square) { return x * x; }
SLOPE(square) { return 2 * (g * x); }

VALUE(sin) { return vec_sin(x); }
SLOPE(sin) { return g * vec_cos(x); }

VALUE(cos) { return vec_cos(x); }
SLOPE(cos) { return -g * vec_sin(x); }

/* ---- the loops ---- */

typedef vec (*value_function)(vec x, const real *p);
typedef vec (*slope_function)(vec x, vec g, const real *p);

static inline __attribute__((always_inline)) void map(size_t n, const real *x, real *y, const real *p,
                                                      value_function f) {
    const real q[PSG_FUNCTION_NUMBERS] = { p[0], p[1] };   /* y may not change them */
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(y + i, f(vec_load(x + i), q));
    if (i < n) vec_store_part(y + i, f(vec_load_part(x + i, n - i), q), n - i);
}

static inline __attribute__((always_inline)) void map_slope(size_t n, const real *x, const real *g, real *gx,
                                                            const real *p, slope_function f) {
    const real q[PSG_FUNCTION_NUMBERS] = { p[0], p[1] };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(gx + i, f(vec_load(x + i), vec_load(g + i), q));
    if (i < n) vec_store_part(gx + i, f(vec_load_part(x + i, n - i), vec_load_part(g + i, n - i), q), n - i);
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
