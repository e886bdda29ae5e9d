/* psg/ops/arithmetic.h: sums and products of values. */
#ifndef PSG_PUBLIC_OPS_ARITHMETIC_H
#define PSG_PUBLIC_OPS_ARITHMETIC_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* a + b, a - b, a b, a / b with NumPy's broadcasting of the non-batch dimensions; the batch is never broadcast, a
 * constant may be (without its batch dimension, or with size 1 there), and a parameter must be: a scale, a shift, a
 * table of positions, of shape (D), (T, D), (1, T, D) or (C, 1, 1), in a batch_second pass (T, 1, D).  One operand
 * of a per-sample pass carries the batch.  Gradients of parameters: rows, the output gradient (times what it is
 * multiplied by) summed over the dimensions along which the parameter is repeated. */
PSG_API psg_var psg_add(psg_tape *tape, psg_var a, psg_var b);
PSG_API psg_var psg_sub(psg_tape *tape, psg_var a, psg_var b);
PSG_API psg_var psg_mul(psg_tape *tape, psg_var a, psg_var b);
PSG_API psg_var psg_div(psg_tape *tape, psg_var a, psg_var b);
/* factor * x */
typedef struct psg_scale_attributes { double factor; } psg_scale_attributes;
PSG_API psg_var psg_scale(psg_tape *tape, psg_var x, double factor);
/* -x */
PSG_API psg_var psg_neg(psg_tape *tape, psg_var x);
/* a b, matrices in the last two dimensions, leading ones broadcast as in torch.matmul.  a (*, n, m), b (*, m, p),
 * result (*, n, p); a vector (m) is a row for a and a column for b, which the result has not.  The batch is a
 * leading dimension of every batched operand, in one place, or the rows of a: (N, m) by (m, p).  Either may be a
 * parameter: its gradient is factored, a block for each of its matrices. */
PSG_API psg_var psg_matmul(psg_tape *tape, psg_var a, psg_var b);

#ifdef __cplusplus
}
#endif
#endif
