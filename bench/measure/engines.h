/* The two engines of matrix products side by side: `--engines`. */
#ifndef BENCH_ENGINES_H
#define BENCH_ENGINES_H

#include "measured.h"

/* Products over batched rows, a batch of small ones, and those of one sample (a materialised gradient, a Gram matrix):
 * for f32 and f64 the median time of each engine, in pairs run in turn, as a share of the peak of multiply-adds.  A
 * table, or one JSON object a line; kept in seen, too.  Returns non-zero after a message when one failed. */
int engines_run(int json, unsigned threads, probe *p, measured *seen);

#endif
