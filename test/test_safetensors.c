/* safetensors: what is written is read, and so are files of the reference implementation. */
#include "io_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/half.h"

static const psg_file_access accesses[] = { PSG_FILE_COPY, PSG_FILE_MAP };

static psg_tensors *read_set(psg_context *context, const char *path, psg_file_access access) {
    psg_tensors *set = NULL;
    TEST_OK(context, psg_safetensors_read(context, path, access, &set));
    assert_non_null(set);
    return set;
}

static const psg_tensor *find(const psg_tensors *set, const char *name) {
    const psg_tensor *tensor = psg_tensors_find(set, name);
    if (!tensor) fail_msg("%s: not found", name);
    assert_true(psg_tensor_is_contiguous(tensor));
    return tensor;
}

/* ---- round trips ---- */

enum { SHAPES = 10, LAYOUTS = 5, TENSORS = 4 * SHAPES * LAYOUTS };

static const struct shape {
    int rank;
    int64_t shape[PSG_MAX_RANK];
} shapes[SHAPES] = {
    { 0, { 0 } },
    { 1, { 0 } },
    { 1, { 1 } },
    { 1, { 7 } },
    { 2, { 3, 5 } },
    { 3, { 2, 0, 3 } },
    { 3, { 1, 4, 1 } },
    { 8, { 1, 2, 1, 2, 1, 2, 1, 3 } },
    { 1, { 20011 } },            /* more than the 64 KiB that are gathered at a time */
    { 3, { 1, 3, 7001 } },
};

static test_array drawn(test_random *random, psg_dtype dtype, const struct shape *shape, int layout) {
    test_array array = test_array_new(random, dtype, shape->rank, shape->shape, layout);
    if (dtype == PSG_I32 || dtype == PSG_I64) test_fill_integers(random, &array.view, -1000000, 1000000);
    else test_fill_normal(random, &array.view, 1e10);
    return array;
}

static void all_types_shapes_and_strides_come_back(void **state) {
    (void)state;
    static const int layouts[LAYOUTS] = { TEST_CONTIGUOUS, TEST_PERMUTED, TEST_PADDED, TEST_NEGATIVE, TEST_ANY };
    psg_context *context = test_context(1, NULL);
    test_random random = { 1 };
    static test_array arrays[TENSORS];
    static psg_named named[TENSORS];
    static char names[TENSORS][16];
    for (int k = 0; k < TENSORS; k++) {
        arrays[k] = drawn(&random, (psg_dtype)(k % 4), &shapes[k / 4 % SHAPES], layouts[k / (4 * SHAPES)]);
        snprintf(names[k], sizeof names[k], "t%d", k * 7919 % 1000);
        named[k] = (psg_named){ names[k], arrays[k].view };
    }
    const char *path = io_path("all");
    TEST_OK(context, psg_safetensors_write(context, path, named, TENSORS, NULL, 0));
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, path, accesses[a]);
        assert_int_equal(psg_tensors_count(set), TENSORS);
        for (int k = 0; k < TENSORS; k++) assert_true(test_same_bits(find(set, names[k]), &arrays[k].view));
        for (int k = 1; k < TENSORS; k++) {
            assert_true(strcmp(psg_tensors_list(set)[k - 1].name, psg_tensors_list(set)[k].name) < 0);
        }
        psg_tensors_destroy(set);
    }
    for (int k = 0; k < TENSORS; k++) test_array_free(&arrays[k]);
    test_context_free(context);
}

static void a_repeated_dimension_is_written_out(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    float value = 2.5f;
    psg_named named = { "same", psg_tensor_strided(PSG_F32, &value, 2, (int64_t[]){ 200, 300 }, (int64_t[]){ 0, 0 }) };
    TEST_OK(context, psg_safetensors_write(context, io_path("same"), &named, 1, NULL, 0));
    psg_tensors *set = read_set(context, io_path("same"), PSG_FILE_COPY);
    for (int64_t k = 0; k < 60000; k++) assert_true(((float *)find(set, "same")->data)[k] == value);
    psg_tensors_destroy(set);
    test_context_free(context);
}

static void the_header_is_padded(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    char name[12] = "";
    for (size_t length = 0; length < 10; length++) {
        psg_named named = { name, psg_f32_1d((float[]){ 1, 2 }, 2) };
        TEST_OK(context, psg_safetensors_write(context, io_path("padded"), &named, 1, NULL, 0));
        size_t count;
        unsigned char *bytes = io_read(io_path("padded"), &count);
        assert_int_equal(bytes[0] % 8, 0);
        assert_int_equal(count, 8 + bytes[0] + 8);
        assert_in_range(bytes[8 + bytes[0] - 1], ' ', '}');
        free(bytes);
        name[length] = 'x';
    }
    test_context_free(context);
}

static void metadata_comes_back(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_text_pair pairs[] = {
        { "z", "" },  { "", "empty key" }, { "é", "ü\n\t\"\\/\x01\x1f\x7f" }, { "😀", "\xf4\x8f\xbf\xbf" },
        { "a", "1" },
    };
    const psg_named named = { "__metadata", psg_f32_1d(NULL, 0) };
    for (size_t count = 0; count < 2; count++) {
        TEST_OK(context, psg_safetensors_write(context, io_path("meta"), &named, count, pairs, 5));
        psg_tensors *set = read_set(context, io_path("meta"), PSG_FILE_MAP);
        assert_int_equal(psg_tensors_count(set), count);
        for (int k = 0; k < 5; k++) assert_string_equal(psg_tensors_metadata(set, pairs[k].key), pairs[k].value);
        assert_null(psg_tensors_metadata(set, "b"));
        assert_null(psg_tensors_metadata(set, NULL));
        assert_null(psg_tensors_find(set, "absent"));
        assert_null(psg_tensors_find(set, NULL));
        psg_tensors_destroy(set);
    }
    psg_tensors_destroy(NULL);
    test_context_free(context);
}

/* ---- files of the reference implementation ---- */

static void counts_up(const psg_tensors *set, const char *name, psg_dtype dtype, int rank, const int64_t *shape) {
    const psg_tensor *tensor = find(set, name);
    assert_int_equal(tensor->dtype, dtype);
    assert_int_equal(tensor->rank, rank);
    for (int d = 0; d < rank; d++) assert_int_equal(tensor->shape[d], shape[d]);
    for (int64_t k = 0; k < psg_tensor_count(tensor); k++) assert_true(test_get_at(tensor, k) == (double)(k - 2));
}

static void golden_files_are_read(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, io_golden("types"), accesses[a]);
        assert_int_equal(psg_tensors_count(set), 5);
        counts_up(set, "z.f32", PSG_F32, 2, (int64_t[]){ 2, 3 });
        counts_up(set, "a.f64", PSG_F64, 1, (int64_t[]){ 3 });
        counts_up(set, "b.i32", PSG_I32, 3, (int64_t[]){ 1, 1, 5 });
        counts_up(set, "c.i64", PSG_I64, 2, (int64_t[]){ 4, 2 });
        counts_up(set, "a.f32", PSG_F32, 1, (int64_t[]){ 7 });
        assert_string_equal(psg_tensors_metadata(set, "format"), "pt");
        psg_tensors_destroy(set);
        set = read_set(context, io_golden("shapes"), accesses[a]);
        counts_up(set, "scalar", PSG_F32, 0, NULL);
        counts_up(set, "none", PSG_F32, 1, (int64_t[]){ 0 });
        counts_up(set, "rows", PSG_I64, 3, (int64_t[]){ 3, 0, 2 });
        psg_tensors_destroy(set);
        set = read_set(context, io_golden("texts"), accesses[a]);
        counts_up(set, "gewicht \"ß\" \\ \n\t\x01 😀", PSG_F32, 1, (int64_t[]){ 2 });
        assert_string_equal(psg_tensors_metadata(set, "schlüssel \"1\"\r\b\f\x1f"), "värde / 值 😀");
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

static void golden_halves_are_widened(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const float half[] = { 0, -0.f, 1, -2.5f, 65504, 0x1p-14f, 0x1p-24f, -0x1p-24f * 1023, INFINITY, -INFINITY };
    const float brain[] = { 0, -0.f, 1, -2.5f, 65536, 0x1p-14f, 0x1p-24f, -0x1p-14f, INFINITY, -INFINITY };
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, io_golden("halves"), accesses[a]);
        const psg_tensor *halves = find(set, "half"), *brains = find(set, "brain");
        assert_int_equal(halves->dtype, PSG_F32);
        assert_int_equal(brains->dtype, PSG_F32);
        assert_int_equal(halves->shape[0], 11);
        assert_memory_equal(halves->data, half, sizeof half);
        assert_memory_equal(brains->data, brain, sizeof brain);
        assert_true(isnan(((float *)halves->data)[10]) && isnan(((float *)brains->data)[10]));
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

/* Each at its ends; BOOL's are 0 and 1. */
static void narrow_integers_are_widened(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const struct {
        const char *name, *bytes;
        int size;
        psg_dtype dtype;
        double values[3];
    } cases[] = {
        { "BOOL", "\0\1\1", 1, PSG_I32, { 0, 1, 1 } },
        { "U8", "\0\x7f\xff", 1, PSG_I32, { 0, 127, 255 } },
        { "I8", "\x80\xff\x7f", 1, PSG_I32, { -128, -1, 127 } },
        { "U16", "\0\0\1\2\xff\xff", 2, PSG_I32, { 0, 513, 65535 } },
        { "I16", "\0\x80\xfe\xff\1\2", 2, PSG_I32, { -32768, -2, 513 } },
        { "U32", "\0\0\0\0\1\2\0\0\xff\xff\xff\xff", 4, PSG_I64, { 0, 513, 4294967295.0 } },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char file[128] = { 0 };
        const int bytes = 3 * cases[k].size;
        const int header = sprintf(file + 8, "{\"a\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%d]}}",
                                   cases[k].name, bytes);
        file[0] = (char)header;
        memcpy(file + 8 + header, cases[k].bytes, (size_t)bytes);
        io_write(io_path("narrow"), file, (size_t)(8 + header + bytes));
        for (int a = 0; a < 2; a++) {
            psg_tensors *set = read_set(context, io_path("narrow"), accesses[a]);
            assert_int_equal(find(set, "a")->dtype, cases[k].dtype);
            for (int i = 0; i < 3; i++) assert_true(test_get_at(find(set, "a"), i) == cases[k].values[i]);
            psg_tensors_destroy(set);
        }
        if (k) continue;
        psg_tensors *set;
        file[8 + header + 1] = 2;
        io_write(io_path("narrow"), file, (size_t)(8 + header + bytes));
        assert_int_equal(psg_safetensors_read(context, io_path("narrow"), PSG_FILE_COPY, &set), PSG_ERR_FORMAT);
        assert_non_null(strstr(psg_context_message(context), "a truth value is 2, only 0 and 1 may be"));
    }
    test_context_free(context);
}

/* The value of a real of so many bits of exponent and fraction, by its definition. */
static double value_of(unsigned bits, int exponent_bits, int fraction_bits) {
    int bias = (1 << (exponent_bits - 1)) - 1, exponent = (int)(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    double sign = bits >> 15 ? -1 : 1, fraction = (double)(bits & ((1u << fraction_bits) - 1));
    if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp(1 + ldexp(fraction, -fraction_bits), exponent - bias);
}

static void same_value(float actual, double expected) {
    if (isnan(expected) ? !isnan(actual) : (double)actual != expected || !signbit(actual) != !signbit(expected)) {
        fail_msg("%a is no %a", (double)actual, expected);
    }
}

/* More of them than a cache line, one tensor after the other. */
static void many_halves_are_widened(void **state) {
    (void)state;
    enum { HALVES = 1000 };
    static const char header[] = "{\"a\":{\"dtype\":\"F16\",\"shape\":[1000],\"data_offsets\":[0,2000]},"
                                 "\"b\":{\"dtype\":\"BF16\",\"shape\":[10,100],\"data_offsets\":[2000,4000]}}";
    static unsigned char bytes[8 + sizeof header - 1 + 4 * HALVES];
    psg_context *context = test_context(1, NULL);
    bytes[0] = sizeof header - 1;
    memcpy(bytes + 8, header, sizeof header - 1);
    for (unsigned k = 0; k < 2 * HALVES; k++) {
        memcpy(bytes + 8 + sizeof header - 1 + 2 * k, &(uint16_t){ (uint16_t)(k % HALVES * 31) }, 2);
    }
    io_write(io_path("many"), bytes, sizeof bytes);
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, io_path("many"), accesses[a]);
        const float *half = find(set, "a")->data, *brain = find(set, "b")->data;
        for (unsigned k = 0; k < HALVES; k++) {
            same_value(half[k], value_of(k * 31, 5, 10));
            same_value(brain[k], value_of(k * 31, 8, 7));
        }
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

/* Tensors in its order, the same texts and padding: the bytes of the reference. */
static void golden_files_are_written_again(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const char *const names[] = { "types", "shapes", "texts", "names", "empty" };
    static const char *const keys[] = { "format", "schlüssel \"1\"\r\b\f\x1f" };
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        psg_tensors *set = read_set(context, io_golden(names[k]), PSG_FILE_COPY);
        psg_text_pair pair = { NULL, NULL };
        for (int i = 0; i < 2 && !pair.value; i++) {
            pair = (psg_text_pair){ keys[i], psg_tensors_metadata(set, keys[i]) };
        }
        const char *path = io_path("again");
        psg_named reversed[6];
        size_t count = psg_tensors_count(set);
        for (size_t i = 0; i < count; i++) reversed[i] = psg_tensors_list(set)[count - 1 - i];
        TEST_OK(context, psg_safetensors_write(context, path, reversed, count, &pair, pair.value != NULL));
        size_t counts[2];
        unsigned char *expected = io_read(io_golden(names[k]), &counts[0]), *actual = io_read(path, &counts[1]);
        assert_int_equal(counts[0], counts[1]);
        assert_memory_equal(actual, expected, counts[0]);
        free(expected);
        free(actual);
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

static void all_halves_are_exact(void **state) {
    (void)state;
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        same_value(psg_f32_of_f16((uint16_t)bits), value_of(bits, 5, 10));
        same_value(psg_f32_of_bf16((uint16_t)bits), value_of(bits, 8, 7));
    }
}

/* ---- memory ---- */

static bool is_mapped(const char *path) {
    char line[2048];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) found |= strstr(line, path) != NULL;
    if (maps) fclose(maps);
    return found;
}

static void a_map_is_a_view_of_its_own(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("mapped");
    float *values = calloc(1 << 20, sizeof *values);
    psg_named named = { "w", psg_f32_1d(values, 1 << 20) };
    TEST_OK(context, psg_safetensors_write(context, path, &named, 1, NULL, 0));
    size_t live = psg_context_live_bytes(context), open = io_descriptors();
    psg_tensors *set = read_set(context, path, PSG_FILE_MAP), *other = read_set(context, path, PSG_FILE_MAP);
    assert_true(psg_context_live_bytes(context) < live + (1 << 19));
    assert_int_equal(io_descriptors(), open);
    float *mapped = find(set, "w")->data;
    for (int k = 0; k < 1 << 20; k++) mapped[k] = 3;
    assert_true(((float *)find(other, "w")->data)[1000] == 0);
    psg_tensors_destroy(other);
    /* Written over the file that it is a view of. */
    TEST_OK(context, psg_safetensors_write(context, path, psg_tensors_list(set), 1, NULL, 0));
    assert_true(mapped[77] == 3);
    other = read_set(context, path, PSG_FILE_MAP);
    assert_memory_equal(find(other, "w")->data, mapped, sizeof *values << 20);
    unlink(path);
    assert_true(mapped[(1 << 20) - 1] == 3);
    assert_true(is_mapped(path));
    psg_tensors_destroy(set);
    psg_tensors_destroy(other);
    assert_false(is_mapped(path));
    assert_int_equal(psg_context_live_bytes(context), live);
    free(values);
    test_context_free(context);
}

static void unaligned_tensors_are_copied(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (size_t spaces = 0; spaces < 8; spaces++) {
        char bytes[256] = { 0 };
        const double values[] = { 1.5, -2.5 };
        const float last = 7;
        int length = snprintf(bytes + 8, sizeof bytes - 8,
                              "{\"d\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]},"
                              "\"f\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]}}%.*s",
                              (int)spaces, "       ");
        bytes[0] = (char)length;
        memcpy(bytes + 8 + length, values, 16);
        memcpy(bytes + 24 + length, &last, 4);
        io_write(io_path("unaligned"), bytes, (size_t)length + 28);
        psg_tensors *set = read_set(context, io_path("unaligned"), PSG_FILE_MAP);
        assert_int_equal((uintptr_t)find(set, "d")->data % sizeof(double), 0);
        assert_int_equal((uintptr_t)find(set, "f")->data % sizeof(float), 0);
        assert_memory_equal(find(set, "d")->data, values, 16);
        assert_true(*(float *)find(set, "f")->data == last);
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_types_shapes_and_strides_come_back),
        cmocka_unit_test(a_repeated_dimension_is_written_out),
        cmocka_unit_test(the_header_is_padded),
        cmocka_unit_test(metadata_comes_back),
        cmocka_unit_test(golden_files_are_read),
        cmocka_unit_test(golden_halves_are_widened),
        cmocka_unit_test(narrow_integers_are_widened),
        cmocka_unit_test(golden_files_are_written_again),
        cmocka_unit_test(all_halves_are_exact),
        cmocka_unit_test(many_halves_are_widened),
        cmocka_unit_test(a_map_is_a_view_of_its_own),
        cmocka_unit_test(unaligned_tensors_are_copied),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
