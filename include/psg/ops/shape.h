/* psg/ops/shape.h: the same elements in another shape or order, some of them, several arrays as one; sums and means
 * over dimensions.
 *
 * Dimensions may be negative: counted from the end.  In a per-sample pass the batch stays a dimension of its own, where
 * it was, and no op here takes it apart: PSG_ERR_BATCH.
 *
 * reshape, flatten, squeeze, unsqueeze, permute, transpose, slice and select take a trainable parameter as well: the
 * result is a part of it that any layer takes for a parameter, and the gradient lands in its place of the whole. */
#ifndef PSG_PUBLIC_OPS_SHAPE_H
#define PSG_PUBLIC_OPS_SHAPE_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The elements in another shape.  One dimension may be -1 (inferred). */
typedef struct psg_reshape_attributes {
    int rank;
    int64_t shape[PSG_MAX_RANK];
} psg_reshape_attributes;
PSG_API psg_var psg_reshape(psg_tape *tape, psg_var x, int rank, const int64_t *shape);
typedef struct psg_flatten_attributes { int start_dim, end_dim; } psg_flatten_attributes;
PSG_API psg_var psg_flatten(psg_tape *tape, psg_var x, int start_dim, int end_dim);
/* Dimension dim is dropped when its size is 1; the batch stays, of one sample too. */
typedef struct psg_squeeze_attributes { int dim; } psg_squeeze_attributes;
PSG_API psg_var psg_squeeze(psg_tape *tape, psg_var x, int dim);
/* A dimension of size 1 that becomes dimension dim; -1: the last. */
PSG_API psg_var psg_unsqueeze(psg_tape *tape, psg_var x, int dim);
/* Dimensions of size 1 repeated to the sizes of shape, and new ones in front; -1 keeps a size. */
typedef struct psg_expand_attributes {
    int rank;
    int64_t shape[PSG_MAX_RANK];
} psg_expand_attributes;
PSG_API psg_var psg_expand(psg_tape *tape, psg_var x, int rank, const int64_t *shape);

/* The dimensions in another order.  Dimension d of the result is dimension dims[d] of x. */
typedef struct psg_permute_attributes {
    int rank;
    int dims[PSG_MAX_RANK];
} psg_permute_attributes;
PSG_API psg_var psg_permute(psg_tape *tape, psg_var x, int rank, const int *dims);
typedef struct psg_transpose_attributes { int dim0, dim1; } psg_transpose_attributes;
PSG_API psg_var psg_transpose(psg_tape *tape, psg_var x, int dim0, int dim1);
/* The elements along count dimensions backwards. */
typedef struct psg_flip_attributes {
    int count;
    int dims[PSG_MAX_RANK];
} psg_flip_attributes;
PSG_API psg_var psg_flip(psg_tape *tape, psg_var x, int count, const int *dims);

/* Some of the elements.  Elements start, start + step, ... before stop along dim; negative places are counted from the
 * end, and places outside are moved to the nearest end.  stop INT64_MAX: to the end.  step >= 1. */
typedef struct psg_slice_attributes {
    int dim;
    int64_t start, stop, step;
} psg_slice_attributes;
PSG_API psg_var psg_slice(psg_tape *tape, psg_var x, int dim, int64_t start, int64_t stop, int64_t step);
/* Element index along dim, which is dropped; a negative index is counted from the end. */
typedef struct psg_select_attributes {
    int dim;
    int64_t index;
} psg_select_attributes;
PSG_API psg_var psg_select(psg_tape *tape, psg_var x, int dim, int64_t index);

/* Several arrays as one.  count >= 1 inputs of one type, and of one shape but for dimension dim. */
typedef struct psg_cat_attributes { int dim; } psg_cat_attributes;
PSG_API psg_var psg_cat(psg_tape *tape, const psg_var *inputs, int count, int dim);
/* count inputs of one shape along a new dimension dim. */
PSG_API psg_var psg_stack(psg_tape *tape, const psg_var *inputs, int count, int dim);

/* More elements around x: pad[0] before and pad[1] after the last dimension, pad[2] and pad[3] around the one before
 * it, ..., count numbers in all.  Constant mode adds `value`; reflect mirrors about the first and last element (pad <
 * size), replicate repeats those, circular goes round (pad <= size).  Negative numbers cut off: in circular mode before
 * it goes round, else afterwards, as in PyTorch (by a slice; the op of psg_apply takes them in constant mode alone). */
typedef enum psg_pad_mode {
    PSG_PAD_CONSTANT = 0,
    PSG_PAD_REFLECT = 1,
    PSG_PAD_REPLICATE = 2,
    PSG_PAD_CIRCULAR = 3
} psg_pad_mode;
typedef struct psg_pad_attributes {
    int count;
    int64_t pad[2 * PSG_MAX_RANK];
    psg_pad_mode mode;
    double value;
} psg_pad_attributes;
PSG_API psg_var psg_pad(psg_tape *tape, psg_var x, int count, const int64_t *pad, psg_pad_mode mode, double value);

/* The windows of an image: (N, C, H, W) to (N, C kernel[0] kernel[1], L), the L windows in row-major order; and their
 * sum where they overlap, back into an image of size output_size. */
typedef struct psg_unfold_options {
    int64_t kernel[2];         /* of a window: height, width */
    int64_t dilation[2];       /* 0: 1 */
    int64_t padding[2];        /* zeros on either side */
    int64_t stride[2];         /* 0: 1 */
    uint64_t reserved[4];
} psg_unfold_options;
#define PSG_UNFOLD_OPTIONS_INIT { { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0, 0, 0 } }   /* kernel is to be given */
PSG_API psg_var psg_unfold(psg_tape *tape, psg_var x, const psg_unfold_options *options);
typedef struct psg_fold_attributes {
    int64_t output_size[2];
    psg_unfold_options windows;
} psg_fold_attributes;
PSG_API psg_var psg_fold(psg_tape *tape, psg_var x, const int64_t output_size[2], const psg_unfold_options *options);

/* Mean and sum over count dimensions, every one of which must be listed.  Over the batch dimension only in an ordinary
 * pass, or down to one element: then it is a loss, which psg_backward follows. */
typedef struct psg_mean_attributes {
    int count;
    int dims[PSG_MAX_RANK];
    int keepdim;
} psg_mean_attributes;
PSG_API psg_var psg_mean(psg_tape *tape, psg_var x, int count, const int *dims, int keepdim);
typedef psg_mean_attributes psg_sum_attributes;
PSG_API psg_var psg_sum(psg_tape *tape, psg_var x, int count, const int *dims, int keepdim);

#ifdef __cplusplus
}
#endif
#endif
