#include "io/zip_end.h"

#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "io/zip.h"

#define REFUSE(r, ...) psg_fail_format((r)->source.context, (r)->source.function, (r)->source.path, __VA_ARGS__)

enum { SEARCHED = PSG_ZIP_END_BYTES + 0xFFFF };

/* ---- the last record ---- */

/* Where the last bytes have a record's signature: a comment or other bytes follow it. */
static psg_status refuse_tail(const psg_reading *r, const unsigned char *tail, int64_t count) {
    int64_t k = count - PSG_ZIP_END_BYTES;
    while (k >= 0 && psg_zip_get32(tail + k) != PSG_ZIP_END) k--;
    if (k < 0) {
        return REFUSE(r, "byte %lld: no end of a zip archive: it was cut, or is none", (long long)r->bytes);
    }
    const long long at = r->bytes - count + k + PSG_ZIP_END_BYTES, after = r->bytes - at;
    return REFUSE(r, "byte %lld: %lld bytes after the end of the archive, where the file must end", at, after);
}

static psg_status find_why(const psg_reading *r) {
    const int64_t count = r->bytes < SEARCHED ? r->bytes : SEARCHED;
    unsigned char *tail = psg_alloc(r->source.context, (size_t)count);
    if (!tail) return psg_fail_memory(r->source.context, r->source.function, (size_t)count);
    psg_status status = psg_read_bytes(r, tail, (size_t)count, r->bytes - count);
    if (!status) status = refuse_tail(r, tail, count);
    psg_free(r->source.context, tail);
    return status;
}

/* Its numbers: disk, disk of the directory, entries of the disk, entries, bytes and place of the directory. */
enum { DISK, DIRECTORY_DISK, DISK_ENTRIES, ENTRIES, BYTES, PLACE, NUMBERS };
static const int end_widths[NUMBERS] = { 2, 2, 2, 2, 4, 4 }, end64_widths[NUMBERS] = { 4, 4, 8, 8, 8, 8 };

static void get_numbers(const unsigned char *from, const int widths[NUMBERS], uint64_t numbers[NUMBERS]) {
    for (int k = 0; k < NUMBERS; from += widths[k++]) numbers[k] = psg_zip_get(from, widths[k]);
}

static psg_status read_end(const psg_reading *r, uint64_t numbers[NUMBERS]) {
    unsigned char record[PSG_ZIP_END_BYTES];
    if (r->bytes < PSG_ZIP_END_BYTES) return find_why(r);
    psg_status status = psg_read_bytes(r, record, sizeof record, r->bytes - PSG_ZIP_END_BYTES);
    if (status) return status;
    if (psg_zip_get32(record) != PSG_ZIP_END) return find_why(r);
    get_numbers(record + 4, end_widths, numbers);
    const unsigned comment = psg_zip_get16(record + 20);
    if (!comment) return PSG_OK;
    return REFUSE(r, "byte %lld: a comment of %u bytes where the file ends", (long long)r->bytes - 2, comment);
}

/* ---- 64 bits ---- */

/* What the short record says is right or all ones. */
static psg_status merge(const psg_reading *r, int64_t at, const uint64_t more[NUMBERS], uint64_t numbers[NUMBERS]) {
    static const char *const names[NUMBERS] = { "disk", "disk of the directory", "entries of the disk", "entries",
                                                "bytes of the directory", "place of the directory" };
    for (int k = 0; k < NUMBERS; k++) {
        const uint64_t elsewhere = end_widths[k] == 2 ? PSG_ZIP_ELSEWHERE_16 : PSG_ZIP_ELSEWHERE_32;
        if (numbers[k] != more[k] && numbers[k] != elsewhere) {
            return REFUSE(r, "byte %lld: %s: %llu in the end of 64 bits, %llu in the end", (long long)at, names[k],
                          (unsigned long long)more[k], (unsigned long long)numbers[k]);
        }
        numbers[k] = more[k];
    }
    return PSG_OK;
}

static psg_status read_end64(const psg_reading *r, int64_t locator, const unsigned char record[PSG_ZIP_LOCATOR_BYTES],
                             uint64_t numbers[NUMBERS], int64_t *behind) {
    unsigned char end64[PSG_ZIP_END64_BYTES];
    uint64_t more[NUMBERS];
    const int64_t at = locator - PSG_ZIP_END64_BYTES;
    if (at < 0 || psg_zip_get64(record + 8) != (uint64_t)at || psg_zip_get32(record + 4) ||
        psg_zip_get32(record + 16) > 1) {
        return REFUSE(r, "byte %lld: the locator says byte %llu of disk %lu, the end of 64 bits is %d bytes before it",
                      (long long)locator, (unsigned long long)psg_zip_get64(record + 8),
                      (unsigned long)psg_zip_get32(record + 4), PSG_ZIP_END64_BYTES);
    }
    psg_status status = psg_read_bytes(r, end64, sizeof end64, at);
    if (status) return status;
    if (psg_zip_get32(end64) != PSG_ZIP_END64 || psg_zip_get64(end64 + 4) != PSG_ZIP_END64_BYTES - 12) {
        return REFUSE(r, "byte %lld: no end of 64 bits, or one of another length", (long long)at);
    }
    get_numbers(end64 + 16, end64_widths, more);
    *behind = at;
    return merge(r, at, more, numbers);
}

static psg_status read_locator(const psg_reading *r, uint64_t numbers[NUMBERS], int64_t *behind) {
    unsigned char record[PSG_ZIP_LOCATOR_BYTES];
    const int64_t at = *behind - PSG_ZIP_LOCATOR_BYTES;
    if (at < 0) return PSG_OK;
    psg_status status = psg_read_bytes(r, record, sizeof record, at);
    if (status || psg_zip_get32(record) != PSG_ZIP_LOCATOR) return status;
    return read_end64(r, at, record, numbers, behind);
}

/* ---- the whole ---- */

static psg_status check(const psg_reading *r, const uint64_t n[NUMBERS], int64_t behind) {
    const unsigned long long place = n[PLACE], bytes = n[BYTES], entries = n[ENTRIES];
    const uint64_t room = (uint64_t)behind;
    if (n[DISK] || n[DIRECTORY_DISK] || n[DISK_ENTRIES] != n[ENTRIES]) {
        return REFUSE(r, "byte %lld: a part of an archive of several disks", (long long)behind);
    }
    if (place > room || bytes != room - place) {
        return REFUSE(r, "byte %lld: directory of %llu bytes from byte %llu on, which must end here", (long long)behind,
                      bytes, place);
    }
    if (entries <= bytes / PSG_ZIP_CENTRAL_BYTES) return PSG_OK;
    return REFUSE(r, "byte %lld: %llu entries, of %d bytes and more, in a directory of %llu bytes", (long long)behind,
                  entries, PSG_ZIP_CENTRAL_BYTES, bytes);
}

psg_status psg_zip_end_read(const psg_reading *r, psg_zip_end *end) {
    uint64_t numbers[NUMBERS];
    int64_t behind = r->bytes - PSG_ZIP_END_BYTES;    /* the directory: of which record */
    psg_status status = read_end(r, numbers);
    if (!status) status = read_locator(r, numbers, &behind);
    if (!status) status = check(r, numbers, behind);
    if (status) return status;
    *end = (psg_zip_end){ (int64_t)numbers[PLACE], (int64_t)numbers[BYTES], (size_t)numbers[ENTRIES] };
    return PSG_OK;
}
