/* Ops whose output is elements of the input in other places, as op->view says: slice, select, flip, permute, transpose,
 * reshape, flatten, squeeze, unsqueeze. */
#ifndef PSG_OPS_VIEWS_H
#define PSG_OPS_VIEWS_H

#include "psg/op.h"

extern const char *const psg_view_input_names[1];

/* The output is a copy of the view. */
psg_status psg_view_forward(psg_call *call);
/* What the view leaves out has gradient 0. */
psg_status psg_view_backward(psg_call *call);
/* Declares an output of the view's shape. */
psg_status psg_view_output(psg_call *call);

#endif
