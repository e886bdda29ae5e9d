/* runs.h: the accountant's list, run-length coded. */
#ifndef PSG_ACCOUNTANT_RUNS_H
#define PSG_ACCOUNTANT_RUNS_H

#include "event.h"

typedef struct psg_event_run {
    psg_event event;
    uint64_t releases;
    uint64_t position; /* of its first release in an epoch of event.batches; 0 for other samplings */
    int is_merged;     /* of another training, whose epochs ours do not go on */
} psg_event_run;

struct psg_accountant {
    psg_context *context;
    psg_relation relation;
    int not_private;
    uint64_t releases; /* of all runs */
    size_t count, capacity;
    psg_event_run *runs;
};

/* Room for so many runs more: adding them takes no memory. */
psg_status psg_accountant_reserve(psg_accountant *accountant, const char *function, size_t more);
/* Exchanges the lists of two accountants of one context and relation. */
void psg_accountant_swap(psg_accountant *a, psg_accountant *b);

#endif
