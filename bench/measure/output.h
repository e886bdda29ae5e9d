/* How rows are printed: a table for people, or one JSON object a line. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "row.h"

/* The processor, kernels in use, threads, rates: what the limits are taken from, and beside it large products, by
 * OpenBLAS (a product of 768^3 a thread) and by the library's own kernel (4096 x 768 x 768). */
typedef struct output_machine {
    const char *isa, *openblas_core;
    unsigned threads;
    probe_rates rates;
    double openblas_gflops, kernel_gflops;
} output_machine;

void output_header(int json, const output_machine *machine);
/* The names of a row's columns. */
void output_columns(int json);
void output_row(int json, const bench_row *row);
void output_footer(int json);

#endif
