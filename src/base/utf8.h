/* Texts that come from files and callers. */
#ifndef PSG_BASE_UTF8_H
#define PSG_BASE_UTF8_H

#include <stdbool.h>

/* Whether a text is UTF-8 as RFC 3629 has it: no form longer than needed, no surrogates, nothing above U+10FFFF. */
bool psg_is_utf8(const char *text);
/* Makes one line of UTF-8 of a text, as long as before: bytes of control characters and of none become '?'. */
void psg_make_line(char *text);

#endif
