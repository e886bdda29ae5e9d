/* The element types of safetensors. */
#ifndef PSG_IO_STORED_TYPE_H
#define PSG_IO_STORED_TYPE_H

#include <stdbool.h>

#include "psg/base.h"

typedef struct psg_stored_type {
    const char *name;
    size_t size;                   /* of an element in the file */
    psg_dtype dtype;               /* what it becomes */
    void (*widen)(const void *from, void *to, size_t count);   /* NULL: the file has that type's own bytes */
} psg_stored_type;

/* NULL: not one of those that are read. */
const psg_stored_type *psg_stored_type_find(const char *name);
/* Whether it holds truth values, a byte each, 0 or 1. */
bool psg_stored_type_is_bool(const psg_stored_type *type);
/* Whether the format has such a type, read here or not. */
bool psg_stored_type_exists(const char *name);
/* The one that a tensor is written as, and its place in the order of the file, from 0. */
const psg_stored_type *psg_stored_type_of(psg_dtype dtype, int *place);

#endif
