/* Rows times a matrix that they share: packed rows, packed columns, and the tiles and the chain of product_tile.h. */
#include "kernels.h"
#include "product_pack.h"
#include "product_tile.h"

/* ---- packing ---- */

size_t PSG_KERNEL(panel_height)(void) { return MR; }
size_t PSG_KERNEL(panel_width)(void) { return NR; }

void PSG_KERNEL(pack_rows)(size_t m, size_t k, const void *x, ptrdiff_t m_stride, ptrdiff_t k_stride, void *panels_) {
    const operand rows = { x, k_stride, m_stride, false };
    real *panels = panels_;
    for (size_t i = 0; i < m; i += MR, panels += k * MR) {
        pack_panel(&rows, 0, k, i, smaller(MR, m - i), MR, NULL, false, panels);
    }
}

void PSG_KERNEL(pack_panel)(size_t n, size_t k, const void *w, ptrdiff_t n_stride, ptrdiff_t k_stride, void *panel) {
    const operand columns = { w, k_stride, n_stride, false };
    pack_panel(&columns, 0, k, 0, n, NR, NULL, false, panel);
}

/* ---- what becomes of a total ---- */

INLINE void add_bias(size_t rows, size_t across, tile *c, const real *bias, size_t n) {
    UNROLL for (size_t j = 0; j < across; j++) {
        size_t part = n > j * LANES ? smaller(LANES, n - j * LANES) : 0;
        vec b = vec_load_part(bias + (part ? j * LANES : 0), part);
        UNROLL for (size_t i = 0; i < rows; i++) c->v[i][j] += b;
    }
}

INLINE void add_scaled(size_t rows, size_t across, tile *c, const real *out, ptrdiff_t stride, real beta) {
    UNROLL for (size_t i = 0; i < rows; i++, out += stride) {
        UNROLL for (size_t j = 0; j < across; j++) c->v[i][j] += vec_rounded(beta * vec_load(out + j * LANES));
    }
}

/* out: memory of a whole tile; n columns of it count. */
INLINE void finish_tile(const psg_row_product *p, size_t rows, size_t across, tile *c, real *out, ptrdiff_t stride,
                        const real *bias, size_t n) {
    if (p->continues) add_scaled(rows, across, c, out, stride, 1);
    if (p->ends) {
        scale_tile(rows, across, c, p->alpha);
        if (bias) add_bias(rows, across, c, bias, n);
        else if (p->beta != 0) add_scaled(rows, across, c, out, stride, (real)p->beta);
    }
    UNROLL for (size_t i = 0; i < rows; i++, out += stride) {
        UNROLL for (size_t j = 0; j < across; j++) vec_store(out + j * LANES, c->v[i][j]);
    }
}

/* Where a tile lies: m x n of it in the output, from row i and column j on. */
typedef struct place {
    size_t i, j, m, n;
} place;

INLINE void put_tile(const psg_row_product *p, size_t rows, size_t across, tile *c, const place *at) {
    const size_t bytes = at->n * sizeof(real);
    const ptrdiff_t stride = p->c_stride * (ptrdiff_t)sizeof(real), edge_stride = NR * sizeof(real);
    const bool whole = at->m == rows && at->n == across * LANES, reads = p->continues || p->beta != 0;
    real *out = (real *)p->c + (ptrdiff_t)at->i * p->c_stride + (ptrdiff_t)at->j;
    _Alignas(64) real edge[MR * NR];
    if (!whole && reads) {
        memset(edge, 0, sizeof edge);
        copy_edge(out, stride, edge, edge_stride, at->m, bytes);
    }
    finish_tile(p, rows, across, c, whole ? out : edge, whole ? p->c_stride : (ptrdiff_t)NR,
                p->bias ? (const real *)p->bias + at->j : NULL, at->n);
    if (!whole) copy_edge(edge, edge_stride, out, stride, at->m, bytes);
}

INLINE void multiply_tile(const psg_row_product *p, size_t rows, size_t across, const place *at) {
    tile c = chain_tile(rows, across, p->k, (const real *)p->rows + at->i * p->k, 1, MR,
                        (const real *)p->columns + at->j * p->k, NR);
    put_tile(p, rows, across, &c, at);
}

INLINE void multiply_any(const psg_row_product *p, size_t across, const place *at) {
    if (at->m <= STEP) multiply_tile(p, STEP, across, at);
    else if (at->m <= 2 * STEP) multiply_tile(p, 2 * STEP, across, at);
    else multiply_tile(p, MR, across, at);
}

/* The columns of a panel are used while they are near: rows vary fastest. */
void PSG_KERNEL(row_product)(const psg_row_product *product) {
    const psg_row_product p = *product;
    for (size_t j = 0; j < p.n; j += NR) {
        for (size_t i = 0; i < p.m; i += MR) {
            place at = { i, j, smaller(MR, p.m - i), smaller(NR, p.n - j) };
            if (at.n <= LANES) multiply_any(&p, 1, &at);
            else multiply_any(&p, NV, &at);
        }
    }
}

/* ---- too little work to pay for packing ---- */

/* rows of p where they are. */
INLINE void multiply_loose_rows(const psg_row_product *p, size_t rows, ptrdiff_t stride, size_t i) {
    const place at = { i, 0, rows, p->n };
    tile c = chain_tile(rows, 1, p->k, (const real *)p->rows + (ptrdiff_t)i * stride, stride, 1, p->columns, NR);
    put_tile(p, rows, 1, &c, &at);
}

void PSG_KERNEL(narrow_product)(const psg_row_product *product, ptrdiff_t row_stride) {
    const psg_row_product p = *product;
    size_t i = 0;
    for (; i + MR <= p.m; i += MR) multiply_loose_rows(&p, MR, row_stride, i);
    for (; i + STEP <= p.m; i += STEP) multiply_loose_rows(&p, STEP, row_stride, i);
    for (; i < p.m; i++) multiply_loose_rows(&p, 1, row_stride, i);
}

void PSG_KERNEL(low_product)(const psg_row_product *product, ptrdiff_t column_stride) {
    const psg_row_product p = *product;
    for (size_t j = 0; j < p.n; j += NR) {
        const place at = { 0, j, p.m, NR };
        tile c = chain_tile(STEP, NV, p.k, p.rows, 1, MR, (const real *)p.columns + j, column_stride);
        put_tile(&p, STEP, NV, &c, &at);
    }
}
