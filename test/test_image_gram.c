/* Norms of convolution weights by the Gram of the image: random windows against plain loops and against tiles; bounds
 * that hold where the Gram cancels; a sample alone. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct problem {
    psg_window window;
    int64_t batch, p, image[4];
} problem;

/* Any windows: images of no pixel, one and many, outputs that end before the image does or read behind it. */
static problem draw_problem(test_random *random) {
    static const int64_t lengths[] = { 1, 2, 3, 5, 8, 13, 19, 40 }, kernels[] = { 1, 2, 3, 3, 5 };
    problem q = { .window.spatial = (int)test_range(random, 1, 3), .batch = test_range(random, 1, 3) };
    q.p = test_range(random, 1, 40);
    q.image[0] = test_range(random, 1, 30);
    for (int d = 0; d < q.window.spatial; d++) {
        q.window.kernel[d] = TEST_PICK(random, kernels);
        q.window.stride[d] = test_range(random, 1, 3);
        q.window.dilation[d] = test_range(random, 1, 3);
        q.window.padding[d] = test_range(random, 0, 3);
        q.window.output[d] = d == 0 ? TEST_PICK(random, lengths) : test_range(random, 1, 9);
        q.image[1 + d] = test_range(random, 0, 8) ? (q.window.output[d] - 1) * q.window.stride[d] + 1 : 1;
        q.image[1 + d] += test_range(random, 0, 2);
    }
    return q;
}

static void draw(fixture *f, test_random *random, const problem *q, psg_dtype dtype, int layout) {
    fixture_unfolded(f, random, dtype, q->batch, q->p, &q->window, q->image, layout);
}

static psg_context *context_with(const char *isa, const char *route) {
    psg_context *context = test_context(2, isa);
    TEST_OK(context, psg_context_force_route(context, route));
    return context;
}

static bool goes_by_gram(psg_context *context, const fixture *f) {
    char text[512];
    TEST_OK(context, psg_plan_text(context, PSG_ASK_SQNORM, f->pointer, 1, NULL, text, sizeof text, NULL));
    return strstr(text, ": gram, factored of windows") != NULL;
}

/* The last positions of every sample but the first are zero. */
static void shorten(const fixture *f, test_random *random) {
    const psg_tensor *g = &f->block[0][0].backprop;
    for (int64_t n = 1; n < f->batch_size; n++) {
        for (int64_t t = test_range(random, 0, g->shape[1]); t < g->shape[1]; t++) {
            for (int64_t i = 0; i < g->shape[2]; i++) test_set(g, (int64_t[]){ n, t, i }, 0);
        }
    }
}

static void random_windows_agree_with_plain_loops(void **state) {
    (void)state;
    const char *isas[3];
    const size_t isa_count = test_isas(isas);
    test_random random = { 21 };
    int grams = 0, fallbacks = 0;
    for (int k = 0; k < 360; k++) {
        psg_context *context = context_with(isas[(size_t)k % isa_count], "gram");
        problem q = draw_problem(&random);
        fixture f;
        draw(&f, &random, &q, (psg_dtype)(k / 3 % 2), k / 6 % 2 ? TEST_ANY : TEST_CONTIGUOUS);
        shorten(&f, &random);
        fixture_refresh(&f);
        check_question(context, &f, &random, PSG_ASK_SQNORM);
        check_question(context, &f, &random, PSG_ASK_CLIPPED_SUM);
        answers a = answers_of(context, &f, PSG_ASK_SQNORM);
        if (goes_by_gram(context, &f)) {
            grams++;
            fallbacks += a.fallbacks > 0;
        }
        answers_free(&a);
        fixture_free(&f);
        psg_context_destroy(context);
    }
    assert_true(grams > 120 && fallbacks < grams / 4);   /* wrong Grams would be answered by tiles */
}

/* Two uses of one weight, and groups, whose blocks lie apart. */
static void several_blocks_agree(void **state) {
    (void)state;
    const problem q = { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 6, 6 } }, 3, 24, { 16, 6, 6 } };
    test_random random = { 22 };
    for (int k = 0; k < 2 * 2; k++) {
        psg_context *context = context_with(NULL, "gram");
        fixture f, other;
        draw(&f, &random, &q, (psg_dtype)(k % 2), TEST_CONTIGUOUS);
        draw(&other, &random, &q, (psg_dtype)(k % 2), TEST_CONTIGUOUS);
        f.block[0][1] = other.block[0][0];
        if (k / 2) {
            f.block[0][1].offset = 24 * 16 * 9;
            f.gradient[0].shape[0] = 48;
        }
        f.gradient[0].block_count = 2;
        for (int j = 0; j < 2; j++) f.array[f.array_count++] = other.array[j];
        f.count = 0;
        fixture_add(&f, 2, 2, f.gradient[0].shape);
        fixture_refresh(&f);
        check_all_questions(context, &f, &random);
        assert_true(goes_by_gram(context, &f) == (k / 2 == 1));
        other.array_count = 0;
        fixture_free(&other);
        fixture_free(&f);
        psg_context_destroy(context);
    }
}

/* ---- certified bounds ---- */

/* Alike windows (offset and a small spread) under backprops that sum to almost 0 over the positions. */
static void make_cancelling(fixture *f, test_random *random, double spread) {
    const psg_tensor *g = &f->block[0][0].backprop, *x = &f->block[0][0].activation;
    for (int64_t e = 0; e < psg_tensor_count(x); e++) test_set_at(x, e, 300 + 300 * spread * test_normal(random));
    for (int64_t n = 0; n < f->batch_size; n++) {
        for (int64_t i = 0; i < g->shape[2]; i++) {
            double sum = 0;
            for (int64_t t = 0; t + 1 < g->shape[1]; t++) sum += test_get3(g, n, t, i);
            test_set(g, (int64_t[]){ n, g->shape[1] - 1, i }, spread - sum);
        }
    }
    fixture_refresh(f);
}

static int64_t check_bounds(psg_context *context, const fixture *f) {
    answers a = answers_of(context, f, PSG_ASK_SQNORM);
    for (int64_t n = 0; n < f->batch_size; n++) {
        long double truth = fixture_sqnorm(f, n);
        double noise = test_gamma(f->dtype, 4 * f->positions) * sqrt(fixture_mass_product(f, n, n));
        bool holds = (long double)a.upper[n] >= truth && a.upper[n] >= a.sqnorm[n];
        if (!holds || sqrt(a.upper[n]) > 1.05 * (double)sqrtl(truth) + noise) {
            fail_msg("true norm %.9Lg, upper %.9g", sqrtl(truth), sqrt(a.upper[n]));
        }
    }
    int64_t fallbacks = a.fallbacks;
    answers_free(&a);
    return fallbacks;
}

static void bounds_hold_where_the_gram_cancels(void **state) {
    (void)state;
    static const problem problems[] = {
        { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 8, 8 } }, 3, 32, { 48, 10, 10 } },
        { { 1, { 5 }, { 2 }, { 2 }, { 0 }, { 60 } }, 2, 64, { 40, 130 } },
        { { 3, { 2, 2, 2 }, { 1, 1, 1 }, { 1, 1, 1 }, { 0, 0, 0 }, { 3, 4, 5 } }, 2, 48, { 64, 4, 5, 6 } },
    };
    static const double spreads[] = { 1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-7, 1e-9, 1e-12, 0 };
    test_random random = { 23 };
    psg_context *context = context_with(NULL, "gram");
    for (int k = 0; k < 3 * 2; k++) {
        int64_t fallbacks = 0;
        for (int s = 0; s < 10; s++) {
            fixture f;
            draw(&f, &random, &problems[k / 2], (psg_dtype)(k % 2), TEST_CONTIGUOUS);
            make_cancelling(&f, &random, spreads[s]);
            assert_true(goes_by_gram(context, &f));
            fallbacks = check_bounds(context, &f);
            if (s == 0) assert_int_equal(fallbacks, 0);
            fixture_free(&f);
        }
        assert_int_equal(fallbacks, problems[k / 2].batch);
    }
    psg_context_destroy(context);
}

/* ---- the sample alone ---- */

/* Sequences of 1-d, images of 2-d: copied into longer ones, whose further pixels are anything and positions zero. */
static void embed(const fixture *from, fixture *to) {
    const psg_tensor *x = &from->block[0][0].activation, *g = &from->block[0][0].backprop;
    const psg_tensor *longer = &to->block[0][0].activation, *wider = &to->block[0][0].backprop;
    const int64_t rest = x->rank == 4 ? x->shape[3] : 1, pixels = x->shape[2] * rest;
    for (int64_t n = 0; n < from->batch_size; n++) {
        for (int64_t e = 0; e < x->shape[1] * pixels; e++) {
            int64_t c = e / pixels, q = e % pixels;
            int64_t at = (n * x->shape[1] + c) * longer->shape[2] * rest + q;
            test_set_at(longer, at, test_get_at(x, n * x->shape[1] * pixels + e));
        }
        for (int64_t e = 0; e < wider->shape[1] * g->shape[2]; e++) {
            int64_t t = e / g->shape[2], i = e % g->shape[2];
            test_set(wider, (int64_t[]){ n, t, i }, t < g->shape[1] ? test_get3(g, n, t, i) : 0);
        }
    }
}

/* The route is the planner's: it must not see the padding either. */
static void padded_images_have_the_same_bits(void **state) {
    (void)state;
    test_random random = { 24 };
    int grams = 0;
    for (int k = 0; k < 60; k++) {
        const int64_t length = test_range(&random, 1, 30), height = test_range(&random, 1, 8), more[] = { 1, 5, 450 };
        problem q = { { 1, { 3 }, { 1 }, { 1 }, { 0 }, { length } }, 2, test_range(&random, 2, 48),
                      { test_range(&random, 2, 48), length + 2 } };
        if (k % 2) {
            q.window = (psg_window){ 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 0, 1 }, { height, 6 } };
            q.image[1] = height + 2;
            q.image[2] = 6;
        }
        problem padded = q;
        padded.window.output[0] += more[k / 2 % 3];
        padded.image[1] += more[k / 2 % 3];
        psg_context *context = context_with(NULL, NULL);
        fixture f, g;
        draw(&f, &random, &q, PSG_F32, TEST_CONTIGUOUS);
        draw(&g, &random, &padded, PSG_F32, TEST_CONTIGUOUS);
        embed(&f, &g);
        grams += goes_by_gram(context, &f);
        answers a = answers_of(context, &f, PSG_ASK_SQNORM), b = answers_of(context, &g, PSG_ASK_SQNORM);
        for (int64_t n = 0; n < q.batch; n++) {
            if (a.sqnorm[n] != b.sqnorm[n]) fail_msg("%.17g, padded %.17g", a.sqnorm[n], b.sqnorm[n]);
        }
        answers_free(&a), answers_free(&b);
        fixture_free(&f), fixture_free(&g);
        psg_context_destroy(context);
    }
    if (grams <= 10 || grams >= 60) fail_msg("%d of 60 go by the Gram", grams);
}

static void a_sample_alone_has_the_same_norm(void **state) {
    (void)state;
    test_random random = { 25 };
    for (int k = 0; k < 100; k++) {
        psg_context *one = test_context(1, NULL), *three = test_context(3, NULL);
        TEST_OK(one, psg_context_force_route(one, "gram"));
        TEST_OK(three, psg_context_force_route(three, "gram"));
        problem q = draw_problem(&random);
        fixture all, alone;
        draw(&all, &random, &q, (psg_dtype)(k % 2), TEST_CONTIGUOUS);
        shorten(&all, &random);
        int64_t n = q.batch - 1;
        fixture_select(&alone, &all, &n, 1);
        answers a = answers_of(three, &all, PSG_ASK_SQNORM), b = answers_of(one, &alone, PSG_ASK_SQNORM);
        assert_true(a.sqnorm[n] == b.sqnorm[0] && a.upper[n] == b.upper[0]);
        answers_free(&a), answers_free(&b);
        fixture_free(&all), fixture_free(&alone);
        psg_context_destroy(one), psg_context_destroy(three);
    }
}

/* Where a layer's norms go without force: by the image where channels are many against positions. */
static void plans_weigh_images_against_tiles(void **state) {
    (void)state;
    const problem deep = { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 8, 8 } }, 1, 128, { 128, 8, 8 } };
    const problem wide = { { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 32, 32 } }, 1, 16, { 16, 32, 32 } };
    test_random random = { 26 };
    psg_context *context = context_with(NULL, NULL);
    fixture f;
    draw(&f, &random, &deep, PSG_F32, TEST_CONTIGUOUS);
    assert_true(goes_by_gram(context, &f));
    fixture_free(&f);
    draw(&f, &random, &wide, PSG_F32, TEST_CONTIGUOUS);
    assert_false(goes_by_gram(context, &f));
    fixture_free(&f);
    psg_context_destroy(context);
}

/* One line of an image, alone and with a line of zeros behind it: the first dimension is that of the window, however
 * short. */
static void a_line_is_padded(void **state) {
    (void)state;
    test_random random = { 77 };
    psg_context *context = test_context(1, NULL);
    for (int round = 0; round < 800; round++) {
        const int64_t C = test_range(&random, 1, 64), W = test_range(&random, 4, 63), p = test_range(&random, 1, 96);
        const int64_t live = round % 2 ? W : test_range(&random, 1, W);
        double square[2], upper[2];
        float *g = calloc((size_t)(2 * W * p), sizeof *g), *image = calloc((size_t)(2 * C * W), sizeof *image);
        for (int64_t k = 0; k < live * p; k++) g[k] = (float)test_normal(&random);
        for (int64_t k = 0; k < C * W; k++) image[k / W * 2 * W + k % W] = (float)test_normal(&random);
        for (int64_t lines = 2; lines > 0; lines--) {   /* then the image without its second line */
            psg_window window = { .spatial = 2, .kernel = { 1, 3 }, .stride = { 1, 1 }, .dilation = { 1, 1 },
                                  .padding = { 0, 1 }, .output = { lines, W } };
            for (int64_t k = 0; k < C * W && lines == 1; k++) image[k] = image[k / W * 2 * W + k % W];
            psg_tensor backprop = psg_f32_3d(g, 1, lines * W, p);
            psg_tensor pixels = psg_tensor_of(PSG_F32, image, 4, (int64_t[]){ 1, C, lines, W });
            psg_block block = psg_unfolded(&backprop, &pixels, &window);
            psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ p, 3 * C });
            const psg_gradient *set[] = { &gradient };
            TEST_OK(context, psg_sqnorm(context, set, 1, &square[lines - 1], &upper[lines - 1], NULL));
        }
        assert_true(square[0] == square[1] && upper[0] == upper[1]);
        free(g), free(image);
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_padded),
        cmocka_unit_test(random_windows_agree_with_plain_loops),
        cmocka_unit_test(several_blocks_agree),
        cmocka_unit_test(bounds_hold_where_the_gram_cancels),
        cmocka_unit_test(padded_images_have_the_same_bits),
        cmocka_unit_test(a_sample_alone_has_the_same_norm),
        cmocka_unit_test(plans_weigh_images_against_tiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
