/* The kernel table: one struct of functions per real type and instruction set.
 *
 * kernels/kernel_list.h names every kernel once; this header makes the table's type of it and table.c the tables.  A
 * kernel is written once over kernels/vector.h and compiled for each real type and instruction set (PSG_REAL_IS_F64,
 * PSG_ISA_...), its symbol suffixed by PSG_KERNEL.  Kernels take void pointers to reals of their type, know no
 * statuses, allocate nothing, and accept 0 elements. */
#ifndef PSG_KERNELS_KERNELS_H
#define PSG_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conv_kernel.h"
#include "pooling_kernel.h"
#include "attention_kernel.h"
#include "activation_kernel.h"
#include "grid_noise_kernel.h"
#include "norm_kernel.h"
#include "product_kernel.h"
#include "recurrent_kernel.h"
#include "regression_loss_kernel.h"
#include "softmax_kernel.h"
#include "unfold_kernel.h"
#include "update_kernel.h"

/* How gram_combine raises norms taken from the diagonals of Gram matrices. */
typedef struct psg_raise {
    double g, a, tiny;
} psg_raise;

/* The most rows of one add_rows_to_f64. */
#define PSG_ROWS_AT_ONCE 8

typedef struct psg_kernel_table {
    const char *isa;
#define KERNEL(type, name, arguments) type(*name) arguments;
#include "kernel_list.h"
#undef KERNEL
} psg_kernel_table;

/* The table for an instruction set ("avx512", "avx2", "baseline"; NULL: the best of this processor) and a real type
 * (0: f32, 1: f64).  NULL when the name is unknown or the processor lacks it. */
const psg_kernel_table *psg_kernels_choose(const char *isa, int real);

#endif
