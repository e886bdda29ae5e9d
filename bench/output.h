/* How rows are printed: a table for people, or one JSON object a line. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "row.h"

/* The machine: processor, kernels in use, threads, rates. */
void output_header(int json, const char *isa, unsigned threads, const probe_rates *rates);
void output_row(int json, const bench_row *row);
void output_footer(int json);

#endif
