/* The members of a zip archive, as its central directory has them. */
#ifndef PSG_IO_ZIP_DIRECTORY_H
#define PSG_IO_ZIP_DIRECTORY_H

#include "io/extent.h"

typedef struct psg_zip_member {
    char *name;                    /* UTF-8; the set's, as extent.member */
    unsigned flags, method;
    int64_t place;                 /* of its local record */
    psg_extent extent;
} psg_zip_member;

/* By place, each name once; the arena's.  Together with the directory they are the whole file: no overlaps, holes or
 * bytes after it.  What their local records say is the same. */
psg_status psg_zip_directory_read(const psg_reading *reading, psg_arena *arena, psg_zip_member **members,
                                  size_t *count);

#endif
