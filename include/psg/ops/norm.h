/* psg/ops/norm.h: normalization. */
#ifndef PSG_PUBLIC_OPS_NORM_H
#define PSG_PUBLIC_OPS_NORM_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Weights and biases are parameters, constants, or psg_none(): each may be absent or frozen without the other.
 * Variances are population variances; a negative eps is allowed where var + eps stays positive (else NaN).  Finite
 * inputs of any magnitude are normalized, also where their squares leave the range of the type (PyTorch: 0, NaN, Inf);
 * equal elements with eps 0 are 0 / 0, NaN.
 * PyTorch's default eps is 1e-5. */

/* y = (x - mean) / sqrt(var + eps) * weight + bias over the last `rank` dimensions.
 * x (N, *, *normalized_shape); weight, bias (*normalized_shape).  The batch dimension must not be normalized over in a
 * per-sample pass. */
typedef struct psg_layer_norm_attributes {
    int rank;
    int64_t normalized_shape[PSG_MAX_RANK];
    double eps;
} psg_layer_norm_attributes;
PSG_API psg_var psg_layer_norm(psg_tape *tape, psg_var x, int rank, const int64_t *normalized_shape, psg_var weight,
                               psg_var bias, double eps);

/* y = x / sqrt(mean(x^2) + eps) * weight, the same dimensions.  eps NAN (has_eps 0): the machine epsilon of the real
 * type, 2^-23 or 2^-52. */
typedef struct psg_rms_norm_attributes {
    int rank;
    int64_t normalized_shape[PSG_MAX_RANK];
    int has_eps;
    double eps;
} psg_rms_norm_attributes;
PSG_API psg_var psg_rms_norm(psg_tape *tape, psg_var x, int rank, const int64_t *normalized_shape, psg_var weight,
                             double eps);

/* layer_norm's formula over each of num_groups groups of channels.  x (N, C, *), rank >= 2; weight, bias (C).  A group
 * of one element is allowed: its output is the bias. */
typedef struct psg_group_norm_attributes {
    int64_t num_groups;
    double eps;
} psg_group_norm_attributes;
PSG_API psg_var psg_group_norm(psg_tape *tape, psg_var x, int64_t num_groups, psg_var weight, psg_var bias, double eps);

/* Running statistics below are arrays of the caller's, contiguous, (C), of x's type, both given or both NULL.  They are
 * read and written while the op is recorded, and not later:
 *   running_mean = (1 - momentum) running_mean + momentum * mean
 *   running_var  = (1 - momentum) running_var  + momentum * variance with n - 1 in place of n
 * A variance that the type does not hold is Inf.
 * An update is a change of the model that clipping and noise do not protect: a per-sample pass refuses it
 * (PSG_ERR_UNSUPPORTED) unless psg_pass.allow_updates says so.  An input without elements updates nothing. */

/* Each channel of each sample by its own mean and variance over *, which must be more than one element: group_norm with
 * C groups.  x (N, C, *); weight, bias (C).  Running statistics are updated by the mean over the samples of their means
 * and variances.  use_input_stats 0: normalized by the running statistics instead, which are required; exact in every
 * pass. */
typedef struct psg_instance_norm_attributes {
    const psg_tensor *running_mean, *running_var;
    int use_input_stats;
    double momentum, eps;
} psg_instance_norm_attributes;
PSG_API psg_var psg_instance_norm(psg_tape *tape, psg_var x, const psg_tensor *running_mean,
                                  const psg_tensor *running_var, psg_var weight, psg_var bias, int use_input_stats,
                                  double momentum, double eps);

/* x (N, C, *), rank >= 2; weight, bias (C).  training 0: each channel by the running statistics, which are required;
 * exact in every pass.  Otherwise by the mean and variance over N and *, more than one element, which couples the
 * samples: an ordinary pass only. */
typedef struct psg_batch_norm_attributes {
    const psg_tensor *running_mean, *running_var;
    int training;
    double momentum, eps;
} psg_batch_norm_attributes;
PSG_API psg_var psg_batch_norm(psg_tape *tape, psg_var x, const psg_tensor *running_mean,
                               const psg_tensor *running_var, psg_var weight, psg_var bias, int training,
                               double momentum, double eps);

#ifdef __cplusplus
}
#endif
#endif
