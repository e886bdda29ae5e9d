/* A line of an image with the zeros around it. */
#ifndef PSG_KERNELS_UNFOLD_LINE_H
#define PSG_KERNELS_UNFOLD_LINE_H

#include "vector.h"

/* Elements i < n read coordinate at + i * stride; those in [low, high) are inside a line of the given size. */
typedef struct line_range {
    int64_t low, high;
} line_range;

static inline line_range range_inside(int64_t at, int64_t stride, int64_t size, int64_t n) {
    int64_t low = at >= 0 ? 0 : stride == 1 ? -at : (-at + stride - 1) / stride, inside = size - at;
    int64_t high = inside <= 0 ? 0 : stride == 1 ? inside : (inside - 1) / stride + 1;
    if (high > n) high = n;
    return (line_range){ low < high ? low : high, high };
}

/* n elements, every other one. */
static inline void copy_even(const real *from, int64_t n, real *to) {
    for (int64_t i = 0; i < n; i += (int64_t)LANES) {
        const size_t part = (size_t)(n - i) < LANES ? (size_t)(n - i) : LANES, span = 2 * part - 1;
        const vec a = vec_load_part(from + 2 * i, span < LANES ? span : LANES);
        const vec b = span > LANES ? vec_load_part(from + 2 * i + LANES, span - LANES) : vec_zero();
        vec_store_part(to + i, vec_even(a, b), part);
    }
}

/* to[i] = from[i * step] for low <= i < high, 0 for the other i < n. */
static inline void copy_line(const real *from, ptrdiff_t step, line_range r, int64_t n, real *to) {
    int64_t i = 0;
    for (; i < r.low; i++) to[i] = 0;
    if (step == 1) {
        for (; i + (int64_t)LANES <= r.high; i += (int64_t)LANES) vec_store(to + i, vec_load(from + i));
        if (i < r.high) {
            size_t rest = (size_t)(r.high - i);
            vec_store_part(to + i, vec_load_part(from + i, rest), rest);
            i = r.high;
        }
    } else if (step == 2 && PSG_VECTOR_BYTES == 64 && i < r.high) {
        copy_even(from + 2 * i, r.high - i, to + i);
        i = r.high;
    } else {
        for (; i < r.high; i++) to[i] = from[i * step];
    }
    for (; i < n; i++) to[i] = 0;
}

#endif
