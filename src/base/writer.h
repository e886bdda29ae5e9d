/* A text that grows into the caller's array and knows how long it would be. */
#ifndef PSG_BASE_WRITER_H
#define PSG_BASE_WRITER_H

#include "psg/base.h"

typedef struct psg_writer {
    char *text;              /* of size bytes; what does not fit is counted alone */
    size_t size, used;       /* used: without the final 0 */
} psg_writer;

void psg_put(psg_writer *writer, const char *format, ...) PSG_PRINTF(2, 3);
/* All digits of a finite number, as JSON and C write it in any locale. */
void psg_put_number(psg_writer *writer, double value);

#endif
