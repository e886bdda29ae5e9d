/* The clipped sum of psg_dp: of integers, which is exact. */
#ifndef PSG_GRADIENT_CLIPPED_SUM_ON_GRID_H
#define PSG_GRADIENT_CLIPPED_SUM_ON_GRID_H

#include "psg/gradient.h"

/* outs[k] (PSG_I64, contiguous, of the shape of gradient k) += sum_n round(units c[n] grad_k[n]), each addend rounded
 * to integers by itself: a function of sample n alone, whatever the order, threads and micro-batches.  c[n] as in
 * psg_clipped_sum, but that a margin of 2^-40 is enough: adding a sample moves the concatenated outs by at most units C
 * + sqrt(D) / 2 in the Euclidean norm, D their elements.  The caller sees to it that units C is at most 2^48 and that
 * the sums stay in range. */
psg_status psg_clipped_sum_on_grid(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                   const psg_clip *clip, double units, const psg_tensor *outs, psg_clip_report *report);

#endif
