/* Maxima over windows, plane by plane: the inner loops run along the last dimension over many windows at once, with the
 * strides 1 and 2 as constants. */
#include <math.h>

#include "kernels.h"
#include "pooling_rows.h"
#include "vector.h"

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

#if PSG_REAL_IS_F64
typedef uint64_t lane;
#else
typedef uint32_t lane;
#endif
typedef lane lanes __attribute__((vector_size(PSG_VECTOR_BYTES)));

/* Unsigned: a lane without a window may run over. */
static inline vec_bits index_from(size_t first, vec_bits apart) { return (vec_bits)((lanes)apart + (lane)first); }

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

static inline void store_index(vec_bits index, size_t n, int32_t *to) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    _mm512_mask_cvtepi64_storeu_epi32(to, (__mmask8)((1u << n) - 1), (__m512i)index);
#elif PSG_VECTOR_BYTES == 64
    _mm512_mask_storeu_epi32(to, (__mmask16)((1u << n) - 1), (__m512i)index);
#else
    for (size_t k = 0; k < LANES; k++) {
        if (k < n) to[k] = (int32_t)index[k];
    }
#endif
}

static inline void store_best(best b, size_t n, real *y, int32_t *argmax) {
    if (n == LANES) vec_store(y, b.value);
    else vec_store_part(y, b.value, n);
    if (argmax) store_index(b.index, n, argmax);
}

/* n <= LANES windows of the run at once, from window ow on. */
static inline void max_block(const psg_pooling_dim *w, const rows *r, size_t stride, size_t ow, size_t n, const real *x,
                             real *y, int32_t *argmax) {
    const vec_bits apart = steps(stride);
    const size_t first = (size_t)w->first[ow];
    best b = { vec_set(-(real)INFINITY), index_from(row_at(r, 0, 0) + first, apart) };
    for (size_t d = 0; d < r->depth; d++) {
        for (size_t h = 0; h < r->height; h++) {
            const size_t row = row_at(r, d, h) + first;
            for (size_t k = 0; k < w->full; k++) {
                size_t at = row + k * w->step;
                b = take_larger(b, load_apart(x + at, stride, n), index_from(at, apart));
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
    best b = { vec_set(-(real)INFINITY), index_from(at, apart) };
    for (size_t k = 0; k < n; k += LANES) {
        size_t from = at + smaller(k, n - LANES);
        b = take_larger(b, vec_load(x + from), index_from(from, apart));
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
    const size_t in = plane_in(p), out = p->dim[0].out * p->dim[1].out * p->dim[2].out;
    for (size_t plane = 0; plane < planes; plane++, gx += in, gy += out, argmax += out) {
        memset(gx, 0, in * sizeof *gx);
        for (size_t i = 0; i < out; i++) {
            if (argmax[i] >= 0) gx[argmax[i]] += gy[i];
        }
    }
}
