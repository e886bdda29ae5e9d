/* prelu: x where x > 0, else w x; a w_step of 0 stands for one weight. */
#include "kernels.h"
#include "vector.h"

static inline vec load_weight(const real *w, size_t step, size_t i) { return step ? vec_load(w + i) : vec_set(*w); }

void PSG_KERNEL(prelu)(size_t n, const void *x_, const void *w_, size_t w_step, void *y_) {
    const real *x = x_, *w = w_;
    real *y = y_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = vec_load(x + i);
        vec_store(y + i, vec_select(v > vec_zero(), v, load_weight(w, w_step, i) * v));
    }
    for (; i < n; i++) y[i] = x[i] > 0 ? x[i] : w[i * w_step] * x[i];
}

void PSG_KERNEL(prelu_backward)(size_t n, const void *x_, const void *gy_, const void *w_, size_t w_step, void *gx_) {
    const real *x = x_, *gy = gy_, *w = w_;
    real *gx = gx_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec g = vec_load(gy + i);
        vec_store(gx + i, vec_select(vec_load(x + i) > vec_zero(), g, load_weight(w, w_step, i) * g));
    }
    for (; i < n; i++) gx[i] = x[i] > 0 ? gy[i] : w[i * w_step] * gy[i];
}

/* gy x where x <= 0 or NaN: the terms of the weight's gradient. */
static inline vec weight_terms(vec x, vec gy) { return vec_select(x > vec_zero(), vec_zero(), gy * x); }

void PSG_KERNEL(prelu_weights)(size_t n, const void *x_, const void *gy_, void *gw_) {
    const real *x = x_, *gy = gy_;
    real *gw = gw_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(gw + i, weight_terms(vec_load(x + i), vec_load(gy + i)));
    for (; i < n; i++) gw[i] = x[i] > 0 ? 0 : gy[i] * x[i];
}

/* Where x > 0 neither factor counts, though it be infinite. */
static inline wide add_term(wide sum, vec x, vec gy) {
    const vec_bits above = x > vec_zero();
    return wide_add_product(sum, vec_select(above, vec_zero(), x), vec_select(above, vec_zero(), gy));
}

double PSG_KERNEL(prelu_weight)(size_t n, const void *x_, const void *gy_) {
    const real *x = x_, *gy = gy_;
    wide even = wide_zero(), odd = wide_zero();
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vec v = vec_load(x + i), u = vec_load(x + i + LANES);
        even = add_term(even, v, vec_load(gy + i));
        odd = add_term(odd, u, vec_load(gy + i + LANES));
    }
    double sum = wide_sum(even) + wide_sum(odd);
    for (; i < n; i++) {
        if (!(x[i] > 0)) sum = add_product(sum, (double)gy[i], (double)x[i]);
    }
    return sum;
}
