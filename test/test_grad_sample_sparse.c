/* psg_grad_sample_sparse: the rows that each sample touches, in order. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct problem { int64_t batch, positions, rows, width; } problem;

static const problem problems[] = {
    { 3, 5, 7, 4 },   { 2, 1, 1, 1 },    { 5, 17, 3, 33 },   { 4, 130, 1000, 8 }, { 1, 64, 5, 130 }, { 0, 5, 7, 4 },
    { 3, 0, 7, 4 },   { 2, 300, 2, 70 }, { 33, 3, 400, 2 },   { 2, 9, 100000, 1 }, { 2, 5, 3500, 64 },
};
enum { PROBLEMS = sizeof problems / sizeof problems[0] };

static void draw(fixture *f, test_random *random, const problem *q, psg_dtype dtype, int layout) {
    fixture_single(f, random, dtype, FIXTURE_SPARSE, q->batch, q->positions, q->width, q->rows, layout);
}

typedef struct rows_out {
    test_array ids, rows;
    int64_t *counts, positions, width;
} rows_out;

static rows_out new_rows(const fixture *f, test_random *random) {
    const psg_gradient *gradient = &f->gradient[0];
    rows_out out = { .positions = 0, .width = gradient->shape[1] };
    for (size_t b = 0; b < gradient->block_count; b++) out.positions += gradient->blocks[b].ids.shape[1];
    assert_int_equal(psg_gradient_positions(gradient), out.positions);
    int64_t shape[3] = { f->batch_size, out.positions, out.width };
    out.ids = test_array_new(random, PSG_I64, 2, shape, TEST_CONTIGUOUS);
    out.rows = test_array_new(random, f->dtype, 3, shape, TEST_CONTIGUOUS);
    out.counts = calloc((size_t)f->batch_size + 1, sizeof *out.counts);
    return out;
}

static void free_rows(rows_out *out) {
    test_array_free(&out->ids);
    test_array_free(&out->rows);
    free(out->counts);
}

/* Ascending rows, each once; all others of the gradient are zero; rows of id -1 untouched. */
static void check_sample(const fixture *f, const rows_out *out, int64_t n, double scale) {
    int64_t k = 0, last = -1;
    for (; k < out->counts[n]; k++) {
        int64_t id = (int64_t)test_get(&out->ids.view, (int64_t[]){ n, k });
        assert_true(id > last && id < f->gradient[0].shape[0]);
        for (int64_t v = last + 1; v < id; v++) {
            for (int64_t j = 0; j < out->width; j++) {
                assert_true(f->dense[n * f->total + v * out->width + j] == 0);
            }
        }
        for (int64_t j = 0; j < out->width; j++) {
            int64_t at = n * f->total + id * out->width + j;
            double terms = fabs(scale) * f->terms[at];
            test_near(test_get3(&out->rows.view, n, k, j), (double)(scale * f->dense[at]),
                      test_bound(f->dtype, 4, terms), "row", at);
        }
        last = id;
    }
    for (; k < out->positions; k++) {
        assert_true(test_get(&out->ids.view, (int64_t[]){ n, k }) == -1);
        for (int64_t j = 0; j < out->width; j++) assert_true(isnan(test_get3(&out->rows.view, n, k, j)));
    }
    for (int64_t e = (last + 1) * out->width; e < f->total; e++) assert_true(f->dense[n * f->total + e] == 0);
}

static void check_rows(psg_context *context, const fixture *f, test_random *random, double scale) {
    rows_out out = new_rows(f, random);
    TEST_OK(context, psg_grad_sample_sparse(context, &f->gradient[0], scale, &out.ids.view, &out.rows.view,
                                            out.counts));
    for (int64_t n = 0; n < f->batch_size; n++) check_sample(f, &out, n, scale);
    free_rows(&out);
}

static void rows_are_those_of_the_dense_gradient(void **state) {
    (void)state;
    test_random random = { 6 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < PROBLEMS * 4; k++) {
        fixture f;
        draw(&f, &random, &problems[k / 4], (psg_dtype)(k % 2), TEST_ANY);
        check_rows(context, &f, &random, k % 3 ? 1.0 : -7.0);
        fixture_free(&f);
    }
    fixture f;
    draw(&f, &random, &(problem){ 2, 40000, 50, 3 }, PSG_F32, TEST_CONTIGUOUS);
    check_rows(context, &f, &random, 1.0);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* Several uses of a table, one of them through a slice of its columns and rows. */
static void several_blocks_share_rows(void **state) {
    (void)state;
    test_random random = { 7 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < 8; round++) {
        fixture f, other;
        draw(&f, &random, &(problem){ 3, 9, 6, 8 }, (psg_dtype)(round % 2), TEST_ANY);
        draw(&other, &random, &(problem){ 3, 4, 3, 5 }, (psg_dtype)(round % 2), TEST_ANY);
        f.block[0][1] = other.block[0][0];
        f.block[0][1].offset = 2 * 8 + 3;
        f.block[0][1].row_stride = 8;
        f.block[0][2] = f.block[0][0];
        f.block[0][2].scale = -0.5;
        f.gradient[0].block_count = 3;
        fixture_refresh(&f);
        check_rows(context, &f, &random, 2.0);
        check_all_questions(context, &f, &random);
        f.gradient[0].block_count = 0;
        f.gradient[0].blocks = NULL;
        rows_out none = new_rows(&f, &random);
        none.counts[1] = 5;
        TEST_OK(context, psg_grad_sample_sparse(context, &f.gradient[0], 1.0, &none.ids.view, &none.rows.view,
                                                none.counts));
        assert_true(none.counts[0] == 0 && none.counts[1] == 0);
        free_rows(&none);
        fixture_free(&f);
        fixture_free(&other);
    }
    psg_context_destroy(context);
}

/* ---- refusals ---- */

static void outputs_of_rows_are_checked(void **state) {
    (void)state;
    test_random random = { 11 };
    psg_context *context = test_context(1, NULL);
    fixture f, dense;
    draw(&f, &random, &problems[0], PSG_F32, TEST_CONTIGUOUS);
    fixture_single(&dense, &random, PSG_F32, FIXTURE_WHOLE, 3, 5, 7, 4, TEST_CONTIGUOUS);
    rows_out out = new_rows(&f, &random);
    psg_tensor ids = out.ids.view, rows = out.rows.view;
    const psg_gradient *g = &f.gradient[0];
    test_status(context, psg_grad_sample_sparse(context, &dense.gradient[0], 1, &ids, &rows, out.counts),
                PSG_ERR_UNSUPPORTED, "factored");
    assert_non_null(strstr(psg_context_message(context), "block 0 is factored, must be sparse rows"));
    test_status(context, psg_grad_sample_sparse(context, g, 1, &ids, &rows, NULL), PSG_ERR_ARGUMENT, "counts");
    test_status(context, psg_grad_sample_sparse(context, g, 1, NULL, &rows, out.counts), PSG_ERR_SHAPE, "ids NULL");
    test_status(context, psg_grad_sample_sparse(context, NULL, 1, &ids, &rows, out.counts), PSG_ERR_ARGUMENT, "NULL");
    ids.dtype = PSG_F64;
    test_status(context, psg_grad_sample_sparse(context, g, 1, &ids, &rows, out.counts), PSG_ERR_DTYPE, "ids f64");
    ids = out.ids.view;
    ids.shape[1]--;
    test_status(context, psg_grad_sample_sparse(context, g, 1, &ids, &rows, out.counts), PSG_ERR_SHAPE, "ids short");
    ids = out.ids.view;
    rows.dtype = PSG_F64;
    test_status(context, psg_grad_sample_sparse(context, g, 1, &ids, &rows, out.counts), PSG_ERR_DTYPE, "rows f64");
    rows = out.rows.view;
    rows.stride[1] = 5;
    test_status(context, psg_grad_sample_sparse(context, g, 1, &ids, &rows, out.counts), PSG_ERR_SHAPE, "rows gaps");
    assert_true(out.counts[0] == 0 && isnan(test_get_at(&out.rows.view, 0)));
    f.block[0][0].row_stride = 5;
    f.gradient[0].shape[0] = 20;
    test_status(context, psg_grad_sample_sparse(context, g, 1, &ids, &out.rows.view, out.counts), PSG_ERR_UNSUPPORTED,
                "rows across rows");
    free_rows(&out);
    fixture_free(&f);
    fixture_free(&dense);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_those_of_the_dense_gradient),
        cmocka_unit_test(several_blocks_share_rows),
        cmocka_unit_test(outputs_of_rows_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
