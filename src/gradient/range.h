/* The generic route: any gradient of a sample, any mix of forms, over any range of the flattened parameter. */
#ifndef PSG_GRADIENT_RANGE_H
#define PSG_GRADIENT_RANGE_H

#include "gradient/block.h"

/* out[f - first] += scale * gradient[n][f] for f in [first, last): one piece, or all blocks of the gradient. */
void psg_add_piece_range(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n, double scale,
                         int64_t first, int64_t last, void *out, void *workspace);
void psg_add_range(psg_context *context, const psg_gradient *gradient, int64_t n, double scale, int64_t first,
                   int64_t last, void *out, void *workspace);

/* A worker's workspace: panels of the product kernel, then a tile of the gradient, then small arrays. */
#define PSG_TILE_BYTES ((size_t)768 << 10)
#define PSG_SMALL_BYTES (PSG_WORKSPACE_BYTES - PSG_PRODUCT_WORKSPACE - PSG_TILE_BYTES)
static inline void *psg_tile_memory(void *workspace) { return (char *)workspace + PSG_PRODUCT_WORKSPACE; }
static inline void *psg_small_memory(void *workspace) {
    return (char *)workspace + PSG_PRODUCT_WORKSPACE + PSG_TILE_BYTES;
}

/* Cuts count into equal parts of about target, multiples of grain: the size of a part. */
static inline int64_t psg_even_part(int64_t count, int64_t target, int64_t grain) {
    int64_t parts = (count + target - 1) / target;
    if (parts <= 1) return count > 0 ? count : 1;
    int64_t part = (count + parts - 1) / parts;
    return (part + grain - 1) / grain * grain;
}

#endif
