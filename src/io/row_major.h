/* The bytes of a view in row-major order, as files hold them. */
#ifndef PSG_IO_ROW_MAJOR_H
#define PSG_IO_ROW_MAJOR_H

#include "psg/tensor.h"

/* Bytes of the memory that gathers what does not lie together. */
#define PSG_ROW_MAJOR_STAGE ((size_t)64 * 1024)

typedef psg_status (*psg_take_bytes)(void *user, const void *bytes, size_t count);

/* Hands take the values of a valid view, piece after piece; its first error ends it and is returned. */
psg_status psg_row_major(const psg_tensor *tensor, char *stage, psg_take_bytes take, void *user);
/* A psg_take_bytes: writes to a psg_file. */
psg_status psg_write_piece(void *file, const void *bytes, size_t count);

#endif
