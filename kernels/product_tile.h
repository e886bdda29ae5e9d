/* The register tile of products, and with it the chain of operations behind an element of a product:
 *
 *   total = s_0 + s_1 + ... from the left, s_b = the sum over terms [256 b, 256 b + 256) of g a, one chain of
 *   multiply-adds in the real type from 0, fused where the instruction set has it.
 *
 * Where an element stands in the output or in a tile changes when it is computed, never how; and terms of zero at the
 * end change nothing. */
#ifndef PSG_KERNELS_PRODUCT_TILE_H
#define PSG_KERNELS_PRODUCT_TILE_H

#include "grid_sum.h"
#include "product_kernel.h"
#include "product_pack.h"
#include "tile_shape.h"
#include "vector.h"

#define CHAIN ((size_t)PSG_PRODUCT_CHAIN)

typedef struct tile {
    vec v[MR][NV];
} tile;

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* rows and across, here and below, are constants: MR, 2 STEP or STEP; NV or 1. */

/* sum + g a; on the grid: g is odd, and the real type double. */
INLINE vec add_term(vec sum, real g, vec a, bool grid) {
#if PSG_REAL_IS_F64
    if (grid) return add_on_grid(sum, g, a);
#endif
    (void)grid;
    return vec_add_product(sum, vec_set(g), a);
}

/* One chain, k terms: of g[i * g_row + t * g_step] and the vectors at a + t * a_step.  grid is a constant. */
INLINE tile chain_tile_on(size_t rows, size_t across, size_t k, const real *g, ptrdiff_t g_row, ptrdiff_t g_step,
                          const real *a, ptrdiff_t a_step, bool grid) {
    tile c;
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < across; j++) c.v[i][j] = grid ? vec_set((real)PSG_GRID_ZERO) : vec_zero();
    }
    for (size_t t = 0; t < k; t++, g += g_step, a += a_step) {
        vec row[NV];
        UNROLL for (size_t j = 0; j < across; j++) row[j] = vec_load(a + j * LANES);
        UNROLL for (size_t i = 0; i < rows; i++) {
            UNROLL for (size_t j = 0; j < across; j++) {
                c.v[i][j] = add_term(c.v[i][j], g[(ptrdiff_t)i * g_row], row[j], grid);
            }
        }
    }
    return c;
}

INLINE tile chain_tile(size_t rows, size_t across, size_t k, const real *g, ptrdiff_t g_row, ptrdiff_t g_step,
                       const real *a, ptrdiff_t a_step) {
    return chain_tile_on(rows, across, k, g, g_row, g_step, a, a_step, false);
}

INLINE void spill_tile(size_t rows, const tile *c, real *buffer) {
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) vec_store(buffer + i * NR + j * LANES, c->v[i][j]);
    }
}

INLINE void add_spilled(size_t rows, tile *c, const real *buffer) {
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) c->v[i][j] = vec_load(buffer + i * NR + j * LANES) + c->v[i][j];
    }
}

/* The total of k terms: beyond one chain it waits in the first cache level for the next. */
INLINE tile sum_tile(size_t rows, size_t k, const real *g, const real *a) {
    tile c = chain_tile(rows, NV, smaller(CHAIN, k), g, 1, MR, a, NR);
    for (size_t t = CHAIN; t < k; t += CHAIN) {
        _Alignas(64) real total[MR * NR];
        spill_tile(rows, &c, total);
        c = chain_tile(rows, NV, smaller(CHAIN, k - t), g + t * MR, 1, MR, a + t * NR, NR);
        add_spilled(rows, &c, total);
    }
    return c;
}

INLINE void scale_tile(size_t rows, size_t across, tile *c, double alpha) {
    if (alpha == 1.0) return;
    real factor = (real)alpha;
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < across; j++) c->v[i][j] = factor * c->v[i][j];
    }
}

/* m rows of some bytes, strides in bytes: between the output and a whole tile. */
static inline void copy_edge(const void *from, ptrdiff_t from_stride, void *to, ptrdiff_t to_stride, size_t m,
                             size_t bytes) {
    const char *source = from;
    char *target = to;
    for (size_t i = 0; i < m; i++, source += from_stride, target += to_stride) memcpy(target, source, bytes);
}

#endif
