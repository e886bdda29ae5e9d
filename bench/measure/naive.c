/* Compiled twice, for f32 and f64 (BENCH_REAL_IS_F64). */
#include "naive.h"

#include <math.h>
#include <string.h>

#if BENCH_REAL_IS_F64
typedef double real;
#define TABLE naive_f64
#else
typedef float real;
#define TABLE naive_f32
#endif

enum { LANES = 16 };

/* Partial sums, so that the compiler may use vectors without reordering anything. */
static real product(size_t n, const real *x, const real *y) {
    real lane[LANES] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t k = 0; k < LANES; k++) lane[k] += x[i + k] * y[i + k];
    }
    for (size_t k = 0; k < LANES; k++) sum += lane[k];
    for (; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static void add_row(size_t n, real w, const real *x, real *y) {
    for (size_t i = 0; i < n; i++) y[i] += w * x[i];
}

/* ---- linear ---- */

static void linear(size_t T, size_t in, size_t out, const void *x_, const void *w_, const void *b_, void *y_) {
    const real *x = x_, *w = w_, *b = b_;
    real *y = y_;
    for (size_t t = 0; t < T; t++) {
        for (size_t o = 0; o < out; o++) y[t * out + o] = b[o] + product(in, x + t * in, w + o * in);
    }
}

static void linear_input(size_t T, size_t in, size_t out, const void *g_, const void *w_, void *dx_) {
    const real *g = g_, *w = w_;
    real *dx = dx_;
    memset(dx, 0, T * in * sizeof *dx);
    for (size_t t = 0; t < T; t++) {
        for (size_t o = 0; o < out; o++) add_row(in, g[t * out + o], w + o * in, dx + t * in);
    }
}

static void linear_weight(size_t T, size_t in, size_t out, const void *g_, const void *x_, void *dw_) {
    const real *g = g_, *x = x_;
    real *dw = dw_;
    memset(dw, 0, out * in * sizeof *dw);
    for (size_t o = 0; o < out; o++) {
        for (size_t t = 0; t < T; t++) add_row(in, g[t * out + o], x + t * in, dw + o * in);
    }
}

static void linear_bias(size_t T, size_t out, const void *g_, void *db_) {
    const real *g = g_;
    real *db = db_;
    memset(db, 0, out * sizeof *db);
    for (size_t t = 0; t < T; t++) add_row(out, 1, g + t * out, db);
}

/* ---- normalization ---- */

typedef struct moments { real mean, rstd; } moments;

static moments moments_of(const naive_norm *n, const real *x) {
    size_t width = n->spans * n->length;
    real sum = 0, squares = 0;
    for (size_t i = 0; i < width; i++) sum += x[i];
    real mean = sum / (real)width;
    for (size_t i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    return (moments){ mean, (real)(1.0 / sqrt((double)squares / (double)width + n->eps)) };
}

static void norm(const naive_norm *n, const void *x_, const void *scale_, const void *shift_, void *y_) {
    const real *x = x_, *scale = scale_, *shift = shift_;
    real *y = y_;
    size_t step = n->per_element ? 1 : 0;
    for (size_t r = 0; r < n->rows; r++, x += n->spans * n->length) {
        moments m = moments_of(n, x);
        for (size_t s = 0; s < n->spans; s++) {
            size_t first = step ? 0 : r * n->spans + s;
            for (size_t k = 0; k < n->length; k++, y++) {
                *y = (x[s * n->length + k] - m.mean) * m.rstd * scale[first + k * step] + shift[first + k * step];
            }
        }
    }
}

/* Sums over one span, z = (x - mean) rstd: dscale += g z, dshift += g; returned: those of s = g scale and of s z. */
typedef struct span_sums { real s, sz; } span_sums;

static span_sums span_per_element(size_t length, moments m, const real *x, const real *scale, const real *g,
                                  real *dscale, real *dshift) {
    span_sums sums = { 0, 0 };
    for (size_t k = 0; k < length; k++) {
        real z = (x[k] - m.mean) * m.rstd;
        dscale[k] += g[k] * z;
        dshift[k] += g[k];
        sums.s += g[k] * scale[k];
        sums.sz += g[k] * scale[k] * z;
    }
    return sums;
}

static span_sums span_of_one_scale(size_t length, moments m, const real *x, const real *scale, const real *g,
                                   real *dscale, real *dshift) {
    real sum = 0, sum_z = 0;
    for (size_t k = 0; k < length; k++) {
        sum += g[k];
        sum_z += g[k] * (x[k] - m.mean) * m.rstd;
    }
    *dscale += sum_z;
    *dshift += sum;
    return (span_sums){ sum * *scale, sum_z * *scale };
}

/* dx = rstd (s - mean(s) - z mean(s z)) over one row */
static void norm_backward_row(const naive_norm *n, size_t first, const real *x, const real *scale, const real *g,
                              real *dx, real *dscale, real *dshift) {
    moments m = moments_of(n, x);
    span_sums total = { 0, 0 };
    size_t width = n->spans * n->length, step = n->per_element ? 1 : 0;
    for (size_t s = 0; s < n->spans; s++) {
        size_t at = s * n->length, c = first + (step ? 0 : s);
        span_sums part = (step ? span_per_element : span_of_one_scale)(n->length, m, x + at, scale + c, g + at,
                                                                      dscale + c, dshift + c);
        total = (span_sums){ total.s + part.s, total.sz + part.sz };
    }
    total = (span_sums){ total.s / (real)width, total.sz / (real)width };
    for (size_t s = 0; s < n->spans; s++) {
        size_t at = s * n->length, c = first + (step ? 0 : s);
        for (size_t k = 0; k < n->length; k++) {
            real z = (x[at + k] - m.mean) * m.rstd;
            dx[at + k] = m.rstd * (g[at + k] * scale[c + k * step] - total.s - z * total.sz);
        }
    }
}

static void norm_backward(const naive_norm *n, const void *x_, const void *scale, const void *g_, void *dx_,
                          void *dscale, void *dshift) {
    const real *x = x_, *g = g_;
    real *dx = dx_;
    size_t width = n->spans * n->length;
    memset(dscale, 0, n->count * sizeof(real));
    memset(dshift, 0, n->count * sizeof(real));
    for (size_t r = 0; r < n->rows; r++) {
        norm_backward_row(n, n->per_element ? 0 : r * n->spans, x + r * width, scale, g + r * width, dx + r * width,
                          dscale, dshift);
    }
}

/* ---- elementwise and losses ---- */

static void relu(size_t n, const void *x_, void *y_) {
    const real *x = x_;
    real *y = y_;
    for (size_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

static void relu_backward(size_t n, const void *y_, const void *g_, void *dx_) {
    const real *y = y_, *g = g_;
    real *dx = dx_;
    for (size_t i = 0; i < n; i++) dx[i] = y[i] > 0 ? g[i] : 0;
}

static void cross_entropy_backward(size_t classes, const void *x_, size_t label, void *g_) {
    const real *x = x_;
    real *g = g_;
    real largest = x[0];
    double sum = 0;
    for (size_t c = 1; c < classes; c++) largest = x[c] > largest ? x[c] : largest;
    for (size_t c = 0; c < classes; c++) sum += exp((double)x[c] - largest);
    for (size_t c = 0; c < classes; c++) g[c] = (real)(exp((double)x[c] - largest) / sum - (c == label));
}

/* ---- vectors ---- */

static double dot(size_t n, const void *x_, const void *y_) {
    const real *x = x_, *y = y_;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

static void add(size_t n, double w, const void *x, void *y) {
    add_row(n, (real)w, x, y);
}

static void add_squares(size_t n, double w, const void *x_, void *y_) {
    const real *x = x_;
    real *y = y_;
    for (size_t i = 0; i < n; i++) y[i] += (real)w * x[i] * x[i];
}

const naive_table TABLE = { linear, linear_input, linear_weight, linear_bias, norm, norm_backward, relu, relu_backward,
                            cross_entropy_backward, dot, add, add_squares };
