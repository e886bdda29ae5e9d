/* binomial.h: tails of the binomial distribution. */
#ifndef PSG_ACCOUNTANT_BINOMIAL_H
#define PSG_ACCOUNTANT_BINOMIAL_H

#include <stdint.h>

/* P(Bin(n, q) >= first), rounded up by 1e-9 relative; 1 from ten deviations below the mean on; a bound where there are
 * more than 1e10 / (q (1 - q)) records. */
double psg_binomial_tail(uint64_t n, double q, uint64_t first);

/* P(Bin(n, q) = k), to about 1e-12 relative for n below 1e9. */
double psg_binomial_mass(uint64_t n, double q, uint64_t k);

#endif
