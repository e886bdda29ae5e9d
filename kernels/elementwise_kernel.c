/* Sums, products and masks of rows; a step of 0 stands for one element used throughout. */
#include "kernels.h"
#include "vector.h"

static inline vec load_step(const real *p, size_t step, size_t i) { return step ? vec_load(p + i) : vec_set(*p); }

#define PAIR(name, operator, ...)                                                                                      \
    void PSG_KERNEL(broadcast_##name)(size_t n, const void *a_, size_t a_step, const void *b_, size_t b_step,          \
                                      void *y_) {                                                                      \
        const real *a = a_, *b = b_;                                                                                   \
        real *y = y_;                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES) {                                                                           \
            vec_store(y + i, load_step(a, a_step, i) operator load_step(b, b_step, i));                                \
        }                                                                                                              \
        for (; i < n; i++) y[i] = a[i * a_step] operator b[i * b_step];                                                \
    }
#include "pair_list.h"

void PSG_KERNEL(masked_scale)(size_t n, double scale, const unsigned char *mask, const void *x_, void *y_) {
    const real *x = x_, factor = (real)scale;
    real *y = y_;
    for (size_t i = 0; i < n; i++) y[i] = mask[i] ? factor * x[i] : 0;
}

void PSG_KERNEL(add_spread)(size_t n, const void *x_, void *y_, ptrdiff_t stride) {
    const real *x = x_;
    real *y = y_;
    size_t i = 0;
    for (; stride == 1 && i + LANES <= n; i += LANES) vec_store(y + i, vec_load(y + i) + vec_load(x + i));
    for (; i < n; i++) y[(ptrdiff_t)i * stride] += x[i];
}

double PSG_KERNEL(sum)(size_t n, const void *x_) {
    const real *x = x_;
    wide even = wide_zero(), odd = wide_zero();
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even = wide_add(even, vec_load(x + i));
        odd = wide_add(odd, vec_load(x + i + LANES));
    }
    double sum = wide_sum(even) + wide_sum(odd);
    for (; i < n; i++) sum += (double)x[i];
    return sum;
}

/* sum += rows of x, times those of y where there are any: the sum is read and written once for all rows.  with_y is a
 * constant. */
static inline __attribute__((always_inline)) void add_rows(bool with_y, size_t rows, size_t n, const real *x,
                                                           ptrdiff_t x_stride, const real *y, ptrdiff_t y_stride,
                                                           double *sum) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        dvec_unaligned *to = (dvec_unaligned *)(sum + i);
        wide s = { to[0], { 0 } };
#if !PSG_REAL_IS_F64
        s.high = to[1];
#endif
        for (size_t r = 0; r < rows; r++) {
            vec v = vec_load(x + (ptrdiff_t)r * x_stride + i);
            s = with_y ? wide_add_product(s, v, vec_load(y + (ptrdiff_t)r * y_stride + i)) : wide_add(s, v);
        }
        to[0] = s.low;
#if !PSG_REAL_IS_F64
        to[1] = s.high;
#endif
    }
    for (; i < n; i++) {
        for (size_t r = 0; r < rows; r++) {
            double v = (double)x[(ptrdiff_t)r * x_stride + (ptrdiff_t)i];
            sum[i] = add_product(sum[i], v, with_y ? (double)y[(ptrdiff_t)r * y_stride + (ptrdiff_t)i] : 1);
        }
    }
}

void PSG_KERNEL(add_products_to_f64)(size_t rows, size_t n, const void *x_, ptrdiff_t x_stride, const void *y_,
                                     ptrdiff_t y_stride, double *sum) {
    enum { AT_ONCE = 4 };
    const real *x = x_, *y = y_;
    for (; rows >= AT_ONCE; rows -= AT_ONCE, x += AT_ONCE * x_stride) {
        if (y) add_rows(true, AT_ONCE, n, x, x_stride, y, y_stride, sum);
        else add_rows(false, AT_ONCE, n, x, x_stride, NULL, 0, sum);
        if (y) y += AT_ONCE * y_stride;
    }
    if (y) add_rows(true, rows, n, x, x_stride, y, y_stride, sum);
    else add_rows(false, rows, n, x, x_stride, NULL, 0, sum);
}
