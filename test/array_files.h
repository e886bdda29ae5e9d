/* npy and npz files made by hand: right ones, and places in them to write other numbers to. */
#ifndef PSG_TEST_ARRAY_FILES_H
#define PSG_TEST_ARRAY_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "support.h"

/* An npy of version 1 with that dictionary, padded as numpy pads it, and values; its bytes. */
size_t array_npy(const char *dictionary, const void *values, size_t value_bytes, unsigned char *to);

enum { ARRAY_MEMBERS = 8, ARRAY_ARCHIVE = 1 << 17 };

typedef struct array_archive {
    unsigned char bytes[ARRAY_ARCHIVE];
    size_t count;
    size_t local[ARRAY_MEMBERS], data[ARRAY_MEMBERS], held[ARRAY_MEMBERS];    /* of members as they were added */
    size_t central[ARRAY_MEMBERS], directory, end;
    size_t members;
    struct { const char *name; size_t size; uint32_t crc; int method; } added[ARRAY_MEMBERS];
} array_archive;

void array_begin(array_archive *archive);
/* method 0 or 8. */
void array_add(array_archive *archive, const char *name, const void *bytes, size_t count, int method);
/* What was deflated elsewhere, or is no deflate at all. */
void array_add_held(array_archive *archive, const char *name, const void *held, size_t held_count, size_t size,
                    uint32_t crc, int method);
void array_end(array_archive *archive);

/* width bytes, little-endian. */
void array_set(array_archive *archive, size_t place, int width, uint64_t value);
/* Puts bytes between others; the numbers that tell of places stay as they are. */
void array_insert(array_archive *archive, size_t place, const void *bytes, size_t count);

/* ---- two members: a.npy, stored, and b.npy, deflated, each of four f32 ---- */

#define ARRAY_F4(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }"

void array_two(array_archive *archive);
/* Whether the file is read; what was read are tensors of those four values, what is not is refused with the path. */
bool array_is_read(psg_context *context, const char *path, psg_file_access access);
/* In these words, copied and mapped. */
void array_refused(psg_context *context, const array_archive *archive, const char *words);

#endif
