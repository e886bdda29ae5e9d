/* Weights by name: strict and partial, what the report says, and that an error writes nothing. */
#include "io_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a file and what is wanted of it ---- */

static float f32_values[6] = { 1, 2, 3, 4, 5, 6 };
static double f64_values[3] = { 0.1, 0.2, 0.3 };
static int32_t i32_values[2] = { -1, 7 };
static int64_t i64_values[2] = { INT64_MIN, INT64_MAX };

static const char *write_model(psg_context *context) {
    const char *path = io_path("model");
    const psg_named tensors[] = {
        { "layer.weight", psg_f32_2d(f32_values, 2, 3) },
        { "layer.bias", psg_tensor_of(PSG_F64, f64_values, 1, (int64_t[]){ 3 }) },
        { "steps", psg_tensor_of(PSG_I32, i32_values, 1, (int64_t[]){ 2 }) },
        { "ids", psg_i64_1d(i64_values, 2) },
        { "scale", psg_tensor_of(PSG_F32, f32_values + 3, 0, NULL) },
    };
    TEST_OK(context, psg_safetensors_write(context, path, tensors, 5, NULL, 0));
    return path;
}

enum { WEIGHTS = 5 };

typedef struct wanted {
    test_array arrays[WEIGHTS];
    psg_named named[WEIGHTS];
} wanted;

static const struct { const char *name; psg_dtype dtype; int rank; int64_t shape[2]; } fitting[WEIGHTS] = {
    { "scale", PSG_F32, 0, { 0 } },      { "ids", PSG_I64, 1, { 2 } },   { "layer.weight", PSG_F32, 2, { 2, 3 } },
    { "layer.bias", PSG_F64, 1, { 3 } }, { "steps", PSG_I32, 1, { 2 } },
};

static wanted want(int layout) {
    static test_random random = { 3 };
    wanted w;
    for (int k = 0; k < WEIGHTS; k++) {
        w.arrays[k] = test_array_new(&random, fitting[k].dtype, fitting[k].rank, fitting[k].shape, layout);
        w.named[k] = (psg_named){ fitting[k].name, w.arrays[k].view };
    }
    return w;
}

static void end(wanted *w) {
    for (int k = 0; k < WEIGHTS; k++) test_array_free(&w->arrays[k]);
}

static void holds_the_model(const wanted *w) {
    assert_true(test_get_at(&w->arrays[0].view, 0) == 4);
    assert_true(test_get_at(&w->arrays[1].view, 0) == (double)INT64_MIN);
    for (int k = 0; k < 6; k++) assert_true(test_get_at(&w->arrays[2].view, k) == k + 1);
    for (int k = 0; k < 3; k++) assert_true(test_get_at(&w->arrays[3].view, k) == f64_values[k]);
    assert_true(test_get_at(&w->arrays[4].view, 1) == 7);
}

static void check_report(const psg_load_report *report, size_t loaded, size_t missing, size_t extra,
                         size_t mismatched) {
    assert_int_equal(report->loaded, loaded);
    assert_int_equal(report->missing, missing);
    assert_int_equal(report->extra, extra);
    assert_int_equal(report->mismatched, mismatched);
}

/* ---- loading ---- */

static void weights_of_any_strides_are_filled(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = write_model(context);
    static const int layouts[] = { TEST_CONTIGUOUS, TEST_PERMUTED, TEST_PADDED, TEST_NEGATIVE };
    for (int k = 0; k < 4; k++) {
        for (psg_load_mode mode = PSG_LOAD_STRICT; mode <= PSG_LOAD_PARTIAL; mode++) {
            wanted w = want(layouts[k]);
            psg_load_report report = { .loaded = 99, .missing = 99, .text_needed = 99 };
            TEST_OK(context, psg_weights_load(context, path, w.named, WEIGHTS, mode, &report));
            check_report(&report, WEIGHTS, 0, 0, 0);
            assert_int_equal(report.text_needed, 0);
            holds_the_model(&w);
            end(&w);
        }
    }
    test_context_free(context);
}

static void sets_that_were_read_serve_too(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tensors *set;
    TEST_OK(context, psg_safetensors_read(context, write_model(context), PSG_FILE_MAP, &set));
    wanted w = want(TEST_ANY);
    TEST_OK(context, psg_weights_take(context, set, w.named, WEIGHTS, PSG_LOAD_STRICT, NULL));
    holds_the_model(&w);
    assert_int_equal(psg_weights_take(context, set, w.named, 1, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    assert_non_null(strstr(psg_context_message(context), io_path("model")));
    end(&w);
    psg_tensors_destroy(set);
    test_context_free(context);
}

static void f32_is_widened(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 5 };
    psg_tensors *set;
    TEST_OK(context, psg_safetensors_read(context, io_golden("halves"), PSG_FILE_COPY, &set));
    test_array half = test_array_new(&random, PSG_F64, 1, (int64_t[]){ 11 }, TEST_NEGATIVE);
    psg_named named = { "half", half.view };
    TEST_OK(context, psg_weights_take(context, set, &named, 1, PSG_LOAD_PARTIAL, NULL));
    for (int64_t k = 0; k < 10; k++) {
        assert_true(test_get_at(&half.view, k) == test_get_at(psg_tensors_find(set, "half"), k));
    }
    psg_tensors_destroy(set);
    test_array_free(&half);
    test_array rows = test_array_new(&random, PSG_F64, 2, (int64_t[]){ 2, 3 }, TEST_PERMUTED);
    test_array scale = test_array_new(&random, PSG_F64, 0, NULL, TEST_CONTIGUOUS);
    const psg_named both[] = { { "scale", scale.view }, { "layer.weight", rows.view } };
    psg_load_report report = { 0 };
    TEST_OK(context, psg_weights_load(context, write_model(context), both, 2, PSG_LOAD_PARTIAL, &report));
    check_report(&report, 2, 0, 3, 0);
    for (int k = 0; k < 6; k++) assert_true(test_get_at(&rows.view, k) == k + 1);
    assert_true(test_get_at(&scale.view, 0) == 4);
    test_array_free(&rows);
    test_array_free(&scale);
    const int64_t shape[] = { 3, 1, 4, 5 };
    test_array stored = test_array_new(&random, PSG_F32, 4, shape, TEST_CONTIGUOUS);
    test_fill_normal(&random, &stored.view, 1);
    const psg_named held = { "w", stored.view };
    TEST_OK(context, psg_safetensors_write(context, io_path("wide"), &held, 1, NULL, 0));
    for (int layout = TEST_CONTIGUOUS; layout <= TEST_NEGATIVE; layout++) {   /* dimensions that merge and that do not */
        test_array wide = test_array_new(&random, PSG_F64, 4, shape, layout);
        const psg_named wanted = { "w", wide.view };
        TEST_OK(context, psg_weights_load(context, io_path("wide"), &wanted, 1, PSG_LOAD_STRICT, NULL));
        for (int64_t k = 0; k < 60; k++) assert_true(test_get_at(&wide.view, k) == test_get_at(&stored.view, k));
        test_array_free(&wide);
    }
    test_array_free(&stored);
    test_context_free(context);
}

/* ---- what does not agree ---- */

/* Weight 2 is called otherwise, 3 is f32, 4 has another shape. */
static wanted want_others(void) {
    wanted w = want(TEST_CONTIGUOUS);
    test_random random = { 9 };
    w.named[2].name = "layer.kernel";
    test_array_free(&w.arrays[3]);
    test_array_free(&w.arrays[4]);
    w.arrays[3] = test_array_new(&random, PSG_F32, 1, (int64_t[]){ 3 }, TEST_CONTIGUOUS);
    w.arrays[4] = test_array_new(&random, PSG_I32, 2, (int64_t[]){ 1, 2 }, TEST_CONTIGUOUS);
    w.named[3].tensor = w.arrays[3].view;
    w.named[4].tensor = w.arrays[4].view;
    return w;
}

static const char text_of_others[] =
    "mismatched layer.bias: wanted f32 (3), the file has f64 (3)\n"
    "missing layer.kernel: wanted f32 (2, 3)\n"
    "extra layer.weight: the file has f32 (2, 3)\n"
    "mismatched steps: wanted i32 (1, 2), the file has i32 (2)\n";

static void strict_writes_nothing_where_names_disagree(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    wanted w = want_others();
    void *before[WEIGHTS];
    for (int k = 0; k < WEIGHTS; k++) before[k] = test_array_snapshot(&w.arrays[k]);
    char text[512], message[1024];
    psg_load_report report = { .text = text, .text_size = sizeof text };
    const char *path = write_model(context);
    assert_int_equal(psg_weights_load(context, path, w.named, WEIGHTS, PSG_LOAD_STRICT, &report), PSG_ERR_FORMAT);
    check_report(&report, 0, 1, 1, 2);
    assert_string_equal(text, text_of_others);
    snprintf(message, sizeof message, "psg_weights_load: %s: 1 missing, 1 extra, 2 mismatched; the first: "
             "mismatched layer.bias: wanted f32 (3), the file has f64 (3)", path);
    assert_string_equal(psg_context_message(context), message);
    for (int k = 0; k < WEIGHTS; k++) {
        assert_true(test_array_unchanged(&w.arrays[k], before[k]));
        free(before[k]);
    }
    end(&w);
    test_context_free(context);
}

static void partial_loads_what_agrees(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    wanted w = want_others();
    void *before[WEIGHTS];
    for (int k = 0; k < WEIGHTS; k++) before[k] = test_array_snapshot(&w.arrays[k]);
    char text[512];
    psg_load_report report = { .text = text, .text_size = sizeof text };
    TEST_OK(context, psg_weights_load(context, write_model(context), w.named, WEIGHTS, PSG_LOAD_PARTIAL, &report));
    check_report(&report, 2, 1, 1, 2);
    assert_string_equal(text, text_of_others);
    assert_true(test_get_at(&w.arrays[0].view, 0) == 4);
    assert_true(test_get_at(&w.arrays[1].view, 1) == (double)INT64_MAX);
    for (int k = 0; k < WEIGHTS; k++) {
        assert_true(k < 2 || test_array_unchanged(&w.arrays[k], before[k]));
        free(before[k]);
    }
    end(&w);
    test_context_free(context);
}

static void each_kind_alone_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    wanted w = want(TEST_CONTIGUOUS);
    const char *path = write_model(context);
    const psg_named kept = w.named[3];
    w.named[3].name = "layer.biases";
    assert_int_equal(psg_weights_load(context, path, w.named, WEIGHTS, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    assert_int_equal(psg_weights_load(context, path, w.named, 3, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    assert_int_equal(psg_weights_load(context, path, NULL, 0, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    assert_non_null(strstr(psg_context_message(context), "0 missing, 5 extra, 0 mismatched; the first: extra ids: "));
    TEST_OK(context, psg_weights_load(context, path, NULL, 0, PSG_LOAD_PARTIAL, NULL));
    w.named[3] = kept;
    w.named[3].tensor.shape[0] = 2;
    assert_int_equal(psg_weights_load(context, path, w.named, WEIGHTS, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    w.named[3].tensor.rank = 0;
    assert_int_equal(psg_weights_load(context, path, w.named, WEIGHTS, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    assert_non_null(strstr(psg_context_message(context), "0 missing, 0 extra, 1 mismatched"));
    TEST_OK(context, psg_safetensors_write(context, io_path("none"), NULL, 0, NULL, 0));
    assert_int_equal(psg_weights_load(context, io_path("none"), &kept, 1, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    assert_non_null(strstr(psg_context_message(context), "1 missing, 0 extra, 0 mismatched; the first: missing layer"));
    TEST_OK(context, psg_weights_load(context, io_path("none"), NULL, 0, PSG_LOAD_STRICT, NULL));
    end(&w);
    test_context_free(context);
}

/* f64 into f32, and integers of one size or one kind: every pair of types. */
static void types_fit_or_not(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (psg_dtype from = PSG_F32; from <= PSG_I64; from++) {
        for (psg_dtype to = PSG_F32; to <= PSG_I64; to++) {
            int64_t source = 0, target = 0;
            psg_named one = { "x", psg_tensor_of(from, &source, 0, NULL) };
            TEST_OK(context, psg_safetensors_write(context, io_path("one"), &one, 1, NULL, 0));
            one.tensor = psg_tensor_of(to, &target, 0, NULL);
            bool fits = from == to || (from == PSG_F32 && to == PSG_F64);
            assert_int_equal(psg_weights_load(context, io_path("one"), &one, 1, PSG_LOAD_STRICT, NULL),
                             fits ? PSG_OK : PSG_ERR_FORMAT);
        }
    }
    test_context_free(context);
}

/* ---- texts that do not fit ---- */

static void texts_are_cut(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = write_model(context);
    const size_t full = sizeof text_of_others - 1;
    for (size_t size = 0; size <= full + 2; size++) {
        char text[512];
        memset(text, '#', sizeof text);
        wanted w = want_others();
        psg_load_report report = { .text = text, .text_size = size };
        TEST_OK(context, psg_weights_load(context, path, w.named, WEIGHTS, PSG_LOAD_PARTIAL, &report));
        assert_int_equal(report.text_needed, full);
        if (size) assert_int_equal(strlen(text), size <= full ? size - 1 : full);
        if (size) assert_memory_equal(text, text_of_others, strlen(text));
        for (size_t k = size; k < sizeof text; k++) assert_int_equal(text[k], '#');
        end(&w);
    }
    test_context_free(context);
}

/* ---- errors ---- */

/* A name of the file's cannot forge another line, nor reach a terminal. */
static void names_stay_in_their_lines(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_named held = { "a\nloaded b\x1b[31m", psg_f32_1d(f32_values, 2) };
    char text[200];
    psg_load_report report = { .text = text, .text_size = sizeof text };
    TEST_OK(context, psg_safetensors_write(context, io_path("forged"), &held, 1, NULL, 0));
    TEST_OK(context, psg_weights_load(context, io_path("forged"), NULL, 0, PSG_LOAD_PARTIAL, &report));
    assert_string_equal(text, "extra a?loaded b?[31m: the file has f32 (2)\n");
    assert_int_equal(psg_weights_load(context, io_path("forged"), NULL, 0, PSG_LOAD_STRICT, NULL), PSG_ERR_FORMAT);
    assert_non_null(strstr(psg_context_message(context), "the first: extra a?loaded b?[31m"));
    test_context_free(context);
}

static void a_file_that_cannot_be_read_empties_the_report(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    char text[8] = "full";
    psg_load_report report = { .loaded = 7, .missing = 7, .extra = 7, .mismatched = 7, .text_needed = 7, .text = text,
                               .text_size = sizeof text };
    assert_int_equal(psg_weights_load(context, io_path("absent"), NULL, 0, PSG_LOAD_STRICT, &report), PSG_ERR_FILE);
    assert_non_null(strstr(psg_context_message(context), "psg_weights_load: "));
    check_report(&report, 0, 0, 0, 0);
    assert_int_equal(report.text_needed, 0);
    assert_string_equal(text, "");
    io_write(io_path("broken"), "broken", 6);
    assert_int_equal(psg_weights_load(context, io_path("broken"), NULL, 0, PSG_LOAD_PARTIAL, NULL), PSG_ERR_FORMAT);
    test_context_free(context);
}

static void arguments_are_checked(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = write_model(context);
    float values[2] = { 0 };
    const psg_tensor one = psg_f32_1d(values, 2);
    const struct { psg_named named[3]; const char *words; } bad[] = {
        { { { "a", one }, { NULL, one }, { "b", one } }, "name 1 is NULL" },
        { { { "b", one }, { "a", one }, { "b", one } }, "name \"b\" is there twice" },
        { { { "a", one }, { "b", one }, { "c", psg_f32_1d(NULL, 2) } }, "weight \"c\" is without data" },
        { { { "a", psg_tensor_of(PSG_F32, values, 9, NULL) }, { "b", one }, { "c", one } }, "\"a\" is of no shape" },
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        assert_int_equal(psg_weights_load(context, path, bad[k].named, 3, PSG_LOAD_PARTIAL, NULL), PSG_ERR_ARGUMENT);
        assert_non_null(strstr(psg_context_message(context), bad[k].words));
    }
    assert_int_equal(psg_weights_load(context, path, NULL, 1, PSG_LOAD_PARTIAL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_weights_load(context, path, NULL, 0, (psg_load_mode)2, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_weights_load(context, NULL, NULL, 0, PSG_LOAD_PARTIAL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_weights_load(NULL, path, NULL, 0, PSG_LOAD_PARTIAL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_weights_take(context, NULL, NULL, 0, PSG_LOAD_PARTIAL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_weights_take(NULL, NULL, NULL, 0, PSG_LOAD_PARTIAL, NULL), PSG_ERR_ARGUMENT);
    const psg_load_report stale = { .loaded = 7, .missing = 7, .extra = 7, .mismatched = 7, .text_needed = 7 };
    for (int k = 0; k < 4; k++) {   /* nothing was compared */
        psg_load_report report = stale;
        report.reserved[0] = k == 3;
        psg_status status = k == 0 ? psg_weights_load(context, NULL, NULL, 0, PSG_LOAD_PARTIAL, &report)
                            : k == 1 ? psg_weights_take(context, NULL, NULL, 0, PSG_LOAD_PARTIAL, &report)
                            : k == 2 ? psg_weights_load(NULL, path, NULL, 0, PSG_LOAD_PARTIAL, &report)
                                     : psg_weights_load(context, path, NULL, 0, PSG_LOAD_PARTIAL, &report);
        assert_int_equal(status, PSG_ERR_ARGUMENT);
        check_report(&report, 0, 0, 0, 0);
        assert_int_equal(report.text_needed, 0);
    }
    const size_t many = SIZE_MAX / 8 + 2;   /* pointers to them: 8 bytes, wrapped */
    assert_int_equal(psg_weights_load(context, path, bad[0].named, many, PSG_LOAD_PARTIAL, NULL), PSG_ERR_MEMORY);
    test_context_free(context);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    const char *path = write_model(context);
    size_t live = allocator.live_bytes, open = io_descriptors();
    psg_status status = PSG_ERR_MEMORY;
    for (uint64_t n = 1; status; n++) {
        wanted w = want(TEST_CONTIGUOUS);
        void *before = test_array_snapshot(&w.arrays[2]);
        test_allocator_arm(&allocator, n, false);
        status = psg_weights_load(context, path, w.named, WEIGHTS, PSG_LOAD_STRICT, NULL);
        assert_int_equal(status, allocator.failed ? PSG_ERR_MEMORY : PSG_OK);
        assert_true(!status || test_array_unchanged(&w.arrays[2], before));
        assert_int_equal(allocator.live_bytes, live);
        free(before);
        end(&w);
    }
    assert_int_equal(io_descriptors(), open);
    test_allocator_arm(&allocator, 0, false);
    test_context_free(context);
}

/* Searching the lists for each name would take minutes. */
static void many_names_are_joined(void **state) {
    (void)state;
    enum { MANY = 100000 };
    psg_context *context = test_context(1, NULL);
    psg_named *named = calloc(MANY, sizeof *named);
    float *values = calloc(2 * MANY, sizeof *values);
    char (*names)[24] = calloc(MANY, sizeof *names);
    for (int64_t k = 0; k < MANY; k++) {
        snprintf(names[k], sizeof names[k], "layer.%lld.weight", (long long)(k * 7919 % MANY));
        values[k] = (float)k;
        named[k] = (psg_named){ names[k], psg_f32_1d(values + k, 1) };
    }
    TEST_OK(context, psg_safetensors_write(context, io_path("many"), named, MANY, NULL, 0));
    for (int64_t k = 0; k < MANY; k++) named[k].tensor.data = values + MANY + k;
    TEST_OK(context, psg_weights_load(context, io_path("many"), named, MANY, PSG_LOAD_STRICT, NULL));
    assert_memory_equal(values, values + MANY, MANY * sizeof *values);
    free(names);
    free(values);
    free(named);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_of_any_strides_are_filled),
        cmocka_unit_test(sets_that_were_read_serve_too),
        cmocka_unit_test(f32_is_widened),
        cmocka_unit_test(strict_writes_nothing_where_names_disagree),
        cmocka_unit_test(partial_loads_what_agrees),
        cmocka_unit_test(each_kind_alone_is_refused),
        cmocka_unit_test(types_fit_or_not),
        cmocka_unit_test(texts_are_cut),
        cmocka_unit_test(names_stay_in_their_lines),
        cmocka_unit_test(a_file_that_cannot_be_read_empties_the_report),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(many_names_are_joined),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
