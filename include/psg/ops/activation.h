/* psg/ops/activation.h: elementwise functions, softmax, dropout. */
#ifndef PSG_PUBLIC_OPS_ACTIVATION_H
#define PSG_PUBLIC_OPS_ACTIVATION_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Elementwise.  NaN gives NaN, value and derivative; +-Inf gives their limits (PyTorch: NaN of gelu, silu, mish,
 * hardswish and softsign).  At kinks the derivative is PyTorch's: of relu 0 at 0, of hardtanh 0 at both ends. */
PSG_API psg_var psg_relu(psg_tape *tape, psg_var x);
PSG_API psg_var psg_relu6(psg_tape *tape, psg_var x);         /* x in [0, 6] */
PSG_API psg_var psg_tanh(psg_tape *tape, psg_var x);
PSG_API psg_var psg_sigmoid(psg_tape *tape, psg_var x);
PSG_API psg_var psg_logsigmoid(psg_tape *tape, psg_var x);    /* log sigmoid(x) */
PSG_API psg_var psg_silu(psg_tape *tape, psg_var x);          /* x sigmoid(x) */
PSG_API psg_var psg_mish(psg_tape *tape, psg_var x);          /* x tanh(log(1 + exp x)) */
PSG_API psg_var psg_hardsigmoid(psg_tape *tape, psg_var x);   /* (x + 3) / 6 in [0, 1] */
PSG_API psg_var psg_hardswish(psg_tape *tape, psg_var x);     /* x hardsigmoid(x) */
PSG_API psg_var psg_softsign(psg_tape *tape, psg_var x);      /* x / (1 + |x|) */
PSG_API psg_var psg_tanhshrink(psg_tape *tape, psg_var x);    /* x - tanh x */
PSG_API psg_var psg_exp(psg_tape *tape, psg_var x);
PSG_API psg_var psg_log(psg_tape *tape, psg_var x);
PSG_API psg_var psg_sqrt(psg_tape *tape, psg_var x);
PSG_API psg_var psg_square(psg_tape *tape, psg_var x);
PSG_API psg_var psg_abs(psg_tape *tape, psg_var x);           /* slope 0 at 0 */
PSG_API psg_var psg_sin(psg_tape *tape, psg_var x);
PSG_API psg_var psg_cos(psg_tape *tape, psg_var x);

/* Elementwise with numbers, none of them NaN: PSG_ERR_ARGUMENT.  With those that f32 lacks, such as 1e-50, x of f32 is
 * computed in double. */
/* x > 0: x, else alpha (exp(x) - 1); alpha finite. */
typedef struct psg_elu_attributes { double alpha; } psg_elu_attributes;
PSG_API psg_var psg_elu(psg_tape *tape, psg_var x, double alpha);
/* x > 0: x, else alpha (exp(x / alpha) - 1); alpha finite and not 0. */
typedef struct psg_celu_attributes { double alpha; } psg_celu_attributes;
PSG_API psg_var psg_celu(psg_tape *tape, psg_var x, double alpha);
/* The elu of Klambauer et al. (2017), times 1.0507..., alpha 1.6732... */
PSG_API psg_var psg_selu(psg_tape *tape, psg_var x);
/* x > 0: x, else negative_slope x, of which 0 makes relu; finite. */
typedef struct psg_leaky_relu_attributes { double negative_slope; } psg_leaky_relu_attributes;
PSG_API psg_var psg_leaky_relu(psg_tape *tape, psg_var x, double negative_slope);
/* log(1 + exp(beta x)) / beta, and x itself where beta x > threshold; PyTorch's are 1 and 20.  beta finite, not 0. */
typedef struct psg_softplus_attributes { double beta, threshold; } psg_softplus_attributes;
PSG_API psg_var psg_softplus(psg_tape *tape, psg_var x, double beta, double threshold);
/* x in [min_val, max_val]; min_val <= max_val. */
typedef struct psg_hardtanh_attributes { double min_val, max_val; } psg_hardtanh_attributes;
PSG_API psg_var psg_hardtanh(psg_tape *tape, psg_var x, double min_val, double max_val);
/* x - lambda, x + lambda, or 0 where |x| <= lambda; lambda >= 0. */
typedef struct psg_softshrink_attributes { double lambda; } psg_softshrink_attributes;
PSG_API psg_var psg_softshrink(psg_tape *tape, psg_var x, double lambda);
/* x, or 0 where |x| <= lambda. */
typedef struct psg_hardshrink_attributes { double lambda; } psg_hardshrink_attributes;
PSG_API psg_var psg_hardshrink(psg_tape *tape, psg_var x, double lambda);
/* x > threshold: x, else value. */
typedef struct psg_threshold_attributes { double threshold, value; } psg_threshold_attributes;
PSG_API psg_var psg_threshold(psg_tape *tape, psg_var x, double threshold, double value);
/* x Phi(x); approximate_tanh: the tanh approximation of Hendrycks and Gimpel (2016). */
typedef struct psg_gelu_attributes { int approximate_tanh; } psg_gelu_attributes;
PSG_API psg_var psg_gelu(psg_tape *tape, psg_var x, int approximate_tanh);
/* x where x > 0, else weight times x.  weight () or (1), or (C) with a channel each, the dimension beside the batch:
 * dimension 1, or 0 of (C, N, *) under batch_second.  The weight's gradient is rows.  A weight of 0 makes NaN of -Inf,
 * unlike a negative_slope of 0: the gradient of the weight is infinite there. */
PSG_API psg_var psg_prelu(psg_tape *tape, psg_var x, psg_var weight);
/* Zeroes elements with probability p and scales the rest by 1/(1-p); the mask of a sample depends on the pass's
 * stream (psg_pass.batch) or dropout_seed, the op's place on the tape, the sample's id and its view only: a per-sample
 * pass must have batch or sample_ids (PSG_ERR_STATE).  0 <= p <= 1.  The place is the number of ops
 * before it: of two dropouts in the arguments of one call, C does not say which is the first; give each a statement for
 * the same masks with every compiler. */
typedef struct psg_dropout_attributes { double p; } psg_dropout_attributes;
PSG_API psg_var psg_dropout(psg_tape *tape, psg_var x, double p);
/* The same for whole channels: one draw a sample and channel of (N, C, L), (N, C, H, W), (N, C, D, H, W). */
typedef struct psg_feature_dropout_attributes {
    double p;
    int spatial;    /* dimensions after the channels: input has rank spatial + 2 */
} psg_feature_dropout_attributes;
PSG_API psg_var psg_dropout1d(psg_tape *tape, psg_var x, double p);
PSG_API psg_var psg_dropout2d(psg_tape *tape, psg_var x, double p);
PSG_API psg_var psg_dropout3d(psg_tape *tape, psg_var x, double p);

/* a sigmoid(b), a and b the first and second half of x along dim, whose size is even; not the batch dimension. */
typedef struct psg_glu_attributes { int dim; } psg_glu_attributes;
PSG_API psg_var psg_glu(psg_tape *tape, psg_var x, int dim);

/* Over one dimension, negative ones counted from the end.  Not the batch dimension in a per-sample pass. */
typedef struct psg_softmax_attributes { int dim; } psg_softmax_attributes;
PSG_API psg_var psg_softmax(psg_tape *tape, psg_var x, int dim);
/* log softmax(x), without the logarithm of a 0 where softmax underflows. */
PSG_API psg_var psg_log_softmax(psg_tape *tape, psg_var x, int dim);
/* softmax(-x) */
PSG_API psg_var psg_softmin(psg_tape *tape, psg_var x, int dim);

#ifdef __cplusplus
}
#endif
#endif
