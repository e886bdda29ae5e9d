#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "base/shapes.h"
#include "base/utf8.h"
#include "io/json_text.h"
#include "io/row_major.h"
#include "io/safetensors_header.h"
#include "io/tensors.h"

typedef struct writing {
    psg_context *context;
    const char *function;          /* for messages */
    const psg_named **order;       /* of the tensors in the file, which follow one another */
    size_t count;
    const psg_text_pair **metadata;    /* by key */
    size_t metadata_count;
    char *header;                  /* with its length before and the spaces after */
    size_t header_bytes;
    char *stage;                   /* of psg_row_major */
    psg_arena arena;
} writing;

/* ---- order: by type, then by name, as the reference implementation writes them; pairs by key ---- */

static int by_place(const void *a, const void *b) {
    const psg_named *x = *(const psg_named *const *)a, *y = *(const psg_named *const *)b;
    int place_x, place_y;
    psg_stored_type_of(x->tensor.dtype, &place_x);
    psg_stored_type_of(y->tensor.dtype, &place_y);
    return place_x != place_y ? place_x - place_y : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const psg_named *const *)a)->name, (*(const psg_named *const *)b)->name);
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(const psg_text_pair *const *)a)->key, (*(const psg_text_pair *const *)b)->key);
}

/* ---- checks ---- */

static psg_status check_text(const writing *w, const char *what, size_t k, const char *text) {
    if (!text) return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: %s %zu is NULL", w->function, what, k);
    if (psg_is_utf8(text)) return PSG_OK;
    return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: %s %zu \"%.100s\" is no UTF-8", w->function, what, k, text);
}

static psg_status check_tensor(const writing *w, size_t k, const psg_named *named) {
    char fault[PSG_FAULT_TEXT];
    psg_status status = check_text(w, "name", k, named->name);
    if (status) return status;
    if (!strcmp(named->name, PSG_SAFETENSORS_METADATA)) {
        return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: name %zu is " PSG_SAFETENSORS_METADATA
                        ", which the format keeps for itself", w->function, k);
    }
    if (psg_tensor_is_valid(&named->tensor)) return PSG_OK;
    return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: tensor \"%.100s\" is %s", w->function, named->name,
                    psg_tensor_fault(&named->tensor, fault));
}

static psg_status check_once(const writing *w) {
    qsort(w->order, w->count, sizeof *w->order, by_name);
    for (size_t k = 1; k < w->count; k++) {
        const char *name = w->order[k]->name;
        if (strcmp(w->order[k - 1]->name, name)) continue;
        return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: name \"%.100s\" is there twice", w->function, name);
    }
    qsort(w->metadata, w->metadata_count, sizeof *w->metadata, by_key);
    for (size_t k = 1; k < w->metadata_count; k++) {
        const char *key = w->metadata[k]->key;
        if (strcmp(w->metadata[k - 1]->key, key)) continue;
        return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: metadata key \"%.100s\" is there twice", w->function, key);
    }
    return PSG_OK;
}

static psg_status take_order(writing *w, const psg_named *tensors, const psg_text_pair *metadata) {
    psg_status status = PSG_OK;
    for (size_t k = 0; k < w->count && !status; k++) {
        status = check_tensor(w, k, &tensors[k]);
        w->order[k] = &tensors[k];
    }
    for (size_t k = 0; k < w->metadata_count && !status; k++) {
        status = check_text(w, "metadata key", k, metadata[k].key);
        if (!status) status = check_text(w, "metadata value", k, metadata[k].value);
        w->metadata[k] = &metadata[k];
    }
    if (!status) status = check_once(w);
    if (!status) qsort(w->order, w->count, sizeof *w->order, by_place);
    return status;
}

/* ---- header ---- */

static void put_metadata(psg_writer *out, const writing *w) {
    if (!w->metadata_count) return;
    psg_put(out, "\"" PSG_SAFETENSORS_METADATA "\":{");
    for (size_t k = 0; k < w->metadata_count; k++) {
        if (k) psg_put(out, ",");
        psg_put_json_text(out, w->metadata[k]->key);
        psg_put(out, ":");
        psg_put_json_text(out, w->metadata[k]->value);
    }
    psg_put(out, w->count ? "}," : "}");
}

/* false: the places of the data do not fit 63 bits. */
static bool put_tensor(psg_writer *out, const psg_named *named, int64_t *place) {
    const psg_tensor *t = &named->tensor;
    int ignored;
    const psg_stored_type *type = psg_stored_type_of(t->dtype, &ignored);
    int64_t begin = *place;
    if (__builtin_add_overflow(begin, psg_tensor_count(t) * (int64_t)type->size, place)) return false;
    psg_put_json_text(out, named->name);
    psg_put(out, ":{\"dtype\":\"%s\",\"shape\":[", type->name);
    for (int d = 0; d < t->rank; d++) psg_put(out, d ? ",%lld" : "%lld", (long long)t->shape[d]);
    psg_put(out, "],\"data_offsets\":[%lld,%lld]}", (long long)begin, (long long)*place);
    return true;
}

/* The length of the text, then padded to whole numbers of 8, so that the data is aligned. */
static psg_status put_header(const writing *w, psg_writer *out) {
    int64_t place = 0;
    psg_put(out, "{");
    put_metadata(out, w);
    for (size_t k = 0; k < w->count; k++) {
        if (k) psg_put(out, ",");
        if (put_tensor(out, w->order[k], &place)) continue;
        return psg_fail(w->context, PSG_ERR_OVERFLOW, "%s: more than 2^63 - 1 bytes", w->function);
    }
    psg_put(out, "}");
    while (out->used % 8) psg_put(out, " ");
    if (out->used <= PSG_SAFETENSORS_MAX_HEADER) return PSG_OK;
    return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: names, shapes and metadata make a header of %zu bytes, at most "
                    "%zu may be", w->function, out->used, PSG_SAFETENSORS_MAX_HEADER);
}

static psg_status make_header(writing *w) {
    psg_writer counted = { 0 };
    psg_status status = put_header(w, &counted);
    if (status) return status;
    w->header_bytes = PSG_SAFETENSORS_LENGTH_BYTES + counted.used;
    w->header = psg_arena_take(&w->arena, w->header_bytes + 1);
    if (!w->header) return psg_fail_memory(w->context, w->function, w->header_bytes + 1);
    for (int k = 0; k < PSG_SAFETENSORS_LENGTH_BYTES; k++) w->header[k] = (char)(counted.used >> 8 * k & 0xFF);
    psg_writer out = { w->header + PSG_SAFETENSORS_LENGTH_BYTES, counted.used + 1, 0 };
    return put_header(w, &out);
}

/* ---- the file ---- */

static psg_status write_file(const writing *w, const char *path) {
    psg_file file;
    psg_status status = psg_file_begin(w->context, w->function, path, &file);
    if (status) return status;
    status = psg_file_write(&file, w->header, w->header_bytes);
    for (size_t k = 0; k < w->count && !status; k++) {
        status = psg_row_major(&w->order[k]->tensor, w->stage, psg_write_piece, &file);
    }
    return psg_file_commit(&file);
}

/* ---- the whole ---- */

static psg_status take_memory(writing *w) {
    size_t order = w->count, metadata = w->metadata_count, bytes;
    if (__builtin_add_overflow(order, metadata, &bytes) || __builtin_mul_overflow(bytes, sizeof(void *), &bytes))
        bytes = SIZE_MAX;
    w->order = psg_arena_take(&w->arena, bytes);
    w->stage = psg_arena_take(&w->arena, PSG_ROW_MAJOR_STAGE);
    if (!w->order || !w->stage) return psg_fail_memory(w->context, w->function, bytes);
    w->metadata = (const psg_text_pair **)(void *)(w->order + order);
    return PSG_OK;
}

psg_status psg_tensors_write(const psg_source *to, const psg_named *tensors, size_t count,
                             const psg_text_pair *metadata, size_t metadata_count) {
    writing w = { .context = to->context, .function = to->function, .count = count, .metadata_count = metadata_count };
    psg_arena_init(&w.arena, w.context);
    psg_status status = take_memory(&w);
    if (!status) status = take_order(&w, tensors, metadata);
    if (!status) status = make_header(&w);
    if (!status) status = write_file(&w, to->path);
    psg_arena_release(&w.arena);
    return status;
}

psg_status psg_safetensors_write(psg_context *context, const char *path, const psg_named *tensors, size_t count,
                                 const psg_text_pair *metadata, size_t metadata_count) {
    PSG_DEFAULT_FLOATS;
    const psg_source to = { context, "psg_safetensors_write", path };
    if (!context) return PSG_ERR_ARGUMENT;
    if (!path) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: path is NULL", to.function);
    if (count && !tensors) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: tensors is NULL", to.function);
    if (metadata_count && !metadata) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: metadata is NULL", to.function);
    return psg_tensors_write(&to, tensors, count, metadata, metadata_count);
}
