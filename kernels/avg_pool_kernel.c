/* Means over windows, plane by plane.
 *
 * A mean is a sum over the rows of the window, element by element, and then along the row; its gradient is spread along
 * a row once and then added to every row of the window.  The inner loops run over many windows at once and are written
 * for the compiler's vectorizer, with the strides 1 and 2 as constants. */
#include "kernels.h"
#include "pooling_rows.h"
#include "vector.h"

enum { SPAN = 2048 };   /* elements of a row of sums at a time */

/* What the windows at (od, oh) count for along the other two dimensions. */
static inline real outer_divisor(const psg_pooling *p, size_t od, size_t oh) {
    return p->divisor != 0 ? (real)p->divisor : (real)p->dim[0].divisor[od] * (real)p->dim[1].divisor[oh];
}

static inline real divisor_of(const psg_pooling *p, real outer, size_t ow) {
    return p->divisor != 0 ? outer : outer * (real)p->dim[2].divisor[ow];
}

/* How many outputs from ow on fit a span of SPAN elements, whose end is *end; 0 when one does not. */
static size_t outputs_in_span(const psg_pooling_dim *w, size_t ow, size_t *end) {
    const size_t from = (size_t)w->first[ow];
    size_t n = 0;
    *end = w->in;
    if (w->in <= SPAN) return w->out - ow;
    *end = from;
    for (; ow + n < w->out; n++) {
        size_t last = (size_t)w->first[ow + n] + (size_t)w->count[ow + n];
        if (last - from > SPAN) break;
        if (last > *end) *end = last;
    }
    return n;
}

/* to[i] (+)= from[i] */
static inline void copy_row(size_t n, const real *restrict from, real *restrict to) {
    for (size_t i = 0; i < n; i++) to[i] = from[i];
}
static inline void add_row(size_t n, const real *restrict from, real *restrict to) {
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

/* sum[i] = the sum of element from + i of all rows. */
static void sum_rows(const rows *r, size_t from, size_t n, const real *x, real *sum) {
    for (size_t i = 0; i < n && !(r->depth && r->height); i++) sum[i] = 0;
    for (size_t a = 0; a < r->depth; a++) {
        for (size_t b = 0; b < r->height; b++) {
            const real *row = x + row_at(r, a, b) + from;
            if (a + b) add_row(n, row, sum);
            else copy_row(n, row, sum);
        }
    }
}

/* The mean of window elements along one row of sums: y[i] = sum_k s[i stride + k] / divisor. */
static inline void mean_along(size_t n, size_t stride, size_t full, const real *restrict s, real divisor,
                              real *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] = s[i * stride];
    for (size_t k = 1; k < full; k++) {
        for (size_t i = 0; i < n; i++) y[i] += s[i * stride + k];
    }
    for (size_t i = 0; i < n; i++) y[i] /= divisor;
}

static void mean_run(size_t n, const psg_pooling_dim *w, const real *s, real divisor, real *y) {
    if (w->stride == 1) mean_along(n, 1, w->full, s, divisor, y);
    else if (w->stride == 2 && w->full == 2) mean_along(n, 2, 2, s, divisor, y);
    else if (w->stride == 2) mean_along(n, 2, w->full, s, divisor, y);
    else mean_along(n, w->stride, w->full, s, divisor, y);
}

static real mean_one(const psg_pooling_dim *w, size_t ow, const real *s, real divisor) {
    real sum = 0;
    for (int32_t k = 0; k < w->count[ow]; k++) sum += s[k];
    return sum / divisor;
}

/* Outputs [ow, ow + n) from the sums of the rows, whose element 0 is the first of window ow. */
static void mean_chunk(const psg_pooling *p, real outer, size_t ow, size_t n, const real *sum, real *y) {
    const psg_pooling_dim *w = &p->dim[2];
    const int32_t from = w->first[ow];
    for (size_t end = ow + n; ow < end;) {
        const real *s = sum + (w->first[ow] - from), divisor = divisor_of(p, outer, ow);
        if (ow >= w->run && ow < w->run_end) {
            size_t run = smaller(end, w->run_end) - ow;
            mean_run(run, w, s, divisor, y + ow);
            ow += run;
        } else {
            y[ow] = mean_one(w, ow, s, divisor);
            ow++;
        }
    }
}

/* A wide window by itself, in double. */
static real mean_wide(const psg_pooling_dim *w, const rows *r, size_t ow, const real *x, real divisor) {
    const size_t n = (size_t)w->count[ow];
    double rest = 0;
    dvec even = { 0 }, odd = { 0 };
    for (size_t a = 0; a < r->depth; a++) {
        for (size_t b = 0; b < r->height; b++) {
            const real *row = x + row_at(r, a, b) + w->first[ow];
            size_t k = 0;
            for (; k + 2 * LANES <= n; k += 2 * LANES) {
                even = dvec_add(even, vec_load(row + k));
                odd = dvec_add(odd, vec_load(row + k + LANES));
            }
            for (; k < n; k++) rest += (double)row[k];
        }
    }
    return (real)((dvec_sum(even + odd) + rest) / (double)divisor);
}

static void mean_row(const psg_pooling *p, const rows *r, real outer, const real *x, real *y) {
    const psg_pooling_dim *w = &p->dim[2];
    real sum[SPAN];
    for (size_t ow = 0, n, end; ow < w->out; ow += n) {
        n = w->out == 1 ? 0 : outputs_in_span(w, ow, &end);
        if (!n) {
            y[ow] = mean_wide(w, r, ow, x, divisor_of(p, outer, ow));
            n = 1;
            continue;
        }
        const size_t from = (size_t)w->first[ow];
        const real *s = sum;
        if (r->depth * r->height == 1) s = x + row_at(r, 0, 0) + from;
        else sum_rows(r, from, end - from, x, sum);
        mean_chunk(p, outer, ow, n, s, y);
    }
}

static inline void mean_plane(const psg_pooling *p, const real *x, real *y) {
    for (size_t od = 0; od < p->dim[0].out; od++) {
        for (size_t oh = 0; oh < p->dim[1].out; oh++, y += p->dim[2].out) {
            rows r = rows_of(p, od, oh);
            mean_row(p, &r, outer_divisor(p, od, oh), x, y);
        }
    }
}

/* Whether n elements are finite: 0 x is NaN for one that is not, and stays so in a sum. */
static bool all_finite(size_t n, const real *x) {
    enum { CHAINS = 4 };
    vec sum[CHAINS] = { 0 };
    size_t k = 0;
    for (; k + CHAINS * LANES <= n; k += CHAINS * LANES) {
        for (size_t c = 0; c < CHAINS; c++) sum[c] += vec_zero() * vec_load(x + k + c * LANES);
    }
    for (; k < n; k += LANES) sum[0] += vec_zero() * vec_load_part(x + k, smaller(LANES, n - k));
    const vec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    real total = 0;
    for (size_t i = 0; i < LANES; i++) total += all[i];
    return total == 0;
}

/* A window whose sum left the range of the real type, though its mean may lie in it: in double, scaled so that 2^31
 * elements cannot overflow.  No mean is larger than all its elements, whatever rounding says. */
static real mean_scaled(const psg_pooling_dim *w, const rows *r, size_t ow, const real *x, real divisor) {
    const double scale = 0x1p-40, elements = (double)(r->depth * r->height) * (double)w->count[ow];
    double sum = 0, largest = 0;
    for (size_t a = 0; a < r->depth; a++) {
        for (size_t b = 0; b < r->height; b++) {
            const real *row = x + row_at(r, a, b) + w->first[ow];
            for (int32_t k = 0; k < w->count[ow]; k++) {
                const double v = (double)row[k], size = __builtin_fabs(v);
                sum += v * scale;
                largest = size > largest ? size : largest;
            }
        }
    }
    const double mean = sum / (double)divisor / scale;
    const bool beyond = __builtin_fabs(mean) > largest && (double)divisor >= elements;
    return (real)(beyond ? __builtin_copysign(largest, mean) : mean);
}

/* The means of a plane that are not finite again. */
static void mend_plane(const psg_pooling *p, const real *x, real *y) {
    for (size_t od = 0; od < p->dim[0].out; od++) {
        for (size_t oh = 0; oh < p->dim[1].out; oh++, y += p->dim[2].out) {
            const rows r = rows_of(p, od, oh);
            const real outer = outer_divisor(p, od, oh);
            for (size_t ow = 0; ow < p->dim[2].out; ow++) {
                if (!__builtin_isfinite(y[ow])) y[ow] = mean_scaled(&p->dim[2], &r, ow, x, divisor_of(p, outer, ow));
            }
        }
    }
}

void PSG_KERNEL(avg_pool)(const psg_pooling *p, size_t planes, const void *x_, void *y_) {
    const real *x = x_;
    real *y = y_;
    const size_t in = plane_in(p), out = p->dim[0].out * p->dim[1].out * p->dim[2].out;
    for (size_t plane = 0; plane < planes; plane++) mean_plane(p, x + plane * in, y + plane * out);
    if (all_finite(planes * out, y)) return;
    for (size_t plane = 0; plane < planes; plane++) mend_plane(p, x + plane * in, y + plane * out);
}

/* ---- the gradient ---- */

/* s[i stride + k] += g[i] / divisor */
static inline void spread_along(size_t n, size_t stride, size_t full, const real *restrict g, real divisor,
                                real *restrict s) {
    real part[SPAN];
    for (size_t i = 0; i < n; i++) part[i] = g[i] / divisor;
    for (size_t k = 0; k < full; k++) {
        for (size_t i = 0; i < n; i++) s[i * stride + k] += part[i];
    }
}

/* Windows side by side. */
static inline void spread_pairs(size_t n, const real *restrict g, real divisor, real *restrict s) {
    for (size_t i = 0; i < n; i++) {
        real share = g[i] / divisor;
        s[2 * i] = share;
        s[2 * i + 1] = share;
    }
}

static void spread_run(size_t n, const psg_pooling_dim *w, const real *g, real divisor, real *s) {
    if (w->stride == 1) spread_along(n, 1, w->full, g, divisor, s);
    else if (w->stride == 2 && w->full == 2) spread_pairs(n, g, divisor, s);
    else spread_along(n, w->stride, w->full, g, divisor, s);
}

/* The shares of outputs [ow, ow + n) along a row. */
static void spread_chunk(const psg_pooling *p, real outer, size_t ow, size_t n, const real *g, real *share) {
    const psg_pooling_dim *w = &p->dim[2];
    const int32_t from = w->first[ow];
    for (size_t end = ow + n; ow < end;) {
        real *s = share + (w->first[ow] - from), divisor = divisor_of(p, outer, ow);
        if (ow >= w->run && ow < w->run_end) {
            size_t run = smaller(end, w->run_end) - ow;
            spread_run(run, w, g + ow, divisor, s);
            ow += run;
        } else {
            for (int32_t k = 0; k < w->count[ow]; k++) s[k] += g[ow] / divisor;
            ow++;
        }
    }
}

static void add_to_rows(const rows *r, size_t from, size_t n, const real *share, real *gx) {
    for (size_t a = 0; a < r->depth; a++) {
        for (size_t b = 0; b < r->height; b++) add_row(n, share, gx + row_at(r, a, b) + from);
    }
}

static void add_wide(const psg_pooling_dim *w, const rows *r, size_t ow, real share, real *gx) {
    const size_t n = (size_t)w->count[ow];
    for (size_t a = 0; a < r->depth; a++) {
        for (size_t b = 0; b < r->height; b++) {
            real *row = gx + row_at(r, a, b) + w->first[ow];
            for (size_t k = 0; k < n; k++) row[k] += share;
        }
    }
}

static void spread_row(const psg_pooling *p, const rows *r, real outer, const real *g, real *gx) {
    const psg_pooling_dim *w = &p->dim[2];
    real share[SPAN];
    for (size_t ow = 0, n, end; ow < w->out; ow += n) {
        n = w->out == 1 ? 0 : outputs_in_span(w, ow, &end);
        if (!n) {
            add_wide(w, r, ow, g[ow] / divisor_of(p, outer, ow), gx);
            n = 1;
            continue;
        }
        const size_t from = (size_t)w->first[ow];
        memset(share, 0, (end - from) * sizeof *share);
        spread_chunk(p, outer, ow, n, g, share);
        add_to_rows(r, from, end - from, share, gx);
    }
}

void PSG_KERNEL(avg_pool_backward)(const psg_pooling *p, size_t planes, const void *gy_, void *gx_) {
    const real *g = gy_;
    real *gx = gx_;
    for (size_t plane = 0; plane < planes; plane++, gx += plane_in(p)) {
        memset(gx, 0, plane_in(p) * sizeof *gx);
        for (size_t od = 0; od < p->dim[0].out; od++) {
            for (size_t oh = 0; oh < p->dim[1].out; oh++, g += p->dim[2].out) {
                rows r = rows_of(p, od, oh);
                spread_row(p, &r, outer_divisor(p, od, oh), g, gx);
            }
        }
    }
}
