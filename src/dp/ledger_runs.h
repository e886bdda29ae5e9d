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
} psg_ledger_runs;

/* On an error nothing is added. */
psg_status psg_ledger_runs_add(psg_ledger_runs *runs, const char *function, const psg_ledger_line *line);
void psg_ledger_runs_free(psg_ledger_runs *runs);

/* What they cost, into an accountant: others first, then those of `own`, whose epochs are the accountant's own and go on.
 * *is_seeded: whether some were made with a seed. */
psg_status psg_ledger_runs_account(const psg_ledger_runs *runs, const char *own, psg_accountant *accountant,
                                   bool *is_seeded);
/* The steps that `own` has recorded: one past the last. */
uint64_t psg_ledger_runs_end(const psg_ledger_runs *runs, const char *own);

#endif
