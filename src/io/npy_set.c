#include "io/npy_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "io/npy_values.h"

/* ---- headers ---- */

static psg_status read_header(const psg_reading *r, psg_npy_array *a) {
    psg_extent_stream stream;
    psg_status status = psg_extent_open(r, &a->extent, &stream);
    if (status) return status;
    status = psg_npy_header_read(&stream, &a->header);
    psg_extent_close(&stream);
    return status;
}

/* ---- memory ---- */

/* Its address in the mapped file; NULL: it must be copied. */
static void *mapped(const psg_reading *r, const psg_npy_array *a) {
    const psg_npy_header *h = &a->header;
    if (!r->set->map || a->extent.is_deflated || h->type->widen || h->is_fortran) return NULL;
    char *address = (char *)r->set->map + a->extent.begin + h->bytes;
    return (uintptr_t)address % h->type->size ? NULL : address;
}

static size_t value_bytes(const psg_npy_array *a) {
    const psg_tensor view = psg_npy_view(&a->header, NULL);
    return (size_t)psg_tensor_count(&view) * psg_dtype_size(view.dtype);
}

static size_t whole_lines(size_t bytes) { return (bytes + PSG_ALIGNMENT - 1) & ~(PSG_ALIGNMENT - 1); }

/* *room: of the values that are copied, each tensor's in cache lines of its own.  `most` is of the values alone. */
static psg_status count_bytes(const psg_reading *r, const psg_npy_array *arrays, size_t count, int64_t most,
                              size_t *room) {
    const psg_source *from = &r->source;
    size_t bytes = *room = 0;
    for (size_t k = 0; k < count; k++) {
        if (mapped(r, &arrays[k])) continue;
        const size_t more = value_bytes(&arrays[k]);
        if (__builtin_add_overflow(bytes, more, &bytes)) bytes = SIZE_MAX;
        if (__builtin_add_overflow(*room, whole_lines(more), room)) *room = SIZE_MAX;
        if (bytes <= (uint64_t)most) continue;
        return psg_fail_format(from->context, from->function, from->path, "tensor \"%.100s\": with it there are "
                               "%zu bytes of values to copy, at most %lld may be", arrays[k].name, bytes,
                               (long long)most);
    }
    return PSG_OK;
}

static psg_status take_memory(const psg_reading *r, size_t count, size_t bytes) {
    psg_context *context = r->source.context;
    psg_tensors *set = r->set;
    set->list = psg_arena_take(&set->arena, count * sizeof *set->list);
    set->values = psg_alloc(context, bytes);
    if (set->values) psg_lend(context, &set->lent_values, &set->owner, set->values, bytes);
    if (set->list && set->values) return PSG_OK;
    return psg_fail_memory(context, r->source.function, count * sizeof *set->list + bytes);
}

/* ---- values ---- */

/* memory NULL: they are mapped, and checked alone. */
static psg_status read_stream(psg_extent_stream *s, const psg_npy_array *a, char *stage, void *memory) {
    psg_status status = psg_extent_skip(s, memory ? a->header.bytes : a->extent.size);
    if (!status && memory) status = psg_npy_values_read(s, &a->header, stage, memory);
    return status ? status : psg_extent_finish(s);
}

static psg_status read_array(const psg_reading *r, const psg_npy_array *a, char *stage, void *memory) {
    psg_extent_stream stream;
    if (!memory && !a->extent.has_crc) return PSG_OK;
    psg_status status = psg_extent_open(r, &a->extent, &stream);
    if (status) return status;
    status = read_stream(&stream, a, stage, memory);
    psg_extent_close(&stream);
    return status;
}

static psg_status read_values(const psg_reading *r, const psg_npy_array *arrays, size_t count, char *stage) {
    psg_tensors *set = r->set;
    psg_status status = PSG_OK;
    char *next = set->values;
    for (size_t k = 0; k < count && !status; k++) {
        void *map = mapped(r, &arrays[k]);
        status = read_array(r, &arrays[k], stage, map ? NULL : next);
        set->list[set->count++] = (psg_named){ arrays[k].name, psg_npy_view(&arrays[k].header, map ? map : next) };
        if (!map) next += whole_lines(value_bytes(&arrays[k]));
    }
    return status;
}

static psg_status read_staged(const psg_reading *r, const psg_npy_array *arrays, size_t count) {
    psg_context *context = r->source.context;
    char *stage = psg_alloc(context, PSG_NPY_STAGE);
    if (!stage) return psg_fail_memory(context, r->source.function, PSG_NPY_STAGE);
    psg_status status = read_values(r, arrays, count, stage);
    psg_free(context, stage);
    return status;
}

/* ---- the set ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const psg_named *)a)->name, ((const psg_named *)b)->name);
}

psg_status psg_npy_set_read(const psg_reading *r, psg_npy_array *arrays, size_t count, psg_file_access access,
                            int64_t most) {
    size_t bytes = 0;
    psg_status status = PSG_OK;
    for (size_t k = 0; k < count && !status; k++) status = read_header(r, &arrays[k]);
    if (!status && access == PSG_FILE_MAP) status = psg_map_file(r);
    if (!status) status = count_bytes(r, arrays, count, most, &bytes);
    if (!status) status = take_memory(r, count, bytes);
    if (!status) status = read_staged(r, arrays, count);
    if (!status) qsort(r->set->list, count, sizeof *r->set->list, by_name);
    return status;
}
