/* The dictionary of an npy header, of what Python's literals can say: names and texts in quotes without escapes, True
 * and False, tuples of integers; spaces, tabs and newlines between them. */
#ifndef PSG_IO_NPY_LITERAL_H
#define PSG_IO_NPY_LITERAL_H

#include "io/npy_header.h"

/* text[length] is 0, text[0] the extent's byte first.  Fills type, is_fortran as it is said, rank and shape. */
psg_status psg_npy_literal_read(const psg_extent_stream *stream, const char *text, size_t length, int64_t first,
                                psg_npy_header *header);

#endif
