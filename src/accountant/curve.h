/* curve.h: the RDP curve of a composition, and the bounds that it gives. */
#ifndef PSG_ACCOUNTANT_CURVE_H
#define PSG_ACCOUNTANT_CURVE_H

#include "composition.h"

typedef struct psg_curve_bound {
    double value; /* epsilon, or log(delta) */
    double order;
} psg_curve_bound;

/* PSG_ERR_MEMORY alone.  The smallest over the orders 1.1 to 10.9 by 0.1, 11 to 63 by 1, then by factors to 1e5
 * (a few of them, and those around the best). */
psg_status psg_curve_epsilon(const psg_composition *composition, const char *function, double delta,
                             psg_curve_bound *bound);
psg_status psg_curve_log_delta(const psg_composition *composition, const char *function, double epsilon,
                               psg_curve_bound *bound);

/* ---- the same for rho-zCDP alone, over all orders ---- */
psg_curve_bound psg_zcdp_epsilon(double rho, double delta);
psg_curve_bound psg_zcdp_log_delta(double rho, double epsilon);

#endif
