/* The noise of one release, wherever it is added. */
#ifndef PSG_DP_RELEASE_NOISE_H
#define PSG_DP_RELEASE_NOISE_H

#include "dp/grid_noise.h"
#include "dp/mechanism.h"

/* Streams of a step's noise: of the sums, all parameters one after another, and of the count of a quantile. */
typedef enum psg_noise_of { PSG_NOISE_OF_SUMS, PSG_NOISE_OF_COUNT } psg_noise_of;

typedef struct psg_noise_scratch {
    psg_grid_scratch grid;
    int64_t noise[PSG_GRID_BLOCK];
} psg_noise_scratch;

/* z at the first `count` elements of a block of PSG_GRID_BLOCK, into scratch->noise: 0 without noise. */
void psg_dp_make_noise(const psg_dp *dp, psg_noise_of what, size_t block, size_t count, psg_noise_scratch *scratch);

#endif
