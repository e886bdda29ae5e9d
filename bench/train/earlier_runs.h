/* The runs that were in a folder before: kept whole in its folders 1, 2, ..., each with its ledger. */
#ifndef BENCH_EARLIER_RUNS_H
#define BENCH_EARLIER_RUNS_H

#include "run_folder.h"

/* Moves a run that is there into a folder of its own, and says so; -1 after a message. */
int earlier_runs_keep(const run_folder *folder);

/* What they have spent, and this one, all of them taken to be of the same records. */
typedef struct run_total {
    int earlier;                   /* runs before; 0: epsilon is this one's */
    double epsilon;                /* upper bound, of all together */
} run_total;
psg_status earlier_runs_total(const run_folder *folder, const trainer *t, double delta, run_total *total);

#endif
