/* What an op of a pass must do at least: the arithmetic of one call. */
#ifndef BENCH_OP_COST_H
#define BENCH_OP_COST_H

#include <psg/op.h>

#include "case.h"

/* Products count two flops a multiply-add: those of a weight once a row forward, and once a row backward where the
 * gradient of its input is wanted; those of attention two products forward and four backward.  Other ops count their
 * bytes alone.  A value is read, and a result written, once.  Gradients of parameters are no part of a call: they are
 * the questions'. */
bench_pass op_cost(const psg_call *call, int backward);

#endif
