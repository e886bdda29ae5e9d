/* psg/ops/norm.h: normalization. */
#ifndef PSG_PUBLIC_OPS_NORM_H
#define PSG_PUBLIC_OPS_NORM_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = (x - mean) / sqrt(var + eps) * weight + bias over the last `rank` dimensions, population variance.
 * x (N, *, *normalized_shape); weight, bias (*normalized_shape) or psg_none().  The batch dimension must not be
 * normalized over. */
typedef struct psg_layer_norm_attributes {
    int rank;
    int64_t normalized_shape[PSG_MAX_RANK];
    double eps;
} psg_layer_norm_attributes;
PSG_API psg_var psg_layer_norm(psg_tape *tape, psg_var x, int rank, const int64_t *normalized_shape, psg_var weight,
                               psg_var bias, double eps);

/* The same over each of num_groups groups of channels.  x (N, C, *), rank >= 2; weight, bias (C) or psg_none(). */
typedef struct psg_group_norm_attributes {
    int64_t num_groups;
    double eps;
} psg_group_norm_attributes;
PSG_API psg_var psg_group_norm(psg_tape *tape, psg_var x, int64_t num_groups, psg_var weight, psg_var bias, double eps);

#ifdef __cplusplus
}
#endif
#endif
