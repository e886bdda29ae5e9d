/* The records of a zip archive (APPNOTE.TXT 6.3.9, section 4.3): little-endian numbers at fixed places. */
#ifndef PSG_IO_ZIP_H
#define PSG_IO_ZIP_H

#include <stdint.h>

enum {
    PSG_ZIP_LOCAL = 0x04034B50,        /* signatures */
    PSG_ZIP_DESCRIPTOR = 0x08074B50,
    PSG_ZIP_CENTRAL = 0x02014B50,
    PSG_ZIP_END = 0x06054B50,
    PSG_ZIP_END64 = 0x06064B50,
    PSG_ZIP_LOCATOR = 0x07064B50,
    PSG_ZIP_LOCAL_BYTES = 30,          /* of the records without names and extra fields */
    PSG_ZIP_CENTRAL_BYTES = 46,
    PSG_ZIP_END_BYTES = 22,
    PSG_ZIP_END64_BYTES = 56,
    PSG_ZIP_LOCATOR_BYTES = 20,
    PSG_ZIP_STORED = 0,                /* methods */
    PSG_ZIP_DEFLATED = 8,
    PSG_ZIP_ENCRYPTED = 1 << 0,        /* flags */
    PSG_ZIP_DEFLATE_OPTIONS = 3 << 1,
    PSG_ZIP_SIZES_FOLLOW = 1 << 3,
    PSG_ZIP_UTF8 = 1 << 11,
    PSG_ZIP_EXTRA_SIZES = 1,           /* extra fields: sizes of 64 bits; what aligns data (Android's zipalign) */
    PSG_ZIP_EXTRA_ALIGN = 0xD935,
};

/* What stands in a field whose number is in the record of 64 bits. */
#define PSG_ZIP_ELSEWHERE_16 0xFFFFu
#define PSG_ZIP_ELSEWHERE_32 0xFFFFFFFFu

static inline uint64_t psg_zip_get(const unsigned char *from, int bytes) {
    uint64_t value = 0;
    for (int k = bytes - 1; k >= 0; k--) value = value << 8 | from[k];
    return value;
}

static inline unsigned psg_zip_get16(const unsigned char *from) { return (unsigned)psg_zip_get(from, 2); }
static inline uint32_t psg_zip_get32(const unsigned char *from) { return (uint32_t)psg_zip_get(from, 4); }
static inline uint64_t psg_zip_get64(const unsigned char *from) { return psg_zip_get(from, 8); }

/* Returns what is behind it. */
static inline unsigned char *psg_zip_put(unsigned char *to, int bytes, uint64_t value) {
    for (int k = 0; k < bytes; k++) *to++ = (unsigned char)(value >> 8 * k & 0xFF);
    return to;
}

#endif
