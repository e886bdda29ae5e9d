#include "dp/grid.h"

#include <math.h>

/* An addend of norm C is units C long, and rounding moves each element by at most 1/2, where 1 is allowed for:
 *
 *   unit = sigma C / (S - sigma sqrt(D))  =>  C / unit + sqrt(D) = S / sigma.
 *
 * The unit is rounded up by some roundings' worth, and 1 / unit down. */
psg_grid psg_grid_of(double noise_multiplier, double max_grad_norm, double elements) {
    const double outwards = 1 + 0x1p-48;
    double spread = noise_multiplier * sqrt(elements);
    psg_grid grid = { max_grad_norm / PSG_NOISE_SCALE, 0 };
    if (spread > PSG_NOISE_SCALE / 2) return (psg_grid){ 0, 0 };
    if (noise_multiplier > 0) grid.unit = noise_multiplier * max_grad_norm / (PSG_NOISE_SCALE - spread) * outwards;
    grid.units = 1 / grid.unit / outwards;
    return isnormal(grid.unit) && isnormal(grid.units) ? grid : (psg_grid){ 0, 0 };
}
