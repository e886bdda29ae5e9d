/* What the forward pass of cross entropy keeps of one row for the backward pass. */
#ifndef PSG_KERNELS_SOFTMAX_H
#define PSG_KERNELS_SOFTMAX_H

typedef struct psg_cross_entropy_row {
    double max;            /* m, the largest logit */
    double inverse_sum;    /* 1 / sum_c exp(x_c - m) */
    double target_slope;   /* d loss / d x_target = p_target - q_target */
    double loss;
} psg_cross_entropy_row;

#endif
