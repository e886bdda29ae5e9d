/* The accountant turned round: how much noise a budget asks for. */
#include "numeric.h"
#include "psg/accountant.h"

#include <math.h>

#define LARGEST_NOISE 1e6
#define TOLERANCE 5e-7 /* half of what the header promises */

typedef struct budget {
    double epsilon, delta, sample_rate;
    uint64_t releases;
} budget;

static int is_within_budget(const void *setting, double noise_multiplier) {
    const budget *b = setting;
    psg_accountant accountant;
    double epsilon;
    return psg_accountant_init(&accountant, NULL, 0) == PSG_OK &&
           psg_accountant_add(&accountant, b->sample_rate, noise_multiplier, b->releases) == PSG_OK &&
           psg_accountant_epsilon(&accountant, b->delta, &epsilon, NULL) == PSG_OK && epsilon <= b->epsilon;
}

psg_status psg_noise_multiplier_for(double epsilon, double delta, double sample_rate, uint64_t releases,
                                    double *noise_multiplier) {
    int valid = epsilon > 0 && isfinite(epsilon) && delta > 0 && delta < 1 && sample_rate >= 0 && sample_rate <= 1;
    if (!valid || noise_multiplier == NULL)
        return PSG_ERR_ARGUMENT;
    budget b = { epsilon, delta, sample_rate, releases };
    double noise = is_within_budget(&b, 0) ? 0 : psg_smallest(is_within_budget, &b, LARGEST_NOISE, TOLERANCE);
    if (isnan(noise))
        return PSG_ERR_NUMERIC;
    *noise_multiplier = noise;
    return PSG_OK;
}
