/* What the attention kernel is made of: packed rows, small products, and the masks of a tile.
 *
 * Scores are held transposed, a row a key and a lane a query (LB of them): maxima and sums over the keys are then sums
 * of whole vectors, and p^T serves every product as it is.  Whatever is multiplied is packed first, with its rows
 * padded by zeros to whole vectors and register tiles, so that products know of no edges; sums run over true sizes
 * only, so what the padding holds stays in the padding. */
#ifndef PSG_KERNELS_ATTENTION_TILE_H
#define PSG_KERNELS_ATTENTION_TILE_H

#include <math.h>

#include "attention_kernel.h"
#include "vector.h"

#define LB PSG_ATTENTION_QUERIES
#define KB PSG_ATTENTION_KEYS
#define NV ((size_t)2) /* vectors across a register tile */
#if PSG_VECTOR_BYTES == 64
#define MR ((size_t)8)
#else
#define MR ((size_t)4)
#endif

#define UNROLL _Pragma("GCC unroll 12")
#define UNROLL_LANES _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t padded(size_t count, size_t grain) { return (count + grain - 1) / grain * grain; }

/* Rows of a packed operand, `stride` apart. */
typedef struct rows {
    real *data;
    size_t stride;
} rows;

/* ---- packing ---- */

/* scale * columns reals, then zeros up to the stride. */
static inline void pack_row(const real *from, size_t columns, real scale, real *to, size_t stride) {
    size_t j = 0;
    for (; j + LANES <= columns; j += LANES) vec_store(to + j, scale * vec_load(from + j));
    if (j < stride) vec_store(to + j, scale * vec_load_part(from + j, columns - j));
}

static inline void pack_rows(const real *from, ptrdiff_t step, size_t count, size_t columns, real scale,
                             const rows *to) {
    for (size_t i = 0; i < count; i++, from += step) {
        pack_row(from, columns, scale, to->data + i * to->stride, to->stride);
    }
}

/* The first halves of two vectors, element by element; the second halves. */
#if PSG_VECTOR_BYTES == 16 && PSG_REAL_IS_F64
INLINE vec mix_low(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 2); }
INLINE vec mix_high(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 3); }
#elif PSG_VECTOR_BYTES == 16 || (PSG_VECTOR_BYTES == 32 && PSG_REAL_IS_F64)
INLINE vec mix_low(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
INLINE vec mix_high(vec a, vec b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#elif PSG_VECTOR_BYTES == 32 || PSG_REAL_IS_F64
INLINE vec mix_low(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
INLINE vec mix_high(vec a, vec b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
INLINE vec mix_low(vec a, vec b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
INLINE vec mix_high(vec a, vec b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#endif

/* A square of LANES rows: mixing row k with row k + LANES / 2, log2 LANES times, transposes it. */
INLINE void transpose_square(const real *from, size_t stride, real *to) {
    vec row[LANES], mixed[LANES];
    UNROLL_LANES for (size_t i = 0; i < LANES; i++) row[i] = vec_load(from + i * stride);
    UNROLL_LANES for (size_t step = 1; step < LANES; step *= 2) {
        UNROLL_LANES for (size_t i = 0; i < LANES / 2; i++) {
            mixed[2 * i] = mix_low(row[i], row[i + LANES / 2]);
            mixed[2 * i + 1] = mix_high(row[i], row[i + LANES / 2]);
        }
        UNROLL_LANES for (size_t i = 0; i < LANES; i++) row[i] = mixed[i];
    }
    UNROLL_LANES for (size_t i = 0; i < LANES; i++) vec_store(to + i * LB, row[i]);
}

/* to[e][i] = from[i][e], a row of LB lanes for each e of a packed operand; lanes past count are 0.  Whole squares: rows
 * of from beyond count are cleared, and to has a row for every padded column. */
static inline void transpose_rows(const rows *from, size_t count, real *to) {
    size_t lanes = padded(count, LANES);
    for (size_t i = count; i < lanes; i++) memset(from->data + i * from->stride, 0, from->stride * sizeof(real));
    for (size_t e = 0; e < from->stride; e += LANES) {
        for (size_t i = 0; i < lanes; i += LANES) {
            transpose_square(from->data + i * from->stride + e, from->stride, to + e * LB + i);
        }
    }
}

/* to (+)= factor * from, a packed row. */
static inline void unpack_row(const real *from, size_t columns, real factor, bool add, real *to) {
    for (size_t j = 0; j < columns; j += LANES) {
        size_t part = smaller(LANES, columns - j);
        vec v = factor * vec_load(from + j);
        if (add) v += vec_load_part(to + j, part);
        if (part == LANES) vec_store(to + j, v);
        else vec_store_part(to + j, v, part);
    }
}

static inline void unpack_rows(const rows *from, size_t count, size_t columns, real factor, bool add, real *to,
                               ptrdiff_t step) {
    for (size_t i = 0; i < count; i++, to += step) {
        unpack_row(from->data + i * from->stride, columns, factor, add, to);
    }
}

/* ---- products ----
 * c (m x n) (+)= a b with a (m x k) either rows of its own or, transposed, the columns of a^T; m is done in whole tiles
 * of MR rows and n in whole vectors.  A sum is made of chains of at most KB terms, each from 0, so that its rounding
 * grows with the chains and not with all terms. */

/* across is a constant, 1 or NV; so is transposed. */
INLINE void product_tile(size_t across, bool transposed, size_t k, const real *a, size_t a_stride, const real *b,
                         size_t b_stride, real *c, size_t c_stride, bool add) {
    vec sum[MR][NV];
    UNROLL for (size_t i = 0; i < MR; i++) {
        UNROLL for (size_t j = 0; j < across; j++) sum[i][j] = vec_zero();
    }
    for (size_t t = 0; t < k; t++, b += b_stride) {
        vec row[NV];
        UNROLL for (size_t j = 0; j < across; j++) row[j] = vec_load(b + j * LANES);
        UNROLL for (size_t i = 0; i < MR; i++) {
            const vec x = vec_set(transposed ? a[t * a_stride + i] : a[i * a_stride + t]);
            UNROLL for (size_t j = 0; j < across; j++) sum[i][j] = vec_add_product(sum[i][j], x, row[j]);
        }
    }
    UNROLL for (size_t i = 0; i < MR; i++) {
        UNROLL for (size_t j = 0; j < across; j++) {
            real *to = c + i * c_stride + j * LANES;
            vec_store(to, add ? vec_load(to) + sum[i][j] : sum[i][j]);
        }
    }
}

INLINE void product_any(bool transposed, size_t m, size_t n, size_t k, const rows *a, const rows *b, const rows *c,
                        bool add) {
    const size_t tile_step = transposed ? 1 : a->stride, chain_step = transposed ? a->stride : 1;
    for (size_t j = 0; j < n; j += NV * LANES) {
        for (size_t i = 0; i < m; i += MR) {
            real *to = c->data + i * c->stride + j;
            for (size_t t = 0; t == 0 || t < k; t += KB) {
                const real *x = a->data + i * tile_step + t * chain_step, *y = b->data + t * b->stride + j;
                const size_t chain = smaller(KB, k - t);
                const bool more = add || t > 0;
                if (n - j > LANES) product_tile(NV, transposed, chain, x, a->stride, y, b->stride, to, c->stride, more);
                else product_tile(1, transposed, chain, x, a->stride, y, b->stride, to, c->stride, more);
            }
        }
    }
}

static void product(size_t m, size_t n, size_t k, const rows *a, const rows *b, const rows *c, bool add) {
    product_any(false, m, n, k, a, b, c, add);
}

static void product_transposed(size_t m, size_t n, size_t k, const rows *a, const rows *b, const rows *c, bool add) {
    product_any(true, m, n, k, a, b, c, add);
}

/* ---- masks: p is a tile of scores, row j for key j0 + j, lane i for query i0 + i; masked it is -Inf ---- */

static const real masked_score = -(real)INFINITY;

typedef struct place {
    size_t head;             /* in the group */
    size_t i0, queries;      /* of the tile */
    size_t j0, keys;
} place;

INLINE bool takes_part(const psg_mask *mask, ptrdiff_t at) {
    bool nonzero = mask->type == PSG_MASK_I32 ? ((const int32_t *)mask->data)[at] != 0
                                              : ((const int64_t *)mask->data)[at] != 0;
    return nonzero == mask->keeps;
}

static inline real mask_value(const psg_mask *mask, ptrdiff_t at) {
    if (mask->type == PSG_MASK_REAL) return ((const real *)mask->data)[at];
    return takes_part(mask, at) ? 0 : masked_score;
}

static inline ptrdiff_t mask_start(const psg_mask *mask, const place *at) {
    return (ptrdiff_t)at->head * mask->head_stride + (ptrdiff_t)at->i0 * mask->row_stride +
           (ptrdiff_t)at->j0 * mask->column_stride;
}

/* What one mask hides, no other shows. */
INLINE real masked(real score, real value) {
    return score == masked_score || value == masked_score ? masked_score : score + value;
}

static inline void mask_row(real *row, real value) {
    vec hidden = vec_set(masked_score), add = vec_set(value);
    for (size_t i = 0; i < LB; i += LANES) {
        vec score = vec_load(row + i), sum = vec_select(score == hidden, hidden, score + add);
        vec_store(row + i, value == masked_score ? hidden : sum);
    }
}

/* One value a key. */
static void mask_keys(const psg_mask *mask, const place *at, size_t keys, real *p) {
    ptrdiff_t start = mask_start(mask, at);
    for (size_t j = 0; j < keys; j++) {
        real value = mask_value(mask, start + (ptrdiff_t)j * mask->column_stride);
        if (value != 0) mask_row(p + j * LB, value);
    }
}

static void mask_elements(const psg_mask *mask, const place *at, size_t keys, real *p) {
    ptrdiff_t start = mask_start(mask, at);
    for (size_t i = 0; i < at->queries; i++, start += mask->row_stride) {
        for (size_t j = 0; j < keys; j++) {
            real *score = p + j * LB + i;
            *score = masked(*score, mask_value(mask, start + (ptrdiff_t)j * mask->column_stride));
        }
    }
}

static void mask_future(const place *at, size_t keys, real *p) {
    for (size_t j = at->i0 < at->j0 ? 0 : at->i0 - at->j0; j < keys; j++) {
        size_t first = smaller(at->j0 + j - at->i0, LB);   /* queries before key j0 + j */
        for (size_t i = 0; i < first; i++) p[j * LB + i] = masked_score;
    }
}

static void mask_tile(const psg_attention *t, const place *at, real *p) {
    size_t masked = at->j0 < t->keys ? smaller(at->keys, t->keys - at->j0) : 0;   /* bias and zero keys are not */
    if (t->padding.type) mask_keys(&t->padding, at, masked, p);
    if (t->mask.type && t->mask.row_stride) mask_elements(&t->mask, at, masked, p);
    else if (t->mask.type) mask_keys(&t->mask, at, masked, p);
    if (t->causal) mask_future(at, masked, p);
}

static void drop(const psg_attention *t, const place *at, size_t all_keys, real *p) {
    real scale = (real)t->kept_scale;
    for (size_t j = 0; j < at->keys; j++) {
        const unsigned char *kept = t->kept + (at->head * all_keys + at->j0 + j) * t->queries + at->i0;
        for (size_t i = 0; i < at->queries; i++) p[j * LB + i] = kept[i] ? p[j * LB + i] * scale : 0;
    }
}

/* ---- what is not finite ----
 * Products run over masked positions too, where one factor is 0, and 0 times NaN or Inf is NaN.  So a result that is
 * not finite is computed once more without such elements of the other factor; their part goes to those who see them. */

/* The bits of 0 x of all elements: those of 0 or -0, or NaN where one is not finite. */
static inline vec_bits times_zero(const rows *x, size_t count) {
    vec_bits bits = { 0 };
    for (size_t e = 0; e < count * x->stride; e += LANES) bits |= (vec_bits)(0 * vec_load(x->data + e));
    return bits;
}

static bool is_zero(vec_bits bits) { return wide_sum(widen((vec)bits)) == 0; }

/* seen: the tile of weights p, negative where they are masked. */
static void mark_masked(const psg_attention *t, const place *at, const real *p, real *seen) {
    memset(seen, 0, KB * LB * sizeof *seen);
    mask_tile(t, at, seen);
    for (size_t e = 0; e < at->keys * LB; e++) seen[e] = seen[e] == masked_score ? -1 : p[e];
}

/* Clears what is not finite in `count` rows of a product's factor; first to[s] += weight[r][s] row r of it, for every
 * reader s that sees row r.  Weights of a row are row_step apart, those of a reader reader_step. */
static void set_apart(const rows *from, size_t count, const real *weight, size_t row_step, const rows *to,
                      size_t readers, size_t reader_step) {
    for (size_t at = 0; at < count * from->stride; at++) {
        real x = from->data[at];
        if (isfinite(x)) continue;
        const real *w = weight + at / from->stride * row_step;
        for (size_t s = 0; s < readers; s++, w += reader_step) {
            if (!(*w < 0)) to->data[s * to->stride + at % from->stride] += *w * x;
        }
        from->data[at] = 0;
    }
}

#endif
