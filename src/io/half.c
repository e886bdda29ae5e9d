#include "io/half.h"

#include <string.h>

static float f32_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Sign, 5 bits of exponent with bias 15, 10 of fraction; below the least exponent the value is fraction * 2^-24. */
float psg_f32_of_f16(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 0x1F, fraction = bits & 0x3FF;
    if (exponent == 0) return (sign ? -0x1p-24f : 0x1p-24f) * (float)fraction;
    if (exponent == 0x1F) return f32_of_bits(sign | 0x7F800000 | fraction << 13);
    return f32_of_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

float psg_f32_of_bf16(uint16_t bits) { return f32_of_bits((uint32_t)bits << 16); }

/* Element i is read from 2 i bytes after the input's begin and written at 4 i: where the input ends with the output, no
 * element is overwritten before it is read. */
static void widen(const char *from, char *to, size_t count, float (*value_of)(uint16_t)) {
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, from + i * sizeof bits, sizeof bits);
        float value = value_of(bits);
        memcpy(to + i * sizeof value, &value, sizeof value);
    }
}

void psg_widen_f16(const void *from, void *to, size_t count) { widen(from, to, count, psg_f32_of_f16); }
void psg_widen_bf16(const void *from, void *to, size_t count) { widen(from, to, count, psg_f32_of_bf16); }
