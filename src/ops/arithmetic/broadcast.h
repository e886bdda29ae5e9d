/* NumPy's broadcasting: shapes aligned at their last dimensions, a dimension of size 1 or none repeated. */
#ifndef PSG_OPS_BROADCAST_H
#define PSG_OPS_BROADCAST_H

#include <stdbool.h>

#include "psg/op.h"

/* A whole array and two operands that are repeated to fill it; dimensions that all three walk alike are merged. */
typedef struct psg_broadcast {
    int rank;                              /* >= 1 */
    int64_t shape[PSG_MAX_RANK];
    int64_t whole_stride[PSG_MAX_RANK];
    int64_t a_stride[PSG_MAX_RANK];        /* 0: repeated along this dimension */
    int64_t b_stride[PSG_MAX_RANK];
} psg_broadcast;

/* The common shape of two of one rank; false when there is none. */
bool psg_broadcast_shape(const psg_tensor *a, const psg_tensor *b, int64_t shape[PSG_MAX_RANK]);

/* All three contiguous; a and b must broadcast to the shape of whole.  Dimension `batch` (-1: none), along which a is
 * not repeated, separates its neighbours also when it has one sample. */
psg_broadcast psg_broadcast_of(const psg_tensor *whole, const psg_tensor *a, const psg_tensor *b, int batch);

/* whole = kernel(a, b), kernel one of broadcast_add, _sub, _mul, _div. */
typedef void (*psg_pair_kernel)(size_t n, const void *a, size_t a_step, const void *b, size_t b_step, void *y);
void psg_broadcast_apply(psg_context *context, psg_pair_kernel kernel, const psg_tensor *whole, const psg_tensor *a,
                         const psg_tensor *b);

/* a = scale * the sum of whole * b (b NULL: of whole) over the dimensions along which a is repeated, in double.
 * batch: the dimension of whole that has the samples, whose sums are then the same in every batch; -1: none, or it is
 * summed over. */
void psg_broadcast_sum(psg_context *context, const psg_tensor *whole, const psg_tensor *b, double scale,
                       const psg_tensor *a, int batch);

#endif
