/* Shapes: sizes that cannot overflow, and views cut from views. */
#ifndef PSG_BASE_SHAPES_H
#define PSG_BASE_SHAPES_H

#include <stdbool.h>

#include "psg/tensor.h"

/* a * b into *product; false when it does not fit or either is negative. */
bool psg_size_multiply(int64_t a, int64_t b, int64_t *product);
/* count elements of size bytes as a size_t; false on overflow. */
bool psg_size_bytes(int64_t count, size_t size, size_t *bytes);

bool psg_dtype_is_real(psg_dtype dtype);
/* Whether sizes are not negative and the bytes fit the address space.  Zeros count as ones, so that no product of some
 * of the sizes overflows either. */
bool psg_tensor_fits(const psg_tensor *tensor);
/* rank, dimensions, count in range, data present unless empty. */
bool psg_tensor_is_valid(const psg_tensor *tensor);
/* What is wrong with one that is not: "NULL", "of rank 9, must be from 0 to 8", ...; text has PSG_FAULT_TEXT bytes. */
#define PSG_FAULT_TEXT 96
const char *psg_tensor_fault(const psg_tensor *tensor, char *text);
bool psg_shape_equal(int rank, const int64_t *a, int other_rank, const int64_t *b);
int64_t psg_shape_product(int rank, const int64_t *shape);  /* -1 on overflow, also of the others where one is 0 */

/* Element (index along dimension 0) as a view of rank - 1. */
psg_tensor psg_tensor_at(const psg_tensor *tensor, int64_t index);
/* Data pointer advanced by elements. */
void *psg_tensor_offset(const psg_tensor *tensor, int64_t elements);
/* Swaps two dimensions of the view. */
psg_tensor psg_tensor_swap(const psg_tensor *tensor, int a, int b);
/* Views dimensions [first, last] as one when their strides allow it; false when they do not. */
bool psg_tensor_merge(psg_tensor *tensor, int first, int last);
/* Gives the view another shape of as many elements, in the same order; false, the view as it was, when no strides
 * can say so. */
bool psg_tensor_reshape(psg_tensor *tensor, int rank, const int64_t *shape);
/* Copies between views of one shape and type, any strides. */
void psg_tensor_copy(const psg_tensor *from, const psg_tensor *to);

/* Writes "(2, 3)" into text. */
#define PSG_SHAPE_TEXT 192
const char *psg_shape_text(int rank, const int64_t *shape, char text[PSG_SHAPE_TEXT]);
static inline const char *psg_tensor_text(const psg_tensor *t, char text[PSG_SHAPE_TEXT]) {
    return psg_shape_text(t->rank, t->shape, text);
}

#endif
