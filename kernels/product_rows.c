/* Rows times a matrix that they share: rows packed or where they are, packed columns, and the tiles and the chain of
 * product_tile.h. */
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
        UNROLL for (size_t j = 0; j < across; j++) c->v[i][j] += beta * vec_load(out + j * LANES);
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

/* What a tile is stored to is on its way while the tile is summed. */
INLINE void fetch_out(const psg_row_product *p, const place *at) {
    const real *out = (const real *)p->c + (ptrdiff_t)at->i * p->c_stride + (ptrdiff_t)at->j;
    UNROLL for (size_t i = 0; i < MR; i++) {
        if (i >= at->m) break;
        __builtin_prefetch(out + (ptrdiff_t)i * p->c_stride, 1);
        if (at->n > LANES) __builtin_prefetch(out + (ptrdiff_t)i * p->c_stride + LANES, 1);
    }
}

INLINE void multiply_tile(const psg_row_product *p, size_t rows, size_t across, const place *at, const real *panel) {
    fetch_out(p, at);
    tile c = chain_tile(rows, across, p->k, panel, 1, MR, (const real *)p->columns + at->j * p->k, NR);
    put_tile(p, rows, across, &c, at);
}

/* panel: the rows', packed. */
INLINE void multiply_any(const psg_row_product *p, size_t across, const place *at, const real *panel) {
    if (at->m <= STEP) multiply_tile(p, STEP, across, at, panel);
    else if (at->m <= 2 * STEP) multiply_tile(p, 2 * STEP, across, at, panel);
    else multiply_tile(p, MR, across, at, panel);
}

#define LINE (64 / sizeof(real))

/* Elements [t, t + LINE) of the rows of the next tile: each row is a stream of its own, too short for the processor to
 * foresee. */
INLINE void fetch_rows(const psg_row_product *p, const place *at, size_t t) {
    const ptrdiff_t stride = p->row_stride;
    if (at->i + 2 * MR > p->m) return;
    const real *next = (const real *)p->rows + (ptrdiff_t)(at->i + MR) * stride + (ptrdiff_t)t;
    UNROLL for (size_t i = 0; i < MR; i++) __builtin_prefetch(next + (ptrdiff_t)i * stride);
}

/* MR rows where they are.  Pointers to every third of them are as many as registers hold. */
INLINE void multiply_loose(const psg_row_product *p, size_t across, const place *at) {
    const real *a = (const real *)p->columns + at->j * p->k, *third[STEP];
    const ptrdiff_t stride = p->row_stride;
    tile c;
    UNROLL for (size_t i = 0; i < STEP; i++) third[i] = (const real *)p->rows + (ptrdiff_t)(at->i + 3 * i) * stride;
    UNROLL for (size_t i = 0; i < MR; i++) {
        UNROLL for (size_t j = 0; j < across; j++) c.v[i][j] = vec_zero();
    }
    fetch_out(p, at);
    for (size_t t = 0; t < p->k; t += LINE) {
        fetch_rows(p, at, t);
        for (size_t u = t; u < smaller(t + LINE, p->k); u++, a += NR) {
            vec row[NV];
            UNROLL for (size_t j = 0; j < across; j++) row[j] = vec_load(a + j * LANES);
            UNROLL for (size_t i = 0; i < MR; i++) {
                const vec weight = vec_set(third[i / 3][(ptrdiff_t)(i % 3) * stride]);
                UNROLL for (size_t j = 0; j < across; j++) c.v[i][j] = vec_add_product(c.v[i][j], weight, row[j]);
            }
            UNROLL for (size_t i = 0; i < STEP; i++) third[i]++;
        }
    }
    put_tile(p, MR, across, &c, at);
}

/* The last rows where they are: packed for this tile. */
INLINE void multiply_last(const psg_row_product *p, size_t across, const place *at) {
    _Alignas(64) real panel[MR * CHAIN];
    const operand rows = { p->rows, 1, p->row_stride, false };
    pack_panel(&rows, 0, p->k, at->i, at->m, MR, NULL, false, panel);
    multiply_any(p, across, at, panel);
}

INLINE void multiply_place(const psg_row_product *p, size_t across, const place *at) {
    if (!p->row_stride) multiply_any(p, across, at, (const real *)p->rows + at->i * p->k);
    else if (at->m == MR) multiply_loose(p, across, at);
    else multiply_last(p, across, at);
}

/* The columns of a panel are used while they are near: rows vary fastest. */
void PSG_KERNEL(row_product)(const psg_row_product *product) {
    const psg_row_product p = *product;
    for (size_t j = 0; j < p.n; j += NR) {
        for (size_t i = 0; i < p.m; i += MR) {
            place at = { i, j, smaller(MR, p.m - i), smaller(NR, p.n - j) };
            if (at.n <= LANES) multiply_place(&p, 1, &at);
            else multiply_place(&p, NV, &at);
        }
    }
}

/* Few rows: columns are not worth packing. */
void PSG_KERNEL(low_product)(const psg_row_product *product, ptrdiff_t column_stride) {
    const psg_row_product p = *product;
    for (size_t j = 0; j < p.n; j += NR) {
        const place at = { 0, j, p.m, NR };
        tile c = chain_tile(STEP, NV, p.k, p.rows, 1, MR, (const real *)p.columns + j, column_stride);
        put_tile(&p, STEP, NV, &c, &at);
    }
}
