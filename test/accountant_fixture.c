#include "accountant_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "support.h"

psg_event poisson_event(double noise_multiplier, double sample_rate) {
    psg_event event = PSG_EVENT_INIT;
    event.noise_multiplier = noise_multiplier;
    event.sample_rate = sample_rate;
    return event;
}

psg_event epochs_event(double noise_multiplier, uint64_t batches) {
    psg_event event = PSG_EVENT_INIT;
    event.sampling = PSG_SAMPLING_EPOCHS;
    event.noise_multiplier = noise_multiplier;
    event.batches = batches;
    return event;
}

psg_accountant *accountant_of(psg_context *context, psg_relation relation, psg_event event, uint64_t releases) {
    psg_accountant *accountant;
    TEST_OK(context, psg_accountant_create(context, relation, &accountant));
    TEST_OK(context, psg_accountant_add(accountant, &event, releases));
    return accountant;
}

psg_privacy epsilon_of_event(psg_context *context, psg_relation relation, psg_event event, uint64_t releases,
                             double delta) {
    psg_privacy privacy;
    psg_accountant *accountant = accountant_of(context, relation, event, releases);
    TEST_OK(context, psg_accountant_epsilon(accountant, delta, &privacy));
    psg_accountant_destroy(accountant);
    return privacy;
}

void assert_within(double actual, double expected, double absolute) {
    if (!(fabs(actual - expected) <= absolute)) fail_msg("%.17g is not %.17g to %g", actual, expected, absolute);
}

void assert_ordered(double smaller, double larger) {
    if (!(smaller <= larger)) fail_msg("%.17g exceeds %.17g", smaller, larger);
}

/* Knuth's 64-bit linear congruential generator. */
double drawn_uniform(uint64_t *seed, double low, double high) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * ((double)(*seed >> 11) * 0x1p-53);
}

double drawn_log_uniform(uint64_t *seed, double low, double high) {
    return exp(drawn_uniform(seed, log(low), log(high)));
}
