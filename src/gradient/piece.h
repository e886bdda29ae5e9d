/* Blocks as the rooms see them: checked, normalised views. */
#ifndef PSG_GRADIENT_PIECE_H
#define PSG_GRADIENT_PIECE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/context.h"
#include "psg/gradient.h"

typedef struct psg_room psg_room;

/* One operand of a block: element (n, t, j) at data + n * batch + t * position + j * step, in elements. */
typedef struct psg_operand_view {
    const void *data;
    int64_t columns;
    ptrdiff_t batch, position, step;
} psg_operand_view;

/* Row numbers of sparse rows: (n, t) at data + n * batch + t * position. */
typedef struct psg_ids {
    const void *data;
    bool is_i64;
    ptrdiff_t batch, position;
} psg_ids;

/* The elements of the flattened parameter that a block may touch: rows x columns of them, row i at offset + i * stride.
 * rows 0 or columns 0: none. */
typedef struct psg_place {
    int64_t offset, rows, columns, stride;
} psg_place;

typedef struct psg_piece {
    const psg_room *room;
    psg_dtype dtype;
    int64_t block, numel;         /* its place in the gradient; elements of the parameter */
    int64_t batch, positions;     /* B, T */
    psg_operand_view g, a;        /* a: products and row products; windows: data and batch are the image's, the window's
                                     elements are the columns */
    bool has_windows;
    psg_unfolding window;
    psg_ids ids;                  /* sparse rows */
    const psg_derivation *derivation;
    double derived_norm;          /* the largest norm of its rows' Jacobians */
    double scale;
    psg_place place;
} psg_piece;

/* The view of a checked block. */
psg_piece psg_piece_of(const psg_gradient *gradient, const psg_block *block);

/* d = C prod kernel; false when that does not fit. */
bool psg_window_columns(const psg_tensor *image, const psg_window *window, int64_t *columns);
int64_t psg_gradient_numel(const psg_gradient *gradient);
/* Elements from the first to the last that a place may touch. */
int64_t psg_place_span(const psg_place *place);
static inline int64_t psg_place_end(const psg_place *place) { return place->offset + psg_place_span(place); }
/* Positions up to the last of sample n whose backprop is not all zero. */
int64_t psg_live_positions(const psg_piece *piece, int64_t n);

psg_ids psg_ids_of(const psg_block *block);
static inline int64_t psg_id_at(const psg_ids *ids, int64_t n, int64_t t) {
    ptrdiff_t at = n * ids->batch + t * ids->position;
    return ids->is_i64 ? ((const int64_t *)ids->data)[at] : ((const int32_t *)ids->data)[at];
}

static inline const void *psg_elements(const void *base, psg_dtype dtype, int64_t count) {
    return (const char *)base + count * (int64_t)psg_dtype_size(dtype);
}
static inline void *psg_elements_mutable(void *base, psg_dtype dtype, int64_t count) {
    return (char *)base + count * (int64_t)psg_dtype_size(dtype);
}
/* Element (n, t, j) of an operand. */
static inline const void *psg_at(const psg_operand_view *x, psg_dtype dtype, int64_t n, int64_t t, int64_t j) {
    return psg_elements(x->data, dtype, n * x->batch + t * x->position + j * x->step);
}

static inline int64_t psg_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t psg_most(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
