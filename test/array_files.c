#include "array_files.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/zip.h"
#include "io_fixture.h"

size_t array_npy(const char *dictionary, const void *values, size_t value_bytes, unsigned char *to) {
    const size_t text = strlen(dictionary), header = (10 + text + 1 + 63) / 64 * 64;
    memcpy(to, "\x93NUMPY\1\0", 8);
    psg_zip_put(to + 8, 2, header - 10);
    memset(to + 10, ' ', header - 10);
    memcpy(to + 10, dictionary, text);
    to[header - 1] = '\n';
    if (value_bytes) memmove(to + header, values, value_bytes);
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
    if (count) memcpy(a->bytes + place, bytes, count);
    a->count += count;
}

/* ---- two members ---- */

static const float values[] = { 1, 2, 3, 4 };

void array_two(array_archive *a) {
    unsigned char npy[256];
    const size_t count = array_npy(ARRAY_F4("(4,)"), values, sizeof values, npy);
    array_begin(a);
    array_add(a, "a.npy", npy, count, PSG_ZIP_STORED);
    array_add(a, "b.npy", npy, count, PSG_ZIP_DEFLATED);
    array_end(a);
}

bool array_is_read(psg_context *context, const char *path, psg_file_access access) {
    psg_tensors *set = (psg_tensors *)(uintptr_t)1;
    const size_t live = psg_context_live_bytes(context);
    psg_status status = psg_npz_read(context, path, access, 0, &set);
    if (status) {
        assert_int_equal(status, PSG_ERR_FORMAT);
        assert_null(set);
        assert_non_null(strstr(psg_context_message(context), path));
    }
    for (size_t k = 0; k < psg_tensors_count(set); k++) {
        const psg_tensor *t = &psg_tensors_list(set)[k].tensor;
        assert_ptr_equal(psg_tensors_find(set, psg_tensors_list(set)[k].name), t);
        assert_int_equal(psg_tensor_count(t), 4);
        assert_memory_equal(t->data, values, sizeof values);
    }
    psg_tensors_destroy(set);
    assert_int_equal(psg_context_live_bytes(context), live);
    return status == PSG_OK;
}

void array_refused(psg_context *context, const array_archive *a, const char *words) {
    const char *path = io_path("bomb.npz");
    io_write(path, a->bytes, a->count);
    for (int k = 0; k < 2; k++) {
        const bool is_read = array_is_read(context, path, k ? PSG_FILE_MAP : PSG_FILE_COPY);
        if (is_read || !strstr(psg_context_message(context), words)) {
            fail_msg("expected \"%s\": %s", words, psg_context_message(context));
        }
    }
}
