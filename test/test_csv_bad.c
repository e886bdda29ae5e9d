/* CSV that is none: refused with file, line, column, value and rule; no file takes memory that it does not bear out. */
#include "io_fixture.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faults.h"

/* ---- memory: what is asked for ---- */

typedef struct asked {
    size_t largest, live, most;
} asked;

static void *allocate(void *user, size_t bytes) {
    asked *a = user;
    a->largest = bytes > a->largest ? bytes : a->largest;
    a->live += bytes;
    a->most = a->live > a->most ? a->live : a->most;
    return malloc(bytes);
}

static void release(void *user, void *memory, size_t bytes) {
    ((asked *)user)->live -= bytes;
    free(memory);
}

static psg_context *context_that_measures(asked *a) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.allocator = (psg_allocator){ allocate, release, a };
    psg_context *context = NULL;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    a->largest = 0;
    a->most = a->live;
    return context;
}

/* ---- what is refused ---- */

static void refused(psg_context *context, const char *path, const psg_csv_options *options, psg_status expected,
                    const char *words) {
    psg_table *table = (psg_table *)(uintptr_t)1;
    const size_t live = psg_context_live_bytes(context);
    psg_status status = psg_csv_read(context, path, options, &table);
    const char *message = psg_context_message(context);
    assert_null(table);
    assert_int_equal(psg_context_live_bytes(context), live);
    if (status != expected || !strstr(message, words)) {
        fail_msg("expected \"%s\": %s: %s", words, psg_status_name(status), message);
    }
    if (expected == PSG_ERR_FORMAT) assert_non_null(strstr(message, path));
}

static void refused_bytes(psg_context *context, const void *bytes, size_t count, const psg_csv_options *options,
                          const char *words) {
    io_write(io_path("bad"), bytes, count);
    refused(context, io_path("bad"), options, PSG_ERR_FORMAT, words);
}

static void refused_text(psg_context *context, const char *text, const psg_csv_options *options, const char *words) {
    refused_bytes(context, text, strlen(text), options, words);
}

static const psg_csv_column by_name[] = { { .name = "k" } };
static const psg_csv_options labelled = { .labels = by_name, .label_count = 1 };

static void wrong_lines_are_refused_in_words(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const struct {
        const char *text, *words;
    } cases[] = {
        { "", "is empty, where a line of names must be" },
        { "x,y,k\n1,2\n", "line 2, column 2 (\"y\"): \"2\": the record ends, where the first line has 3 fields" },
        { "x,y,k\n1,2,a\n1,2,a,9\n",
          "line 3, column 3 (\"k\"): \"a\": more fields follow, where the first line has 3" },
        { "x,y,k\n1,2,a,\n", "line 2, column 3 (\"k\"): \"a\": more fields follow" },
        { "x,y,k\n1,2,a\n\n", "line 3, column 1 (\"x\"): \"\": an empty line, where the first line has 3 fields" },
        { "x,k\nabc,a\n", "line 2, column 1 (\"x\"): \"abc\": is no decimal number" },
        { "x,k\n1,a\n-inf,a", "line 3, column 1 (\"x\"): \"-inf\": is no decimal number" },
        { "x,k\nnan,a\n", "\"nan\": is no decimal number" },
        { "x,k\na\x7f" "b\001,a\n", "\"a?b?\": is no decimal number" },
        { "x,k\n0x1p3,a\n", "\"0x1p3\": is no decimal number" },
        { "x,k\n1 2,a\n", "\"1 2\": is no decimal number" },
        { "x,k\n1e39,a\n", "line 2, column 1 (\"x\"): \"1e39\": is too large for f32" },
        { "x,k\n ,a\n", "line 2, column 1 (\"x\"): \"\": a number is missing" },
        { "x,k\n1,\n", "line 2, column 2 (\"k\"): \"\": a label is missing" },
        { "x,k\n\"1,a\n2,b\n", "line 2, column 1 (\"x\"): \"1,a?2,b?\": no quote ends the field" },
        { "x,k\n1,\"", "line 2, column 2 (\"k\"): \"\": no quote ends the field" },
        { "x,k\n1,\"a\"\"", "no quote ends the field" },
        { "x,k\n\"1\"2,a\n", "line 2, column 1 (\"x\"): \"1\": more follows the quote that ends the field" },
        { "x,k\n1,\"a\" \n", "\"a\": more follows the quote that ends the field" },
        { "x,k\n1, \"a\"\n",
          "line 2, column 2 (\"k\"): \" \": a quote follows, in a field that does not begin with one" },
        { "x,k\n1,a\"\n", "\"a\": a quote follows, in a field that does not begin with one" },
        { "x,k\n1,a\r2,b\n", "line 2, column 2 (\"k\"): \"a\": a carriage return follows, and no line feed" },
        { "x,k\r", "line 1, column 2: \"k\": a carriage return follows, and no line feed" },
        { "x,\"k\ny\"\n1,\"a\nb\"\nz,b\n", "has no column \"k\"" },
        { "x\n1\n", "has no column \"k\"" },
        { "x,k,k\n1,a,b\n", "has two columns \"k\", which an index must tell apart" },
        { "x,k\n1,\"a\nb\"\nz,b\n", "line 4, column 1 (\"x\"): \"z\": is no decimal number" },
        { "x,k\n0123456789012345678901234567890123456789012345678901234567890123456789z,b\n",
          "\"012345678901234567890123456789012345678901234567890123456789...\": is no decimal number" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        refused_text(context, cases[k].text, &labelled, cases[k].words);
    }
    test_context_free(context);
}

static void zero_bytes_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
#define BYTES(text) text, sizeof text - 1
    refused_bytes(context, BYTES("x,k\n1\0,a\n"), &labelled, "line 2, column 1 (\"x\"): \"1\": a NUL byte follows");
    refused_bytes(context, BYTES("x,k\n1,a\0\n"), &labelled, "\"a\": a NUL byte follows");
    refused_bytes(context, BYTES("x,k\n1,\"a\0b\"\n"), &labelled, "\"a\": a NUL byte follows");
    refused_bytes(context, BYTES("x,k\0\n1,a\n"), &labelled, "line 1, column 2: \"k\": a NUL byte follows");
    refused_bytes(context, BYTES("x,k\n1,a\n\0"), &labelled, "line 3, column 1 (\"x\"): \"\": a NUL byte follows");
    refused_bytes(context, BYTES("\xff\xfex\0,\0k\0\n\0"), &labelled, "begins with the mark of UTF-16, must be UTF-8");
    refused_bytes(context, BYTES("\xfe\xff\0x"), NULL, "begins with the mark of UTF-16");
#undef BYTES
    test_context_free(context);
}

/* A record of one column has as little to show as an empty line: only quotes make it one. */
static void empty_lines_are_no_records(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_csv_options filled = { .fill_missing = 1, .fill = -7 }, bare = { .no_header = 1, .fill_missing = 1 };
    refused_text(context, "x\n1\n2\n\n", &filled, "line 4, column 1 (\"x\"): \"\": an empty line, where the first line has 1");
    refused_text(context, "x\n\n1\n", NULL, "line 2, column 1 (\"x\"): \"\": an empty line");
    refused_text(context, "x\n1\r\n\r\n", &filled, "line 3, column 1 (\"x\"): \"\": an empty line");
    refused_text(context, "\n1\n", &filled, "line 1, column 1: \"\": an empty line, which has no columns");
    refused_text(context, "\n\n", &bare, "line 1, column 1: \"\": an empty line, which has no columns");
    test_context_free(context);
}

static void missing_labels_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const char *const known[] = { "a", "NA" };
    psg_csv_column column = { .name = "k" };
    const psg_csv_options options = { .labels = &column, .label_count = 1, .missing = "NA", .fill_missing = 1 };
    refused_text(context, "x,k\n1,a\nNA,NA\n", &options, "line 3, column 2 (\"k\"): \"NA\": a label is missing");
    column.categories = known;
    column.category_count = 2;
    psg_table *table;
    TEST_OK(context, psg_csv_read(context, io_path("bad"), &options, &table));
    assert_int_equal(((int64_t *)psg_table_label(table, 0)->data)[1], 1);
    psg_table_destroy(table);
    test_context_free(context);
}

/* 59 bytes and a character of two: it is shown whole or not at all. */
static void what_is_shown_is_whole(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    refused_text(context, "x\n01234567890123456789012345678901234567890123456789012345678\xc3\xa9zz\n", NULL,
                 "45678...\": is no decimal number");
    refused_text(context, "x\n\xc2\x9b" "1\n", NULL, "\"??1\": is no decimal number");
    test_context_free(context);
}

static void wrong_choices_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const char *const sizes[] = { "s", "l" };
    const psg_csv_column sized = { .name = "k", .categories = sizes, .category_count = 2 };
    const psg_csv_column none = { .name = "k", .categories = sizes }, third = { .index = 2 };
    const psg_csv_column lost[] = { { .name = "z" }, { .index = 0 } };
    const psg_csv_column many[] = { { .index = 0 }, { .index = 1 }, { .index = 1 } };
    const char *text = "x,k\n1,m\n";
    refused_text(context, text, &(psg_csv_options){ .labels = &sized, .label_count = 1 },
                 "line 2, column 2 (\"k\"): \"m\": is none of the categories that were given");
    refused_text(context, text, &(psg_csv_options){ .labels = &none, .label_count = 1 }, "is none of the categories");
    refused_text(context, text, &(psg_csv_options){ .numbers = &third, .number_count = 1 },
                 "has 2 columns, none of index 2");
    refused_text(context, text, &(psg_csv_options){ .numbers = many, .number_count = 3 },
                 "has 2 columns, of which 0 labels and 3 numbers are chosen");
    refused_text(context, text,
                 &(psg_csv_options){ .labels = many, .label_count = 2, .numbers = many, .number_count = 1 },
                 "has 2 columns, of which 2 labels and 1 numbers are chosen");
    refused_text(context, text, &(psg_csv_options){ .labels = lost, .label_count = 2 }, "has no column \"z\"");
    refused_text(context, text, &(psg_csv_options){ .numbers = lost, .number_count = 2 }, "has no column \"z\"");
    refused_text(context, text, &(psg_csv_options){ .labels = many, .label_count = 3 },
                 "has 2 columns, of which 3 labels and 0 numbers are chosen");
    refused_text(context, text, NULL, "line 2, column 2 (\"k\"): \"m\": is no decimal number");
    refused_text(context, "", &(psg_csv_options){ .no_header = 1 }, "is empty");
    refused_text(context, "1,2\nz,1\n", &(psg_csv_options){ .no_header = 1 }, "line 2, column 1 (\"0\"): \"z\"");
    refused_text(context, "x\n1e400\n", &(psg_csv_options){ .dtype = PSG_F64 }, "\"1e400\": is too large for f64");
    refused_text(context, "x\nN\n", &(psg_csv_options){ .missing = "NA", .fill_missing = 1 }, "\"N\": is no decimal");
    refused_text(context, "x\nNB\n", &(psg_csv_options){ .missing = "NA", .fill_missing = 1 }, "\"NB\": is no decimal");
    refused_text(context, "x\nNA\n", &(psg_csv_options){ .missing = "NA" }, "\"NA\": a number is missing");
    const psg_csv_column twice[] = { { .name = "k" }, { .index = 1 } };
    io_write(io_path("bad"), text, strlen(text));
    refused(context, io_path("bad"), &(psg_csv_options){ .labels = twice, .label_count = 2 }, PSG_ERR_ARGUMENT,
            "psg_csv_read: column \"k\" is chosen twice");
    refused(context, io_path("bad"),
            &(psg_csv_options){ .labels = twice, .label_count = 1, .numbers = &twice[1], .number_count = 1 },
            PSG_ERR_ARGUMENT, "column \"k\" is chosen twice");
    test_context_free(context);
}

static void wrong_options_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("good");
    io_write(path, "x,k\n1,a\n", 8);
#define REFUSED(status, words, ...) refused(context, path, &(psg_csv_options){ __VA_ARGS__ }, status, words)
    REFUSED(PSG_ERR_ARGUMENT, "psg_csv_options.reserved is not 0", .reserved = { 0, 0, 0, 1 });
    REFUSED(PSG_ERR_DTYPE, "dtype i32, must be f32 or f64", .dtype = PSG_I32);
    REFUSED(PSG_ERR_DTYPE, "must be f32 or f64", .dtype = (psg_dtype)9);
    REFUSED(PSG_ERR_NONFINITE, "fill inf, must be finite in f64", .dtype = PSG_F64, .fill_missing = 1,
            .fill = INFINITY);
    REFUSED(PSG_ERR_NONFINITE, "fill 1e+39, must be finite in f32", .fill_missing = 1, .fill = 1e39);
    REFUSED(PSG_ERR_NONFINITE, "fill nan", .fill_missing = 1, .fill = NAN);
    REFUSED(PSG_ERR_ARGUMENT, "missing is \" NA\", must have no blanks at its ends", .missing = " NA");
    REFUSED(PSG_ERR_ARGUMENT, "missing is \"N A?\", must have no blanks", .missing = "N A\t");
    REFUSED(PSG_ERR_ARGUMENT, "labels is NULL", .label_count = 1);
    REFUSED(PSG_ERR_ARGUMENT, "numbers is NULL", .number_count = 1);
    REFUSED(PSG_ERR_ARGUMENT, "labels[0].categories is NULL", .labels = &(psg_csv_column){ .category_count = 1 },
            .label_count = 1);
    static const char *const gap[] = { "a", NULL }, *const same[] = { "b", "a", "b" };
    REFUSED(PSG_ERR_ARGUMENT, "labels[0].categories[1] is NULL", .label_count = 1,
            .labels = &(psg_csv_column){ .index = 1, .categories = gap, .category_count = 2 });
    REFUSED(PSG_ERR_ARGUMENT, "labels[0].categories[2] is there twice", .label_count = 1,
            .labels = &(psg_csv_column){ .index = 1, .categories = same, .category_count = 3 });
    static const char bad[] = { 'a', 'Z', '0', '9', '+', '-', '.', '"', '\n', '\r', (char)0xa7 };
    for (size_t k = 0; k < sizeof bad; k++) REFUSED(PSG_ERR_ARGUMENT, "can be part of a number", .delimiter = bad[k]);
#undef REFUSED
    psg_table *table = (psg_table *)(uintptr_t)1;
    assert_int_equal(psg_csv_read(NULL, path, NULL, &table), PSG_ERR_ARGUMENT);
    assert_null(table);
    assert_int_equal(psg_csv_read(context, NULL, NULL, &table), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_csv_read(context, path, NULL, NULL), PSG_ERR_ARGUMENT);
    test_context_free(context);
}

static void what_is_no_file_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *folder = io_path("folder"), *fifo = io_path("fifo");
    assert_int_equal(mkdir(folder, 0700) | mkfifo(fifo, 0600), 0);
    alarm(20);
    refused(context, folder, NULL, PSG_ERR_FILE, "is no regular file");
    refused(context, fifo, NULL, PSG_ERR_FILE, "is no regular file");
    refused(context, io_path("none"), NULL, PSG_ERR_FILE, "No such file");
    alarm(0);
    test_context_free(context);
}

/* ---- any bytes ---- */

static const char seed[] = "\xef\xbb\xbfx,\"k \"\"q\"\"\",y\r\n-1.25e1,\"a\"\"b,\nc\",7\r\n,d,\"0.5\"\n3,a,4";
static const psg_csv_column second = { .index = 1 };
static const psg_csv_options seed_options = { .labels = &second, .label_count = 1, .fill_missing = 1 };

/* false: refused; else what was read is in range. */
static bool read_or_refuse(psg_context *context, const void *bytes, size_t count) {
    psg_table *table = NULL;
    const size_t live = psg_context_live_bytes(context);
    io_write(io_path("any"), bytes, count);
    psg_status status = psg_csv_read(context, io_path("any"), &seed_options, &table);
    if (status) {
        assert_int_equal(status, PSG_ERR_FORMAT);
        assert_null(table);
        return false;
    }
    const psg_tensor *numbers = psg_table_numbers(table), *codes = psg_table_label(table, 0);
    assert_int_equal(numbers->shape[0], codes->shape[0]);
    for (int64_t k = 0; k < psg_tensor_count(numbers); k++) assert_true(isfinite(((const float *)numbers->data)[k]));
    for (int64_t n = 0; n < codes->shape[0]; n++) {
        assert_non_null(psg_table_category(table, 0, (size_t)((const int64_t *)codes->data)[n]));
    }
    psg_table_destroy(table);
    assert_int_equal(psg_context_live_bytes(context), live);
    return true;
}

/* Parts of the line of names that have the column of the label, and parts that end behind the second delimiter of a
 * record, where a number is missing, or behind what of the number is one. */
static void only_truncations_between_fields_are_read(void **state) {
    (void)state;
    static const size_t are_read[] = { 5, 9, 12, 14, 15, 16, 18, 36, 37, 39, 42, 47, 48, 52, 53, SIZE_MAX };
    psg_context *context = test_context(1, NULL);
    size_t k = 0;
    for (size_t count = 0; count < sizeof seed; count++) {
        const bool is_expected = count == are_read[k];
        if (read_or_refuse(context, seed, count) != is_expected) fail_msg("%zu bytes: %d", count, !is_expected);
        k += is_expected;
    }
    assert_int_equal(are_read[k], SIZE_MAX);
    test_context_free(context);
}

static void any_bit_may_flip(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    char bytes[sizeof seed - 1];
    size_t read = 0;
    memcpy(bytes, seed, sizeof bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        read += read_or_refuse(context, bytes, sizeof bytes);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_in_range(read, 100, 8 * sizeof bytes - 100); /* both happen */
    test_context_free(context);
}

static void any_text_is_read_or_refused(void **state) {
    (void)state;
    static const char marks[] = ",,\"\"\n\r 01.eE+-ab\t\0\xff";
    psg_context *context = test_context(1, NULL);
    test_random random = { 5 };
    size_t read = 0;
    for (int round = 0; round < 10000; round++) {
        char text[80];
        size_t length = sizeof seed - 1;
        memcpy(text, seed, length);
        for (int k = (int)test_range(&random, 1, 4); k > 0; k--) {
            const size_t at = (size_t)test_range(&random, 0, (int64_t)length - 1);
            const char mark = marks[test_range(&random, 0, sizeof marks - 2)];
            if (test_range(&random, 0, 1)) {
                memmove(text + at + 1, text + at, length++ - at);
            }
            text[at] = mark;
        }
        read += read_or_refuse(context, text, length);
    }
    assert_in_range(read, 1000, 9000);
    test_context_free(context);
}

/* ---- bombs ---- */

/* Many columns and then many short lines: columns times lines would be 10^12 numbers. */
static void memory_is_that_of_the_file(void **state) {
    (void)state;
    enum { BYTES = 1 << 20 };
    static char text[BYTES];
    asked a = { 0 };
    psg_context *context = context_that_measures(&a);
    const size_t before = a.live;
    memset(text, ',', BYTES / 2);
    memset(text + BYTES / 2, '\n', BYTES / 2);
    refused_bytes(context, text, BYTES, &(psg_csv_options){ .no_header = 1, .dtype = PSG_F64, .fill_missing = 1 },
                  "an empty line, where the first line has 524289 fields");
    assert_in_range(a.most - before, BYTES, 72 * BYTES);
    for (int k = 0; k < BYTES; k++) text[k] = k % 2 ? '\n' : '1';
    a.most = a.live;
    psg_table *table = NULL;
    io_write(io_path("lines"), text, BYTES);
    const psg_csv_options options = { .no_header = 1, .dtype = PSG_F64, .fill_missing = 1 };
    TEST_OK(context, psg_csv_read(context, io_path("lines"), &options, &table));
    assert_int_equal(psg_table_numbers(table)->shape[0], BYTES / 2);
    assert_in_range(a.most - before, 5 * BYTES, 6 * BYTES);
    psg_table_destroy(table);
    test_context_free(context);
}

/* ---- failures ---- */

/* Returns the allocations of a reading that succeeds. */
static uint64_t fail_each_allocation(test_allocator *allocator, psg_context *context, const psg_csv_options *options) {
    const size_t live = allocator->live_bytes;
    psg_status status = PSG_ERR_MEMORY;
    uint64_t n = 0;
    while (status) {
        psg_table *table = (psg_table *)(uintptr_t)1;
        test_allocator_arm(allocator, ++n, false);
        status = psg_csv_read(context, io_path("memory"), options, &table);
        assert_int_equal(status, allocator->failed ? PSG_ERR_MEMORY : PSG_OK);
        assert_true(!table == (status != PSG_OK));
        psg_table_destroy(table);
        assert_int_equal(allocator->live_bytes, live);
    }
    test_allocator_arm(allocator, 0, false);
    return n - 1;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const char *const categories[] = { "a\"b,\nc", "d", "a" };
    const psg_csv_column given[] = { { .index = 1, .categories = categories, .category_count = 3 }, { .index = 2 } };
    const psg_csv_options two = { .labels = given, .label_count = 2, .fill_missing = 1 };
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    const size_t open = io_descriptors();
    io_write(io_path("memory"), seed, sizeof seed - 1);
    assert_in_range(fail_each_allocation(&allocator, context, &seed_options), 7, 20);
    assert_in_range(fail_each_allocation(&allocator, context, &two), 9, 20);
    /* So wide that names, targets and texts each take memory of their own. */
    enum { WIDE = 20000, LONG = 2000000 };
    char *const wide = malloc(2 * WIDE + LONG);
    for (size_t k = 0; k < WIDE; k++) memcpy(wide + 2 * k, "1,", 2);
    memset(wide + 2 * WIDE, 'x', LONG);
    io_write(io_path("memory"), wide, 2 * WIDE + LONG);
    free(wide);
    const psg_csv_column last = { .index = WIDE };
    const psg_csv_options whole = { .labels = &last, .label_count = 1, .no_header = 1 };
    assert_in_range(fail_each_allocation(&allocator, context, &whole), 11, 20);
    assert_int_equal(io_descriptors(), open);
    test_context_free(context);
}

static void calls_may_fail(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const size_t live = psg_context_live_bytes(context), open = io_descriptors();
    static const fault_call calls[] = { FAULT_OPEN, FAULT_FSTAT, FAULT_PREAD };
    io_write(io_path("calls"), seed, sizeof seed - 1);
    for (size_t k = 0; k < 3; k++) {
        psg_table *table = NULL;
        fault_arm(&(fault_plan){ .call = calls[k], .at = 1, .error = EIO });
        assert_int_equal(psg_csv_read(context, io_path("calls"), &seed_options, &table), PSG_ERR_FILE);
        assert_int_equal(fault_disarm(), 1);
        assert_non_null(strstr(psg_context_message(context), strerror(EIO)));
        assert_null(table);
        assert_int_equal(psg_context_live_bytes(context), live);
        assert_int_equal(io_descriptors(), open);
    }
    test_context_free(context);
}

static void cut(void *user) { assert_int_equal(truncate(user, 20), 0); }

static void a_file_may_be_cut_meanwhile(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    char path[1024];
    snprintf(path, sizeof path, "%s", io_path("cut"));
    io_write(path, seed, sizeof seed - 1);
    fault_arm(&(fault_plan){ .call = FAULT_PREAD, .at = 1, .before = cut, .user = path });
    refused(context, path, &seed_options, PSG_ERR_FORMAT, "was cut while it was read");
    assert_int_equal(fault_disarm(), 1);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_lines_are_refused_in_words),
        cmocka_unit_test(zero_bytes_are_refused),
        cmocka_unit_test(empty_lines_are_no_records),
        cmocka_unit_test(missing_labels_are_refused),
        cmocka_unit_test(what_is_shown_is_whole),
        cmocka_unit_test(wrong_choices_are_refused),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(only_truncations_between_fields_are_read),
        cmocka_unit_test(any_bit_may_flip),
        cmocka_unit_test(any_text_is_read_or_refused),
        cmocka_unit_test(memory_is_that_of_the_file),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(calls_may_fail),
        cmocka_unit_test(a_file_may_be_cut_meanwhile),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
