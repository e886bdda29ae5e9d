/* accountant_fixture.h: events and questions in one call. */
#ifndef PSG_TEST_ACCOUNTANT_FIXTURE_H
#define PSG_TEST_ACCOUNTANT_FIXTURE_H

#include "psg/accountant.h"

psg_event poisson_event(double noise_multiplier, double sample_rate);
psg_event epochs_event(double noise_multiplier, uint64_t batches);

/* Releases of one event; they must be accepted. */
psg_accountant *accountant_of(psg_context *context, psg_relation relation, psg_event event, uint64_t releases);

/* epsilon with both bounds, of releases of one event. */
psg_privacy epsilon_of_event(psg_context *context, psg_relation relation, psg_event event, uint64_t releases,
                             double delta);

void assert_within(double actual, double expected, double absolute);
void assert_ordered(double smaller, double larger);

/* The same numbers in every run. */
double drawn_uniform(uint64_t *seed, double low, double high);
double drawn_log_uniform(uint64_t *seed, double low, double high);

#endif
