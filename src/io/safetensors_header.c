#include "io/safetensors_header.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "base/shapes.h"

typedef struct reader {
    const psg_source *source;
    int64_t data_bytes;
    psg_safetensors_header *header;
    char *texts;                   /* where the next name, key or value goes */
} reader;

/* ---- messages ---- */

/* name NULL: of no tensor. */
static psg_status refuse(const reader *r, const char *name, const char *format, ...) PSG_PRINTF(3, 4);
static psg_status refuse(const reader *r, const char *name, const char *format, ...) {
    const psg_source *from = r->source;
    char text[PSG_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!name) return psg_fail_format(from->context, from->function, from->path, "%s", text);
    return psg_fail_format(from->context, from->function, from->path, "tensor \"%.100s\": %s", name, text);
}

/* ---- one tensor ---- */

static const char *keep_text(reader *r, const char *text) {
    size_t bytes = strlen(text) + 1;
    char *kept = memcpy(r->texts, text, bytes);
    r->texts += bytes;
    return kept;
}

static psg_status read_type(const reader *r, psg_stored_tensor *t, const json_t *value) {
    const char *name = json_string_value(value);
    if (!name) return refuse(r, t->name, "dtype is no string");
    t->type = psg_stored_type_find(name);
    if (t->type) return PSG_OK;
    if (!psg_stored_type_exists(name)) return refuse(r, t->name, "dtype \"%.32s\" is none of the format's", name);
    return refuse(r, t->name, "dtype %s is not supported: only F64, F32, F16, BF16, I64, I32, I16, I8, U32, U16, U8 and "
                  "BOOL are", name);
}

static psg_status read_sizes(const reader *r, const char *name, const char *key, const json_t *value, size_t most,
                             int64_t *sizes) {
    if (!json_is_array(value)) return refuse(r, name, "%s is no array", key);
    size_t count = json_array_size(value);
    if (count > most) return refuse(r, name, "%s has %zu numbers, at most %zu may be", key, count, most);
    for (size_t d = 0; d < count; d++) {
        const json_t *size = json_array_get(value, d);
        if (!json_is_integer(size)) return refuse(r, name, "%s[%zu] is no integer", key, d);
        sizes[d] = json_integer_value(size);
        if (sizes[d] < 0) return refuse(r, name, "%s[%zu] is %lld: negative", key, d, (long long)sizes[d]);
    }
    return PSG_OK;
}

static psg_status read_offsets(const reader *r, psg_stored_tensor *t, const json_t *value) {
    int64_t offsets[2] = { 0, 0 };
    psg_status status = read_sizes(r, t->name, "data_offsets", value, 2, offsets);
    if (status) return status;
    if (json_array_size(value) != 2) return refuse(r, t->name, "data_offsets are not two numbers");
    t->begin = offsets[0];
    t->end = offsets[1];
    if (t->begin <= t->end) return PSG_OK;
    return refuse(r, t->name, "data_offsets [%lld, %lld]: the end is before the begin", (long long)t->begin,
                  (long long)t->end);
}

/* Sizes beside a zero must not overflow either: psg_tensor_fits. */
static psg_status check_bytes(const reader *r, const psg_stored_tensor *t) {
    char shape[PSG_SHAPE_TEXT];
    const psg_tensor view = psg_tensor_of(t->type->dtype, NULL, t->rank, t->shape);
    psg_shape_text(t->rank, t->shape, shape);
    if (!psg_tensor_fits(&view)) return refuse(r, t->name, "shape %s is too large", shape);
    int64_t held = t->end - t->begin, wanted = psg_tensor_count(&view) * (int64_t)t->type->size;
    if (held == wanted) return PSG_OK;
    return refuse(r, t->name, "data_offsets [%lld, %lld] are %lld bytes, %s of shape %s has %lld", (long long)t->begin,
                  (long long)t->end, (long long)held, t->type->name, shape, (long long)wanted);
}

static psg_status read_tensor(reader *r, const char *name, const json_t *value, psg_stored_tensor *t) {
    *t = (psg_stored_tensor){ .name = keep_text(r, name) };
    if (!json_is_object(value)) return refuse(r, name, "is no object");
    static const char *const keys[] = { "dtype", "shape", "data_offsets" };
    for (size_t k = 0; k < 3; k++) {
        if (!json_object_get(value, keys[k])) return refuse(r, name, "has no %s", keys[k]);
    }
    if (json_object_size(value) != 3) return refuse(r, name, "has more than dtype, shape and data_offsets");
    const json_t *shape = json_object_get(value, "shape");
    psg_status status = read_type(r, t, json_object_get(value, "dtype"));
    if (!status) status = read_sizes(r, name, "shape", shape, PSG_MAX_RANK, t->shape);
    t->rank = (int)json_array_size(shape);
    if (!status) status = read_offsets(r, t, json_object_get(value, "data_offsets"));
    return status ? status : check_bytes(r, t);
}

/* ---- all of them ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const psg_stored_tensor *)a)->name, ((const psg_stored_tensor *)b)->name);
}

static int by_place(const void *a, const void *b) {
    const psg_stored_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const psg_text_pair *)a)->key, ((const psg_text_pair *)b)->key);
}

/* In the order of their places each begins where the one before ends: no hole, no overlap. */
static psg_status check_places(const reader *r) {
    const psg_safetensors_header *h = r->header;
    int64_t end = 0;
    qsort(h->tensors, h->count, sizeof *h->tensors, by_place);
    for (size_t k = 0; k < h->count; k++) {
        const psg_stored_tensor *t = &h->tensors[k];
        if (t->begin != end) {
            return refuse(r, t->name, "begins at byte %lld of the data, %s byte %lld", (long long)t->begin,
                          t->begin < end ? "over what goes to" : "which leaves a hole from", (long long)end);
        }
        end = t->end;
    }
    if (end < r->data_bytes) {
        const long long more = r->data_bytes - end;
        return refuse(r, NULL, "%lld bytes after the last tensor, where the file must end", more);
    }
    if (end == r->data_bytes) return PSG_OK;
    return refuse(r, NULL, "%lld bytes of data, the tensors have %lld: the file was cut", (long long)r->data_bytes,
                  (long long)end);
}

static psg_status read_metadata(reader *r, json_t *metadata) {
    psg_safetensors_header *h = r->header;
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        const char *text = json_string_value(value);
        if (!text) return refuse(r, NULL, PSG_SAFETENSORS_METADATA " \"%.100s\": is no string", key);
        h->metadata[h->metadata_count].key = keep_text(r, key);
        h->metadata[h->metadata_count++].value = keep_text(r, text);
    }
    qsort(h->metadata, h->metadata_count, sizeof *h->metadata, by_key);
    return PSG_OK;
}

static psg_status read_entries(reader *r, json_t *root) {
    psg_safetensors_header *h = r->header;
    psg_status status = PSG_OK;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) {
        if (!strcmp(name, PSG_SAFETENSORS_METADATA)) status = read_metadata(r, value);
        else status = read_tensor(r, name, value, &h->tensors[h->count++]);
        if (status) return status;
    }
    status = check_places(r);
    qsort(h->tensors, h->count, sizeof *h->tensors, by_name);
    return status;
}

/* A text takes as many bytes as in the JSON at most, where it has quotes in the place of the final 0. */
static psg_status take_memory(reader *r, json_t *root, size_t length, psg_arena *arena) {
    const json_t *metadata = json_object_get(root, PSG_SAFETENSORS_METADATA);
    size_t tensors = json_object_size(root) * sizeof *r->header->tensors;
    size_t pairs = json_object_size(metadata) * sizeof *r->header->metadata;
    r->header->tensors = psg_arena_take(arena, tensors);
    r->header->metadata = psg_arena_take(arena, pairs);
    r->texts = psg_arena_take(arena, length);
    if (r->header->tensors && r->header->metadata && r->texts) return PSG_OK;
    return psg_fail_memory(r->source->context, r->source->function, tensors + pairs + length);
}

static psg_status read_root(reader *r, json_t *root, size_t length, psg_arena *arena) {
    const json_t *metadata = json_object_get(root, PSG_SAFETENSORS_METADATA);
    if (metadata && !json_is_object(metadata)) return refuse(r, NULL, PSG_SAFETENSORS_METADATA " is no object");
    psg_status status = take_memory(r, root, length, arena);
    return status ? status : read_entries(r, root);
}

/* ---- the text ---- */

/* A parser takes 30 to 100 times the bytes of "[]," and "0,".  A tensor's entry has 3 brackets in more than 48 bytes,
 * and with eight sizes 11 commas in more than 64: a text with more than such have is refused before it is parsed. */
static psg_status check_marks(const reader *r, const char *text, size_t length) {
    size_t brackets = 0, commas = 0;
    bool quoted = false;
    for (size_t k = 0; k < length; k++) {
        if (quoted && text[k] == '\\') k++;
        else if (text[k] == '"') quoted = !quoted;
        else if (quoted) continue;
        else if (text[k] == '{' || text[k] == '[') brackets++;
        else if (text[k] == ',') commas++;
    }
    if (brackets <= 2 + length / 16 && commas <= 8 + length / 4) return PSG_OK;
    return refuse(r, NULL, "header: %zu brackets and %zu commas in %zu bytes, more than tensors have", brackets, commas,
                  length);
}

psg_status psg_safetensors_length(const psg_source *source, const unsigned char first[PSG_SAFETENSORS_LENGTH_BYTES],
                                  int64_t file_bytes, size_t *length) {
    const reader r = { .source = source };
    uint64_t said = 0;
    for (int k = PSG_SAFETENSORS_LENGTH_BYTES - 1; k >= 0; k--) said = said << 8 | first[k];
    uint64_t left = (uint64_t)file_bytes - PSG_SAFETENSORS_LENGTH_BYTES;
    if (said > PSG_SAFETENSORS_MAX_HEADER) {
        return refuse(&r, NULL, "header of %llu bytes, at most %zu may be", (unsigned long long)said,
                      PSG_SAFETENSORS_MAX_HEADER);
    }
    if (said > left) {
        return refuse(&r, NULL, "header of %llu bytes in a file that has %llu more", (unsigned long long)said,
                      (unsigned long long)left);
    }
    *length = (size_t)said;
    return PSG_OK;
}

psg_status psg_safetensors_header_read(const psg_source *source, const char *text, size_t length, int64_t data_bytes,
                                       psg_arena *arena, psg_safetensors_header *header) {
    reader r = { .source = source, .data_bytes = data_bytes, .header = header };
    *header = (psg_safetensors_header){ 0 };
    if (!length || text[0] != '{') return refuse(&r, NULL, "header: does not begin with '{'");
    psg_status status = check_marks(&r, text, length);
    if (status) return status;
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!root && !error.text[0]) return psg_fail_memory(source->context, source->function, length);
    if (!root) return refuse(&r, NULL, "header: byte %d: %s", error.position, error.text);
    status = read_root(&r, root, length, arena);
    json_decref(root);
    return status;
}
