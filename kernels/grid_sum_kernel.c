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

/* The last elements, fewer than LANES, one by one. */
static inline void add_last(size_t rows, size_t i, size_t n, const double *w, const void *const *x, double *sums) {
    for (; i < n; i++) {
        for (size_t r = 0; r < rows; r++) {
            dvec sum = { sums[i] }, v = { (double)((const real *)x[r])[i] };
            sums[i] = add_on_grid(sum, w[r], v)[0];
        }
    }
}

void PSG_KERNEL(add_rows_to_grid)(size_t rows, size_t n, const double *w, const void *const *x, double *sums) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        dvec_unaligned *to = (dvec_unaligned *)(sums + i);
        wide sum = { to[0], { 0 } };
#if !PSG_REAL_IS_F64
        sum.high = to[1];
#endif
        for (size_t r = 0; r < rows; r++) {
            wide v = widen(vec_load((const real *)x[r] + i));
            sum.low = add_on_grid(sum.low, w[r], v.low);
#if !PSG_REAL_IS_F64
            sum.high = add_on_grid(sum.high, w[r], v.high);
#endif
        }
        to[0] = sum.low;
#if !PSG_REAL_IS_F64
        to[1] = sum.high;
#endif
    }
    add_last(rows, i, n, w, x, sums);
}

void PSG_KERNEL(from_grid)(size_t n, double scale, const int64_t *x, void *out_) {
    real *out = out_;
    for (size_t i = 0; i < n; i++) out[i] = (real)(scale * (double)x[i]);
}
