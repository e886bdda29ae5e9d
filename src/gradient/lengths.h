/* Norms of operands, and the sums of their products that the rounding of a sum over positions multiplies.  None leaves
 * the range of its type on the way. */
#ifndef PSG_GRADIENT_LENGTHS_H
#define PSG_GRADIENT_LENGTHS_H

#include "gradient/room.h"

/* At least the norm of `count` elements, step apart. */
double psg_norm_bound(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step, int64_t count);

#endif
