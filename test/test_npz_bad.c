/* Archives that no writer wrote: each is refused in words, none makes the reader crash or take memory it does not
 * need. */
#include "io_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "array_files.h"
#include "io/zip.h"

/* ---- numbers of the records, exchanged ---- */

typedef enum record { LOCAL, CENTRAL, BOTH, END } record;

static const struct bomb {
    record record;
    int member, field, width;      /* field: of the central record, or the end's */
    uint64_t value;
    const char *words;
} bombs[] = {
    { BOTH, 1, 24, 4, 0x7FFFFFFF, "member \"b.npy\": 2147483647 bytes deflated, which " },
    { BOTH, 1, 24, 4, 0xFFFFFFFF, "member \"b.npy\": 4294967295 bytes deflated, which " },
    { BOTH, 1, 24, 4, 60000, "member \"b\": byte 144 of it: 59856 bytes after the last value" },
    { BOTH, 1, 24, 4, 143, "member \"b\": byte 128 of it: 15 bytes of values, <f4 of shape (4) has 16" },
    { BOTH, 1, 24, 4, 9, "member \"b\": byte 9 of it: its end, where a header takes 10 bytes" },
    { BOTH, 1, 24, 4, 40, "member \"b\": byte 8 of it: header of 118 bytes where 30 follow" },
    { BOTH, 0, 24, 4, 145, "member \"a.npy\": 145 bytes stored, which 144 bytes in the file cannot be" },
    { BOTH, 0, 20, 4, 143, "member \"a.npy\": 144 bytes stored, which 143 bytes" },
    { BOTH, 0, 20, 4, 0x7FFFFFFF, "member \"a.npy\": 2147483647 bytes from byte 0 on, the directory begins at " },
    { CENTRAL, 1, 42, 4, 0x7FFFFFFF, " from byte 2147483647 on, the directory begins at " },
    { CENTRAL, 1, 42, 4, 0xFFFFFFFF, " from byte 4294967295 on, the directory begins at " },
    { CENTRAL, 1, 42, 4, 1, "byte 1: member \"a.npy\": ends at byte 179, over what begins here" },
    { LOCAL, 1, 2, 4, 0, "byte 179: member \"b.npy\": no record of a member" },
    { CENTRAL, 1, 42, 4, 0, "byte 0: member \"" },
    { CENTRAL, 0, 42, 4, 1, "byte 0: 1 bytes before the archive" },
    { BOTH, 1, 20, 4, 10, " bytes after it are nobody's" },
    { BOTH, 0, 16, 4, 7, "member \"a\": byte 144 of it: CRC-32 is " },
    { BOTH, 1, 16, 4, 7, "member \"b\": byte 144 of it: CRC-32 is " },
    { BOTH, 1, 8, 2, 1, "member \"b.npy\": is encrypted" },
    { BOTH, 1, 8, 2, 1 << 5, "member \"b.npy\": flags 0x0020, of which 0x080e are known" },
    { BOTH, 0, 8, 2, 1 << 3, "member \"a.npy\": 0 bytes after it are no descriptor of it" },
    { BOTH, 1, 10, 2, 12, "member \"b.npy\": method 12, only 0 (stored) and 8 (deflated) are read" },
    { BOTH, 1, 10, 2, 0, "bytes stored, which " },
    { BOTH, 0, 10, 2, 8, "member \"a\": byte " },
    { BOTH, 1, 46, 1, 'a', "byte 179: member \"a.npy\": is there twice" },
    { BOTH, 1, 46, 1, 0, "its name has a byte of 0" },
    { BOTH, 1, 46, 1, 0xE9, "its name is not ASCII, nor UTF-8 that is marked so" },
    { BOTH, 1, 50, 1, 'Y', "member \"b.npY\": its name does not end with .npy" },
    { BOTH, 1, 28, 2, 3, ": 2 bytes after the last of 2 entries" },
    { LOCAL, 1, 46, 1, 'c', "name, flags, method, sizes or CRC-32 are not those of the directory" },
    { LOCAL, 1, 16, 4, 0, "are not those of the directory" },
    { LOCAL, 1, 20, 4, 0, "are not those of the directory" },
    { LOCAL, 1, 24, 4, 145, "are not those of the directory" },
    { LOCAL, 1, 8, 2, PSG_ZIP_UTF8, "are not those of the directory" },
    { LOCAL, 1, 10, 2, 0, "are not those of the directory" },
    { LOCAL, 1, 30, 2, 0xFFFF, "its data reaches into the directory" },
    { CENTRAL, 1, 28, 2, 0xFFFF, "entry 1 is longer than the directory" },
    { CENTRAL, 0, 30, 2, 3, "member \"a.npy\": is of another disk, or its extra fields are broken" },
    { CENTRAL, 0, 34, 2, 1, "member \"a.npy\": is of another disk" },
    { CENTRAL, 1, 0, 4, PSG_ZIP_LOCAL, "no entry 1 of the directory" },
    { CENTRAL, 0, 32, 2, 1, "no entry 1 of the directory" },
    { END, 0, 8, 4, 0x00010001, "bytes after the last of 1 entries" },
    { END, 0, 8, 4, 0x00030003, "3 entries, of 46 bytes and more, in a directory of 102 bytes" },
    { END, 0, 8, 4, 0xFFFFFFFF, "65535 entries, of 46 bytes and more, in a directory of 102 bytes" },
    { END, 0, 8, 2, 1, "a part of an archive of several disks" },
    { END, 0, 4, 2, 1, "a part of an archive of several disks" },
    { END, 0, 6, 2, 1, "a part of an archive of several disks" },
    { END, 0, 12, 4, 101, "directory of 101 bytes from byte " },
    { END, 0, 12, 4, 0xFFFFFFFF, "directory of 4294967295 bytes from byte " },
    { END, 0, 16, 4, 0, "directory of 102 bytes from byte 0 on, which must end here" },
    { END, 0, 16, 4, 0xFFFFFFFF, "directory of 102 bytes from byte 4294967295 on, which must end here" },
    { END, 0, 20, 2, 1, "a comment of 1 bytes where the file ends" },
    { END, 0, 0, 4, 0, "no end of a zip archive: it was cut, or is none" },
};

/* The local record has the same fields two bytes before, names 16. */
static void set_field(array_archive *a, record record, int member, int field, int width, uint64_t value) {
    const int shift = field >= PSG_ZIP_CENTRAL_BYTES ? 16 : 2;
    if (record == END) array_set(a, a->end + (size_t)field, width, value);
    if (record == CENTRAL || record == BOTH) array_set(a, a->central[member] + (size_t)field, width, value);
    if (record == LOCAL || record == BOTH) array_set(a, a->local[member] + (size_t)(field - shift), width, value);
}

static void wrong_numbers_are_refused_in_words(void **state) {
    (void)state;
    size_t largest;
    static array_archive a;
    psg_context *context = io_context_that_measures(&largest);
    const size_t open = io_descriptors();
    array_two(&a);
    io_write(io_path("right.npz"), a.bytes, a.count);
    assert_true(array_is_read(context, io_path("right.npz"), PSG_FILE_COPY));
    for (size_t k = 0; k < sizeof bombs / sizeof bombs[0]; k++) {
        const struct bomb *b = &bombs[k];
        array_two(&a);
        set_field(&a, b->record, b->member, b->field, b->width, b->value);
        array_refused(context, &a, b->words);
    }
    assert_true(largest < 150000);   /* whatever numbers stand in the file */
    assert_int_equal(io_descriptors(), open);
    psg_context_destroy(context);
}

/* ---- bytes put in ---- */

static void bytes_around_and_between_are_refused(void **state) {
    (void)state;
    static array_archive a;
    psg_context *context = test_context(1, NULL);
    array_two(&a);
    array_insert(&a, a.count, "12345", 5);
    array_refused(context, &a, ": 5 bytes after the end of the archive, where the file must end");
    array_two(&a);
    array_insert(&a, 0, "12345", 5);
    array_refused(context, &a, ", which must end here");
    array_two(&a);
    array_insert(&a, 0, "12345", 5);
    for (int k = 0; k < 2; k++) array_set(&a, a.central[k] + 5 + 42, 4, a.local[k] + 5);
    array_set(&a, a.end + 5 + 16, 4, a.directory + 5);
    array_refused(context, &a, "byte 0: 5 bytes before the archive");
    array_two(&a);
    array_insert(&a, a.local[1], "12345", 5);
    array_set(&a, a.central[1] + 5 + 42, 4, a.local[1] + 5);
    array_set(&a, a.end + 5 + 16, 4, a.directory + 5);
    array_refused(context, &a, "byte 179: member \"a.npy\": 5 bytes after it are nobody's");
    array_two(&a);
    array_insert(&a, a.end, "12345", 5);
    array_set(&a, a.end + 5 + 12, 4, a.end + 5 - a.directory);
    array_refused(context, &a, ": 5 bytes after the last of 2 entries");
    array_begin(&a);
    array_add(&a, "npy", "", 0, PSG_ZIP_STORED);
    array_end(&a);
    array_refused(context, &a, "byte 0: member \"npy\": its name does not end with .npy");
    array_begin(&a);
    array_add(&a, "a.npy", "", 0, PSG_ZIP_STORED);
    array_add(&a, "b.npy", "", 0, PSG_ZIP_STORED);
    array_end(&a);
    array_set(&a, a.central[1] + 42, 4, a.directory - 10);
    array_refused(context, &a, "byte 35: member \"a.npy\": 25 bytes after it are nobody's");
    set_field(&a, BOTH, 0, 20, 4, 25);
    set_field(&a, BOTH, 0, 24, 4, 25);
    array_set(&a, a.central[1] + 42, 4, a.directory - 10);
    array_refused(context, &a, "byte 60: member \"b.npy\": its record reaches into the directory");
    array_two(&a);
    set_field(&a, BOTH, 1, 8, 2, PSG_ZIP_UTF8);
    set_field(&a, BOTH, 1, 46, 1, 0xE9);
    array_refused(context, &a, "its name is not ASCII, nor UTF-8 that is marked so");
    test_context_free(context);
}

/* A member whose data holds another member's record and data: each looks right alone (Fifield, A better zip bomb,
 * USENIX WOOT 2019). */
static void overlapping_members_are_refused(void **state) {
    (void)state;
    static array_archive inner, a;
    psg_context *context = test_context(1, NULL);
    unsigned char npy[512], outer[1024];
    array_two(&inner);
    const size_t count = array_npy(ARRAY_F4("(44,)"), inner.bytes, 176, npy);   /* a.npy is 30 + 5 + 144 bytes */
    memcpy(outer, npy, count);
    array_begin(&a);
    array_add(&a, "q.npy", outer, count, PSG_ZIP_STORED);
    const size_t inside = a.data[0] + 128;
    array_end(&a);
    unsigned char entry[64];
    memcpy(entry, inner.bytes + inner.central[0], 51);
    psg_zip_put(entry + 42, 4, inside);
    array_insert(&a, a.end, entry, 51);
    array_set(&a, a.end + 51 + 8, 4, 0x00020002);
    array_set(&a, a.end + 51 + 12, 4, a.end + 51 - a.directory);
    array_refused(context, &a, ", over what begins here");
    test_context_free(context);
}

/* ---- what deflate holds ---- */

static void put_held(array_archive *a, const void *held, size_t count, size_t size, uint32_t crc) {
    array_begin(a);
    array_add_held(a, "b.npy", held, count, size, crc, PSG_ZIP_DEFLATED);
    array_end(a);
}

static void what_deflate_holds_is_what_is_declared(void **state) {
    (void)state;
    static array_archive a, b;
    size_t largest;
    psg_context *context = io_context_that_measures(&largest);
    unsigned char *npy = calloc(1, (1 << 24) + 128);
    const size_t header = array_npy(ARRAY_F4("(4,)"), NULL, 0, npy);
    array_begin(&b);
    array_add(&b, "b.npy", npy, header + (1 << 24), PSG_ZIP_DEFLATED);
    put_held(&a, b.bytes + b.data[0], b.held[0], header + 16, (uint32_t)crc32(0, npy, (unsigned)header + 16));
    array_refused(context, &a, "member \"b\": byte 144 of it: there is more than the 144 bytes that the archive says");
    put_held(&a, b.bytes + b.data[0], b.held[0], header + (1 << 24), 0);
    array_refused(context, &a, "byte 144 of it: 16777200 bytes after the last value");
    put_held(&a, b.bytes + b.data[0], 40, header + 16, 0);
    array_refused(context, &a, " of it: ");
    memcpy(b.bytes + b.data[0] + b.held[0], "xyz", 3);
    array_npy(ARRAY_F4("(4194304,)"), NULL, 0, npy);
    array_begin(&b);
    array_add(&b, "b.npy", npy, header + (1 << 24), PSG_ZIP_DEFLATED);
    const uint32_t crc = (uint32_t)crc32(0, npy, (unsigned)header + (1 << 24));
    largest = 0;
    array_npy(ARRAY_F4("(4,)"), NULL, 0, npy);
    put_held(&a, b.bytes + b.data[0], b.held[0] - 1, header + (1 << 24), crc);
    array_refused(context, &a, "have no end");
    memcpy(b.bytes + b.data[0] + b.held[0], "xyz", 3);
    put_held(&a, b.bytes + b.data[0], b.held[0] + 3, header + (1 << 24), crc);
    array_refused(context, &a, "3 bytes after the end of what was deflated");
    put_held(&a, b.bytes + b.data[0], b.held[0], header + (1 << 24), crc ^ 1);
    array_refused(context, &a, "CRC-32 is ");
    assert_in_range(largest, 1 << 24, (1 << 24) + 4096);
    put_held(&a, "\x07", 1, 144, 0);
    array_refused(context, &a, "byte 0 of it: deflated byte 1: invalid block type");
    put_held(&a, "", 0, 144, 0);
    array_refused(context, &a, "144 bytes deflated, which 0 bytes in the file cannot be");
    put_held(&a, "\3\0", 2, 144, 0);
    array_refused(context, &a, "byte 0 of it: its end, where 10 more bytes must follow");
    free(npy);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_numbers_are_refused_in_words),
        cmocka_unit_test(bytes_around_and_between_are_refused),
        cmocka_unit_test(overlapping_members_are_refused),
        cmocka_unit_test(what_deflate_holds_is_what_is_declared),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
