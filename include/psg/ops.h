/* psg/ops.h: the functional ops.
 *
 * Each records itself on the tape and returns its output.  Shapes: N is the batch, * any further dimensions.  An error
 * is kept on the tape.  Every op has an attributes struct where it takes more than operands, for psg_apply. */
#ifndef PSG_OPS_H
#define PSG_OPS_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Applies an op by its registered name. */
PSG_API psg_var psg_apply(psg_tape *tape, const char *name, const psg_var *inputs, int input_count,
                          const void *attributes);

/* y = x W^T + b.  x (N, *, in), weight (out, in), bias (out) or psg_none(); y (N, *, out).
 * Gradients: weight factored, bias rows.  x of rank < 2 is PSG_ERR_SHAPE: it has no batch dimension. */
PSG_API psg_var psg_linear(psg_tape *tape, psg_var x, psg_var weight, psg_var bias);

/* y = (x - mean) / sqrt(var + eps) * weight + bias over the last `rank` dimensions, population variance.
 * x (N, *, *normalized_shape); weight, bias (*normalized_shape) or psg_none().  The batch dimension must not be
 * normalized over. */
typedef struct psg_layer_norm_attributes {
    int rank;
    int64_t normalized_shape[PSG_MAX_RANK];
    double eps;
} psg_layer_norm_attributes;
PSG_API psg_var psg_layer_norm(psg_tape *tape, psg_var x, int rank, const int64_t *normalized_shape, psg_var weight,
                               psg_var bias, double eps);

/* The same over each of num_groups groups of channels.  x (N, C, *), rank >= 2; weight, bias (C) or psg_none(). */
typedef struct psg_group_norm_attributes {
    int64_t num_groups;
    double eps;
} psg_group_norm_attributes;
PSG_API psg_var psg_group_norm(psg_tape *tape, psg_var x, int64_t num_groups, psg_var weight, psg_var bias, double eps);

/* Elementwise. */
PSG_API psg_var psg_relu(psg_tape *tape, psg_var x);
PSG_API psg_var psg_tanh(psg_tape *tape, psg_var x);
PSG_API psg_var psg_sigmoid(psg_tape *tape, psg_var x);
/* x Phi(x); approximate_tanh: the tanh approximation of Hendrycks and Gimpel (2016). */
typedef struct psg_gelu_attributes { int approximate_tanh; } psg_gelu_attributes;
PSG_API psg_var psg_gelu(psg_tape *tape, psg_var x, int approximate_tanh);
/* Zeroes elements with probability p and scales the rest by 1/(1-p); the mask of a sample depends on the pass's
 * dropout_seed, the op's place on the tape and the sample's id only.  0 <= p <= 1. */
typedef struct psg_dropout_attributes { double p; } psg_dropout_attributes;
PSG_API psg_var psg_dropout(psg_tape *tape, psg_var x, double p);
/* Sum and product with NumPy's broadcasting of the non-batch dimensions; the batch is never broadcast, a constant
 * may be (without its batch dimension, or with size 1 there).  No operand may be a trainable parameter. */
PSG_API psg_var psg_add(psg_tape *tape, psg_var a, psg_var b);
PSG_API psg_var psg_mul(psg_tape *tape, psg_var a, psg_var b);
/* factor * x */
typedef struct psg_scale_attributes { double factor; } psg_scale_attributes;
PSG_API psg_var psg_scale(psg_tape *tape, psg_var x, double factor);

/* Over one dimension, negative ones counted from the end.  Not the batch dimension in a per-sample pass. */
typedef struct psg_softmax_attributes { int dim; } psg_softmax_attributes;
PSG_API psg_var psg_softmax(psg_tape *tape, psg_var x, int dim);

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

/* ---- losses ---- */

/* Zero is PyTorch's default.  PSG_NONE keeps one loss an element; start its backward with psg_backward_from. */
typedef enum psg_reduction { PSG_MEAN = 0, PSG_SUM = 1, PSG_NONE = 2 } psg_reduction;

/* -sum_c q_c log softmax(x)_c, with q the label smoothed: (1 - s) [c = target] + s / C.
 * logits (N, C, *), target integers (N, *) in [0, C).  Mean divides by the number of targets that are not ignored. */
typedef struct psg_cross_entropy_options {
    psg_reduction reduction;
    int has_ignore_index;      /* with PSG_MEAN couples the batch: refused in a per-sample pass (use PSG_SUM) */
    int64_t ignore_index;
    double label_smoothing;
} psg_cross_entropy_options;
#define PSG_CROSS_ENTROPY_INIT { PSG_MEAN, 0, 0, 0.0 }
/* options NULL: mean. */
PSG_API psg_var psg_cross_entropy(psg_tape *tape, psg_var logits, psg_var target,
                                  const psg_cross_entropy_options *options);

typedef struct psg_loss_attributes { psg_reduction reduction; } psg_loss_attributes;
/* (x - y)^2; x and y of one shape. */
PSG_API psg_var psg_mse(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction);
/* max(x, 0) - x y + log(1 + exp(-|x|)). */
PSG_API psg_var psg_binary_cross_entropy_with_logits(psg_tape *tape, psg_var x, psg_var target,
                                                     psg_reduction reduction);

#ifdef __cplusplus
}
#endif
#endif
