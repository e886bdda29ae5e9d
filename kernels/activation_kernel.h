/* The elementwise functions of kernels/activation_kernel.c. */
#ifndef PSG_KERNELS_ACTIVATION_KERNEL_H
#define PSG_KERNELS_ACTIVATION_KERNEL_H

/* The numbers of a row of activation_list.h are at most these. */
enum { PSG_FUNCTION_NUMBERS = 2 };

typedef enum psg_function {
#define ACTIVATION(name) PSG_FUNCTION_##name,
#define ACTIVATION_OR(name, other, flag) PSG_FUNCTION_##name, PSG_FUNCTION_##other,
#include "activation_list.h"
} psg_function;

#endif
