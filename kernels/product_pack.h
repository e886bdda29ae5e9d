/* Packing rows of an operand as a panel: k rows of `width` reals, the columns that are missing zero. */
#ifndef PSG_KERNELS_PRODUCT_PACK_H
#define PSG_KERNELS_PRODUCT_PACK_H

#include "transpose.h"
#include "vector.h"

#define UNROLL _Pragma("GCC unroll 12")
#define INLINE static inline __attribute__((always_inline))

typedef struct operand {
    const void *data;   /* reals; narrow: floats, under f64 kernels */
    ptrdiff_t stride, step;
    bool narrow;
} operand;

/* width: whole vectors. */
INLINE void pack_vectors(const real *from, real *to, size_t count, size_t width) {
    UNROLL for (size_t i = 0; i < width; i += LANES) {
        const size_t part = count > i ? (count - i < LANES ? count - i : LANES) : 0;
        vec_store(to + i, part == LANES ? vec_load(from + i) : part ? vec_load_part(from + i, part) : vec_zero());
    }
}

INLINE void pack_run(const real *from, ptrdiff_t step, real *to, size_t count, size_t width) {
    if (step == 1 && count == width) {
        memcpy(to, from, width * sizeof(real));
        return;
    }
    if (step == 1 && width % LANES == 0) {
        pack_vectors(from, to, count, width);
        return;
    }
    for (size_t i = 0; i < count; i++) to[i] = from[(ptrdiff_t)i * step];
    for (size_t i = count; i < width; i++) to[i] = 0;
}

/* to = weight * x, in double: a clip factor may be far below the smallest real while its product with g is not. */
INLINE void weight_run(const real *x, real *to, size_t width, double weight) {
    UNROLL for (size_t i = 0; i < width; i += LANES) {
        size_t part = width - i < LANES ? width - i : LANES;
        vec v = vec_load_part(x + i, part);
        wide w = widen(v);
        w.low *= weight;
        w.high *= weight;
        vec_store_part(to + i, narrow(w), part);
    }
}

/* Rows with weights; multiplied: for one of the operands.  A row of weight 0 is not read. */
INLINE void pack_weighted(const operand *x, const real *from, size_t k, size_t count, size_t width,
                          const double *row_weight, bool multiplied, real *panel) {
    real gathered[4 * LANES];
    for (size_t t = 0; t < k; t++, from += x->stride, panel += width) {
        if (row_weight[t] == 0) {
            memset(panel, 0, width * sizeof(real));
        } else if (!multiplied) {
            pack_run(from, x->step, panel, count, width);
        } else if (x->step == 1 && count == width) {
            weight_run(from, panel, width, row_weight[t]);
        } else {
            pack_run(from, x->step, gathered, count, width);
            weight_run(gathered, panel, width, row_weight[t]);
        }
    }
}

#if PSG_REAL_IS_F64
/* to = weight * from */
INLINE void widen_run(const float *from, ptrdiff_t step, double *to, size_t count, size_t width, double weight) {
    if (step == 1 && count == width) {
        for (size_t i = 0; i < width; i++) to[i] = weight * (double)from[i];
        return;
    }
    for (size_t i = 0; i < count; i++) to[i] = weight * (double)from[(ptrdiff_t)i * step];
    for (size_t i = count; i < width; i++) to[i] = 0;
}

/* Rows of floats, with weights or without. */
INLINE void pack_widened(const operand *x, size_t row, size_t k, size_t first, size_t count, size_t width,
                         const double *row_weight, bool multiplied, real *panel) {
    const float *from = (const float *)x->data + (ptrdiff_t)row * x->stride + (ptrdiff_t)first * x->step;
    for (size_t t = 0; t < k; t++, from += x->stride, panel += width) {
        double weight = row_weight ? row_weight[row + t] : 1;
        if (weight == 0) memset(panel, 0, width * sizeof(real));
        else widen_run(from, x->step, panel, count, width, multiplied ? weight : 1);
    }
}
#endif

/* Columns [first, first + count) of rows [row, row + k) as a panel of the given width (a constant). */
INLINE void pack_panel(const operand *x, size_t row, size_t k, size_t first, size_t count, size_t width,
                       const double *row_weight, bool multiplied, real *panel) {
#if PSG_REAL_IS_F64
    if (x->narrow) {
        pack_widened(x, row, k, first, count, width, row_weight, multiplied, panel);
        return;
    }
#endif
    const real *from = (const real *)x->data + (ptrdiff_t)row * x->stride + (ptrdiff_t)first * x->step;
    if (!row_weight && x->stride == 1 && x->step != 1) {
        transpose_panel(from, x->step, k, count, width, panel);
    } else if (row_weight) {
        pack_weighted(x, from, k, count, width, row_weight + row, multiplied, panel);
    } else if (x->step == 1 && count == width) {
        for (size_t t = 0; t < k; t++, from += x->stride, panel += width) memcpy(panel, from, width * sizeof(real));
    } else {
        for (size_t t = 0; t < k; t++, from += x->stride, panel += width) {
            pack_run(from, x->step, panel, count, width);
        }
    }
}

#endif
