/* Naive loops in plain C, one sample a call: what the benchmark compares with, and in f64 its reference.
 *
 * Arrays are contiguous and of the table's real type.  Every function overwrites its outputs unless it says add. */
#ifndef BENCH_NAIVE_H
#define BENCH_NAIVE_H

#include <stddef.h>

#include <psg/tensor.h>

/* One sample of a normalization: rows that share mean and variance, of spans x length elements each.
 * per_element: element k of a span has scale k (layer_norm: one span, length = count = D).
 * Otherwise span s of row r has scale (r * spans + s) for all its elements (group_norm: spans = C / G, length = HW). */
typedef struct naive_norm {
    size_t rows, spans, length;
    size_t count;               /* of scales */
    int per_element;
    double eps;
} naive_norm;

typedef struct naive_table {
    /* y (T, out) = x (T, in) w (out, in)^T + b (out) */
    void (*linear)(size_t T, size_t in, size_t out, const void *x, const void *w, const void *b, void *y);
    /* dx (T, in) = g (T, out) w */
    void (*linear_input)(size_t T, size_t in, size_t out, const void *g, const void *w, void *dx);
    /* dw (out, in) = g^T x;  db (out) = the sum of g over T */
    void (*linear_weight)(size_t T, size_t in, size_t out, const void *g, const void *x, void *dw);
    void (*linear_bias)(size_t T, size_t out, const void *g, void *db);
    /* y = (x - mean) / sqrt(var + eps) * scale + shift */
    void (*norm)(const naive_norm *n, const void *x, const void *scale, const void *shift, void *y);
    void (*norm_backward)(const naive_norm *n, const void *x, const void *scale, const void *g, void *dx, void *dscale,
                          void *dshift);
    /* y = max(x, 0);  dx = g where y > 0 */
    void (*relu)(size_t n, const void *x, void *y);
    void (*relu_backward)(size_t n, const void *y, const void *g, void *dx);
    /* g = softmax(x) - [label] */
    void (*cross_entropy_backward)(size_t classes, const void *x, size_t label, void *g);
    double (*dot)(size_t n, const void *x, const void *y);
    /* y += w x;  y += w x^2 */
    void (*add)(size_t n, double w, const void *x, void *y);
    void (*add_squares)(size_t n, double w, const void *x, void *y);
} naive_table;

extern const naive_table naive_f32, naive_f64;

static inline const naive_table *naive_of(psg_dtype dtype) { return dtype == PSG_F64 ? &naive_f64 : &naive_f32; }

#endif
