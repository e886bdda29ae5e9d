/* Windows of pooling, as tables: fixed kernels with stride and padding, and adaptive ones, look alike. */
#ifndef PSG_KERNELS_POOLING_KERNEL_H
#define PSG_KERNELS_POOLING_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Along one dimension output o covers the elements first[o] + k step, 0 <= k < count[o], all inside the input. */
typedef struct psg_pooling_dim {
    size_t in, out, step;
    const int32_t *first, *count;
    const double *divisor;            /* of an average: what the window counts for */
    size_t run, run_end;              /* outputs [run, run_end) cover `full` elements each, their first ones `stride` */
    size_t stride, full;              /* apart */
} psg_pooling_dim;

/* Planes (in[0], in[1], in[2]), contiguous, become planes (out[0], out[1], out[2]). */
typedef struct psg_pooling {
    psg_pooling_dim dim[3];
    double divisor;                   /* 0: the product of the dimensions' */
} psg_pooling;

#endif
