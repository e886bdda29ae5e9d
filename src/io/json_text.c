#include "io/json_text.h"

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
