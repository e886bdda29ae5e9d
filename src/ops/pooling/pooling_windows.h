/* What the poolings share: windows, their tables, maxima and means over them. */
#ifndef PSG_OPS_POOLING_WINDOWS_H
#define PSG_OPS_POOLING_WINDOWS_H

#include <stdbool.h>

#include "psg/op.h"

/* The windows along one spatial dimension. */
typedef struct psg_pooling_axis {
    int64_t in, out;
    int64_t kernel, stride, padding, dilation;   /* adaptive: kernel 0, the others unused */
    bool exclude_padding;                        /* from the divisor of a mean */
} psg_pooling_axis;

typedef struct psg_pooling_windows {
    int spatial;                                 /* axes in use */
    psg_pooling_axis axis[3];
    int64_t divisor;                             /* of a mean; 0: the size of each window */
} psg_pooling_windows;

/* What a pooling's descriptor has for traits. */
typedef struct psg_pooling_traits {
    psg_status (*windows)(psg_call *call, psg_pooling_windows *windows);   /* of the attributes, checked */
    bool is_max;                                                           /* else a mean */
} psg_pooling_traits;

extern const char *const psg_pooling_input_names[1];

/* A real input (N, C, *X) that carries the batch, of that many spatial dimensions (0: what its rank says), none 0 and a
 * plane below 2^31 elements; sets spatial and the input sizes. */
psg_status psg_pooling_input(psg_call *call, int spatial, psg_pooling_windows *windows);

/* The windows of fixed kernels: checks the arguments (stride 0: kernel, dilation 0: 1; dilation NULL: 1) and sets every
 * axis. */
psg_status psg_pooling_fixed(psg_call *call, const int64_t *kernel, const int64_t *stride, const int64_t *padding,
                             const int64_t *dilation, bool ceil_mode, psg_pooling_windows *windows);
/* Those of an output size. */
psg_status psg_pooling_adaptive(psg_call *call, const int64_t *output_size, psg_pooling_windows *windows);

/* The three functions of every pooling. */
psg_status psg_pooling_shape(psg_call *call);
psg_status psg_pooling_forward(psg_call *call);
psg_status psg_pooling_backward(psg_call *call);

#endif
