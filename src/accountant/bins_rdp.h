/* bins_rdp.h: RDP of balls in bins. */
#ifndef PSG_ACCOUNTANT_BINS_RDP_H
#define PSG_ACCOUNTANT_BINS_RDP_H

#include "composition.h"

/* Of all releases of the part together, at any order alpha > 1, in both directions. */
double psg_bins_rdp(const psg_mechanism *part, double alpha);

#endif
