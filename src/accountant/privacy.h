/* privacy.h: epsilon at more or less expense, for who asks often. */
#ifndef PSG_ACCOUNTANT_PRIVACY_H
#define PSG_ACCOUNTANT_PRIVACY_H

#include "runs.h"

typedef enum psg_effort {
    PSG_EFFORT_QUICK, /* RDP and closed forms alone: a larger epsilon */
    PSG_EFFORT_UPPER, /* the smallest upper bound */
    PSG_EFFORT_BOTH   /* and the lower bound */
} psg_effort;

/* Arguments must be valid. */
psg_status psg_privacy_epsilon(const psg_accountant *accountant, const char *function, double delta, psg_effort effort,
                               psg_privacy *privacy);

#endif
