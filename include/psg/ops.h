/* psg/ops.h: the functional ops, a header a family.
 *
 * Each records itself on the tape and returns its output.  Shapes: N is the batch, * any further dimensions.  An error
 * is kept on the tape.  Every op has an attributes struct where it takes more than operands, for psg_apply.
 *
 * All option structs of ops: zeroed means PyTorch's defaults, which is what PSG_<OP>_OPTIONS_INIT writes (with values
 * spelled out), but for ignore_index (none; PyTorch's is -100) and the layout of recurrent ops (the pass's). */
#ifndef PSG_OPS_H
#define PSG_OPS_H

#include "psg/ops/activation.h"
#include "psg/ops/arithmetic.h"
#include "psg/ops/attention.h"
#include "psg/ops/conv.h"
#include "psg/ops/embedding.h"
#include "psg/ops/linear.h"
#include "psg/ops/loss.h"
#include "psg/ops/norm.h"
#include "psg/ops/pooling.h"
#include "psg/ops/recurrent.h"
#include "psg/ops/shape.h"
#include "psg/ops/weight.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Applies an op by its registered name.  attributes is its psg_<op>_attributes, or psg_<op>_options where there is only
 * that (of the op or of its family: ops.md in share/doc/psg, which is src/ops/README.md, lists them), and NULL means
 * zeros.  The inputs are in the order of the functional form, where that records one op. */
PSG_API psg_var psg_apply(psg_tape *tape, const char *name, const psg_var *inputs, int input_count,
                          const void *attributes);

#ifdef __cplusplus
}
#endif
#endif
