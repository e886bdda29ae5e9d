/* The names of enumerations in files and statements. */
#ifndef PSG_DP_NAMES_H
#define PSG_DP_NAMES_H

#include "psg/accountant.h"

/* "poisson", ...; NULL for no psg_sampling. */
const char *psg_sampling_name(psg_sampling sampling);
/* -1 for no name. */
int psg_sampling_of_name(const char *name);
/* "add_or_remove_one", "replace_one". */
const char *psg_relation_name(psg_relation relation);
int psg_relation_of_name(const char *name);

#endif
