/* Archives with records that not every writer writes: sizes after the data, ends and sizes of 64 bits; and what becomes
 * of right archives whose bytes are changed. */
#include "io_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array_files.h"
#include "io/zip.h"

static const psg_file_access accesses[] = { PSG_FILE_COPY, PSG_FILE_MAP };

/* ---- sizes after the data ---- */

/* A signature or none, CRC-32, sizes of 32 bits or 64, behind the data of a.npy, whose local record may say 0. */
static size_t make_streamed(array_archive *a, bool is_signed, int width, bool says_nothing) {
    unsigned char bytes[24], *p = bytes;
    array_two(a);
    if (is_signed) p = psg_zip_put(p, 4, PSG_ZIP_DESCRIPTOR);
    p = psg_zip_put(p, 4, a->added[0].crc);
    p = psg_zip_put(psg_zip_put(p, width, a->held[0]), width, a->added[0].size);
    const size_t count = (size_t)(p - bytes);
    for (int k = 0; k < 2; k++) array_set(a, k ? a->central[0] + 8 : a->local[0] + 6, 2, PSG_ZIP_SIZES_FOLLOW);
    if (says_nothing) memset(a->bytes + a->local[0] + 14, 0, 12);
    array_set(a, a->central[1] + 42, 4, a->local[1] + count);
    array_set(a, a->end + 16, 4, a->directory + count);
    array_insert(a, a->local[1], bytes, count);
    return count;
}

static void sizes_may_follow_the_data(void **state) {
    (void)state;
    static array_archive a;
    psg_context *context = test_context(1, NULL);
    for (int form = 0; form < 8; form++) {
        const bool is_signed = form & 1, says_nothing = form & 4;
        const int width = form & 2 ? 8 : 4;
        const size_t count = make_streamed(&a, is_signed, width, says_nothing);
        io_write(io_path("streamed.npz"), a.bytes, a.count);
        for (int k = 0; k < 2; k++) assert_true(array_is_read(context, io_path("streamed.npz"), accesses[k]));
        for (size_t at = 0; at < count; at++) {
            make_streamed(&a, is_signed, width, says_nothing);
            a.bytes[a.local[1] + at] ^= 1;
            array_refused(context, &a, "bytes after it are no descriptor of it");
        }
        make_streamed(&a, is_signed, width, says_nothing);
        array_set(&a, a.central[1] + count + 42, 4, a.local[1] + count + 1);
        array_set(&a, a.end + count + 16, 4, a.directory + count + 1);
        array_insert(&a, a.local[1] + count, "", 1);
        array_refused(context, &a, "bytes after it are no descriptor of it");
        make_streamed(&a, is_signed, width, says_nothing);
        array_set(&a, a.local[0] + 22, 4, 7);
        array_refused(context, &a, "are not those of the directory");
    }
    test_context_free(context);
}

/* ---- 64 bits, by hand ---- */

static size_t put_end64(unsigned char *to, uint64_t entries, uint64_t bytes, uint64_t place, uint64_t at) {
    unsigned char *p = psg_zip_put(psg_zip_put(to, 4, PSG_ZIP_END64), 8, 44);
    p = psg_zip_put(psg_zip_put(p, 4, 45 << 16 | 45), 8, 0);
    p = psg_zip_put(psg_zip_put(p, 8, entries), 8, entries);
    p = psg_zip_put(psg_zip_put(p, 8, bytes), 8, place);
    p = psg_zip_put(psg_zip_put(p, 4, PSG_ZIP_LOCATOR), 4, 0);
    return (size_t)(psg_zip_put(psg_zip_put(p, 8, at), 4, 1) - to);
}

static void make64(array_archive *a) {
    unsigned char records[76];
    array_two(a);
    assert_int_equal(put_end64(records, 2, a->end - a->directory, a->directory, a->end), 76);
    array_insert(a, a->end, records, 76);
    array_set(a, a->end + 76 + 8, 4, 0xFFFFFFFF);
    array_set(a, a->end + 76 + 12, 8, UINT64_MAX);
}

static void ends_of_64_bits_are_read_and_believed_where_they_are_right(void **state) {
    (void)state;
    static array_archive a;
    static const struct { size_t field; int width; uint64_t value; const char *words; } lies[] = {
        { 0, 4, 0, "no end of 64 bits, or one of another length" },
        { 4, 8, 45, "no end of 64 bits, or one of another length" },
        { 4, 8, UINT64_MAX, "no end of 64 bits, or one of another length" },
        { 24, 8, 3, "a part of an archive of several disks" },
        { 32, 8, 3, "a part of an archive of several disks" },
        { 40, 8, UINT64_MAX, "directory of 18446744073709551615 bytes from byte " },
        { 48, 8, (uint64_t)1 << 63, "from byte 9223372036854775808 on, which must end here" },
        { 64, 8, 5, "the locator says byte 5 of disk 0, the end of 64 bits is 56 bytes before it" },
        { 64, 8, UINT64_MAX, "the locator says byte 18446744073709551615" },
        { 60, 4, 1, " of disk 1, the end" },
        { 76 + 12, 4, 7, "bytes of the directory: 102 in the end of 64 bits, 7 in the end" },
        { 56, 4, 0, "directory of 4294967295 bytes" },
    };
    psg_context *context = test_context(1, NULL);
    make64(&a);
    io_write(io_path("right.npz"), a.bytes, a.count);
    for (int k = 0; k < 2; k++) assert_true(array_is_read(context, io_path("right.npz"), accesses[k]));
    for (size_t k = 0; k < sizeof lies / sizeof lies[0]; k++) {
        make64(&a);
        array_set(&a, a.end + lies[k].field, lies[k].width, lies[k].value);
        array_refused(context, &a, lies[k].words);
    }
    test_context_free(context);
}

static void a_locator_may_stand_where_no_end_fits(void **state) {
    (void)state;
    static array_archive a;
    unsigned char records[76];
    psg_context *context = test_context(1, NULL);
    put_end64(records, 0, 0, 0, 0);
    array_begin(&a);
    array_end(&a);
    array_insert(&a, 0, records + PSG_ZIP_END64_BYTES, PSG_ZIP_LOCATOR_BYTES);
    array_refused(context, &a, "byte 0: the locator says byte 0 of disk 0, the end of 64 bits is 56 bytes before it");
    test_context_free(context);
}

/* The central record of a.npy with sizes in an extra field. */
static void make_extra(array_archive *a, const unsigned char *extra, size_t count) {
    array_two(a);
    array_set(a, a->central[0] + 20, 8, UINT64_MAX);
    array_set(a, a->central[0] + 30, 2, count);
    array_insert(a, a->central[1], extra, count);
    array_set(a, a->end + count + 12, 4, a->end + count - a->directory);
}

static void sizes_of_64_bits_are_read_and_believed_where_they_are_right(void **state) {
    (void)state;
    static array_archive a;
    unsigned char extra[64];
    psg_context *context = test_context(1, NULL);
    psg_zip_put(psg_zip_put(psg_zip_put(psg_zip_put(extra, 4, 0x00020077), 2, 7), 4, 16 << 16 | 1), 8, 144);
    psg_zip_put(extra + 18, 8, 144);
    make_extra(&a, extra, 26);
    io_write(io_path("right.npz"), a.bytes, a.count);
    for (int k = 0; k < 2; k++) assert_true(array_is_read(context, io_path("right.npz"), accesses[k]));
    psg_zip_put(extra + 18, 8, (uint64_t)1 << 63);
    make_extra(&a, extra, 26);
    array_refused(context, &a, "9223372036854775808 bytes from byte 0 on");
    make_extra(&a, extra, 25);
    array_refused(context, &a, "its extra fields are broken");
    psg_zip_put(extra + 6, 4, 8 << 16 | 1);
    make_extra(&a, extra, 18);
    array_refused(context, &a, "its extra fields are broken");
    psg_zip_put(psg_zip_put(extra, 4, 16 << 16 | 1), 8, 144);
    psg_zip_put(extra + 12, 8, 144);
    psg_zip_put(psg_zip_put(extra + 20, 4, 16 << 16 | 1), 8, 144);
    psg_zip_put(extra + 32, 8, 145);
    make_extra(&a, extra, 40);
    array_refused(context, &a, "its extra fields are broken");
    make_extra(&a, NULL, 0);
    array_refused(context, &a, "4294967295 bytes from byte 0 on");
    test_context_free(context);
}

/* ---- what became of files that were right ---- */

static void every_truncation_and_any_flipped_bit(void **state) {
    (void)state;
    static array_archive a;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("damaged.npz");
    make64(&a);
    for (size_t length = 0; length <= a.count; length++) {
        io_write(path, a.bytes, length);
        for (int k = 0; k < 2; k++) assert_int_equal(array_is_read(context, path, accesses[k]), length == a.count);
    }
    size_t refusals = 0;
    int descriptor = open(path, O_WRONLY);
    for (size_t bit = 0; bit < 8 * a.count; bit++) {
        unsigned char flipped = a.bytes[bit / 8] ^ (unsigned char)(1 << bit % 8);
        assert_int_equal(pwrite(descriptor, &flipped, 1, (off_t)(bit / 8)), 1);
        refusals += !array_is_read(context, path, accesses[bit / 8 % 2]);
        assert_int_equal(pwrite(descriptor, &a.bytes[bit / 8], 1, (off_t)(bit / 8)), 1);
    }
    close(descriptor);
    /* Times, versions and attributes may be anything: 6 bytes of a local record, 16 of a central one, 4 of the end. */
    assert_in_range(refusals, 8 * (a.count - 2 * (6 + 18) - 12), 8 * a.count);
    test_context_free(context);
}

/* Also of values that are mapped. */
static void every_flipped_bit_of_values_is_seen(void **state) {
    (void)state;
    const float values[] = { 1, 2, 3, 4 };
    const psg_named named = { "a", psg_f32_1d(values, 4) };
    psg_context *context = test_context(1, NULL);
    size_t count;
    TEST_OK(context, psg_npz_write(context, io_path("whole.npz"), &named, 1));
    unsigned char *bytes = io_read(io_path("whole.npz"), &count);
    for (size_t bit = 0; bit < 8 * sizeof values; bit++) {
        bytes[64 + 128 + bit / 8] ^= (unsigned char)(1 << bit % 8);
        io_write(io_path("flipped.npz"), bytes, count);
        for (int k = 0; k < 2; k++) assert_false(array_is_read(context, io_path("flipped.npz"), accesses[k]));
        assert_non_null(strstr(psg_context_message(context), "member \"a\": byte 144 of it: CRC-32 is "));
        bytes[64 + 128 + bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(bytes);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_may_follow_the_data),
        cmocka_unit_test(ends_of_64_bits_are_read_and_believed_where_they_are_right),
        cmocka_unit_test(a_locator_may_stand_where_no_end_fits),
        cmocka_unit_test(sizes_of_64_bits_are_read_and_believed_where_they_are_right),
        cmocka_unit_test(every_truncation_and_any_flipped_bit),
        cmocka_unit_test(every_flipped_bit_of_values_is_seen),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
