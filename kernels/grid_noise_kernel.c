/* The samples of the discrete Gaussian that one word decides, and where the others are. */
#undef PSG_REAL_IS_F64
#define PSG_REAL_IS_F64 1

#include "kernels.h"
#include "vector.h"

size_t PSG_KERNEL(grid_noise)(size_t n, const psg_grid_columns *columns, const uint64_t *words, int64_t *out,
                              uint32_t *slow) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        slow[found] = (uint32_t)i;
        found += !psg_grid_quick(columns, words[i], &out[i]);
    }
    return found;
}
