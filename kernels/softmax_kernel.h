/* What the forward pass of cross entropy keeps of one row for the backward pass. */
#ifndef PSG_KERNELS_SOFTMAX_KERNEL_H
#define PSG_KERNELS_SOFTMAX_KERNEL_H

#include <stddef.h>

typedef struct psg_cross_entropy_row {
    double max;            /* m, the largest logit */
    double inverse_sum;    /* 1 / sum_c exp(x_c - m) */
    double target_slope;   /* d loss / d x_target = p_target - q_target; of a psg_class_target: sum_c w_c q_c */
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
