/* What a file held: tensors and metadata by name. */
#ifndef PSG_IO_TENSORS_H
#define PSG_IO_TENSORS_H

#include "base/memory.h"
#include "base/owner.h"
#include "psg/io.h"

/* What messages begin with. */
typedef struct psg_source {
    psg_context *context;
    const char *function, *path;
} psg_source;

struct psg_tensors {
    psg_context *context;
    psg_owner owner;               /* held by views of the values */
    psg_lent lent_values, lent_map;
    psg_arena arena;               /* of all that follows but the values */
    const char *path;              /* for messages */
    psg_named *list;               /* by name */
    size_t count;
    psg_text_pair *metadata;       /* by key */
    size_t metadata_count;
    void *values;                  /* of those that were copied */
    void *map;                     /* the file's pages, which the others are views of; NULL: none */
    size_t map_bytes;
};

/* An empty one; NULL when there is no memory. */
psg_tensors *psg_tensors_new(psg_context *context);

/* psg_safetensors_read, psg_safetensors_write, and psg_weights_take (tensors NULL: psg_weights_load) for a function of
 * another name. */
psg_status psg_tensors_read(const psg_source *source, psg_file_access access, psg_tensors **tensors);
psg_status psg_tensors_write(const psg_source *to, const psg_named *tensors, size_t count,
                             const psg_text_pair *metadata, size_t metadata_count);
psg_status psg_tensors_take(const psg_source *source, const psg_tensors *tensors, const psg_named *weights, size_t count,
                            psg_load_mode mode, psg_load_report *report);

#endif
