/* psg/ops/shape.h: the same elements in another shape, and means over dimensions. */
#ifndef PSG_PUBLIC_OPS_SHAPE_H
#define PSG_PUBLIC_OPS_SHAPE_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Shapes.  One dimension may be -1 (inferred). */
typedef struct psg_reshape_attributes {
    int rank;
    int64_t shape[PSG_MAX_RANK];
} psg_reshape_attributes;
PSG_API psg_var psg_reshape(psg_tape *tape, psg_var x, int rank, const int64_t *shape);
typedef struct psg_flatten_attributes { int start_dim, end_dim; } psg_flatten_attributes;
PSG_API psg_var psg_flatten(psg_tape *tape, psg_var x, int start_dim, int end_dim);
typedef struct psg_transpose_attributes { int dim0, dim1; } psg_transpose_attributes;
PSG_API psg_var psg_transpose(psg_tape *tape, psg_var x, int dim0, int dim1);
/* Mean over count dimensions.  Over the batch dimension only in an ordinary pass, or down to one element: then it is
 * a loss whose loss_reduction is PSG_LOSS_MEAN. */
typedef struct psg_mean_attributes {
    int count;
    int dims[PSG_MAX_RANK];
    int keepdim;
} psg_mean_attributes;
PSG_API psg_var psg_mean(psg_tape *tape, psg_var x, int count, const int *dims, int keepdim);

#ifdef __cplusplus
}
#endif
#endif
