/* npy and npz: system calls and memory may fail, a file may change meanwhile, and what is no tensor is not written. */
#include "io_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faults.h"

static const psg_file_access accesses[] = { PSG_FILE_COPY, PSG_FILE_MAP };
static const float some[6] = { 1, 2, 3, 4, 5, 6 };

/* ---- both formats alike ---- */

typedef enum format { NPY, NPZ, FORMATS } format;

static psg_status write_some(psg_context *context, format format, const char *path) {
    const psg_tensor view = psg_tensor_strided(PSG_F32, (void *)(uintptr_t)some, 2, (int64_t[]){ 3, 2 },
                                               (int64_t[]){ 1, 3 });
    const psg_named named[] = { { "b", view }, { "a", psg_f32_1d(some, 2) } };
    return format == NPY ? psg_npy_write(context, path, &view) : psg_npz_write(context, path, named, 2);
}

static psg_status read_some(psg_context *context, format format, const char *path, psg_file_access access,
                            psg_tensors **set) {
    if (format == NPY) return psg_npy_read(context, path, access, set);
    return psg_npz_read(context, path, access, 0, set);
}

/* ---- failures ---- */

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const char *const files[] = { "fortran.npy", "packed.npz" };
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    const size_t live = allocator.live_bytes, open = io_descriptors();
    for (int k = 0; k < 2 * FORMATS; k++) {
        const format format = k / 2;
        psg_status status = PSG_ERR_MEMORY;
        for (uint64_t n = 1; status; n++) {
            const char *path = io_path("memory");
            io_write(path, "old", 3);
            test_allocator_arm(&allocator, n, false);
            status = write_some(context, format, path);
            assert_int_equal(status, allocator.failed ? PSG_ERR_MEMORY : PSG_OK);
            assert_int_equal(allocator.live_bytes, live);
            assert_true(!status || io_holds(path, "old"));
        }
        status = PSG_ERR_MEMORY;
        for (uint64_t n = 1; status; n++) {
            psg_tensors *set = (psg_tensors *)(uintptr_t)1;
            test_allocator_arm(&allocator, n, false);
            status = read_some(context, format, io_golden_array(files[format]), accesses[k % 2], &set);
            assert_int_equal(status, allocator.failed ? PSG_ERR_MEMORY : PSG_OK);
            assert_true(!set == (status != PSG_OK));
            psg_tensors_destroy(set);
            assert_int_equal(allocator.live_bytes, live);
        }
    }
    test_allocator_arm(&allocator, 0, false);
    assert_int_equal(io_descriptors(), open);
    test_context_free(context);
}

static void calls_of_the_reader_may_fail(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const fault_call calls[] = { FAULT_OPEN, FAULT_FSTAT, FAULT_PREAD, FAULT_MMAP };
    for (int k = 0; k < 8 * FORMATS; k++) {
        const format format = k / 8;
        const char *path = io_path("calls");
        TEST_OK(context, write_some(context, format, path));
        const size_t live = psg_context_live_bytes(context), open = io_descriptors();
        fault_plan plan = { .call = calls[k % 8 / 2], .at = 1, .error = EIO };
        int struck = 0;
        for (int hit = 1; hit; plan.at++) {
            psg_tensors *set = NULL;
            fault_arm(&plan);
            psg_status status = read_some(context, format, path, accesses[k % 2], &set);
            struck += hit = fault_disarm();
            assert_int_equal(status, hit ? PSG_ERR_FILE : PSG_OK);
            if (hit) assert_non_null(strstr(psg_context_message(context), strerror(EIO)));
            psg_tensors_destroy(set);
            assert_int_equal(psg_context_live_bytes(context), live);
            assert_int_equal(io_descriptors(), open);
        }
        assert_true(struck >= (calls[k % 8 / 2] == FAULT_MMAP ? k % 2 : 1));
    }
    test_context_free(context);
}

static void calls_of_the_writer_may_fail(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const fault_call calls[] = { FAULT_WRITE, FAULT_FSYNC, FAULT_RENAME };
    for (int k = 0; k < 3 * FORMATS; k++) {
        psg_status status = PSG_ERR_FILE;
        for (int at = 1; status && at < 40; at++) {
            const char *path = io_path("written");
            io_write(path, "old", 3);
            fault_arm(&(fault_plan){ .call = calls[k % 3], .at = at, .error = ENOSPC });
            status = write_some(context, k / 3, path);
            assert_int_equal(status, fault_disarm() ? PSG_ERR_FILE : PSG_OK);
            if (calls[k % 3] != FAULT_FSYNC || at == 1) assert_true(!status || io_holds(path, "old"));
            assert_false(io_exists(io_path("written.psg-tmp")));
        }
        assert_int_equal(status, PSG_OK);
    }
    test_context_free(context);
}

static void cut(void *user) { assert_int_equal(truncate(user, 3), 0); }

static void a_file_may_be_cut_meanwhile(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    char path[1024];
    snprintf(path, sizeof path, "%s", io_path("cut"));
    for (int k = 0; k < FORMATS; k++) {
        psg_status status = PSG_ERR_FORMAT;
        for (int at = 1; status; at++) {
            psg_tensors *set = NULL;
            TEST_OK(context, write_some(context, k, path));
            fault_arm(&(fault_plan){ .call = FAULT_PREAD, .at = at, .before = cut, .user = path });
            status = read_some(context, k, path, PSG_FILE_COPY, &set);
            assert_int_equal(status, fault_disarm() ? PSG_ERR_FORMAT : PSG_OK);
            assert_true(!set == (status != PSG_OK));
            if (status) assert_non_null(strstr(psg_context_message(context), "was cut while it was read"));
            psg_tensors_destroy(set);
        }
    }
    test_context_free(context);
}

/* ---- what is not written ---- */

static void not_written(psg_context *context, const psg_named *tensors, size_t count, psg_status expected,
                        const char *words) {
    const char *path = io_path("kept");
    io_write(path, "old", 3);
    psg_status status = psg_npz_write(context, path, tensors, count);
    if (status != expected || !strstr(psg_context_message(context), words)) {
        fail_msg("%s: %s: %s", words, psg_status_name(status), psg_context_message(context));
    }
    assert_true(io_holds(path, "old"));
    assert_false(io_exists(io_path("kept.psg-tmp")));
}

static void bad_names_and_tensors_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_tensor one = psg_f32_1d(some, 1), bad = psg_f32_1d(NULL, 1);
    const psg_named twice[] = { { "a", one }, { "b", one }, { "a", one } };
    char *name = calloc(1, 65533);
    not_written(context, twice, 3, PSG_ERR_ARGUMENT, "name \"a\" is there twice");
    not_written(context, &(psg_named){ NULL, one }, 1, PSG_ERR_ARGUMENT, "name 0 is NULL");
    not_written(context, &(psg_named){ "a\xff", one }, 1, PSG_ERR_ARGUMENT, "is no UTF-8");
    memset(name, 'n', 65532);
    not_written(context, &(psg_named){ name, one }, 1, PSG_ERR_ARGUMENT, "has 65532 bytes, at most 65531 may be");
    name[65531] = 0;
    psg_tensors *set = NULL;
    TEST_OK(context, psg_npz_write(context, io_path("long"), &(psg_named){ name, one }, 1));
    TEST_OK(context, psg_npz_read(context, io_path("long"), PSG_FILE_MAP, 0, &set));
    assert_non_null(psg_tensors_find(set, name));
    psg_tensors_destroy(set);
    free(name);
    not_written(context, &(psg_named){ "a", bad }, 1, PSG_ERR_ARGUMENT, "tensor \"a\" is without data");
    not_written(context, NULL, 1, PSG_ERR_ARGUMENT, "tensors is NULL");
    not_written(context, twice, SIZE_MAX / 8, PSG_ERR_MEMORY, "no memory");
    assert_int_equal(psg_npy_write(context, io_path("kept"), &bad), PSG_ERR_ARGUMENT);
    assert_string_equal(psg_context_message(context), "psg_npy_write: tensor is without data");
    assert_true(io_holds(io_path("kept"), "old"));
    test_context_free(context);
}

static void arguments_are_checked(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tensors *set = (psg_tensors *)(uintptr_t)1;
    const psg_tensor one = psg_f32_1d(some, 1);
    const char *path = io_golden_array("matrix.npy");
    assert_int_equal(psg_npy_write(NULL, "a", &one), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_npy_write(context, NULL, &one), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_npy_write(context, "a", NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_npz_write(NULL, "a", NULL, 0), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_npz_write(context, NULL, NULL, 0), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_npy_read(NULL, path, PSG_FILE_COPY, &set), PSG_ERR_ARGUMENT);
    assert_null(set);
    assert_int_equal(psg_npy_read(context, NULL, PSG_FILE_COPY, &set), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_npy_read(context, path, PSG_FILE_COPY, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_npy_read(context, path, (psg_file_access)2, &set), PSG_ERR_ARGUMENT);
    assert_string_equal(psg_context_message(context), "psg_npy_read: access 2 is unknown");
    assert_int_equal(psg_npz_read(context, path, PSG_FILE_COPY, -1, &set), PSG_ERR_ARGUMENT);
    assert_string_equal(psg_context_message(context), "psg_npz_read: max_bytes -1 is negative");
    assert_int_equal(psg_npz_read(context, io_path("absent"), PSG_FILE_COPY, 0, &set), PSG_ERR_FILE);
    assert_int_equal(psg_npy_read(context, io_path("."), PSG_FILE_COPY, &set), PSG_ERR_FILE);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(calls_of_the_reader_may_fail),
        cmocka_unit_test(calls_of_the_writer_may_fail),
        cmocka_unit_test(a_file_may_be_cut_meanwhile),
        cmocka_unit_test(bad_names_and_tensors_are_refused),
        cmocka_unit_test(arguments_are_checked),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
