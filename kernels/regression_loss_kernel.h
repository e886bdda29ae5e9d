/* The elementwise losses of kernels/regression_loss_kernel.c. */
#ifndef PSG_KERNELS_REGRESSION_LOSS_KERNEL_H
#define PSG_KERNELS_REGRESSION_LOSS_KERNEL_H

#include <stddef.h>

enum { PSG_LOSS_NUMBERS = 2 };

typedef enum psg_loss {
#define LOSS(name) PSG_LOSS_##name,
#define LOSS_OR(name, other) PSG_LOSS_##name, PSG_LOSS_##other,
#include "regression_loss_list.h"
} psg_loss;

/* f(x, y), df/dx or df/dy */
typedef enum psg_loss_part { PSG_LOSS_VALUE, PSG_LOSS_DX, PSG_LOSS_DY } psg_loss_part;

/* n elements.  gy, of slopes alone: NULL for ones; where it is 0 the slope does not count, whatever it is. */
typedef struct psg_loss_range {
    psg_loss f;
    size_t n;
    double p[PSG_LOSS_NUMBERS], scale;
    const void *gy, *x, *y;
    void *out;
} psg_loss_range;

#endif
