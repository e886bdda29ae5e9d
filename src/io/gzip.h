/* The bytes of a file in order, decompressed where they are gzip's (RFC 1952: one member or more). */
#ifndef PSG_IO_GZIP_H
#define PSG_IO_GZIP_H

#include <stdbool.h>
#include <zlib.h>

#include "io/reading.h"

typedef struct psg_gzip {
    const psg_reading *reading;
    int64_t taken;                 /* bytes of the file so far */
    int64_t given;                 /* bytes that were read from it, inflated */
    bool is_gzip;
    bool is_between;               /* no member has begun, or the last one was checked to its end */
    bool has_member;               /* one was */
    z_stream inflater;             /* next_in, avail_in: what is taken and not used */
    unsigned char *buffer;
} psg_gzip;

/* On an error there is nothing to close. */
psg_status psg_gzip_open(const psg_reading *reading, psg_gzip *stream);
/* Exactly count bytes; PSG_ERR_FORMAT where there are not as many or they are damaged. */
psg_status psg_gzip_read(psg_gzip *stream, void *bytes, size_t count);
/* That all members are whole and nothing follows. */
psg_status psg_gzip_finish(psg_gzip *stream);
void psg_gzip_close(psg_gzip *stream);
/* Whether the file may hold so many bytes. */
bool psg_gzip_may_hold(const psg_gzip *stream, int64_t bytes);

#endif
