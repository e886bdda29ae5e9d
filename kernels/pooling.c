/* Maxima and means over windows, plane by plane.
 *
 * The inner loops run along the last dimension over many windows at once, with the strides 1 and 2 as constants; those
 * of means are written for the compiler's vectorizer.  A mean is a sum over the rows of the window, element by element, and then
 * along the row; its gradient is spread along a row once and then added to every row of the window. */
#include <math.h>

#include "kernels.h"
#include "vector.h"

enum { SPAN = 2048 };   /* elements of a row of sums at a time */

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static inline size_t plane_in(const psg_pooling *p) { return p->dim[0].in * p->dim[1].in * p->dim[2].in; }

static inline size_t plane_out(const psg_pooling *p) { return p->dim[0].out * p->dim[1].out * p->dim[2].out; }

/* The rows of the windows of one row of outputs, row (a, b) of them beginning at row_at. */
typedef struct rows {
    size_t depth, height;
    const psg_pooling_dim *d, *h;
    size_t first_d, first_h, width;
} rows;

static inline rows rows_of(const psg_pooling *p, size_t od, size_t oh) {
    const psg_pooling_dim *d = &p->dim[0], *h = &p->dim[1];
    return (rows){ (size_t)d->count[od], (size_t)h->count[oh], d, h, (size_t)d->first[od], (size_t)h->first[oh],
                   p->dim[2].in };
}

static inline size_t row_at(const rows *r, size_t a, size_t b) {
    return ((r->first_d + a * r->d->step) * r->h->in + r->first_h + b * r->h->step) * r->width;
}

/* ---- max: of equal elements the first, of NaN the last ---- */

typedef struct best {
    vec value;
    vec_bits index;
} best;

static inline vec_bits steps(size_t stride) {
    vec_bits index;
    for (size_t k = 0; k < LANES; k++) index[k] = (real_bits)(k * stride);
    return index;
}

static inline vec_bits bits_set(size_t x) { return (real_bits)x + (vec_bits){ 0 }; }

static inline best take_larger(best old, vec value, vec_bits index) {
    vec_bits take = (value > old.value) | (value != value);
    return (best){ vec_select(take, value, old.value), (take & index) | (~take & old.index) };
}

/* Elements 0, 2, 4, ... of 2 LANES - 1, of which b holds the last LANES. */
static inline vec even_elements(vec a, vec b) {
#if PSG_VECTOR_BYTES == 64 && !PSG_REAL_IS_F64
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
#elif PSG_VECTOR_BYTES == 64 || (PSG_VECTOR_BYTES == 32 && !PSG_REAL_IS_F64)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 9, 11, 13, 15);
#elif PSG_VECTOR_BYTES == 32 || !PSG_REAL_IS_F64
    return __builtin_shufflevector(a, b, 0, 2, 5, 7);
#else
    return __builtin_shufflevector(a, b, 0, 3);
#endif
}

static inline vec load(const real *p, size_t n) { return n == LANES ? vec_load(p) : vec_load_part(p, n); }

/* n <= LANES elements, stride apart. */
static inline vec load_apart(const real *p, size_t stride, size_t n) {
    if (stride == 1) return load(p, n);
    if (stride == 2) {
        const size_t span = 2 * n - 1;
        return even_elements(load(p, smaller(span, LANES)),
                             span > LANES ? load(p + LANES - 1, span + 1 - LANES) : vec_zero());
    }
    vec v = vec_zero();
    for (size_t k = 0; k < n; k++) v[k] = p[k * stride];
    return v;
}

static inline void store_best(best b, size_t n, real *y, int32_t *argmax) {
    if (n == LANES) vec_store(y, b.value);
    else vec_store_part(y, b.value, n);
    int32_t index[LANES];
    for (size_t k = 0; k < LANES; k++) index[k] = (int32_t)b.index[k];
    if (argmax && n == LANES) memcpy(argmax, index, sizeof index);
    for (size_t k = 0; argmax && n < LANES && k < n; k++) argmax[k] = index[k];
}

/* n <= LANES windows of the run at once, from window ow on. */
static inline void max_block(const psg_pooling_dim *w, const rows *r, size_t stride, size_t ow, size_t n, const real *x,
                             real *y, int32_t *argmax) {
    const vec_bits apart = steps(stride);
    const size_t first = (size_t)w->first[ow];
    best b = { vec_set(-(real)INFINITY), apart + bits_set(row_at(r, 0, 0) + first) };
    for (size_t d = 0; d < r->depth; d++) {
        for (size_t h = 0; h < r->height; h++) {
            const size_t row = row_at(r, d, h) + first;
            for (size_t k = 0; k < w->full; k++) {
                size_t at = row + k * w->step;
                b = take_larger(b, load_apart(x + at, stride, n), apart + bits_set(at));
            }
        }
    }
    store_best(b, n, y + ow, argmax ? argmax + ow : NULL);
}

/* The last block reaches back over the one before where the run is long enough. */
static inline void max_run(const psg_pooling_dim *w, const rows *r, size_t stride, const real *x, real *y,
                           int32_t *argmax) {
    const size_t end = w->run_end;
    if (end - w->run < LANES) {
        max_block(w, r, stride, w->run, end - w->run, x, y, argmax);
        return;
    }
    for (size_t ow = w->run; ow < end; ow += LANES) {
        max_block(w, r, stride, smaller(ow, end - LANES), LANES, x, y, argmax);
    }
}

/* One window by itself. */
typedef struct found {
    real value;
    size_t index;
} found;

/* Of two, whichever came first. */
static inline found larger(found a, found b) {
    if (b.value != b.value) return a.value != a.value && a.index > b.index ? a : b;
    bool take = b.value > a.value || (b.value == a.value && b.index < a.index);
    return take ? b : a;
}

static found max_of_row(const real *x, size_t at, size_t step, size_t n, found m) {
    for (size_t k = 0; k < n; k++) {
        size_t index = at + k * step;
        real v = x[index];
        bool take = (v > m.value) | (v != v);
        m.value = take ? v : m.value;
        m.index = take ? index : m.index;
    }
    return m;
}

/* A row of at least LANES elements side by side; the last vector reaches back, which changes no maximum. */
static found max_of_long_row(const real *x, size_t at, size_t n, found m) {
    const vec_bits apart = steps(1);
    best b = { vec_set(-(real)INFINITY), apart + bits_set(at) };
    for (size_t k = 0; k < n; k += LANES) {
        size_t from = at + smaller(k, n - LANES);
        b = take_larger(b, vec_load(x + from), apart + bits_set(from));
    }
    for (size_t k = 0; k < LANES; k++) m = larger(m, (found){ b.value[k], (size_t)b.index[k] });
    return m;
}

static void max_one(const psg_pooling_dim *w, const rows *r, size_t ow, const real *x, real *y, int32_t *argmax) {
    const size_t first = (size_t)w->first[ow], count = (size_t)w->count[ow];
    found m = { -(real)INFINITY, row_at(r, 0, 0) + first };
    for (size_t d = 0; d < r->depth; d++) {
        for (size_t h = 0; h < r->height; h++) {
            size_t at = row_at(r, d, h) + first;
            if (w->step == 1 && count >= LANES) m = max_of_long_row(x, at, count, m);
            else m = max_of_row(x, at, w->step, count, m);
        }
    }
    y[ow] = m.value;
    if (argmax) argmax[ow] = r->depth && r->height && count ? (int32_t)m.index : -1;
}

/* The windows of the run side by side, unless they are few and wide. */
static void max_row(const psg_pooling_dim *w, const rows *r, const real *x, real *y, int32_t *argmax) {
    const bool few = w->step == 1 && w->full >= LANES && w->run_end - w->run < LANES;
    const bool run = w->run < w->run_end && r->depth && r->height && !few;
    for (size_t ow = 0; ow < w->out; ow++) {
        if (run && ow == w->run) {
            ow = w->run_end - 1;
            continue;
        }
        max_one(w, r, ow, x, y, argmax);
    }
    if (!run) return;
    if (w->stride == 1) max_run(w, r, 1, x, y, argmax);
    else if (w->stride == 2) max_run(w, r, 2, x, y, argmax);
    else max_run(w, r, w->stride, x, y, argmax);
}

void PSG_KERNEL(max_pool)(const psg_pooling *p, size_t planes, const void *x_, void *y_, int32_t *argmax) {
    const real *x = x_;
    real *y = y_;
    const size_t width = p->dim[2].out;
    for (size_t plane = 0; plane < planes; plane++, x += plane_in(p)) {
        for (size_t od = 0; od < p->dim[0].out; od++) {
            for (size_t oh = 0; oh < p->dim[1].out; oh++, y += width) {
                rows r = rows_of(p, od, oh);
                max_row(&p->dim[2], &r, x, y, argmax);
                if (argmax) argmax += width;
            }
        }
    }
}

void PSG_KERNEL(max_pool_backward)(const psg_pooling *p, size_t planes, const void *gy_, const int32_t *argmax,
                                   void *gx_) {
    const real *gy = gy_;
    real *gx = gx_;
    const size_t in = plane_in(p), out = plane_out(p);
    for (size_t plane = 0; plane < planes; plane++, gx += in, gy += out, argmax += out) {
        memset(gx, 0, in * sizeof *gx);
        for (size_t i = 0; i < out; i++) {
            if (argmax[i] >= 0) gx[argmax[i]] += gy[i];
        }
    }
}

/* ---- avg ---- */

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

void PSG_KERNEL(avg_pool)(const psg_pooling *p, size_t planes, const void *x_, void *y_) {
    const real *x = x_;
    real *y = y_;
    for (size_t plane = 0; plane < planes; plane++, x += plane_in(p)) {
        for (size_t od = 0; od < p->dim[0].out; od++) {
            for (size_t oh = 0; oh < p->dim[1].out; oh++, y += p->dim[2].out) {
                rows r = rows_of(p, od, oh);
                mean_row(p, &r, outer_divisor(p, od, oh), x, y);
            }
        }
    }
}

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
