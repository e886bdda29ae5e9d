/* Blocks as the rooms see them: checked, normalised views; and what a question checks before it writes anything. */
#ifndef PSG_GRADIENT_PIECE_H
#define PSG_GRADIENT_PIECE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/context.h"
#include "kernels.h"
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

/* The elements of the flattened parameter that a block may touch, perhaps none: row i at offset + i * stride. */
typedef struct psg_place { int64_t offset, rows, columns, stride; } psg_place;

typedef struct psg_piece {
    const psg_room *room;
    psg_dtype dtype;
    int64_t block, numel;         /* its place in the gradient; elements of the parameter */
    int64_t batch, positions;     /* B, T */
    psg_operand_view g, a;        /* a: products and row products; windows: data and batch are the image's, the window's
                                     elements are the columns */
    bool has_windows;
    psg_unfolding window;
    int slowest;                  /* windows: their first dimension, along which samples may be padded: what is decided
                                     for an extent of 1 must hold for longer ones */
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
/* From the first element to the last that it may touch. */
int64_t psg_place_span(const psg_place *place);
static inline int64_t psg_place_end(const psg_place *place) { return place->offset + psg_place_span(place); }
/* Whether all elements of a row, step apart, are 0 or -0. */
bool psg_is_zero_row(psg_dtype dtype, const void *row, ptrdiff_t step, int64_t columns);
/* Positions up to the last of sample n whose backprop is not all zero. */
int64_t psg_live_positions(const psg_piece *piece, int64_t n);
psg_ids psg_ids_of(const psg_block *block);
static inline int64_t psg_id_at(const psg_ids *ids, int64_t n, int64_t t) {
    ptrdiff_t at = n * ids->batch + t * ids->position;
    return ids->is_i64 ? ((const int64_t *)ids->data)[at] : ((const int32_t *)ids->data)[at];
}
/* Elements of a real type. */
static inline const void *psg_elements(const void *base, psg_dtype dtype, int64_t count) {
    return (const char *)base + count * (dtype == PSG_F64 ? 8 : 4);
}
static inline void *psg_elements_mutable(void *base, psg_dtype dtype, int64_t count) {
    return (char *)base + count * (dtype == PSG_F64 ? 8 : 4);
}
/* Element (n, t, j) of an operand. */
static inline const void *psg_at(const psg_operand_view *x, psg_dtype dtype, int64_t n, int64_t t, int64_t j) {
    return psg_elements(x->data, dtype, n * x->batch + t * x->position + j * x->step);
}
static inline int64_t psg_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t psg_most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The gradients of a question, and who asks it. */
typedef struct psg_set {
    psg_context *context;
    const char *function;
    const psg_gradient *const *gradients;
    size_t count;
} psg_set;
/* Names what is wrong as "<function>: ..."; coupled: a gradient may be batch_coupled, else PSG_ERR_UNSUPPORTED. */
psg_status psg_check_set(const psg_set *set, bool coupled);
/* An output array, of any size, is given. */
psg_status psg_check_array(const psg_set *set, const char *name, const void *array);
psg_status psg_check_write(const psg_set *set, psg_write write);
/* An output of that type and shape, contiguous, but for what is allowed. */
typedef enum psg_allow { PSG_ALLOW_NOTHING = 0, PSG_ALLOW_STRIDES = 1, PSG_ALLOW_F64 = 2 } psg_allow;
psg_status psg_check_output(const psg_set *set, const char *name, const psg_tensor *out, psg_dtype dtype, int rank,
                            const int64_t *shape, psg_allow allow);
/* Tensors given one a gradient: contiguous, of the gradient's shape, real type. */
psg_status psg_check_tensors(const psg_set *set, const char *argument, const psg_tensor *tensors, psg_allow allow);

/* A gradient, or (in_block) a block of one, under check. */
typedef struct psg_check {
    const psg_set *set;
    size_t index, block;               /* of the gradient in the set, of the block in it */
    bool in_block;
    const psg_gradient *gradient;
    int64_t numel;
} psg_check;
/* "<function>: gradients[k] (name), block b: <text>" */
psg_status psg_check_fail(const psg_check *at, psg_status status, const char *format, ...) PSG_PRINTF(3, 4);
/* A (B, p) or (B, T, p) view, or the image of windows, of the gradient's type and batch size. */
psg_status psg_check_operand(const psg_check *at, const psg_block *block, const psg_tensor *x, const char *name);
/* A place must lie in the parameter, without overlapping, within rows of its last dimensions. */
psg_status psg_check_place(const psg_check *at, int64_t offset, int64_t rows, int64_t columns, int64_t stride);
/* A block, at in_block. */
psg_status psg_check_block(const psg_check *at, const psg_block *block);
static inline int64_t psg_positions_of(const psg_tensor *x) { return x->rank == 3 ? x->shape[1] : 1; }
static inline int64_t psg_features_of(const psg_tensor *x) { return x->shape[x->rank - 1]; }

#endif
