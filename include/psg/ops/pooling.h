/* psg/ops/pooling.h: pooling. */
#ifndef PSG_PUBLIC_OPS_POOLING_H
#define PSG_PUBLIC_OPS_POOLING_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x (N, C, *X) with 1, 2 or 3 spatial dimensions X, none of them 0.  Of arrays of three the entries of the spatial
 * dimensions are read, the first ones; of stride, and of dilation, all of them are given or none (PSG_ALL(n) is one
 * number for each).  Along a dimension of size X, window o begins at o * stride - padding and the
 * number of windows is
 *     1 + floor((X + 2 padding - dilation (kernel_size - 1) - 1) / stride)
 * and with ceil_mode that of the ceiling, less one when the last window would begin past the left padding and the
 * input.  padding is at most half of kernel_size; an output size below 1 is PSG_ERR_SHAPE. */

/* The maximum of each window; padding counts as -Inf.  The gradient goes to the first of equal maxima.  A NaN in a
 * window is its maximum. */
typedef struct psg_max_pool_options {
    int64_t stride[3];         /* 0: kernel_size */
    int64_t padding[3];
    int64_t dilation[3];       /* 0: 1 */
    int ceil_mode;
    uint64_t reserved[4];
} psg_max_pool_options;
#define PSG_MAX_POOL_OPTIONS_INIT { { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 }, 0, { 0, 0, 0, 0 } }
typedef struct psg_max_pool_attributes {
    int64_t kernel_size[3];
    psg_max_pool_options options;
    int spatial;               /* dimensions, which the rank of x must confirm; 0: those that it has */
} psg_max_pool_attributes;
/* Max pooling, as above.  kernel_size: an entry a spatial dimension.  options NULL: the defaults. */
PSG_API psg_var psg_max_pool1d(psg_tape *tape, psg_var x, int64_t kernel_size, const psg_max_pool_options *options);
PSG_API psg_var psg_max_pool2d(psg_tape *tape, psg_var x, const int64_t *kernel_size,
                               const psg_max_pool_options *options);
PSG_API psg_var psg_max_pool3d(psg_tape *tape, psg_var x, const int64_t *kernel_size,
                               const psg_max_pool_options *options);

/* The sum of each window over its divisor: the elements of the window that lie in the input or its padding (past the
 * right padding, where ceil_mode may reach, nothing counts).  A sum may leave the range of the type where the result
 * does not (PyTorch: Inf). */
typedef struct psg_avg_pool_options {
    int64_t stride[3];         /* 0: kernel_size */
    int64_t padding[3];
    int ceil_mode;
    int count_exclude_pad;     /* non-zero: the divisor counts no padding (count_include_pad = False) */
    int64_t divisor_override;  /* the divisor of all windows; 0: none */
    uint64_t reserved[4];
} psg_avg_pool_options;
#define PSG_AVG_POOL_OPTIONS_INIT { { 0, 0, 0 }, { 0, 0, 0 }, 0, 0, 0, { 0, 0, 0, 0 } }
typedef struct psg_avg_pool_attributes {
    int64_t kernel_size[3];
    psg_avg_pool_options options;
    int spatial;               /* as above */
} psg_avg_pool_attributes;
PSG_API psg_var psg_avg_pool1d(psg_tape *tape, psg_var x, int64_t kernel_size, const psg_avg_pool_options *options);
PSG_API psg_var psg_avg_pool2d(psg_tape *tape, psg_var x, const int64_t *kernel_size,
                               const psg_avg_pool_options *options);
PSG_API psg_var psg_avg_pool3d(psg_tape *tape, psg_var x, const int64_t *kernel_size,
                               const psg_avg_pool_options *options);

/* Windows such that the output has output_size O along each dimension of size X: output o covers the elements
 * [floor(o X / O), ceil((o + 1) X / O)).  -1: the input's own size. */
typedef struct psg_adaptive_pool_attributes {
    int64_t output_size[3];
    int spatial;               /* as above */
} psg_adaptive_pool_attributes;
PSG_API psg_var psg_adaptive_avg_pool1d(psg_tape *tape, psg_var x, int64_t output_size);
PSG_API psg_var psg_adaptive_avg_pool2d(psg_tape *tape, psg_var x, const int64_t *output_size);
PSG_API psg_var psg_adaptive_avg_pool3d(psg_tape *tape, psg_var x, const int64_t *output_size);
PSG_API psg_var psg_adaptive_max_pool1d(psg_tape *tape, psg_var x, int64_t output_size);
PSG_API psg_var psg_adaptive_max_pool2d(psg_tape *tape, psg_var x, const int64_t *output_size);
PSG_API psg_var psg_adaptive_max_pool3d(psg_tape *tape, psg_var x, const int64_t *output_size);

#ifdef __cplusplus
}
#endif
#endif
