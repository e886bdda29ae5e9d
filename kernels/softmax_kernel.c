/* Softmax and cross entropy of one row of n elements, `stride` apart.
 *
 * With m the largest element, e_c = exp(x_c - m) <= 1 cannot overflow; the sum of the e_c is taken in double. */
#include <math.h>

#include "kernels.h"
#include "vector.h"

/* Elements i .. i + LANES of the row; those past the end are `past`. */
static inline vec load_until(const real *x, ptrdiff_t stride, size_t i, size_t n, real past) {
    if (stride == 1 && i + LANES <= n) return vec_load(x + i);
    if (stride == 1) return vec_select(vec_below(n - i), vec_load_part(x + i, n - i), vec_set(past));
    vec v = vec_set(past);
    for (size_t k = 0; k < LANES && i + k < n; k++) v[k] = x[(ptrdiff_t)(i + k) * stride];
    return v;
}

/* The same; past the end -inf, whose exponential is 0. */
static inline vec load_row(const real *x, ptrdiff_t stride, size_t i, size_t n) {
    return load_until(x, stride, i, n, -(real)INFINITY);
}

static inline void store_row(real *y, ptrdiff_t stride, size_t i, size_t n, vec v) {
    if (stride == 1 && i + LANES <= n) {
        vec_store(y + i, v);
        return;
    }
    for (size_t k = 0; k < LANES && i + k < n; k++) y[(ptrdiff_t)(i + k) * stride] = v[k];
}

void PSG_KERNEL(fill_zero)(size_t n, ptrdiff_t stride, void *x_) {
    real *x = x_;
    for (size_t c = 0; c < n; c++) x[(ptrdiff_t)c * stride] = 0;
}

/* The largest lane. */
static real lane_max(vec v) {
    real max = v[0];
    for (size_t k = 1; k < LANES; k++) max = v[k] > max ? v[k] : max;
    return max;
}

static real row_max(size_t n, ptrdiff_t stride, const real *x) {
    vec high = vec_set(-(real)INFINITY);
    for (size_t i = 0; i < n; i += LANES) high = vec_max(load_row(x, stride, i, n), high);
    return lane_max(high);
}

/* The place of the first element that is `value`. */
static size_t place_of(real value, size_t n, ptrdiff_t stride, const real *x) {
    size_t c = 0;
    while (c + 1 < n && x[(ptrdiff_t)c * stride] != value) c++;
    return c;
}

void PSG_KERNEL(softmax_row)(size_t n, ptrdiff_t stride, const void *x_, void *y_) {
    const real *x = x_;
    real *y = y_;
    vec max = vec_set(row_max(n, stride, x));
    wide sum = wide_zero();
    for (size_t i = 0; i < n; i += LANES) {
        vec e = vec_exp_below(load_row(x, stride, i, n) - max);
        sum = wide_add(sum, e);
        store_row(y, stride, i, n, e);
    }
    vec inverse = vec_set((real)(1 / wide_sum(sum)));
    for (size_t i = 0; i < n; i += LANES) store_row(y, stride, i, n, load_row(y, stride, i, n) * inverse);
}

/* sum y (gy - reference) in double, and the largest y. */
static double mean_difference(size_t n, ptrdiff_t stride, const real *y, const real *gy, double reference,
                              real *largest) {
    const double of_high = PSG_REAL_IS_F64 ? 0 : reference;   /* f64 has no high half */
    vec high = vec_zero();
    wide sum = wide_zero();
    for (size_t i = 0; i < n; i += LANES) {
        vec v = load_until(y, stride, i, n, 0);
        wide w = widen(v), g = widen(load_until(gy, stride, i, n, 0));
        high = vec_max(v, high);
        sum.low = dvec_add_product(sum.low, w.low, g.low - reference);
        sum.high = dvec_add_product(sum.high, w.high, g.high - of_high);
    }
    *largest = lane_max(high);
    return wide_sum(sum);
}

/* Above this probability 1 - p is not taken as a difference: what the others are is lost in it. */
#define NEARLY_CERTAIN 0.75
#define LOG_NEARLY_CERTAIN -0.28768207245178093

/* gx = y (gy - <gy, y>) = y (h - <h, y>), h = gy - reference for any reference, since the y sum to 1: but with rounding
 * alone, so that of one y near 1 that difference, a product with 1 - y, would be noise.  Its gy is the reference then,
 * and its h exactly 0. */
void PSG_KERNEL(softmax_row_backward)(size_t n, ptrdiff_t stride, const void *y_, const void *gy_, void *gx_) {
    const real *y = y_, *gy = gy_;
    real *gx = gx_, reference = 0, largest;
    real mean = (real)mean_difference(n, stride, y, gy, 0, &largest);
    if (largest > (real)NEARLY_CERTAIN) {
        reference = gy[(ptrdiff_t)place_of(largest, n, stride, y) * stride];
        mean = (real)mean_difference(n, stride, y, gy, (double)reference, &largest);
    }
    for (size_t c = 0; c < n; c++) {
        ptrdiff_t at = (ptrdiff_t)c * stride;
        gx[at] = y[at] * (gy[at] - reference - mean);
    }
}

/* sum exp(x - max) in double */
static double sum_exp(size_t n, ptrdiff_t stride, const real *x, real max) {
    wide sum = wide_zero();
    for (size_t i = 0; i < n; i += LANES) sum = wide_add(sum, vec_exp_below(load_row(x, stride, i, n) - max));
    return wide_sum(sum);
}

/* The rounding of a sum below this one shows in its logarithm. */
#define NEARLY_ONE (PSG_REAL_IS_F64 ? 1.25 : 1 + 0x1p-20)

/* y = x - m - log sum exp(x - m); the difference from m is taken first, for it is exact where y is near 0. */
void PSG_KERNEL(log_softmax_row)(size_t n, ptrdiff_t stride, const void *x_, void *y_) {
    const real *x = x_, max = row_max(n, stride, x);
    double sum = sum_exp(n, stride, x, max), log_sum = log(sum);
    if (n && sum < NEARLY_ONE) {
        size_t m = place_of(max, n, stride, x);
        log_sum = log1p(sum_exp(m, stride, x, max) + sum_exp(n - m - 1, stride, x + (ptrdiff_t)(m + 1) * stride, max));
    }
    for (size_t i = 0; i < n; i += LANES) {
        store_row(y_, stride, i, n, load_row(x, stride, i, n) - max - vec_set((real)log_sum));
    }
}

static double row_sum(size_t n, ptrdiff_t stride, const real *x) {
    wide sum = wide_zero();
    for (size_t i = 0; i < n; i += LANES) sum = wide_add(sum, load_until(x, stride, i, n, 0));
    return wide_sum(sum);
}

/* gx = gy - exp(y) sum gy; of a y near 0, where that would cancel, (1 - exp y) gy - exp(y) (the sum of the others). */
void PSG_KERNEL(log_softmax_row_backward)(size_t n, ptrdiff_t stride, const void *y_, const void *gy_, void *gx_) {
    const real *y = y_, *gy = gy_, largest = row_max(n, stride, y);
    real *gx = gx_;
    vec sum = vec_set((real)row_sum(n, stride, gy));
    for (size_t i = 0; i < n; i += LANES) {
        vec log_p = vec_min(vec_zero(), load_row(y, stride, i, n));   /* a mere load gcc 12 copies via memory */
        vec probability = vec_exp_below(log_p);
        store_row(gx, stride, i, n, load_row(gy, stride, i, n) - probability * sum);
    }
    if (largest > (real)LOG_NEARLY_CERTAIN) {
        size_t m = place_of(largest, n, stride, y);
        ptrdiff_t at = (ptrdiff_t)m * stride;
        double others = row_sum(m, stride, gy) + row_sum(n - m - 1, stride, gy + at + stride);
        gx[at] = (real)(-expm1((double)y[at]) * (double)gy[at] - exp((double)y[at]) * others);
    }
}

/* ---- cross entropy: p_c = exp(x_c - m) / (1 + rest) ---- */

/* The exponential of the target is kept apart: with others = sum over c != target of e_c, both the loss log(1 + others)
 * of a target that is the largest and its gradient -others / sum stay accurate when the target is nearly certain. */
void PSG_KERNEL(cross_entropy_row)(size_t n, ptrdiff_t stride, const void *x_, size_t target, double smoothing,
                                   psg_cross_entropy_row *row) {
    const real *x = x_, max = row_max(n, stride, x);
    wide sum = wide_zero();
    double at_target = 0;
    for (size_t i = 0; i < n; i += LANES) {
        vec e = vec_exp_below(load_row(x, stride, i, n) - max);
        if (target - i < LANES) {
            at_target = (double)e[target - i];
            e[target - i] = 0;
        }
        sum = wide_add(sum, e);
    }
    double others = wide_sum(sum), log_sum = at_target == 1 ? log1p(others) : log(at_target + others);
    row->max = (double)max;
    row->rest = others - (1 - at_target);
    row->slope = -others / (at_target + others);
    row->loss = log_sum - ((double)x[(ptrdiff_t)target * stride] - (double)max);
    if (smoothing > 0) {
        double shifted = 0;
        for (size_t c = 0; c < n; c++) shifted += (double)x[(ptrdiff_t)c * stride] - (double)max;
        double uniform = log_sum - shifted / (double)n;
        row->loss = smoothing < 1 ? (1 - smoothing) * row->loss + smoothing * uniform : uniform;
        row->slope += smoothing - smoothing / (double)n;
    }
}

/* g_c = weight (p_c - smoothing / n) but for the target, whose slope is known. */
void PSG_KERNEL(cross_entropy_row_backward)(size_t n, ptrdiff_t stride, const void *x_, size_t target, double smoothing,
                                            double weight, const psg_cross_entropy_row *row, void *g_) {
    const real *x = x_;
    real *g = g_;
    vec max = vec_set((real)row->max), scale = vec_set((real)(weight / (1 + row->rest)));
    vec uniform = vec_set((real)(weight * (smoothing / (double)n)));
    for (size_t i = 0; i < n; i += LANES) {
        vec e = vec_exp_below(load_row(x, stride, i, n) - max);
        store_row(g, stride, i, n, e * scale - uniform);
    }
    g[(ptrdiff_t)target * stride] = (real)(weight * row->slope);
}

/* ---- any target: t_c = w_c q_c ----
 *
 * The gradient p_c sum_k t_k - t_c is, of the largest logit m, a difference that cancels when p_m and t_m are nearly
 * everything.  Without their terms, which are kept apart, it is
 * (sum_(k != m) t_k - t_m rest) / (1 + rest). */

/* Elements i .. i + LANES of the weights; 0 past the end. */
static inline vec weight_part(const psg_class_target *t, size_t i, size_t n) {
    return t->weight ? load_until(t->weight, 1, i, n, 0) : i + LANES <= n ? vec_set(1) : vec_first(vec_set(1), n - i);
}

static inline vec given_part(const psg_class_target *t, ptrdiff_t stride, size_t i, size_t n) {
    if (t->q) return load_until(t->q, stride, i, n, 0);
    vec q = vec_zero();
    if (t->label - i < LANES) q[t->label - i] = 1;
    return q;
}

/* t of given q and weights, in double. */
static inline wide target_of(const psg_class_target *t, vec q, vec weight, size_t n) {
    const double keep = 1 - t->smoothing, uniform = t->smoothing / (double)n;
    wide given = widen(q), factor = widen(weight);
    return (wide){ factor.low * (keep * given.low + uniform), factor.high * (keep * given.high + uniform) };
}

static double target_at(const psg_class_target *t, ptrdiff_t stride, size_t c, size_t n) {
    double weight = t->weight ? (double)((const real *)t->weight)[c] : 1;
    double q = t->q ? (double)((const real *)t->q)[(ptrdiff_t)c * stride] : c == t->label;
    return weight * ((1 - t->smoothing) * q + t->smoothing / (double)n);
}

void PSG_KERNEL(class_target_row)(size_t n, ptrdiff_t stride, const void *x_, const psg_class_target *target,
                                  psg_cross_entropy_row *row) {
    const real *x = x_, max = row_max(n, stride, x);
    const size_t m = place_of(max, n, stride, x);
    wide rest = wide_zero(), loss = wide_zero(), total = wide_zero();
    for (size_t i = 0; i < n; i += LANES) {
        vec e = vec_exp_below(load_row(x, stride, i, n) - max);
        if (m - i < LANES) e[m - i] -= 1;   /* to 0, but NaN stays */
        rest = wide_add(rest, e);
    }
    row->max = (double)max;
    row->rest = wide_sum(rest);
    const double log_sum = log1p(row->rest);
    for (size_t i = 0; i < n; i += LANES) {
        vec q = given_part(target, stride, i, n), weight = weight_part(target, i, n);
        if (m - i < LANES) weight[m - i] = 0;
        wide t = target_of(target, q, weight, n);
        /* Where t is 0 the logit, maybe -inf, does not count. */
        vec_bits none = weight == vec_zero();
        if (target->smoothing == 0) none |= q == vec_zero();
        wide below = widen(vec_select(none, vec_set(max), load_row(x, stride, i, n)));
        total = (wide){ total.low + t.low, total.high + t.high };
        loss.low = dvec_add_product(loss.low, t.low, log_sum - (below.low - row->max));
        loss.high = dvec_add_product(loss.high, t.high, log_sum - (below.high - row->max));
    }
    row->slope = wide_sum(total);
    row->loss = wide_sum(loss) + target_at(target, stride, m, n) * log_sum;
}

/* g_c = weight (p_c sum_k t_k - t_c), gq_c = weight (1 - smoothing) w_c (-log p_c) */
void PSG_KERNEL(class_target_row_backward)(size_t n, ptrdiff_t stride, const void *x_, const psg_class_target *target,
                                           double weight, const psg_cross_entropy_row *row, void *g, void *gq) {
    const real *x = x_;
    const size_t m = place_of((real)row->max, n, stride, x);
    const double at_max = target_at(target, stride, m, n), sum = 1 + row->rest;
    const double scale = weight * ((row->slope + at_max) / sum);
    vec max = vec_set((real)row->max), log_sum = vec_set((real)log1p(row->rest));
    for (size_t i = 0; i < n; i += LANES) {
        vec below = load_row(x, stride, i, n) - max, w = weight_part(target, i, n);
        if (g) {
            wide e = widen(vec_exp_below(below)), t = target_of(target, given_part(target, stride, i, n), w, n);
            wide slope = { e.low * scale - t.low * weight, e.high * scale - t.high * weight };
            store_row(g, stride, i, n, narrow(slope));
        }
        w *= (real)(weight * (1 - target->smoothing));
        if (gq) store_row(gq, stride, i, n, vec_select(w == vec_zero(), vec_zero(), w * (log_sum - below)));
    }
    if (g) ((real *)g)[(ptrdiff_t)m * stride] = (real)(weight * ((row->slope - at_max * row->rest) / sum));
}
