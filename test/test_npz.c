/* npz: what is written is read, numpy's archives are read, values can be mapped, memory follows what is declared. */
#include "io_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array_files.h"
#include "io/zip.h"
#include "io/zip_write.h"

static const psg_file_access accesses[] = { PSG_FILE_COPY, PSG_FILE_MAP };

static psg_tensors *read_set(psg_context *context, const char *path, psg_file_access access) {
    psg_tensors *set = NULL;
    TEST_OK(context, psg_npz_read(context, path, access, 0, &set));
    for (size_t k = 1; k < psg_tensors_count(set); k++) {
        assert_true(strcmp(psg_tensors_list(set)[k - 1].name, psg_tensors_list(set)[k].name) < 0);
    }
    return set;
}

static const psg_tensor *find(const psg_tensors *set, const char *name) {
    const psg_tensor *tensor = psg_tensors_find(set, name);
    if (!tensor) fail_msg("%s: not found", name);
    assert_true(psg_tensor_is_contiguous(tensor));
    return tensor;
}

/* ---- numpy's archives ---- */

static void counts_up(const psg_tensors *set, const char *name, psg_dtype dtype, int rank, const int64_t *shape,
                      double first) {
    const psg_tensor *t = find(set, name);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->rank, rank);
    for (int d = 0; d < rank; d++) assert_int_equal(t->shape[d], shape[d]);
    for (int64_t k = 0; k < psg_tensor_count(t); k++) assert_true(test_get_at(t, k) == first + (double)k);
}

static void all_types_are_read(void **state) {
    (void)state;
    static const struct { const char *name; psg_dtype dtype; double first; } types[] = {
        { "f4", PSG_F32, -2 }, { "f8", PSG_F64, -2 }, { "f2", PSG_F32, -2 }, { "i4", PSG_I32, -2 },
        { "i8", PSG_I64, -2 }, { "i1", PSG_I32, -2 }, { "u1", PSG_I32, 0 },  { "i2", PSG_I32, -2 },
        { "u2", PSG_I32, 0 },  { "u4", PSG_I64, 0 },
    };
    static const int32_t truth[] = { 1, 0, 0, 1, 1, 1 };
    psg_context *context = test_context(1, NULL);
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, io_golden_array("types.npz"), accesses[a]);
        assert_int_equal(psg_tensors_count(set), 11);
        for (size_t k = 0; k < 10; k++) {
            counts_up(set, types[k].name, types[k].dtype, 2, (int64_t[]){ 3, 2 }, types[k].first);
        }
        assert_int_equal(find(set, "b1")->dtype, PSG_I32);
        assert_memory_equal(find(set, "b1")->data, truth, sizeof truth);
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

static void deflated_members_are_read(void **state) {
    (void)state;
    static const struct { const char *name; psg_dtype dtype; int64_t least, most; } ends[] = {
        { "i1.ends", PSG_I32, INT8_MIN, INT8_MAX },   { "u1.ends", PSG_I32, 0, UINT8_MAX },
        { "i2.ends", PSG_I32, INT16_MIN, INT16_MAX }, { "u2.ends", PSG_I32, 0, UINT16_MAX },
        { "i4.ends", PSG_I32, INT32_MIN, INT32_MAX }, { "u4.ends", PSG_I64, 0, UINT32_MAX },
        { "i8.ends", PSG_I64, INT64_MIN, INT64_MAX },
    };
    psg_context *context = test_context(1, NULL);
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, io_golden_array("packed.npz"), accesses[a]);
        assert_int_equal(psg_tensors_count(set), 9);
        for (size_t k = 0; k < 7; k++) {
            const psg_tensor *t = find(set, ends[k].name);
            assert_int_equal(t->dtype, ends[k].dtype);
            const int64_t least = t->dtype == PSG_I32 ? *(int32_t *)t->data : *(int64_t *)t->data;
            const int64_t most = t->dtype == PSG_I32 ? ((int32_t *)t->data)[1] : ((int64_t *)t->data)[1];
            assert_true(least == ends[k].least && most == ends[k].most);
        }
        counts_up(set, "f4", PSG_F32, 2, (int64_t[]){ 3, 2 }, -2);
        for (int64_t k = 0; k < 5000; k++) assert_true(test_get_at(find(set, "long"), k) == 0);
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

static void names_and_streams_and_nothing(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, io_golden_array("names.npz"), accesses[a]);
        assert_int_equal(psg_tensors_count(set), 4);
        counts_up(set, "é/ä", PSG_F32, 1, (int64_t[]){ 2 }, -2);
        counts_up(set, "", PSG_F32, 1, (int64_t[]){ 3 }, -2);
        counts_up(set, "a", PSG_F32, 1, (int64_t[]){ 4 }, -2);
        counts_up(set, "a b", PSG_F32, 1, (int64_t[]){ 1 }, -2);
        assert_null(psg_tensors_find(set, "a.npy"));
        psg_tensors_destroy(set);
        set = read_set(context, io_golden_array("stream.npz"), accesses[a]);
        counts_up(set, "a", PSG_F32, 1, (int64_t[]){ 2 }, -2);
        counts_up(set, "b", PSG_F64, 1, (int64_t[]){ 3 }, -2);
        psg_tensors_destroy(set);
        set = read_set(context, io_golden_array("none.npz"), accesses[a]);
        assert_int_equal(psg_tensors_count(set), 0);
        psg_tensors_destroy(set);
    }
    test_context_free(context);
}

static void nothing_is_written_as_numpy_does(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    size_t counts[2];
    TEST_OK(context, psg_npz_write(context, io_path("none.npz"), NULL, 0));
    unsigned char *expected = io_read(io_golden_array("none.npz"), &counts[0]);
    unsigned char *actual = io_read(io_path("none.npz"), &counts[1]);
    assert_int_equal(counts[0], counts[1]);
    assert_memory_equal(actual, expected, counts[0]);
    free(expected);
    free(actual);
    test_context_free(context);
}

/* ---- round trips ---- */

enum { TENSORS = 40 };

static test_array drawn(test_random *random, int k) {
    static const int64_t shapes[5][3] = { { 3, 5, 2 }, { 0, 3, 1 }, { 1, 1, 1 }, { 1, 3, 7001 }, { 7, 1, 4 } };
    static const int layouts[] = { TEST_CONTIGUOUS, TEST_PERMUTED, TEST_NEGATIVE, TEST_ANY };
    const psg_dtype dtype = (psg_dtype)(k % 4);
    test_array array = test_array_new(random, dtype, 3 - k % 3, shapes[k % 5], layouts[k / 5 % 4]);
    if (dtype == PSG_I32 || dtype == PSG_I64) test_fill_integers(random, &array.view, -1000000, 1000000);
    else test_fill_normal(random, &array.view, 1e10);
    return array;
}

static void what_is_written_is_read_aligned(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static test_array arrays[TENSORS];
    static psg_named named[TENSORS];
    static char names[TENSORS][16];
    test_random random = { 5 };
    for (int k = 0; k < TENSORS; k++) {
        arrays[k] = drawn(&random, k);
        memset(names[k], 'a' + k % 7, (size_t)(1 + k / 7));
        named[k] = (psg_named){ names[k], arrays[k].view };
    }
    const char *path = io_path("round.npz"), *again = io_path("again.npz");
    TEST_OK(context, psg_npz_write(context, path, named, TENSORS));
    for (int a = 0; a < 2; a++) {
        psg_tensors *set = read_set(context, path, accesses[a]);
        assert_int_equal(psg_tensors_count(set), TENSORS);
        for (int k = 0; k < TENSORS; k++) {
            assert_true(test_same_bits(find(set, names[k]), &arrays[k].view));
            assert_int_equal((uintptr_t)find(set, names[k])->data % 64, 0);
        }
        psg_tensors_destroy(set);
    }
    size_t counts[2];
    TEST_OK(context, psg_npz_write(context, again, named, TENSORS));
    unsigned char *first = io_read(path, &counts[0]), *second = io_read(again, &counts[1]);
    assert_int_equal(counts[0], counts[1]);
    assert_memory_equal(first, second, counts[0]);
    free(first);
    free(second);
    for (int k = 0; k < TENSORS; k++) test_array_free(&arrays[k]);
    test_context_free(context);
}

static void weights_are_taken_from_it(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    float values[6] = { 1, 2, 3, 4, 5, 6 }, loaded[6] = { 0 };
    const psg_named named = { "w", psg_f32_2d(values, 2, 3) };
    psg_named wanted = { "w", psg_tensor_strided(PSG_F32, loaded, 2, (int64_t[]){ 2, 3 }, (int64_t[]){ 1, 2 }) };
    TEST_OK(context, psg_npz_write(context, io_path("w.npz"), &named, 1));
    psg_tensors *set = read_set(context, io_path("w.npz"), PSG_FILE_COPY);
    TEST_OK(context, psg_weights_take(context, set, &wanted, 1, PSG_LOAD_STRICT, NULL));
    psg_tensors_destroy(set);
    assert_memory_equal(loaded, ((float[]){ 1, 4, 2, 5, 3, 6 }), sizeof loaded);
    test_context_free(context);
}

/* ---- 64 bits ---- */

static void large_numbers_stand_in_extra_fields(void **state) {
    (void)state;
    const uint64_t size = (uint64_t)5 << 32, place = ((uint64_t)1 << 32) + 7;
    const psg_zip_stored member = { "a", 5, place, size, 0x12345678 }, last = { "a", 5, 0xFFFFFFFF, 0xFFFFFFFE, 0 };
    unsigned char record[PSG_ZIP_MOST_RECORD];
    size_t before, count = psg_zip_local_put(&member, record, &before);
    assert_int_equal(before, PSG_ZIP_LOCAL_BYTES);
    assert_int_equal((place + count + 5) % 64, 0);
    assert_int_equal(psg_zip_get16(record + 28), count - before);
    assert_true(psg_zip_get64(record + 18) == UINT64_MAX && psg_zip_get16(record + 4) == 45);
    assert_true(psg_zip_get32(record + 30) == (16 << 16 | 1));
    assert_true(psg_zip_get64(record + 34) == size && psg_zip_get64(record + 42) == size);
    count = psg_zip_central_put(&member, record, &before);
    assert_int_equal(before, PSG_ZIP_CENTRAL_BYTES);
    assert_int_equal(count, before + 28);
    assert_true(psg_zip_get64(record + 20) == UINT64_MAX && psg_zip_get32(record + 42) == UINT32_MAX);
    assert_true(psg_zip_get64(record + 50) == size && psg_zip_get64(record + 66) == place);
    count = psg_zip_central_put(&last, record, &before);
    assert_int_equal(count, before + 12);
    assert_true(psg_zip_get32(record + 20) == 0xFFFFFFFE && psg_zip_get64(record + 50) == 0xFFFFFFFF);
    assert_int_equal(psg_zip_end_put(0xFFFE, 5, 0xFFFFFFFE, record), PSG_ZIP_END_BYTES);
    assert_int_equal(psg_zip_end_put(0xFFFF, 0, 5, record), 98);
    assert_int_equal(psg_zip_end_put(1, place, place + 9, record), 98);
    assert_true(psg_zip_get64(record + 40) == 9 && psg_zip_get64(record + 48) == place);
    assert_true(psg_zip_get64(record + 64) == place + 9);
    assert_true(psg_zip_get32(record + 76 + 12) == 9 && psg_zip_get32(record + 76 + 16) == UINT32_MAX);
}

/* More members than 16 bits count: the end of 64 bits is written and read. */
static void many_members_come_back(void **state) {
    (void)state;
    enum { MANY = 65540 };
    psg_context *context = test_context(1, NULL);
    psg_named *named = malloc(MANY * sizeof *named);
    char (*names)[8] = malloc(MANY * sizeof *names);
    for (unsigned k = 0; k < MANY; k++) {
        snprintf(names[k], sizeof names[k], "%05u", k);
        named[k] = (psg_named){ names[k], psg_f32_1d(NULL, 0) };
    }
    TEST_OK(context, psg_npz_write(context, io_path("many.npz"), named, MANY));
    psg_tensors *set = read_set(context, io_path("many.npz"), PSG_FILE_MAP);
    assert_int_equal(psg_tensors_count(set), MANY);
    assert_non_null(psg_tensors_find(set, "65539"));
    psg_tensors_destroy(set);
    free(named);
    free(names);
    test_context_free(context);
}

/* ---- memory ---- */

typedef struct peak {
    size_t live, most;
} peak;

static void *allocate(void *user, size_t bytes) {
    peak *p = user;
    p->live += bytes;
    if (p->live > p->most) p->most = p->live;
    return malloc(bytes);
}

static void release(void *user, void *memory, size_t bytes) {
    ((peak *)user)->live -= bytes;
    free(memory);
}

/* zlib's memory comes from the allocator too: what the set takes and a megabyte is all. */
static void memory_follows_the_values(void **state) {
    (void)state;
    enum { ROWS = 1000, COLUMNS = 1000 };
    static array_archive archive;
    peak p = { 0, 0 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context = NULL;
    options.threads = 1;
    options.allocator = (psg_allocator){ allocate, release, &p };
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    unsigned char *file = calloc(1, 128 + 4 * ROWS * COLUMNS);
    const size_t count = array_npy("{'descr': '<i4', 'fortran_order': True, 'shape': (1000, 1000), }", NULL, 0, file);
    array_begin(&archive);
    array_add(&archive, "zeros.npy", file, count + 4 * ROWS * COLUMNS, 8);
    array_end(&archive);
    assert_true(archive.count < 5000);
    io_write(io_path("zeros.npz"), archive.bytes, archive.count);
    const size_t live = p.most = p.live;
    psg_tensors *set = read_set(context, io_path("zeros.npz"), PSG_FILE_MAP);
    assert_in_range(p.most - live, 4 * ROWS * COLUMNS, 4 * ROWS * COLUMNS + (1 << 20));
    psg_tensors_destroy(set);
    p.most = p.live;
    assert_int_equal(psg_npz_read(context, io_path("zeros.npz"), PSG_FILE_COPY, 4 * ROWS * COLUMNS - 1, &set),
                     PSG_ERR_FORMAT);
    assert_null(set);
    assert_non_null(strstr(psg_context_message(context), "tensor \"zeros\": with it there are 4000000 bytes of values "
                                                         "to copy, at most 3999999 may be"));
    assert_true(p.most - live < 1 << 19);
    TEST_OK(context, psg_npz_read(context, io_path("zeros.npz"), PSG_FILE_COPY, 4 * ROWS * COLUMNS, &set));
    psg_tensors_destroy(set);
    assert_int_equal(p.live, live);
    free(file);
    psg_context_destroy(context);
}

/* The caller's limit is of values, whatever room they stand in. */
static void a_limit_is_exact(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const float values[] = { 1, 2 };
    const psg_named both[] = { { "a", psg_f32_1d(values, 1) }, { "b", psg_f32_1d(values, 2) } };
    psg_tensors *set;
    TEST_OK(context, psg_npz_write(context, io_path("small.npz"), both, 2));
    TEST_OK(context, psg_npz_read(context, io_path("small.npz"), PSG_FILE_COPY, 12, &set));
    psg_tensors_destroy(set);
    assert_int_equal(psg_npz_read(context, io_path("small.npz"), PSG_FILE_COPY, 11, &set), PSG_ERR_FORMAT);
    assert_non_null(strstr(psg_context_message(context), "\"b\": with it there are 12 bytes of values to copy, at most 11"));
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_is_exact),
        cmocka_unit_test(all_types_are_read),
        cmocka_unit_test(deflated_members_are_read),
        cmocka_unit_test(names_and_streams_and_nothing),
        cmocka_unit_test(nothing_is_written_as_numpy_does),
        cmocka_unit_test(what_is_written_is_read_aligned),
        cmocka_unit_test(weights_are_taken_from_it),
        cmocka_unit_test(large_numbers_stand_in_extra_fields),
        cmocka_unit_test(many_members_come_back),
        cmocka_unit_test(memory_follows_the_values),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
