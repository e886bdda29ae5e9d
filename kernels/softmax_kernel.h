/* What the forward pass of cross entropy keeps of one row for the backward pass. */
#ifndef PSG_KERNELS_SOFTMAX_KERNEL_H
#define PSG_KERNELS_SOFTMAX_KERNEL_H

#include <stddef.h>

typedef struct psg_cross_entropy_row {
    double max;     /* m, the largest logit */
    double rest;    /* sum_c exp(x_c - m) - 1, summed without the term 1 of the largest logit */
    double slope;   /* d loss / d x_target; of a psg_class_target: sum_c w_c q_c without that of the largest logit */
    double loss;
} psg_cross_entropy_row;

/* What a row should be: (1 - smoothing) q_c + smoothing / n. */
typedef struct psg_class_target {
    const void *q;         /* strided like the row; NULL: 1 at label */
    size_t label;
    double smoothing;
    const void *weight;    /* n in a row; NULL: ones */
} psg_class_target;

#endif
