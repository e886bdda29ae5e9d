#include "training_plan.h"

#include <math.h>
#include <stdio.h>

/* Whether some noise keeps all steps within epsilon. */
static int check_budget(psg_context *context, const training_options *options, const training_plan *plan) {
    psg_event event = PSG_EVENT_INIT;
    double sigma;
    event.sample_rate = plan->sample_rate;
    if (!psg_calibrate_noise(context, &event, (uint64_t)plan->steps, PSG_ADD_OR_REMOVE_ONE, options->epsilon,
                             options->delta, &sigma)) return 0;
    fprintf(stderr, "--epsilon: no noise keeps %ld steps, each with %.5f of the records, within %g at delta %g: %s\n",
            plan->steps, plan->sample_rate, options->epsilon, options->delta, psg_context_message(context));
    return -1;
}

int training_plan_make(psg_context *context, const training_options *options, int64_t records, training_plan *plan) {
    const training_recipe *recipe = &options->recipe;
    const double rate = recipe->batch / (double)records, steps = recipe->epochs / rate;
    if (rate > 1) {
        fprintf(stderr, "--batch: %g records are expected in a batch, must be at most the %lld that there are\n",
                recipe->batch, (long long)records);
        return -1;
    }
    if (steps < 0.5 || steps > 1e9) {
        fprintf(stderr, "--epochs: %g of %lld records in batches of %g are %g steps, must be 1 to 1e9\n",
                recipe->epochs, (long long)records, recipe->batch, steps);
        return -1;
    }
    *plan = (training_plan){ .steps = lround(fmax(1.0, steps)), .records = records, .sample_rate = rate };
    return check_budget(context, options, plan);
}
