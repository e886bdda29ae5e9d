/* Optimizer steps; they wait for memory. */
#include "kernels.h"
#include "vector.h"

static void plain_step(size_t n, real lr, real decay, real *restrict w, const real *restrict g) {
    for (size_t i = 0; i < n; i++) w[i] -= lr * (g[i] + decay * w[i]);
}

void PSG_KERNEL(sgd)(size_t n, const psg_sgd_step *step, void *w_, const void *g_, void *v_) {
    real *restrict w = w_, *restrict v = v_;
    const real *restrict g = g_;
    const real lr = (real)step->lr, momentum = (real)step->momentum, keep = (real)step->keep;
    const real decay = (real)step->weight_decay;
    if (!v) {
        plain_step(n, lr, decay, w, g);
        return;
    }
    const bool nesterov = step->nesterov;
    for (size_t i = 0; i < n; i++) {
        real d = g[i] + decay * w[i];
        v[i] = momentum * v[i] + keep * d;
        w[i] -= lr * (nesterov ? d + momentum * v[i] : v[i]);
    }
}

/* ---- adam ---- */

typedef struct adam_numbers {
    vec beta1, into_m, beta2, into_v, eps, l2, shrink, step_size, root_scale;
} adam_numbers;

/* An eps that the type does not hold keeps 0 / (0 + eps) at 0. */
static inline adam_numbers numbers_of(const psg_adam_step *s) {
    const real least = (real)(PSG_REAL_IS_F64 ? 0x1p-1022 : 0x1p-126);
    const real eps = s->eps > 0 && s->eps < least ? least : (real)s->eps;
    return (adam_numbers){ vec_set((real)s->beta1), vec_set((real)(1 - s->beta1)), vec_set((real)s->beta2),
                           vec_set((real)(1 - s->beta2)), vec_set(eps), vec_set((real)s->l2),
                           vec_set((real)s->shrink), vec_set((real)s->step_size), vec_set((real)s->root_scale) };
}

/* The new r, and m / (r root_scale + eps). */
typedef struct adam_step {
    vec r, ratio;
} adam_step;

static inline adam_step step_of(const adam_numbers *a, vec d, vec m, vec r, vec eps) {
    vec root = vec_sqrt(a->beta2 * (r * r) + a->into_v * (d * d));
    return (adam_step){ root, m / (root * a->root_scale + eps) };
}

/* The power of two at or below x: its exponent.  The bits of Inf are those of every exponent. */
static inline vec power_below(vec x) { return (vec)((vec_bits)x & (vec_bits)vec_set((real)__builtin_inf())); }

/* The exponent's bits are those of 1, the bias, and more. */
static inline vec reciprocal_of_power(vec power) { return (vec)(2 * (vec_bits)vec_set(1) - (vec_bits)power); }

/* The same in units of a power of two next to the largest of d, r and eps: no square leaves the range but what is
 * nothing beside another.  The unit and its reciprocal are normal numbers. */
static __attribute__((noinline)) adam_step scaled_step(const adam_numbers *a, vec d, vec m, vec r) {
    const vec least = vec_set((real)(PSG_REAL_IS_F64 ? 0x1p-1022 : 0x1p-126)), most = vec_set(1) / least;
    vec largest = vec_max(vec_max(vec_max(vec_abs(d), r), a->eps), least);
    vec unit = power_below(vec_select(largest < most, largest, most)), per_unit = reciprocal_of_power(unit);
    adam_step s = step_of(a, d * per_unit, m * per_unit, r * per_unit, a->eps * per_unit);
    s.r *= unit;
    return s;
}

/* An element is scaled where its square overflows (beside a beta2 of 0 that makes NaN), whatever its neighbours are;
 * where it may vanish and count beside eps, all are. */
static inline adam_step careful_step(const adam_numbers *a, bool tiny, vec d, vec m, vec r) {
    const vec largest = vec_set((real)(PSG_REAL_IS_F64 ? 0x1p500 : 0x1p60));
    adam_step s = step_of(a, d, m, r, a->eps);
    const vec_bits held = s.r <= largest;
    if (!tiny && !vec_any_above(vec_select(held, vec_zero(), vec_set(1)), vec_zero())) return s;
    const adam_numbers copy = *a;   /* its address leaves the loop, that of the numbers in registers does not */
    adam_step scaled = scaled_step(&copy, d, m, r);
    if (tiny) return scaled;
    return (adam_step){ vec_select(held, s.r, scaled.r), vec_select(held, s.ratio, scaled.ratio) };
}

static inline vec load(const real *p, size_t n) { return n == LANES ? vec_load(p) : vec_load_part(p, n); }

static inline void store(real *p, vec v, size_t n) {
    if (n == LANES) vec_store(p, v);
    else vec_store_part(p, v, n);
}

static inline void adam_vector(const adam_numbers *a, bool tiny, size_t n, real *w, const real *g, real *m, real *r) {
    vec old = load(w, n), d = load(g, n) + a->l2 * old, mean = a->beta1 * load(m, n) + a->into_m * d;
    adam_step s = careful_step(a, tiny, d, mean, load(r, n));
    store(m, mean, n);
    store(r, s.r, n);
    store(w, a->shrink * old - a->step_size * s.ratio, n);
}

static inline void adam_loop(const psg_adam_step *step, bool tiny, size_t n, real *w, const real *g, real *m, real *r) {
    const adam_numbers a = numbers_of(step);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) adam_vector(&a, tiny, LANES, w + i, g + i, m + i, r + i);
    if (i < n) adam_vector(&a, tiny, n - i, w + i, g + i, m + i, r + i);
}

void PSG_KERNEL(adam)(size_t n, const psg_adam_step *step, void *w, const void *g, void *m, void *r) {
    if (step->eps < (PSG_REAL_IS_F64 ? 0x1p-480 : 0x1p-50)) adam_loop(step, true, n, w, g, m, r);
    else adam_loop(step, false, n, w, g, m, r);
}
