/* The gradient of a block by plain loops. */
#ifndef PSG_TEST_GRADIENT_VALUES_H
#define PSG_TEST_GRADIENT_VALUES_H

#include "support.h"

int64_t block_positions(const psg_block *block);
/* p + d. */
double block_features(const psg_block *block);
/* Factored or unfolded. */
bool block_is_product(const psg_block *block);
/* These and row products. */
bool block_has_activation(const psg_block *block);

/* Adds the block of sample n to the flattened parameter: values, sums of the terms' absolute values, and to *mass
 * sum_t |scale| |backprop_t| |activation_t|. */
void block_add_values(const psg_block *block, int64_t n, long double *value, double *terms, double *mass);

#endif
