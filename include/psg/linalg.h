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
 * matrix. */
PSG_API double psg_effective_rank(const double *eigenvalues, int64_t batch_size);

/* The damped natural-gradient direction for the empirical Fisher matrix F = J^T J / B, J (B x P) the per-sample
 * gradients:
 *   out = (damping I + F)^-1 v = (v - J^T (damping B I + J J^T)^-1 J v) / damping
 * by a Cholesky solve of size B (Woodbury).  v and outs: one contiguous tensor a gradient, of its real type; damping >
 * 0. */
PSG_API psg_status psg_natural_gradient(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                        double damping, const psg_tensor *v, const psg_tensor *outs);

#ifdef __cplusplus
}
#endif
#endif
