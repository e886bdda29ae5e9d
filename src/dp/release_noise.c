#include "dp/release_noise.h"

#include <string.h>

#include "dp/random.h"

void psg_dp_make_noise(const psg_dp *dp, psg_noise_of what, size_t block, size_t count, psg_noise_scratch *scratch) {
    const psg_stream stream = { PSG_PURPOSE_GRID_NOISE, what, dp->owner, dp->step };
    if (dp->options.noise_multiplier == 0) memset(scratch->noise, 0, count * sizeof *scratch->noise);
    else psg_grid_noise(dp->generator, &stream, block, count, scratch->noise, &scratch->grid);
}
