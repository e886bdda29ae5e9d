/* psg/ops/weight.h: effective weights, derived from parameters.
 *
 * An effective weight is a value without a batch, computed from parameters and constants alone.  Every layer takes it
 * where it takes a parameter, any number of times, also beside the raw parameter, and the parameters it is derived from
 * get per-sample gradients: each sample's gradient of the effective weight is pulled back row by row, in double, before
 * samples meet (PSG_DERIVED in psg/gradient.h).
 *
 *     psg_var w = psg_weight_standardize(tape, psg_use(tape, weight), psg_use(tape, gain), NULL);
 *     psg_var y = psg_conv2d(tape, x, w, psg_use(tape, bias), NULL);
 *
 * Errors: an input that is computed from the batch or is an effective weight itself, and rows of more than
 * PSG_MOST_DERIVED_COLUMNS elements that want a gradient, are PSG_ERR_UNSUPPORTED.  Rows are computed in double,
 * whatever their magnitude: squares neither overflow nor vanish. */
#ifndef PSG_PUBLIC_OPS_WEIGHT_H
#define PSG_PUBLIC_OPS_WEIGHT_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every row of weight (O, *), its n = prod(*) elements w, standardized by their mean and population variance:
 *
 *     gain (w - mean) / sqrt(var + eps)             by_fan_in 0: Qiao et al. 2019, timm's StdConv2d; eps 1e-6
 *     gain (w - mean) / sqrt(max(n var, eps))       by_fan_in 1: Brock et al. 2021, De et al. 2022, haiku; eps 1e-4
 *
 * gain: (O), (O, 1, ..) or psg_none() for 1.  Where n var <= eps the second form has the slope of (w - mean) /
 * sqrt(eps).  A row of equal elements gives zeros, and the gradient zero when eps is 0.  There is no form with n - 1 in
 * the variance, or with eps outside the root.  Errors: eps negative, infinite or NaN PSG_ERR_ARGUMENT. */
typedef struct psg_weight_standardize_options {
    int by_fan_in;
    int has_eps;               /* 0: the eps above */
    double eps;
    uint64_t reserved[4];
} psg_weight_standardize_options;
#define PSG_WEIGHT_STANDARDIZE_OPTIONS_INIT { 0, 0, 0.0, { 0, 0, 0, 0 } }
PSG_API psg_var psg_weight_standardize(psg_tape *tape, psg_var weight, psg_var gain,
                                       const psg_weight_standardize_options *options);

/* g v / ||v||, the norm that of each slice of v along dim (PyTorch's weight_norm), or of all of v.  g: one element a
 * slice, (v.shape[dim]) or v's shape with ones elsewhere; of one element for all of v; psg_none() for 1.  A slice of
 * zeros gives zeros and has the gradient zero (PyTorch: NaN). */
typedef struct psg_weight_norm_options {
    int dim;                   /* negative ones are counted from the end */
    int over_all;              /* non-zero: PyTorch's dim None, which it also writes as -1; dim is not read */
    uint64_t reserved[4];
} psg_weight_norm_options;
#define PSG_WEIGHT_NORM_OPTIONS_INIT { 0, 0, { 0, 0, 0, 0 } }
PSG_API psg_var psg_weight_norm(psg_tape *tape, psg_var v, psg_var g, const psg_weight_norm_options *options);

/* y_o = scale <x, w_o> / (sqrt(||x||^2 + eps) ||w_o||): the cosine between x and each row of weight, times scale.
 * x (N, *, in), weight (out, in); y (N, *, out).  Records rms_norm, weight_norm, linear and scale.  A row of zeros has
 * cosine 0; so has x = 0 where eps > 0. */
PSG_API psg_var psg_cosine_linear(psg_tape *tape, psg_var x, psg_var weight, double scale, double eps);

#ifdef __cplusplus
}
#endif
#endif
