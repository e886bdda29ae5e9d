/* Normalization by statistics that are given, as running statistics are: linear in x, one line or one row a call. */
#include "kernels.h"
#include "vector.h"

/* Lane sums run over this many vectors in the real type and are then added in double, as in norm.c. */
enum { STRIP_VECTORS = 16 };

/* Element i of p, or one value for all; n < LANES: the first n of a vector. */
static inline vec parameter(const real *p, size_t step, size_t i, size_t n, real absent) {
    if (!p) return vec_set(absent);
    if (!step) return vec_set(*p);
    return n == LANES ? vec_load(p + i) : vec_load_part(p + i, n);
}

static inline vec load(const real *p, size_t n) { return n == LANES ? vec_load(p) : vec_load_part(p, n); }

static inline void store(real *p, vec v, size_t n) {
    if (n == LANES) vec_store(p, v);
    else vec_store_part(p, v, n);
}

void PSG_KERNEL(fixed_norm)(size_t n, size_t step, const void *x_, const void *mean, const void *rstd,
                            const void *weight, const void *bias, void *y_) {
    const real *x = x_;
    real *y = y_;
    for (size_t i = 0, part; i < n; i += part) {
        part = n - i < LANES ? n - i : LANES;
        vec xh = (load(x + i, part) - parameter(mean, step, i, part, 0)) * parameter(rstd, step, i, part, 1);
        store(y + i, vec_add_product(parameter(bias, step, i, part, 0), xh, parameter(weight, step, i, part, 1)), part);
    }
}

/* Parameters of an element each. */
static void backward_row(size_t n, const real *x, const real *g, const real *mean, const real *rstd,
                         const real *weight, real *gx, real *gw, real *gb) {
    for (size_t i = 0, part; i < n; i += part) {
        part = n - i < LANES ? n - i : LANES;
        vec go = load(g + i, part), r = parameter(rstd, 1, i, part, 1);
        if (gx) store(gx + i, go * parameter(weight, 1, i, part, 1) * r, part);
        if (gw) store(gw + i, go * ((load(x + i, part) - parameter(mean, 1, i, part, 0)) * r), part);
        if (gb) store(gb + i, go, part);
    }
}

typedef struct sums {
    dvec g, gx;   /* sum g, sum g (x - mean) rstd, by lanes */
} sums;

static inline void strip(size_t vectors, const real *x, const real *g, vec mean, vec rstd, vec factor, real *gx,
                         sums *to) {
    vec sum = vec_zero(), product = vec_zero();
    for (size_t i = 0; i < vectors * LANES; i += LANES) {
        vec go = vec_load(g + i);
        sum += go;
        product = vec_add_product(product, go, (vec_load(x + i) - mean) * rstd);
        if (gx) vec_store(gx + i, go * factor);
    }
    to->g = dvec_add(to->g, sum);
    to->gx = dvec_add(to->gx, product);
}

static inline void rest(size_t n, const real *x, const real *g, vec mean, vec rstd, vec factor, real *gx, sums *to) {
    vec go = vec_load_part(g, n);
    if (gx) vec_store_part(gx, go * factor, n);
    to->g = dvec_add(to->g, go);
    to->gx = dvec_add(to->gx, go * vec_first((vec_load_part(x, n) - mean) * rstd, n));
}

/* One parameter for all. */
static void backward_line(size_t n, const real *x, const real *g, real mean, real rstd, real weight, real *gx,
                          real *gw, real *gb) {
    const vec center = vec_set(mean), by = vec_set(rstd), factor = vec_set(weight * rstd);
    const size_t whole = n / LANES;
    sums total = { { 0 }, { 0 } };
    for (size_t v = 0, part; v < whole; v += part) {
        part = whole - v < STRIP_VECTORS ? whole - v : STRIP_VECTORS;
        size_t i = v * LANES;
        strip(part, x + i, g + i, center, by, factor, gx ? gx + i : NULL, &total);
    }
    size_t i = whole * LANES;
    if (i < n) rest(n - i, x + i, g + i, center, by, factor, gx ? gx + i : NULL, &total);
    if (gw) *gw = (real)dvec_sum(total.gx);
    if (gb) *gb = (real)dvec_sum(total.g);
}

void PSG_KERNEL(fixed_norm_backward)(size_t n, size_t step, const void *x, const void *grad_output, const void *mean_,
                                     const void *rstd_, const void *weight_, void *grad_input, void *grad_weight,
                                     void *grad_bias) {
    const real *mean = mean_, *rstd = rstd_, *weight = weight_;
    if (step) backward_row(n, x, grad_output, mean, rstd, weight, grad_input, grad_weight, grad_bias);
    else backward_line(n, x, grad_output, *mean, *rstd, weight ? *weight : 1, grad_input, grad_weight, grad_bias);
}
