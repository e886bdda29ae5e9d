/* psg/ops/loss.h: losses. */
#ifndef PSG_PUBLIC_OPS_LOSS_H
#define PSG_PUBLIC_OPS_LOSS_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

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
