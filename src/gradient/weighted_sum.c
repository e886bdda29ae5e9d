/* weighted_sum and sum_of_squares: the two sums over samples that need no norms. */
#include <math.h>

#include "base/floats.h"
#include "base/shapes.h"
#include "gradient/plan.h"

static bool adds_bad(const psg_plan *plan, const double *weights) {
    for (int64_t n = 0; n < plan->batch; n++) {
        if ((!weights || weights[n] != 0) && psg_plan_is_bad(plan, n)) return true;
    }
    return false;
}

static void fill_nan(const psg_plan *plan, const psg_tensor *outs) {
    for (size_t k = 0; k < plan->gradient_count; k++) {
        for (int64_t i = 0; i < psg_tensor_count(&outs[k]); i++) {
            plan->context->kernels[outs[k].dtype]->from_f64(1, 1.0, &(double){ NAN }, psg_tensor_offset(&outs[k], i),
                                                           false);
        }
    }
}

static psg_status sum(const psg_set *set, psg_question question, const double *weights, psg_write write,
                      const psg_tensor *outs) {
    psg_plan plan = { .question = question, .is_plain = !weights && question == PSG_ASK_WEIGHTED_SUM };
    psg_status status = psg_plan_make(set, plan.is_plain, &plan);
    if (!status) status = psg_check_write(set, write);
    if (!status) status = psg_check_tensors(set, "outs", outs, PSG_ALLOW_F64);
    if (!status) psg_plan_visit(&plan, NULL, NULL);
    if (!status) psg_sum_samples(&plan, weights, write, outs);
    if (!status && adds_bad(&plan, weights)) fill_nan(&plan, outs);
    psg_plan_end(&plan);
    return status;
}

psg_status psg_weighted_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                            const double *weights, psg_write write, const psg_tensor *outs) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_weighted_sum", gradients, count };
    return sum(&set, PSG_ASK_WEIGHTED_SUM, weights, write, outs);
}

psg_status psg_sum_of_squares(psg_context *context, const psg_gradient *const *gradients, size_t count,
                              psg_write write, const psg_tensor *outs) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_sum_of_squares", gradients, count };
    return sum(&set, PSG_ASK_SUM_OF_SQUARES, NULL, write, outs);
}
