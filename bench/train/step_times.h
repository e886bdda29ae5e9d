/* How long a step takes: private, not private, and private by the naive loop over samples. */
#ifndef BENCH_STEP_TIMES_H
#define BENCH_STEP_TIMES_H

#include "trainer.h"

typedef struct step_times {
    double ms_private, ms_plain, ms_loop;
    double batch;                   /* expected samples of the batches that were timed */
} step_times;

/* One private step on the given batch. */
typedef psg_status (*private_step)(trainer *t, const dataset *data, const psg_batch *batch);

/* The first batches of a trainer of its own, of as many records as are expected in a batch of the run, or as data has,
 * with the run's noise.  Times tell of the records they are taken on: those of public ones may be published.  Medians. */
psg_status step_times_measure(const training_options *options, const training_plan *plan, double noise_multiplier,
                              const dataset *data, private_step step, step_times *times);

#endif
