/* Decimal numbers of texts, rounded correctly: to the nearest real, ties to even. */
#ifndef PSG_IO_DECIMAL_H
#define PSG_IO_DECIMAL_H

#include <locale.h>
#include <stddef.h>

typedef enum psg_decimal {
    PSG_DECIMAL_READ, PSG_DECIMAL_NONE /* the text is no number */, PSG_DECIMAL_LARGE /* the nearest real is infinite */
} psg_decimal;

/* The whole text: [+-] digits [. digits] [(e|E) [+-] digits], a digit before or after the point.  c: the locale "C".
 * The byte after the text is no digit, letter, sign or point. */
psg_decimal psg_decimal_f64(const char *text, size_t length, locale_t c, double *value);
psg_decimal psg_decimal_f32(const char *text, size_t length, locale_t c, float *value);

#endif
