/* pld_losses.h: the privacy losses of all releases of a composition, on one grid. */
#ifndef PSG_ACCOUNTANT_PLD_LOSSES_H
#define PSG_ACCOUNTANT_PLD_LOSSES_H

#include "composition.h"
#include "pld_compose.h"

typedef struct psg_loss_setting {
    double interval, resolution, tail; /* of the grid */
    psg_side side;
    int mirrored;
} psg_loss_setting;

/* Kinds of releases: those with sampling, and one Gaussian of all that nothing is sampled in. */
size_t psg_composition_losses(const psg_composition *composition);

/* Fills psg_composition_losses distributions; PSG_ERR_MEMORY.  Empty them in any case. */
psg_status psg_composition_fill(const psg_composition *composition, const char *function,
                                const psg_loss_setting *setting, psg_release_loss *loss);
void psg_composition_empty(const psg_composition *composition, psg_release_loss *loss);

/* The widest range of losses of one release between tails of probability `tail`, or a share of the largest loss where
 * they are all but constant; INFINITY where losses are beyond the doubles. */
double psg_composition_range(const psg_composition *composition, int mirrored, double tail);

#endif
