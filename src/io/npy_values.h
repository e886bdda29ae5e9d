/* The values of an npy, as they come out of a stream, to the values of a tensor: row-major, widened. */
#ifndef PSG_IO_NPY_VALUES_H
#define PSG_IO_NPY_VALUES_H

#include "io/npy_header.h"

/* Bytes of the memory that values go through on their way. */
#define PSG_NPY_STAGE ((size_t)128 * 1024)

/* From the first value on, all of them; memory has room for psg_npy_view. */
psg_status psg_npy_values_read(psg_extent_stream *stream, const psg_npy_header *header, char *stage, void *memory);

#endif
