/* Tiles of G^T A: packed panels, a register tile, and a finish on the registers.
 *
 * A tile is MR x NR; MR rows come from a panel of g (k x MR), NR columns from a panel of a (k x NR).  Both operands are
 * already "k-major", so packing copies short runs and transposes nothing; it turns strided rows, which meet in few cache
 * sets, into two streams.  The whole sum over k stays in registers, so the finish sees final values: squares and inner
 * products never touch memory.  Panels are padded with zeros; only finishes know about edges. */
#include "kernels.h"
#include "vector.h"

#define NV 2 /* vectors across a tile */
#if PSG_VECTOR_BYTES == 64
#define MR ((size_t)12)
#else
#define MR ((size_t)6)
#endif
#define NR (NV * LANES)

#define UNROLL _Pragma("GCC unroll 12")

/* Panels of a share the workspace with one panel of g. */
#define G_PANEL_BYTES (PSG_PRODUCT_MAX_K * MR * sizeof(real))
#define A_PANEL_BYTES (PSG_PRODUCT_WORKSPACE - G_PANEL_BYTES)

typedef struct tile {
    vec v[MR][NV];
} tile;

/* ---- packing ---- */

typedef struct operand {
    const real *data;
    ptrdiff_t stride, step;
    bool square;
} operand;

static inline void pack_run(const real *from, ptrdiff_t step, real *to, size_t count, size_t width) {
    if (step == 1 && count == width) {
        memcpy(to, from, width * sizeof(real));
        return;
    }
    for (size_t i = 0; i < count; i++) to[i] = from[(ptrdiff_t)i * step];
    for (size_t i = count; i < width; i++) to[i] = 0;
}

/* In double: a clip factor may be far below the smallest real while its product with g is not. */
static inline void adjust_run(real *run, size_t width, double weight, bool square) {
    for (size_t i = 0; i < width; i++) run[i] = (real)((double)(square ? run[i] * run[i] : run[i]) * weight);
}

/* Columns [first, first + count) of rows [row, row + k) as a panel of the given width.  A row of weight 0 is not read.
 * weighted: the weights are multiplied in (one operand only). */
static inline __attribute__((always_inline)) void pack_panel(const operand *x, size_t row, size_t k, size_t first,
                                                             size_t count, size_t width, const double *row_weight,
                                                             bool weighted, real *panel) {
    const real *from = x->data + (ptrdiff_t)row * x->stride + (ptrdiff_t)first * x->step;
    bool adjust = x->square || (weighted && row_weight);
    for (size_t t = 0; t < k; t++, from += x->stride, panel += width) {
        double weight = row_weight ? row_weight[row + t] : 1.0;
        if (weight == 0) {
            memset(panel, 0, width * sizeof(real));
            continue;
        }
        pack_run(from, x->step, panel, count, width);
        if (adjust) adjust_run(panel, width, weighted ? weight : 1.0, x->square);
    }
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static void pack_a(const psg_product *p, size_t row, size_t k, size_t first, size_t count, real *panels) {
    operand a = { p->a, p->a_stride, p->a_step, p->square_rows };
    for (size_t j = 0; j < count; j += NR, panels += k * NR) {
        pack_panel(&a, row, k, first + j, smaller(NR, count - j), NR, p->row_weight, false, panels);
    }
}

static void pack_g(const psg_product *p, size_t row, size_t k, size_t first, real *panel) {
    operand g = { p->g, p->g_stride, p->g_step, p->square_rows };
    pack_panel(&g, row, k, first, smaller(MR, p->m - first), MR, p->row_weight, true, panel);
}

/* ---- the register tile ---- */

static inline __attribute__((always_inline)) tile sum_tile(size_t k, const real *g, const real *a) {
    tile c;
    UNROLL for (size_t i = 0; i < MR; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) c.v[i][j] = vec_zero();
    }
    for (size_t t = 0; t < k; t++, g += MR, a += NR) {
        vec row[NV];
        UNROLL for (size_t j = 0; j < NV; j++) row[j] = *(const vec *)(const void *)(a + j * LANES);
        UNROLL for (size_t i = 0; i < MR; i++) {
            UNROLL for (size_t j = 0; j < NV; j++) c.v[i][j] += g[i] * row[j];
        }
    }
    return c;
}

static inline __attribute__((always_inline)) void scale_tile(tile *c, double alpha) {
    if (alpha == 1.0) return;
    real factor = (real)alpha;
    UNROLL for (size_t i = 0; i < MR; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) c->v[i][j] *= factor;
    }
}

static void spill(const tile *c, real *buffer) {
    for (size_t i = 0; i < MR; i++) {
        for (size_t j = 0; j < NV; j++) vec_store(buffer + i * NR + j * LANES, c->v[i][j]);
    }
}

/* ---- finishes of a full tile ---- */

static inline __attribute__((always_inline)) void store_tile(const tile *c, real *out, ptrdiff_t stride,
                                                             bool accumulate, bool stream) {
    UNROLL for (size_t i = 0; i < MR; i++, out += stride) {
        UNROLL for (size_t j = 0; j < NV; j++) {
            real *to = out + j * LANES;
            if (stream) vec_stream(to, c->v[i][j]);
            else vec_store(to, accumulate ? vec_load(to) + c->v[i][j] : c->v[i][j]);
        }
    }
}

static inline __attribute__((always_inline)) wide square_tile(const tile *c) {
    wide even = wide_zero(), odd = wide_zero();
    UNROLL for (size_t i = 0; i < MR; i++) {
        even = wide_add_product(even, c->v[i][0], c->v[i][0]);
        odd = wide_add_product(odd, c->v[i][1], c->v[i][1]);
    }
    return (wide){ even.low + odd.low, even.high + odd.high };
}

static inline __attribute__((always_inline)) wide dot_tile(const tile *c, const real *other, ptrdiff_t stride) {
    wide even = wide_zero(), odd = wide_zero();
    UNROLL for (size_t i = 0; i < MR; i++, other += stride) {
        even = wide_add_product(even, c->v[i][0], vec_load(other));
        odd = wide_add_product(odd, c->v[i][1], vec_load(other + LANES));
    }
    return (wide){ even.low + odd.low, even.high + odd.high };
}

static inline __attribute__((always_inline)) void add_vec_f64(double *out, vec v, double weight, bool squares) {
    wide w = widen(v);
    dvec_unaligned *to = (dvec_unaligned *)out;
    to[0] += weight * (squares ? w.low * w.low : w.low);
#if !PSG_REAL_IS_F64
    to[1] += weight * (squares ? w.high * w.high : w.high);
#endif
}

static inline __attribute__((always_inline)) void add_tile_f64(const tile *c, double *out, ptrdiff_t stride,
                                                               double weight, bool squares) {
    UNROLL for (size_t i = 0; i < MR; i++, out += stride) {
        UNROLL for (size_t j = 0; j < NV; j++) add_vec_f64(out + j * LANES, c->v[i][j], weight, squares);
    }
}

/* ---- finishes at the edges: m x n of a spilled tile ---- */

static void store_edge(const real *c, size_t m, size_t n, real *out, ptrdiff_t stride, bool accumulate) {
    for (size_t i = 0; i < m; i++, c += NR, out += stride) {
        for (size_t j = 0; j < n; j++) out[j] = accumulate ? out[j] + c[j] : c[j];
    }
}

static double dot_edge(const real *c, size_t m, size_t n, const real *other, ptrdiff_t stride) {
    double sum = 0;
    for (size_t i = 0; i < m; i++, c += NR, other += stride) {
        for (size_t j = 0; j < n; j++) sum += (double)c[j] * (double)other[j];
    }
    return sum;
}

static void add_edge_f64(const real *c, size_t m, size_t n, double *out, ptrdiff_t stride, double weight,
                         bool squares) {
    for (size_t i = 0; i < m; i++, c += NR, out += stride) {
        for (size_t j = 0; j < n; j++) {
            double value = (double)c[j];
            out[j] += weight * (squares ? value * value : value);
        }
    }
}

/* ---- products that see the whole sum over k ---- */

typedef struct sums {
    wide tiles;
    double edges;
} sums;

static void finish_edge(const psg_product *p, const tile *c, size_t m, size_t n, void *out, sums *squares) {
    real buffer[MR * NR];
    spill(c, buffer);
    if (p->finish == PSG_FINISH_DOT) {
        squares->edges += dot_edge(buffer, m, n, out, p->c_stride);
        return;
    }
    if (p->finish != PSG_FINISH_STORE) squares->edges += dot_edge(buffer, m, n, buffer, (ptrdiff_t)NR);
    if (p->finish != PSG_FINISH_SQUARE) store_edge(buffer, m, n, out, p->c_stride, p->accumulate);
}

static inline __attribute__((always_inline)) void finish_full(const psg_product *p, const tile *c, real *out,
                                                              bool stream, sums *squares) {
    wide more = wide_zero();
    if (p->finish == PSG_FINISH_DOT) more = dot_tile(c, out, p->c_stride);
    else if (p->finish != PSG_FINISH_STORE) more = square_tile(c);
    squares->tiles.low += more.low;
    squares->tiles.high += more.high;
    if (p->finish == PSG_FINISH_STORE || p->finish == PSG_FINISH_STORE_SQUARE) {
        store_tile(c, out, p->c_stride, p->accumulate, stream);
    }
}

static void product_block(const psg_product *p, size_t first, size_t count, real *g_panel, real *a_panels,
                          sums *squares) {
    pack_a(p, 0, p->k, first, count, a_panels);
    bool stream = p->stream && !p->accumulate && stream_aligned((real *)p->c + first) &&
                  (size_t)p->c_stride % LANES == 0;
    for (size_t i = 0; i < p->m; i += MR) {
        pack_g(p, 0, p->k, i, g_panel);
        size_t m = smaller(MR, p->m - i);
        for (size_t j = 0; j < count; j += NR) {
            size_t n = smaller(NR, count - j);
            real *out = (real *)p->c + (ptrdiff_t)i * p->c_stride + (ptrdiff_t)(first + j);
            tile c = sum_tile(p->k, g_panel, a_panels + j * p->k);
            scale_tile(&c, p->alpha);
            if (m == MR && n == NR) finish_full(p, &c, out, stream, squares);
            else finish_edge(p, &c, m, n, out, squares);
        }
    }
    if (stream) stream_fence();
}

static void product_whole(const psg_product *p, real *g_panel, real *a_panels) {
    size_t panels = A_PANEL_BYTES / ((p->k ? p->k : 1) * NR * sizeof(real));
    sums squares = { wide_zero(), 0 };
    for (size_t j = 0; j < p->n; j += panels * NR) {
        product_block(p, j, smaller(panels * NR, p->n - j), g_panel, a_panels, &squares);
    }
    if (p->squares) *p->squares += wide_sum(squares.tiles) + squares.edges;
}

/* ---- products that add partial sums in double ---- */

static void add_block(const psg_product *p, size_t row, size_t k, double weight, size_t first, size_t count,
                      real *g_panel, real *a_panels) {
    bool squares = p->finish == PSG_FINISH_ADD_SQUARES_F64;
    pack_a(p, row, k, first, count, a_panels);
    for (size_t i = 0; i < p->m; i += MR) {
        pack_g(p, row, k, i, g_panel);
        size_t m = smaller(MR, p->m - i);
        for (size_t j = 0; j < count; j += NR) {
            size_t n = smaller(NR, count - j);
            double *out = (double *)p->c + (ptrdiff_t)i * p->c_stride + (ptrdiff_t)(first + j);
            tile c = sum_tile(k, g_panel, a_panels + j * k);
            if (m == MR && n == NR) {
                add_tile_f64(&c, out, p->c_stride, weight, squares);
            } else {
                real buffer[MR * NR];
                spill(&c, buffer);
                add_edge_f64(buffer, m, n, out, p->c_stride, weight, squares);
            }
        }
    }
}

static void product_flushed(const psg_product *p, real *g_panel, real *a_panels) {
    size_t flush = p->flush ? p->flush : p->k;
    size_t panels = A_PANEL_BYTES / ((flush ? flush : 1) * NR * sizeof(real));
    double alpha = p->finish == PSG_FINISH_ADD_SQUARES_F64 ? p->alpha * p->alpha : p->alpha;
    for (size_t j = 0; j < p->n; j += panels * NR) {
        size_t count = smaller(panels * NR, p->n - j);
        for (size_t row = 0, block = 0; row < p->k; row += flush, block++) {
            double weight = p->flush_weight ? p->flush_weight[block] : 1.0;
            if (weight != 0) add_block(p, row, smaller(flush, p->k - row), alpha * weight, j, count, g_panel, a_panels);
        }
    }
}

void PSG_KERNEL(product)(const psg_product *product, void *workspace) {
    real *g_panel = workspace, *a_panels = (real *)((char *)workspace + G_PANEL_BYTES);
    if (product->finish == PSG_FINISH_ADD_F64 || product->finish == PSG_FINISH_ADD_SQUARES_F64) {
        product_flushed(product, g_panel, a_panels);
    } else {
        product_whole(product, g_panel, a_panels);
    }
}

/* ---- k = 1 ---- */

/* c[i, :] (+)= alpha * g[i] * a: bound by the stores, so row after row in the order of memory. */
void PSG_KERNEL(outer)(size_t m, size_t n, double alpha, const void *g_, const void *a_, void *c_,
                       ptrdiff_t row_stride, bool accumulate, bool stream) {
    const real *g = g_, *a = a_;
    real *c = c_, factor = (real)alpha;
    bool around = stream && !accumulate && stream_aligned(c) && (size_t)row_stride % LANES == 0;
    for (size_t i = 0; i < m; i++, c += row_stride) {
        real gi = factor * g[i];
        size_t j = 0;
        if (around) {
            for (; j + LANES <= n; j += LANES) vec_stream(c + j, gi * vec_load(a + j));
        }
        if (accumulate) {
            for (; j < n; j++) c[j] += gi * a[j];
        } else {
            for (; j < n; j++) c[j] = gi * a[j];
        }
    }
    if (around) stream_fence();
}
