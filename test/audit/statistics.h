/* Levels and bounds that audits decide by. */
#ifndef PSG_AUDIT_STATISTICS_H
#define PSG_AUDIT_STATISTICS_H

#include <stdint.h>

/* Every decision of an audit errs with probability at most 1e-6 where the library is right.  A default run takes
 *
 *   38   two-sided statistics of the noise                                        (noise.c)
 *    3   bounds on mu, 20 on delta                                                (one_step.c)
 *    1   bound on epsilon                                                         (one_run.c)
 *
 * 62 in all: with a fresh key it raises a false alarm with probability below 6.2e-5 < 1e-4.  What asks whether an audit
 * sees enough is passed by more than 6 standard deviations each, and adds less than 1e-8 together; records.c decides
 * without chance. */
#define AUDIT_LEVEL 1e-6
#define AUDIT_Z 4.8917         /* two-sided */

/* P[N(0, 1) > x]; and the x below which p of it lies. */
double normal_above(double x);
double normal_quantile(double p);

/* The regularised incomplete beta function I_x(a, b), a, b >= 1. */
double beta_below(double a, double b, double x);

/* P[Bin(n, p) >= k] */
double binomial_at_least(int64_t k, int64_t n, double p);

/* An upper bound on the probability of an event seen `hits` times in n, wrong with probability at most `level` (Clopper
 * and Pearson 1934). */
double probability_bound(int64_t hits, int64_t n, double level);

/* The normal deviate of the same level: of a count, by the exact binomial tails; of a chi-square with k degrees of
 * freedom, by Wilson and Hilferty (1931). */
double deviate_of_count(int64_t hits, int64_t n, double p);
double deviate_of_chi_square(double chi, double k);

#endif
