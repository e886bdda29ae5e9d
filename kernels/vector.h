/* The vector shim: one vocabulary for every real type and instruction set.
 *
 * The Makefile compiles each kernel with
 *   PSG_REAL_IS_F64   0 or 1
 *   PSG_VECTOR_BYTES  64 (AVX-512), 32 (AVX2), 16 (baseline: SSE2 of x86-64, NEON of aarch64)
 *   PSG_SUFFIX        f32_avx512, ...
 * and the flags of that instruction set.  Arithmetic on vec uses C operators, each rounded on its own
 * (-ffp-contract=off); a sum that takes a product in one operation says so, by add_product and its like: left to the
 * compiler, it would depend on what surrounds it, and two places that owe each other their bits would differ. */
#ifndef PSG_KERNELS_VECTOR_H
#define PSG_KERNELS_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Of what the Makefile compiles for, whatever more the compiler's flags allow. */
#if PSG_VECTOR_BYTES > 16 || defined(__aarch64__)
#define PSG_FUSES 1
#else
#define PSG_FUSES 0
#endif

#define PSG_PASTE_(name, suffix) psg_kernel_##name##_##suffix
#define PSG_PASTE(name, suffix) PSG_PASTE_(name, suffix)
#define PSG_KERNEL(name) PSG_PASTE(name, PSG_SUFFIX)

#if PSG_REAL_IS_F64
typedef double real;
typedef int64_t real_bits;
#else
typedef float real;
typedef int32_t real_bits;
#endif

#define LANES ((size_t)(PSG_VECTOR_BYTES / sizeof(real)))

typedef real vec __attribute__((vector_size(PSG_VECTOR_BYTES)));
typedef real vec_unaligned __attribute__((vector_size(PSG_VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef real_bits vec_bits __attribute__((vector_size(PSG_VECTOR_BYTES)));   /* comparisons: 0 or all ones a lane */
typedef double dvec __attribute__((vector_size(PSG_VECTOR_BYTES)));
typedef double dvec_unaligned __attribute__((vector_size(PSG_VECTOR_BYTES), aligned(8), may_alias));

#define DLANES ((size_t)(PSG_VECTOR_BYTES / sizeof(double)))

static inline vec vec_zero(void) { return (vec){ 0 }; }
static inline vec vec_set(real x) { return x - (vec){ 0 }; }
static inline dvec dvec_set(double x) { return x - (dvec){ 0 }; }
static inline vec vec_load(const real *p) { return *(const vec_unaligned *)p; }
static inline void vec_store(real *p, vec v) { *(vec_unaligned *)p = v; }

/* ---- sum + a b: one rounding where the machine fuses, else two ---- */

static inline double add_product(double sum, double a, double b) {
    return PSG_FUSES ? __builtin_fma(a, b, sum) : sum + a * b;
}
static inline dvec dvec_add_product(dvec sum, dvec a, dvec b) {
#if PSG_VECTOR_BYTES == 64
    return (dvec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)sum);
#elif PSG_VECTOR_BYTES == 32
    return (dvec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)sum);
#elif defined(__aarch64__)
    return (dvec)vfmaq_f64((float64x2_t)sum, (float64x2_t)a, (float64x2_t)b);
#else
    return sum + a * b;
#endif
}
#if PSG_REAL_IS_F64
static inline real real_add_product(real sum, real a, real b) { return add_product(sum, a, b); }
static inline vec vec_add_product(vec sum, vec a, vec b) { return dvec_add_product(sum, a, b); }
#else
static inline real real_add_product(real sum, real a, real b) {
    return PSG_FUSES ? __builtin_fmaf(a, b, sum) : sum + a * b;
}
static inline vec vec_add_product(vec sum, vec a, vec b) {
#if PSG_VECTOR_BYTES == 64
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif PSG_VECTOR_BYTES == 32
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
    return sum + a * b;
#endif
}
#endif

/* Lanes below n. */
static inline vec_bits vec_below(size_t n) {
    vec_bits index;
    for (size_t k = 0; k < LANES; k++) index[k] = (real_bits)k;
    return index < (real_bits)n;
}

/* The first n <= LANES elements; the others are 0 on loading, where they are not read, and left alone on storing. */
static inline vec vec_load_part(const real *p, size_t n) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif PSG_VECTOR_BYTES == 64
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif PSG_VECTOR_BYTES == 32 && PSG_REAL_IS_F64
    return (vec)_mm256_maskload_pd(p, (__m256i)vec_below(n));
#elif PSG_VECTOR_BYTES == 32
    return (vec)_mm256_maskload_ps(p, (__m256i)vec_below(n));
#else
    vec v = { 0 };
    for (size_t k = 0; k < LANES; k++) {
        if (k < n) v[k] = p[k];
    }
    return v;
#endif
}
static inline void vec_store_part(real *p, vec v, size_t n) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#elif PSG_VECTOR_BYTES == 64
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif PSG_VECTOR_BYTES == 32 && PSG_REAL_IS_F64
    _mm256_maskstore_pd(p, (__m256i)vec_below(n), (__m256d)v);
#elif PSG_VECTOR_BYTES == 32
    _mm256_maskstore_ps(p, (__m256i)vec_below(n), (__m256)v);
#else
    for (size_t k = 0; k < LANES; k++) {
        if (k < n) p[k] = v[k];
    }
#endif
}

static inline vec vec_select(vec_bits mask, vec yes, vec no) {
    return (vec)((mask & (vec_bits)yes) | (~mask & (vec_bits)no));
}
/* Whether a > b in a lane. */
static inline bool vec_any_above(vec a, vec b) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ) != 0;
#elif PSG_VECTOR_BYTES == 64
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ) != 0;
#elif PSG_VECTOR_BYTES == 32
    return _mm256_movemask_epi8((__m256i)(a > b)) != 0;
#elif defined(__x86_64__)
    return _mm_movemask_epi8((__m128i)(a > b)) != 0;
#else
    const vec_bits above = a > b;
    real_bits any = 0;
    for (size_t k = 0; k < LANES; k++) any |= above[k];
    return any != 0;
#endif
}
/* v with lanes n and up set to 0. */
static inline vec vec_first(vec v, size_t n) { return vec_select(vec_below(n), v, vec_zero()); }

/* a > b ? a : b and a < b ? a : b, so b where one is NaN: one instruction each of x86. */
#if defined(__x86_64__) && PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
static inline vec vec_max(vec a, vec b) { return (vec)_mm512_max_pd((__m512d)a, (__m512d)b); }
static inline vec vec_min(vec a, vec b) { return (vec)_mm512_min_pd((__m512d)a, (__m512d)b); }
#elif defined(__x86_64__) && PSG_VECTOR_BYTES == 64
static inline vec vec_max(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vec vec_min(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__x86_64__) && PSG_VECTOR_BYTES == 32 && PSG_REAL_IS_F64
static inline vec vec_max(vec a, vec b) { return (vec)_mm256_max_pd((__m256d)a, (__m256d)b); }
static inline vec vec_min(vec a, vec b) { return (vec)_mm256_min_pd((__m256d)a, (__m256d)b); }
#elif defined(__x86_64__) && PSG_VECTOR_BYTES == 32
static inline vec vec_max(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
static inline vec vec_min(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__x86_64__) && PSG_REAL_IS_F64
static inline vec vec_max(vec a, vec b) { return (vec)_mm_max_pd((__m128d)a, (__m128d)b); }
static inline vec vec_min(vec a, vec b) { return (vec)_mm_min_pd((__m128d)a, (__m128d)b); }
#elif defined(__x86_64__)
static inline vec vec_max(vec a, vec b) { return (vec)_mm_max_ps((__m128)a, (__m128)b); }
static inline vec vec_min(vec a, vec b) { return (vec)_mm_min_ps((__m128)a, (__m128)b); }
#else
static inline vec vec_max(vec a, vec b) { return vec_select(a > b, a, b); }
static inline vec vec_min(vec a, vec b) { return vec_select(a < b, a, b); }
#endif
static inline vec vec_abs(vec a) { return (vec)((vec_bits)a & ~(vec_bits)-vec_zero()); }

/* The elements of two vectors at even places.  Written out, they become shuffles; a loop inserts one after another. */
static inline vec vec_even(vec a, vec b) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    const __m512i at = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    return (vec)_mm512_permutex2var_pd((__m512d)a, at, (__m512d)b);
#elif PSG_VECTOR_BYTES == 64
    const __m512i at = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return (vec)_mm512_permutex2var_ps((__m512)a, at, (__m512)b);
#elif PSG_VECTOR_BYTES == 32 && !PSG_REAL_IS_F64
    return (vec){ a[0], a[2], a[4], a[6], b[0], b[2], b[4], b[6] };
#elif PSG_VECTOR_BYTES == 16 && PSG_REAL_IS_F64
    return (vec){ a[0], b[0] };
#else
    return (vec){ a[0], a[2], b[0], b[2] };
#endif
}

/* ... and at odd places. */
static inline vec vec_odd(vec a, vec b) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    const __m512i at = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
    return (vec)_mm512_permutex2var_pd((__m512d)a, at, (__m512d)b);
#elif PSG_VECTOR_BYTES == 64
    const __m512i at = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return (vec)_mm512_permutex2var_ps((__m512)a, at, (__m512)b);
#elif PSG_VECTOR_BYTES == 32 && !PSG_REAL_IS_F64
    return (vec){ a[1], a[3], a[5], a[7], b[1], b[3], b[5], b[7] };
#elif PSG_VECTOR_BYTES == 16 && PSG_REAL_IS_F64
    return (vec){ a[1], b[1] };
#else
    return (vec){ a[1], a[3], b[1], b[3] };
#endif
}

/* ---- stores that go around the cache ----
 * p aligned to PSG_VECTOR_BYTES.  A kernel that streams ends with stream_fence(). */
static inline bool stream_aligned(const void *p) { return (uintptr_t)p % PSG_VECTOR_BYTES == 0; }

#if defined(__x86_64__)
static inline void vec_stream(real *p, vec v) {
#if PSG_VECTOR_BYTES == 64
    _mm512_stream_si512((void *)p, (__m512i)v);
#elif PSG_VECTOR_BYTES == 32
    _mm256_stream_si256((void *)p, (__m256i)v);
#else
    _mm_stream_si128((void *)p, (__m128i)v);
#endif
}
static inline void stream_fence(void) { _mm_sfence(); }
#else
static inline void vec_stream(real *p, vec v) { vec_store(p, v); }
static inline void stream_fence(void) {}
#endif

/* ---- sums in double ---- */

/* A vector of reals as doubles: both halves (f64: the first only). */
typedef struct wide {
    dvec low, high;
} wide;

static inline wide wide_zero(void) { return (wide){ { 0 }, { 0 } }; }

#if PSG_REAL_IS_F64
static inline wide widen(vec v) { return (wide){ v, { 0 } }; }
static inline vec narrow(wide w) { return w.low; }
#else
typedef float half_vec __attribute__((vector_size(PSG_VECTOR_BYTES / 2)));
/* gcc 12 splits __builtin_convertvector of a whole register into quarters, so the conversions are named. */
static inline wide widen(vec v) {
#if PSG_VECTOR_BYTES == 64
    return (wide){ (dvec)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)),
                   (dvec)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1)) };
#elif PSG_VECTOR_BYTES == 32
    return (wide){ (dvec)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)),
                   (dvec)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1)) };
#else
    struct { half_vec low, high; } part;
    memcpy(&part, &v, sizeof part);
    return (wide){ __builtin_convertvector(part.low, dvec), __builtin_convertvector(part.high, dvec) };
#endif
}
static inline vec narrow(wide w) {
#if PSG_VECTOR_BYTES == 64
    __m256 low = _mm512_cvtpd_ps((__m512d)w.low), high = _mm512_cvtpd_ps((__m512d)w.high);
    return (vec)_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
#elif PSG_VECTOR_BYTES == 32
    return (vec)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)w.high), _mm256_cvtpd_ps((__m256d)w.low));
#else
    struct { half_vec low, high; } part = { __builtin_convertvector(w.low, half_vec),
                                            __builtin_convertvector(w.high, half_vec) };
    vec v;
    memcpy(&v, &part, sizeof v);
    return v;
#endif
}
#endif

/* s += x * y, each product and sum in double. */
static inline wide wide_add_product(wide s, vec x, vec y) {
    wide a = widen(x), b = widen(y);
    return (wide){ dvec_add_product(s.low, a.low, b.low), dvec_add_product(s.high, a.high, b.high) };
}
static inline wide wide_add(wide s, vec x) {
    wide a = widen(x);
    return (wide){ s.low + a.low, s.high + a.high };
}
static inline wide wide_scale(wide s, double factor) { return (wide){ s.low * factor, s.high * factor }; }
/* A vector of reals added to lane sums in double. */
static inline dvec dvec_add(dvec sum, vec v) {
    wide both = widen(v);
#if PSG_REAL_IS_F64
    return sum + both.low;
#else
    return sum + both.low + both.high;
#endif
}
static inline double dvec_sum(dvec v) {
#if PSG_VECTOR_BYTES == 64
    return _mm512_reduce_add_pd((__m512d)v);
#else
    double sum = 0;
    for (size_t k = 0; k < DLANES; k++) sum += v[k];
    return sum;
#endif
}
static inline double wide_sum(wide s) { return dvec_sum(s.low + s.high); }

/* ---- vector mathematics: glibc's libmvec, at most 4 ulp; elsewhere the scalar functions lane by lane ---- */

#if defined(__x86_64__) && defined(__GLIBC__)
#if PSG_VECTOR_BYTES == 64
#define MVEC_F64(name) _ZGVeN8v_##name
#define MVEC_F32(name) _ZGVeN16v_##name##f
#elif PSG_VECTOR_BYTES == 32
#define MVEC_F64(name) _ZGVdN4v_##name
#define MVEC_F32(name) _ZGVdN8v_##name##f
#else
#define MVEC_F64(name) _ZGVbN2v_##name
#define MVEC_F32(name) _ZGVbN4v_##name##f
#endif
#if PSG_REAL_IS_F64
#define MVEC(name) MVEC_F64(name)
#else
#define MVEC(name) MVEC_F32(name)
#endif
#define VECTOR_FUNCTION(name) \
    vec MVEC(name)(vec x);    \
    static inline vec vec_##name(vec x) { return MVEC(name)(x); }
#else
#include <math.h>
#include <tgmath.h>
#define VECTOR_FUNCTION(name)                                     \
    static inline vec vec_##name(vec x) {                         \
        for (size_t k = 0; k < LANES; k++) x[k] = (real)name(x[k]); \
        return x;                                                 \
    }
#endif

VECTOR_FUNCTION(exp)
VECTOR_FUNCTION(expm1)
VECTOR_FUNCTION(log)
VECTOR_FUNCTION(log1p)
VECTOR_FUNCTION(tanh)
VECTOR_FUNCTION(erf)
VECTOR_FUNCTION(erfc)
VECTOR_FUNCTION(sin)
VECTOR_FUNCTION(cos)

/* factor exp(x) for x <= 0 without the slow path that the vector library takes for results near 0; 0 where exp(x)
 * is, of an infinite factor too. */
static inline vec vec_times_exp_below(vec factor, vec x) {
    vec_bits vanishes = x < vec_set(PSG_REAL_IS_F64 ? -746 : -104);
    return vec_select(vanishes, vec_zero(), factor * vec_exp(vec_select(vanishes, vec_zero(), x)));
}
static inline vec vec_exp_below(vec x) { return vec_times_exp_below(vec_set(1), x); }

static inline vec vec_sqrt(vec x) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    return (vec)_mm512_sqrt_pd((__m512d)x);
#elif PSG_VECTOR_BYTES == 64
    return (vec)_mm512_sqrt_ps((__m512)x);
#elif PSG_VECTOR_BYTES == 32 && PSG_REAL_IS_F64
    return (vec)_mm256_sqrt_pd((__m256d)x);
#elif PSG_VECTOR_BYTES == 32
    return (vec)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__) && PSG_REAL_IS_F64
    return (vec)_mm_sqrt_pd((__m128d)x);
#elif defined(__x86_64__)
    return (vec)_mm_sqrt_ps((__m128)x);
#else
    for (size_t k = 0; k < LANES; k++) x[k] = (real)__builtin_sqrt((double)x[k]);   /* exact through double too */
    return x;
#endif
}

#endif
