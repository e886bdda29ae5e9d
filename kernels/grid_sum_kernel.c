#include "kernels.h"
#include "grid_sum.h"

void PSG_KERNEL(grid_begin)(size_t n, double *sums) {
    for (size_t i = 0; i < n; i++) sums[i] = PSG_GRID_ZERO;
}

/* Within a power of two the bits of doubles count like their values. */
void PSG_KERNEL(grid_end)(size_t n, const double *sums, int64_t *out) {
    const double zero = PSG_GRID_ZERO;
    int64_t from;
    memcpy(&from, &zero, sizeof from);
    for (size_t i = 0; i < n; i++) {
        int64_t bits;
        memcpy(&bits, sums + i, sizeof bits);
        out[i] += bits - from;
    }
}

/* Correctly rounded: without an instruction for it, the halves of 32 bits are put into doubles whose last bit is worth
 * 2^32 and 1, where both are exact, and added. */
static inline dvec dvec_of_integers(dvec_bits x) {
#if PSG_VECTOR_BYTES == 64
    return (dvec)_mm512_cvtepi64_pd((__m512i)x);
#else
    const dvec_bits high = (dvec_bits)dvec_set(0x1p84 + 0x1p63) ^ (x >> 32 & 0xffffffff);
    const dvec_bits low = (dvec_bits)dvec_set(0x1p52) | (x & 0xffffffff);
    return ((dvec)high - dvec_set(0x1p84 + 0x1p63 + 0x1p52)) + (dvec)low;
#endif
}

typedef int64_t dvec_bits_unaligned __attribute__((vector_size(PSG_VECTOR_BYTES), aligned(8), may_alias));

/* A vector of integers as scaled doubles; they become 0. */
static inline dvec take(double scale, int64_t *x, int64_t *y) {
    dvec_bits_unaligned *a = (dvec_bits_unaligned *)x, *b = (dvec_bits_unaligned *)y;
    const dvec_bits sum = *a + *b;
    *a = *b = (dvec_bits){ 0 };
    return dvec_set(scale) * dvec_of_integers(sum);
}

void PSG_KERNEL(from_grid)(size_t n, double scale, int64_t *x, int64_t *y, void *out_) {
    real *out = out_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        wide scaled = { take(scale, x + i, y + i), { 0 } };
#if !PSG_REAL_IS_F64
        scaled.high = take(scale, x + i + DLANES, y + i + DLANES);
#endif
        vec_store(out + i, narrow(scaled));
    }
    for (; i < n; i++) {
        out[i] = (real)(scale * (double)(x[i] + y[i]));
        x[i] = y[i] = 0;
    }
}
