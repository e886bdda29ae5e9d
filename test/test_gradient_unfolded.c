/* Unfolded blocks: windows of an image against plain loops, in every layout, size and question. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct problem {
    psg_window window;
    int64_t batch, p, image[4];
} problem;

/* Kernels inside, at and beyond the edges; strides, dilations and paddings of their own in every dimension. */
static const problem problems[] = {
    { { 1, { 3 }, { 1 }, { 1 }, { 1 }, { 9 } }, 3, 5, { 2, 9 } },
    { { 1, { 5 }, { 2 }, { 3 }, { 6 }, { 11 } }, 2, 13, { 7, 21 } },
    { { 1, { 4 }, { 3 }, { 2 }, { 0 }, { 17 } }, 1, 1, { 1, 55 } },
    { { 1, { 9 }, { 1 }, { 1 }, { 8 }, { 12 } }, 2, 4, { 3, 4 } },          /* a kernel longer than the image */
    { { 1, { 2 }, { 5 }, { 40 }, { 3 }, { 8 } }, 2, 3, { 2, 30 } },         /* some outputs read zeros alone */
    { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 8, 8 } }, 3, 20, { 6, 8, 8 } },
    { { 2, { 3, 2 }, { 2, 1 }, { 1, 3 }, { 2, 1 }, { 5, 9 } }, 2, 25, { 5, 9, 10 } },
    { { 2, { 1, 1 }, { 2, 2 }, { 1, 1 }, { 0, 0 }, { 4, 5 } }, 3, 7, { 9, 7, 9 } },
    { { 2, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 6, 7 } }, 3, 17, { 33, 6, 7 } },   /* pixels: factored */
    { { 2, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 5, 6 } }, 3, 17, { 33, 6, 7 } },   /* not all of them */
    { { 2, { 4, 5 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 1, 1 } }, 4, 9, { 3, 4, 5 } },     /* the image: T = 1 */
    { { 2, { 3, 5 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 1, 1 } }, 4, 9, { 3, 4, 5 } },
    { { 2, { 7, 7 }, { 2, 2 }, { 1, 1 }, { 3, 3 }, { 16, 16 } }, 1, 8, { 3, 32, 32 } },
    { { 3, { 3, 3, 3 }, { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 }, { 4, 5, 6 } }, 2, 6, { 3, 4, 5, 6 } },
    { { 3, { 2, 1, 3 }, { 1, 2, 3 }, { 2, 1, 2 }, { 1, 0, 2 }, { 3, 2, 4 } }, 2, 14, { 4, 5, 4, 9 } },
    { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 50, 50 } }, 2, 3, { 2, 50, 50 } },   /* T > 2048 */
    { { 1, { 2 }, { 1 }, { 1 }, { 0 }, { 5000 } }, 1, 2, { 3, 5001 } },
    { { 1, { 2 }, { 3 }, { 1 }, { 1 }, { 5000 } }, 1, 2, { 3, 15001 } },
    { { 2, { 2, 2 }, { 1, 1 }, { 9000, 1 }, { 0, 0 }, { 2, 3 } }, 1, 2, { 2, 9002, 4 } },  /* lines far apart */
    { { 2, { 2, 2 }, { 1, 1 }, { 1, 90000 }, { 0, 0 }, { 2, 3 } }, 1, 2, { 2, 3, 90004 } },
    { { 2, { 2, 3 }, { 1, 1 }, { 9000, 1 }, { 0, 1 }, { 1, 70 } }, 1, 2, { 30, 9001, 70 } },
    { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 4 } }, 2, 3, { 2, 4, 4 } },       /* no positions */
    { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 4, 4 } }, 0, 3, { 2, 4, 4 } },
    { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 4, 4 } }, 2, 3, { 0, 4, 4 } },
    { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 4, 2 } }, 2, 3, { 2, 4, 0 } },       /* no pixels: zeros */
    { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 4, 4 } }, 2, 0, { 2, 4, 4 } },
    { { 1, { 1 }, { 1 }, { 1 }, { 0 }, { 1 } }, 1, 1, { 1, 1 } },
};
enum { PROBLEMS = sizeof problems / sizeof problems[0] };

static void draw(fixture *f, test_random *random, const problem *q, psg_dtype dtype, int layout) {
    fixture_unfolded(f, random, dtype, q->batch, q->p, &q->window, q->image, layout);
}

static void check_problems(const char *isa, psg_dtype dtype) {
    test_random random = { 5 + (uint64_t)dtype };
    psg_context *context = test_context(2, isa);
    for (int k = 0; k < PROBLEMS * 3; k++) {
        bool large = problems[k % PROBLEMS].image[1] > 1000 || problems[k % PROBLEMS].image[2] > 1000;
        if (large && k >= PROBLEMS) continue;
        fixture f;
        draw(&f, &random, &problems[k % PROBLEMS], dtype, k < PROBLEMS ? TEST_CONTIGUOUS : TEST_ANY);
        check_all_questions(context, &f, &random);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void windows_agree_with_plain_loops(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        check_problems(isas[k], PSG_F64);
        check_problems(isas[k], PSG_F32);
    }
}

/* (B, p, T) in memory, as layers whose channels come first have it. */
static void backprops_with_channels_first_agree(void **state) {
    (void)state;
    test_random random = { 6 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < 2 * PROBLEMS; k++) {
        const problem *q = &problems[k / 2];
        fixture f;
        draw(&f, &random, q, (psg_dtype)(k % 2), TEST_CONTIGUOUS);
        psg_tensor *g = &f.block[0][0].backprop;
        g->stride[1] = 1;
        g->stride[2] = g->shape[1];
        fixture_refresh(&f);
        if (f.total * q->batch < 100000) check_all_questions(context, &f, &random);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void every_route_agrees(void **state) {
    (void)state;
    test_random random = { 7 };
    for (int k = 0; k < 16; k++) {
        fixture f;
        draw(&f, &random, &problems[k], (psg_dtype)(k % 2), TEST_ANY);
        check_routes(&f, &random);
        fixture_free(&f);
    }
}

static void any_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    test_random random = { 8 };
    for (int k = 0; k < 16; k++) {
        fixture f;
        draw(&f, &random, &problems[k], (psg_dtype)(k % 2), TEST_ANY);
        check_threads(&f);
        fixture_free(&f);
    }
}

/* A sample's gradient, norm and derivative do not know their company. */
static void a_sample_alone_has_the_same_bits(void **state) {
    (void)state;
    test_random random = { 9 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < 16; k++) {
        fixture all, alone;
        const problem *q = &problems[k];
        draw(&all, &random, q, (psg_dtype)(k % 2), TEST_ANY);
        int64_t n = q->batch - 1;
        fixture_select(&alone, &all, &n, 1);
        answers a = answers_of(context, &all, PSG_ASK_GRAD_SAMPLE);
        answers b = answers_of(context, &alone, PSG_ASK_GRAD_SAMPLE);
        for (int64_t e = 0; e < all.total; e++) {
            assert_true(test_get_at(&a.out[0].view, n * all.total + e) == test_get_at(&b.out[0].view, e));
        }
        answers_free(&a);
        answers_free(&b);
        fixture_free(&all);
        fixture_free(&alone);
    }
    psg_context_destroy(context);
}

/* The route is that of the first of several blocks, which here has no live positions of its own. */
static void windows_without_positions_beside_others(void **state) {
    (void)state;
    static const problem none = { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 4, 0 } }, 2, 3, { 2, 4, 4 } };
    const int64_t shape[] = { 3, 18 };
    test_random random = { 14 };
    for (int k = 0; k < 2; k++) {
        fixture f;
        draw(&f, &random, &none, (psg_dtype)k, TEST_CONTIGUOUS);
        const psg_tensor *g = fixture_operand(&f, &random, 3, (const int64_t[]){ 2, 5, 3 }, TEST_CONTIGUOUS);
        const psg_tensor *image = fixture_operand(&f, &random, 4, (const int64_t[]){ 2, 2, 4, 4 }, TEST_CONTIGUOUS);
        psg_window window = none.window;
        window.output[0] = 1, window.output[1] = 5;
        f.block[0][1] = psg_unfolded(g, image, &window);
        f.count = 0;
        fixture_add(&f, 2, 2, shape);
        fixture_refresh(&f);
        check_routes(&f, &random);
        fixture_free(&f);
    }
}

/* Both fill one place: the inner products of a tie are of activations that are stored, which windows are not. */
static void windows_beside_rows_of_a_table(void **state) {
    (void)state;
    static const problem some = { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 4, 4 } }, 2, 3, { 2, 4, 4 } };
    const int64_t shape[] = { 3, 18 };
    test_random random = { 15 };
    for (int k = 0; k < 2; k++) {
        fixture f;
        draw(&f, &random, &some, (psg_dtype)k, TEST_CONTIGUOUS);
        const psg_tensor *g = fixture_operand(&f, &random, 3, (const int64_t[]){ 2, 6, 18 }, TEST_CONTIGUOUS);
        test_array ids = test_array_new(&random, PSG_I64, 2, (const int64_t[]){ 2, 6 }, TEST_CONTIGUOUS);
        test_fill_integers(&random, &ids.view, -1, 2);
        f.block[0][1] = psg_sparse_rows(g, &ids.view);
        f.count = 0;
        fixture_add(&f, 2, 2, shape);
        fixture_refresh(&f);
        check_routes(&f, &random);
        fixture_free(&f);
        test_array_free(&ids);
    }
}

/* ---- privacy ---- */

static void clipped_into(psg_context *context, const fixture *f, const psg_clip *clip, double *sum) {
    psg_tensor out = psg_tensor_of(PSG_F64, sum, 2, f->gradient[0].shape);
    TEST_OK(context, psg_clipped_sum(context, f->pointer, 1, clip, PSG_OVERWRITE, &out, NULL, NULL, NULL));
}

static void one_sample_moves_the_sum_by_at_most_c(void **state) {
    (void)state;
    static const double sizes[] = { 1, 1e-30, 1e12, 1e30, 0 };
    static const char *const routes[] = { NULL, "keep", "recompute" };
    test_random random = { 10 };
    for (int k = 0; k < 16 * 5 * 3; k++) {
        fixture with, without;
        const problem *q = &problems[k % 16];
        psg_context *context = test_context_with(NULL, 2, NULL, (size_t)64 << 20);
        TEST_OK(context, psg_context_force_route(context, routes[k / 80]));
        draw(&with, &random, q, PSG_F32, TEST_CONTIGUOUS);
        double size = sizes[k / 16 % 5];
        int64_t row = psg_tensor_count(&with.array[0].view) / q->batch, kept[8] = { 0 };
        for (int64_t e = 0; e < row; e++) {
            test_set_at(&with.array[0].view, e, size * test_normal(&random));
        }
        for (int64_t n = 1; n < q->batch; n++) kept[n - 1] = n;
        fixture_select(&without, &with, kept, q->batch - 1);
        double *a = calloc((size_t)with.total * 2, sizeof *a), *b = a + with.total, square = 0;
        psg_clip clip = { .max_grad_norm = 0.7, .max_batch_size = 16 };
        clipped_into(context, &with, &clip, a);
        clipped_into(context, &without, &clip, b);
        for (int64_t e = 0; e < with.total; e++) square += (a[e] - b[e]) * (a[e] - b[e]);
        assert_true(sqrt(square) <= 0.7);
        if (size == 1 && fixture_sqnorm(&with, 0) > 1) assert_true(sqrt(square) > 0.69);
        free(a);
        psg_context_destroy(context);
        fixture_free(&with);
        fixture_free(&without);
    }
}

/* A sample of weight 0 is not read. */
static void a_removed_sample_leaves_no_trace(void **state) {
    (void)state;
    test_random random = { 11 };
    psg_context *context = test_context(2, NULL);
    fixture f;
    draw(&f, &random, &problems[5], PSG_F32, TEST_CONTIGUOUS);
    double *sums = calloc((size_t)f.total * 2, sizeof *sums);
    psg_clip clip = { .max_grad_norm = 1 };
    for (int pass = 0; pass < 2; pass++) {
        int64_t row = psg_tensor_count(&f.array[0].view) / 3;
        for (int64_t e = 0; e < row; e++) test_set_at(&f.array[0].view, row + e, pass ? NAN : 0);
        clipped_into(context, &f, &clip, sums + pass * f.total);
    }
    assert_memory_equal(sums, sums + f.total, (size_t)f.total * sizeof *sums);
    free(sums);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* ---- refusals and plans ---- */

typedef struct refusal {
    void (*plant)(psg_block *b);
    psg_status status;
    const char *word;
} refusal;

static void no_spatial(psg_block *b) { b->window.spatial = 0; }
static void many_spatial(psg_block *b) { b->window.spatial = 4; }
static void no_kernel(psg_block *b) { b->window.kernel[1] = 0; }
static void no_stride(psg_block *b) { b->window.stride[0] = 0; }
static void no_dilation(psg_block *b) { b->window.dilation[1] = -1; }
static void negative_padding(psg_block *b) { b->window.padding[0] = -1; }
static void negative_output(psg_block *b) { b->window.output[0] = -8; b->window.output[1] = -8; }
static void other_output(psg_block *b) { b->window.output[1] = 7; }
static void huge_dilation(psg_block *b) { b->window.dilation[1] = INT64_MAX / 2; }
static void huge_kernel(psg_block *b) { b->window.kernel[0] = b->window.kernel[1] = (int64_t)1 << 40; }
static void huge_padding(psg_block *b) { b->window.padding[1] = INT64_MAX; }
static void low_rank(psg_block *b) { b->activation.rank = 3; }
static void integer_image(psg_block *b) { b->activation.dtype = PSG_I32; }
static void double_image(psg_block *b) { b->activation.dtype = PSG_F64; }
static void image_batch(psg_block *b) { b->activation.shape[0] = 2; }
static void null_image(psg_block *b) { b->activation.data = NULL; }
static void wide_kernel(psg_block *b) { b->window.kernel[1] = 4; }
static void wrong_offset(psg_block *b) { b->offset = 1; }

static void windows_are_checked(void **state) {
    (void)state;
    static const refusal refusals[] = {
        { no_spatial, PSG_ERR_ARGUMENT, "spatial" },      { many_spatial, PSG_ERR_ARGUMENT, "spatial" },
        { no_kernel, PSG_ERR_ARGUMENT, "kernel[1]" },     { no_stride, PSG_ERR_ARGUMENT, "stride[0]" },
        { no_dilation, PSG_ERR_ARGUMENT, "dilation[1]" }, { negative_padding, PSG_ERR_ARGUMENT, "padding[0]" },
        { negative_output, PSG_ERR_ARGUMENT, "output[0]" }, { other_output, PSG_ERR_SHAPE, "56" },
        { huge_dilation, PSG_ERR_OVERFLOW, "reach" },     { huge_kernel, PSG_ERR_OVERFLOW, "window" },
        { huge_padding, PSG_ERR_OVERFLOW, "reach" },      { low_rank, PSG_ERR_SHAPE, "image" },
        { integer_image, PSG_ERR_DTYPE, "i32" },          { double_image, PSG_ERR_DTYPE, "f64" },
        { image_batch, PSG_ERR_BATCH, "image" },          { null_image, PSG_ERR_SHAPE, "image" },
        { wide_kernel, PSG_ERR_SHAPE, "fit" },            { wrong_offset, PSG_ERR_SHAPE, "fit" },
    };
    test_random random = { 12 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    draw(&f, &random, &problems[5], PSG_F32, TEST_CONTIGUOUS);
    psg_block good = f.block[0][0];
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        refusals[k].plant(&f.block[0][0]);
        check_refusals(context, &f, &random, refusals[k].status, refusals[k].word);
        f.block[0][0] = good;
    }
    fixture_free(&f);
    psg_context_destroy(context);
}

static void plan_starts_with(psg_context *context, const fixture *f, psg_question question, const char *expected) {
    char text[512];
    TEST_OK(context, psg_plan_text(context, question, f->pointer, 1, NULL, text, sizeof text, NULL));
    if (strncmp(text, expected, strlen(expected))) fail_msg("%s", text);
}

static void plans_name_their_windows(void **state) {
    (void)state;
    test_random random = { 13 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    draw(&f, &random, &problems[5], PSG_F32, TEST_CONTIGUOUS);
    plan_starts_with(context, &f, PSG_ASK_SQNORM, "sqnorm: gradient 0: tiles, factored of windows T=64 p=20 d=54");
    plan_starts_with(context, &f, PSG_ASK_WEIGHTED_SUM,
                     "weighted_sum: gradient 0: samples, factored of windows T=64 p=20 d=54");
    plan_starts_with(context, &f, PSG_ASK_DOT, "dot: gradient 0: tiles, factored of windows");
    fixture_free(&f);
    draw(&f, &random, &problems[8], PSG_F32, TEST_CONTIGUOUS);
    plan_starts_with(context, &f, PSG_ASK_WEIGHTED_SUM, "weighted_sum: gradient 0: samples, factored T=42 p=17 d=33");
    fixture_free(&f);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_agree_with_plain_loops),
        cmocka_unit_test(backprops_with_channels_first_agree),
        cmocka_unit_test(every_route_agrees),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_sample_alone_has_the_same_bits),
        cmocka_unit_test(windows_without_positions_beside_others),
        cmocka_unit_test(windows_beside_rows_of_a_table),
        cmocka_unit_test(one_sample_moves_the_sum_by_at_most_c),
        cmocka_unit_test(a_removed_sample_leaves_no_trace),
        cmocka_unit_test(windows_are_checked),
        cmocka_unit_test(plans_name_their_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
