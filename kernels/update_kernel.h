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

/* d = g + l2 w;  w = shrink w;  m = beta1 m + (1 - beta1) d;  r = sqrt(beta2 r^2 + (1 - beta2) d^2);
 * w -= step_size m / (r root_scale + eps).  r is the root of the second moment: of the magnitude of d, as m is, where
 * the moment itself leaves the range of the type with d^2. */
typedef struct psg_adam_step {
    double beta1, beta2, eps;
    double l2, shrink;     /* weight_decay and 1 (Adam), 0 and 1 - lr weight_decay (AdamW) */
    double step_size;      /* lr / (1 - beta1^t) */
    double root_scale;     /* 1 / sqrt(1 - beta2^t) */
} psg_adam_step;

#endif
