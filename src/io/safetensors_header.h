/* The header of a safetensors file: 8 bytes of length, little-endian, then JSON
 *     {"__metadata__": {KEY: TEXT}, NAME: {"dtype": TYPE, "shape": [...], "data_offsets": [BEGIN, END]}, ...}
 * and the data, which the offsets are relative to. */
#ifndef PSG_IO_SAFETENSORS_HEADER_H
#define PSG_IO_SAFETENSORS_HEADER_H

#include "io/stored_type.h"
#include "io/tensors.h"

#define PSG_SAFETENSORS_LENGTH_BYTES 8
#define PSG_SAFETENSORS_MAX_HEADER ((size_t)16 << 20)
#define PSG_SAFETENSORS_METADATA "__metadata__"

typedef struct psg_stored_tensor {
    const char *name;
    const psg_stored_type *type;
    int rank;
    int64_t shape[PSG_MAX_RANK];
    int64_t begin, end;            /* bytes of the data */
} psg_stored_tensor;

typedef struct psg_safetensors_header {
    psg_stored_tensor *tensors;    /* by name; together they are the whole data */
    size_t count;
    psg_text_pair *metadata;       /* by key */
    size_t metadata_count;
} psg_safetensors_header;

/* The length that the first bytes say, where a file of file_bytes can have it; PSG_ERR_FORMAT. */
psg_status psg_safetensors_length(const psg_source *source, const unsigned char first[PSG_SAFETENSORS_LENGTH_BYTES],
                                  int64_t file_bytes, size_t *length);
/* Everything that the format asks of the header of a file with data_bytes after it is checked: PSG_ERR_FORMAT.  The
 * header and its texts are the arena's. */
psg_status psg_safetensors_header_read(const psg_source *source, const char *text, size_t length, int64_t data_bytes,
                                       psg_arena *arena, psg_safetensors_header *header);

#endif
