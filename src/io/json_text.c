#include "io/json_text.h"

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

static void put_escaped(psg_writer *w, char c) {
    switch (c) {
    case '"': psg_put(w, "\\\""); break;
    case '\\': psg_put(w, "\\\\"); break;
    case '\b': psg_put(w, "\\b"); break;
    case '\f': psg_put(w, "\\f"); break;
    case '\n': psg_put(w, "\\n"); break;
    case '\r': psg_put(w, "\\r"); break;
    case '\t': psg_put(w, "\\t"); break;
    default: psg_put(w, "\\u%04x", (unsigned)c); break;
    }
}

/* Characters that stand for themselves, at most 64 KiB of them. */
static int plain_bytes(const char *text) {
    int bytes = 0;
    while ((unsigned char)text[bytes] >= 0x20 && text[bytes] != '"' && text[bytes] != '\\' && bytes < 65536) bytes++;
    return bytes;
}

void psg_put_json_text(psg_writer *w, const char *text) {
    psg_put(w, "\"");
    while (*text) {
        int plain = plain_bytes(text);
        if (plain) psg_put(w, "%.*s", plain, text);
        else put_escaped(w, *text);
        text += plain ? plain : 1;
    }
    psg_put(w, "\"");
}
