/* Products with a matrix that many steps share: it is packed once, and a step's few rows stay where they are.
 *
 * A tile is at most MR x NR; its rows are broadcast element by element, its columns come from a panel as NV vectors.
 * Tiles of fewer rows run the same chain of operations a row. */
#include "kernels.h"
#include "vector.h"

#define NV 2
#define NR (NV * LANES)
#if PSG_VECTOR_BYTES == 64
#define MR ((size_t)8)
#else
#define MR ((size_t)4)
#endif

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

size_t PSG_KERNEL(panel_width)(void) { return NR; }

void PSG_KERNEL(pack_panel)(size_t n, size_t k, const void *w_, ptrdiff_t n_stride, ptrdiff_t k_stride, void *panel_) {
    const real *w = w_;
    real *panel = panel_;
    for (size_t t = 0; t < k; t++, w += k_stride, panel += NR) {
        for (size_t j = 0; j < n; j++) panel[j] = w[(ptrdiff_t)j * n_stride];
        for (size_t j = n; j < NR; j++) panel[j] = 0;
    }
}

/* The first n <= LANES elements at p, or 0 where the columns have ended. */
INLINE vec load_columns(const real *p, size_t n) {
    if (n >= LANES) return vec_load(p);
    return n ? vec_load_part(p, n) : vec_zero();
}

INLINE void store_columns(real *p, vec v, size_t n) {
    if (n >= LANES) vec_store(p, v);
    else if (n) vec_store_part(p, v, n);
}

INLINE size_t columns_left(size_t n, size_t j) { return n > j ? n - j : 0; }

/* rows (a constant) from row i, columns from j. */
INLINE void multiply_tile(const psg_panel_product *p, size_t rows, size_t i, size_t j) {
    const real *a = (const real *)p->a + i * p->a_stride, *panel = (const real *)p->panels + j * p->k;
    const real *bias = p->bias;
    void *const *c = p->c + i;
    vec sum[MR][NV];
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < NV; v++) {
            size_t at = j + v * LANES, n = columns_left(p->n, at);
            sum[r][v] = vec_zero();
            if (p->accumulate) sum[r][v] = load_columns((const real *)c[r] + p->first + at, n);
            else if (bias) sum[r][v] = load_columns(bias + at, n);
        }
    }
    for (size_t k = 0; k < p->k; k++, panel += NR) {
        vec row[NV];
        UNROLL for (size_t v = 0; v < NV; v++) row[v] = *(const vec *)(const void *)(panel + v * LANES);
        UNROLL for (size_t r = 0; r < rows; r++) {
            real x = a[r * p->a_stride + k];
            UNROLL for (size_t v = 0; v < NV; v++) sum[r][v] += x * row[v];
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < NV; v++) {
            size_t at = j + v * LANES;
            store_columns((real *)c[r] + p->first + at, sum[r][v], columns_left(p->n, at));
        }
    }
}

void PSG_KERNEL(panel_product)(const psg_panel_product *product) {
    const psg_panel_product p = *product;
    for (size_t j = 0; j < p.n; j += NR) {
        size_t i = 0;
        for (; i + MR <= p.rows; i += MR) multiply_tile(&p, MR, i, j);
#if PSG_VECTOR_BYTES == 64
        if (i + 4 <= p.rows) {
            multiply_tile(&p, 4, i, j);
            i += 4;
        }
#endif
        if (i + 2 <= p.rows) {
            multiply_tile(&p, 2, i, j);
            i += 2;
        }
        if (i < p.rows) multiply_tile(&p, 1, i, j);
    }
}
