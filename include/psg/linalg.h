/* psg/linalg.h: what the B x B Gram matrix of per-sample gradients is for.  All in double, through LAPACKE. */
#ifndef PSG_LINALG_H
#define PSG_LINALG_H

#include "psg/gradient.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Eigenvalues of a symmetric B x B matrix (psg_gram), descending, negative rounding set to 0, in eigenvalues (B).
 * eigenvectors (or NULL): B x B, row k the unit vector of eigenvalue k.  gram is not changed. */
PSG_API psg_status psg_gram_spectrum(psg_context *context, const double *gram, int64_t batch_size, double *eigenvalues,
                                     double *eigenvectors);

/* (sum of eigenvalues)^2 / sum of squares: 1 when all gradients are parallel, B when orthogonal and equal; 0 for a zero
 * matrix or none.  Of any scale; NaN when an eigenvalue is NaN or Inf, or eigenvalues is NULL. */
PSG_API double psg_effective_rank(const double *eigenvalues, int64_t batch_size);

/* ---- natural gradients ----
 *
 * The damped natural-gradient direction for the empirical Fisher matrix F = J^T J / B, J (B x P) the per-sample
 * gradients:
 *   outs = (damping I + F)^-1 v
 * by products with J and problems of size B.  Everything is computed in double, f32 gradients from copies of their
 * blocks in double (twice the memory of the blocks, beside 2 P + 3 B^2 doubles), and rounded once into outs.
 *
 * damping > 0.  v, outs: one contiguous tensor a gradient, of its shape; each of its real type or PSG_F64.  outs may be
 * the same memory as v.
 *
 * error (or NULL) receives an estimate of ||computed - exact|| / ||exact||, before the rounding into outs: the residual
 * of the computed direction and the rounding of the products, as far as the system can amplify them.  It grows like
 * 2^-52 ||J||^2 / (B damping).  Where it exceeds 0.01, or outs cannot hold the result, the status is PSG_ERR_NUMERIC:
 * nothing is written to outs, but error is.  A gradient (by its squared norm in double), v or weights with NaN or Inf
 * are PSG_ERR_NONFINITE. */

/* Of a v that is given.  Its parts in the directions of F's eigenvalues above damping, found from the spectrum of J
 * J^T, are solved for in sample space; only the rest is divided by damping.  What the rounding of v moved out of the
 * span of the gradients, that division amplifies: where v is a weighted sum of them, ask
 * psg_natural_gradient_of_sum. */
PSG_API psg_status psg_natural_gradient(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                        double damping, const psg_tensor *v, const psg_tensor *outs, double *error);

/* v = J^T weights (weights NULL: 1 / B each, the mean gradient), never formed:
 *   outs = J^T (damping I + J J^T / B)^-1 weights
 * by a Cholesky solve.  Holds to dampings far below those of psg_natural_gradient. */
PSG_API psg_status psg_natural_gradient_of_sum(psg_context *context, const psg_gradient *const *gradients,
                                               size_t count, double damping, const double *weights,
                                               const psg_tensor *outs, double *error);

#ifdef __cplusplus
}
#endif
#endif
