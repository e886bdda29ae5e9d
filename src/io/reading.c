#include "io/reading.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/context.h"
#include "base/file.h"

psg_status psg_reading_check(const psg_source *source, psg_file_access access, psg_tensors **tensors) {
    psg_context *context = source->context;
    if (tensors) *tensors = NULL;
    if (!context || !tensors) return psg_fail_null(context, source->function, "tensors");
    if (!source->path) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: path is NULL", source->function);
    if (access == PSG_FILE_COPY || access == PSG_FILE_MAP) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: access %d is unknown", source->function, (int)access);
}

static psg_status new_set(const psg_source *source, psg_tensors **set) {
    psg_tensors *made = psg_tensors_new(source->context);
    if (!made) return psg_fail_memory(source->context, source->function, sizeof *made);
    *set = made;
    size_t bytes = strlen(source->path) + 1;
    char *path = psg_arena_take(&made->arena, bytes);
    if (!path) return psg_fail_memory(source->context, source->function, bytes);
    made->path = memcpy(path, source->path, bytes);
    return PSG_OK;
}

psg_status psg_reading_begin(const psg_source *source, psg_reading *r) {
    *r = (psg_reading){ .source = *source, .descriptor = -1 };
    psg_status status = psg_open_regular(source->context, source->function, source->path, &r->descriptor, &r->bytes);
    return status ? status : new_set(source, &r->set);
}

psg_status psg_reading_end(psg_reading *r, psg_status status, psg_tensors **tensors) {
    if (r->descriptor >= 0) psg_close(r->descriptor);
    if (status) psg_tensors_destroy(r->set);
    else *tensors = r->set;
    return status;
}

/* ENODATA: shorter than it was when it was opened. */
psg_status psg_read_bytes(const psg_reading *r, void *bytes, size_t count, int64_t offset) {
    const psg_source *from = &r->source;
    if (psg_read_at(r->descriptor, bytes, count, offset)) return PSG_OK;
    if (errno != ENODATA) return psg_fail_file(from->context, from->function, from->path, "read");
    return psg_fail_format(from->context, from->function, from->path, "was cut while it was read");
}

psg_status psg_map_file(const psg_reading *r) {
    const psg_source *from = &r->source;
    void *map = mmap(NULL, (size_t)r->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, r->descriptor, 0);
    if (map == MAP_FAILED) return psg_fail_file(from->context, from->function, from->path, "map");
    r->set->map = map;
    r->set->map_bytes = (size_t)r->bytes;
    psg_lend(from->context, &r->set->lent_map, &r->set->owner, map, r->set->map_bytes);
    return PSG_OK;
}
