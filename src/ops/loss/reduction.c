#include "ops/loss/reduction.h"

#include <math.h>

#include "ops/shared/operand.h"

psg_status psg_check_reduction(psg_call *call, psg_reduction reduction, bool batch_mean) {
    if (reduction != PSG_NONE) call->reduces = reduction == PSG_SUM ? PSG_LOSS_SUM : PSG_LOSS_MEAN;
    if (reduction == PSG_MEAN || reduction == PSG_SUM || reduction == PSG_NONE) return PSG_OK;
    if (reduction == PSG_BATCH_MEAN && batch_mean) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "reduction is %d, must be PSG_MEAN, PSG_SUM or PSG_NONE%s",
                         (int)reduction, batch_mean ? " or PSG_BATCH_MEAN" : "");
}

psg_status psg_reduce_loss(psg_call *call, size_t count, psg_range_sum sum, void *argument, double *scale,
                           double divisor) {
    double total, value;
    *scale = 1;
    psg_status status = psg_sum_ranges(call, count, sum, argument, &total);
    value = total / divisor;
    if (!status && !isfinite(total)) {
        *scale = 1 / divisor;
        status = psg_sum_ranges(call, count, sum, argument, &value);
    }
    if (!status) psg_scalar_set(call, value, &call->output);
    return status;
}
