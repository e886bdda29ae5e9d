#include "io/zip_write.h"

#include <string.h>

#include "io/zip.h"

enum {
    ALIGNMENT = 64,
    VERSION = 20,                  /* that reads it: 2.0, for sizes of 64 bits 4.5 */
    VERSION_64 = 45,
    UNIX = 3 << 8,                 /* made by: what the attributes mean */
    DATE = 0x21,                   /* 1 January 1980, the first there is: the same bytes each time */
    EXTRA_HEAD = 4,                /* of an extra field: id and length */
};
#define ATTRIBUTES (0100644ul << 16)   /* of a regular file */

static uint64_t or_elsewhere(uint64_t value) {
    return value < PSG_ZIP_ELSEWHERE_32 ? value : PSG_ZIP_ELSEWHERE_32;
}

static bool is_large(uint64_t value) { return value >= PSG_ZIP_ELSEWHERE_32; }

/* What the local and the central record share: from the version to the length of the name. */
static unsigned char *put_shared(unsigned char *to, const psg_zip_stored *m, bool is_64) {
    to = psg_zip_put(to, 2, is_64 ? VERSION_64 : VERSION);
    to = psg_zip_put(to, 2, PSG_ZIP_UTF8);
    to = psg_zip_put(to, 2, PSG_ZIP_STORED);
    to = psg_zip_put(to, 2, 0);
    to = psg_zip_put(to, 2, DATE);
    to = psg_zip_put(to, 4, m->crc);
    to = psg_zip_put(to, 4, or_elsewhere(m->size));
    to = psg_zip_put(to, 4, or_elsewhere(m->size));
    return psg_zip_put(to, 2, m->name_length);
}

size_t psg_zip_local_put(const psg_zip_stored *m, unsigned char record[PSG_ZIP_MOST_RECORD], size_t *before) {
    const size_t sizes = is_large(m->size) ? EXTRA_HEAD + 16 : 0, room = EXTRA_HEAD + 2;
    const uint64_t data = m->place + PSG_ZIP_LOCAL_BYTES + m->name_length + sizes + room;
    const size_t padding = (size_t)(-data % ALIGNMENT);
    unsigned char *to = psg_zip_put(record, 4, PSG_ZIP_LOCAL);
    to = put_shared(to, m, sizes);
    to = psg_zip_put(to, 2, sizes + room + padding);
    *before = (size_t)(to - record);
    if (sizes) {
        to = psg_zip_put(to, 2, PSG_ZIP_EXTRA_SIZES);
        to = psg_zip_put(to, 2, 16);
        to = psg_zip_put(to, 8, m->size);
        to = psg_zip_put(to, 8, m->size);
    }
    to = psg_zip_put(to, 2, PSG_ZIP_EXTRA_ALIGN);
    to = psg_zip_put(to, 2, 2 + padding);
    to = psg_zip_put(to, 2, ALIGNMENT);
    memset(to, 0, padding);
    return (size_t)(to - record) + padding;
}

size_t psg_zip_central_put(const psg_zip_stored *m, unsigned char record[PSG_ZIP_MOST_RECORD], size_t *before) {
    const size_t large = (is_large(m->size) ? 16 : 0) + (is_large(m->place) ? 8 : 0);
    unsigned char *to = psg_zip_put(record, 4, PSG_ZIP_CENTRAL);
    to = psg_zip_put(to, 2, UNIX | (large ? VERSION_64 : VERSION));
    to = put_shared(to, m, large);
    to = psg_zip_put(to, 2, large ? EXTRA_HEAD + large : 0);
    to = psg_zip_put(to, 6, 0);    /* length of the comment, disk, internal attributes */
    to = psg_zip_put(to, 4, ATTRIBUTES);
    to = psg_zip_put(to, 4, or_elsewhere(m->place));
    *before = (size_t)(to - record);
    if (large) {
        to = psg_zip_put(to, 2, PSG_ZIP_EXTRA_SIZES);
        to = psg_zip_put(to, 2, large);
    }
    if (is_large(m->size)) to = psg_zip_put(psg_zip_put(to, 8, m->size), 8, m->size);
    if (is_large(m->place)) to = psg_zip_put(to, 8, m->place);
    return (size_t)(to - record);
}

static unsigned char *put_end64(unsigned char *to, uint64_t entries, uint64_t begin, uint64_t end) {
    to = psg_zip_put(to, 4, PSG_ZIP_END64);
    to = psg_zip_put(to, 8, PSG_ZIP_END64_BYTES - 12);
    to = psg_zip_put(to, 2, UNIX | VERSION_64);
    to = psg_zip_put(to, 2, VERSION_64);
    to = psg_zip_put(to, 8, 0);    /* disks */
    to = psg_zip_put(psg_zip_put(to, 8, entries), 8, entries);
    to = psg_zip_put(to, 8, end - begin);
    to = psg_zip_put(to, 8, begin);
    to = psg_zip_put(to, 4, PSG_ZIP_LOCATOR);
    to = psg_zip_put(to, 4, 0);
    to = psg_zip_put(to, 8, end);
    return psg_zip_put(to, 4, 1);  /* disks in all */
}

size_t psg_zip_end_put(uint64_t entries, uint64_t begin, uint64_t end, unsigned char record[PSG_ZIP_MOST_RECORD]) {
    const bool many = entries >= PSG_ZIP_ELSEWHERE_16, large = is_large(begin) || is_large(end - begin);
    const uint64_t said = many ? PSG_ZIP_ELSEWHERE_16 : entries;
    unsigned char *to = many || large ? put_end64(record, entries, begin, end) : record;
    to = psg_zip_put(to, 4, PSG_ZIP_END);
    to = psg_zip_put(to, 4, 0);    /* disks */
    to = psg_zip_put(psg_zip_put(to, 2, said), 2, said);
    to = psg_zip_put(to, 4, or_elsewhere(end - begin));
    to = psg_zip_put(to, 4, or_elsewhere(begin));
    to = psg_zip_put(to, 2, 0);    /* comment */
    return (size_t)(to - record);
}
