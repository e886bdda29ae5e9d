/* Packing by transposition: columns that are contiguous along the rows' index become rows of a panel.
 *
 *   panel[t * width + j] = x[j * step + t]     t < k, j < count; 0 for count <= j < width
 *
 * Only 128-bit lanes are transposed, which is half of a whole transpose's shuffles: loads or stores of 128 bits do the
 * rest. */
#ifndef PSG_KERNELS_TRANSPOSE_H
#define PSG_KERNELS_TRANSPOSE_H

#include "vector.h"

#define QUAD ((size_t)(16 / sizeof(real))) /* reals in 128 bits */

typedef real quad __attribute__((vector_size(16)));

static inline quad quad_load(const real *p) {
    quad q;
    memcpy(&q, p, sizeof q);
    return q;
}

/* ---- transposing within 128 bits ---- */

#if defined(__x86_64__) && PSG_VECTOR_BYTES == 64
#define WIDE_SHUFFLE(name, a, b) (vec)_mm512_##name((__m512d)(a), (__m512d)(b))
#define WIDE_SHUFFLE_F32(name, a, b) (vec)_mm512_##name((__m512)(a), (__m512)(b))
#elif defined(__x86_64__) && PSG_VECTOR_BYTES == 32
#define WIDE_SHUFFLE(name, a, b) (vec)_mm256_##name((__m256d)(a), (__m256d)(b))
#define WIDE_SHUFFLE_F32(name, a, b) (vec)_mm256_##name((__m256)(a), (__m256)(b))
#endif

/* q: QUAD quads, as rows; becomes the columns. */
static inline void transpose_quads(quad *q) {
#if PSG_REAL_IS_F64
    quad low = { q[0][0], q[1][0] }, high = { q[0][1], q[1][1] };
    q[0] = low;
    q[1] = high;
#elif defined(__x86_64__)
    _MM_TRANSPOSE4_PS(q[0], q[1], q[2], q[3]);
#else
    quad r[4] = { q[0], q[1], q[2], q[3] };
    for (size_t i = 0; i < 4; i++) q[i] = (quad){ r[0][i], r[1][i], r[2][i], r[3][i] };
#endif
}

/* The same in every 128-bit lane of vectors. */
static inline void transpose_lanes(vec *v) {
#if PSG_VECTOR_BYTES == 16
    transpose_quads(v);
#elif PSG_REAL_IS_F64
    vec low = WIDE_SHUFFLE(unpacklo_pd, v[0], v[1]), high = WIDE_SHUFFLE(unpackhi_pd, v[0], v[1]);
    v[0] = low;
    v[1] = high;
#else
    vec a = WIDE_SHUFFLE_F32(unpacklo_ps, v[0], v[1]), b = WIDE_SHUFFLE_F32(unpackhi_ps, v[0], v[1]);
    vec c = WIDE_SHUFFLE_F32(unpacklo_ps, v[2], v[3]), d = WIDE_SHUFFLE_F32(unpackhi_ps, v[2], v[3]);
    v[0] = WIDE_SHUFFLE(unpacklo_pd, a, c);
    v[1] = WIDE_SHUFFLE(unpackhi_pd, a, c);
    v[2] = WIDE_SHUFFLE(unpacklo_pd, b, d);
    v[3] = WIDE_SHUFFLE(unpackhi_pd, b, d);
#endif
}

/* The 128 bits at p + offset[0], p + offset[QUAD], p + offset[2 QUAD], ... */
static inline vec load_lanes_at(const real *p, const int64_t *offset) {
#if PSG_VECTOR_BYTES == 64
    __m512d v = _mm512_castpd128_pd512((__m128d)quad_load(p + offset[0]));
    v = _mm512_insertf64x2(v, (__m128d)quad_load(p + offset[QUAD]), 1);
    v = _mm512_insertf64x2(v, (__m128d)quad_load(p + offset[2 * QUAD]), 2);
    return (vec)_mm512_insertf64x2(v, (__m128d)quad_load(p + offset[3 * QUAD]), 3);
#elif PSG_VECTOR_BYTES == 32
    __m256d v = _mm256_castpd128_pd256((__m128d)quad_load(p + offset[0]));
    return (vec)_mm256_insertf128_pd(v, (__m128d)quad_load(p + offset[QUAD]), 1);
#else
    return quad_load(p + offset[0]);
#endif
}

/* Stores the 128-bit lanes of v at p, p + apart, ... */
static inline void store_lanes(real *p, size_t apart, vec v) {
#if PSG_VECTOR_BYTES == 64
    quad lane[4] = { (quad)_mm512_castpd512_pd128((__m512d)v), (quad)_mm512_extractf64x2_pd((__m512d)v, 1),
                     (quad)_mm512_extractf64x2_pd((__m512d)v, 2), (quad)_mm512_extractf64x2_pd((__m512d)v, 3) };
    for (size_t k = 0; k < 4; k++) memcpy(p + k * apart, &lane[k], sizeof(quad));
#elif PSG_VECTOR_BYTES == 32
    quad lane[2] = { (quad)_mm256_castpd256_pd128((__m256d)v), (quad)_mm256_extractf128_pd((__m256d)v, 1) };
    for (size_t k = 0; k < 2; k++) memcpy(p + k * apart, &lane[k], sizeof(quad));
#else
    (void)apart;
    memcpy(p, &v, sizeof v);
#endif
}

/* ---- blocks of QUAD columns ---- */

/* LANES rows. */
static inline void transpose_tall(const real *x, ptrdiff_t step, size_t width, real *panel) {
    vec v[QUAD];
    for (size_t r = 0; r < QUAD; r++) v[r] = vec_load(x + (ptrdiff_t)r * step);
    transpose_lanes(v);
    for (size_t r = 0; r < QUAD; r++) store_lanes(panel + r * width, QUAD * width, v[r]);
}

/* QUAD rows. */
static inline void transpose_square(const real *x, ptrdiff_t step, size_t width, real *panel) {
    quad q[QUAD];
    for (size_t r = 0; r < QUAD; r++) q[r] = quad_load(x + (ptrdiff_t)r * step);
    transpose_quads(q);
    for (size_t r = 0; r < QUAD; r++) memcpy(panel + r * width, &q[r], sizeof q[r]);
}

/* Columns [first, count) of rows [row, k), and the zeros after them. */
static inline void transpose_rest(const real *x, ptrdiff_t step, size_t row, size_t k, size_t first, size_t count,
                                  size_t width, real *panel) {
    for (size_t t = row; t < k; t++) {
        for (size_t j = first; j < count; j++) panel[t * width + j] = x[(ptrdiff_t)j * step + (ptrdiff_t)t];
        for (size_t j = count; j < width; j++) panel[t * width + j] = 0;
    }
}

/* Columns far apart meet in few cache sets: whole vectors are read, so that a cache line is used up at once. */
static inline void transpose_panel(const real *x, ptrdiff_t step, size_t k, size_t count, size_t width, real *panel) {
    size_t tall = k / LANES * LANES, whole = k / QUAD * QUAD, j = 0;
    for (; j + QUAD <= count; j += QUAD) {
        const real *columns = x + (ptrdiff_t)j * step;
        for (size_t t = 0; t < tall; t += LANES) transpose_tall(columns + t, step, width, panel + t * width + j);
        for (size_t t = tall; t < whole; t += QUAD) transpose_square(columns + t, step, width, panel + t * width + j);
    }
    if (j < width) transpose_rest(x, step, 0, whole, j, count, width, panel);
    transpose_rest(x, step, whole, k, 0, count, width, panel);
}

#endif
