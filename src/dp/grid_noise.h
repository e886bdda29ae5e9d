/* Noise on an integer grid: samples of the discrete Gaussian, each with an address. */
#ifndef PSG_DP_GRID_NOISE_H
#define PSG_DP_GRID_NOISE_H

#include "dp/random.h"
#include "grid_noise_kernel.h"

/* log2 of the scale S.  A rounded normal deviate N(0, S^2) and a sample of D_Z(0, S^2) differ in log probability by
 * |z^2 - 1| / (24 S^2) at z S: below 2^-69 up to 13 S. */
#define PSG_GRID_SCALE_BITS 36
#define PSG_GRID_RATIO_BITS 7

/* Samples of a block.  What one word leaves undecided is decided in slots, which the undecided samples of a block take
 * one after another in the order of their coordinates: so a sample depends on what is before it in its block. */
#define PSG_GRID_BLOCK ((size_t)16384)
#define PSG_GRID_BLOCKS(count) (((count) + PSG_GRID_BLOCK - 1) / PSG_GRID_BLOCK)
/* Samples at a time, so that words and table stay in the first cache level. */
#define PSG_GRID_PART ((size_t)2048)

/* Slots are read by groups that are whole blocks of ChaCha20: 8 slots of 5 words. */
#define PSG_GRID_SLOT_WORDS 5
#define PSG_GRID_SLOT_GROUP ((size_t)8)
#define PSG_GRID_MOST_SLOTS ((size_t)216)

/* Slots that the first n <= PSG_GRID_BLOCK samples of a block take at least, so that the time does not tell how many
 * were undecided (each with probability 0.0062): more are needed with probability below 2^-68.  The number that is
 * needed is concave in n, and these are two lines above it. */
static inline size_t psg_grid_least_slots(size_t n) {
    const size_t few = 30 + (62 * n + 4095) / 4096, many = 93 + (123 * n + 16383) / 16384;
    const size_t least = few < many ? few : many;
    return (least + PSG_GRID_SLOT_GROUP - 1) / PSG_GRID_SLOT_GROUP * PSG_GRID_SLOT_GROUP;
}

/* What is needed while noise is made, and wiped after it. */
typedef struct psg_grid_scratch {
    uint64_t slots[PSG_GRID_MOST_SLOTS * PSG_GRID_SLOT_WORDS];
    unsigned char key[PSG_KEY_BYTES];
    int64_t unused;
    uint32_t slow[PSG_GRID_PART + PSG_GRID_SLOW_ROOM];
} psg_grid_scratch;

/* out[i] = z, z ~ D_Z(0, S^2) with S = 2^PSG_GRID_SCALE_BITS, |z| < 2^40, at coordinate block PSG_GRID_BLOCK + i of a
 * stream of purpose PSG_PURPOSE_GRID_NOISE; count <= PSG_GRID_BLOCK, coordinates are below 2^63.  Sample i depends on
 * the key, the stream and the coordinate alone.  scratch is wiped.  Returns how many slots it took. */
size_t psg_grid_noise(const psg_generator *generator, const psg_stream *stream, uint64_t block, size_t count,
                      int64_t *out, psg_grid_scratch *scratch);

#endif
