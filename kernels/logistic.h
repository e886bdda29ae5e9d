/* The logistic function of a vector.  With t = exp(-|x|), which cannot overflow, sigmoid(x) is 1 / (1 + t) or
 * t / (1 + t), and its slope t / (1 + t)^2. */
#ifndef PSG_KERNELS_LOGISTIC_H
#define PSG_KERNELS_LOGISTIC_H

#include "vector.h"

/* exp(-|x|) */
static inline vec decay(vec x) { return vec_exp_below(-vec_abs(x)); }

static inline vec logistic(vec x) {
    vec t = decay(x);
    return vec_select(x < vec_zero(), t, vec_set(1)) / (1 + t);
}

static inline vec logistic_derivative(vec x) {
    vec t = decay(x), d = 1 + t;
    return t / (d * d);
}

#endif
