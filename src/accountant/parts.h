/* parts.h: the kinds of releases of a composition, each once, and not too many. */
#ifndef PSG_ACCOUNTANT_PARTS_H
#define PSG_ACCOUNTANT_PARTS_H

#include "composition.h"

/* Every part costs a privacy loss distribution and an RDP curve; more than these are merged into worse ones. */
#define PSG_MOST_PARTS 64

psg_status psg_parts_reserve(psg_composition *composition, const char *function, size_t count);
/* Room must have been reserved. */
psg_status psg_parts_add(psg_composition *composition, const psg_mechanism *part);
/* Adds up equal parts; leaves at most PSG_MOST_PARTS. */
void psg_parts_merge(psg_composition *composition);

#endif
