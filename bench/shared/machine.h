/* What the programs say of the machine that they ran on. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stddef.h>

/* The processor's name, as far as the system tells it. */
void machine_processor(char *name, size_t size);

/* "Haswell", ...: the core whose kernels OpenBLAS runs; "unknown" of a BLAS that does not say. */
const char *machine_openblas_core(void);

#endif
