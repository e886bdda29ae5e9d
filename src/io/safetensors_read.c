#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "io/reading.h"
#include "io/safetensors_header.h"

/* A safetensors file under way. */
typedef struct reading {
    psg_reading file;
    int64_t data;                  /* where its data begins */
    psg_safetensors_header header;
} reading;

/* ---- header ---- */

static psg_status read_text(reading *r, char *text, size_t length) {
    psg_status status = psg_read_bytes(&r->file, text, length, PSG_SAFETENSORS_LENGTH_BYTES);
    if (status) return status;
    return psg_safetensors_header_read(&r->file.source, text, length, r->file.bytes - r->data, &r->file.set->arena,
                                       &r->header);
}

static psg_status read_header(reading *r) {
    const psg_source *from = &r->file.source;
    unsigned char first[PSG_SAFETENSORS_LENGTH_BYTES];
    size_t length = 0;
    if (r->file.bytes < PSG_SAFETENSORS_LENGTH_BYTES) {
        return psg_fail_format(from->context, from->function, from->path,
                               "%lld bytes, where the header's length takes 8", (long long)r->file.bytes);
    }
    psg_status status = psg_read_bytes(&r->file, first, sizeof first, 0);
    if (!status) status = psg_safetensors_length(from, first, r->file.bytes, &length);
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
    if (!r->file.set->map || t->type->widen) return NULL;
    char *address = (char *)r->file.set->map + r->data + t->begin;
    return (uintptr_t)address % t->type->size ? NULL : address;
}

/* What its values take in memory, in whole cache lines: at most four times what they take in the file and a line. */
static size_t value_bytes(const psg_stored_tensor *t) {
    size_t held = (size_t)(t->end - t->begin), bytes = held / t->type->size * psg_dtype_size(t->type->dtype);
    return (bytes + PSG_ALIGNMENT - 1) & ~(PSG_ALIGNMENT - 1);
}

static psg_status check_bools(const reading *r, const psg_stored_tensor *t, const char *bytes, size_t count) {
    const psg_source *from = &r->file.source;
    for (size_t k = 0; k < count; k++) {
        if ((unsigned char)bytes[k] <= 1) continue;
        return psg_fail_format(from->context, from->function, from->path, "tensor \"%.100s\": byte %lld: a truth value is "
                               "%u, only 0 and 1 may be", t->name, (long long)(r->data + t->begin) + (long long)k,
                               (unsigned char)bytes[k]);
    }
    return PSG_OK;
}

/* Values that are widened are read into the last part of their memory. */
static psg_status copy_values(const reading *r, const psg_stored_tensor *t, char *memory) {
    size_t held = (size_t)(t->end - t->begin), count = held / t->type->size;
    char *place = memory + count * psg_dtype_size(t->type->dtype) - held;
    psg_status status = psg_read_bytes(&r->file, place, held, r->data + t->begin);
    if (!status && psg_stored_type_is_bool(t->type)) status = check_bools(r, t, place, count);
    if (!status && t->type->widen) t->type->widen(place, memory, count);
    return status;
}

static psg_status take_memory(reading *r) {
    psg_context *context = r->file.source.context;
    psg_tensors *set = r->file.set;
    size_t list = r->header.count * sizeof *set->list, values = 0;
    for (size_t k = 0; k < r->header.count; k++) {
        if (!mapped(r, &r->header.tensors[k])) values += value_bytes(&r->header.tensors[k]);
    }
    set->list = psg_arena_take(&set->arena, list);
    set->values = psg_alloc(context, values);
    if (set->values) psg_lend(context, &set->lent_values, &set->owner, set->values, values);
    return set->list && set->values ? PSG_OK : psg_fail_memory(context, r->file.source.function, list + values);
}

static psg_status read_values(reading *r) {
    psg_tensors *set = r->file.set;
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

/* ---- the set ---- */

static psg_status read_file(reading *r, psg_file_access access) {
    psg_status status = read_header(r);
    if (!status && access == PSG_FILE_MAP) status = psg_map_file(&r->file);
    if (!status) status = read_values(r);
    r->file.set->metadata = r->header.metadata;
    r->file.set->metadata_count = r->header.metadata_count;
    return status;
}

psg_status psg_tensors_read(const psg_source *source, psg_file_access access, psg_tensors **tensors) {
    reading r = { .data = 0 };
    psg_status status = psg_reading_begin(source, &r.file);
    if (!status) status = read_file(&r, access);
    return psg_reading_end(&r.file, status, tensors);
}

psg_status psg_safetensors_read(psg_context *context, const char *path, psg_file_access access,
                                psg_tensors **tensors) {
    PSG_DEFAULT_FLOATS;
    const psg_source source = { context, "psg_safetensors_read", path };
    psg_status status = psg_reading_check(&source, access, tensors);
    return status ? status : psg_tensors_read(&source, access, tensors);
}
