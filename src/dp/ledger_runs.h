/* What the lines of a ledger come to: runs of steps, by mechanism and event. */
#ifndef PSG_DP_LEDGER_RUNS_H
#define PSG_DP_LEDGER_RUNS_H

#include "dp/ledger_line.h"

/* Steps of one mechanism and one event, of any number of lines. */
typedef struct psg_ledger_run {
    char id[PSG_RUN_TEXT];
    psg_event event;
    bool is_seeded;
    uint64_t releases;
    uint64_t end;                  /* one past the last step */
} psg_ledger_run;

typedef struct psg_ledger_runs {
    psg_context *context;
    psg_ledger_run *runs;
    size_t count, capacity;
    size_t *places;                /* 2 capacity, a hash table: 1 + the place of a run, 0: free */
    uint64_t total;                /* releases of all */
} psg_ledger_runs;

/* Room for one run more. */
psg_status psg_ledger_runs_reserve(psg_ledger_runs *runs, const char *function);
/* Why a line cannot come next, or NULL: a run's steps follow one another, and all together are below 2^62. */
const char *psg_ledger_runs_refuse(const psg_ledger_runs *runs, const psg_ledger_line *line);
/* Adds a line that is not refused; there is room. */
void psg_ledger_runs_add(psg_ledger_runs *runs, const psg_ledger_line *line);
void psg_ledger_runs_free(psg_ledger_runs *runs);

/* What they cost, into an accountant: others first, then those of `own`, whose epochs are the accountant's own and go
 * on. *is_seeded: whether some were made with a seed. */
psg_status psg_ledger_runs_account(const psg_ledger_runs *runs, const char *own, psg_accountant *accountant,
                                   bool *is_seeded);
/* The steps that `own` has recorded: one past the last. */
uint64_t psg_ledger_runs_end(const psg_ledger_runs *runs, const char *own);

#endif
