/* A file under way to a set of tensors. */
#ifndef PSG_IO_READING_H
#define PSG_IO_READING_H

#include "io/tensors.h"

typedef struct psg_reading {
    psg_source source;
    int descriptor;
    int64_t bytes;                 /* of the file */
    psg_tensors *set;              /* with its path, empty at first */
} psg_reading;

/* What each function that reads asks of its arguments; *tensors becomes NULL. */
psg_status psg_reading_check(const psg_source *source, psg_file_access access, psg_tensors **tensors);

psg_status psg_reading_begin(const psg_source *source, psg_reading *reading);
/* Also after an error of begin.  Returns status; where it is none the set is the caller's, else nothing is left. */
psg_status psg_reading_end(psg_reading *reading, psg_status status, psg_tensors **tensors);

/* PSG_ERR_FORMAT where the file became shorter. */
psg_status psg_read_bytes(const psg_reading *reading, void *bytes, size_t count, int64_t offset);
/* The whole file as the set's map. */
psg_status psg_map_file(const psg_reading *reading);

#endif
