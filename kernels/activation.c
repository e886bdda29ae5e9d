/* Activations and their derivatives.  Each derivative is computed from x, so that it keeps its relative accuracy where
 * the activation has saturated (1 - tanh^2 from tanh would not). */
#include "kernels.h"
#include "vector.h"

static inline __attribute__((always_inline)) void map(size_t n, const void *x_, void *y_, vec (*f)(vec)) {
    const real *x = x_;
    real *y = y_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(y + i, f(vec_load(x + i)));
    if (i < n) vec_store_part(y + i, f(vec_load_part(x + i, n - i)), n - i);
}

/* gx = gy f'(x) */
static inline __attribute__((always_inline)) void map_slope(size_t n, const void *x_, const void *gy_, void *gx_,
                                                            vec (*slope)(vec)) {
    const real *x = x_, *gy = gy_;
    real *gx = gx_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(gx + i, vec_load(gy + i) * slope(vec_load(x + i)));
    if (i < n) {
        vec part = vec_load_part(gy + i, n - i) * slope(vec_load_part(x + i, n - i));
        vec_store_part(gx + i, part, n - i);
    }
}

/* ---- relu: NaN passes, as do its gradients; the slope at 0 is 0 ---- */

static inline vec relu(vec x) { return vec_select(x <= vec_zero(), vec_zero(), x); }

void PSG_KERNEL(relu)(size_t n, const void *x, void *y) { map(n, x, y, relu); }

void PSG_KERNEL(relu_backward)(size_t n, const void *x_, const void *gy_, void *gx_) {
    const real *x = x_, *gy = gy_;
    real *gx = gx_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec_store(gx + i, vec_select(vec_load(x + i) <= vec_zero(), vec_zero(), vec_load(gy + i)));
    }
    for (; i < n; i++) gx[i] = x[i] <= 0 ? 0 : gy[i];
}

/* ---- tanh ---- */

static inline vec hyperbolic(vec x) { return vec_tanh(x); }

/* sech^2 x = 4 t / (1 + t)^2, t = exp(-2 |x|) */
static inline vec tanh_slope(vec x) {
    vec t = vec_exp(-2 * vec_abs(x)), d = 1 + t;
    return 4 * t / (d * d);
}

void PSG_KERNEL(tanh)(size_t n, const void *x, void *y) { map(n, x, y, hyperbolic); }

void PSG_KERNEL(tanh_backward)(size_t n, const void *x, const void *gy, void *gx) {
    map_slope(n, x, gy, gx, tanh_slope);
}

/* ---- sigmoid: with t = exp(-|x|), 1 / (1 + t) or t / (1 + t), slope t / (1 + t)^2 ---- */

static inline vec sigmoid(vec x) {
    vec t = vec_exp(-vec_abs(x));
    return vec_select(x < vec_zero(), t, vec_set(1)) / (1 + t);
}

static inline vec sigmoid_slope(vec x) {
    vec t = vec_exp(-vec_abs(x)), d = 1 + t;
    return t / (d * d);
}

void PSG_KERNEL(sigmoid)(size_t n, const void *x, void *y) { map(n, x, y, sigmoid); }

void PSG_KERNEL(sigmoid_backward)(size_t n, const void *x, const void *gy, void *gx) {
    map_slope(n, x, gy, gx, sigmoid_slope);
}

/* ---- gelu: x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2, which does not cancel for negative x ---- */

static const real sqrt_half = (real)0.70710678118654752440;
static const real inv_sqrt_2pi = (real)0.39894228040143267794;

static inline vec normal_cdf(vec x) { return (real)0.5 * vec_erfc(-sqrt_half * x); }

static inline vec gelu(vec x) { return x * normal_cdf(x); }

/* Phi(x) + x phi(x) */
static inline vec gelu_slope(vec x) {
    vec density = inv_sqrt_2pi * vec_exp((real)-0.5 * x * x);
    return normal_cdf(x) + x * density;
}

void PSG_KERNEL(gelu)(size_t n, const void *x, void *y) { map(n, x, y, gelu); }

void PSG_KERNEL(gelu_backward)(size_t n, const void *x, const void *gy, void *gx) {
    map_slope(n, x, gy, gx, gelu_slope);
}

/* ---- gelu, tanh form: x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) ---- */

static const real two_root = (real)1.59576912160573071176;   /* 2 sqrt(2 / pi) */
static const real cubic = (real)0.044715;

/* sigmoid(2 u) is 0 or 1 beyond +-64 in either type; a cube that overflowed would give NaN there. */
static inline vec clamp_64(vec x) {
    vec high = vec_select(x > vec_set(64), vec_set(64), x);
    return vec_select(high < vec_set(-64), vec_set(-64), high);
}

static inline vec gelu_tanh(vec x) {
    vec c = clamp_64(x);
    return x * sigmoid(two_root * c * (1 + cubic * c * c));
}

/* s + x s' (2 u)' */
static inline vec gelu_tanh_slope(vec x) {
    vec c = clamp_64(x), square = c * c, v = two_root * c * (1 + cubic * square);
    return sigmoid(v) + c * sigmoid_slope(v) * (two_root * (1 + 3 * cubic * square));
}

void PSG_KERNEL(gelu_tanh)(size_t n, const void *x, void *y) { map(n, x, y, gelu_tanh); }

void PSG_KERNEL(gelu_tanh_backward)(size_t n, const void *x, const void *gy, void *gx) {
    map_slope(n, x, gy, gx, gelu_tanh_slope);
}
