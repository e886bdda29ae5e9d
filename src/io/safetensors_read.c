#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "io/safetensors_header.h"
#include "io/tensors.h"

/* A file under way to a set. */
typedef struct reading {
    psg_source source;
    int descriptor;
    int64_t bytes;                 /* of the file */
    int64_t data;                  /* where its data begins */
    psg_safetensors_header header;
    psg_tensors *set;
} reading;

/* ENODATA: shorter than it was when it was opened. */
static psg_status read_bytes(const reading *r, void *bytes, size_t count, int64_t offset) {
    const psg_source *from = &r->source;
    if (psg_read_at(r->descriptor, bytes, count, offset)) return PSG_OK;
    if (errno != ENODATA) return psg_fail_file(from->context, from->function, from->path, "read");
    return psg_fail_format(from->context, from->function, from->path, "was cut while it was read");
}

/* ---- header ---- */

static psg_status read_text(reading *r, char *text, size_t length) {
    psg_status status = read_bytes(r, text, length, PSG_SAFETENSORS_LENGTH_BYTES);
    if (status) return status;
    return psg_safetensors_header_read(&r->source, text, length, r->bytes - r->data, &r->set->arena, &r->header);
}

static psg_status read_header(reading *r) {
    const psg_source *from = &r->source;
    unsigned char first[PSG_SAFETENSORS_LENGTH_BYTES];
    size_t length = 0;
    if (r->bytes < PSG_SAFETENSORS_LENGTH_BYTES) {
        return psg_fail_format(from->context, from->function, from->path,
                               "%lld bytes, where the header's length takes 8", (long long)r->bytes);
    }
    psg_status status = read_bytes(r, first, sizeof first, 0);
    if (!status) status = psg_safetensors_length(from, first, r->bytes, &length);
    if (status) return status;
    r->data = PSG_SAFETENSORS_LENGTH_BYTES + (int64_t)length;
    char *text = psg_alloc(from->context, length);
    if (!text) return psg_fail_memory(from->context, from->function, length);
    status = read_text(r, text, length);
    psg_free(from->context, text);
    return status;
}

/* ---- values ---- */

/* Its address in the mapped file; NULL: it must be copied. */
static void *mapped(const reading *r, const psg_stored_tensor *t) {
    if (!r->set->map || t->type->widen) return NULL;
    char *address = (char *)r->set->map + r->data + t->begin;
    return (uintptr_t)address % t->type->size ? NULL : address;
}

/* What its values take in memory, in whole cache lines: at most twice what they take in the file and a line. */
static size_t value_bytes(const psg_stored_tensor *t) {
    size_t held = (size_t)(t->end - t->begin), bytes = held / t->type->size * psg_dtype_size(t->type->dtype);
    return (bytes + PSG_ALIGNMENT - 1) & ~(PSG_ALIGNMENT - 1);
}

/* Values that are widened are read into the last part of their memory. */
static psg_status copy_values(const reading *r, const psg_stored_tensor *t, char *memory) {
    size_t held = (size_t)(t->end - t->begin), count = held / t->type->size;
    char *place = memory + count * psg_dtype_size(t->type->dtype) - held;
    psg_status status = read_bytes(r, place, held, r->data + t->begin);
    if (!status && t->type->widen) t->type->widen(place, memory, count);
    return status;
}

static psg_status take_memory(reading *r) {
    psg_context *context = r->source.context;
    psg_tensors *set = r->set;
    size_t list = r->header.count * sizeof *set->list, values = 0;
    for (size_t k = 0; k < r->header.count; k++) {
        if (!mapped(r, &r->header.tensors[k])) values += value_bytes(&r->header.tensors[k]);
    }
    set->list = psg_arena_take(&set->arena, list);
    set->values = psg_alloc(context, values);
    if (set->values) psg_lend(context, &set->lent_values, &set->owner, set->values, values);
    return set->list && set->values ? PSG_OK : psg_fail_memory(context, r->source.function, list + values);
}

static psg_status read_values(reading *r) {
    psg_tensors *set = r->set;
    psg_status status = take_memory(r);
    char *next = set->values;
    for (size_t k = 0; k < r->header.count && !status; k++) {
        const psg_stored_tensor *t = &r->header.tensors[k];
        void *memory = mapped(r, t);
        if (!memory) {
            status = copy_values(r, t, memory = next);
            next += value_bytes(t);
        }
        set->list[set->count++] = (psg_named){ t->name, psg_tensor_of(t->type->dtype, memory, t->rank, t->shape) };
    }
    return status;
}

static psg_status map_file(const reading *r) {
    const psg_source *from = &r->source;
    void *map = mmap(NULL, (size_t)r->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, r->descriptor, 0);
    if (map == MAP_FAILED) return psg_fail_file(from->context, from->function, from->path, "map");
    r->set->map = map;
    r->set->map_bytes = (size_t)r->bytes;
    psg_lend(from->context, &r->set->lent_map, &r->set->owner, map, r->set->map_bytes);
    return PSG_OK;
}

/* ---- the set ---- */

static psg_status read_file(reading *r, psg_file_access access) {
    psg_status status = read_header(r);
    if (!status && access == PSG_FILE_MAP) status = map_file(r);
    if (!status) status = read_values(r);
    r->set->metadata = r->header.metadata;
    r->set->metadata_count = r->header.metadata_count;
    return status;
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

psg_status psg_tensors_read(const psg_source *source, psg_file_access access, psg_tensors **tensors) {
    reading r = { .source = *source };
    psg_status status = psg_open_regular(source->context, source->function, source->path, &r.descriptor, &r.bytes);
    if (status) return status;
    status = new_set(source, &r.set);
    if (!status) status = read_file(&r, access);
    psg_close(r.descriptor);
    if (status) psg_tensors_destroy(r.set);
    else *tensors = r.set;
    return status;
}

psg_status psg_safetensors_read(psg_context *context, const char *path, psg_file_access access,
                                psg_tensors **tensors) {
    PSG_DEFAULT_FLOATS;
    if (tensors) *tensors = NULL;
    if (!context || !tensors) return PSG_ERR_ARGUMENT;
    const psg_source source = { context, "psg_safetensors_read", path };
    if (!path) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: path is NULL", source.function);
    if (access == PSG_FILE_COPY || access == PSG_FILE_MAP) return psg_tensors_read(&source, access, tensors);
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: access %d is unknown", source.function, (int)access);
}
