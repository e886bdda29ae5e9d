/* pld.h: bounds from privacy loss distributions. */
#ifndef PSG_ACCOUNTANT_PLD_H
#define PSG_ACCOUNTANT_PLD_H

#include "composition.h"

typedef struct psg_pld_bound {
    double upper, lower; /* epsilon, or log(delta); nothing found: INFINITY (0 for log(delta)) and 0 (-INFINITY) */
    double interval;
    const char *note;    /* why nothing was found, or NULL */
} psg_pld_bound;

/* Why a composition has no privacy loss distribution, or NULL. */
const char *psg_pld_refusal(const psg_composition *composition);

/* PSG_ERR_MEMORY alone.  epsilon: an upper bound at log_delta, a lower one at log_delta_lower.  Without with_lower the
 * lower bound is left out. */
psg_status psg_pld_epsilon(const psg_composition *composition, const char *function, double log_delta,
                           double log_delta_lower, int with_lower, psg_pld_bound *bound);
/* log_delta: about what is expected, or less; masses far below it are left out. */
psg_status psg_pld_log_delta(const psg_composition *composition, const char *function, double epsilon,
                             double log_delta, int with_lower, psg_pld_bound *bound);

#endif
