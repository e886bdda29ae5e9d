/* npy: what is written is read, and numpy's files are read and written again to the same bytes. */
#include "io_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "array_files.h"

static const psg_file_access accesses[] = { PSG_FILE_COPY, PSG_FILE_MAP };

static psg_tensors *read_set(psg_context *context, const char *path, psg_file_access access) {
    psg_tensors *set = NULL;
    TEST_OK(context, psg_npy_read(context, path, access, &set));
    assert_int_equal(psg_tensors_count(set), 1);
    assert_string_equal(psg_tensors_list(set)->name, "");
    assert_true(psg_tensor_is_contiguous(psg_tensors_find(set, "")));
    assert_null(psg_tensors_metadata(set, ""));
    return set;
}

/* ---- round trips ---- */

enum { SHAPES = 9, LAYOUTS = 5 };

static const struct shape {
    int rank;
    int64_t shape[PSG_MAX_RANK];
} shapes[SHAPES] = {
    { 0, { 0 } },       { 1, { 0 } },       { 1, { 7 } },
    { 2, { 3, 5 } },    { 3, { 2, 0, 3 } }, { 3, { 1, 4, 1 } },
    { 8, { 1, 2, 1, 2, 1, 2, 1, 3 } },
    { 1, { 20011 } },   /* more than the 64 KiB that are gathered at a time */
    { 3, { 1, 3, 7001 } },
};

static void all_types_shapes_and_strides_come_back(void **state) {
    (void)state;
    static const int layouts[LAYOUTS] = { TEST_CONTIGUOUS, TEST_PERMUTED, TEST_PADDED, TEST_NEGATIVE, TEST_ANY };
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("round.npy");
    test_random random = { 3 };
    for (int k = 0; k < 4 * SHAPES * LAYOUTS; k++) {
        const struct shape *shape = &shapes[k / 4 % SHAPES];
        const psg_dtype dtype = (psg_dtype)(k % 4);
        test_array array = test_array_new(&random, dtype, shape->rank, shape->shape, layouts[k / (4 * SHAPES)]);
        if (dtype == PSG_I32 || dtype == PSG_I64) test_fill_integers(&random, &array.view, -1000000, 1000000);
        else test_fill_normal(&random, &array.view, 1e10);
        TEST_OK(context, psg_npy_write(context, path, &array.view));
        for (int a = 0; a < 2; a++) {
            psg_tensors *set = read_set(context, path, accesses[a]);
            assert_true(test_same_bits(psg_tensors_find(set, ""), &array.view));
            psg_tensors_destroy(set);
        }
        test_array_free(&array);
    }
    test_context_free(context);
}

/* ---- numpy's files ---- */

static const struct golden {
    const char *name;
    psg_dtype dtype;
    int rank;
    int64_t shape[PSG_MAX_RANK];
    bool is_written_again;         /* row-major, version 1, of a type that is written */
} golden[] = {
    { "matrix.npy", PSG_F32, 2, { 2, 3 }, true },
    { "scalar.npy", PSG_F64, 0, { 0 }, true },
    { "row.npy", PSG_I64, 1, { 17 }, true },
    { "empty.npy", PSG_I32, 2, { 0, 3 }, true },
    { "deep.npy", PSG_F64, 8, { 1, 2, 1, 2, 1, 2, 1, 1 }, true },
    { "fortran.npy", PSG_I32, 3, { 2, 3, 4 }, false },
    { "version2.npy", PSG_F32, 1, { 5 }, false },
    { "version3.npy", PSG_F32, 1, { 5 }, false },
};
enum { GOLDEN = sizeof golden / sizeof golden[0] };

static void golden_files_are_read_and_written_again(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < 2 * GOLDEN; k++) {
        const struct golden *g = &golden[k / 2];
        psg_tensors *set = read_set(context, io_golden_array(g->name), accesses[k % 2]);
        const psg_tensor *t = psg_tensors_find(set, "");
        assert_int_equal(t->dtype, g->dtype);
        assert_int_equal(t->rank, g->rank);
        for (int d = 0; d < g->rank; d++) assert_int_equal(t->shape[d], g->shape[d]);
        for (int64_t i = 0; i < psg_tensor_count(t); i++) assert_true(test_get_at(t, i) == (double)(i - 2));
        if (g->is_written_again) {
            size_t counts[2];
            TEST_OK(context, psg_npy_write(context, io_path("again.npy"), t));
            unsigned char *expected = io_read(io_golden_array(g->name), &counts[0]);
            unsigned char *actual = io_read(io_path("again.npy"), &counts[1]);
            assert_int_equal(counts[0], counts[1]);
            assert_memory_equal(actual, expected, counts[0]);
            free(expected);
            free(actual);
        }
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

static void golden_halves_are_widened(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const float half[] = { 0, -0.f, 1, -2.5f, 65504, 0x1p-14f, 0x1p-24f, -0x1p-24f * 1023, INFINITY, -INFINITY };
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, io_golden_array("half.npy"), accesses[a]);
        const psg_tensor *t = psg_tensors_find(set, "");
        assert_int_equal(t->dtype, PSG_F32);
        assert_int_equal(t->shape[0], 11);
        assert_memory_equal(t->data, half, sizeof half);
        assert_true(isnan(((float *)t->data)[10]));
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

/* Fortran order of more elements than go through the stage at a time, widened and not. */
static void long_arrays_are_turned(void **state) {
    (void)state;
    enum { ROWS = 300, COLUMNS = 70 };
    static unsigned char file[128 + 4 * ROWS * COLUMNS];
    static uint32_t values[ROWS * COLUMNS];
    static uint16_t small[ROWS * COLUMNS];
    psg_context *context = test_context(1, NULL);
    for (uint32_t i = 0; i < ROWS * COLUMNS; i++) {
        values[i] = 4000000000u + i;
        small[i] = (uint16_t)(40000 + i);
    }
    for (int narrow = 0; narrow < 2; narrow++) {
        static const char *const headers[] = { "{'descr':'<u4','fortran_order':True,'shape':(300,70)}",
                                               "{'descr':'<u2','fortran_order':True,'shape':(300,70)}" };
        io_write(io_path("turned.npy"), file, narrow ? array_npy(headers[1], small, sizeof small, file)
                                                     : array_npy(headers[0], values, sizeof values, file));
        psg_tensors *set = read_set(context, io_path("turned.npy"), PSG_FILE_COPY);
        const psg_tensor *t = psg_tensors_find(set, "");
        for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
            const int64_t in_file = i % COLUMNS * ROWS + i / COLUMNS;
            assert_true(test_get_at(t, i) == (narrow ? small[in_file] : values[in_file]));
        }
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

/* ---- memory ---- */

static void values_are_mapped_where_they_can_be(void **state) {
    (void)state;
    enum { COUNT = 1 << 18 };
    psg_context *context = test_context(1, NULL);
    static unsigned char file[128 + 4 * COUNT];
    static const char *const headers[] = { "{'descr': '<f4', 'fortran_order': False, 'shape': (512, 512)}",
                                           "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 262144, 1)}",
                                           "{'descr': '<f4', 'fortran_order': True, 'shape': (262144,)}" };
    for (int k = 0; k < 3; k++) {
        const char *path = io_path("mapped.npy");
        io_write(path, file, array_npy(headers[k], file + 128, 4 * COUNT, file));
        const size_t live = psg_context_live_bytes(context);
        psg_tensors *set = read_set(context, path, PSG_FILE_MAP);
        assert_in_range(psg_context_live_bytes(context), live, live + (1 << 17));
        float *mapped = psg_tensors_find(set, "")->data;
        assert_int_equal((uintptr_t)mapped % 64, 0);
        mapped[7] = 1;
        psg_tensors_destroy(set);
        set = read_set(context, path, PSG_FILE_MAP);
        assert_true(((float *)psg_tensors_find(set, "")->data)[7] == 0);
        psg_tensors_destroy(set);
        assert_int_equal(psg_context_live_bytes(context), live);
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_types_shapes_and_strides_come_back),
        cmocka_unit_test(golden_files_are_read_and_written_again),
        cmocka_unit_test(golden_halves_are_widened),
        cmocka_unit_test(long_arrays_are_turned),
        cmocka_unit_test(values_are_mapped_where_they_can_be),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
