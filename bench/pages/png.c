#include "png.h"

#include <string.h>
#include <zlib.h>

enum { MOST_SIDE = 256, ROWS = MOST_SIDE * (MOST_SIDE + 1), MOST_BYTES = ROWS + ROWS / 100 + 1024 };

typedef struct bytes {
    uint8_t at[MOST_BYTES];
    size_t count;
} bytes;

static void put(bytes *b, const void *data, size_t count) {
    memcpy(b->at + b->count, data, count);
    b->count += count;
}

static void put_u32(bytes *b, uint32_t value) {
    const uint8_t big[] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value };
    put(b, big, sizeof big);
}

/* Length, type, data, CRC of type and data (PNG, 5.3). */
static void put_chunk(bytes *b, const char *type, const uint8_t *data, size_t count) {
    put_u32(b, (uint32_t)count);
    const uint8_t *start = b->at + b->count;
    put(b, type, 4);
    put(b, data, count);
    put_u32(b, (uint32_t)crc32(0, start, (uInt)(count + 4)));
}

static void put_header(bytes *b, unsigned width, unsigned height) {
    bytes header = { .count = 0 };
    put_u32(&header, width);
    put_u32(&header, height);
    put(&header, "\x08\0\0\0\0", 5);            /* 8 bits of grey; deflate; filters of rows; not interlaced */
    put_chunk(b, "IHDR", header.at, header.count);
}

/* Each row after its filter, none. */
static void put_pixels(bytes *b, const uint8_t *pixels, unsigned width, unsigned height) {
    static uint8_t rows[ROWS], packed[MOST_BYTES - 256];
    uLongf size = sizeof packed;
    for (unsigned y = 0; y < height; y++) {
        rows[y * (width + 1)] = 0;
        memcpy(rows + y * (width + 1) + 1, pixels + y * width, width);
    }
    compress(packed, &size, rows, height * (width + 1));
    put_chunk(b, "IDAT", packed, size);
}

static void put_base64(FILE *out, const bytes *b) {
    static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < b->count; i += 3) {
        uint32_t group = 0;
        for (size_t k = 0; k < 3; k++) group = group << 8 | (i + k < b->count ? b->at[i + k] : 0);
        for (size_t k = 0; k < 4; k++) putc(i + k > b->count ? '=' : letter[group >> (18 - 6 * k) & 63], out);
    }
}

void png_put_grey(FILE *out, const uint8_t *pixels, unsigned width, unsigned height) {
    static bytes image;
    image.count = 0;
    if (width == 0 || height == 0 || width > MOST_SIDE || height > MOST_SIDE) return;
    put(&image, "\x89PNG\r\n\x1a\n", 8);
    put_header(&image, width, height);
    put_pixels(&image, pixels, width, height);
    put_chunk(&image, "IEND", image.at, 0);
    fputs("data:image/png;base64,", out);
    put_base64(out, &image);
}
