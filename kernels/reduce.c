/* Reductions and conversions between the real type and double. */
#include "grid_sum.h"
#include "kernels.h"
#include "vector.h"

double PSG_KERNEL(dot)(size_t n, const void *x_, const void *y_) {
    const real *x = x_, *y = y_;
    wide even = wide_zero(), odd = wide_zero();
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even = wide_add_product(even, vec_load(x + i), vec_load(y + i));
        odd = wide_add_product(odd, vec_load(x + i + LANES), vec_load(y + i + LANES));
    }
    if (i + LANES <= n) {
        even = wide_add_product(even, vec_load(x + i), vec_load(y + i));
        i += LANES;
    }
    if (i < n) odd = wide_add_product(odd, vec_load_part(x + i, n - i), vec_load_part(y + i, n - i));
    return wide_sum(even) + wide_sum(odd);
}

/* Squares are summed in the real type over strips of 8 vectors an accumulator, then in double: a strip of 10 roundings
 * is off by less than 10 u.  Squares that overflow are summed again in double. */
double PSG_KERNEL(sum_squares_bound)(size_t n, const void *x_) {
    const real *x = x_;
    dvec sum = { 0 };
    size_t i = 0;
    while (i + 32 * LANES <= n) {
        vec s[4] = { vec_zero(), vec_zero(), vec_zero(), vec_zero() };
        for (size_t end = i + 32 * LANES; i < end; i += 4 * LANES) {
            for (size_t k = 0; k < 4; k++) {
                vec v = vec_load(x + i + k * LANES);
                s[k] = vec_add_product(s[k], v, v);
            }
        }
        sum = dvec_add(sum, (s[0] + s[1]) + (s[2] + s[3]));
    }
    double total = dvec_sum(sum) + PSG_KERNEL(dot)(n - i, x + i, x + i);
    if (!__builtin_isfinite(total)) total = PSG_KERNEL(dot)(n, x, x);
    return total * (1 + 0x1p-18);
}

void PSG_KERNEL(add_to_f64)(size_t n, double w, const void *x_, double *y) {
    const real *x = x_;
    for (size_t i = 0; i < n; i++) y[i] = add_product(y[i], w, (double)x[i]);
}

/* grid, here and below, is a constant: see grid_sum.h. */
static inline dvec add_weighted(dvec sum, double weight, dvec x, bool grid) {
    return grid ? add_on_grid(sum, weight, x) : dvec_add_product(sum, dvec_set(weight), x);
}

static inline void add_last(size_t rows, size_t i, size_t n, const double *w, const void *const *x, double *y,
                            bool grid) {
    for (; i < n; i++) {
        for (size_t r = 0; r < rows; r++) {
            dvec sum = { y[i] }, v = { (double)((const real *)x[r])[i] };
            y[i] = add_weighted(sum, w[r], v, grid)[0];
        }
    }
}

/* Several rows a pass: y is read and written once for all of them. */
static inline __attribute__((always_inline)) void add_rows(size_t rows, size_t n, const double *w,
                                                           const void *const *x, double *y, bool grid) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        dvec_unaligned *to = (dvec_unaligned *)(y + i);
        wide sum = { to[0], { 0 } };
#if !PSG_REAL_IS_F64
        sum.high = to[1];
#endif
        for (size_t r = 0; r < rows; r++) {
            wide v = widen(vec_load((const real *)x[r] + i));
            sum.low = add_weighted(sum.low, w[r], v.low, grid);
            sum.high = add_weighted(sum.high, w[r], v.high, grid);
        }
        to[0] = sum.low;
#if !PSG_REAL_IS_F64
        to[1] = sum.high;
#endif
    }
    add_last(rows, i, n, w, x, y, grid);
}

void PSG_KERNEL(add_rows_to_f64)(size_t rows, size_t n, const double *w, const void *const *x, double *y) {
    add_rows(rows, n, w, x, y, false);
}

void PSG_KERNEL(add_rows_to_grid)(size_t rows, size_t n, const double *w, const void *const *x, double *sums) {
    add_rows(rows, n, w, x, sums, true);
}

void PSG_KERNEL(add_squares_to_f64)(size_t n, double w, const void *x_, double *y) {
    const real *x = x_;
    for (size_t i = 0; i < n; i++) y[i] = add_product(y[i], w, (double)x[i] * (double)x[i]);
}

void PSG_KERNEL(from_f64)(size_t n, double scale, const double *x, void *out_, bool accumulate) {
    real *out = out_;
    if (accumulate) {
        for (size_t i = 0; i < n; i++) out[i] += (real)(scale * x[i]);
    } else {
        for (size_t i = 0; i < n; i++) out[i] = (real)(scale * x[i]);
    }
}

void PSG_KERNEL(scale_row)(size_t n, double alpha, const void *x_, ptrdiff_t stride, void *y_, bool accumulate) {
    const real *x = x_;
    real *y = y_, factor = (real)alpha;
    if (stride == 1 && accumulate) {
        for (size_t i = 0; i < n; i++) y[i] = real_add_product(y[i], factor, x[i]);
    } else if (stride == 1) {
        for (size_t i = 0; i < n; i++) y[i] = factor * x[i];
    } else if (accumulate) {
        for (size_t i = 0; i < n; i++) y[i] = real_add_product(y[i], factor, x[(ptrdiff_t)i * stride]);
    } else {
        for (size_t i = 0; i < n; i++) y[i] = factor * x[(ptrdiff_t)i * stride];
    }
}

/* ---- the Gram product with its certificate ---- */

/* |v| by clearing the sign bit of each double. */
static inline dvec dvec_abs(dvec v) {
    typedef int64_t bits __attribute__((vector_size(PSG_VECTOR_BYTES)));
    return (dvec)((bits)v & INT64_MAX);
}

static inline dvec dvec_load(const double *p) { return *(const dvec_unaligned *)p; }

/* Sums over one row of a triangle, strictly left of the diagonal: U V, |V| |g_s|, |U| |a_s|. */
typedef struct row_sums {
    double product, v_error, u_error;
} row_sums;

static row_sums combine_row(size_t n, const real *u, const real *v, double one, const double *g_norm,
                            const double *a_norm) {
    dvec product = { 0 }, v_error = { 0 }, u_error = { 0 };
    size_t s = 0;
    for (; s + LANES <= n; s += LANES) {
        wide us = widen(vec_load(u + s)), vs = widen(vec_load(v + s));
        vs.low += one;
        product = dvec_add_product(product, us.low, vs.low);
        v_error = dvec_add_product(v_error, dvec_abs(vs.low), dvec_load(g_norm + s));
        u_error = dvec_add_product(u_error, dvec_abs(us.low), dvec_load(a_norm + s));
#if !PSG_REAL_IS_F64
        vs.high += one;
        product = dvec_add_product(product, us.high, vs.high);
        v_error = dvec_add_product(v_error, dvec_abs(vs.high), dvec_load(g_norm + s + DLANES));
        u_error = dvec_add_product(u_error, dvec_abs(us.high), dvec_load(a_norm + s + DLANES));
#endif
    }
    row_sums sum = { dvec_sum(product), dvec_sum(v_error), dvec_sum(u_error) };
    for (; s < n; s++) {
        double us = (double)u[s], vs = (double)v[s] + one;
        sum.product = add_product(sum.product, us, vs);
        sum.v_error = add_product(sum.v_error, __builtin_fabs(vs), g_norm[s]);
        sum.u_error = add_product(sum.u_error, __builtin_fabs(us), a_norm[s]);
    }
    return sum;
}

void PSG_KERNEL(gram_combine)(size_t first, size_t rows, const void *u_, size_t ldu, const void *v_, size_t ldv,
                              double one, const psg_raise *raise, double *g_norm, double *a_norm, double out[4]) {
    const real *u = u_, *v = v_;
    for (size_t t = first; t < first + rows; t++, u += ldu, v += ldv) {
        double ud = (double)u[t], vd = (double)v[t] + one;
        g_norm[t] = __builtin_sqrt(ud) * raise->g + raise->tiny;
        a_norm[t] = __builtin_sqrt((double)v[t]) * raise->a + raise->tiny;
        row_sums row = combine_row(t, u, v, one, g_norm, a_norm);
        out[0] += 2 * row.product + ud * vd;
        out[1] += g_norm[t] * (2 * row.v_error + __builtin_fabs(vd) * g_norm[t]);
        out[2] += a_norm[t] * (2 * row.u_error + __builtin_fabs(ud) * a_norm[t]);
        out[3] += g_norm[t] * a_norm[t];
    }
}
