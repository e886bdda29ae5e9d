/* Blocks as the questions see them: checked, normalised views. */
#ifndef PSG_GRADIENT_BLOCK_H
#define PSG_GRADIENT_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/context.h"
#include "psg/gradient.h"

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

typedef struct psg_piece {
    psg_form form;                /* an unfolded block whose windows are rows of a view is factored */
    psg_dtype dtype;
    int64_t batch, positions;     /* B, T */
    psg_operand_view g, a;        /* a.columns is 1 for rows and sparse rows, which have no second operand; unfolded:
                                     data and batch are the image's, the window's elements are the columns */
    psg_unfolding window;            /* unfolded */
    psg_ids ids;                  /* sparse rows; */
    int64_t rows;                 /* how many an id may name */
    double scale;
    int64_t offset, row_stride;   /* the place in the flattened parameter */
} psg_piece;

/* Checks a gradient set and names what is wrong in the context's message, as "<function>: ...". */
psg_status psg_check_set(psg_context *context, const char *function, const psg_gradient *const *gradients,
                         size_t count);
/* The same for questions that need gradients of single samples: a batch_coupled one is PSG_ERR_UNSUPPORTED. */
psg_status psg_check_questions(psg_context *context, const char *function, const psg_gradient *const *gradients,
                               size_t count);
psg_status psg_check_write(psg_context *context, const char *function, psg_write write);
/* Checks tensors given one a gradient: contiguous, of the gradient's shape, real type or (allow_f64) PSG_F64. */
psg_status psg_check_tensors(psg_context *context, const char *function, const char *argument,
                             const psg_gradient *const *gradients, size_t count, const psg_tensor *tensors,
                             bool allow_f64);

/* The views of a checked block. */
psg_piece psg_piece_of(const psg_gradient *gradient, size_t block);

psg_ids psg_ids_of(const psg_block *block);
/* The rows that fit between the block's offset and the parameter's end. */
int64_t psg_sparse_row_count(const psg_block *block, int64_t numel);
static inline int64_t psg_id_at(const psg_ids *ids, int64_t n, int64_t t) {
    ptrdiff_t at = n * ids->batch + t * ids->position;
    return ids->is_i64 ? ((const int64_t *)ids->data)[at] : ((const int32_t *)ids->data)[at];
}

/* Whether the piece is a product of two operands: factored or unfolded. */
static inline bool psg_is_product(const psg_piece *piece) {
    return piece->form == PSG_FACTORED || piece->form == PSG_UNFOLDED;
}

/* "factored", "rows", ...; of a form that the questions accept. */
const char *psg_form_name(psg_form form);
int64_t psg_gradient_numel(const psg_gradient *gradient);
/* Whether the piece alone fills every element of its parameter. */
bool psg_piece_is_whole(const psg_piece *piece, int64_t numel);
/* Whether rows of g are evenly spaced over samples and positions together, so that they are one (B T) x p matrix. */
bool psg_operand_is_stacked(const psg_operand_view *x, int64_t batch, int64_t positions, ptrdiff_t *stride);
/* Whether two pieces multiply the same backprop, element for element. */
bool psg_same_backprop(const psg_piece *x, const psg_piece *y);

static inline const void *psg_elements(const void *base, psg_dtype dtype, int64_t count) {
    return (const char *)base + count * (int64_t)psg_dtype_size(dtype);
}
static inline void *psg_elements_mutable(void *base, psg_dtype dtype, int64_t count) {
    return (char *)base + count * (int64_t)psg_dtype_size(dtype);
}
/* Row (n, t) of an operand. */
static inline const void *psg_row(const psg_operand_view *x, psg_dtype dtype, int64_t n, int64_t t) {
    return psg_elements(x->data, dtype, n * x->batch + t * x->position);
}

#endif
