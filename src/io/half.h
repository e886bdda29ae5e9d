/* Reals of 16 bits and of 32, widened; every value is exact. */
#ifndef PSG_IO_HALF_H
#define PSG_IO_HALF_H

#include <stddef.h>
#include <stdint.h>

/* binary16 of IEEE 754, and bfloat16: the upper half of a binary32. */
float psg_f32_of_f16(uint16_t bits);
float psg_f32_of_bf16(uint16_t bits);

/* count elements, contiguous, of any alignment; the input may be the last part of the output's own memory. */
void psg_widen_f16(const void *from, void *to, size_t count);
void psg_widen_bf16(const void *from, void *to, size_t count);

#endif
