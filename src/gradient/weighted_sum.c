/* weighted_sum and sum_of_squares: the two sums over samples that need no norms. */
#include "gradient/sink.h"
#include "gradient/plan.h"

static psg_status sum(psg_context *context, const char *function, psg_question question,
                      const psg_gradient *const *gradients, size_t count, const double *weights, psg_write write,
                      const psg_tensor *outs) {
    bool squares = question == PSG_ASK_SUM_OF_SQUARES, plain = !weights && !squares;
    psg_status status = plain ? psg_check_set(context, function, gradients, count)
                              : psg_check_questions(context, function, gradients, count);
    if (!status) status = psg_check_write(context, function, write);
    if (!status) status = psg_check_tensors(context, function, "outs", gradients, count, outs, true);
    if (status) return status;
    psg_plan plan;
    status = psg_plan_make(context, function, question, gradients, count, 0, plain, &plan);
    if (!status) status = psg_sum_samples(&plan, function, weights, squares, write, outs);
    psg_plan_end(&plan);
    return status;
}

psg_status psg_weighted_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                            const double *weights, psg_write write, const psg_tensor *outs) {
    return sum(context, "psg_weighted_sum", PSG_ASK_WEIGHTED_SUM, gradients, count, weights, write, outs);
}

psg_status psg_sum_of_squares(psg_context *context, const psg_gradient *const *gradients, size_t count,
                              psg_write write, const psg_tensor *outs) {
    return sum(context, "psg_sum_of_squares", PSG_ASK_SUM_OF_SQUARES, gradients, count, NULL, write, outs);
}
