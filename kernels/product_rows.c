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

/* The tile at row i and column j, m x n of it in the output. */
INLINE void multiply_tile(const psg_row_product *p, size_t rows, size_t across, size_t i, size_t j, size_t m,
                          size_t n) {
    const size_t bytes = n * sizeof(real);
    const ptrdiff_t stride = p->c_stride * (ptrdiff_t)sizeof(real), edge_stride = NR * sizeof(real);
    const bool whole = m == rows && n == across * LANES, reads = p->continues || p->beta != 0;
    real *out = (real *)p->c + (ptrdiff_t)i * p->c_stride + (ptrdiff_t)j;
    _Alignas(64) real edge[MR * NR];
    tile c = chain_tile(rows, across, p->k, (const real *)p->rows + i * p->k, (const real *)p->columns + j * p->k);
    if (!whole && reads) {
        memset(edge, 0, sizeof edge);
        copy_edge(out, stride, edge, edge_stride, m, bytes);
    }
    finish_tile(p, rows, across, &c, whole ? out : edge, whole ? p->c_stride : (ptrdiff_t)NR,
                p->bias ? (const real *)p->bias + j : NULL, n);
    if (!whole) copy_edge(edge, edge_stride, out, stride, m, bytes);
}

INLINE void multiply_any(const psg_row_product *p, size_t across, size_t i, size_t j, size_t m, size_t n) {
    if (m <= STEP) multiply_tile(p, STEP, across, i, j, m, n);
    else if (m <= 2 * STEP) multiply_tile(p, 2 * STEP, across, i, j, m, n);
    else multiply_tile(p, MR, across, i, j, m, n);
}

/* The columns of a panel are used while they are near: rows vary fastest. */
void PSG_KERNEL(row_product)(const psg_row_product *product) {
    const psg_row_product p = *product;
    for (size_t j = 0; j < p.n; j += NR) {
        size_t n = smaller(NR, p.n - j);
        for (size_t i = 0; i < p.m; i += MR) {
            size_t m = smaller(MR, p.m - i);
            if (n <= LANES) multiply_any(&p, 1, i, j, m, n);
            else multiply_any(&p, NV, i, j, m, n);
        }
    }
}
