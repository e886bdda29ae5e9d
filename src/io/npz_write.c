#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "base/shapes.h"
#include "base/utf8.h"
#include "io/npy_header.h"
#include "io/row_major.h"
#include "io/zip_write.h"

static const char suffix[] = ".npy";

typedef struct writing {
    psg_context *context;
    const char *function;          /* for messages */
    const psg_named *tensors;
    size_t count;
    psg_zip_stored *members;       /* of the tensors; names without the suffix, their length with it */
    const char **names;            /* in ascending order */
    char *stage;                   /* of psg_row_major */
    psg_arena arena;
    psg_file file;
    uint64_t place;                /* in the file */
} writing;

/* ---- checks ---- */

static psg_status check_tensor(const writing *w, size_t k) {
    const psg_named *named = &w->tensors[k];
    const char *name = named->name;
    char fault[PSG_FAULT_TEXT];
    const size_t most = PSG_ZIP_MOST_NAME - (sizeof suffix - 1);
    if (!name) return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: name %zu is NULL", w->function, k);
    if (!psg_is_utf8(name)) {
        return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: name %zu \"%.100s\" is no UTF-8", w->function, k, name);
    }
    if (strlen(name) > most) {
        return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: name %zu \"%.100s\" has %zu bytes, at most %zu may be",
                        w->function, k, name, strlen(name), most);
    }
    if (psg_tensor_is_valid(&named->tensor)) return PSG_OK;
    return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: tensor \"%.100s\" is %s", w->function, name,
                    psg_tensor_fault(&named->tensor, fault));
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static psg_status check(const writing *w) {
    psg_status status = PSG_OK;
    for (size_t k = 0; k < w->count && !status; k++) {
        status = check_tensor(w, k);
        w->names[k] = w->tensors[k].name;
    }
    if (status) return status;
    qsort(w->names, w->count, sizeof *w->names, by_text);
    for (size_t k = 1; k < w->count; k++) {
        if (strcmp(w->names[k - 1], w->names[k])) continue;
        return psg_fail(w->context, PSG_ERR_ARGUMENT, "%s: name \"%.100s\" is there twice", w->function, w->names[k]);
    }
    return PSG_OK;
}

/* ---- the file ---- */

static psg_status put(writing *w, const void *bytes, size_t count) {
    w->place += count;
    return psg_file_write(&w->file, bytes, count);
}

static psg_status put_record(writing *w, const psg_zip_stored *m, const unsigned char *record, size_t before,
                             size_t count) {
    psg_status status = put(w, record, before);
    if (!status) status = put(w, m->name, m->name_length - (sizeof suffix - 1));
    if (!status) status = put(w, suffix, sizeof suffix - 1);
    return status ? status : put(w, record + before, count - before);
}

static psg_status add_to_crc(void *crc, const void *bytes, size_t count) {
    if (count) *(uint32_t *)crc = (uint32_t)crc32_z(*(uint32_t *)crc, bytes, count);   /* of NULL it is 0 */
    return PSG_OK;
}

/* The sum stands before the values, which are therefore gone through twice. */
static psg_status write_member(writing *w, size_t k) {
    const psg_tensor *t = &w->tensors[k].tensor;
    psg_zip_stored *m = &w->members[k];
    char header[PSG_NPY_MOST_WRITTEN];
    unsigned char record[PSG_ZIP_MOST_RECORD];
    const size_t length = psg_npy_header_put(t, header), bytes = (size_t)psg_tensor_count(t) * psg_dtype_size(t->dtype);
    size_t before;
    *m = (psg_zip_stored){ .name = w->tensors[k].name, .place = w->place, .size = length + bytes };
    m->name_length = strlen(m->name) + sizeof suffix - 1;
    add_to_crc(&m->crc, header, length);
    psg_row_major(t, w->stage, add_to_crc, &m->crc);
    const size_t count = psg_zip_local_put(m, record, &before);
    psg_status status = put_record(w, m, record, before, count);
    if (!status) status = put(w, header, length);
    if (!status) status = psg_row_major(t, w->stage, psg_write_piece, &w->file);
    w->place += bytes;
    return status;
}

static psg_status write_directory(writing *w) {
    unsigned char record[PSG_ZIP_MOST_RECORD];
    const uint64_t begin = w->place;
    psg_status status = PSG_OK;
    for (size_t k = 0; k < w->count && !status; k++) {
        size_t before, count = psg_zip_central_put(&w->members[k], record, &before);
        status = put_record(w, &w->members[k], record, before, count);
    }
    const size_t bytes = psg_zip_end_put(w->count, begin, w->place, record);
    return status ? status : put(w, record, bytes);
}

/* The first write that fails keeps the commit from replacing anything. */
static psg_status write_file(writing *w, const char *path) {
    psg_status status = psg_file_begin(w->context, w->function, path, &w->file);
    if (status) return status;
    for (size_t k = 0; k < w->count && !status; k++) status = write_member(w, k);
    if (!status) write_directory(w);
    return psg_file_commit(&w->file);
}

/* ---- the whole ---- */

static psg_status take_memory(writing *w) {
    size_t bytes;
    if (__builtin_mul_overflow(w->count, sizeof *w->members + sizeof *w->names, &bytes)) bytes = SIZE_MAX;
    w->members = psg_arena_take(&w->arena, bytes);
    w->stage = psg_arena_take(&w->arena, PSG_ROW_MAJOR_STAGE);
    if (!w->members || !w->stage) return psg_fail_memory(w->context, w->function, bytes);
    w->names = (const char **)(void *)(w->members + w->count);
    return PSG_OK;
}

psg_status psg_npz_write(psg_context *context, const char *path, const psg_named *tensors, size_t count) {
    PSG_DEFAULT_FLOATS;
    writing w = { .context = context, .function = "psg_npz_write", .tensors = tensors, .count = count };
    if (!context) return PSG_ERR_ARGUMENT;
    if (!path) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: path is NULL", w.function);
    if (count && !tensors) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: tensors is NULL", w.function);
    psg_arena_init(&w.arena, context);
    psg_status status = take_memory(&w);
    if (!status) status = check(&w);
    if (!status) status = write_file(&w, path);
    psg_arena_release(&w.arena);
    return status;
}
