/* IDX files: what their headers announce and nothing else, whole; what they are not is named. */
#include "io_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "faults.h"

/* ---- memory: the largest block asked for ---- */

static size_t largest_block;

static void *allocate(void *user, size_t bytes) {
    (void)user;
    largest_block = bytes > largest_block ? bytes : largest_block;
    return malloc(bytes);
}

static void release(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)bytes;
    free(memory);
}

static psg_context *context;

static int setup(void **state) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.allocator = (psg_allocator){ allocate, release, NULL };
    return psg_context_create(&options, &context) || io_setup(state);
}

static int teardown(void **state) {
    psg_context_destroy(context);
    return io_teardown(state);
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

static bool reads(const char *path, const unsigned char *expected) {
    psg_tensors *set = (psg_tensors *)(uintptr_t)1;
    const size_t live = psg_context_live_bytes(context);
    psg_status status = psg_idx_read(context, path, 0, &set);
    assert_true(!set == (status != PSG_OK));
    if (status) {
        assert_true(status == PSG_ERR_FORMAT || status == PSG_ERR_FILE);
    } else {
        const psg_tensor *images = &psg_tensors_list(set)->tensor;
        assert_int_equal(psg_tensors_count(set), 1);
        assert_string_equal(psg_tensors_list(set)->name, "");
        assert_true(images->dtype == PSG_I32 && images->rank == 3 && psg_tensor_is_contiguous(images));
        assert_true(images->shape[0] == COUNT && images->shape[1] == ROWS && images->shape[2] == COLUMNS);
        for (int k = 0; k < PIXELS; k++) assert_int_equal(((int32_t *)images->data)[k], expected[HEADER + k]);
    }
    psg_tensors_destroy(set);
    assert_int_equal(psg_context_live_bytes(context), live);
    return !status;
}

static void check_refused(const char *path, const char *words) {
    assert_false(reads(path, NULL));
    const char *message = psg_context_message(context);
    if (!strstr(message, words) || !strstr(message, path)) fail_msg("\"%s\" lacks: %s", message, words);
}

static bool reads_bytes(const void *bytes, size_t count, const unsigned char *expected) {
    const char *path = io_path("images");
    io_write(path, bytes, count);
    return reads(path, expected);
}

static void check_bytes_refused(const void *bytes, size_t count, const char *words) {
    assert_false(reads_bytes(bytes, count, NULL));
    const char *message = psg_context_message(context);
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
    both[length + rest / 2] ^= 0x55;
    check_bytes_refused(both, length + rest, "damaged gzip data: ");
    both[length + rest / 2] ^= 0x55;
    const unsigned char first = both[length + 10];
    both[length + 10] |= 6;   /* a block of no type, in a member that has begun */
    check_bytes_refused(both, length + rest, "damaged gzip data: invalid block type");
    both[length + 10] = first;
    both[length + rest - 8] ^= 1;
    check_bytes_refused(both, length + rest, "damaged gzip data: incorrect data check");
    both[length + rest - 8] ^= 1;
    check_bytes_refused(both, length + rest - 1, "truncated: the gzip data has no end");
    check_bytes_refused(both, length, "truncated: it ends after 1000 bytes inflated, where ");
    check_bytes_refused(file, 0, "truncated: it ends after 0 bytes, where 4 more must follow");
    check_bytes_refused(file, 7, "truncated: it ends after 7 bytes, where 9 more must follow");
    free(second);
    free(gzip);
}

/* Each type at its ends, turned and widened. */
static void all_types_are_read(void **state) {
    (void)state;
    static const struct {
        unsigned char code, count;
        const char *bytes;
        size_t size;
        psg_dtype dtype;
        double values[3];
    } cases[] = {
        { 0x08, 3, "\x00\x7f\xff", 3, PSG_I32, { 0, 127, 255 } },
        { 0x09, 3, "\x80\xff\x7f", 3, PSG_I32, { -128, -1, 127 } },
        { 0x0b, 3, "\x80\x00\xff\xfe\x01\x02", 6, PSG_I32, { -32768, -2, 258 } },
        { 0x0c, 2, "\x80\x00\x00\x00\x01\x02\x03\x04", 8, PSG_I32, { -2147483648.0, 16909060 } },
        { 0x0d, 2, "\x3f\xc0\x00\x00\xc2\x00\x00\x00", 8, PSG_F32, { 1.5, -32 } },
        { 0x0e, 2, "\x3f\xf8\x00\x00\x00\x00\x00\x00\xc0\x40\x00\x00\x00\x00\x00\x01", 16, PSG_F64,
          { 1.5, -32.000000000000007105 } },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        unsigned char file[64] = { 0, 0, cases[k].code, 1, 0, 0, 0, cases[k].count };
        psg_tensors *set = NULL;
        memcpy(file + 8, cases[k].bytes, cases[k].size);
        io_write(io_path("types"), file, 8 + cases[k].size);
        TEST_OK(context, psg_idx_read(context, io_path("types"), 0, &set));
        const psg_tensor *tensor = psg_tensors_find(set, "");
        assert_int_equal(tensor->dtype, cases[k].dtype);
        assert_int_equal(tensor->shape[0], cases[k].count);
        for (int n = 0; n < cases[k].count; n++) assert_true(test_get_at(tensor, n) == cases[k].values[n]);
        psg_tensors_destroy(set);
    }
}

/* Longer than a buffer, so that what is widened in place would run over what is to come. */
static void many_numbers_are_widened(void **state) {
    (void)state;
    enum { MANY = 50000 };
    static unsigned char file[8 + 2 * MANY];
    psg_tensors *set = NULL;
    memcpy(file, "\0\0\x0b\1", 4);
    put_size(file + 4, MANY);
    for (int k = 0; k < MANY; k++) {
        file[8 + 2 * k] = (unsigned char)(k >> 8);
        file[9 + 2 * k] = (unsigned char)k;
    }
    io_write(io_path("many"), file, sizeof file);
    TEST_OK(context, psg_idx_read(context, io_path("many"), 4 * MANY, &set));
    const int32_t *values = psg_tensors_find(set, "")->data;
    for (int k = 0; k < MANY; k++) assert_int_equal(values[k], (int16_t)k);
    psg_tensors_destroy(set);
    assert_int_equal(psg_idx_read(context, io_path("many"), 4 * MANY - 1, &set), PSG_ERR_FORMAT);
    assert_non_null(strstr(psg_context_message(context), "shape (50000) takes 200000 bytes, at most 199999 may be"));
}

static void wrong_headers_are_refused_in_words(void **state) {
    (void)state;
    static const struct { const char *bytes; size_t count; const char *words; } cases[] = {
        { "\1\0\x08\1\0\0\0\0", 8, "no IDX: bytes 01 00 first, must be 00 00" },
        { "\0\0\x0a\1\0\0\0\0", 8, "type 0x0a, must be 0x08, 0x09 or 0x0b to 0x0e" },
        { "\0\0\x0f\1\0\0\0\0", 8, "type 0x0f" },
        { "\0\0\x08\0", 4, "rank 0, must be between 1 and 8" },
        { "\0\0\x08\x09", 4, "rank 9, must be between 1 and 8" },
        { "\0\0\x08\3\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 16, "(4294967295, 4294967295, 0) is too large" },
        { "\0\0\x08\1\0\0\0\14abc", 11, "truncated: shape (12), of which 11 bytes" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        check_bytes_refused(cases[k].bytes, cases[k].count, cases[k].words);
    }
    psg_tensors *set = (psg_tensors *)(uintptr_t)1;
    io_write(io_path("empty"), "\0\0\x0e\2\0\0\0\0\0\0\0\5", 12);
    TEST_OK(context, psg_idx_read(context, io_path("empty"), 1, &set));   /* no elements are elements */
    assert_true(psg_tensors_find(set, "")->shape[1] == 5 && psg_tensor_count(psg_tensors_find(set, "")) == 0);
    psg_tensors_destroy(set);
}

static void arguments_are_checked(void **state) {
    (void)state;
    psg_tensors *set = (psg_tensors *)(uintptr_t)1;
    assert_int_equal(psg_idx_read(NULL, "a", 0, &set), PSG_ERR_ARGUMENT);
    assert_null(set);
    assert_int_equal(psg_idx_read(context, NULL, 0, &set), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_idx_read(context, "a", 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_idx_read(context, "a", -1, &set), PSG_ERR_ARGUMENT);
    assert_string_equal(psg_context_message(context), "psg_idx_read: max_bytes is -1: negative");
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
        check_bytes_refused(gzip, length + more, more == 1 ? "truncated" : "more follows the end of its gzip data");
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
    assert_in_range(largest_block, 65536, 66000);   /* the arena of the set: 4 PIXELS are less */
    put_size(file + 4, 1u << 26);
    largest_block = 0;
    check_bytes_refused(file, FILE_BYTES, "truncated");
    unsigned char *gzip = packed(file, FILE_BYTES, &length);
    check_bytes_refused(gzip, length, "truncated");
    assert_in_range(largest_block, 0, 66000);
    put_size(file + 4, 0);
    check_bytes_refused(file, FILE_BYTES, "longer than its header says");
    free(gzip);
}

static void what_is_no_file_is_named(void **state) {
    (void)state;
    const char *folder = io_path("folder"), *fifo = io_path("fifo");
    size_t before = io_descriptors();
    assert_int_equal(mkdir(folder, 0700) | mkfifo(fifo, 0600), 0);
    alarm(20);
    check_refused(folder, "is no regular file but a directory");
    check_refused(fifo, "is no regular file but a FIFO");
    check_refused("/dev/null", "is no regular file but a device");
    check_refused(io_path("none"), "No such file");
    alarm(0);
    rmdir(folder);
    remove(fifo);
    assert_int_equal(io_descriptors(), before);
}

/* ---- failures ---- */

static void memory_and_calls_may_fail(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES];
    size_t length;
    test_allocator allocator = { 0 };
    psg_context *failing = test_context_with(&allocator, 1, NULL, 0);
    images_of(file);
    unsigned char *gzip = packed(file, FILE_BYTES, &length);
    io_write(io_path("gzip"), gzip, length);
    free(gzip);
    const size_t live = allocator.live_bytes, open = io_descriptors();
    psg_status status = PSG_ERR_MEMORY;
    uint64_t n = 1;
    for (; status; n++) {
        psg_tensors *set = NULL;
        test_allocator_arm(&allocator, n, false);
        status = psg_idx_read(failing, io_path("gzip"), 0, &set);
        assert_int_equal(status, allocator.failed ? PSG_ERR_MEMORY : PSG_OK);
        psg_tensors_destroy(set);
        assert_int_equal(allocator.live_bytes, live);
    }
    assert_in_range(n, 6, 12);
    test_allocator_arm(&allocator, 0, false);
    static const fault_call calls[] = { FAULT_OPEN, FAULT_FSTAT, FAULT_PREAD };
    for (size_t k = 0; k < 3; k++) {
        psg_tensors *set = NULL;
        fault_arm(&(fault_plan){ .call = calls[k], .at = 1, .error = EIO });
        assert_int_equal(psg_idx_read(failing, io_path("gzip"), 0, &set), PSG_ERR_FILE);
        assert_int_equal(fault_disarm(), 1);
        assert_int_equal(allocator.live_bytes, live);
    }
    uint64_t taken[2];
    io_write(io_path("plain"), file, sizeof file);
    for (int k = 0; k < 2; k++) {
        psg_tensors *set = NULL;
        taken[k] = psg_context_allocations(failing);
        TEST_OK(failing, psg_idx_read(failing, io_path(k ? "gzip" : "plain"), 0, &set));
        taken[k] = psg_context_allocations(failing) - taken[k];
        psg_tensors_destroy(set);
    }
    assert_true(taken[1] > taken[0]);   /* zlib's are the context's */
    static unsigned char large[8 + 100000] = { 0, 0, 8, 1, 0, 1, 0x86, 0xa0 };   /* more than is taken at a time */
    io_write(io_path("large"), large, sizeof large);
    for (int at = 2; at <= 4; at++) {
        psg_tensors *set = NULL;
        fault_arm(&(fault_plan){ .call = FAULT_PREAD, .at = at, .error = EIO });
        assert_int_equal(psg_idx_read(failing, io_path("large"), 0, &set), PSG_ERR_FILE);
        assert_int_equal(fault_disarm(), 1);
    }
    assert_int_equal(io_descriptors(), open);
    test_context_free(failing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_files_are_read),
        cmocka_unit_test(all_types_are_read),
        cmocka_unit_test(many_numbers_are_widened),
        cmocka_unit_test(wrong_headers_are_refused_in_words),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(parts_of_files_are_refused),
        cmocka_unit_test(bytes_afterwards_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(memory_is_that_of_the_file),
        cmocka_unit_test(what_is_no_file_is_named),
        cmocka_unit_test(memory_and_calls_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
