/* How losses are kept, summed or averaged. */
#ifndef PSG_OPS_REDUCTION_H
#define PSG_OPS_REDUCTION_H

#include <stdbool.h>

#include "ops/shared/ranges.h"
#include "psg/ops/loss.h"

/* shape: PSG_MEAN, PSG_SUM, PSG_NONE or, where batch_mean says so, PSG_BATCH_MEAN; tells the call how it reduces. */
psg_status psg_check_reduction(psg_call *call, psg_reduction reduction, bool batch_mean);

/* forward: writes the sum over [0, count), of addends that `sum` multiplies by *scale, over the divisor.  The scale is
 * 1, or where that overflows 1 / divisor. */
psg_status psg_reduce_loss(psg_call *call, size_t count, psg_range_sum sum, void *argument, double *scale,
                           double divisor);

#endif
