/* Arrays of a file, each an npy of its own, to a set of tensors. */
#ifndef PSG_IO_NPY_SET_H
#define PSG_IO_NPY_SET_H

#include "io/npy_header.h"

typedef struct psg_npy_array {
    const char *name;              /* as long as the set */
    psg_extent extent;
    psg_npy_header header;         /* psg_npy_set_read fills it */
} psg_npy_array;

/* Headers first, then the memory that they tell of, then the values.  most: bytes of values that are copied. */
psg_status psg_npy_set_read(const psg_reading *reading, psg_npy_array *arrays, size_t count, psg_file_access access,
                            int64_t most);

#endif
