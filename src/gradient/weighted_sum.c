/* weighted_sum and sum_of_squares: the two sums over samples that need no norms. */
#include "gradient/plan.h"

static psg_status sum(const psg_set *set, psg_question question, const double *weights, psg_write write,
                      const psg_tensor *outs) {
    psg_plan plan = { .question = question, .is_plain = !weights && question == PSG_ASK_WEIGHTED_SUM };
    psg_status status = psg_plan_make(set, plan.is_plain, &plan);
    if (!status) status = psg_check_write(set, write);
    if (!status) status = psg_check_tensors(set, "outs", outs, PSG_ALLOW_F64);
    if (!status) psg_plan_visit(&plan, NULL, NULL);
    if (!status) psg_sum_samples(&plan, weights, write, outs);
    psg_plan_end(&plan);
    return status;
}

psg_status psg_weighted_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                            const double *weights, psg_write write, const psg_tensor *outs) {
    psg_set set = { context, "psg_weighted_sum", gradients, count };
    return sum(&set, PSG_ASK_WEIGHTED_SUM, weights, write, outs);
}

psg_status psg_sum_of_squares(psg_context *context, const psg_gradient *const *gradients, size_t count,
                              psg_write write, const psg_tensor *outs) {
    psg_set set = { context, "psg_sum_of_squares", gradients, count };
    return sum(&set, PSG_ASK_SUM_OF_SQUARES, NULL, write, outs);
}
