/* What is counted of released noise. */
#ifndef PSG_AUDIT_NOISE_TALLY_H
#define PSG_AUDIT_NOISE_TALLY_H

#include <stdint.h>

enum { NOISE_LAGS = 5, NOISE_TAILS = 5, NOISE_LANES = 16, NOISE_BLOCK = 16384, NOISE_BYTES = 2 };

/* Which release another is compared with, element by element. */
typedef enum noise_pair {
    NOISE_OF_STEP,              /* the step before, of one mechanism */
    NOISE_OF_PARAMETER,         /* another parameter of one step */
    NOISE_OF_MECHANISM,         /* the same step of another mechanism of the generator */
    NOISE_OF_PUBLIC,            /* what psg_discrete_gaussian shows of the generator */
    NOISE_PAIRS
} noise_pair;

extern const int64_t noise_lags[NOISE_LAGS];

/* Sums over u = z / S and over v = (u^2 - 1) / sqrt(2), both of mean 0 and variance 1. */
typedef struct noise_sums {
    double u, v;
    int64_t count;
} noise_sums;

typedef struct noise_tally {
    int64_t count;
    double power[5];                                  /* of u, by exponent */
    int64_t above[NOISE_TAILS + 1], below[NOISE_TAILS + 1];   /* k S, -k S */
    noise_sums lag[NOISE_LAGS], pair[NOISE_PAIRS];    /* of products */
    noise_sums lane[NOISE_LANES], place[NOISE_BLOCK]; /* by coordinate, of each 16 and of each block */
    int64_t byte[NOISE_BYTES][256];                   /* the lowest ones of z */
} noise_tally;

/* One release of `count` integers: u and v of them. */
typedef struct noise_release {
    double *u, *v;
} noise_release;

void noise_standardise(const int64_t *z, int64_t count, noise_release *release);
void noise_count(noise_tally *tally, const int64_t *z, const noise_release *release, int64_t count);
/* Products of two stretches. */
void noise_count_pair(noise_sums *sums, const noise_release *a, int64_t first_a, const noise_release *b,
                      int64_t first_b, int64_t count);

#endif
