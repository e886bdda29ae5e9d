/* Planes of a convolution with 3 x 3 neighbouring taps and steps of 1, without a copy of the input: a strip of
 * LANES - 2 columns is one masked load a row, and its neighbours are that vector moved by one and two lanes.  Only
 * where
 * such loads and moves are single instructions. */
#ifndef PSG_KERNELS_CONV_PLANES_H
#define PSG_KERNELS_CONV_PLANES_H

#include "conv_stage.h"

enum { PLANE_TAPS = 3, STRIP = (int)(PSG_VECTOR_BYTES / sizeof(real)) - PLANE_TAPS + 1 };

/* Output row i, column j reads rows i + row, i + row + 1, i + row + 2 of the input, and columns likewise. */
typedef struct plane {
    const real *in;
    size_t in_rows, in_columns, out_rows, out_columns;
    ptrdiff_t row, column;
} plane;

/* Whether the kernel is one of 3 x 3 and this is all of it.  No question of the number of samples: their sums are
 * ordered otherwise elsewhere. */
static inline bool planes_fit(const psg_conv *c) {
    const ptrdiff_t taps = PLANE_TAPS * PLANE_TAPS;
    bool fit = PSG_VECTOR_BYTES == 64 && c->planes && c->axis[0].in_size == 1 && c->axis[0].out_size == 1;
    fit = fit && c->axis[0].phases[0].taps == 1 && c->axis[0].low == 0 && !c->accumulate;
    fit = fit && c->weight_tap[1] == PLANE_TAPS && (c->weight_row == taps || c->weight_channel == taps);
    for (int a = 1; a < AXES && fit; a++) {
        const psg_conv_axis *x = &c->axis[a];
        const psg_conv_phase *p = x->phases;
        fit = x->in_step == 1 && x->out_step == 1 && p->taps == PLANE_TAPS &&
              (p->offset_step == 1 || p->offset_step == -1);
    }
    return fit;
}

#if PSG_VECTOR_BYTES == 64

/* The lanes [0, n) of v moved down by `by` (a constant) places; the others are 0. */
INLINE vec move_lanes(vec v, int by, size_t n) {
#if PSG_REAL_IS_F64
    const __m512d x = (__m512d)v;
    const __m512i at = _mm512_add_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi64(by));
    return (vec)_mm512_maskz_permutexvar_pd((__mmask8)((1u << n) - 1), at, x);
#else
    const __m512i at = _mm512_add_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                        _mm512_set1_epi32(by));
    return (vec)_mm512_maskz_permutexvar_ps((__mmask16)((1u << n) - 1), at, (__m512)v);
#endif
}

/* A strip's input rows: lane l is column first + l, zeros outside the image. */
typedef struct strip {
    const plane *plane;
    const real *from;      /* lane 0 of row 0, perhaps outside */
    size_t begin, end;     /* lanes inside */
    size_t columns;        /* of the output */
} strip;

INLINE strip strip_at(const plane *p, size_t column) {
    const ptrdiff_t first = (ptrdiff_t)column + p->column, rest = (ptrdiff_t)p->in_columns - first;
    strip s = { .plane = p, .from = (const real *)((uintptr_t)p->in + (size_t)first * sizeof(real)) };
    s.columns = smaller(STRIP, p->out_columns - column);
    s.begin = first < 0 ? smaller((size_t)-first, LANES) : 0;
    s.end = rest < (ptrdiff_t)s.begin ? s.begin : smaller(LANES, (size_t)rest);
    return s;
}

INLINE vec strip_row(const strip *s, ptrdiff_t row) {
    if (row < 0 || row >= (ptrdiff_t)s->plane->in_rows) return vec_zero();
    return load_between((const real *)((uintptr_t)s->from + (size_t)row * s->plane->in_columns * sizeof(real)),
                        s->begin, s->end);
}

INLINE vec add_taps(vec sum, const vec w[PLANE_TAPS], const vec x[PLANE_TAPS]) {
    UNROLL for (int k = 0; k < PLANE_TAPS; k++) sum = vec_add_product(sum, w[k], x[k]);
    return sum;
}

/* out (+)= bias + the nine taps, weight in the order of the input.  An input row is read once: it ends one output row,
 * continues the next and begins the one after. */
INLINE void write_strip(const strip *s, const real *weight, real bias, bool add, real *out) {
    const plane *p = s->plane;
    vec w[PLANE_TAPS][PLANE_TAPS], next[2] = { vec_zero(), vec_zero() };
    for (int k = 0; k < PLANE_TAPS * PLANE_TAPS; k++) w[k / PLANE_TAPS][k % PLANE_TAPS] = vec_set(weight[k]);
    for (size_t i = 0; i < p->out_rows + 2; i++) {
        const vec row = strip_row(s, (ptrdiff_t)i + p->row);
        const vec x[PLANE_TAPS] = { row, move_lanes(row, 1, LANES), move_lanes(row, 2, LANES) };
        vec done = add_taps(next[0], w[2], x);
        next[0] = add_taps(next[1], w[1], x);
        next[1] = add_taps(vec_set(bias), w[0], x);
        if (i < 2) continue;
        if (add) done += vec_load_part(out, s->columns);
        vec_store_part(out, done, s->columns);
        out += p->out_columns;
    }
}

static inline void write_plane(const plane *p, const real *weight, real bias, bool add, real *out) {
    for (size_t k = 0; k < p->out_columns; k += STRIP) {
        const strip s = strip_at(p, k);
        write_strip(&s, weight, bias, add, out + k);
    }
}

INLINE void flush_sums(vec sum[PLANE_TAPS * PLANE_TAPS], dvec total[PLANE_TAPS * PLANE_TAPS]) {
    UNROLL for (int k = 0; k < PLANE_TAPS * PLANE_TAPS; k++) {
        total[k] = dvec_add(total[k], sum[k]);
        sum[k] = vec_zero();
    }
}

/* total[tap] += grad * what the tap reads, in the order of the input; CHAIN rows at a time in the real type. */
INLINE void correlate_strip(const strip *s, const real *grad, dvec total[PLANE_TAPS * PLANE_TAPS]) {
    const plane *p = s->plane;
    vec g[PLANE_TAPS] = { vec_zero(), vec_zero(), vec_zero() }, sum[PLANE_TAPS * PLANE_TAPS];
    UNROLL for (int k = 0; k < PLANE_TAPS * PLANE_TAPS; k++) sum[k] = vec_zero();
    for (size_t i = 0; i < p->out_rows + 2; i++, grad += p->out_columns) {
        if (i > 0 && i % CHAIN == 0) flush_sums(sum, total);
        const vec row = strip_row(s, (ptrdiff_t)i + p->row);
        g[2] = g[1];
        g[1] = g[0];
        g[0] = i < p->out_rows ? vec_load_part(grad, s->columns) : vec_zero();
        UNROLL for (int k = 0; k < PLANE_TAPS; k++) {
            const vec x = move_lanes(row, k, s->columns);
            UNROLL for (int a = 0; a < PLANE_TAPS; a++) {
                sum[a * PLANE_TAPS + k] = vec_add_product(sum[a * PLANE_TAPS + k], g[a], x);
            }
        }
    }
    flush_sums(sum, total);
}

static inline void correlate_plane(const plane *p, const real *grad, real *out) {
    dvec total[PLANE_TAPS * PLANE_TAPS];
    UNROLL for (int k = 0; k < PLANE_TAPS * PLANE_TAPS; k++) total[k] = (dvec){ 0 };
    for (size_t k = 0; k < p->out_columns; k += STRIP) {
        const strip s = strip_at(p, k);
        correlate_strip(&s, grad + k, total);
    }
    UNROLL for (int k = 0; k < PLANE_TAPS * PLANE_TAPS; k++) out[k] = (real)dvec_sum(total[k]);
}

#else

static inline void write_plane(const plane *p, const real *weight, real bias, bool add, real *out) {
    (void)p, (void)weight, (void)bias, (void)add, (void)out;
}
static inline void correlate_plane(const plane *p, const real *grad, real *out) { (void)p, (void)grad, (void)out; }

#endif
#endif
