/* privacy.h: epsilon with or without its lower bound, for who asks often. */
#ifndef PSG_ACCOUNTANT_PRIVACY_H
#define PSG_ACCOUNTANT_PRIVACY_H

#include "runs.h"

/* Arguments must be valid. */
psg_status psg_privacy_epsilon(const psg_accountant *accountant, const char *function, double delta, int with_lower,
                               psg_privacy *privacy);

#endif
