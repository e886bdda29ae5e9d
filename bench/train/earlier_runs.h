/* The runs that a folder has beside its own: kept whole in its folders 1, 2, ..., each with its ledger.  A run that goes
 * on in one of those has the others beside it, and the folder's own. */
#ifndef BENCH_EARLIER_RUNS_H
#define BENCH_EARLIER_RUNS_H

#include "run_folder.h"

/* Moves a run that is there into a folder of its own, and says so; -1 after a message.  A process that is killed leaves
 * the run in two places, and earlier_runs_restore puts it back. */
int earlier_runs_keep(const run_folder *folder);
int earlier_runs_restore(const run_folder *folder);

/* Whether all of their ledgers can be read: what they have spent could not be said after this run. */
psg_status earlier_runs_check(const run_folder *folder, const trainer *t);

/* What they have spent, and this one, all of them taken to be of the same records. */
typedef struct run_total {
    int others;                    /* runs beside this one; 0: epsilon is this one's */
    double epsilon;                /* upper bound, of all together; infinity: one was not private */
} run_total;
psg_status earlier_runs_total(const run_folder *folder, const trainer *t, double delta, run_total *total);
/* A line, where there are others. */
void earlier_runs_say(const run_folder *folder, const run_total *total);

#endif
