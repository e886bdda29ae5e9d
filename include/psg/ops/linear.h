/* psg/ops/linear.h: linear maps of the last dimension. */
#ifndef PSG_PUBLIC_OPS_LINEAR_H
#define PSG_PUBLIC_OPS_LINEAR_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = x W^T + b.  x (N, *, in), weight (out, in), bias (out) or psg_none(); y (N, *, out).
 * Gradients: weight factored, bias rows.  x of rank < 2 is PSG_ERR_SHAPE: it has no batch dimension. */
PSG_API psg_var psg_linear(psg_tape *tape, psg_var x, psg_var weight, psg_var bias);

/* y_o = x1^T W_o x2 + b_o.  x1 (N, *, in1), x2 (N, *, in2), weight (out, in1, in2), bias (out) or psg_none();
 * y (N, *, out).  Gradients: weight factored, or rows when there are more positions than outputs and than in2; bias
 * rows. */
PSG_API psg_var psg_bilinear(psg_tape *tape, psg_var x1, psg_var x2, psg_var weight, psg_var bias);

#ifdef __cplusplus
}
#endif
#endif
