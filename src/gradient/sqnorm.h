#ifndef PSG_GRADIENT_SQNORM_H
#define PSG_GRADIENT_SQNORM_H

#include "gradient/plan.h"

/* Squared norms of the samples over all parts of a plan, and their upper bounds, B of each. */
void psg_add_norms(psg_plan *plan, long double *square, long double *upper);

/* The least double that is not below x (which is not negative), up to a factor of 1 + 2^-51. */
double psg_round_up(long double x);

#endif
