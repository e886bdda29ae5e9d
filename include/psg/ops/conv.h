/* psg/ops/conv.h: convolution and transposed convolution.
 *
 * x (N, C, *X), weight, bias (O) or psg_none(), over 1, 2 or 3 spatial dimensions.  Gradients: weights unfolded (a
 * block a group), or rows where that takes no more memory; bias rows.  An input without a batch dimension is
 * PSG_ERR_SHAPE. */
#ifndef PSG_PUBLIC_OPS_CONV_H
#define PSG_PUBLIC_OPS_CONV_H

#include "psg/ops/shape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* PSG_CONV_SAME: output position t is centred on input element t stride; dilation (kernel - 1) elements are added, the
 * odd one at the end, whatever the stride. */
typedef enum psg_conv_padding { PSG_CONV_EXPLICIT = 0, PSG_CONV_VALID = 1, PSG_CONV_SAME = 2 } psg_conv_padding;

/* One entry a spatial dimension, in the order of x's; further ones are not read.  Zero is PyTorch's default: stride,
 * dilation and groups 1, padding 0.  Of stride, and of dilation, all these are given or none: PSG_ALL(n) is one number
 * for each. */
typedef struct psg_conv_options {
    int64_t stride[3], padding[3], dilation[3];
    int64_t groups;
    psg_conv_padding padding_rule;  /* how padding is found; otherwise than explicit, padding must be 0 */
    int has_padding_after;          /* padding is that before the first element alone, padding_after that behind the
                                       last one */
    int64_t padding_after[3];
    psg_pad_mode padding_mode;      /* what is added; constant: zeros.  Other modes record a psg_pad first */
    uint64_t reserved[4];
} psg_conv_options;
#define PSG_CONV_OPTIONS_INIT { { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 }, 0, PSG_CONV_EXPLICIT, 0, { 0, 0, 0 }, \
                                PSG_PAD_CONSTANT, { 0, 0, 0, 0 } }
/* Of the op "conv", for psg_apply. */
typedef struct psg_conv_attributes {
    psg_conv_options options;       /* padding_mode constant alone */
    int spatial;                    /* dimensions, which the rank of x must confirm; 0: those that it has */
} psg_conv_attributes;

/* y[n, o, t] = bias[o] + sum_{c, k} weight[o, c, k] x[n, g C/G + c, t stride + k dilation - padding], g = o / (O/G).
 * weight (O, C/G, *K).  options NULL: all defaults.  What a weight that is not finite gives where windows reach into
 * the padding is unspecified: a term of 0 or of NaN. */
PSG_API psg_var psg_conv1d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options);
PSG_API psg_var psg_conv2d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options);
PSG_API psg_var psg_conv3d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, const psg_conv_options *options);

/* As psg_conv_options, padding being what the adjoint takes away. */
typedef struct psg_conv_transpose_options {
    int64_t stride[3], padding[3], dilation[3];
    int64_t output_padding[3];      /* less than stride or dilation */
    int64_t groups;
    uint64_t reserved[4];
} psg_conv_transpose_options;
#define PSG_CONV_TRANSPOSE_OPTIONS_INIT { { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 }, 0, { 0, 0, 0, 0 } }
typedef struct psg_conv_transpose_attributes {
    psg_conv_transpose_options options;
    int spatial;                    /* as above */
} psg_conv_transpose_attributes;

/* The adjoint of a convolution, plus bias: y[n, g O/G + o, u] sums weight[c, o, k] x[n, c, t] over the C/G channels c
 * of the group and all t, k with u = t stride + k dilation - padding.  weight (C, O/G, *K); the size of y is
 * (X - 1) stride - 2 padding + dilation (K - 1) + 1 + output_padding. */
PSG_API psg_var psg_conv_transpose1d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                                     const psg_conv_transpose_options *options);
PSG_API psg_var psg_conv_transpose2d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                                     const psg_conv_transpose_options *options);
PSG_API psg_var psg_conv_transpose3d(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                                     const psg_conv_transpose_options *options);

#ifdef __cplusplus
}
#endif
#endif
