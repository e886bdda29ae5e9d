/* Where the time of a model's step goes: `--passes`. */
#ifndef BENCH_PASSES_H
#define BENCH_PASSES_H

#include "row.h"

/* The private step of a model, or its plain one: a line for each op and shape, forward and backward, then for the
 * questions, the release and the optimizer: flops and bytes (op_cost.h), milliseconds, the limit that follows from
 * them, its share of the time.  A table, or one JSON object a line.  Returns non-zero after a message on failure. */
int passes_run(int json, const bench_op *op, const bench_problem *problem, const bench_settings *settings, probe *p);

#endif
