/* bins_rdp.h: RDP of balls in bins. */
#ifndef PSG_ACCOUNTANT_BINS_RDP_H
#define PSG_ACCOUNTANT_BINS_RDP_H

#include "composition.h"

/* Of all releases of the part together, at any order alpha > 1, in both directions. */
double psg_bins_rdp(const psg_mechanism *part, double alpha);

/* (order - 1) RDP of one direction, order in [2, 64]: P against Q, or mirrored Q against P.  INFINITY where quadrature
 * would be out of its depth. */
double psg_bins_log_moment(const psg_mechanism *part, int order, int mirrored);

#endif
