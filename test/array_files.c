#include "array_files.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/zip.h"

size_t array_npy(const char *dictionary, const void *values, size_t value_bytes, unsigned char *to) {
    const size_t text = strlen(dictionary), header = (10 + text + 1 + 63) / 64 * 64;
    memcpy(to, "\x93NUMPY\1\0", 8);
    psg_zip_put(to + 8, 2, header - 10);
    memset(to + 10, ' ', header - 10);
    memcpy(to + 10, dictionary, text);
    to[header - 1] = '\n';
    if (value_bytes) memcpy(to + header, values, value_bytes);
    return header + value_bytes;
}

/* ---- archives ---- */

void array_begin(array_archive *a) { memset(a, 0, sizeof *a); }

static void put(array_archive *a, int width, uint64_t value) {
    psg_zip_put(a->bytes + a->count, width, value);
    a->count += (size_t)width;
}

static void put_bytes(array_archive *a, const void *bytes, size_t count) {
    assert_true(a->count + count < ARRAY_ARCHIVE);
    if (count) memcpy(a->bytes + a->count, bytes, count);
    a->count += count;
}

static void put_shared(array_archive *a, size_t k) {
    put(a, 2, 20);
    put(a, 2, 0);
    put(a, 2, (uint64_t)a->added[k].method);
    put(a, 4, 0);
    put(a, 4, a->added[k].crc);
    put(a, 4, a->held[k]);
    put(a, 4, a->added[k].size);
    put(a, 2, strlen(a->added[k].name));
    put(a, 2, 0);
}

void array_add_held(array_archive *a, const char *name, const void *held, size_t held_count, size_t size, uint32_t crc,
                    int method) {
    const size_t k = a->members++;
    a->local[k] = a->count;
    a->held[k] = held_count;
    a->added[k].name = name;
    a->added[k].size = size;
    a->added[k].crc = crc;
    a->added[k].method = method;
    put(a, 4, PSG_ZIP_LOCAL);
    put_shared(a, k);
    put_bytes(a, name, strlen(name));
    a->data[k] = a->count;
    put_bytes(a, held, held_count);
}

void array_add(array_archive *a, const char *name, const void *bytes, size_t count, int method) {
    const uint32_t crc = (uint32_t)crc32(0, bytes, (unsigned)count);
    if (!method) {
        array_add_held(a, name, bytes, count, count, crc, method);
        return;
    }
    z_stream s = { .next_in = (void *)(uintptr_t)bytes, .avail_in = (unsigned)count };
    assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    const size_t most = deflateBound(&s, count);
    unsigned char *held = malloc(most);
    s.next_out = held;
    s.avail_out = (unsigned)most;
    assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
    array_add_held(a, name, held, s.total_out, count, crc, method);
    deflateEnd(&s);
    free(held);
}

void array_end(array_archive *a) {
    a->directory = a->count;
    for (size_t k = 0; k < a->members; k++) {
        a->central[k] = a->count;
        put(a, 4, PSG_ZIP_CENTRAL);
        put(a, 2, 20);
        put_shared(a, k);
        put(a, 8, 0);
        put(a, 2, 0);
        put(a, 4, a->local[k]);
        put_bytes(a, a->added[k].name, strlen(a->added[k].name));
    }
    a->end = a->count;
    put(a, 4, PSG_ZIP_END);
    put(a, 4, 0);
    put(a, 2, a->members);
    put(a, 2, a->members);
    put(a, 4, a->end - a->directory);
    put(a, 4, a->directory);
    put(a, 2, 0);
}

void array_set(array_archive *a, size_t place, int width, uint64_t value) {
    psg_zip_put(a->bytes + place, width, value);
}

void array_insert(array_archive *a, size_t place, const void *bytes, size_t count) {
    assert_true(a->count + count < ARRAY_ARCHIVE);
    memmove(a->bytes + place + count, a->bytes + place, a->count - place);
    memcpy(a->bytes + place, bytes, count);
    a->count += count;
}
