/* Loops and sums over the elements of large arrays, cut at fixed places: results depend on no number of threads. */
#ifndef PSG_OPS_RANGES_H
#define PSG_OPS_RANGES_H

#include "psg/op.h"

/* Elements (or their worth of work) a task. */
enum { PSG_RANGE = 16384 };

/* Works on [begin, begin + count). */
typedef void (*psg_range_task)(void *argument, size_t begin, size_t count);
/* The sum of a function over [begin, begin + count). */
typedef double (*psg_range_sum)(void *argument, size_t begin, size_t count);

/* Runs task over [0, count) in ranges of unit, the last one shorter. */
void psg_for_ranges(psg_context *context, size_t count, size_t unit, psg_range_task task, void *argument);

/* How many items of `work` elements make a range: at least 1. */
size_t psg_range_unit(int64_t work);

/* The sum over [0, count): of each range, then of those in order.  PSG_ERR_MEMORY. */
psg_status psg_sum_ranges(psg_call *call, size_t count, psg_range_sum sum, void *argument, double *total);

#endif
