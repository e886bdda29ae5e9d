/* Texts of JSON, written. */
#ifndef PSG_IO_JSON_TEXT_H
#define PSG_IO_JSON_TEXT_H

#include "base/writer.h"

/* The text in quotes, RFC 8259, with what must be escaped. */
void psg_put_json_text(psg_writer *writer, const char *text);

#endif
