/* One sample's factored or unfolded gradient: rectangles of G_n^T A_n in every finish, and the norms that certificates
 * need. */
#ifndef PSG_GRADIENT_FACTORED_H
#define PSG_GRADIENT_FACTORED_H

#include "gradient/block.h"

/* A rectangle of a piece's own p x d matrix. */
typedef struct psg_rectangle {
    int64_t row, rows, column, columns;
} psg_rectangle;

/* The product kernel's arguments for a rectangle over positions [t, t + count): the caller chooses the finish.  They
 * point into the piece. */
psg_product psg_product_of(const psg_piece *piece, int64_t n, const psg_rectangle *at, int64_t t, int64_t count);

/* out (row stride out_stride) = or += scale * the rectangle of sample n. */
void psg_store_rectangle(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n, const psg_rectangle *at,
                         double scale, void *out, int64_t out_stride, bool accumulate, bool stream, void *workspace);

/* The same, and the sum of squares of what is stored (before any accumulation). */
double psg_store_rectangle_square(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n,
                                  const psg_rectangle *at, double scale, void *out, int64_t out_stride, bool stream,
                                  void *workspace);

/* Sum of squares of scale * the whole gradient of sample n, tile by tile; nothing is kept.  T <= PSG_PRODUCT_MAX_K.
 * This and the next use a worker's whole workspace. */
double psg_square_tiles(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n, void *workspace);

/* <scale * gradient of sample n, direction>, direction in the parameter's layout. */
double psg_dot_tiles(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n, const void *direction,
                     void *workspace);

/* Bounds on sum_t |g_t| |a_t| (rows: sum_t |g_t|), what rounding multiplies; norms are raised by psg_tiny_norm.
 * The first is |G| |A| in Frobenius norms (Cauchy and Schwarz): cheap, and equal when all positions are alike. */
double psg_norm_product_bound(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n);
double psg_norm_products(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n);

/* A norm raised by this covers underflow too: a product below the smallest normal number is off by less than 2^-149
 * (f32), 2^-1074 (f64), which u * tiny^2 exceeds for any sum of at most 2^32 of them. */
double psg_tiny_norm(psg_dtype dtype);

/* gamma_k = k u / (1 - k u) for the real type: the relative rounding of a sum of k products in any order. */
double psg_gamma(psg_dtype dtype, double k);

#endif
