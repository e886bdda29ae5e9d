/* Sums of integers in doubles.
 *
 * A double from 2^52 to 2^53 is an integer, and what is added to it is rounded to one in that addition.  So sums that
 * begin at PSG_GRID_ZERO, in the middle, round every addend on its own, and beyond that they are exact: in any order,
 * by any number of workers.  That holds while the magnitudes of all addends of a sum add up to at most PSG_GRID_ROOM.
 *
 * An addend of exactly k + 1/2 would be rounded by the parity of what is there.  There is none: one of the factors of
 * an addend is odd, an odd multiple of its last bit among 53, and so is then the product (fused: the exact one), whose
 * magnitude of k + 1/2 would be 2^51 at the least. */
#ifndef PSG_KERNELS_GRID_SUM_H
#define PSG_KERNELS_GRID_SUM_H

#define PSG_GRID_ZERO 0x1.8p52
#define PSG_GRID_ROOM 0x1p50

#ifdef PSG_SUFFIX
#include "vector.h"

typedef int64_t dvec_bits __attribute__((vector_size(PSG_VECTOR_BYTES)));

/* x with its last bit set; 0 stays 0: a product with the least of numbers may be slow. */
static inline dvec dvec_odd(dvec x) { return (dvec)((dvec_bits)x | ((x != 0) & 1)); }

/* sum + weight x, one of the factors odd; without a fused operation the rounded product is made so, and the least of
 * numbers in place of 0 changes no sum. */
static inline dvec add_on_grid(dvec sum, double weight, dvec x) {
    return PSG_FUSES ? dvec_add_product(sum, dvec_set(weight), x) : sum + (dvec)((dvec_bits)(weight * x) | 1);
}
#endif

#endif
