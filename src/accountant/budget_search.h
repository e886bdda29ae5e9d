/* budget_search.h: the largest or smallest x of something whose epsilon is monotone in x, within a budget. */
#ifndef PSG_ACCOUNTANT_BUDGET_SEARCH_H
#define PSG_ACCOUNTANT_BUDGET_SEARCH_H

#include "privacy.h"

typedef enum psg_sought { PSG_SOUGHT_NOISE, PSG_SOUGHT_RATE, PSG_SOUGHT_RELEASES } psg_sought;

typedef struct psg_budget {
    const psg_accountant *spent; /* before the event */
    const char *function;
    const psg_event *event;
    uint64_t releases;
    double epsilon, delta;
    psg_sought sought;
} psg_budget;

/* epsilon after `releases` of the event with x in the place of what is sought. */
psg_status psg_budget_try(const psg_budget *budget, double x, psg_effort effort, double *epsilon);

/* The x in [least, most] next to the end of the budget, seen to fit: within 1e-4 relative, for releases within 1 or
 * 5e-4.  NAN where none was found. */
psg_status psg_budget_search(const psg_budget *budget, double least, double most, double *x);

#endif
