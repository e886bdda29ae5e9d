/* Sparse rows: tables of which each sample names a few rows, in every question and as rows. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- questions ---- */

typedef struct problem { int64_t batch, positions, rows, width; } problem;

static const problem problems[] = {
    { 3, 5, 7, 4 },   { 2, 1, 1, 1 },    { 5, 17, 3, 33 },   { 4, 130, 1000, 8 }, { 1, 64, 5, 130 }, { 0, 5, 7, 4 },
    { 3, 0, 7, 4 },   { 2, 300, 2, 70 }, { 33, 3, 400, 2 },   { 2, 9, 100000, 1 }, { 2, 5, 3500, 64 },
};
enum { PROBLEMS = sizeof problems / sizeof problems[0] };

static void draw(fixture *f, test_random *random, const problem *q, psg_dtype dtype, int layout) {
    fixture_single(f, random, dtype, FIXTURE_SPARSE, q->batch, q->positions, q->width, q->rows, layout);
}

static void tables_agree_with_plain_loops(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    test_random random = { 1 };
    for (int k = 0; k < (int)count * PROBLEMS * 4; k++) {
        const problem *q = &problems[k / (int)count / 4];
        if (q->rows * q->width > 50000 && k / (int)count % 4 > 1) continue;
        psg_context *context = test_context(2, isas[k % (int)count]);
        fixture f;
        draw(&f, &random, q, (psg_dtype)(k % 2), k % 3 ? TEST_ANY : TEST_CONTIGUOUS);
        check_all_questions(context, &f, &random);
        fixture_free(&f);
        psg_context_destroy(context);
    }
}

/* More positions than a worker sorts. */
static void long_samples_agree(void **state) {
    (void)state;
    test_random random = { 2 };
    psg_context *context = test_context(2, NULL);
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        fixture f;
        draw(&f, &random, &(problem){ 2, 40000, 50, 3 }, (psg_dtype)dtype, TEST_CONTIGUOUS);
        check_all_questions(context, &f, &random);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void forced_routes_agree(void **state) {
    (void)state;
    test_random random = { 3 };
    for (int k = 0; k < 8; k++) {
        fixture f;
        draw(&f, &random, &problems[k], (psg_dtype)(k % 2), TEST_ANY);
        check_routes(&f, &random);
        fixture_free(&f);
    }
}

static void any_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    test_random random = { 4 };
    for (int k = 0; k < PROBLEMS - 1; k++) {
        fixture f;
        draw(&f, &random, &problems[k], (psg_dtype)(k % 2), TEST_ANY);
        check_threads(&f);
        fixture_free(&f);
    }
}

/* An output that leaves the cache: cleared around it, then added to. */
static void a_large_output_is_cleared(void **state) {
    (void)state;
    enum { ROWS = 40000, WIDTH = 64, SAMPLES = 3 };
    test_random random = { 13 };
    psg_context *context = test_context(2, NULL);
    test_array g = test_array_normal(&random, PSG_F32, 3, (int64_t[]){ SAMPLES, 9, WIDTH }, TEST_CONTIGUOUS);
    test_array ids = test_array_new(&random, PSG_I32, 2, (int64_t[]){ SAMPLES, 9 }, TEST_CONTIGUOUS);
    test_fill_integers(&random, &ids.view, ROWS - 5, ROWS - 1);
    psg_block one = psg_sparse_rows(&g.view, &ids.view);
    psg_gradient gradient = psg_gradient_of_blocks(&one, 1, 2, (int64_t[]){ ROWS, WIDTH });
    size_t count = (size_t)SAMPLES * ROWS * WIDTH;
    float *have = malloc((count + 1) * sizeof *have), *want = calloc(count + 1, sizeof *want);
    double *sums = calloc(count, sizeof *sums);
    memset(have, 255, (count + 1) * sizeof *have);
    memset(want + count, 255, sizeof *want);
    psg_tensor out = psg_tensor_of(PSG_F32, have, 3, (int64_t[]){ SAMPLES, ROWS, WIDTH });
    TEST_OK(context, psg_grad_sample(context, &gradient, 1.0, PSG_OVERWRITE, &out));
    for (int64_t n = 0; n < SAMPLES * 9 * WIDTH; n++) {
        int64_t row = (int64_t)test_get_at(&ids.view, n / WIDTH);
        sums[(n / (9 * WIDTH) * ROWS + row) * WIDTH + n % WIDTH] += test_get_at(&g.view, n);
    }
    for (size_t k = 0; k < count; k++) want[k] = (float)sums[k];
    free(sums);
    assert_memory_equal(have, want, (count + 1) * sizeof *have);
    free(have);
    free(want);
    test_array_free(&g);
    test_array_free(&ids);
    psg_context_destroy(context);
}

/* What no row receives may be anything. */
/* 1 + 2^-60 - 1 in doubles is 0, and the bound is of the exact sum. */
static void upper_covers_the_sums_of_rows(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const double g[3] = { 1, 0x1p-60, -1 };
    const int32_t id[3] = { 1, 1, 1 };
    psg_tensor backprop = psg_tensor_of(PSG_F64, (double *)g, 3, (int64_t[]){ 1, 3, 1 });
    psg_tensor ids = psg_tensor_of(PSG_I32, (int32_t *)id, 2, (int64_t[]){ 1, 3 });
    psg_block block = psg_sparse_rows(&backprop, &ids);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 2, 1 });
    const psg_gradient *list = &gradient;
    double square, upper;
    TEST_OK(context, psg_sqnorm(context, &list, 1, &square, &upper, NULL));
    assert_true(upper >= 0x1p-120 && upper < 0x1p-90);
    psg_context_destroy(context);
}

/* Also where there are no positions, so that nothing is computed with a place that cannot be. */
static void places_are_checked_without_positions(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tensor backprop = psg_tensor_of(PSG_F32, (float[]){ 0 }, 3, (int64_t[]){ 1, 0, 2 });
    psg_tensor ids = psg_tensor_of(PSG_I64, (int64_t[]){ 0 }, 2, (int64_t[]){ 1, 0 });
    psg_block block = psg_sparse_rows(&backprop, &ids);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 2, 2 });
    const psg_gradient *list = &gradient;
    double square = -1;
    TEST_OK(context, psg_sqnorm(context, &list, 1, &square, NULL, NULL));
    assert_true(square == 0);
    block.offset = INT64_MIN;
    test_fails(context, psg_sqnorm(context, &list, 1, &square, NULL, NULL), PSG_ERR_SHAPE, "offset must be >= 0");
    psg_context_destroy(context);
}

static void rows_of_negative_ids_are_not_read(void **state) {
    (void)state;
    test_random random = { 5 };
    psg_context *context = test_context(2, NULL);
    fixture f;
    draw(&f, &random, &problems[0], PSG_F32, TEST_CONTIGUOUS);
    for (int64_t n = 0; n < 3; n++) {
        test_set(&f.block[0][0].ids, (int64_t[]){ n, n }, -1 - (double)n);
        for (int64_t j = 0; j < 4; j++) test_set(&f.array[0].view, (int64_t[]){ n, n, j }, NAN);
    }
    fixture_refresh(&f);
    check_all_questions(context, &f, &random);
    for (int64_t k = 0; k < 15; k++) test_set_at(&f.block[0][0].ids, k, -1);
    fixture_refresh(&f);
    check_all_questions(context, &f, &random);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* ---- privacy ---- */

static void one_sample_moves_the_sum_by_at_most_c(void **state) {
    (void)state;
    static const double sizes[] = { 1, 1e-30, 1e18, 1e38, 0 };
    test_random random = { 9 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < 5 * 20; k++) {
        fixture with;
        draw(&with, &random, &(problem){ 5, 30, 6, 9 }, PSG_F32, TEST_CONTIGUOUS);
        double size = sizes[k % 5], square = 0, weights[5] = { 0, 1, 1, 1, 1 };
        for (int64_t e = 0; e < 30 * 9; e++) test_set_at(&with.array[0].view, e, size * test_uniform(&random));
        fixture_refresh(&with);
        double *sums = calloc((size_t)with.total * 2, sizeof *sums), factors[5];
        psg_tensor outs[2] = { psg_tensor_of(PSG_F64, sums, 2, with.gradient[0].shape),
                               psg_tensor_of(PSG_F64, sums + with.total, 2, with.gradient[0].shape) };
        psg_clip clip = { .max_grad_norm = 0.3, .max_batch_size = 5 };
        TEST_OK(context, psg_clipped_sum(context, with.pointer, 1, &clip, PSG_OVERWRITE, outs, NULL, factors, NULL));
        for (int n = 1; n < 5; n++) weights[n] = factors[n];
        TEST_OK(context, psg_weighted_sum(context, with.pointer, 1, weights, PSG_OVERWRITE, outs + 1));
        for (int64_t e = 0; e < with.total; e++) square += pow(sums[e] - sums[with.total + e], 2);
        assert_true(sqrt(square) <= 0.3);
        if (size == 1) assert_true(sqrt(square) > 0.299);
        free(sums);
        fixture_free(&with);
    }
    psg_context_destroy(context);
}

/* ---- refusals ---- */

typedef struct refusal {
    void (*plant)(fixture *f);
    psg_status status;
    const char *word;
} refusal;

static psg_block *block(fixture *f) { return &f->block[0][0]; }
static void id_past_end(fixture *f) { test_set_at(&block(f)->ids, 14, 7); }
static void huge_id(fixture *f) { test_set_at(&block(f)->ids, 3, 2147483647); }
static void real_ids(fixture *f) { block(f)->ids.dtype = PSG_F32; }
static void low_rank_ids(fixture *f) { block(f)->ids.rank = 1; }
static void other_positions(fixture *f) { block(f)->ids.shape[1] = 4; }
static void other_batch(fixture *f) { block(f)->ids.shape[0] = 2; }
static void null_ids(fixture *f) { block(f)->ids.data = NULL; }
static void negative_offset(fixture *f) { block(f)->offset = -1; }
static void overlapping_rows(fixture *f) { block(f)->row_stride = 3; }
static void late_offset(fixture *f) { block(f)->offset = 4; test_fill_value(&block(f)->ids, 6); }
static void wide_rows(fixture *f) { f->gradient[0].shape[0] = 1; f->gradient[0].shape[1] = 3; }

static void ids_are_checked(void **state) {
    (void)state;
    static const refusal refusals[] = {
        { id_past_end, PSG_ERR_ARGUMENT, "ids[2, 4] is 7, the parameter has 7 rows" },
        { huge_id, PSG_ERR_ARGUMENT, "ids[0, 3] is 2147483647" }, { real_ids, PSG_ERR_DTYPE, "ids is f32" },
        { low_rank_ids, PSG_ERR_SHAPE, "ids must" },        { other_positions, PSG_ERR_SHAPE, "(3, 5), has (3, 4)" },
        { other_batch, PSG_ERR_SHAPE, "ids must" },         { null_ids, PSG_ERR_SHAPE, "ids must" },
        { negative_offset, PSG_ERR_SHAPE, "offset" },       { overlapping_rows, PSG_ERR_SHAPE, "row_stride" },
        { late_offset, PSG_ERR_ARGUMENT, "has 6 rows" },    { wide_rows, PSG_ERR_ARGUMENT, "has 0 rows" },
    };
    test_random random = { 10 };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        fixture f;
        draw(&f, &random, &problems[0], PSG_F32, TEST_CONTIGUOUS);
        test_fill_value(&f.block[0][0].ids, 1);
        refusals[k].plant(&f);
        check_refusals(context, &f, &random, refusals[k].status, refusals[k].word);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void plans_name_their_tables(void **state) {
    (void)state;
    static const char *const lines[PSG_QUESTION_COUNT] = { "materialise", "sorted", "scatter",
                                                           "recompute (norms by sorted)", "gather", "merge",
                                                           "scatter" };
    test_random random = { 12 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    draw(&f, &random, &problems[0], PSG_F32, TEST_CONTIGUOUS);
    for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
        char text[512], expected[128];
        TEST_OK(context, psg_plan_text(context, (psg_question)question, f.pointer, 1, NULL, text, sizeof text, NULL));
        snprintf(expected, sizeof expected, "%s: gradient 0: %s, sparse rows T=5 p=4",
                 psg_question_name((psg_question)question), lines[question]);
        if (strncmp(text, expected, strlen(expected))) fail_msg("%s", text);
    }
    fixture_free(&f);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_agree_with_plain_loops),
        cmocka_unit_test(long_samples_agree),
        cmocka_unit_test(forced_routes_agree),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_large_output_is_cleared),
        cmocka_unit_test(upper_covers_the_sums_of_rows),
        cmocka_unit_test(places_are_checked_without_positions),
        cmocka_unit_test(rows_of_negative_ids_are_not_read),
        cmocka_unit_test(one_sample_moves_the_sum_by_at_most_c),
        cmocka_unit_test(ids_are_checked),
        cmocka_unit_test(plans_name_their_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
