/* 128-bit integers, read here as fractions: x stands for x 2^-128. */
#ifndef PSG_DP_WIDE_INTEGER_H
#define PSG_DP_WIDE_INTEGER_H

#include <stdint.h>

__extension__ typedef unsigned __int128 psg_u128;

/* floor(a b 2^-128): the product of two fractions, rounded down. */
static inline psg_u128 psg_high_product(psg_u128 a, psg_u128 b) {
    const uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
    const psg_u128 middle = (psg_u128)a1 * b0 + (uint64_t)(((psg_u128)a0 * b0) >> 64);
    const psg_u128 other = (psg_u128)a0 * b1 + (uint64_t)middle;
    return (psg_u128)a1 * b1 + (uint64_t)(middle >> 64) + (uint64_t)(other >> 64);
}

#endif
