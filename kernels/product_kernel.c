/* Tiles of G^T A: packed panels, a register tile, and a finish on the registers.
 *
 * A tile is MR x NR; MR rows come from a panel of g (k x MR), NR columns from a panel of a (k x NR).  Rows are copied
 * in short runs; operands that are contiguous along k (an image's positions) are transposed, and windows of an image
 * unfolded, on the way.  Packing turns strided rows, which meet in few cache sets, into two streams.  The whole sum
 * over k (product_tile.h: the chain of an element) is there before the finish, so squares and inner products never
 * touch memory.  Panels are padded with zeros; a tile at an edge is finished as a whole one, on a copy of what it lies
 * on, so that no element and no sum depends on how the output is cut. */
#include "kernels.h"
#include "product_pack.h"
#include "product_tile.h"

/* unfold_panel.c */
void PSG_KERNEL(unfold_panels)(const psg_unfolding *window, const void *image, const psg_unfold_part *part,
                               void *panels);

#define ALIGNED ((size_t)16) /* reals: the panels of a begin on a cache line */
#define SQUARE_REALS ((LANES + MR - 1) / MR) /* that a column of g needs beside its panel: see panels */

/* ---- packing ---- */

static void pack_a(const psg_product *p, size_t row, size_t k, size_t first, size_t count, real *panels) {
    if (p->window) {
        psg_unfold_part part = { p->a_position + (int64_t)row, (int64_t)k, p->a_column + (int64_t)first,
                                 (int64_t)count };
        PSG_KERNEL(unfold_panels)(p->window, p->a, &part, panels);
        return;
    }
    operand a = { p->a, p->a_stride, p->a_step, p->narrow };
    for (size_t j = 0; j < count; j += NR, panels += k * NR) {
        pack_panel(&a, row, k, first + j, smaller(NR, count - j), NR, p->row_weight, false, panels);
    }
}

/* Whether terms of a chain are addends on the grid. */
static inline bool has_grid_terms(const psg_product *p) { return PSG_REAL_IS_F64 && p->grid && p->row_weight; }

#if PSG_REAL_IS_F64
static void make_odd(size_t count, real *x) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) vec_store(x + i, dvec_odd(vec_load(x + i)));
    if (i < count) vec_store_part(x + i, dvec_odd(vec_load_part(x + i, count - i)), count - i);
}
#else
static void make_odd(size_t count, real *x) { (void)count, (void)x; }   /* has_grid_terms is false */
#endif

static void pack_g(const psg_product *p, size_t row, size_t k, size_t first, size_t count, real *panels) {
    operand g = { p->g, p->g_stride, p->g_step, p->narrow };
    for (size_t i = 0; i < count; i += MR, panels += k * MR) {
        pack_panel(&g, row, k, first + i, smaller(MR, count - i), MR, p->row_weight, true, panels);
        if (has_grid_terms(p)) make_odd(k * MR, panels);
    }
}

/* Memory for panels of k rows: g and a get columns that fit together.  What is stored is written in long runs, so the
 * packed a should be wide; what is only added up is packed least when g takes all but one panel of a. */
typedef struct panels {
    real *g, *a;
    dvec *squares;   /* a sum for each row of tiles in g */
    size_t g_columns, a_columns;
} panels;

static size_t round_up(size_t count, size_t grain) { return (count + grain - 1) / grain * grain; }

static panels divide(const psg_product *p, size_t k, bool stored, void *workspace) {
    size_t bytes = p->workspace_bytes ? p->workspace_bytes : PSG_PRODUCT_WORKSPACE;
    size_t columns = (bytes / sizeof(real) - ALIGNED) / (k + SQUARE_REALS), m = round_up(p->m, MR);
    size_t n = round_up(p->n, NR);
    size_t a_columns = n;
    if (m + n > columns) {
        a_columns = stored ? (columns - MR) / 2 / NR * NR : NR;
        if (a_columns < NR) a_columns = NR;
        if (a_columns > n) a_columns = n;
    }
    size_t g_columns = (columns - a_columns) / MR * MR;
    if (g_columns > m) g_columns = m;
    real *a = workspace, *g = a + a_columns * k;
    dvec *squares = (dvec *)(void *)(g + round_up(g_columns * k, ALIGNED));
    return (panels){ g, a, squares, g_columns, a_columns };
}

/* ---- finishes, of whole tiles ---- */

INLINE void store_tile(size_t rows, const tile *c, real *out, ptrdiff_t stride, bool accumulate, bool stream) {
    UNROLL for (size_t i = 0; i < rows; i++, out += stride) {
        UNROLL for (size_t j = 0; j < NV; j++) {
            real *to = out + j * LANES;
            if (stream) vec_stream(to, c->v[i][j]);
            else vec_store(to, accumulate ? vec_load(to) + c->v[i][j] : c->v[i][j]);
        }
    }
}

INLINE dvec lane_sums(wide even, wide odd) { return (even.low + odd.low) + (even.high + odd.high); }

INLINE dvec square_tile(size_t rows, const tile *c) {
    wide even = wide_zero(), odd = wide_zero();
    UNROLL for (size_t i = 0; i < rows; i++) {
        even = wide_add_product(even, c->v[i][0], c->v[i][0]);
        odd = wide_add_product(odd, c->v[i][1], c->v[i][1]);
    }
    return lane_sums(even, odd);
}

INLINE dvec dot_tile(size_t rows, const tile *c, const real *other, ptrdiff_t stride) {
    wide even = wide_zero(), odd = wide_zero();
    UNROLL for (size_t i = 0; i < rows; i++, other += stride) {
        even = wide_add_product(even, c->v[i][0], vec_load(other));
        odd = wide_add_product(odd, c->v[i][1], vec_load(other + LANES));
    }
    return lane_sums(even, odd);
}

/* How a tile meets the sums; a constant. */
typedef enum meeting { PLAIN, SQUARES, ON_GRID } meeting;

INLINE dvec met(dvec sum, double weight, dvec v, meeting how) {
    if (how == ON_GRID) return add_on_grid(sum, weight, v);
    return dvec_add_product(sum, dvec_set(weight), how == SQUARES ? v * v : v);
}

INLINE void add_tile_f64(size_t rows, const tile *c, double *out, ptrdiff_t stride, double weight, meeting how) {
    UNROLL for (size_t i = 0; i < rows; i++, out += stride) {
        UNROLL for (size_t j = 0; j < NV; j++) {
            wide w = widen(c->v[i][j]);
            dvec_unaligned *to = (dvec_unaligned *)(out + j * LANES);
            to[0] = met(to[0], weight, w.low, how);
#if !PSG_REAL_IS_F64
            to[1] = met(to[1], weight, w.high, how);
#endif
        }
    }
}

/* Sums on the grid of at most a chain of terms, which meet others exactly. */
INLINE tile grid_tile(size_t rows, size_t k, const real *g, const real *a) {
    tile c = chain_tile_on(rows, NV, k, g, 1, MR, a, NR, true);
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) c.v[i][j] -= vec_set((real)PSG_GRID_ZERO);
    }
    return c;
}

/* Where a tile lies: m x n of it in the output. */
typedef struct place {
    size_t m, n;
    real *out;
    bool stream;
} place;

/* ---- products that see the whole sum over k ---- */

INLINE void finish_tile(const psg_product *p, size_t rows, const tile *c, real *out, ptrdiff_t stride, bool stream,
                        dvec *squares) {
    bool square = p->finish == PSG_FINISH_SQUARE || p->finish == PSG_FINISH_STORE_SQUARE;
    if (square) *squares += square_tile(rows, c);   /* padding is zero */
    if (p->finish == PSG_FINISH_DOT) *squares += dot_tile(rows, c, out, stride);
    else if (p->finish != PSG_FINISH_SQUARE) store_tile(rows, c, out, stride, p->accumulate, stream);
}

INLINE void finish(const psg_product *p, size_t rows, const tile *c, const place *at, dvec *squares) {
    bool whole = (at->m == rows && at->n == NR) || p->finish == PSG_FINISH_SQUARE;
    const size_t bytes = at->n * sizeof(real);
    const ptrdiff_t stride = p->c_stride * (ptrdiff_t)sizeof(real), edge_stride = NR * sizeof(real);
    _Alignas(64) real edge[MR * NR];
    if (!whole && (p->accumulate || p->finish == PSG_FINISH_DOT)) {
        memset(edge, 0, sizeof edge);
        copy_edge(at->out, stride, edge, edge_stride, at->m, bytes);
    }
    finish_tile(p, rows, c, whole ? at->out : edge, whole ? p->c_stride : (ptrdiff_t)NR, whole && at->stream, squares);
    if (!whole && p->finish != PSG_FINISH_DOT) copy_edge(edge, edge_stride, at->out, stride, at->m, bytes);
}

INLINE void whole_tile(const psg_product *p, size_t rows, const real *g, const real *a, const place *at,
                       dvec *squares) {
    tile c = sum_tile(rows, p->k, g, a);
    scale_tile(rows, NV, &c, p->alpha);
    finish(p, rows, &c, at, squares);
}

/* All tiles between packed columns [i0, i0 + m) of g and [j0, j0 + n) of a. */
static void product_block(const psg_product *p, const panels *w, size_t i0, size_t m, size_t j0, size_t n) {
    bool stream = p->stream && !p->accumulate && stream_aligned((real *)p->c + j0) && (size_t)p->c_stride % LANES == 0;
    for (size_t i = 0; i < m; i += MR) {
        const real *g = w->g + i * p->k;
        size_t rows = smaller(MR, m - i);
        dvec *squares = w->squares + i / MR;
        for (size_t j = 0; j < n; j += NR) {
            const real *a = w->a + j * p->k;
            place at = { rows, smaller(NR, n - j),
                         (real *)p->c + (ptrdiff_t)(i0 + i) * p->c_stride + (ptrdiff_t)(j0 + j), stream };
            if (rows <= STEP) whole_tile(p, STEP, g, a, &at, squares);
            else if (rows <= 2 * STEP) whole_tile(p, 2 * STEP, g, a, &at, squares);
            else whole_tile(p, MR, g, a, &at, squares);
        }
    }
    if (stream) stream_fence();
}

/* Each row of tiles sums from left to right, and then the rows in their order: whatever is packed at once. */
static void product_whole(const psg_product *p, void *workspace) {
    bool stored = p->finish == PSG_FINISH_STORE || p->finish == PSG_FINISH_STORE_SQUARE;
    panels w = divide(p, p->k, stored, workspace);
    dvec squares = { 0 };
    for (size_t i = 0; i < p->m; i += w.g_columns) {
        size_t m = smaller(w.g_columns, p->m - i), down = (m + MR - 1) / MR;
        pack_g(p, 0, p->k, i, m, w.g);
        memset(w.squares, 0, down * sizeof(dvec));
        for (size_t j = 0; j < p->n; j += w.a_columns) {
            size_t n = smaller(w.a_columns, p->n - j);
            if (i == 0 || w.a_columns < p->n) pack_a(p, 0, p->k, j, n, w.a);
            product_block(p, &w, i, m, j, n);
        }
        for (size_t r = 0; r < down; r++) squares += w.squares[r];
    }
    if (p->squares) *p->squares += dvec_sum(squares);
}

/* ---- products that add partial sums in double ---- */

INLINE void add_tile(const psg_product *p, size_t rows, size_t k, const real *g, const real *a, double weight, size_t m,
                     size_t n, double *out) {
    bool whole = m == rows && n == NR;
    const ptrdiff_t stride = p->c_stride * (ptrdiff_t)sizeof(double), edge_stride = NR * sizeof(double);
    _Alignas(64) double edge[MR * NR];
    tile c = has_grid_terms(p) ? grid_tile(rows, k, g, a) : sum_tile(rows, k, g, a);
    if (!whole) {
        memset(edge, 0, sizeof edge);
        copy_edge(out, stride, edge, edge_stride, m, n * sizeof(double));
    }
    double *to = whole ? out : edge;
    const ptrdiff_t step = whole ? p->c_stride : (ptrdiff_t)NR;
    if (p->finish == PSG_FINISH_ADD_SQUARES_F64) add_tile_f64(rows, &c, to, step, weight, SQUARES);
    else if (p->grid && !p->row_weight) add_tile_f64(rows, &c, to, step, weight, ON_GRID);
    else add_tile_f64(rows, &c, to, step, weight, PLAIN);
    if (!whole) copy_edge(edge, edge_stride, out, stride, m, n * sizeof(double));
}

/* Rows [row, row + k): one partial sum of every tile.  g is packed as it is used, or kept where several packed parts of
 * a need it. */
static void add_block(const psg_product *p, const panels *w, size_t row, size_t k, double weight) {
    bool kept = p->n > w->a_columns && p->m <= w->g_columns;
    if (kept) pack_g(p, row, k, 0, p->m, w->g);
    for (size_t j = 0; j < p->n; j += w->a_columns) {
        size_t count = smaller(w->a_columns, p->n - j);
        pack_a(p, row, k, j, count, w->a);
        for (size_t i = 0; i < p->m; i += MR) {
            size_t m = smaller(MR, p->m - i);
            const real *g = kept ? w->g + i * k : w->g;
            if (!kept) pack_g(p, row, k, i, m, w->g);
            for (size_t jj = 0; jj < count; jj += NR) {
                size_t n = smaller(NR, count - jj);
                const real *a = w->a + jj * k;
                double *out = (double *)p->c + (ptrdiff_t)i * p->c_stride + (ptrdiff_t)(j + jj);
                if (m <= STEP) add_tile(p, STEP, k, g, a, weight, m, n, out);
                else if (m <= 2 * STEP) add_tile(p, 2 * STEP, k, g, a, weight, m, n, out);
                else add_tile(p, MR, k, g, a, weight, m, n, out);
            }
        }
    }
}

static void product_flushed(const psg_product *p, void *workspace) {
    size_t flush = p->flush && p->flush < p->k ? p->flush : p->k;
    double alpha = p->finish == PSG_FINISH_ADD_SQUARES_F64 ? p->alpha * p->alpha : p->alpha;
    panels w = divide(p, flush, true, workspace);
    for (size_t row = 0, block = 0; row < p->k; row += flush, block++) {
        double weight = p->flush_weight ? p->flush_weight[block] : 1.0;
        if (weight != 0) add_block(p, &w, row, smaller(flush, p->k - row), alpha * weight);
    }
}

void PSG_KERNEL(product)(const psg_product *product, void *workspace) {
    if (!product->m || !product->n) return;
    if (product->finish == PSG_FINISH_ADD_F64 || product->finish == PSG_FINISH_ADD_SQUARES_F64) {
        product_flushed(product, workspace);
    } else {
        product_whole(product, workspace);
    }
}

/* ---- k = 1 ---- */

/* A row of the outer product, with the bits of the product: alpha times the rounded g a. */
INLINE vec outer_part(real g, vec a, real alpha) { return alpha * (g * a); }

/* c[i, :] (+)= alpha * g[i] * a: bound by the stores, so row after row in the order of memory. */
void PSG_KERNEL(outer)(size_t m, size_t n, double alpha, const void *g_, const void *a_, void *c_,
                       ptrdiff_t row_stride, bool accumulate, bool stream) {
    const real *g = g_, *a = a_;
    real *c = c_, factor = (real)alpha;
    bool around = stream && !accumulate && stream_aligned(c) && (size_t)row_stride % LANES == 0;
    for (size_t i = 0; i < m; i++, c += row_stride) {
        size_t j = 0;
        if (around) {
            for (; j + LANES <= n; j += LANES) vec_stream(c + j, outer_part(g[i], vec_load(a + j), factor));
        } else if (accumulate) {
            for (; j + LANES <= n; j += LANES) {
                vec_store(c + j, vec_load(c + j) + outer_part(g[i], vec_load(a + j), factor));
            }
        } else {
            for (; j + LANES <= n; j += LANES) vec_store(c + j, outer_part(g[i], vec_load(a + j), factor));
        }
        if (j == n) continue;
        vec last = outer_part(g[i], vec_load_part(a + j, n - j), factor);
        vec_store_part(c + j, accumulate ? vec_load_part(c + j, n - j) + last : last, n - j);
    }
    if (around) stream_fence();
}

/* ---- nothing ---- */

void PSG_KERNEL(clear)(size_t n, void *x_) {
    real *x = x_;
    size_t i = 0;
    for (; i < n && !stream_aligned(x + i); i++) x[i] = 0;
    for (; i + LANES <= n; i += LANES) vec_stream(x + i, vec_zero());
    for (; i < n; i++) x[i] = 0;
    stream_fence();
}
