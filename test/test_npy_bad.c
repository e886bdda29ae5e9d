/* npy files that no writer wrote: each is refused in words, and nothing is half read. */
#include "io_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array_files.h"

static const psg_file_access accesses[] = { PSG_FILE_COPY, PSG_FILE_MAP };

static bool read_or_refuse(psg_context *context, const char *path, psg_file_access access) {
    psg_tensors *set = (psg_tensors *)(uintptr_t)1;
    const size_t live = psg_context_live_bytes(context);
    psg_status status = psg_npy_read(context, path, access, &set);
    if (status) {
        assert_int_equal(status, PSG_ERR_FORMAT);
        assert_null(set);
        assert_non_null(strstr(psg_context_message(context), path));
    } else {
        const psg_tensor *t = psg_tensors_find(set, "");
        volatile double sum = 0;
        for (int64_t i = 0; i < psg_tensor_count(t); i++) sum += test_get_at(t, i);
    }
    psg_tensors_destroy(set);
    assert_int_equal(psg_context_live_bytes(context), live);
    return status == PSG_OK;
}

#define NPY(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape "}"

static const struct wrong {
    const char *dictionary;
    int value_bytes;
    const char *words;
} wrong[] = {
    /* types */
    { NPY("'>f4'", "False", "(1,)"), 4, "byte 20: descr '>f4': big-endian numbers are not read" },
    { NPY("'>i2'", "False", "(1,)"), 2, "descr '>i2': big-endian" },
    { NPY("'<u8'", "False", "(1,)"), 8, "descr '<u8': of unsigned integers u1, u2 and u4 are read" },
    { NPY("'=f4'", "False", "(1,)"), 4, "descr '=f4': '=' is the order of a machine that the file does not name" },
    { NPY("'|O'", "False", "(1,)"), 8, "descr '|O': Python objects are never read" },
    { NPY("'|S4'", "False", "(1,)"), 4, "descr '|S4': byte strings are no numbers" },
    { NPY("'<U1'", "False", "(1,)"), 4, "descr '<U1': texts are no numbers" },
    { NPY("'<c8'", "False", "(1,)"), 8, "descr '<c8': complex numbers are not read" },
    { NPY("'<f16'", "False", "(1,)"), 16, "descr '<f16': of reals f2, f4 and f8 are read" },
    { NPY("'<M8[s]'", "False", "(1,)"), 8, "descr '<M8[s]': dates are not read" },
    { NPY("'|V4'", "False", "(1,)"), 4, "descr '|V4': raw or structured records" },
    { NPY("[('a', '<f4')]", "False", "(1,)"), 4, "descr is a list: structured types are not read" },
    { NPY("'|f4'", "False", "(1,)"), 4, "descr '|f4': numbers of more than one byte begin with '<'" },
    { NPY("'f4'", "False", "(1,)"), 4, "descr 'f4': it does not begin with '<' or '|'" },
    { NPY("'<f4 '", "False", "(1,)"), 4, "descr '<f4 ': of reals" },
    { NPY("''", "False", "(1,)"), 4, "descr '': it does not begin" },
    { NPY("'<x4'", "False", "(1,)"), 4, "descr '<x4': it is none of numpy's" },
    { NPY("4", "False", "(1,)"), 4, "byte 20: descr is no text in quotes" },
    { "{'descr': '<f4", 4, "byte 20: descr: its text has a backslash or no end" },
    { NPY("'<f\\x34'", "False", "(1,)"), 4, "descr: its text has a backslash or no end" },
    { NPY("'<f4444444444444444444444444444444444444444444444444444444444444444'", "False", "()"), 4, "fewer than 64" },
    /* order */
    { NPY("'<f4'", "0", "(1,)"), 4, "byte 44: fortran_order is not True or False" },
    { NPY("'<f4'", "'False'", "(1,)"), 4, "fortran_order is not True or False" },
    { NPY("'<f4'", "Falsey", "(1,)"), 4, "',' or '}' must stand after a value" },
    /* shapes */
    { NPY("'<f4'", "False", "1"), 4, "header: '(' must stand before the sizes" },
    { NPY("'<f4'", "False", "[1]"), 4, "header: '(' must stand before the sizes" },
    { NPY("'<f4'", "False", "(1)"), 4, "one number in parentheses is no tuple" },
    { NPY("'<f4'", "False", "(-1,)"), 4, "byte 61: shape[0] is no integer, 0 or above" },
    { NPY("'<f4'", "False", "(1, +1)"), 4, "shape[1] is no integer" },
    { NPY("'<f4'", "False", "(1, 01)"), 4, "shape[1] begins with 0" },
    { NPY("'<f4'", "False", "(1.0,)"), 4, "',' or ')' must stand after a size" },
    { NPY("'<f4'", "False", "(1LL,)"), 4, "',' or ')' must stand after a size" },
    { NPY("'<f4'", "False", "(1 1)"), 4, "',' or ')' must stand after a size" },
    { NPY("'<f4'", "False", "(,)"), 4, "shape[0] is no integer" },
    { NPY("'<f4'", "False", "(1,,1)"), 4, "shape[1] is no integer" },
    { NPY("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), 4, "shape has more than 8 sizes" },
    { NPY("'<f4'", "False", "(9223372036854775808,)"), 4, "shape[0] has 19 digits, 9223372036854775808..., at most" },
    { NPY("'<f4'", "False", "(4611686018427387904,)"), 0, "shape (4611686018427387904) is too large" },
    { NPY("'<f4'", "False", "(4294967296,4294967296)"), 0, "is too large" },
    { NPY("'<f8'", "False", "(4611686018427387905,4)"), 32, "is too large" },
    { NPY("'<f4'", "False", "(0,9223372036854775807)"), 0, "is too large" },
    { NPY("'|i1'", "False", "(4611686018427387904,)"), 0, "is too large" },
    { NPY("'<f4'", "False", "(2,)"), 4, "byte 128: 4 bytes of values, <f4 of shape (2) has 8" },
    { NPY("'<f4'", "False", "()"), 0, "0 bytes of values, <f4 of shape () has 4" },
    { NPY("'<f4'", "False", "(1,)"), 7, "byte 132: 3 bytes after the last value" },
    { NPY("'<f4'", "True", "(0,)"), 1, "byte 128: 1 bytes after the last value" },
    { NPY("'<f8'", "False", "(1152921504606846975,)"), 0, "0 bytes of values" },
    /* the dictionary */
    { "", 0, "byte 64: header: '{' must stand first" },
    { "{", 0, "header: a key is no text in quotes" },
    { "{}", 0, "byte 12: header: it has no descr" },
    { "{'descr':'<f4'}", 4, "it has no fortran_order" },
    { "{'descr':'<f4','fortran_order':True}", 4, "it has no shape" },
    { "{'descr':'<f4','descr':'<f4','fortran_order':True,'shape':()}", 4, "header: 'descr' is there twice" },
    { "{'descr':'<f4','fortran_order':True,'shape':(),'x':1}", 4, "'x' is none of descr, fortran_order and shape" },
    { "{'descr' '<f4','fortran_order':True,'shape':()}", 4, "header: ':' must stand after a key" },
    { "{'descr':'<f4' 'fortran_order':True,'shape':()}", 4, "',' or '}' must stand after a value" },
    { "{,'descr':'<f4','fortran_order':True,'shape':()}", 4, "a key is no text in quotes" },
    { NPY("'<f4'", "False", "(1,)") "x", 4, "only spaces and a last newline may follow" },
    { NPY("'<f4'", "False", "(1,)") "\n", 4, "only spaces and a last newline may follow" },
    { NPY("'<f4'", "False", "(1,)") " {}", 4, "only spaces and a last newline may follow" },
    { "__import__('os')", 0, "'{' must stand first" },
};

static void refused(psg_context *context, const char *path, const char *words) {
    for (int a = 0; a < 2; a++) {
        if (read_or_refuse(context, path, accesses[a]) || !strstr(psg_context_message(context), words)) {
            fail_msg("expected \"%s\": %s", words, psg_context_message(context));
        }
    }
}

static void wrong_headers_are_refused_in_words(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const char values[64];
    unsigned char file[512];
    const size_t open = io_descriptors();
    for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
        const size_t count = array_npy(wrong[k].dictionary, values, (size_t)wrong[k].value_bytes, file);
        io_write(io_path("wrong.npy"), file, count);
        refused(context, io_path("wrong.npy"), wrong[k].words);
    }
    assert_int_equal(io_descriptors(), open);
    test_context_free(context);
}

static void wrong_beginnings_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    unsigned char file[512];
    const char *path = io_path("begin.npy");
    const size_t count = array_npy(NPY("'|b1'", "False", "(3,)"), "\0\1\2", 3, file);
    io_write(path, file, count);
    refused(context, path, "byte 130: a truth value is 2, only 0 and 1 may be");
    static const struct { size_t at; unsigned char value; const char *words; } changes[] = {
        { 0, 0x92, "byte 0: does not begin with \"\\x93NUMPY\"" }, { 5, 'y', "does not begin" },
        { 6, 0, "byte 6: version 0.0, only 1.0, 2.0 and 3.0 are read" }, { 6, 4, "version 4.0" },
        { 7, 1, "version 1.1" }, { 6, 2, "byte 8: header of 662372470 bytes, at most 65535 may be" },
        { 9, 1, "byte 8: header of 374 bytes where 121 follow" }, { 8, 117, "only spaces and a last newline" },
    };
    for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++) {
        unsigned char old = file[changes[k].at];
        file[changes[k].at] = changes[k].value;
        io_write(path, file, count);
        refused(context, path, changes[k].words);
        file[changes[k].at] = old;
    }
    io_write(path, file, 9);
    refused(context, path, "byte 9: its end, where a header takes 10 bytes and more");
    io_write(path, "\x93NUMPY\2\0\0\0", 11);
    refused(context, path, "byte 11: its end, where 1 more bytes must follow");
    test_context_free(context);
}

/* As other writers have it. */
static void unusual_headers_are_read(void **state) {
    (void)state;
    static const char *const unusual[] = {
        "{\"shape\":(2,),\"fortran_order\":True,\"descr\":\"<f4\",}",
        "{ 'shape' :\n(2 , 1 ,) , 'descr':\t'<f4','fortran_order':False }",
        "{'fortran_order': True, 'shape': (1, 2), 'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 2L)}",
    };
    psg_context *context = test_context(1, NULL);
    unsigned char file[512];
    for (size_t k = 0; k < sizeof unusual / sizeof unusual[0]; k++) {
        io_write(io_path("unusual.npy"), file, array_npy(unusual[k], (float[]){ 1.5f, -2 }, 8, file));
        psg_tensors *set = NULL;
        TEST_OK(context, psg_npy_read(context, io_path("unusual.npy"), accesses[k % 2], &set));
        const float *values = psg_tensors_find(set, "")->data;
        assert_true(values[0] == 1.5f && values[1] == -2);
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

static void every_truncation_and_any_flipped_bit(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const char *const golden[] = { "matrix.npy", "scalar.npy", "row.npy", "empty.npy", "deep.npy", "fortran.npy",
                                          "half.npy", "version2.npy", "version3.npy" };
    for (size_t k = 0; k < sizeof golden / sizeof golden[0]; k++) {
        const char *path = io_path("damaged.npy");
        size_t count, refusals = 0;
        unsigned char *bytes = io_read(io_golden_array(golden[k]), &count);
        for (size_t length = 0; length <= count + 1; length++) {
            io_write(path, bytes, length);
            assert_int_equal(read_or_refuse(context, path, accesses[length % 2]), length == count);
        }
        io_write(path, bytes, count);
        int descriptor = open(path, O_WRONLY);
        for (size_t bit = 0; bit < 8 * count; bit++) {
            unsigned char flipped = bytes[bit / 8] ^ (unsigned char)(1 << bit % 8);
            assert_int_equal(pwrite(descriptor, &flipped, 1, (off_t)(bit / 8)), 1);
            bool is_read = read_or_refuse(context, path, accesses[bit / 8 % 2]);
            assert_true(!is_read || bit / 8 == 6 || bit >= 8 * 10);   /* version 2 reads as 3 does */
            refusals += !is_read;
            assert_int_equal(pwrite(descriptor, &bytes[bit / 8], 1, (off_t)(bit / 8)), 1);
        }
        close(descriptor);
        free(bytes);
        assert_true(refusals >= 8 * 100);   /* of the header, its padding included */
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_headers_are_refused_in_words),
        cmocka_unit_test(wrong_beginnings_are_refused),
        cmocka_unit_test(unusual_headers_are_read),
        cmocka_unit_test(every_truncation_and_any_flipped_bit),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
