/* Files that no writer wrote: each is refused in words, none makes the reader crash or take memory it does not need. */
#include "io_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/safetensors_header.h"

static void refused(psg_context *context, const char *path, psg_status expected, const char *words) {
    for (int access = PSG_FILE_COPY; access <= PSG_FILE_MAP; access++) {
        psg_tensors *set = (psg_tensors *)(uintptr_t)1;
        psg_status status = psg_safetensors_read(context, path, (psg_file_access)access, &set);
        const char *message = psg_context_message(context);
        assert_null(set);
        if (status != expected || !strstr(message, words) || !strstr(message, path)) {
            fail_msg("expected \"%s\": %s: %s", words, psg_status_name(status), message);
        }
    }
}

/* ---- headers that are wrong ---- */

typedef struct bomb {
    const char *header;
    int data_bytes;
    const char *words;
} bomb;

#define TENSOR(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"
#define MANY(x) x x x x x x x x x x x x x x x x x x x x

static const bomb bombs[] = {
    /* JSON */
    { "", 0, "header: does not begin with '{'" },
    { " {}", 0, "header: does not begin with '{'" },
    { "[]", 0, "header: does not begin with '{'" },
    { "{", 0, "header: byte 1: " },
    { "{}x", 0, "end of file expected" },
    { "{} {}", 0, "end of file expected" },
    { "{" TENSOR("a", "F32", "1", "0,4") ",}", 4, "header: byte " },
    { "{'a':1}", 0, "header: byte " },
    { "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "NUL byte in object key" },
    { "{\"__metadata__\":{\"k\":\"a\\u0000\"}}", 0, "\\u0000 is not allowed" },
    { "{\"\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unable to decode byte 0xff" },
    { "{\"\\ud800\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "invalid Unicode" },
    { "{" TENSOR("a", "F32", "1", "0,4") "," TENSOR("a", "F32", "1", "4,8") "}", 8, "duplicate object key" },
    { "{" TENSOR("a", "F32", "1", "0,4") "," TENSOR("\\u0061", "F32", "1", "4,8") "}", 8, "duplicate object key" },
    { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "duplicate object key" },
    { "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate object key" },
    { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate object key" },
    { MANY("{\"a\":"), 0, "20 brackets and 0 commas in 100 bytes, more than tensors have" },
    { "{\"a\":" MANY("[") MANY("]") "}", 0, " brackets and 0 commas in " },
    { "{\"a\":[" MANY(MANY("0,")) "0]}", 0, "2 brackets and 400 commas in 809 bytes, more than tensors have" },
    /* metadata */
    { "{\"__metadata__\":null}", 0, "__metadata__ is no object" },
    { "{\"__metadata__\":\"text\"}", 0, "__metadata__ is no object" },
    { "{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ \"k\": is no string" },
    { "{\"__metadata__\":{\"k\":{}}}", 0, "__metadata__ \"k\": is no string" },
    /* what an entry has */
    { "{\"a\":1}", 0, "tensor \"a\": is no object" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor \"a\": has no dtype" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor \"a\": has no shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor \"a\": has no data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":0}}", 4, "has more than dtype, shape and" },
    /* types */
    { "{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor \"a\": dtype is no string" },
    { "{" TENSOR("a", "F8_E4M3", "4", "0,4") "}", 4, "tensor \"a\": dtype F8_E4M3 is not supported: only F64, F32" },
    { "{" TENSOR("a", "U8", "2,2", "0,3") "}", 3, "are 3 bytes, U8 of shape (2, 2) has 4" },
    { "{" TENSOR("a", "F4", "8", "0,4") "}", 4, "dtype F4 is not supported" },
    { "{" TENSOR("a", "C64", "1", "0,8") "}", 8, "dtype C64 is not supported" },
    { "{" TENSOR("a", "U64", "1", "0,8") "}", 8, "dtype U64 is not supported" },
    { "{" TENSOR("a", "f32", "1", "0,4") "}", 4, "dtype \"f32\" is none of the format's" },
    { "{" TENSOR("a", "F32 ", "1", "0,4") "}", 4, "dtype \"F32 \" is none of the format's" },
    { "{" TENSOR("a", "", "1", "0,4") "}", 4, "dtype \"\" is none of the format's" },
    /* shapes */
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "tensor \"a\": shape is no array" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", 4, "tensor \"a\": shape is no array" },
    { "{" TENSOR("a", "F32", "1.0", "0,4") "}", 4, "shape[0] is no integer" },
    { "{" TENSOR("a", "F32", "1,1e0", "0,4") "}", 4, "shape[1] is no integer" },
    { "{" TENSOR("a", "F32", "\"1\"", "0,4") "}", 4, "shape[0] is no integer" },
    { "{" TENSOR("a", "F32", "true", "0,4") "}", 4, "shape[0] is no integer" },
    { "{" TENSOR("a", "F32", "01", "0,4") "}", 4, "header: byte " },
    { "{" TENSOR("a", "F32", "0x1", "0,4") "}", 4, "header: byte " },
    { "{" TENSOR("a", "F32", "NaN", "0,4") "}", 4, "header: byte " },
    { "{" TENSOR("a", "F32", "-1", "0,4") "}", 4, "shape[0] is -1: negative" },
    { "{" TENSOR("a", "F32", "-1,-1", "0,4") "}", 4, "shape[0] is -1: negative" },
    { "{" TENSOR("a", "F32", "9223372036854775808", "0,4") "}", 4, "too big integer" },
    { "{" TENSOR("a", "F32", "18446744073709551617", "0,4") "}", 4, "too big integer" },
    { "{" TENSOR("a", "F32", "1,1,1,1,1,1,1,1,1", "0,4") "}", 4, "shape has 9 numbers, at most 8 may be" },
    /* products that overflow, wrap to the right size, or to exactly 0 */
    { "{" TENSOR("a", "F32", "9223372036854775807", "0,4") "}", 4, "shape (9223372036854775807) is too large" },
    { "{" TENSOR("a", "F32", "4611686018427387904", "0,0") "}", 0, "is too large" },
    { "{" TENSOR("a", "F32", "4294967296,4294967296", "0,0") "}", 0, "shape (4294967296, 4294967296) is too large" },
    { "{" TENSOR("a", "F64", "4611686018427387905,4", "0,32") "}", 32, "is too large" },
    { "{" TENSOR("a", "F64", "2305843009213693952", "0,0") "}", 0, "is too large" },
    { "{" TENSOR("a", "F16", "4611686018427387904", "0,0") "}", 0, "is too large" },
    { "{" TENSOR("a", "F32", "0,9223372036854775807", "0,0") "}", 0, "is too large" },
    { "{" TENSOR("a", "F32", "4294967296,4294967296,0", "0,0") "}", 0, "is too large" },
    /* offsets */
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":null}}", 4, "data_offsets is no array" },
    { "{" TENSOR("a", "F32", "1", "0") "}", 4, "data_offsets are not two numbers" },
    { "{" TENSOR("a", "F32", "1", "0,4,4") "}", 4, "data_offsets has 3 numbers, at most 2 may be" },
    { "{" TENSOR("a", "F32", "1", "-4,0") "}", 4, "data_offsets[0] is -4: negative" },
    { "{" TENSOR("a", "F32", "1", "0,4.0") "}", 4, "data_offsets[1] is no integer" },
    { "{" TENSOR("a", "F32", "1", "4,0") "}", 4, "data_offsets [4, 0]: the end is before the begin" },
    { "{" TENSOR("a", "F32", "1", "0,8") "}", 8, "data_offsets [0, 8] are 8 bytes, F32 of shape (1) has 4" },
    { "{" TENSOR("a", "F32", "2", "0,4") "}", 4, "data_offsets [0, 4] are 4 bytes, F32 of shape (2) has 8" },
    { "{" TENSOR("a", "BF16", "2", "0,8") "}", 8, "are 8 bytes, BF16 of shape (2) has 4" },
    { "{" TENSOR("a", "F32", "", "0,0") "}", 0, "are 0 bytes, F32 of shape () has 4" },
    { "{" TENSOR("a", "F32", "0", "0,4") "}", 4, "are 4 bytes, F32 of shape (0) has 0" },
    { "{" TENSOR("a", "F32", "1", "4,8") "}", 8, "begins at byte 4 of the data, which leaves a hole from byte 0" },
    { "{" TENSOR("a", "F32", "1", "0,4") "," TENSOR("b", "F32", "1", "8,12") "}", 12, "\"b\": begins at byte 8" },
    { "{" TENSOR("a", "F32", "1", "0,4") "," TENSOR("b", "F32", "1", "0,4") "}", 4,
      "begins at byte 0 of the data, over what goes to byte 4" },
    { "{" TENSOR("a", "F32", "2", "0,8") "," TENSOR("b", "F32", "1", "4,8") "}", 8, "tensor \"b\": begins at byte 4" },
    { "{" TENSOR("a", "F32", "2", "0,8") "," TENSOR("b", "F32", "0", "4,4") "}", 8, "tensor \"b\": begins at byte 4" },
    { "{" TENSOR("a", "F32", "0", "4,4") "}", 0, "tensor \"a\": begins at byte 4" },
    { "{" TENSOR("a", "F32", "1", "0,4") "}", 3, "3 bytes of data, the tensors have 4: the file was cut" },
    { "{" TENSOR("a", "F32", "1000000000000", "0,4000000000000") "}", 0, "the file was cut" },
    { "{" TENSOR("a", "F64", "1152921504606846975", "0,9223372036854775800") "}", 9, "the file was cut" },
    { "{" TENSOR("a", "F32", "1", "0,4") "}", 8, "4 bytes after the last tensor" },
    { "{}", 1, "1 bytes after the last tensor" },
    { "{\"__metadata__\":{}}", 4, "4 bytes after the last tensor" },
};

static size_t put_file(const char *path, uint64_t said, const char *header, size_t length, size_t data_bytes) {
    size_t count = 8 + length + data_bytes;
    unsigned char *bytes = calloc(count, 1);
    for (int k = 0; k < 8; k++) bytes[k] = (unsigned char)(said >> 8 * k);
    memcpy(bytes + 8, header, length);
    io_write(path, bytes, count);
    free(bytes);
    return count;
}

static void wrong_headers_are_refused_in_words(void **state) {
    (void)state;
    size_t largest;
    psg_context *context = io_context_that_measures(&largest);
    size_t live = psg_context_live_bytes(context), open = io_descriptors();
    const char *path = io_path("bomb");
    for (size_t k = 0; k < sizeof bombs / sizeof bombs[0]; k++) {
        const bomb *b = &bombs[k];
        put_file(path, strlen(b->header), b->header, strlen(b->header), (size_t)b->data_bytes);
        refused(context, path, PSG_ERR_FORMAT, b->words);
        assert_int_equal(psg_context_live_bytes(context), live);
    }
    assert_true(largest < 100000);   /* one chunk of an arena, whatever numbers stand in the file */
    assert_int_equal(io_descriptors(), open);
    psg_context_destroy(context);
}

static void wrong_lengths_are_refused(void **state) {
    (void)state;
    size_t largest;
    psg_context *context = io_context_that_measures(&largest);
    const char *path = io_path("length"), *pipe = io_path("pipe");
    io_write(path, "", 0);
    refused(context, path, PSG_ERR_FORMAT, "0 bytes, where the header's length takes 8");
    io_write(path, "\0\0\0\0\0\0", 7);
    refused(context, path, PSG_ERR_FORMAT, "7 bytes, where");
    put_file(path, 3, "{}", 2, 0);
    refused(context, path, PSG_ERR_FORMAT, "header of 3 bytes in a file that has 2 more");
    put_file(path, (uint64_t)1 << 24, "{}", 2, 0);
    refused(context, path, PSG_ERR_FORMAT, "header of 16777216 bytes in a file that has 2 more");
    static const uint64_t lengths[] = { ((uint64_t)1 << 24) + 1, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63 };
    for (size_t k = 0; k < 4; k++) {
        put_file(path, lengths[k], "{}", 2, 0);
        refused(context, path, PSG_ERR_FORMAT, "bytes, at most 16777216 may be");
    }
    put_file(path, 0, "", 0, 0);
    refused(context, path, PSG_ERR_FORMAT, "does not begin with '{'");
    put_file(path, 4, "{}\0\0", 4, 0);
    refused(context, path, PSG_ERR_FORMAT, "header: byte 3");
    assert_int_equal(mkfifo(pipe, 0666), 0);
    refused(context, pipe, PSG_ERR_FILE, "is no regular file");
    refused(context, io_path("."), PSG_ERR_FILE, "is no regular file");
    refused(context, io_path("absent"), PSG_ERR_FILE, "open: No such file or directory");
    assert_true(largest < 100000);
    psg_context_destroy(context);
}

/* Correct, if unusual. */
static void unusual_headers_are_read(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const bomb unusual[] = {
        { "{}", 0, "" },
        { "{}      ", 0, "" },
        { "{ \"a\" : { \"data_offsets\" : [ 0 , 4 ] , \"shape\" : [ ] , \"dtype\" : \"F32\" } }\n ", 4, "a" },
        { "{" TENSOR("a", "F32", "1,1,1,1,1,1,1,1", "0,4") "}", 4, "a" },
        { "{" TENSOR("b", "F32", "1", "4,8") "," TENSOR("a", "F32", "1", "0,4") "}", 8, "ab" },
        { "{" TENSOR("b", "F32", "0", "4,4") "," TENSOR("a", "F32", "1", "0,4") "," TENSOR("c", "F64", "0", "0,0") "}", 4,
          "abc" },
        { "{\"__metadata__\":{\"a\":\"\\\"" MANY("[") "\",\"\\\\\":\"" MANY("{") "\"}}", 0, "" },
        { "{" TENSOR("a", "F32", "0,1000000000", "0,0") "}", 0, "a" },
        { "{\"__metadata__\":{}," TENSOR("\\u0061", "I32", "1", "0,4") "}", 4, "a" },
        { "{" TENSOR("", "F16", "", "0,2") "}", 2, NULL },
    };
    for (size_t k = 0; k < sizeof unusual / sizeof unusual[0]; k++) {
        const bomb *u = &unusual[k];
        put_file(io_path("unusual"), strlen(u->header), u->header, strlen(u->header), (size_t)u->data_bytes);
        psg_tensors *set = NULL;
        TEST_OK(context, psg_safetensors_read(context, io_path("unusual"), (psg_file_access)(k % 2), &set));
        assert_int_equal(psg_tensors_count(set), u->words ? strlen(u->words) : 1);
        for (size_t i = 0; i < psg_tensors_count(set); i++) {
            assert_string_equal(psg_tensors_list(set)[i].name, ((char[]){ u->words ? u->words[i] : 0, 0 }));
        }
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

/* ---- what became of files that were right ---- */

static const char *const seeds[] = { "types", "shapes", "texts", "names", "halves", "empty" };

static unsigned char *seed(size_t k, size_t *count) { return io_read(io_golden(seeds[k]), count); }

/* Touches every value, name and text of a set from a file of so many bytes. */
static void check_set(const psg_tensors *set, size_t file_bytes) {
    const psg_named *list = psg_tensors_list(set);
    size_t values = 0;
    for (size_t k = 0; k < psg_tensors_count(set); k++) {
        const psg_tensor *t = &list[k].tensor;
        int64_t count = psg_tensor_count(t);
        double sum = 0;
        assert_in_range(t->rank, 0, PSG_MAX_RANK);
        assert_in_range(count, 0, file_bytes);
        assert_true(psg_tensor_is_contiguous(t));
        for (int64_t i = 0; i < count; i++) sum += test_get_at(t, i);
        (void)sum;
        values += (size_t)count * 2;   /* an element takes at least 2 bytes */
        assert_true(k == 0 || strcmp(list[k - 1].name, list[k].name) < 0);
        assert_ptr_equal(psg_tensors_find(set, list[k].name), t);
    }
    assert_true(values <= file_bytes);
}

/* false: refused. */
static bool read_or_refuse(psg_context *context, const char *path, psg_file_access access, size_t file_bytes) {
    psg_tensors *set = NULL;
    size_t live = psg_context_live_bytes(context);
    psg_status status = psg_safetensors_read(context, path, access, &set);
    if (status) {
        assert_int_equal(status, PSG_ERR_FORMAT);
        assert_null(set);
        assert_non_null(strstr(psg_context_message(context), path));
    } else {
        check_set(set, file_bytes);
    }
    psg_tensors_destroy(set);
    assert_int_equal(psg_context_live_bytes(context), live);
    return status == PSG_OK;
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("truncated");
    for (size_t k = 0; k < sizeof seeds / sizeof seeds[0]; k++) {
        size_t count;
        unsigned char *bytes = seed(k, &count);
        for (size_t length = 0; length <= count + 1; length++) {
            io_write(path, bytes, length);
            for (int access = 0; access < 2; access++) {
                assert_int_equal(read_or_refuse(context, path, (psg_file_access)access, length), length == count);
            }
        }
        free(bytes);
    }
    test_context_free(context);
}

static void any_bit_may_flip(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("flipped");
    for (size_t k = 0; k < sizeof seeds / sizeof seeds[0]; k++) {
        size_t count, refusals = 0;
        unsigned char *bytes = seed(k, &count);
        io_write(path, bytes, count);
        int descriptor = open(path, O_WRONLY);
        for (size_t bit = 0; bit < 8 * count; bit++) {
            unsigned char flipped = bytes[bit / 8] ^ (unsigned char)(1 << bit % 8);
            assert_int_equal(pwrite(descriptor, &flipped, 1, (off_t)(bit / 8)), 1);
            for (int access = 0; access < 2; access++) {
                refusals += !read_or_refuse(context, path, (psg_file_access)access, count);
            }
            assert_int_equal(pwrite(descriptor, &bytes[bit / 8], 1, (off_t)(bit / 8)), 1);
        }
        close(descriptor);
        free(bytes);
        assert_true(refusals >= 2 * 8 * 8);   /* of the header's length at least */
    }
    test_context_free(context);
}

/* Headers with characters of JSON put in, taken out and exchanged; the text has memory of its own length alone. */
static void mutate(test_random *random, char *text, size_t *length) {
    static const char marks[] = "{}[],:\"\\0123456789-.eunull \x80";
    int64_t at = test_range(random, 0, (int64_t)*length - 1), from = test_range(random, 0, (int64_t)*length - 1);
    char mark = marks[test_range(random, 0, sizeof marks - 2)];
    switch (test_range(random, 0, 3)) {
    case 0: text[at] = mark; break;
    case 1: text[at] = text[from]; break;
    case 2: memmove(text + at, text + at + 1, --*length - (size_t)at); break;
    default:
        memmove(text + at + 1, text + at, (*length)++ - (size_t)at);
        text[at] = mark;
    }
}

static void any_header_is_read_or_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_source source = { context, "test", "fuzz" };
    test_random random = { 11 };
    size_t read = 0;
    for (int round = 0; round < 30000; round++) {
        size_t count;
        unsigned char *bytes = seed((size_t)round % 5, &count);
        size_t length = (size_t)bytes[0] + 256u * bytes[1];
        int64_t data_bytes = (int64_t)(count - 8 - length);
        char *text = malloc(length + 4);
        memcpy(text, bytes + 8, length);
        for (int k = (int)test_range(&random, 1, 3); k > 0; k--) mutate(&random, text, &length);
        char *exact = malloc(length);
        memcpy(exact, text, length);
        psg_arena arena;
        psg_arena_init(&arena, context);
        psg_safetensors_header header;
        psg_status status = psg_safetensors_header_read(&source, exact, length, data_bytes, &arena, &header);
        if (status) assert_int_equal(status, PSG_ERR_FORMAT);
        for (size_t k = 0; k < header.count && !status; k++) assert_in_range(header.tensors[k].end, 0, data_bytes);
        read += status == PSG_OK;
        psg_arena_release(&arena);
        free(exact);
        free(text);
        free(bytes);
    }
    assert_in_range(read, 1000, 29000);   /* both happen */
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_headers_are_refused_in_words),
        cmocka_unit_test(wrong_lengths_are_refused),
        cmocka_unit_test(unusual_headers_are_read),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(any_bit_may_flip),
        cmocka_unit_test(any_header_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
