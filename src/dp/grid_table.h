/* The constants of the grid sampler, from integers alone: the same bits on every machine. */
#ifndef PSG_DP_GRID_TABLE_H
#define PSG_DP_GRID_TABLE_H

#include "dp/wide_integer.h"
#include "grid_noise_kernel.h"

/* Of 1 - exp(-y), y <= 1/8: what is left out is below 2^-128. */
#define PSG_GRID_TERMS 20
/* First bits of y that a table answers for. */
#define PSG_GRID_FALL_BITS 10

/* Columns and caps as in grid_noise_kernel.h. */
typedef struct psg_grid_table {
    psg_grid_columns columns;
    unsigned ratio_bits;                          /* S / w = 2^ratio_bits */
    psg_u128 threshold[PSG_GRID_COLUMNS];         /* whole: of 2^PSG_GRID_CAPACITY_BITS */
    psg_u128 cap[PSG_GRID_CELLS];                 /* (h_j - h_(j+1)) / h_j = 1 - exp(-(2 j + 1) w^2 / (2 S^2)) */
    psg_u128 inverse_factorial[PSG_GRID_TERMS];   /* of 1, 2, ... */
    psg_u128 fall[1 << PSG_GRID_FALL_BITS];       /* 1 - exp(-k / 2^PSG_GRID_FALL_BITS) */
} psg_grid_table;

/* The probabilities of the columns are integers over 2^128, and 1 / PSG_GRID_COLUMNS of that fills a place. */
#define PSG_GRID_CAPACITY_BITS 116

/* Makes the table of S = 2^(ratio_bits + offset_bits).  ratio_bits <= 7, so that 16 S have cells; offset_bits <= 29.
 * Fewer ratio_bits than 7 are for tests: where 2^offset_bits > 1, far cells have caps too steep for
 * psg_grid_below_curve.
 *
 * The probability of each column is within 2^-127 of that of its area, but for the first, which takes what is missing
 * to 1 (below 2^-115); the discrete Gaussian has less than 2^-180 beyond the cells. */
void psg_grid_table_make(psg_grid_table *table, unsigned ratio_bits, unsigned offset_bits);

/* The column at a word's place by all 116 bits of the threshold, of which `more` holds 96, from its top. */
uint32_t psg_grid_column(const psg_grid_table *table, uint64_t word, psg_u128 more);

/* Whether the uniform fraction u is below the curve in the cap of a place's cell. */
bool psg_grid_below_curve(const psg_grid_table *table, const psg_grid_place *place, psg_u128 u);

/* 1 - exp(-y) of a fraction y, within 2^-126 up to y = 1/8, and y^21 / 21! more above. */
psg_u128 psg_grid_fall(const psg_grid_table *table, psg_u128 y);

#endif
