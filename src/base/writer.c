#include "base/writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void psg_put(psg_writer *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = w->used < w->size ? w->size - w->used : 0;
    int length = vsnprintf(room ? w->text + w->used : NULL, room, format, arguments);
    va_end(arguments);
    if (length > 0) w->used += (size_t)length;
}

/* What is no digit, sign or exponent is the locale's decimal point, of one byte or more. */
void psg_put_number(psg_writer *w, double value) {
    static const char plain[] = "0123456789+-e";
    char text[64];
    snprintf(text, sizeof text, "%.17g", value);
    const size_t before = strspn(text, plain), point = strcspn(text + before, plain);
    psg_put(w, "%.*s%s%s", (int)before, text, point ? "." : "", text + before + point);
}
