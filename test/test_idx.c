/* IDX files of the training program: what their headers announce and nothing else, whole; what they are not is named. */
#include "io_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../bench/idx.h"

/* ---- what the reader takes ---- */

static size_t largest_block;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes) {
    largest_block = bytes > largest_block ? bytes : largest_block;
    return __real_malloc(bytes);
}

/* ---- files ---- */

enum { COUNT = 300, ROWS = 3, COLUMNS = 4, PIXELS = COUNT * ROWS * COLUMNS, HEADER = 16, FILE_BYTES = HEADER + PIXELS };

static void put_size(unsigned char *at, uint32_t size) {
    for (int k = 0; k < 4; k++) at[k] = (unsigned char)(size >> (24 - 8 * k));
}

static void images_of(unsigned char file[FILE_BYTES]) {
    test_random random = { 5 };
    put_size(file, 0x803);
    put_size(file + 4, COUNT);
    put_size(file + 8, ROWS);
    put_size(file + 12, COLUMNS);
    for (int k = 0; k < PIXELS; k++) file[HEADER + k] = (unsigned char)test_range(&random, 0, 255 >> (k % 8));
}

/* Compressed by gzip, in malloc'd memory. */
static unsigned char *packed(const void *bytes, size_t count, size_t *length) {
    z_stream stream = { 0 };
    unsigned char *out = calloc(1, count + 1000);
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (void *)(uintptr_t)bytes;
    stream.avail_in = (unsigned)count;
    stream.next_out = out;
    stream.avail_out = (unsigned)count + 1000;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    *length = stream.total_out;
    deflateEnd(&stream);
    return out;
}

/* ---- reading ---- */

static char message[512];

static bool reads(const char *path, const unsigned char *expected) {
    idx_images images;
    message[0] = 0;
    if (idx_read_images(path, &images, message, sizeof message)) return false;
    assert_int_equal(images.count * 10000 + images.rows * 100 + images.columns, COUNT * 10000 + ROWS * 100 + COLUMNS);
    bool same = !memcmp(images.pixels, expected + HEADER, PIXELS);
    free(images.pixels);
    assert_true(same);
    return true;
}

static void check_refused(const char *path, const char *words) {
    assert_false(reads(path, NULL));
    if (!strstr(message, words) || strncmp(message, path, strlen(path))) fail_msg("\"%s\" lacks: %s", message, words);
}

static bool reads_bytes(const void *bytes, size_t count, const unsigned char *expected) {
    const char *path = io_path("images");
    io_write(path, bytes, count);
    return reads(path, expected);
}

static void check_bytes_refused(const void *bytes, size_t count, const char *words) {
    assert_false(reads_bytes(bytes, count, NULL));
    if (!strstr(message, words)) fail_msg("%zu bytes: \"%s\" lacks: %s", count, message, words);
}

static void whole_files_are_read(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES];
    size_t length, rest;
    images_of(file);
    unsigned char *gzip = packed(file, FILE_BYTES, &length);
    assert_true(reads_bytes(file, FILE_BYTES, file));
    assert_true(reads_bytes(gzip, length, file));
    free(gzip);
    gzip = packed(file, 1000, &length);   /* two members are one file */
    unsigned char *second = packed(file + 1000, FILE_BYTES - 1000, &rest), both[2 * FILE_BYTES];
    memcpy(both, gzip, length);
    memcpy(both + length, second, rest);
    assert_true(reads_bytes(both, length + rest, file));
    free(second);
    free(gzip);
}

static void labels_are_read(void **state) {
    (void)state;
    const unsigned char file[] = { 0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9 };
    const char *path = io_path("labels");
    idx_labels labels;
    io_write(path, file, sizeof file);
    assert_int_equal(idx_read_labels(path, &labels, message, sizeof message), 0);
    assert_true(labels.count == 3 && !memcmp(labels.labels, file + 8, 3));
    free(labels.labels);
    check_refused(path, "byte images");
}

/* Every place near both ends, some between. */
static size_t next(size_t at, size_t length) { return at < 32 || at + 32 > length ? at + 1 : at + 11; }

static void parts_of_files_are_refused(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES];
    size_t length;
    images_of(file);
    unsigned char *gzip = packed(file, FILE_BYTES, &length);
    for (size_t count = 0; count < length; count = next(count, length)) check_bytes_refused(gzip, count, "truncated");
    for (size_t count = 0; count < FILE_BYTES; count = next(count, FILE_BYTES)) {
        check_bytes_refused(file, count, "truncated");
    }
    free(gzip);
}

static void bytes_afterwards_are_refused(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES + 8] = { 0 };
    size_t length;
    images_of(file);
    unsigned char *gzip = packed(file, FILE_BYTES, &length);
    check_bytes_refused(file, FILE_BYTES + 1, "longer than its header says");
    for (size_t more = 1; more < 20; more++) {
        gzip[length + more - 1] = more % 2 ? 0 : 'x';
        check_bytes_refused(gzip, length + more, more == 1 ? "truncated" : "after the end of its gzip data");
    }
    free(gzip);
    gzip = packed(file, FILE_BYTES + 1, &length);
    check_bytes_refused(gzip, length, "longer than its header says");
    free(gzip);
}

/* Refused, or, where a bit of gzip's header or after the last code says nothing of the data, the same pixels. */
static void damaged_files_are_refused(void **state) {
    (void)state;
    enum { GZIP_HEADER = 10, GZIP_TRAILER = 8 };
    unsigned char file[FILE_BYTES];
    size_t length;
    images_of(file);
    unsigned char *gzip = packed(file, FILE_BYTES, &length);
    for (size_t at = 0; at < length; at = next(at, length)) {
        for (int bit = 0; bit < 8; bit++) {
            gzip[at] ^= (unsigned char)(1 << bit);
            assert_true(!reads_bytes(gzip, length, file) || at < GZIP_HEADER || at + GZIP_TRAILER + 1 == length);
            gzip[at] ^= (unsigned char)(1 << bit);
        }
    }
    free(gzip);
}

/* Sizes that the file cannot hold take no memory. */
static void memory_is_that_of_the_file(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES];
    size_t length;
    images_of(file);
    largest_block = 0;
    assert_true(reads_bytes(file, FILE_BYTES, file));
    assert_in_range(largest_block, PIXELS, PIXELS + 65536);
    put_size(file + 4, 1u << 26);
    largest_block = 0;
    check_bytes_refused(file, FILE_BYTES, "truncated");
    unsigned char *gzip = packed(file, FILE_BYTES, &length);
    check_bytes_refused(gzip, length, "truncated");
    assert_in_range(largest_block, 0, 65536);
    put_size(file + 4, 1u << 30);
    check_bytes_refused(file, FILE_BYTES, "exceed 1 GiB");
    put_size(file + 4, 0);
    check_bytes_refused(file, FILE_BYTES, "zero");
    free(gzip);
}

static void what_is_no_file_is_named(void **state) {
    (void)state;
    const char *folder = io_path("folder"), *fifo = io_path("fifo");
    size_t before = io_descriptors();
    assert_int_equal(mkdir(folder, 0700) | mkfifo(fifo, 0600), 0);
    alarm(20);
    check_refused(folder, "a directory");
    check_refused(fifo, "a FIFO");
    check_refused("/dev/null", "not a regular file");
    check_refused(io_path("none"), "No such file");
    alarm(0);
    rmdir(folder);
    remove(fifo);
    assert_int_equal(io_descriptors(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_files_are_read),
        cmocka_unit_test(labels_are_read),
        cmocka_unit_test(parts_of_files_are_refused),
        cmocka_unit_test(bytes_afterwards_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(memory_is_that_of_the_file),
        cmocka_unit_test(what_is_no_file_is_named),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
