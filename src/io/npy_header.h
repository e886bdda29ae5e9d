/* The header of an npy file: "\x93NUMPY", a version, a length, little-endian, of 2 bytes (version 1) or 4 (2 and 3),
 * and a Python dictionary {'descr': TYPE, 'fortran_order': BOOL, 'shape': (SIZES)}, padded with spaces to a newline
 * (numpy.lib.format).  The values follow. */
#ifndef PSG_IO_NPY_HEADER_H
#define PSG_IO_NPY_HEADER_H

#include "io/npy_type.h"
#include "io/extent.h"

typedef struct psg_npy_header {
    const psg_stored_type *type;
    bool is_fortran;               /* the first index runs fastest, and that makes a difference */
    int rank;
    int64_t shape[PSG_MAX_RANK];
    int64_t bytes;                 /* of the header: where the values begin */
} psg_npy_header;

/* From the stream's begin; PSG_ERR_FORMAT also where the extent's size is not that of the header and its values. */
psg_status psg_npy_header_read(psg_extent_stream *stream, psg_npy_header *header);
/* The view of values with this header; row-major. */
psg_tensor psg_npy_view(const psg_npy_header *header, void *values);

/* The header of a valid view, as numpy writes it, with the values at a multiple of 64; its length. */
#define PSG_NPY_MOST_WRITTEN 448
size_t psg_npy_header_put(const psg_tensor *tensor, char text[PSG_NPY_MOST_WRITTEN]);

#endif
