/* One table: SUFFIX and ISA_NAME are set by table.c, which includes this once a real type and instruction set. */
#define KERNEL(type, name, arguments) type PASTE(name, SUFFIX) arguments;
#include "kernel_list.h"
#undef KERNEL

static const psg_kernel_table PASTE(table, SUFFIX) = {
    .isa = ISA_NAME,
#define KERNEL(type, name, arguments) .name = PASTE(name, SUFFIX),
#include "kernel_list.h"
#undef KERNEL
};

#undef SUFFIX
#undef ISA_NAME
