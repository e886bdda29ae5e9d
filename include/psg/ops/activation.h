/* psg/ops/activation.h: elementwise functions, softmax, dropout. */
#ifndef PSG_PUBLIC_OPS_ACTIVATION_H
#define PSG_PUBLIC_OPS_ACTIVATION_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

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

/* Over one dimension, negative ones counted from the end.  Not the batch dimension in a per-sample pass. */
typedef struct psg_softmax_attributes { int dim; } psg_softmax_attributes;
PSG_API psg_var psg_softmax(psg_tape *tape, psg_var x, int dim);

#ifdef __cplusplus
}
#endif
#endif
