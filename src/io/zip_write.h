/* The records of stored members of a zip archive, as bytes. */
#ifndef PSG_IO_ZIP_WRITE_H
#define PSG_IO_ZIP_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct psg_zip_stored {
    const char *name;              /* UTF-8 */
    size_t name_length;            /* at most 65535 */
    uint64_t place, size;          /* of the local record in the file; of the data */
    uint32_t crc;
} psg_zip_stored;

#define PSG_ZIP_MOST_NAME 0xFFFF
/* Bytes that a record takes at most, the name left out. */
#define PSG_ZIP_MOST_RECORD 192

/* Each in two parts with the name between them: the record's fixed part, of before bytes, and its extra fields; returns
 * the bytes of both.  What does not fit 32 bits stands in the extra fields.  Local: room is left so that the data,
 * which follows, begins at a multiple of 64. */
size_t psg_zip_local_put(const psg_zip_stored *member, unsigned char record[PSG_ZIP_MOST_RECORD], size_t *before);
size_t psg_zip_central_put(const psg_zip_stored *member, unsigned char record[PSG_ZIP_MOST_RECORD], size_t *before);
/* The end of an archive whose directory stands between two places. */
size_t psg_zip_end_put(uint64_t entries, uint64_t begin, uint64_t end, unsigned char record[PSG_ZIP_MOST_RECORD]);

#endif
