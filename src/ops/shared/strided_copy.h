/* Copies between views in parallel: what permute, slice, flip, expand and cat have in common. */
#ifndef PSG_OPS_STRIDED_COPY_H
#define PSG_OPS_STRIDED_COPY_H

#include "psg/op.h"

/* to = from, views of one shape and type that do not overlap.  Any strides; from's may be 0. */
void psg_strided_copy(psg_context *context, const psg_tensor *from, const psg_tensor *to);

/* Sets every element of a contiguous tensor to 0. */
void psg_fill_zero(psg_context *context, const psg_tensor *tensor);

#endif
