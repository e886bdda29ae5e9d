#include "good_arrays.h"

#include <stdio.h>
#include <string.h>

#include "../array_files.h"
#include "io/zip.h"

enum { MOST_NPY = 2048 };

static size_t raw(fuzz_bytes *bytes, uint8_t *file, size_t capacity) {
    size_t length = bytes->left < capacity ? bytes->left : capacity;
    memcpy(file, bytes->at, length);
    bytes->left = 0;
    return length;
}

/* ---- npy ---- */

static size_t draw_npy(fuzz_bytes *bytes, uint8_t file[MOST_NPY]) {
    static const struct { const char *descr; size_t size; } types[] = {
        { "<f4", 4 }, { "<f8", 8 }, { "<f2", 2 }, { "|b1", 1 }, { "|i1", 1 }, { "<u2", 2 }, { "<u4", 4 }, { "<i8", 8 },
        { ">f4", 4 }, { "<u8", 8 }, { "|O", 8 },
    };
    uint8_t values[8 * 64];
    char shape[64] = "", text[256];
    size_t type = (size_t)fuzz_range(bytes, 0, 63), count = 1;
    type = type < sizeof types / sizeof types[0] ? type : type % 8;
    for (int64_t rank = fuzz_range(bytes, 0, 3); rank > 0; rank--) {
        const int64_t size = fuzz_range(bytes, 0, 4);
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%lld,", (long long)size);
        count *= (size_t)size;
    }
    const uint8_t mask = types[type].size == 1 ? 1 : 0xFF;   /* truth values among them */
    for (size_t k = 0; k < sizeof values; k++) values[k] = fuzz_byte(bytes) & mask;
    snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }", types[type].descr,
             fuzz_one_in(bytes, 2) ? "True" : "False", shape);
    const size_t bytes_of_values = count * types[type].size - (fuzz_one_in(bytes, 16) && count);
    size_t length = array_npy(text, values, bytes_of_values, file);
    if (fuzz_one_in(bytes, 8)) file[6] = (uint8_t)fuzz_range(bytes, 0, 3);
    return fuzz_one_in(bytes, 2) ? fuzz_edit(bytes, file, length, MOST_NPY) : length;
}

size_t good_npy(fuzz_bytes *bytes, uint8_t *file, size_t capacity) {
    uint8_t npy[MOST_NPY];
    if (fuzz_one_in(bytes, 8)) return raw(bytes, file, capacity);
    size_t length = draw_npy(bytes, npy);
    length = length < capacity ? length : capacity;
    memcpy(file, npy, length);
    return length;
}

/* ---- npz ---- */

/* A number of a record, the local one, the central one or both: what edits of bytes rarely find. */
static void exchange(fuzz_bytes *bytes, array_archive *a) {
    static const int64_t fields[] = { 8, 10, 16, 20, 24, 28, 30, 32, 42 };
    static const int64_t numbers[] = { 0, 1, 2, 8, 46, 128, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF };
    const size_t field = (size_t)FUZZ_PICK(bytes, fields);
    const int width = field == 16 || field == 20 || field == 24 || field == 42 ? 4 : 2;
    const uint64_t number = (uint64_t)FUZZ_PICK(bytes, numbers) + (uint64_t)fuzz_range(bytes, 0, 7);
    if (!a->members) return;
    const size_t k = (size_t)fuzz_range(bytes, 0, (int64_t)a->members - 1);
    const int64_t which = fuzz_range(bytes, 0, 2);
    if (which != 1) array_set(a, a->central[k] + field, width, number);
    if (which != 0 && field < 32) array_set(a, a->local[k] + field - 2, width, number);
}

/* With an end of 64 bits before the end. */
static void put_end64(array_archive *a) {
    uint8_t records[76] = { 0 };
    const uint64_t count = a->members, place = a->directory, at = a->end;
    uint8_t *p = psg_zip_put(psg_zip_put(records, 4, PSG_ZIP_END64), 8, 44) + 12;
    p = psg_zip_put(psg_zip_put(p, 8, count), 8, count);
    p = psg_zip_put(psg_zip_put(p, 8, at - place), 8, place);
    psg_zip_put(psg_zip_put(psg_zip_put(p, 4, PSG_ZIP_LOCATOR) + 4, 8, at), 4, 1);
    array_insert(a, a->end, records, sizeof records);
}

size_t good_npz(fuzz_bytes *bytes, uint8_t *file, size_t capacity) {
    static const char *const names[] = { "a.npy", "b.npy", "layer/weight.npy", ".npy", "b" };
    static array_archive archive;
    uint8_t npy[MOST_NPY];
    if (fuzz_one_in(bytes, 8)) return raw(bytes, file, capacity);
    array_begin(&archive);
    for (int64_t count = fuzz_range(bytes, 0, 3); count > 0; count--) {
        const char *name = names[fuzz_one_in(bytes, 16) ? fuzz_range(bytes, 0, 4) : count];
        const size_t length = draw_npy(bytes, npy);
        array_add(&archive, name, npy, length, fuzz_one_in(bytes, 2) ? PSG_ZIP_DEFLATED : PSG_ZIP_STORED);
    }
    array_end(&archive);
    if (fuzz_one_in(bytes, 4)) put_end64(&archive);
    if (fuzz_one_in(bytes, 2)) exchange(bytes, &archive);
    size_t length = archive.count < capacity ? archive.count : capacity;
    memcpy(file, archive.bytes, length);
    return fuzz_one_in(bytes, 2) ? fuzz_edit(bytes, file, length, capacity) : length;
}
