/* How time grows with a problem: `--growth`. */
#ifndef BENCH_GROWTH_H
#define BENCH_GROWTH_H

#include "row.h"

/* A stack of N linear weights of width x width, B samples of T positions: clipped sums and materialised gradients, with
 * N, B, T and width doubled three times each.  A line a size: its time, the exponent of time from the size before, and
 * that of the limit, which is what the arithmetic of the plan in use says.  A table, or one JSON object a line.
 * Returns non-zero after a message when one failed. */
int growth_run(int json, const bench_settings *settings, probe *p);

#endif
