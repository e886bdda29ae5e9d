/* Elementwise losses of a prediction x and a target y, their sums, and their gradients. */
#include "kernels.h"
#include "vector.h"

typedef vec (*pair_function)(vec x, vec y);

static inline __attribute__((always_inline)) void map(size_t n, const void *x_, const void *y_, void *out_,
                                                      pair_function f) {
    const real *x = x_, *y = y_;
    real *out = out_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(out + i, f(vec_load(x + i), vec_load(y + i)));
    if (i < n) vec_store_part(out + i, f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i)), n - i);
}

static inline __attribute__((always_inline)) double map_sum(size_t n, const void *x_, const void *y_, pair_function f) {
    const real *x = x_, *y = y_;
    wide sum = wide_zero();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) sum = wide_add(sum, f(vec_load(x + i), vec_load(y + i)));
    double total = wide_sum(sum);
    if (i < n) {
        vec part = f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i));
        for (size_t k = 0; k < n - i; k++) total += (double)part[k];
    }
    return total;
}

/* out = factor gy f(x, y); gy NULL: ones */
static inline __attribute__((always_inline)) void map_slope(size_t n, double factor, const void *gy_, const void *x_,
                                                            const void *y_, void *out_, pair_function f) {
    const real *x = x_, *y = y_, *gy = gy_;
    real *out = out_;
    vec scale = vec_set((real)factor);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec weight = gy ? scale * vec_load(gy + i) : scale;
        vec_store(out + i, weight * f(vec_load(x + i), vec_load(y + i)));
    }
    if (i < n) {
        vec weight = gy ? scale * vec_load_part(gy + i, n - i) : scale;
        vec slope = f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i));
        vec_store_part(out + i, weight * slope, n - i);
    }
}

/* ---- (x - y)^2 ---- */

static inline vec difference(vec x, vec y) { return x - y; }
static inline vec squared_error(vec x, vec y) { return (x - y) * (x - y); }

void PSG_KERNEL(squared_error)(size_t n, const void *x, const void *y, void *out) { map(n, x, y, out, squared_error); }

double PSG_KERNEL(squared_error_sum)(size_t n, const void *x, const void *y) {
    return map_sum(n, x, y, squared_error);
}

void PSG_KERNEL(difference_backward)(size_t n, double factor, const void *gy, const void *x, const void *y, void *out) {
    map_slope(n, factor, gy, x, y, out, difference);
}

/* ---- max(x, 0) - x y + log(1 + exp(-|x|)) ---- */

static inline vec logistic_loss(vec x, vec y) {
    vec positive = vec_select(x < vec_zero(), vec_zero(), x);
    return positive - x * y + vec_log1p(vec_exp(-vec_abs(x)));
}

/* sigmoid(x) - y; for x >= 0 as (1 - y) - sigmoid(-x), which does not cancel when y is 1. */
static inline vec logistic_slope(vec x, vec y) {
    vec t = vec_exp(-vec_abs(x)), small = t / (1 + t);
    return vec_select(x < vec_zero(), small - y, (1 - y) - small);
}

static inline vec first(vec x, vec y) {
    (void)y;
    return x;
}

void PSG_KERNEL(logistic_loss)(size_t n, const void *x, const void *y, void *out) { map(n, x, y, out, logistic_loss); }

double PSG_KERNEL(logistic_loss_sum)(size_t n, const void *x, const void *y) {
    return map_sum(n, x, y, logistic_loss);
}

void PSG_KERNEL(logistic_backward)(size_t n, double factor, const void *gy, const void *x, const void *y, void *out) {
    map_slope(n, factor, gy, x, y, out, logistic_slope);
}

void PSG_KERNEL(first_backward)(size_t n, double factor, const void *gy, const void *x, const void *y, void *out) {
    map_slope(n, factor, gy, x, y, out, first);
}
