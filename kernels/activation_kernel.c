/* Elementwise functions and their derivatives, at kinks those of PyTorch.  Each derivative is computed from x, so that
 * it keeps its relative accuracy where the function has saturated (1 - tanh^2 from tanh would not).  NaN passes.
 *
 * value(x) and slope(x, g) = g f'(x) are vector functions, made into loops by map and map_slope. */
#include "kernels.h"
#include "logistic.h"

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

static inline vec positive_part(vec x) { return vec_select(x <= vec_zero(), vec_zero(), x); }

/* ---- piecewise linear ---- */

static inline vec relu(vec x, const real *p) {
    (void)p;
    return positive_part(x);
}

static inline vec relu_slope(vec x, vec g, const real *p) {
    (void)p;
    return vec_select(x <= vec_zero(), vec_zero(), g);
}

static inline vec leaky_relu(vec x, const real *p) { return vec_select(x > vec_zero(), x, p[0] * x); }
static inline vec leaky_relu_slope(vec x, vec g, const real *p) { return vec_select(x > vec_zero(), g, p[0] * g); }

static inline vec hardtanh(vec x, const real *p) {
    vec high = vec_select(x > vec_set(p[1]), vec_set(p[1]), x);
    return vec_select(high < vec_set(p[0]), vec_set(p[0]), high);
}

static inline vec hardtanh_slope(vec x, vec g, const real *p) {
    return vec_select((x <= vec_set(p[0])) | (x >= vec_set(p[1])), vec_zero(), g);
}

static const real three[2] = { -3, 3 };

static inline vec hardsigmoid(vec x, const real *p) {
    (void)p;
    return (hardtanh(x, three) + 3) / 6;
}

static inline vec hardsigmoid_slope(vec x, vec g, const real *p) {
    (void)p;
    return hardtanh_slope(x, g / 6, three);
}

static inline vec hardswish(vec x, const real *p) { return x * hardsigmoid(x, p); }

static inline vec hardswish_slope(vec x, vec g, const real *p) {
    (void)p;
    vec inner = g * (x / 3 + (real)0.5);
    return vec_select(x <= vec_set(-3), vec_zero(), vec_select(x >= vec_set(3), g, inner));
}

static inline vec softshrink(vec x, const real *p) {
    vec least = vec_set(p[0]), inner = vec_select(x == x, vec_zero(), x);
    return vec_select(x > least, x - least, vec_select(x < -least, x + least, inner));
}

static inline vec hardshrink(vec x, const real *p) {
    return vec_select((x >= vec_set(-p[0])) & (x <= vec_set(p[0])), vec_zero(), x);
}

static inline vec shrink_slope(vec x, vec g, const real *p) {
    return vec_select((x >= vec_set(-p[0])) & (x <= vec_set(p[0])), vec_zero(), g);
}

static inline vec threshold(vec x, const real *p) { return vec_select(x <= vec_set(p[0]), vec_set(p[1]), x); }
static inline vec threshold_slope(vec x, vec g, const real *p) {
    return vec_select(x <= vec_set(p[0]), vec_zero(), g);
}

static inline vec absolute(vec x, const real *p) {
    (void)p;
    return vec_abs(x);
}

static inline vec absolute_slope(vec x, vec g, const real *p) {
    (void)p;
    return vec_select(x > vec_zero(), g, vec_select(x < vec_zero(), -g, vec_zero()));
}

/* ---- tanh ---- */

static inline vec hyperbolic(vec x, const real *p) {
    (void)p;
    return vec_tanh(x);
}

/* sech^2 x = 4 t / (1 + t)^2, t = exp(-2 |x|) */
static inline vec hyperbolic_slope(vec x, vec g, const real *p) {
    (void)p;
    vec t = decay(2 * x), d = 1 + t;
    return g * (4 * t / (d * d));
}

static inline vec tanhshrink(vec x, const real *p) {
    (void)p;
    return x - vec_tanh(x);
}

static inline vec tanhshrink_slope(vec x, vec g, const real *p) {
    (void)p;
    vec t = vec_tanh(x);
    return g * (t * t);
}

/* ---- the logistic family: see logistic.h ---- */

static inline vec sigmoid(vec x, const real *p) {
    (void)p;
    return logistic(x);
}

static inline vec sigmoid_slope(vec x, vec g, const real *p) {
    (void)p;
    return g * logistic_derivative(x);
}

static inline vec silu(vec x, const real *p) {
    (void)p;
    return x * logistic(x);
}

/* s + x s' = (s (1 + t) (1 + t) + x t) / (1 + t)^2, the first term (1 + t) or t (1 + t) */
static inline vec silu_slope(vec x, vec g, const real *p) {
    (void)p;
    vec t = decay(x), d = 1 + t, first = vec_select(x < vec_zero(), t, vec_set(1));
    return g * ((first * d + x * t) / (d * d));
}

static inline vec softplus_of(vec x) { return positive_part(x) + vec_log1p(decay(x)); }

static inline vec softplus(vec x, const real *p) {
    vec v = p[0] * x;
    return vec_select(v > vec_set(p[1]), x, softplus_of(v) / p[0]);
}

static inline vec softplus_slope(vec x, vec g, const real *p) {
    vec v = p[0] * x;
    return vec_select(v > vec_set(p[1]), g, g * logistic(v));
}

static inline vec logsigmoid(vec x, const real *p) {
    (void)p;
    return -softplus_of(-x);
}

static inline vec logsigmoid_slope(vec x, vec g, const real *p) {
    (void)p;
    return g * logistic(-x);
}

/* tanh(log(1 + e)) = n / d with e = exp x, n = e^2 + 2 e, d = n + 2; above 0 both divided by e^2. */
static inline vec mish(vec x, const real *p) {
    (void)p;
    vec t = decay(x), n = vec_select(x < vec_zero(), t * (t + 2), 1 + 2 * t);
    return x * (n / (n + 2 * vec_select(x < vec_zero(), vec_set(1), t * t)));
}

/* n / d + x 4 e (1 + e) / d^2 */
static inline vec mish_slope(vec x, vec g, const real *p) {
    (void)p;
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

static inline vec gelu(vec x, const real *p) {
    (void)p;
    return x * normal_cdf(x);
}

/* Phi(x) + x phi(x) */
static inline vec gelu_slope(vec x, vec g, const real *p) {
    (void)p;
    vec density = inv_sqrt_2pi * vec_exp_below((real)-0.5 * x * x);
    return g * (normal_cdf(x) + x * density);
}

/* ---- gelu, tanh form: x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) ---- */

static const real two_root = (real)1.59576912160573071176;   /* 2 sqrt(2 / pi) */
static const real cubic = (real)0.044715;

/* sigmoid(2 u) is 0 or 1 beyond +-64 in either type; a cube that overflowed would give NaN there. */
static const real sixty_four[2] = { -64, 64 };

static inline vec gelu_tanh(vec x, const real *p) {
    (void)p;
    vec c = hardtanh(x, sixty_four);
    return x * logistic(two_root * c * (1 + cubic * c * c));
}

/* s + x s' (2 u)' */
static inline vec gelu_tanh_slope(vec x, vec g, const real *p) {
    (void)p;
    vec c = hardtanh(x, sixty_four), square = c * c, v = two_root * c * (1 + cubic * square);
    return g * (logistic(v) + c * logistic_derivative(v) * (two_root * (1 + 3 * cubic * square)));
}

/* ---- elu, celu, selu ---- */

/* min(x, 0): exp of the rest is not needed, and slow where it overflows. */
static inline vec negative_part(vec x) { return vec_select(x > vec_zero(), vec_zero(), x); }

static inline vec elu(vec x, const real *p) {
    vec v = p[2] * negative_part(x);
    v = vec_select(v < vec_set(-40), vec_set(-40), v);   /* exp(-40) - 1 is -1 */
    return vec_select(x > vec_zero(), p[1] * x, p[0] * vec_expm1(v));
}

static inline vec elu_slope(vec x, vec g, const real *p) {
    vec below = p[0] * p[2] * vec_exp_below(p[2] * negative_part(x));
    return vec_select(x > vec_zero(), p[1] * g, g * below);
}

/* ---- x / (1 + |x|) ---- */

static inline vec softsign(vec x, const real *p) {
    (void)p;
    return x / (1 + vec_abs(x));
}

static inline vec softsign_slope(vec x, vec g, const real *p) {
    (void)p;
    vec d = 1 + vec_abs(x);
    return g / d / d;
}

/* ---- exp, log, sqrt, square, sin, cos ---- */

static inline vec exponential(vec x, const real *p) {
    (void)p;
    return vec_exp(x);
}

static inline vec exponential_slope(vec x, vec g, const real *p) { return g * exponential(x, p); }

static inline vec logarithm(vec x, const real *p) {
    (void)p;
    return vec_log(x);
}

static inline vec logarithm_slope(vec x, vec g, const real *p) {
    (void)p;
    return g / x;
}

static inline vec root(vec x, const real *p) {
    (void)p;
    return vec_sqrt(x);
}

static inline vec root_slope(vec x, vec g, const real *p) { return g / (2 * root(x, p)); }

static inline vec square(vec x, const real *p) {
    (void)p;
    return x * x;
}

static inline vec square_slope(vec x, vec g, const real *p) {
    (void)p;
    return g * (2 * x);
}

static inline vec sine(vec x, const real *p) {
    (void)p;
    return vec_sin(x);
}

static inline vec cosine(vec x, const real *p) {
    (void)p;
    return vec_cos(x);
}

static inline vec sine_slope(vec x, vec g, const real *p) { return g * cosine(x, p); }
static inline vec cosine_slope(vec x, vec g, const real *p) { return -g * sine(x, p); }

/* ---- the loops ---- */

void PSG_KERNEL(function)(psg_function f, size_t n, const double *parameters, const void *x, void *y) {
    real p[PSG_FUNCTION_PARAMETERS];
    for (int k = 0; k < PSG_FUNCTION_PARAMETERS; k++) p[k] = (real)parameters[k];
    switch (f) {
    case PSG_RELU: map(n, x, y, p, relu); break;
    case PSG_TANH: map(n, x, y, p, hyperbolic); break;
    case PSG_SIGMOID: map(n, x, y, p, sigmoid); break;
    case PSG_GELU: map(n, x, y, p, gelu); break;
    case PSG_GELU_TANH: map(n, x, y, p, gelu_tanh); break;
    case PSG_SILU: map(n, x, y, p, silu); break;
    case PSG_MISH: map(n, x, y, p, mish); break;
    case PSG_SOFTPLUS: map(n, x, y, p, softplus); break;
    case PSG_LOGSIGMOID: map(n, x, y, p, logsigmoid); break;
    case PSG_ELU: map(n, x, y, p, elu); break;
    case PSG_LEAKY_RELU: map(n, x, y, p, leaky_relu); break;
    case PSG_HARDTANH: map(n, x, y, p, hardtanh); break;
    case PSG_HARDSIGMOID: map(n, x, y, p, hardsigmoid); break;
    case PSG_HARDSWISH: map(n, x, y, p, hardswish); break;
    case PSG_SOFTSIGN: map(n, x, y, p, softsign); break;
    case PSG_TANHSHRINK: map(n, x, y, p, tanhshrink); break;
    case PSG_SOFTSHRINK: map(n, x, y, p, softshrink); break;
    case PSG_HARDSHRINK: map(n, x, y, p, hardshrink); break;
    case PSG_THRESHOLD: map(n, x, y, p, threshold); break;
    case PSG_EXP: map(n, x, y, p, exponential); break;
    case PSG_LOG: map(n, x, y, p, logarithm); break;
    case PSG_SQRT: map(n, x, y, p, root); break;
    case PSG_SQUARE: map(n, x, y, p, square); break;
    case PSG_ABS: map(n, x, y, p, absolute); break;
    case PSG_SIN: map(n, x, y, p, sine); break;
    case PSG_COS: map(n, x, y, p, cosine); break;
    }
}

void PSG_KERNEL(function_backward)(psg_function f, size_t n, const double *parameters, const void *x, const void *g,
                                   void *gx) {
    real p[PSG_FUNCTION_PARAMETERS];
    for (int k = 0; k < PSG_FUNCTION_PARAMETERS; k++) p[k] = (real)parameters[k];
    switch (f) {
    case PSG_RELU: map_slope(n, x, g, gx, p, relu_slope); break;
    case PSG_TANH: map_slope(n, x, g, gx, p, hyperbolic_slope); break;
    case PSG_SIGMOID: map_slope(n, x, g, gx, p, sigmoid_slope); break;
    case PSG_GELU: map_slope(n, x, g, gx, p, gelu_slope); break;
    case PSG_GELU_TANH: map_slope(n, x, g, gx, p, gelu_tanh_slope); break;
    case PSG_SILU: map_slope(n, x, g, gx, p, silu_slope); break;
    case PSG_MISH: map_slope(n, x, g, gx, p, mish_slope); break;
    case PSG_SOFTPLUS: map_slope(n, x, g, gx, p, softplus_slope); break;
    case PSG_LOGSIGMOID: map_slope(n, x, g, gx, p, logsigmoid_slope); break;
    case PSG_ELU: map_slope(n, x, g, gx, p, elu_slope); break;
    case PSG_LEAKY_RELU: map_slope(n, x, g, gx, p, leaky_relu_slope); break;
    case PSG_HARDTANH: map_slope(n, x, g, gx, p, hardtanh_slope); break;
    case PSG_HARDSIGMOID: map_slope(n, x, g, gx, p, hardsigmoid_slope); break;
    case PSG_HARDSWISH: map_slope(n, x, g, gx, p, hardswish_slope); break;
    case PSG_SOFTSIGN: map_slope(n, x, g, gx, p, softsign_slope); break;
    case PSG_TANHSHRINK: map_slope(n, x, g, gx, p, tanhshrink_slope); break;
    case PSG_SOFTSHRINK:
    case PSG_HARDSHRINK: map_slope(n, x, g, gx, p, shrink_slope); break;
    case PSG_THRESHOLD: map_slope(n, x, g, gx, p, threshold_slope); break;
    case PSG_EXP: map_slope(n, x, g, gx, p, exponential_slope); break;
    case PSG_LOG: map_slope(n, x, g, gx, p, logarithm_slope); break;
    case PSG_SQRT: map_slope(n, x, g, gx, p, root_slope); break;
    case PSG_SQUARE: map_slope(n, x, g, gx, p, square_slope); break;
    case PSG_ABS: map_slope(n, x, g, gx, p, absolute_slope); break;
    case PSG_SIN: map_slope(n, x, g, gx, p, sine_slope); break;
    case PSG_COS: map_slope(n, x, g, gx, p, cosine_slope); break;
    }
}
