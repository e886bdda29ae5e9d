/* The end of a zip archive: where its directory is. */
#ifndef PSG_IO_ZIP_END_H
#define PSG_IO_ZIP_END_H

#include "io/reading.h"

typedef struct psg_zip_end {
    int64_t directory, directory_bytes;    /* from there to the records of the end, within the file */
    size_t entries;                        /* no more than so many bytes can have */
} psg_zip_end;

/* PSG_ERR_FORMAT: there is no such end, one that says more than the file has, or bytes after it. */
psg_status psg_zip_end_read(const psg_reading *reading, psg_zip_end *end);

#endif
