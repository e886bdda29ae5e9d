/* Noise on an integer grid: samples of the discrete Gaussian, each with an address. */
#ifndef PSG_DP_GRID_NOISE_H
#define PSG_DP_GRID_NOISE_H

#include "dp/random.h"
#include "grid_noise_kernel.h"

/* log2 of the scale S.  A rounded normal deviate N(0, S^2) and a sample of D_Z(0, S^2) differ in log probability by
 * |z^2 - 1| / (24 S^2) at z S: below 2^-69 up to 13 S. */
#define PSG_GRID_SCALE_BITS 36
#define PSG_GRID_RATIO_BITS 7

/* Samples at a time. */
#define PSG_GRID_BLOCK ((size_t)4096)

/* Slots that n samples take at least, so that the time does not tell how many were undecided (each with probability
 * 0.0062): more are needed with probability below 2^-68. */
static inline size_t psg_grid_least_slots(size_t n) { return 30 + (62 * n + PSG_GRID_BLOCK - 1) / PSG_GRID_BLOCK; }

/* What is needed while noise is made, and wiped after it. */
typedef struct psg_grid_scratch {
    uint64_t words[PSG_GRID_BLOCK + PSG_WORDS_PER_BLOCK];
    uint64_t retry[PSG_WORDS_PER_BLOCK];
    unsigned char key[PSG_KEY_BYTES];
    int64_t unused;
    uint32_t slow[PSG_GRID_BLOCK + PSG_GRID_SLOW_ROOM];
} psg_grid_scratch;

#define PSG_GRID_NOISE_SCRATCH sizeof(psg_grid_scratch)

/* out[i] = z, z ~ D_Z(0, S^2) with S = 2^PSG_GRID_SCALE_BITS, |z| < 2^40, at coordinate first + i of a stream of
 * purpose PSG_PURPOSE_GRID_NOISE; first + count <= 2^63.  Sample i depends on the key, the stream and the coordinate
 * alone.  scratch: PSG_GRID_NOISE_SCRATCH bytes, 8-byte aligned; wiped. */
void psg_grid_noise(const psg_generator *generator, const psg_stream *stream, uint64_t first, size_t count,
                    int64_t *out, void *scratch);

#endif
