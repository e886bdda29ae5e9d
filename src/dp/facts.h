/* What a checkpoint says of its mechanism in words: a mechanism that loads it must say the same. */
#ifndef PSG_DP_FACTS_H
#define PSG_DP_FACTS_H

#include "dp/mechanism.h"

enum { PSG_DP_FACTS = 22 };

/* Room for a hash, and for the words of an optimizer. */
#define PSG_FACT_TEXT ((size_t)256)

typedef struct psg_dp_fact {
    const char *key;
    char value[PSG_FACT_TEXT];
} psg_dp_fact;

/* How samples are drawn and clipped, how much noise is added, the seed's and the optimizer's (or NULL) identity.  Not
 * the budget, which may be another when a run goes on. */
void psg_dp_say_facts(const psg_dp *dp, const psg_optimizer *optimizer, psg_dp_fact facts[PSG_DP_FACTS]);

#endif
