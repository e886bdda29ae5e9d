/* What psg-bench measured, kept for its page. */
#ifndef BENCH_MEASURED_H
#define BENCH_MEASURED_H

#include "output.h"

enum { MEASURED_NAME = 120, ENGINE_OPENBLAS = 0, ENGINE_KERNEL, ENGINES };

typedef struct measured_row {
    char name[MEASURED_NAME];       /* op, question, problem, and the memory budget where one was granted */
    const char *op;
    double intensity;               /* flops a byte, of all passes together */
    double gflops, gbps, ms, limit_ms, percent, naive_ms;   /* NAN where it does not apply */
    double copy_gbps;               /* of the row's working set */
    int steady;                     /* the probes around it agree */
} measured_row;

/* One product by both engines. */
typedef struct measured_product {
    char name[MEASURED_NAME];
    psg_dtype dtype;
    double intensity;               /* flops a byte of operands and result, each moved once */
    double gflops[ENGINES], ms[ENGINES];
    double ratio;                   /* OpenBLAS's time to the kernel's */
    double fma_gflops;
} measured_product;

typedef struct measured {
    output_machine machine;
    measured_row *row;
    measured_product *product;
    size_t rows, products;
} measured;

/* Appends a copy; m NULL: nothing is kept.  Ends the program where there is no memory. */
void measured_add_row(measured *m, const bench_row *row);
void measured_add_product(measured *m, const measured_product *product);
void measured_free(measured *m);

#endif
