/* Softmax and cross entropy of one row of n elements, `stride` apart.
 *
 * With m the largest element, e_c = exp(x_c - m) <= 1 cannot overflow; the sum of the e_c is taken in double. */
#include <math.h>

#include "kernels.h"
#include "vector.h"

#if PSG_REAL_IS_F64
static const real underflow = -746;   /* exp is 0 below */
#else
static const real underflow = -104;
#endif

/* Elements i .. i + LANES of the row; those past the end are -inf, whose exponential is 0. */
static inline vec load_row(const real *x, ptrdiff_t stride, size_t i, size_t n) {
    if (stride == 1 && i + LANES <= n) return vec_load(x + i);
    vec v = vec_set(-(real)INFINITY);
    for (size_t k = 0; k < LANES && i + k < n; k++) v[k] = x[(ptrdiff_t)(i + k) * stride];
    return v;
}

static inline void store_row(real *y, ptrdiff_t stride, size_t i, size_t n, vec v) {
    if (stride == 1 && i + LANES <= n) {
        vec_store(y + i, v);
        return;
    }
    for (size_t k = 0; k < LANES && i + k < n; k++) y[(ptrdiff_t)(i + k) * stride] = v[k];
}

/* exp(x) for x <= 0 without the slow path that the vector library takes for results near 0. */
static inline vec exp_below(vec x) {
    vec_bits vanishes = x < vec_set(underflow);
    return vec_select(vanishes, vec_zero(), vec_exp(vec_select(vanishes, vec_zero(), x)));
}

void PSG_KERNEL(fill_zero)(size_t n, ptrdiff_t stride, void *x_) {
    real *x = x_;
    for (size_t c = 0; c < n; c++) x[(ptrdiff_t)c * stride] = 0;
}

static real row_max(size_t n, ptrdiff_t stride, const real *x) {
    vec high = vec_set(-(real)INFINITY);
    for (size_t i = 0; i < n; i += LANES) high = vec_max(load_row(x, stride, i, n), high);
    real max = high[0];
    for (size_t k = 1; k < LANES; k++) max = high[k] > max ? high[k] : max;
    return max;
}

void PSG_KERNEL(softmax_row)(size_t n, ptrdiff_t stride, const void *x_, void *y_) {
    const real *x = x_;
    real *y = y_;
    vec max = vec_set(row_max(n, stride, x));
    wide sum = wide_zero();
    for (size_t i = 0; i < n; i += LANES) {
        vec e = exp_below(load_row(x, stride, i, n) - max);
        sum = wide_add(sum, e);
        store_row(y, stride, i, n, e);
    }
    vec inverse = vec_set((real)(1 / wide_sum(sum)));
    for (size_t i = 0; i < n; i += LANES) store_row(y, stride, i, n, load_row(y, stride, i, n) * inverse);
}

static double row_dot(size_t n, ptrdiff_t stride, const real *x, const real *y) {
    wide sum = wide_zero();
    size_t i = 0;
    for (; stride == 1 && i + LANES <= n; i += LANES) sum = wide_add_product(sum, vec_load(x + i), vec_load(y + i));
    double dot = wide_sum(sum);
    for (; i < n; i++) dot += (double)x[(ptrdiff_t)i * stride] * (double)y[(ptrdiff_t)i * stride];
    return dot;
}

/* gx = y (gy - <gy, y>) */
void PSG_KERNEL(softmax_row_backward)(size_t n, ptrdiff_t stride, const void *y_, const void *gy_, void *gx_) {
    const real *y = y_, *gy = gy_, mean = (real)row_dot(n, stride, y_, gy_);
    real *gx = gx_;
    for (size_t c = 0; c < n; c++) {
        ptrdiff_t at = (ptrdiff_t)c * stride;
        gx[at] = y[at] * (gy[at] - mean);
    }
}

/* The exponential of the target is kept apart: with rest = sum over c != target of e_c, both the loss log(1 + rest) of
 * a target that is the largest and its gradient -rest / sum stay accurate when the target is nearly certain. */
void PSG_KERNEL(cross_entropy_row)(size_t n, ptrdiff_t stride, const void *x_, size_t target, double smoothing,
                                   psg_cross_entropy_row *row) {
    const real *x = x_, max = row_max(n, stride, x);
    wide others = wide_zero();
    double at_target = 0;
    for (size_t i = 0; i < n; i += LANES) {
        vec e = exp_below(load_row(x, stride, i, n) - max);
        if (target - i < LANES) {
            at_target = (double)e[target - i];
            e[target - i] = 0;
        }
        others = wide_add(others, e);
    }
    double rest = wide_sum(others), sum = at_target + rest;
    double below = (double)x[(ptrdiff_t)target * stride] - (double)max;
    row->max = (double)max;
    row->inverse_sum = 1 / sum;
    row->target_slope = -rest / sum;
    row->loss = at_target == 1 ? log1p(rest) : log(sum) - below;
    if (smoothing > 0) {
        double shifted = 0;
        for (size_t c = 0; c < n; c++) shifted += (double)x[(ptrdiff_t)c * stride] - (double)max;
        row->loss = (1 - smoothing) * row->loss + smoothing * (log(sum) - shifted / (double)n);
        row->target_slope += smoothing - smoothing / (double)n;
    }
}

/* g_c = weight (e_c / sum - smoothing / n) but for the target, whose slope is known. */
void PSG_KERNEL(cross_entropy_row_backward)(size_t n, ptrdiff_t stride, const void *x_, size_t target, double smoothing,
                                            double weight, const psg_cross_entropy_row *row, void *g_) {
    const real *x = x_;
    real *g = g_;
    vec max = vec_set((real)row->max), inverse = vec_set((real)row->inverse_sum), factor = vec_set((real)weight);
    vec uniform = vec_set((real)(smoothing / (double)n));
    for (size_t i = 0; i < n; i += LANES) {
        vec e = exp_below(load_row(x, stride, i, n) - max);
        store_row(g, stride, i, n, factor * (e * inverse - uniform));
    }
    g[(ptrdiff_t)target * stride] = (real)(weight * row->target_slope);
}
