/* What the search found, a line a family, real type and route. */
#ifndef PSG_ATTACK_REPORT_H
#define PSG_ATTACK_REPORT_H

#include "attack.h"

enum { ATTACK_MOST_FAMILIES = 32 };

typedef struct attack_tally {
    int64_t pairs, refused, one_sided, broken;
    double largest;              /* share of C, of pairs that held */
    double worst;                /* of those that did not */
} attack_tally;

typedef struct attack_report {
    uint64_t seed;
    attack_tally all;
    attack_tally tally[ATTACK_MOST_FAMILIES][2][ATTACK_ROUTES];
    char refusal[ATTACK_MOST_FAMILIES][160];   /* one-sided, the last */
} attack_report;

/* Counts a pair; prints a line for one that broke the bound. */
void attack_count(attack_report *report, int64_t index, const attack_pair *pair, const attack_outcome *outcome);
void attack_print(const attack_report *report);
/* All about one pair. */
void attack_print_pair(const attack_pair *pair, const attack_outcome *outcome);

#endif
