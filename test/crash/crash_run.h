/* A small private run, as a program makes it: a linear model by gradients of its own, momentum, an average, a ledger
 * and checkpoints.  Public headers only. */
#ifndef CRASH_RUN_H
#define CRASH_RUN_H

#include <stdbool.h>

#include "psg/dp.h"

#define CRASH_PATH 400
#define CRASH_DELTA 1e-5

typedef struct crash_mode {
    bool is_seeded;
    psg_sampling sampling;
    bool is_adaptive;              /* the bound follows a quantile of the norms */
    uint64_t ledger_ahead;
    double epsilon;                /* budget; 0: none */
    uint64_t tell_every;           /* steps between two askings for epsilon; 0: never */
} crash_mode;

extern const crash_mode crash_modes[];
extern const int crash_mode_count;

enum { CRASH_INPUTS = 3, CRASH_OUTPUTS = 2, CRASH_RECORDS = 64, CRASH_PARAMS = 2 };

typedef struct crash_run {
    const crash_mode *mode;
    uint64_t incarnation;
    char ledger[CRASH_PATH], checkpoint[CRASH_PATH], published[CRASH_PATH], final[CRASH_PATH];
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *sgd;
    double weight[CRASH_OUTPUTS][CRASH_INPUTS], bias[CRASH_OUTPUTS];
    double average[CRASH_OUTPUTS][CRASH_INPUTS];
    double released[CRASH_OUTPUTS * (CRASH_INPUTS + 1)];
    int64_t sums[CRASH_OUTPUTS * (CRASH_INPUTS + 1) + 1];   /* of the step, from the reduce hook; the quantile's too */
    uint64_t batch;                /* hash of its ids */
    bool is_silent;                /* a record could not be published */
} crash_run;

/* The paths of a run in a folder; ledger NULL: in the folder too. */
void crash_run_paths(crash_run *run, const char *folder, const char *ledger);
/* Each of these is one call of the library that may meet a file, or a row of them. */
psg_status crash_run_open(crash_run *run, const crash_mode *mode, uint64_t incarnation);
psg_status crash_run_load(crash_run *run);
psg_status crash_run_sum(crash_run *run);       /* draws the batch of the step and accumulates */
psg_status crash_run_release(crash_run *run);   /* releases, publishes, moves the parameters */
psg_status crash_run_save(crash_run *run);
psg_status crash_run_finish(crash_run *run);    /* writes the final parameters */
void crash_run_close(crash_run *run);

#endif
