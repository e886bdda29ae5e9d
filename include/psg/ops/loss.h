/* psg/ops/loss.h: losses. */
#ifndef PSG_PUBLIC_OPS_LOSS_H
#define PSG_PUBLIC_OPS_LOSS_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero is PyTorch's default.  Whatever it is, gradients of a sample are those of its own loss.  PSG_NONE keeps one loss
 * an element; start its backward with psg_backward_from.
 * PSG_BATCH_MEAN divides the sum by the number of samples: psg_kl_div alone. */
typedef enum psg_reduction { PSG_MEAN = 0, PSG_SUM = 1, PSG_NONE = 2, PSG_BATCH_MEAN = 3 } psg_reduction;

/* -sum_c w_c q_c log softmax(x)_c.  logits (N, C, *); target either integers (N, *) in [0, C), q the label smoothed:
 * (1 - s) [c = target] + s / C, or real (N, C, *), probabilities: q = (1 - s) target + s / C.  weight: a constant (C).
 * Mean divides by the number of targets that are not ignored, with weight by the sum of the weights of those labels;
 * of real targets always by the number of positions.  A class of which w_c q_c is 0 does not count, whatever its logit
 * (PyTorch: NaN where that is -inf), nor does a label of weight 0.  A logit of +inf makes NaN. */
typedef struct psg_cross_entropy_options {
    psg_reduction reduction;
    int has_ignore_index;      /* with PSG_MEAN couples the batch: refused in a per-sample pass (use PSG_SUM); so does
                                  weight with PSG_MEAN and integer targets */
    int64_t ignore_index;
    double label_smoothing;
    int class_last;            /* logits, and a real target, are (N, *, C), as a linear layer over positions makes them:
                                  several times faster with many classes, and needs no transpose */
    uint64_t reserved[4];
} psg_cross_entropy_options;
#define PSG_CROSS_ENTROPY_OPTIONS_INIT { PSG_MEAN, 0, 0, 0.0, 0, { 0, 0, 0, 0 } }
/* Cross entropy, as above.  options NULL: mean. */
PSG_API psg_var psg_cross_entropy(psg_tape *tape, psg_var logits, psg_var target,
                                  const psg_cross_entropy_options *options);
PSG_API psg_var psg_cross_entropy_weighted(psg_tape *tape, psg_var logits, psg_var target, psg_var weight,
                                           const psg_cross_entropy_options *options);
/* -w_t x_t of log-probabilities x (N, C, *) and integer targets t (N, *); weight (C) a constant, or psg_none().
 * Reductions and labels of weight 0 as above. */
typedef struct psg_nll_options {
    psg_reduction reduction;
    int has_ignore_index;
    int64_t ignore_index;
    uint64_t reserved[4];
} psg_nll_options;
#define PSG_NLL_OPTIONS_INIT { PSG_MEAN, 0, 0, { 0, 0, 0, 0 } }
PSG_API psg_var psg_nll(psg_tape *tape, psg_var log_probabilities, psg_var target, psg_var weight,
                        const psg_nll_options *options);

/* Elementwise, of an input x and a target y of one shape; both may want gradients.  Where a formula says 0 times
 * infinity the 0 wins, and infinite arguments give limits (PyTorch: NaN): binary_cross_entropy_with_logits of inf and
 * target 1 is 0, kl_div of -inf and target 0 too, with gradients 0.  Sums and means are formed in double: no square
 * overflows f32.  l1 of inf and inf is NaN, as is every loss of a NaN. */
typedef struct psg_loss_attributes { psg_reduction reduction; } psg_loss_attributes;
/* (x - y)^2 */
PSG_API psg_var psg_mse(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction);
/* |x - y|, slope 0 at 0. */
PSG_API psg_var psg_l1(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction);
/* d = |x - y| < beta: d^2 / (2 beta), else d - beta / 2.  beta finite, >= 0; PyTorch's is 1. */
typedef struct psg_smooth_l1_attributes {
    psg_reduction reduction;
    double beta;
} psg_smooth_l1_attributes;
PSG_API psg_var psg_smooth_l1(psg_tape *tape, psg_var x, psg_var target, double beta, psg_reduction reduction);
/* d = |x - y| <= delta: d^2 / 2, else delta (d - delta / 2).  delta > 0; PyTorch's is 1. */
typedef struct psg_huber_attributes {
    psg_reduction reduction;
    double delta;
} psg_huber_attributes;
PSG_API psg_var psg_huber(psg_tape *tape, psg_var x, psg_var target, double delta, psg_reduction reduction);
/* max(x, 0) - x y + log(1 + exp(-|x|)). */
PSG_API psg_var psg_binary_cross_entropy_with_logits(psg_tape *tape, psg_var x, psg_var target,
                                                     psg_reduction reduction);
/* -y log x - (1 - y) log(1 - x), the logarithms at least -100; x in [0, 1], else PSG_ERR_ARGUMENT.  The gradient is
 * (1 - y) / (1 - x) - y / x where x is neither 0 nor 1 (PyTorch: (x - y) / max(x (1 - x), 1e-12)), however large; at 0
 * the second term is 0 and at 1 the first, for a bounded logarithm is flat. */
PSG_API psg_var psg_binary_cross_entropy(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction);
/* y (log y - x), x a log-probability; log_target: the target is log y. */
typedef struct psg_kl_div_attributes {
    psg_reduction reduction;
    int log_target;
} psg_kl_div_attributes;
PSG_API psg_var psg_kl_div(psg_tape *tape, psg_var x, psg_var target, int log_target, psg_reduction reduction);
/* exp(x) - y x; input_is_rate: x - y log(x + eps).  full: plus Stirling's y log y - y + log(2 pi y) / 2 where y > 1. */
typedef struct psg_poisson_nll_options {
    psg_reduction reduction;
    int input_is_rate, full;
    double eps;             /* 0: 1e-8 */
    uint64_t reserved[4];
} psg_poisson_nll_options;
#define PSG_POISSON_NLL_OPTIONS_INIT { PSG_MEAN, 0, 0, 0.0, { 0, 0, 0, 0 } }
PSG_API psg_var psg_poisson_nll(psg_tape *tape, psg_var x, psg_var target, const psg_poisson_nll_options *options);
/* log(1 + exp(-y x)) */
PSG_API psg_var psg_soft_margin(psg_tape *tape, psg_var x, psg_var target, psg_reduction reduction);
/* x where y is 1, max(0, margin - x) where it is -1; PyTorch's margin is 1.  No gradient of the target. */
typedef struct psg_hinge_embedding_attributes {
    psg_reduction reduction;
    double margin;
} psg_hinge_embedding_attributes;
PSG_API psg_var psg_hinge_embedding(psg_tape *tape, psg_var x, psg_var target, double margin, psg_reduction reduction);

#ifdef __cplusplus
}
#endif
#endif
