/* numeric.h: the little numerical analysis that the accountant rests on. */
#ifndef PSG_ACCOUNTANT_NUMERIC_H
#define PSG_ACCOUNTANT_NUMERIC_H

/* log(e^a + e^b), without overflow; -infinity is the logarithm of 0; NaN when either is NaN. */
double psg_log_add(double a, double b);

/* log(e^a - e^b); NaN unless a > b. */
double psg_log_subtract(double a, double b);

/* log|e^x - 1|, accurate near 0 and finite for large x; -infinity at 0. */
double psg_log_abs_expm1(double x);

/* log(erfc(x)), also where erfc(x) is 0 in double precision. */
double psg_log_erfc(double x);

/* The point where a condition that is false below it and true above begins to hold: approached from above to within
 * `tolerance` relative, so that the condition was seen to hold at the value returned.  NaN when it does not hold at
 * `highest`; the search ends at DBL_MIN when it holds everywhere. */
typedef int (*psg_condition)(const void *setting, double x);
double psg_smallest(psg_condition holds, const void *setting, double highest, double tolerance);

/* The relative allowance by which every epsilon is rounded up before it is returned: far above the error of the sums
 * behind it, far below what anybody reads. */
#define PSG_OUTWARD 1e-9

#endif
