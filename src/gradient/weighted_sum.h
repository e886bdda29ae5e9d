#ifndef PSG_GRADIENT_WEIGHTED_SUM_H
#define PSG_GRADIENT_WEIGHTED_SUM_H

#include "gradient/block.h"

/* T = 1: samples whose products are summed in the real type before they are added in double.  Fewer cost
 * time (64: 8 % of the sum, 128: 4 %), more need a larger margin in clipped_sum (0.8 and 1.6 % for 1,024 samples). */
#define PSG_SAMPLES_A_FLUSH 64

/* out = or += sum_n weights[n] grad[n] of one checked gradient; weights NULL: ones. */
void psg_sum_gradient(psg_context *context, const psg_gradient *gradient, const double *weights, psg_write write,
                      const psg_tensor *out);

/* The same from B x P gradients kept by psg_keep_with_squares. */
void psg_sum_kept(psg_context *context, const psg_gradient *gradient, const void *kept, const double *weights,
                  psg_write write, const psg_tensor *out);

/* out = or += sum_n grad[n]^2 of one gradient whose single block is given. */
void psg_sum_squares_of_piece(psg_context *context, const psg_piece *piece, psg_write write, const psg_tensor *out);

#endif
