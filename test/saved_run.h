/* A small private run with files: two parameters, an optimizer with momentum and an average, for the tests of ledger
 * and checkpoint.  The gradient of record i at step t is a function of i and of the weights. */
#ifndef PSG_TEST_SAVED_RUN_H
#define PSG_TEST_SAVED_RUN_H

#include "support.h"

enum { RUN_RECORDS = 60, RUN_WEIGHT = 6, RUN_BIAS = 3, RUN_PATH = 256 };

typedef struct saved_run {
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *optimizer;
    double weight[RUN_WEIGHT], bias[RUN_BIAS], average[RUN_WEIGHT];
    psg_named params[2], extra[1];
    psg_checkpoint checkpoint;
} saved_run;

/* A folder of this test's own, removed with its files by saved_folder_remove. */
void saved_folder_make(char folder[RUN_PATH]);
void saved_folder_remove(const char *folder);
/* folder/name. */
const char *saved_path(const char *folder, const char *name, char path[RUN_PATH]);

/* A context and a place for a ledger: set-up and tear-down of a group of tests. */
typedef struct ledger_place {
    psg_context *context;
    char folder[RUN_PATH], path[RUN_PATH];
} ledger_place;

int ledger_place_open(void **state);
int ledger_place_close(void **state);

/* Poisson batches of rate 0.25, C = 1, sigma = 1; ledger at the path, one step a line. */
psg_dp_options saved_options(const char *ledger);

/* seed 0: keyed by the system.  The run points into itself: it must not be moved. */
psg_status saved_run_try(psg_context *context, const psg_dp_options *options, unsigned char seed, saved_run *run);
void saved_run_make(psg_context *context, const psg_dp_options *options, unsigned char seed, saved_run *run);
void saved_run_free(saved_run *run);

/* A step: draw, accumulate, release to the optimizer, average. */
psg_status saved_run_step(saved_run *run);
void saved_run_steps(saved_run *run, int count);
/* Of the accountant, at delta 1e-5. */
double saved_run_epsilon(const saved_run *run);
/* What the ledger comes to. */
uint64_t saved_releases(psg_context *context, const char *ledger);

/* The whole file, in malloc'd memory with a 0 at the end; and back. */
char *saved_bytes(const char *path, size_t *length);
void saved_write(const char *path, const char *bytes, size_t length);

#endif
