#ifndef PSG_GRADIENT_GRAD_SAMPLE_H
#define PSG_GRADIENT_GRAD_SAMPLE_H

#include "gradient/block.h"

/* How many partial sums of squares psg_keep_with_squares gives a sample. */
size_t psg_kept_parts(const psg_gradient *gradient);

/* kept (B x P, contiguous) = the gradients; squares[n * parts + k]: their sums of squares, part by part. */
void psg_keep_with_squares(psg_context *context, const psg_gradient *gradient, void *kept, double *squares);

#endif
