/* Shapes: sizes that overflow, views and copies of any strides. */
#include "support.h"

#include <limits.h>
#include <string.h>

#include "base/shapes.h"

__extension__ typedef __int128 wide;

/* Values around powers of two, so that products lie around 2^31, 2^32, 2^63, 2^64. */
static int64_t edge_size(test_random *random) {
    int64_t power = (int64_t)((uint64_t)1 << test_range(random, 0, 62));
    int64_t size = power + test_range(random, -2, 2);
    return size < 0 ? 0 : size;
}

static void ranks_outside_their_range_give_no_view(void **state) {
    (void)state;
    static const int ranks[] = { INT_MIN, INT_MIN + 1, -1, PSG_MAX_RANK + 1, INT_MAX };
    const int64_t shape[PSG_MAX_RANK] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    for (size_t k = 0; k < sizeof ranks / sizeof ranks[0]; k++) {
        psg_tensor view = psg_tensor_of(PSG_F32, NULL, ranks[k], shape);
        assert_int_equal(view.rank, -1);
        assert_int_equal(psg_tensor_count(&view), -1);
    }
}

static void products_are_exact_or_refused(void **state) {
    (void)state;
    test_random random = { 12 };
    int64_t refused = 0;
    for (int repeat = 0; repeat < 10000; repeat++) {
        int rank = (int)test_range(&random, 0, PSG_MAX_RANK);
        int64_t shape[PSG_MAX_RANK];
        wide exact = 1;
        bool zero = false, fits = true;
        for (int d = 0; d < rank; d++) {
            shape[d] = test_range(&random, 0, 2) ? test_range(&random, 1, 5) : edge_size(&random);
            zero |= shape[d] == 0;
            exact = fits && shape[d] ? exact * shape[d] : exact;
            fits &= exact <= INT64_MAX;
        }
        int64_t expected = !fits ? -1 : zero ? 0 : (int64_t)exact;
        refused += expected < 0;
        assert_int_equal(psg_shape_product(rank, shape), expected);
        psg_tensor view = psg_tensor_of(PSG_F32, NULL, rank, shape);
        assert_int_equal(psg_tensor_count(&view), expected);
        assert_int_equal(psg_tensor_is_valid(&view), expected == 0 && exact * 4 <= PTRDIFF_MAX);   /* no memory behind it */
    }
    assert_true(refused > 1000);
}

static void sizes_are_exact_or_refused(void **state) {
    (void)state;
    test_random random = { 13 };
    for (int repeat = 0; repeat < 10000; repeat++) {
        int64_t a = edge_size(&random), b = edge_size(&random), product = -7;
        wide exact = (wide)a * b;
        assert_int_equal(psg_size_multiply(a, b, &product), exact <= INT64_MAX);
        if (exact <= INT64_MAX) assert_int_equal(product, (int64_t)exact);
        assert_false(psg_size_multiply(-a - 1, b, &product));
        assert_false(psg_size_multiply(a, -b - 1, &product));
        size_t bytes = 0;
        assert_int_equal(psg_size_bytes(a, 8, &bytes), (wide)a * 8 <= (wide)SIZE_MAX);
        if ((wide)a * 8 <= (wide)SIZE_MAX) assert_true(bytes == (size_t)a * 8);
        assert_false(psg_size_bytes(-1 - a, 1, &bytes));
    }
}

static void views_outside_the_rules_are_refused(void **state) {
    (void)state;
    float data[4] = { 0 };
    int64_t shape[12] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    psg_tensor view = psg_tensor_of(PSG_F32, data, 9, shape);
    assert_int_equal(view.rank, -1);
    assert_int_equal(psg_tensor_count(&view), -1);
    assert_int_equal(psg_tensor_of(PSG_F32, data, -1, shape).rank, -1);
    assert_int_equal(psg_tensor_strided(PSG_F32, data, 9, shape, shape).rank, -1);
    assert_int_equal(psg_tensor_count(NULL), -1);
    assert_false(psg_tensor_is_valid(NULL));
    view = psg_tensor_of((psg_dtype)9, data, 1, shape);
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, data, 1, (int64_t[]){ -1 });
    assert_int_equal(psg_tensor_count(&view), -1);
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, data, 2, (int64_t[]){ 0, -1 });
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ 0, 3 });
    assert_true(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, NULL, 0, NULL);
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, data, 0, NULL);
    assert_true(psg_tensor_is_valid(&view));
    assert_int_equal(psg_tensor_count(&view), 1);
}

static void short_forms_are_contiguous(void **state) {
    (void)state;
    float f[24] = { 0 };
    int64_t i[3] = { 0 };
    const double d[24] = { 0 };
    const int32_t small[24] = { 0 };
    const psg_tensor others[] = { psg_f64_1d(d, 24), psg_f64_2d(d, 4, 6), psg_f64_3d(d, 2, 3, 4), psg_f64_4d(d, 2, 3, 2, 2),
                                  psg_i32_1d(small, 24), psg_i32_2d(small, 4, 6),
                                  psg_tensor_const(PSG_F64, d, 2, (int64_t[]){ 4, 6 }) };
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        const bool is_f64 = k < 4 || k == 6;
        assert_int_equal(others[k].dtype, is_f64 ? PSG_F64 : PSG_I32);
        assert_ptr_equal(others[k].data, is_f64 ? (const void *)d : (const void *)small);
        assert_int_equal(psg_tensor_count(&others[k]), 24);
        assert_true(psg_tensor_is_contiguous(&others[k]));
        assert_int_equal(others[k].rank, k < 4 ? (int)k + 1 : k == 4 ? 1 : 2);
    }
    psg_tensor all[] = { psg_f32_1d(f, 24), psg_f32_2d(f, 4, 6), psg_f32_3d(f, 2, 3, 4), psg_f32_4d(f, 2, 3, 2, 2),
                         psg_i64_1d(i, 3), psg_i64_2d(i, 1, 3) };
    for (int k = 0; k < 6; k++) {
        assert_int_equal(all[k].rank, k < 4 ? k + 1 : k - 3);
        assert_int_equal(psg_tensor_count(&all[k]), k < 4 ? 24 : 3);
        assert_int_equal(all[k].dtype, k < 4 ? PSG_F32 : PSG_I64);
        assert_true(psg_tensor_is_contiguous(&all[k]));
        assert_int_equal(all[k].stride[all[k].rank - 1], 1);
    }
    assert_int_equal(all[3].stride[0], 12);
}

static void random_shape(test_random *random, int *rank, int64_t shape[PSG_MAX_RANK]) {
    *rank = (int)test_range(random, 0, 5);
    for (int d = 0; d < *rank; d++) shape[d] = test_range(random, test_range(random, 0, 9) ? 1 : 0, 4);
}

static void contiguity_is_row_major_without_gaps(void **state) {
    (void)state;
    test_random random = { 14 };
    for (int repeat = 0; repeat < 2000; repeat++) {
        int rank;
        int64_t shape[PSG_MAX_RANK];
        random_shape(&random, &rank, shape);
        test_array array = test_array_new(&random, PSG_F32, rank, shape, TEST_ANY);
        int64_t count = psg_tensor_count(&array.view);
        bool expected = true;
        for (int64_t k = 0; k < count; k++) {   /* the k-th element, found through its value */
            test_set_at(&array.view, k, (double)k);
        }
        ptrdiff_t first = ((unsigned char *)array.view.data - array.memory) / 4;
        for (int64_t k = 0; k < count; k++) expected &= first + k < array.elements && array.member[first + k];
        for (int64_t k = 0; k < count && expected; k++) expected &= ((float *)array.view.data)[k] == (float)k;
        assert_int_equal(!!psg_tensor_is_contiguous(&array.view), expected);
        test_array_free(&array);
    }
}

static void copies_follow_any_strides(void **state) {
    (void)state;
    test_random random = { 15 };
    for (int repeat = 0; repeat < 2000; repeat++) {
        int rank;
        int64_t shape[PSG_MAX_RANK];
        random_shape(&random, &rank, shape);
        psg_dtype dtype = (psg_dtype)(repeat % 4);
        test_array from = test_array_new(&random, dtype, rank, shape, TEST_ANY | (repeat % 3 ? 0 : TEST_SHARED_BATCH));
        test_array to = test_array_new(&random, dtype, rank, shape, TEST_ANY);
        test_fill_integers(&random, &from.view, -1000, 1000);
        psg_tensor_copy(&from.view, &to.view);
        assert_true(test_same_bits(&from.view, &to.view));
        test_array_free(&from);
        test_array_free(&to);
    }
}

static void merged_views_keep_their_elements(void **state) {
    (void)state;
    test_random random = { 16 };
    int merged_count = 0;
    for (int repeat = 0; repeat < 5000; repeat++) {
        int rank = (int)test_range(&random, 1, 5);
        int64_t shape[PSG_MAX_RANK];
        for (int d = 0; d < rank; d++) shape[d] = test_range(&random, 1, 3);
        int layout = repeat % 2 ? TEST_ANY : TEST_CONTIGUOUS;
        test_array array = test_array_normal(&random, PSG_F64, rank, shape, layout);
        psg_tensor merged = array.view;
        int first = (int)test_range(&random, 0, rank), last = (int)test_range(&random, first - 1, rank - 1);
        if (psg_tensor_merge(&merged, first, last)) {
            merged_count++;
            assert_int_equal(merged.rank, rank - (last - first));
            assert_int_equal(psg_tensor_count(&merged), psg_tensor_count(&array.view));
            for (int64_t k = 0; k < psg_tensor_count(&merged); k++) {
                assert_true(test_get_at(&merged, k) == test_get_at(&array.view, k));
            }
        } else {
            assert_int_equal(layout, TEST_ANY);   /* a contiguous view always merges */
        }
        test_array_free(&array);
    }
    assert_true(merged_count > 2500);
}

static void shape_text_is_readable_and_bounded(void **state) {
    (void)state;
    char text[PSG_SHAPE_TEXT];
    assert_string_equal(psg_shape_text(0, NULL, text), "()");
    assert_string_equal(psg_shape_text(2, (int64_t[]){ 2, 3 }, text), "(2, 3)");
    int64_t longest[PSG_MAX_RANK];
    for (int d = 0; d < PSG_MAX_RANK; d++) longest[d] = INT64_MIN;
    psg_shape_text(PSG_MAX_RANK, longest, text);
    assert_true(strlen(text) < PSG_SHAPE_TEXT && text[strlen(text) - 1] == ')');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_outside_their_range_give_no_view),
        cmocka_unit_test(products_are_exact_or_refused),
        cmocka_unit_test(sizes_are_exact_or_refused),
        cmocka_unit_test(views_outside_the_rules_are_refused),
        cmocka_unit_test(short_forms_are_contiguous),
        cmocka_unit_test(contiguity_is_row_major_without_gaps),
        cmocka_unit_test(copies_follow_any_strides),
        cmocka_unit_test(merged_views_keep_their_elements),
        cmocka_unit_test(shape_text_is_readable_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
