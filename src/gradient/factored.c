#include "gradient/factored.h"

#include <math.h>

static const int64_t longest = (int64_t)PSG_PRODUCT_MAX_K;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* The product of a rectangle over positions [t, t + count). */
psg_product psg_product_of(const psg_piece *p, int64_t n, const psg_rectangle *at, int64_t t, int64_t count) {
    psg_product product = {
        .m = (size_t)at->rows, .n = (size_t)at->columns, .k = (size_t)count, .alpha = 1.0,
        .g = psg_elements(psg_row(&p->g, p->dtype, n, t), p->dtype, at->row * p->g.step),
        .g_stride = p->g.position, .g_step = p->g.step, .a_stride = p->a.position, .a_step = p->a.step,
    };
    if (p->form == PSG_UNFOLDED) {
        product.a = psg_row(&p->a, p->dtype, n, 0);
        product.window = &p->window;
        product.a_position = t;
        product.a_column = at->column;
    } else {
        product.a = psg_elements(psg_row(&p->a, p->dtype, n, t), p->dtype, at->column * p->a.step);
    }
    return product;
}

void psg_store_rectangle(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, const psg_rectangle *at,
                         double scale, void *out, int64_t out_stride, bool accumulate, bool stream, void *workspace) {
    int64_t t = 0;
    do {
        psg_product product = psg_product_of(p, n, at, t, smaller(longest, p->positions - t));
        product.finish = PSG_FINISH_STORE;
        product.alpha = scale;
        product.c = out;
        product.c_stride = out_stride;
        product.accumulate = accumulate || t > 0;
        product.stream = stream && p->positions <= longest;
        if (product.k == 1 && !product.window && p->g.step == 1 && p->a.step == 1) {
            kernels->outer(product.m, product.n, scale, product.g, product.a, out, out_stride, product.accumulate,
                           product.stream);
        } else {
            kernels->product(&product, workspace);
        }
        t += longest;
    } while (t < p->positions);
}

double psg_store_rectangle_square(const psg_kernel_table *kernels, const psg_piece *p, int64_t n,
                                  const psg_rectangle *at, double scale, void *out, int64_t out_stride, bool stream,
                                  void *workspace) {
    double square = 0;
    psg_product product = psg_product_of(p, n, at, 0, p->positions);
    product.finish = PSG_FINISH_STORE_SQUARE;
    product.alpha = scale;
    product.c = out;
    product.c_stride = out_stride;
    product.stream = stream;
    product.squares = &square;
    kernels->product(&product, workspace);
    return square;
}

static psg_rectangle whole(const psg_piece *p) { return (psg_rectangle){ 0, p->g.columns, 0, p->a.columns }; }

double psg_square_tiles(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, void *workspace) {
    double square = 0;
    psg_rectangle all = whole(p);
    psg_product product = psg_product_of(p, n, &all, 0, p->positions);
    product.finish = PSG_FINISH_SQUARE;
    product.squares = &square;
    product.workspace_bytes = PSG_WORKSPACE_BYTES;
    kernels->product(&product, workspace);
    return square * p->scale * p->scale;
}

double psg_dot_tiles(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, const void *direction,
                     void *workspace) {
    double dot = 0;
    psg_rectangle all = whole(p);
    for (int64_t t = 0; t < p->positions; t += longest) {
        psg_product product = psg_product_of(p, n, &all, t, smaller(longest, p->positions - t));
        product.finish = PSG_FINISH_DOT;
        product.c = (void *)(uintptr_t)psg_elements(direction, p->dtype, p->offset);
        product.c_stride = p->row_stride;
        product.squares = &dot;
        product.workspace_bytes = PSG_WORKSPACE_BYTES;
        kernels->product(&product, workspace);
    }
    return dot * p->scale;
}

/* ---- rounding ---- */

double psg_tiny_norm(psg_dtype dtype) { return dtype == PSG_F64 ? 0x1p-494 : 0x1p-46; }

double psg_gamma(psg_dtype dtype, double k) {
    double ku = k * (dtype == PSG_F64 ? 0x1p-53 : 0x1p-24);
    return ku < 1 ? ku / (1 - ku) : INFINITY;
}
