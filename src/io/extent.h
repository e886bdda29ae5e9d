/* A part of a file, as its bytes are or inflated (RFC 1951), in order and in bounded memory. */
#ifndef PSG_IO_EXTENT_H
#define PSG_IO_EXTENT_H

#include <zlib.h>

#include "io/reading.h"

typedef struct psg_extent {
    const char *member;            /* for messages; NULL: the extent is the file */
    int64_t begin, held;           /* its bytes in the file */
    int64_t size;                  /* its bytes once they are inflated */
    bool is_deflated, has_crc;
    uint32_t crc;                  /* of the inflated bytes */
} psg_extent;

/* The most bytes that one deflated byte stands for: a match of 258 in two bits. */
#define PSG_MOST_INFLATED 1032

typedef struct psg_extent_stream {
    const psg_reading *reading;
    const psg_extent *extent;
    int64_t taken;                 /* bytes of the file so far */
    int64_t given;                 /* bytes inflated so far */
    uint32_t crc;
    bool has_ended;                /* deflated: its last block has */
    z_stream inflater;
    unsigned char *buffer;         /* deflated: what is taken; skipped bytes of others */
} psg_extent_stream;

/* On an error there is nothing to close. */
psg_status psg_extent_open(const psg_reading *reading, const psg_extent *extent, psg_extent_stream *stream);
/* Exactly count bytes; PSG_ERR_FORMAT where there are not as many. */
psg_status psg_extent_read(psg_extent_stream *stream, void *bytes, size_t count);
psg_status psg_extent_skip(psg_extent_stream *stream, int64_t count);
/* That the extent ends here, as its sizes and sum say. */
psg_status psg_extent_finish(psg_extent_stream *stream);
void psg_extent_close(psg_extent_stream *stream);

/* PSG_ERR_FORMAT with the member, and the offset of a byte in it or in the file. */
psg_status psg_extent_refuse(const psg_reading *reading, const psg_extent *extent, int64_t byte, const char *format,
                             ...) PSG_PRINTF(4, 5);

#endif
