/* psg/ops/arithmetic.h: sums and products of values. */
#ifndef PSG_PUBLIC_OPS_ARITHMETIC_H
#define PSG_PUBLIC_OPS_ARITHMETIC_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sum and product with NumPy's broadcasting of the non-batch dimensions; the batch is never broadcast, a constant
 * may be (without its batch dimension, or with size 1 there).  No operand may be a trainable parameter. */
PSG_API psg_var psg_add(psg_tape *tape, psg_var a, psg_var b);
PSG_API psg_var psg_mul(psg_tape *tape, psg_var a, psg_var b);
/* factor * x */
typedef struct psg_scale_attributes { double factor; } psg_scale_attributes;
PSG_API psg_var psg_scale(psg_tape *tape, psg_var x, double factor);

#ifdef __cplusplus
}
#endif
#endif
