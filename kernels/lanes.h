/* The first lanes of a vector, by masks where the machine has them, and sums across lanes by halving. */
#ifndef PSG_KERNELS_LANES_H
#define PSG_KERNELS_LANES_H

#include "vector.h"

/* v with lanes n and up set to 0. */
static inline vec lanes_first(vec v, size_t n) {
    vec_bits index;
    for (size_t k = 0; k < LANES; k++) index[k] = (real_bits)k;
    return vec_select(index < (real_bits)n, v, vec_zero());
}

/* p[0 .. n), n <= LANES, and 0 beyond, which is not read. */
static inline vec lanes_load(const real *p, size_t n) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif PSG_VECTOR_BYTES == 64
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    vec v = vec_zero();
    for (size_t k = 0; k < LANES; k++) {
        if (k < n) v[k] = p[k];
    }
    return v;
#endif
}

static inline void lanes_store(real *p, vec v, size_t n) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#elif PSG_VECTOR_BYTES == 64
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    for (size_t k = 0; k < LANES; k++) {
        if (k < n) p[k] = v[k];
    }
#endif
}

/* A vector of reals added to lane sums in double. */
static inline dvec lanes_widen_add(dvec sum, vec v) {
#if PSG_REAL_IS_F64
    return sum + v;
#elif PSG_VECTOR_BYTES == 64
    return sum + (dvec)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)) +
           (dvec)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
#else
    wide both = widen(v);
    return sum + both.low + both.high;
#endif
}

static inline double lanes_sum(dvec v) {
#if PSG_VECTOR_BYTES == 64
    return _mm512_reduce_add_pd((__m512d)v);
#else
    double sum = 0;
    for (size_t k = 0; k < DLANES; k++) sum += v[k];
    return sum;
#endif
}

#endif
