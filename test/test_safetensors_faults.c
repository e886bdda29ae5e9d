/* safetensors: system calls and memory may fail, a file may change meanwhile, and what is no tensor is not written. */
#include "io_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faults.h"

static const psg_file_access accesses[] = { PSG_FILE_COPY, PSG_FILE_MAP };

/* ---- failures ---- */

static const float some[6] = { 1, 2, 3, 4, 5, 6 };

static psg_status write_some(psg_context *context, const char *path) {
    const psg_named named[] = { { "b", psg_f32_2d(some, 2, 3) }, { "a", psg_f32_1d(some, 2) } };
    const psg_text_pair pair = { "key", "value" };
    return psg_safetensors_write(context, path, named, 2, &pair, 1);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    const char *path = io_path("memory");
    size_t live = allocator.live_bytes, open = io_descriptors();
    psg_status status = PSG_ERR_MEMORY;
    for (uint64_t n = 1; status; n++) {
        io_write(path, "old", 3);
        test_allocator_arm(&allocator, n, false);
        status = write_some(context, path);
        assert_int_equal(status, allocator.failed ? PSG_ERR_MEMORY : PSG_OK);
        assert_int_equal(allocator.live_bytes, live);
        assert_true(!status || io_holds(path, "old"));
    }
    for (int a = 0; a < 2; a++) {
        status = PSG_ERR_MEMORY;
        for (uint64_t n = 1; status; n++) {
            psg_tensors *set = (psg_tensors *)(uintptr_t)1;
            test_allocator_arm(&allocator, n, false);
            status = psg_safetensors_read(context, io_golden("halves"), accesses[a], &set);
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
    const char *path = io_path("calls");
    TEST_OK(context, write_some(context, path));
    size_t live = psg_context_live_bytes(context), open = io_descriptors();
    static const fault_call calls[] = { FAULT_OPEN, FAULT_FSTAT, FAULT_PREAD, FAULT_MMAP };
    int struck = 0;
    for (int k = 0; k < 8; k++) {
        fault_plan plan = { .call = calls[k / 2], .at = 1, .error = EIO };
        for (int hit = 1; hit; plan.at++) {
            psg_tensors *set = NULL;
            fault_arm(&plan);
            psg_status status = psg_safetensors_read(context, path, accesses[k % 2], &set);
            struck += hit = fault_disarm();
            assert_int_equal(status, hit ? PSG_ERR_FILE : PSG_OK);
            if (hit) assert_non_null(strstr(psg_context_message(context), strerror(EIO)));
            psg_tensors_destroy(set);
            assert_int_equal(psg_context_live_bytes(context), live);
            assert_int_equal(io_descriptors(), open);
        }
    }
    assert_int_equal(struck, 2 + 2 + (4 + 2) + 1);
    test_context_free(context);
}

static void calls_of_the_writer_may_fail(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("written");
    psg_status status = PSG_ERR_FILE;
    for (int at = 1; status; at++) {
        io_write(path, "old", 3);
        fault_arm(&(fault_plan){ .call = FAULT_WRITE, .at = at, .error = ENOSPC });
        status = write_some(context, path);
        assert_int_equal(status, fault_disarm() ? PSG_ERR_FILE : PSG_OK);
        assert_true(!status || io_holds(path, "old"));
        assert_true(!status || at <= 3);
        assert_false(io_exists(io_path("written.psg-tmp")));
    }
    test_context_free(context);
}

static void cut(void *user) { assert_int_equal(truncate(user, 20), 0); }

static void a_file_may_be_cut_meanwhile(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    char path[1024];
    snprintf(path, sizeof path, "%s", io_path("cut"));
    for (int at = 2; at <= 4; at++) {
        psg_tensors *set = NULL;
        TEST_OK(context, write_some(context, path));
        fault_arm(&(fault_plan){ .call = FAULT_PREAD, .at = at, .before = cut, .user = path });
        assert_int_equal(psg_safetensors_read(context, path, PSG_FILE_COPY, &set), PSG_ERR_FORMAT);
        assert_int_equal(fault_disarm(), 1);
        assert_null(set);
        assert_non_null(strstr(psg_context_message(context), "was cut while it was read"));
    }
    test_context_free(context);
}

/* ---- what is not written ---- */

static void not_written(psg_context *context, const psg_named *tensors, size_t count, const psg_text_pair *pairs,
                        size_t pair_count, psg_status expected, const char *words) {
    const char *path = io_path("kept");
    io_write(path, "old", 3);
    psg_status status = psg_safetensors_write(context, path, tensors, count, pairs, pair_count);
    if (status != expected || !strstr(psg_context_message(context), words)) {
        fail_msg("%s: %s: %s", words, psg_status_name(status), psg_context_message(context));
    }
    assert_true(io_holds(path, "old"));
    assert_false(io_exists(io_path("kept.psg-tmp")));
}

static void bad_names_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_tensor one = psg_f32_1d(some, 1);
    static const char *const broken[] = { "\x80", "a\xff", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                                          "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xc3", "\xe2\x82",
                                          "\xf0\x9f\x98", "\xc3(", "\xf0\x80\x80\x80" };
    for (size_t k = 0; k < sizeof broken / sizeof broken[0]; k++) {
        not_written(context, &(psg_named){ broken[k], one }, 1, NULL, 0, PSG_ERR_ARGUMENT, "is no UTF-8");
        not_written(context, NULL, 0, &(psg_text_pair){ broken[k], "" }, 1, PSG_ERR_ARGUMENT, "metadata key 0");
        not_written(context, NULL, 0, &(psg_text_pair){ "", broken[k] }, 1, PSG_ERR_ARGUMENT, "metadata value 0");
    }
    const psg_named twice[] = { { "a", one }, { "b", one }, { "a", one } };
    const psg_text_pair pairs[] = { { "k", "" }, { "l", "" }, { "k", "" } };
    not_written(context, twice, 3, NULL, 0, PSG_ERR_ARGUMENT, "name \"a\" is there twice");
    not_written(context, NULL, 0, pairs, 3, PSG_ERR_ARGUMENT, "metadata key \"k\" is there twice");
    not_written(context, &(psg_named){ NULL, one }, 1, NULL, 0, PSG_ERR_ARGUMENT, "name 0 is NULL");
    not_written(context, &(psg_named){ "__metadata__", one }, 1, NULL, 0, PSG_ERR_ARGUMENT, "name 0 is __metadata__");
    not_written(context, NULL, 0, &(psg_text_pair){ NULL, "" }, 1, PSG_ERR_ARGUMENT, "metadata key 0 is NULL");
    not_written(context, NULL, 0, &(psg_text_pair){ "", NULL }, 1, PSG_ERR_ARGUMENT, "metadata value 0 is NULL");
    not_written(context, NULL, 1, NULL, 0, PSG_ERR_ARGUMENT, "tensors is NULL");
    not_written(context, NULL, 0, NULL, 1, PSG_ERR_ARGUMENT, "metadata is NULL");
    not_written(context, twice, SIZE_MAX / 8 + 2, NULL, 0, PSG_ERR_MEMORY, "no memory");
    test_context_free(context);
}

static void bad_tensors_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const int64_t huge[] = { INT64_MAX / 8, 1 }, none[] = { 0, 0 };
    psg_named named = { "a", psg_f32_1d(NULL, 1) };
    not_written(context, &named, 1, NULL, 0, PSG_ERR_ARGUMENT, "tensor \"a\" is without data");
    named.tensor = psg_tensor_of((psg_dtype)9, (void *)(uintptr_t)some, 1, huge);
    not_written(context, &named, 1, NULL, 0, PSG_ERR_ARGUMENT, "is of dtype 9, must be one of psg_dtype");
    named.tensor = psg_tensor_of(PSG_F32, (void *)(uintptr_t)some, 9, huge);
    not_written(context, &named, 1, NULL, 0, PSG_ERR_ARGUMENT, "is of no shape");
    const psg_tensor much = psg_tensor_strided(PSG_F64, (void *)(uintptr_t)some, 2, huge, none);
    const psg_named more[] = { { "a", much }, { "b", much } };
    not_written(context, more, 2, NULL, 0, PSG_ERR_OVERFLOW, "more than 2^63 - 1 bytes");
    char *name = malloc((16 << 20) + 1);
    memset(name, 'n', 16 << 20);
    name[16 << 20] = 0;
    named = (psg_named){ name, psg_f32_1d(some, 1) };
    not_written(context, &named, 1, NULL, 0, PSG_ERR_ARGUMENT, "at most 16777216 may be");
    free(name);
    test_context_free(context);
}

static void arguments_are_checked(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tensors *set = (psg_tensors *)(uintptr_t)1;
    assert_int_equal(psg_safetensors_write(NULL, "a", NULL, 0, NULL, 0), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_safetensors_write(context, NULL, NULL, 0, NULL, 0), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_safetensors_read(NULL, "a", PSG_FILE_COPY, &set), PSG_ERR_ARGUMENT);
    assert_null(set);
    assert_int_equal(psg_safetensors_read(context, NULL, PSG_FILE_COPY, &set), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_safetensors_read(context, "a", PSG_FILE_COPY, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_safetensors_read(context, io_golden("types"), (psg_file_access)2, &set), PSG_ERR_ARGUMENT);
    assert_string_equal(psg_context_message(context), "psg_safetensors_read: access 2 is unknown");
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(calls_of_the_reader_may_fail),
        cmocka_unit_test(calls_of_the_writer_may_fail),
        cmocka_unit_test(a_file_may_be_cut_meanwhile),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(bad_tensors_are_refused),
        cmocka_unit_test(arguments_are_checked),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
