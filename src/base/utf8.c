#include "base/utf8.h"

#include <stdint.h>

/* The bytes of the character that text begins with, 0 where it is none: the first byte says how many, the least code
 * point of that many is checked, and each further byte is 10xxxxxx. */
static int character_bytes(const unsigned char *text) {
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    const int bytes = text[0] < 0x80 ? 1 : text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : text[0] >> 3 == 30 ? 4 : 0;
    if (bytes < 2) return bytes;
    uint32_t code = text[0] & (0x7F >> bytes);
    for (int k = 1; k < bytes; k++) {
        if (text[k] >> 6 != 2) return 0;
        code = code << 6 | (text[k] & 0x3F);
    }
    bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    return code < least[bytes] || code > 0x10FFFF || surrogate ? 0 : bytes;
}

bool psg_is_utf8(const char *text) {
    const unsigned char *next = (const unsigned char *)text;
    while (*next) {
        int bytes = character_bytes(next);
        if (!bytes) return false;
        next += bytes;
    }
    return true;
}

/* U+0000 to U+001F; U+007F to U+009F, whose last ones are C2 80 to C2 9F; what separates lines or turns the direction of
 * writing, U+2028 to U+202E (E2 80 A8 to AE) and U+2066 to U+2069 (E2 81 A6 to A9). */
static bool is_control(const unsigned char *text) {
    if (text[0] == 0xE2 && text[1] == 0x80) return text[2] >= 0xA8 && text[2] <= 0xAE;
    if (text[0] == 0xE2 && text[1] == 0x81) return text[2] >= 0xA6 && text[2] <= 0xA9;
    return text[0] < 0x20 || text[0] == 0x7F || (text[0] == 0xC2 && text[1] < 0xA0);
}

void psg_make_line(char *text) {
    unsigned char *next = (unsigned char *)text;
    while (*next) {
        const int bytes = character_bytes(next), replaced = !bytes ? 1 : is_control(next) ? bytes : 0;
        for (int k = 0; k < replaced; k++) next[k] = '?';
        next += replaced ? replaced : bytes;
    }
}
