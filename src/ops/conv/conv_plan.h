/* How a convolution is cut: phases along its axes, parts of its kernel, boxes of positions for tasks. */
#ifndef PSG_OPS_CONV_PLAN_H
#define PSG_OPS_CONV_PLAN_H

#include "kernels.h"
#include "ops/conv/conv_geometry.h"

/* A part of the kernel along one axis: taps [first, first + count). */
typedef struct psg_conv_part {
    int64_t first, count;
} psg_conv_part;

/* One direction of a geometry: conv holds arrays, strides and channels; the rest is found here. */
typedef struct psg_conv_plan {
    const psg_conv_geometry *geometry;
    bool scatter;
    psg_conv conv;
    psg_conv_phase *phases;                /* psg_conv_phase_count of them, the caller's */
    psg_conv_part kernel[PSG_CONV_AXES];   /* the part being summed */
    int64_t length[PSG_CONV_AXES];         /* taps of a part */
} psg_conv_plan;

size_t psg_conv_phase_count(const psg_conv_plan *plan);

/* Starts with the first part of the kernel: the whole one unless its windows are too large for a task.  Returns whether
 * there is another part, and goes to it. */
void psg_conv_first_part(psg_conv_plan *plan);
bool psg_conv_next_part(psg_conv_plan *plan);

/* Cuts the positions into boxes and the samples and groups into tasks, and returns how many tasks there are.  direct:
 * for the kernels of few channels.  sums: each box is summed over, so that boxes must not depend on the samples. */
size_t psg_conv_cut(psg_conv_plan *plan, bool direct, bool sums);

#endif
