/* Bars and caps: the discrete Gaussian D_Z(0, S^2), S = 2^(ratio_bits + offset_bits), from one random word a sample.
 *
 * Magnitudes m are cut into cells of width w = 2^offset_bits, m = j w + t.  With h_j = exp(-j^2 w^2 / (2 S^2)), cell j
 * is a bar of height h_(j+1), under which every t is taken, and above it a cap of height h_j - h_(j+1), under which t
 * is taken with the part of the cap that is below the curve (a ziggurat that is a table: Marsaglia and Tsang 2000).  A
 * column is a bar (j) or a cap (PSG_GRID_CELLS + j); Walker's alias method picks one with the probability of its area.
 *
 * Bits of a word: 0-11 a place of the alias table, 12 the sign, 13-41 the offset t, 44-63 against the threshold. */
#ifndef PSG_KERNELS_GRID_NOISE_KERNEL_H
#define PSG_KERNELS_GRID_NOISE_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define PSG_GRID_CELLS 2048
#define PSG_GRID_COLUMNS (2 * PSG_GRID_CELLS)
#define PSG_GRID_SIGN_BIT 12
#define PSG_GRID_OFFSET_BIT 13
#define PSG_GRID_THRESHOLD_BIT 44
/* Room for positions that are written before it is known whether they are needed. */
#define PSG_GRID_SLOW_ROOM 16

/* The alias table.  A place keeps its own column where a uniform fraction is below its threshold and hands over to its
 * alias elsewhere; an entry is the first 20 bits of the threshold, then 12 bits of alias. */
typedef struct psg_grid_columns {
    uint32_t entry[PSG_GRID_COLUMNS];
    unsigned offset_bits;   /* at most 29 */
} psg_grid_columns;

/* Where a word lands. */
typedef struct psg_grid_place {
    uint32_t cell;
    bool cap, negative;
    uint64_t offset;
} psg_grid_place;

static inline psg_grid_place psg_grid_place_of(uint64_t word, uint32_t column, unsigned offset_bits) {
    return (psg_grid_place){ column % PSG_GRID_CELLS, column >= PSG_GRID_CELLS, word >> PSG_GRID_SIGN_BIT & 1,
                             word >> PSG_GRID_OFFSET_BIT & (((uint64_t)1 << offset_bits) - 1) };
}

/* first ? a : b in arithmetic: a branch would take a time that tells which. */
static inline uint64_t psg_grid_choose(bool first, uint64_t a, uint64_t b) { return b ^ ((a ^ b) & -(uint64_t)first); }

/* -0 would give 0 twice the probability that it has. */
static inline bool psg_grid_is_minus_zero(const psg_grid_place *place) {
    return place->negative & !(place->cell | place->offset);
}

static inline int64_t psg_grid_value(const psg_grid_place *place, unsigned offset_bits) {
    const int64_t magnitude = (int64_t)((uint64_t)place->cell << offset_bits | place->offset);
    const int64_t negative = -(int64_t)place->negative;
    return (magnitude ^ negative) - negative;
}

/* The plain reference of the kernel: *value is the sample, unless the word needs more bits than it has (a cap, a tie
 * with the threshold) or is refused (-0): false. */
static inline bool psg_grid_quick(const psg_grid_columns *columns, uint64_t word, int64_t *value) {
    const uint32_t own = word % PSG_GRID_COLUMNS, entry = columns->entry[own];
    const uint32_t bits = (uint32_t)(word >> PSG_GRID_THRESHOLD_BIT), threshold = entry / PSG_GRID_COLUMNS;
    const uint32_t column = (uint32_t)psg_grid_choose(bits < threshold, own, entry % PSG_GRID_COLUMNS);
    const psg_grid_place place = psg_grid_place_of(word, column, columns->offset_bits);
    *value = psg_grid_value(&place, columns->offset_bits);
    return !((bits == threshold) | place.cap | psg_grid_is_minus_zero(&place));
}

#endif
