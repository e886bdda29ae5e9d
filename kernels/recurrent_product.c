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

#define CHAIN ((size_t)PSG_RECURRENT_CHAIN)

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

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

typedef struct tile {
    vec v[MR][NV];
} tile;

/* rows, here and below, is a constant. */
INLINE tile start_tile(const psg_panel_product *p, size_t rows, void *const *c, size_t j) {
    const real *bias = p->bias;
    tile sum;
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < NV; v++) {
            size_t at = j + v * LANES, n = columns_left(p->n, at);
            sum.v[r][v] = vec_zero();
            if (p->accumulate) sum.v[r][v] = load_columns((const real *)c[r] + p->first + at, n);
            else if (bias) sum.v[r][v] = load_columns(bias + at, n);
        }
    }
    return sum;
}

/* One chain more on sum: k terms. */
INLINE void chain_tile(size_t rows, size_t k, const real *a, size_t a_stride, const real *panel, tile *sum) {
    for (size_t t = 0; t < k; t++, panel += NR) {
        vec row[NV];
        UNROLL for (size_t v = 0; v < NV; v++) row[v] = *(const vec *)(const void *)(panel + v * LANES);
        UNROLL for (size_t r = 0; r < rows; r++) {
            const vec x = vec_set(a[r * a_stride + t]);
            UNROLL for (size_t v = 0; v < NV; v++) sum->v[r][v] = vec_add_product(sum->v[r][v], x, row[v]);
        }
    }
}

/* rows from row i, columns from j. */
INLINE void multiply_tile(const psg_panel_product *p, size_t rows, size_t i, size_t j) {
    const real *a = (const real *)p->a + i * p->a_stride, *panel = (const real *)p->panels + j * p->k;
    void *const *c = p->c + i;
    tile sum = start_tile(p, rows, c, j);
    chain_tile(rows, smaller(CHAIN, p->k), a, p->a_stride, panel, &sum);
    for (size_t t = CHAIN; t < p->k; t += CHAIN) {
        tile total = sum;
        sum = (tile){ 0 };
        chain_tile(rows, smaller(CHAIN, p->k - t), a + t, p->a_stride, panel + t * NR, &sum);
        UNROLL for (size_t r = 0; r < rows; r++) {
            UNROLL for (size_t v = 0; v < NV; v++) sum.v[r][v] = total.v[r][v] + sum.v[r][v];
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < NV; v++) {
            size_t at = j + v * LANES;
            store_columns((real *)c[r] + p->first + at, sum.v[r][v], columns_left(p->n, at));
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
