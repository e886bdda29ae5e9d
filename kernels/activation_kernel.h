/* The elementwise functions of kernels/activation_kernel.c and their parameters p. */
#ifndef PSG_KERNELS_ACTIVATION_KERNEL_H
#define PSG_KERNELS_ACTIVATION_KERNEL_H

enum { PSG_FUNCTION_PARAMETERS = 3 };

typedef enum psg_function {
    PSG_RELU,
    PSG_TANH,
    PSG_SIGMOID,
    PSG_GELU,
    PSG_GELU_TANH,      /* x (1 + tanh u) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3) */
    PSG_SILU,
    PSG_MISH,           /* x tanh(log(1 + exp x)) */
    PSG_SOFTPLUS,       /* log(1 + exp(p0 x)) / p0; x where p0 x > p1 */
    PSG_LOGSIGMOID,
    PSG_ELU,            /* x > 0: p1 x, else p0 (exp(p2 x) - 1) */
    PSG_LEAKY_RELU,     /* x > 0: x, else p0 x */
    PSG_HARDTANH,       /* x in [p0, p1] */
    PSG_HARDSIGMOID,    /* (x + 3) / 6 in [0, 1] */
    PSG_HARDSWISH,      /* x hardsigmoid(x) */
    PSG_SOFTSIGN,       /* x / (1 + |x|) */
    PSG_TANHSHRINK,     /* x - tanh x */
    PSG_SOFTSHRINK,     /* x - p0, x + p0, or 0 where |x| <= p0 */
    PSG_HARDSHRINK,     /* x, or 0 where |x| <= p0 */
    PSG_THRESHOLD,      /* x > p0: x, else p1 */
    PSG_EXP,
    PSG_LOG,
    PSG_SQRT,
    PSG_SQUARE,
    PSG_ABS,
    PSG_SIN,
    PSG_COS
} psg_function;

#endif
