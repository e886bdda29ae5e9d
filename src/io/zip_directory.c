#include "io/zip_directory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "base/utf8.h"
#include "io/zip.h"
#include "io/zip_end.h"

typedef struct directory {
    const psg_reading *file;
    psg_zip_end end;
    const unsigned char *bytes;    /* of the directory */
    unsigned char *local;          /* name and extra fields of one local record */
    psg_zip_member *members;
    size_t count;
    char *names;                   /* where the next one goes */
} directory;

enum { LOCAL_TEXT = 2 * 0xFFFF };

/* m NULL: of no member. */
static psg_status refuse(const directory *d, int64_t byte, const psg_zip_member *m, const char *format, ...)
    PSG_PRINTF(4, 5);
static psg_status refuse(const directory *d, int64_t byte, const psg_zip_member *m, const char *format, ...) {
    const psg_source *from = &d->file->source;
    const long long at = byte;
    char text[PSG_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!m) return psg_fail_format(from->context, from->function, from->path, "byte %lld: %s", at, text);
    return psg_fail_format(from->context, from->function, from->path, "byte %lld: member \"%.100s\": %s", at, m->name,
                           text);
}

/* ---- extra fields ---- */

/* Of numbers that are all ones, in this order, the right ones stand in the extra field of sizes.  false: the fields are
 * broken, or do not have them. */
static bool take_sizes(const unsigned char *extra, size_t length, uint64_t *numbers[], int count) {
    const unsigned char *found = NULL, *end = extra + length;
    while (end - extra >= 4) {
        const unsigned id = psg_zip_get16(extra), bytes = psg_zip_get16(extra + 2);
        if (bytes > end - extra - 4 || (id == PSG_ZIP_EXTRA_SIZES && found)) return false;
        if (id == PSG_ZIP_EXTRA_SIZES) found = extra;
        extra += 4 + bytes;
    }
    const unsigned char *next = found ? found + 4 : NULL;
    for (int k = 0; k < count; k++) {
        if (*numbers[k] != PSG_ZIP_ELSEWHERE_32 || !found) continue;
        if (next + 8 > found + 4 + psg_zip_get16(found + 2)) return false;
        *numbers[k] = psg_zip_get64(next);
        next += 8;
    }
    return extra == end;
}

/* ---- the directory ---- */

static psg_status keep_name(directory *d, psg_zip_member *m, int64_t at, const unsigned char *name, size_t length) {
    char *kept = memcpy(d->names, name, length);
    kept[length] = 0;
    d->names += length + 1;
    m->name = kept;
    bool is_ascii = true;
    for (size_t k = 0; k < length; k++) is_ascii &= name[k] < 0x80;
    if (strlen(kept) != length) return refuse(d, at, m, "its name has a byte of 0");
    if (is_ascii || (m->flags & PSG_ZIP_UTF8 && psg_is_utf8(kept))) return PSG_OK;
    return refuse(d, at, m, "its name is not ASCII, nor UTF-8 that is marked so");
}

static psg_status check_method(const directory *d, const psg_zip_member *m, int64_t at) {
    const unsigned known = PSG_ZIP_DEFLATE_OPTIONS | PSG_ZIP_SIZES_FOLLOW | PSG_ZIP_UTF8;
    if (m->flags & PSG_ZIP_ENCRYPTED) return refuse(d, at, m, "is encrypted");
    if (m->flags & ~known) return refuse(d, at, m, "flags 0x%04x, of which 0x%04x are known", m->flags, known);
    if (m->method == PSG_ZIP_STORED || m->method == PSG_ZIP_DEFLATED) return PSG_OK;
    return refuse(d, at, m, "method %u, only 0 (stored) and 8 (deflated) are read", m->method);
}

/* Before anything is inflated: what deflate can hold at all. */
static psg_status check_sizes(const directory *d, const psg_zip_member *m, int64_t at, const uint64_t n[3]) {
    const unsigned long long size = n[0], held = n[1], place = n[2], room = (uint64_t)d->end.directory;
    if (place > room || held > room - place) {
        return refuse(d, at, m, "%llu bytes from byte %llu on, the directory begins at %llu", held, place, room);
    }
    const bool is_stored = m->method == PSG_ZIP_STORED;
    if (is_stored ? size == held : size <= INT64_MAX && (size + PSG_MOST_INFLATED - 1) / PSG_MOST_INFLATED <= held)
        return PSG_OK;
    return refuse(d, at, m, "%llu bytes %s, which %llu bytes in the file cannot be", size,
                  is_stored ? "stored" : "deflated", held);
}

static psg_status read_entry(directory *d, size_t *used) {
    const unsigned char *e = d->bytes + *used;
    const size_t left = (size_t)d->end.directory_bytes - *used;
    const int64_t at = d->end.directory + (int64_t)*used;
    if (left < PSG_ZIP_CENTRAL_BYTES || psg_zip_get32(e) != PSG_ZIP_CENTRAL)
        return refuse(d, at, NULL, "no entry %zu of the directory", d->count);
    const size_t name = psg_zip_get16(e + 28), extra = psg_zip_get16(e + 30), comment = psg_zip_get16(e + 32);
    if (name + extra + comment > left - PSG_ZIP_CENTRAL_BYTES)
        return refuse(d, at, NULL, "entry %zu is longer than the directory", d->count);
    *used += PSG_ZIP_CENTRAL_BYTES + name + extra + comment;

    psg_zip_member *m = &d->members[d->count++];
    *m = (psg_zip_member){ .flags = psg_zip_get16(e + 8), .method = psg_zip_get16(e + 10) };
    uint64_t n[3] = { psg_zip_get32(e + 24), psg_zip_get32(e + 20), psg_zip_get32(e + 42) };
    psg_status status = keep_name(d, m, at, e + PSG_ZIP_CENTRAL_BYTES, name);
    if (!status) status = check_method(d, m, at);
    if (status) return status;
    if (psg_zip_get16(e + 34) ||
        !take_sizes(e + PSG_ZIP_CENTRAL_BYTES + name, extra, (uint64_t *[]){ &n[0], &n[1], &n[2] }, 3)) {
        return refuse(d, at, m, "is of another disk, or its extra fields are broken");
    }
    status = check_sizes(d, m, at, n);
    m->place = (int64_t)n[2];
    m->extent = (psg_extent){ .member = m->name, .held = (int64_t)n[1], .size = (int64_t)n[0], .has_crc = true,
                              .is_deflated = m->method == PSG_ZIP_DEFLATED, .crc = psg_zip_get32(e + 16) };
    return status;
}

static psg_status read_entries(directory *d) {
    size_t used = 0;
    psg_status status = PSG_OK;
    for (size_t k = 0; k < d->end.entries && !status; k++) status = read_entry(d, &used);
    const int64_t left = d->end.directory_bytes - (int64_t)used;
    if (status || !left) return status;
    return refuse(d, d->end.directory + (int64_t)used, NULL, "%lld bytes after the last of %zu entries",
                  (long long)left, d->end.entries);
}

/* ---- local records ---- */

/* Sizes that follow the data may be 0 in front of it. */
static bool agrees(const psg_zip_member *m, uint64_t local, uint64_t central) {
    return local == central || (m->flags & PSG_ZIP_SIZES_FOLLOW && !local);
}

static psg_status check_local(const directory *d, psg_zip_member *m, const unsigned char record[PSG_ZIP_LOCAL_BYTES]) {
    const size_t name = psg_zip_get16(record + 26), extra = psg_zip_get16(record + 28);
    uint64_t size = psg_zip_get32(record + 22), held = psg_zip_get32(record + 18);
    const int64_t text = m->place + PSG_ZIP_LOCAL_BYTES;
    m->extent.begin = text + (int64_t)(name + extra);
    if (m->extent.begin > d->end.directory - m->extent.held) {
        return refuse(d, m->place, m, "its data reaches into the directory");
    }
    psg_status status = psg_read_bytes(d->file, d->local, name + extra, text);
    if (status) return status;
    const bool is_same = name == strlen(m->name) && !memcmp(d->local, m->name, name) &&
                         take_sizes(d->local + name, extra, (uint64_t *[]){ &size, &held }, 2) &&
                         psg_zip_get16(record + 6) == m->flags && psg_zip_get16(record + 8) == m->method &&
                         agrees(m, psg_zip_get32(record + 14), m->extent.crc) &&
                         agrees(m, size, (uint64_t)m->extent.size) && agrees(m, held, (uint64_t)m->extent.held);
    if (is_same) return PSG_OK;
    return refuse(d, m->place, m, "name, flags, method, sizes or CRC-32 are not those of the directory");
}

static psg_status read_local(const directory *d, psg_zip_member *m) {
    unsigned char record[PSG_ZIP_LOCAL_BYTES];
    if (m->place > d->end.directory - PSG_ZIP_LOCAL_BYTES)
        return refuse(d, m->place, m, "its record reaches into the directory");
    psg_status status = psg_read_bytes(d->file, record, sizeof record, m->place);
    if (status) return status;
    if (psg_zip_get32(record) == PSG_ZIP_LOCAL) return check_local(d, m, record);
    return refuse(d, m->place, m, "no record of a member");
}

/* With or without its signature, sizes of 32 bits or 64. */
static bool is_descriptor(const unsigned char *bytes, int64_t count, const psg_extent *e) {
    const bool is_signed = count == 16 || count == 24;
    const int width = count > 16 ? 8 : 4;
    if (count != 12 + 4 * is_signed && count != 20 + 4 * is_signed) return false;
    if (is_signed && psg_zip_get32(bytes) != PSG_ZIP_DESCRIPTOR) return false;
    bytes += 4 * is_signed;
    return psg_zip_get32(bytes) == e->crc && psg_zip_get(bytes + 4, width) == (uint64_t)e->held &&
           psg_zip_get(bytes + 4 + width, width) == (uint64_t)e->size;
}

/* Between a member's data and the next record. */
static psg_status check_gap(const directory *d, const psg_zip_member *m, int64_t next) {
    unsigned char bytes[24];
    const int64_t end = m->extent.begin + m->extent.held, count = next - end;
    const bool follows = m->flags & PSG_ZIP_SIZES_FOLLOW;
    if (count < 0) return refuse(d, next, m, "ends at byte %lld, over what begins here", (long long)end);
    if (!count && !follows) return PSG_OK;
    if (follows && count <= (int64_t)sizeof bytes) {
        psg_status status = psg_read_bytes(d->file, bytes, (size_t)count, end);
        if (status || is_descriptor(bytes, count, &m->extent)) return status;
    }
    return refuse(d, end, m, "%lld bytes after it are %s", (long long)count,
                  follows ? "no descriptor of it" : "nobody's");
}

static int by_place(const void *a, const void *b) {
    const int64_t x = ((const psg_zip_member *)a)->place, y = ((const psg_zip_member *)b)->place;
    return (x > y) - (x < y);
}

static psg_status check_places(directory *d) {
    psg_status status = PSG_OK;
    qsort(d->members, d->count, sizeof *d->members, by_place);
    const int64_t first = d->count ? d->members[0].place : d->end.directory;
    if (first) return refuse(d, 0, NULL, "%lld bytes before the archive", (long long)first);
    for (size_t k = 0; k < d->count && !status; k++) {
        const int64_t next = k + 1 < d->count ? d->members[k + 1].place : d->end.directory;
        status = read_local(d, &d->members[k]);
        if (!status) status = check_gap(d, &d->members[k], next);
    }
    return status;
}

/* ---- the whole ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const psg_zip_member *)a)->name, ((const psg_zip_member *)b)->name);
}

static psg_status check_once(directory *d) {
    qsort(d->members, d->count, sizeof *d->members, by_name);
    for (size_t k = 1; k < d->count; k++) {
        const psg_zip_member *m = &d->members[k];
        if (strcmp(d->members[k - 1].name, m->name)) continue;
        return refuse(d, m->place, m, "is there twice");
    }
    return PSG_OK;
}

static psg_status read_directory(directory *d, unsigned char *bytes) {
    psg_status status = psg_read_bytes(d->file, bytes, (size_t)d->end.directory_bytes, d->end.directory);
    d->bytes = bytes;
    d->local = bytes + d->end.directory_bytes;
    if (!status) status = read_entries(d);
    if (!status) status = check_once(d);
    return status ? status : check_places(d);
}

/* A name and its final 0 take less than its entry. */
psg_status psg_zip_directory_read(const psg_reading *reading, psg_arena *arena, psg_zip_member **members,
                                  size_t *count) {
    const psg_source *from = &reading->source;
    directory d = { .file = reading };
    psg_status status = psg_zip_end_read(reading, &d.end);
    if (status) return status;
    const size_t held = (size_t)d.end.directory_bytes, list = d.end.entries * sizeof *d.members;
    d.members = psg_arena_take(arena, list);
    d.names = psg_arena_take(&reading->set->arena, held);
    unsigned char *bytes = psg_alloc(from->context, held + LOCAL_TEXT);
    if (!d.members || !d.names || !bytes) status = psg_fail_memory(from->context, from->function, list + 2 * held);
    if (!status) status = read_directory(&d, bytes);
    psg_free(from->context, bytes);
    *members = d.members;
    *count = d.count;
    return status;
}
