/* Inner products of rows, as Gram matrices of a sample's few positions need them: vectors run along the rows, so that
 * nothing is transposed and little is packed.
 *
 * An element is, block of BLOCK terms by block, the sum over lanes of the chains of every LANES-th term, and the blocks
 * are added in order: wherever it stands. */
#include "kernels.h"
#include "vector.h"

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

#if PSG_VECTOR_BYTES == 64
#define SIDE ((size_t)4) /* rows of a tile, and columns: SIDE^2 accumulators and SIDE + 1 operands are in registers */
#else
#define SIDE ((size_t)3)
#endif
#define BLOCK (PSG_ROW_DOTS_BYTES / sizeof(real)) /* of the rows that are copied SIDE stay in the first cache level */
#define TILE ((SIDE * SIDE + LANES - 1) / LANES) /* vectors of its sums */

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* ---- sums of lanes ---- */

/* Lane l: lane from[l] of a and b side by side; only gcc has a name for it that takes vectors of numbers. */
INLINE vec pick(vec a, vec b, vec_bits from) {
#ifdef __clang__
    vec picked;
    UNROLL for (size_t l = 0; l < LANES; l++) {
        picked[l] = (size_t)from[l] < LANES ? a[from[l]] : b[(size_t)from[l] - LANES];
    }
    return picked;
#else
    return __builtin_shuffle(a, b, from);
#endif
}

/* Lane l: the sum of lanes l and l ^ apart, of b where l & apart, else of a. */
INLINE vec fold(vec a, vec b, size_t apart) {
    vec_bits near, far;
    UNROLL for (size_t l = 0; l < LANES; l++) {
        size_t from = l & apart ? LANES : 0;
        near[l] = (real_bits)(from + l);
        far[l] = (real_bits)(from + (l ^ apart));
    }
    return pick(a, b, near) + pick(a, b, far);
}

/* Lane l: the sum of the lanes of v[l]. */
INLINE vec sum_lanes(vec v[LANES]) {
    UNROLL for (size_t apart = LANES / 2; apart > 0; apart /= 2) {
        UNROLL for (size_t l = 0; l < apart; l++) v[l] = fold(v[l], v[l + apart], apart);
    }
    return v[0];
}

/* ---- a tile ---- */

typedef struct tile {
    vec v[SIDE][SIDE];
} tile;

/* One vector of every row. */
INLINE void add_terms(tile *c, const real *x, const vec y[SIDE]) {
    UNROLL for (size_t i = 0; i < SIDE; i++) {
        const vec left = vec_load(x + i * BLOCK);
        UNROLL for (size_t j = 0; j < SIDE; j++) c->v[i][j] = vec_add_product(c->v[i][j], left, y[j]);
    }
}

/* sums[i * SIDE + j] = <row i of x, row j>, n terms.  x: rows of BLOCK reals, zeros after the n-th. */
INLINE void dot_tile(size_t n, const real *x, const real *const row[SIDE], real *sums) {
    tile c;
    vec y[SIDE], lanes[TILE * LANES];
    size_t t = 0;
    UNROLL for (size_t k = 0; k < SIDE * SIDE; k++) c.v[k / SIDE][k % SIDE] = vec_zero();
    for (; t + LANES <= n; t += LANES) {
        UNROLL for (size_t j = 0; j < SIDE; j++) y[j] = vec_load(row[j] + t);
        add_terms(&c, x + t, y);
    }
    if (t < n) {
        UNROLL for (size_t j = 0; j < SIDE; j++) y[j] = vec_load_part(row[j] + t, n - t);
        add_terms(&c, x + t, y);
    }
    UNROLL for (size_t k = 0; k < TILE * LANES; k++) {
        lanes[k] = k < SIDE * SIDE ? c.v[k / SIDE][k % SIDE] : vec_zero();
    }
    UNROLL for (size_t k = 0; k < TILE; k++) vec_store(sums + k * LANES, sum_lanes(lanes + k * LANES));
}

INLINE void store_row(const real *sums, size_t n, bool add, real *to) {
    for (size_t j = 0; j < n; j++) to[j] = add ? to[j] + sums[j] : sums[j];
}

/* Columns of SIDE rows of c; the last row of y stands in for those that are missing. */
INLINE void dot_rows(const psg_row_dots *p, size_t i, size_t rows, size_t term, size_t n, const real *x) {
    real sums[TILE * LANES], *c = (real *)p->c + (ptrdiff_t)i * p->c_stride;
    const size_t columns = smaller(p->n, p->diagonal + i + rows);
    const bool add = p->accumulate || term > 0;
    for (size_t j = 0; j < columns; j += SIDE) {
        const size_t across = smaller(SIDE, p->n - j);
        const real *row[SIDE];
        UNROLL for (size_t k = 0; k < SIDE; k++) {
            row[k] = (const real *)p->y + (ptrdiff_t)(j + smaller(k, across - 1)) * p->y_stride + (ptrdiff_t)term;
        }
        dot_tile(n, x, row, sums);
        for (size_t r = 0; r < rows; r++) {
            real *to = c + (ptrdiff_t)r * p->c_stride + (ptrdiff_t)j;
            if (across == SIDE) store_row(sums + r * SIDE, SIDE, add, to);
            else store_row(sums + r * SIDE, across, add, to);
        }
    }
}

/* Of its product, where this is not fused; of its lane's chain in its block; of log2(LANES) sums of lanes; and of the
 * blocks after its own. */
size_t PSG_KERNEL(row_dots_depth)(size_t k) {
    size_t folds = 0;
    while (((size_t)1 << folds) < LANES) folds++;
    return 1 + (smaller(k, BLOCK) + LANES - 1) / LANES + folds + (k + BLOCK - 1) / BLOCK;
}

void PSG_KERNEL(row_dots)(const psg_row_dots *dots) {
    const psg_row_dots p = *dots;
    _Alignas(64) real x[SIDE * BLOCK];
    size_t term = 0;
    do {
        const size_t n = smaller(BLOCK, p.k - term), whole = (n + LANES - 1) / LANES * LANES;
        for (size_t i = 0; i < p.m; i += SIDE) {
            const size_t rows = smaller(SIDE, p.m - i);
            for (size_t r = 0; r < SIDE; r++) {
                const real *from = (const real *)p.x + (ptrdiff_t)(i + r) * p.x_stride + (ptrdiff_t)term;
                if (r < rows && n) memcpy(x + r * BLOCK, from, n * sizeof(real));
                memset(x + r * BLOCK + (r < rows ? n : 0), 0, (whole - (r < rows ? n : 0)) * sizeof(real));
            }
            dot_rows(&p, i, rows, term, n, x);
        }
        term += BLOCK;
    } while (term < p.k);
}
