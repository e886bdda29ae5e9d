/* Elementwise losses of a prediction x and a target y, their sums, and their slopes in x (dx) and in y (dy). */
#include "kernels.h"
#include "vector.h"

typedef vec (*pair_function)(vec x, vec y, const real *p);

static inline __attribute__((always_inline)) void map(size_t n, const real *x, const real *y, real *out, const real *p,
                                                      pair_function f) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(out + i, f(vec_load(x + i), vec_load(y + i), p));
    if (i < n) vec_store_part(out + i, f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i), p), n - i);
}

static inline __attribute__((always_inline)) double map_sum(size_t n, const real *x, const real *y, const real *p,
                                                            pair_function f) {
    wide sum = wide_zero();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) sum = wide_add(sum, f(vec_load(x + i), vec_load(y + i), p));
    double total = wide_sum(sum);
    if (i < n) {
        vec part = f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i), p);
        for (size_t k = 0; k < n - i; k++) total += (double)part[k];
    }
    return total;
}

typedef struct slope_job {
    size_t n;
    real factor;
    const real *gy, *x, *y;      /* gy NULL: ones */
    real *out;
    const real *p;
} slope_job;

/* out = factor gy f(x, y) */
static inline __attribute__((always_inline)) void map_slope(const slope_job *job, pair_function f) {
    const real *x = job->x, *y = job->y, *gy = job->gy;
    vec scale = vec_set(job->factor);
    size_t i = 0, n = job->n;
    for (; i + LANES <= n; i += LANES) {
        vec weight = gy ? scale * vec_load(gy + i) : scale;
        vec_store(job->out + i, weight * f(vec_load(x + i), vec_load(y + i), job->p));
    }
    if (i < n) {
        vec weight = gy ? scale * vec_load_part(gy + i, n - i) : scale;
        vec slope = f(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i), job->p);
        vec_store_part(job->out + i, weight * slope, n - i);
    }
}

static inline vec positive_part(vec x) { return vec_select(x < vec_zero(), vec_zero(), x); }

/* ---- (x - y)^2 ---- */

static inline vec squared(vec x, vec y, const real *p) {
    (void)p;
    return (x - y) * (x - y);
}

static inline vec squared_dx(vec x, vec y, const real *p) {
    (void)p;
    return 2 * (x - y);
}

static inline vec squared_dy(vec x, vec y, const real *p) { return squared_dx(y, x, p); }

/* ---- |x - y|, and with a parabola around 0 ---- */

static inline vec sign(vec x) {
    vec one = vec_set(1);
    return vec_select(x > vec_zero(), one, vec_select(x < vec_zero(), -one, x));
}

static inline vec absolute(vec x, vec y, const real *p) {
    (void)p;
    return vec_abs(x - y);
}

static inline vec absolute_dx(vec x, vec y, const real *p) {
    (void)p;
    return sign(x - y);
}

static inline vec absolute_dy(vec x, vec y, const real *p) { return absolute_dx(y, x, p); }

static inline vec smooth_l1(vec x, vec y, const real *p) {
    vec d = vec_abs(x - y), beta = vec_set(p[0]);
    return vec_select(d < beta, (real)0.5 * d * d / beta, d - (real)0.5 * beta);
}

static inline vec smooth_l1_dx(vec x, vec y, const real *p) {
    vec d = x - y, beta = vec_set(p[0]);
    return vec_select(vec_abs(d) < beta, d / beta, sign(d));
}

static inline vec smooth_l1_dy(vec x, vec y, const real *p) { return smooth_l1_dx(y, x, p); }

static inline vec huber(vec x, vec y, const real *p) {
    vec d = vec_abs(x - y), delta = vec_set(p[0]);
    return vec_select(d <= delta, (real)0.5 * d * d, delta * (d - (real)0.5 * delta));
}

static inline vec huber_dx(vec x, vec y, const real *p) {
    vec d = x - y, delta = vec_set(p[0]);
    return vec_select(vec_abs(d) <= delta, d, delta * sign(d));
}

static inline vec huber_dy(vec x, vec y, const real *p) { return huber_dx(y, x, p); }

/* ---- max(x, 0) - x y + log(1 + exp(-|x|)) ---- */

static inline vec softplus(vec x) { return positive_part(x) + vec_log1p(vec_exp_below(-vec_abs(x))); }

static inline vec logistic(vec x, vec y, const real *p) {
    (void)p;
    return positive_part(x) - x * y + vec_log1p(vec_exp_below(-vec_abs(x)));
}

/* sigmoid(x) - y; for x >= 0 as (1 - y) - sigmoid(-x), which does not cancel when y is 1. */
static inline vec logistic_dx(vec x, vec y, const real *p) {
    (void)p;
    vec t = vec_exp_below(-vec_abs(x)), small = t / (1 + t);
    return vec_select(x < vec_zero(), small - y, (1 - y) - small);
}

static inline vec minus_x(vec x, vec y, const real *p) {
    (void)y;
    (void)p;
    return -x;
}

/* ---- log(1 + exp(-x y)) ---- */

static inline vec soft_margin(vec x, vec y, const real *p) {
    (void)p;
    return softplus(-x * y);
}

static inline vec soft_margin_dx(vec x, vec y, const real *p) {
    (void)p;
    vec v = x * y, t = vec_exp_below(-vec_abs(v));
    return -y * (vec_select(v > vec_zero(), t, vec_set(1)) / (1 + t));
}

static inline vec soft_margin_dy(vec x, vec y, const real *p) { return soft_margin_dx(y, x, p); }

/* ---- -y log x - (1 - y) log(1 - x), the logarithms and the slope bounded as PyTorch bounds them ---- */

static inline vec bounded(vec logarithm) {
    return vec_select(logarithm < vec_set(-100), vec_set(-100), logarithm);
}

static inline vec binary(vec x, vec y, const real *p) {
    (void)p;
    return (y - 1) * bounded(vec_log1p(-x)) - y * bounded(vec_log(x));
}

static inline vec binary_dx(vec x, vec y, const real *p) {
    (void)p;
    vec variance = (1 - x) * x, least = vec_set((real)1e-12);
    return (x - y) / vec_select(variance < least, least, variance);
}

static inline vec binary_dy(vec x, vec y, const real *p) {
    (void)y;
    (void)p;
    return bounded(vec_log1p(-x)) - bounded(vec_log(x));
}

/* ---- y (log y - x), 0 at y = 0; and with log y given ---- */

static inline vec kl(vec x, vec y, const real *p) {
    (void)p;
    vec_bits none = y == vec_zero();
    return vec_select(none, vec_zero(), y * vec_log(vec_select(none, vec_set(1), y))) - y * x;
}

static inline vec kl_dx(vec x, vec y, const real *p) {
    (void)x;
    (void)p;
    return -y;
}

static inline vec kl_dy(vec x, vec y, const real *p) {
    (void)p;
    return vec_log(y) + 1 - x;
}

static inline vec kl_log(vec x, vec y, const real *p) {
    (void)p;
    return vec_exp(y) * (y - x);
}

static inline vec kl_log_dx(vec x, vec y, const real *p) {
    (void)x;
    (void)p;
    return -vec_exp(y);
}

static inline vec kl_log_dy(vec x, vec y, const real *p) {
    (void)p;
    return vec_exp(y) * (y - x + 1);
}

/* ---- x - y log(x + eps), exp(x) - y x, and Stirling's approximation of log y! ---- */

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

static inline vec poisson(vec x, vec y, const real *p) { return x - y * vec_log(x + p[0]) + stirling(y, p); }
static inline vec poisson_dx(vec x, vec y, const real *p) { return 1 - y / (x + p[0]); }
static inline vec poisson_dy(vec x, vec y, const real *p) { return stirling_slope(y, p) - vec_log(x + p[0]); }

static inline vec poisson_log(vec x, vec y, const real *p) { return vec_exp(x) - y * x + stirling(y, p); }
static inline vec poisson_log_dy(vec x, vec y, const real *p) { return stirling_slope(y, p) - x; }

static inline vec poisson_log_dx(vec x, vec y, const real *p) {
    (void)p;
    return vec_exp(x) - y;
}

/* ---- x for y = 1, max(0, margin - x) for y = -1 ---- */

static inline vec hinge_embedding(vec x, vec y, const real *p) {
    vec one = vec_set(1), below = positive_part(p[0] - x);
    return vec_select(y == -one, vec_zero(), x) + vec_select(y == one, vec_zero(), below);
}

static inline vec hinge_embedding_dx(vec x, vec y, const real *p) {
    vec one = vec_set(1), below = vec_select(x > vec_set(p[0]), vec_zero(), -one);
    return vec_select(y == -one, vec_zero(), one) + vec_select(y == one, vec_zero(), below);
}

static inline vec zero(vec x, vec y, const real *p) {
    (void)x;
    (void)y;
    (void)p;
    return vec_zero();
}

/* ---- the loops ---- */

void PSG_KERNEL(loss)(psg_loss f, size_t n, const double *parameters, const void *x, const void *y, void *out) {
    const real p[PSG_LOSS_PARAMETERS] = { (real)parameters[0], (real)parameters[1] };
    switch (f) {
    case PSG_LOSS_SQUARED: map(n, x, y, out, p, squared); break;
    case PSG_LOSS_ABSOLUTE: map(n, x, y, out, p, absolute); break;
    case PSG_LOSS_SMOOTH_L1: map(n, x, y, out, p, smooth_l1); break;
    case PSG_LOSS_HUBER: map(n, x, y, out, p, huber); break;
    case PSG_LOSS_LOGISTIC: map(n, x, y, out, p, logistic); break;
    case PSG_LOSS_BINARY: map(n, x, y, out, p, binary); break;
    case PSG_LOSS_KL: map(n, x, y, out, p, kl); break;
    case PSG_LOSS_KL_LOG: map(n, x, y, out, p, kl_log); break;
    case PSG_LOSS_POISSON: map(n, x, y, out, p, poisson); break;
    case PSG_LOSS_POISSON_LOG: map(n, x, y, out, p, poisson_log); break;
    case PSG_LOSS_SOFT_MARGIN: map(n, x, y, out, p, soft_margin); break;
    case PSG_LOSS_HINGE_EMBEDDING: map(n, x, y, out, p, hinge_embedding); break;
    }
}

double PSG_KERNEL(loss_sum)(psg_loss f, size_t n, const double *parameters, const void *x, const void *y) {
    const real p[PSG_LOSS_PARAMETERS] = { (real)parameters[0], (real)parameters[1] };
    switch (f) {
    case PSG_LOSS_SQUARED: return map_sum(n, x, y, p, squared);
    case PSG_LOSS_ABSOLUTE: return map_sum(n, x, y, p, absolute);
    case PSG_LOSS_SMOOTH_L1: return map_sum(n, x, y, p, smooth_l1);
    case PSG_LOSS_HUBER: return map_sum(n, x, y, p, huber);
    case PSG_LOSS_LOGISTIC: return map_sum(n, x, y, p, logistic);
    case PSG_LOSS_BINARY: return map_sum(n, x, y, p, binary);
    case PSG_LOSS_KL: return map_sum(n, x, y, p, kl);
    case PSG_LOSS_KL_LOG: return map_sum(n, x, y, p, kl_log);
    case PSG_LOSS_POISSON: return map_sum(n, x, y, p, poisson);
    case PSG_LOSS_POISSON_LOG: return map_sum(n, x, y, p, poisson_log);
    case PSG_LOSS_SOFT_MARGIN: return map_sum(n, x, y, p, soft_margin);
    case PSG_LOSS_HINGE_EMBEDDING: return map_sum(n, x, y, p, hinge_embedding);
    }
    return 0;
}

void PSG_KERNEL(loss_dx)(psg_loss f, size_t n, const double *parameters, double factor, const void *gy, const void *x,
                         const void *y, void *out) {
    const real p[PSG_LOSS_PARAMETERS] = { (real)parameters[0], (real)parameters[1] };
    const slope_job job = { n, (real)factor, gy, x, y, out, p };
    switch (f) {
    case PSG_LOSS_SQUARED: map_slope(&job, squared_dx); break;
    case PSG_LOSS_ABSOLUTE: map_slope(&job, absolute_dx); break;
    case PSG_LOSS_SMOOTH_L1: map_slope(&job, smooth_l1_dx); break;
    case PSG_LOSS_HUBER: map_slope(&job, huber_dx); break;
    case PSG_LOSS_LOGISTIC: map_slope(&job, logistic_dx); break;
    case PSG_LOSS_BINARY: map_slope(&job, binary_dx); break;
    case PSG_LOSS_KL: map_slope(&job, kl_dx); break;
    case PSG_LOSS_KL_LOG: map_slope(&job, kl_log_dx); break;
    case PSG_LOSS_POISSON: map_slope(&job, poisson_dx); break;
    case PSG_LOSS_POISSON_LOG: map_slope(&job, poisson_log_dx); break;
    case PSG_LOSS_SOFT_MARGIN: map_slope(&job, soft_margin_dx); break;
    case PSG_LOSS_HINGE_EMBEDDING: map_slope(&job, hinge_embedding_dx); break;
    }
}

void PSG_KERNEL(loss_dy)(psg_loss f, size_t n, const double *parameters, double factor, const void *gy, const void *x,
                         const void *y, void *out) {
    const real p[PSG_LOSS_PARAMETERS] = { (real)parameters[0], (real)parameters[1] };
    const slope_job job = { n, (real)factor, gy, x, y, out, p };
    switch (f) {
    case PSG_LOSS_SQUARED: map_slope(&job, squared_dy); break;
    case PSG_LOSS_ABSOLUTE: map_slope(&job, absolute_dy); break;
    case PSG_LOSS_SMOOTH_L1: map_slope(&job, smooth_l1_dy); break;
    case PSG_LOSS_HUBER: map_slope(&job, huber_dy); break;
    case PSG_LOSS_LOGISTIC: map_slope(&job, minus_x); break;
    case PSG_LOSS_BINARY: map_slope(&job, binary_dy); break;
    case PSG_LOSS_KL: map_slope(&job, kl_dy); break;
    case PSG_LOSS_KL_LOG: map_slope(&job, kl_log_dy); break;
    case PSG_LOSS_POISSON: map_slope(&job, poisson_dy); break;
    case PSG_LOSS_POISSON_LOG: map_slope(&job, poisson_log_dy); break;
    case PSG_LOSS_SOFT_MARGIN: map_slope(&job, soft_margin_dy); break;
    case PSG_LOSS_HINGE_EMBEDDING: map_slope(&job, zero); break;
    }
}

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
