/* The grid of a private sum: which multiples of a unit its addends, its noise and its release are. */
#ifndef PSG_DP_GRID_H
#define PSG_DP_GRID_H

#include "psg/base.h"

#define PSG_NOISE_SCALE 0x1p36     /* S: the standard deviation of the noise, in units */

typedef struct psg_grid {
    double unit;                    /* what one is worth */
    double units;                   /* of a gradient of 1; at most 1 / unit */
} psg_grid;

/* Of sums over `elements` elements whose addends have norm at most C: rounded to the grid they have at most S / sigma
 * (sigma 0: some S).  unit 0: these are out of range. */
psg_grid psg_grid_of(double noise_multiplier, double max_grad_norm, double elements);

#endif
