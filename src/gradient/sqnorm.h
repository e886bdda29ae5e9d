#ifndef PSG_GRADIENT_SQNORM_H
#define PSG_GRADIENT_SQNORM_H

#include "gradient/block.h"

/* Adds the squared norms of gradient k of a checked set, and their upper bounds, to sqnorm and upper (B doubles each);
 * adds its bias partner's with them; nothing when k is itself a partner.  The bound also covers the gradient as any
 * route computes it in the real type.  room (B, or NULL): combined with the most by which a weighted sum's f32 product
 * of weight and gradient may be off where it leaves the normal numbers.  *fallbacks counts the samples done anew by
 * tiles. */
void psg_add_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, size_t k, double *sqnorm,
                    double *upper, double *room, int64_t *fallbacks);

/* The same from gradients kept by psg_keep_with_squares, whose squares (parts a sample) are given. */
void psg_add_kept_sqnorm(psg_context *context, const psg_gradient *gradient, const double *squares, size_t parts,
                         double *sqnorm, double *upper);

#endif
