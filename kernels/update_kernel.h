/* The numbers of one optimizer step, the same for every element. */
#ifndef PSG_KERNELS_UPDATE_KERNEL_H
#define PSG_KERNELS_UPDATE_KERNEL_H

#include <stdbool.h>

/* d = g + weight_decay w;  v = momentum v + keep d;  w -= lr (nesterov ? d + momentum v : v).
 * Without momentum (v NULL): w -= lr d. */
typedef struct psg_sgd_step {
    double lr, momentum, keep, weight_decay;
    bool nesterov;
} psg_sgd_step;

/* d = g + l2 w;  w = shrink w;  m += (1 - beta1) (d - m);  v = beta2 v + (1 - beta2) d^2;
 * w -= step_size m / (sqrt(v) root_scale + eps). */
typedef struct psg_adam_step {
    double beta1, beta2, eps;
    double l2, shrink;     /* weight_decay and 1 (Adam), 0 and 1 - lr weight_decay (AdamW) */
    double step_size;      /* lr / (1 - beta1^t) */
    double root_scale;     /* 1 / sqrt(1 - beta2^t) */
} psg_adam_step;

#endif
