/* Texts of JSON, written. */
#ifndef PSG_IO_JSON_TEXT_H
#define PSG_IO_JSON_TEXT_H

#include <stdbool.h>

#include "base/writer.h"

/* Whether a text is UTF-8 as RFC 3629 has it: no form longer than needed, no surrogates, nothing above U+10FFFF. */
bool psg_is_utf8(const char *text);
/* The text in quotes, RFC 8259, with what must be escaped. */
void psg_put_json_text(psg_writer *writer, const char *text);

#endif
