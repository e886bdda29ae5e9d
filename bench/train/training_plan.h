/* What follows from the options and the number of records; settled, or refused, before any record is read. */
#ifndef BENCH_TRAINING_PLAN_H
#define BENCH_TRAINING_PLAN_H

#include <psg/psg.h>

#include "training_options.h"

typedef struct training_plan {
    long steps;
    int64_t records;
    double sample_rate;         /* of every record in every batch */
    double noise_multiplier;    /* 0: the least that keeps all steps within the budget */
} training_plan;

/* -1 after a message: a batch of more records than there are, epochs that are not one batch, a budget that no noise
 * keeps. */
int training_plan_make(psg_context *context, const training_options *options, int64_t records, training_plan *plan);

#endif
