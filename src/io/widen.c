#include "io/widen.h"

#include <stdint.h>
#include <string.h>

void psg_widen_i8(const void *from, void *to, size_t count) {
    const int8_t *values = from;
    for (size_t i = 0; i < count; i++) memcpy((char *)to + 4 * i, &(int32_t){ values[i] }, 4);
}

void psg_widen_u8(const void *from, void *to, size_t count) {
    const uint8_t *values = from;
    for (size_t i = 0; i < count; i++) memcpy((char *)to + 4 * i, &(int32_t){ values[i] }, 4);
}

void psg_widen_i16(const void *from, void *to, size_t count) {
    int16_t value;
    for (size_t i = 0; i < count; i++) {
        memcpy(&value, (const char *)from + 2 * i, 2);
        memcpy((char *)to + 4 * i, &(int32_t){ value }, 4);
    }
}

void psg_widen_u16(const void *from, void *to, size_t count) {
    uint16_t value;
    for (size_t i = 0; i < count; i++) {
        memcpy(&value, (const char *)from + 2 * i, 2);
        memcpy((char *)to + 4 * i, &(int32_t){ value }, 4);
    }
}

void psg_widen_u32(const void *from, void *to, size_t count) {
    uint32_t value;
    for (size_t i = 0; i < count; i++) {
        memcpy(&value, (const char *)from + 4 * i, 4);
        memcpy((char *)to + 8 * i, &(int64_t){ value }, 8);
    }
}
