/* The product kernel: per-sample gradient tiles G^T A and what is done with each tile while it is in registers.
 *
 * C = alpha * sum_k w_k g[k, :]^T a[k, :], an m x n matrix, from rows g[k] (m reals, g_step apart, at g + k *
 * g_stride) and a[k] (n reals).  The sum over k runs in the real type, in chains of at most PSG_PRODUCT_CHAIN terms
 * whose sums are added in order (product_tile.h), and alpha multiplies the total: an element has the same operations
 * wherever it stands, and rows of zeros at the end change no bit.  The finish decides what becomes of C:
 *
 *   STORE     c (+)= C                 m x n reals, row stride c_stride; stream: around the cache (overwrite only)
 *   STORE and sum of squares           as above, and squares += ||C||^2 in double (before accumulation)
 *   SQUARE    squares += ||C||^2       the tile is discarded
 *   DOT       squares += <C, c>        c is read
 *   ADD_F64   c64 += C                 in double, flushed every `flush` rows of k; see below
 *   ADD_SQUARES_F64  c64 += C * C      in double, flushed likewise
 *
 * With ADD_F64 the rows are summed in the real type over at most `flush` of them and each partial sum, times
 * flush_weight[block], is added in double.  Rows whose weight is 0 are not read.  With grid, c64 are sums on the grid
 * (grid_sum.h) and alpha is odd; with row_weight and f64 kernels every row is an addend of its own, in blocks of at
 * most PSG_PRODUCT_CHAIN rows and with alpha 1.
 *
 * narrow, for the f64 kernels: g and a are f32, widened (and weighted, in double) while they are packed; no windows. */
#ifndef PSG_KERNELS_PRODUCT_KERNEL_H
#define PSG_KERNELS_PRODUCT_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "unfold_kernel.h"

typedef enum psg_finish {
    PSG_FINISH_STORE,
    PSG_FINISH_STORE_SQUARE,
    PSG_FINISH_SQUARE,
    PSG_FINISH_DOT,
    PSG_FINISH_ADD_F64,
    PSG_FINISH_ADD_SQUARES_F64
} psg_finish;

typedef struct psg_product {
    psg_finish finish;
    size_t m, n, k;
    double alpha;
    const void *g;
    ptrdiff_t g_stride, g_step;   /* between rows, between elements of a row */
    const void *a;
    ptrdiff_t a_stride, a_step;
    const psg_unfolding *window; /* or NULL.  a is an image, whose windows are the rows: row k is the one at position
                                 a_position + k, from column a_column on.  Without row_weight. */
    int64_t a_position, a_column;
    void *c;                  /* reals, or doubles for the F64 finishes */
    ptrdiff_t c_stride;       /* in elements of c */
    bool accumulate, stream, narrow, grid;
    size_t flush;             /* F64 finishes: rows a block; 0: all */
    const double *row_weight; /* k weights multiplied into rows of g while packing, or NULL */
    const double *flush_weight; /* one weight a flushed block, or NULL */
    double *squares;          /* where SQUARE and DOT add */
    size_t workspace_bytes;   /* of the workspace given; 0: PSG_PRODUCT_WORKSPACE, the least it may be */
} psg_product;

/* Bytes of workspace the kernel needs, 64-byte aligned; with more, sums over many rows are packed less often. */
#define PSG_PRODUCT_WORKSPACE ((size_t)1 << 20)

/* The longest sum over k (the longest flushed block) of one call: packed panels of that length fit the workspace. */
#define PSG_PRODUCT_MAX_K ((size_t)2048)

/* The terms of a chain. */
#define PSG_PRODUCT_CHAIN 256

/* One chain of C = alpha a b + bias, or of C = alpha a b + beta C: m rows of a times n packed columns of b over k
 * terms.  Chain after chain, with C holding the totals between them, gives every element that of product_tile.h. */
typedef struct psg_row_product {
    size_t m, n, k;           /* k at most PSG_PRODUCT_CHAIN */
    const void *rows;         /* panels of panel_height() rows, k * panel_height() reals each (pack_rows); */
    ptrdiff_t row_stride;     /* other than 0: rows of unit step where they are, so far apart */
    const void *columns;      /* panels of panel_width() columns, k * panel_width() reals each (pack_panel) */
    bool continues, ends;     /* C holds the total of the chains before; this is the last, which makes C of the total */
    double alpha, beta;       /* beta: not with continues; where it is 0, C is not read */
    const void *bias;         /* n reals, or NULL; without beta */
    void *c;
    ptrdiff_t c_stride;
} psg_row_product;

/* Terms of rows that row_dots sums at a time: blocks of them are added in order. */
#define PSG_ROW_DOTS_BYTES ((size_t)4096)

/* c[i][j] = or += <row i of x, row j of y> over k terms, m x n: of row i the columns up to diagonal + i (others may be
 * written too). */
typedef struct psg_row_dots {
    size_t m, n, k, diagonal;
    bool accumulate;
    const void *x;
    ptrdiff_t x_stride;
    const void *y;
    ptrdiff_t y_stride;
    void *c;
    ptrdiff_t c_stride;
} psg_row_dots;

#endif
