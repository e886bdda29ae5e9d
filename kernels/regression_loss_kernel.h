/* The elementwise losses of kernels/regression_loss_kernel.c: f(x, y) of a prediction x and a target y, with parameters p. */
#ifndef PSG_KERNELS_REGRESSION_LOSS_KERNEL_H
#define PSG_KERNELS_REGRESSION_LOSS_KERNEL_H

enum { PSG_LOSS_PARAMETERS = 2 };

typedef enum psg_loss {
    PSG_LOSS_SQUARED,           /* (x - y)^2 */
    PSG_LOSS_ABSOLUTE,          /* |x - y| */
    PSG_LOSS_SMOOTH_L1,         /* d = |x - y| < p0: d^2 / (2 p0), else d - p0 / 2 */
    PSG_LOSS_HUBER,             /* d <= p0: d^2 / 2, else p0 (d - p0 / 2) */
    PSG_LOSS_LOGISTIC,          /* max(x, 0) - x y + log(1 + exp(-|x|)) */
    PSG_LOSS_BINARY,            /* -y log x - (1 - y) log(1 - x), logarithms at least -100 */
    PSG_LOSS_KL,                /* y (log y - x) */
    PSG_LOSS_KL_LOG,            /* exp(y) (y - x) */
    PSG_LOSS_POISSON,           /* x - y log(x + p0); with p1 not 0 plus y log y - y + log(2 pi y) / 2 for y > 1 */
    PSG_LOSS_POISSON_LOG,       /* exp(x) - y x; p1 likewise */
    PSG_LOSS_SOFT_MARGIN,       /* log(1 + exp(-x y)) */
    PSG_LOSS_HINGE_EMBEDDING    /* x for y = 1, max(0, p0 - x) for y = -1, their sum for any other y */
} psg_loss;

#endif
