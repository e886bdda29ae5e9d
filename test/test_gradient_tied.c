/* A table that is also the output head: norms by Grams and cross terms, certified, or by tiles. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct problem { int64_t batch, positions, head, rows, width; } problem;   /* head: the head's positions */

/* Both pieces; ids are drawn, so that rows are named again, and a fifth of them names none. */
typedef struct tied { fixture f, head; } tied;

static void new_tied(tied *t, test_random *random, const problem *q, psg_dtype dtype, int layout) {
    fixture_single(&t->f, random, dtype, FIXTURE_SPARSE, q->batch, q->positions, q->width, q->rows, layout);
    fixture_single(&t->head, random, dtype, FIXTURE_WHOLE, q->batch, q->head, q->rows, q->width, layout);
    const psg_tensor *ids = &t->f.block[0][0].ids;
    for (int64_t k = 0; k < psg_tensor_count(ids); k++) {
        if (test_range(random, 0, 4) == 0) test_set_at(ids, k, -1 - (double)(k % 3));
    }
    t->f.block[0][1] = t->head.block[0][0];
    t->f.gradient[0].block_count = 2;
    fixture_refresh(&t->f);
}

static void free_tied(tied *t) {
    fixture_free(&t->f);
    fixture_free(&t->head);
}

/* Computed and true squares differ by less than computed and upper ones.  tight: an upper norm is at most 5 % above. */
static int64_t check_certified(psg_context *context, const fixture *f, bool tight) {
    double *sqnorm = calloc((size_t)f->batch_size + 1, 8), *upper = calloc((size_t)f->batch_size + 1, 8);
    int64_t fallbacks = -1;
    TEST_OK(context, psg_sqnorm(context, f->pointer, f->count, sqnorm, upper, &fallbacks));
    for (int64_t n = 0; n < f->batch_size; n++) {
        long double truth = fixture_sqnorm(f, n), off = fabsl(truth - sqnorm[n]);
        double noise = test_gamma(f->dtype, 4 * f->positions) * sqrt(fixture_mass_product(f, n, n)) + 1e-40;
        bool loose = tight && sqrt(upper[n]) > 1.05 * (double)sqrtl(truth) + noise;
        if (!(upper[n] >= truth) || !(off <= (long double)upper[n] - sqnorm[n] + 1e-15L * truth) || loose) {
            fail_msg("sample %lld: true %.17Lg, sqnorm %.17g, upper %.17g", (long long)n, truth, sqnorm[n], upper[n]);
        }
    }
    free(sqnorm), free(upper);
    return fallbacks;
}

static psg_context *context_of(const char *isa, psg_gemm_engine engine, const char *route) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.threads = 2, options.isa = isa, options.gemm = engine;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    TEST_OK(context, psg_context_force_route(context, route));
    return context;
}

static bool goes_by_grams(psg_context *context, const fixture *f) {
    char text[512];
    TEST_OK(context, psg_plan_text(context, PSG_ASK_SQNORM, f->pointer, 1, NULL, text, sizeof text, NULL));
    return strstr(text, ": gram and cross terms, mixed of 2 blocks") != NULL;
}

/* ---- agreement ---- */

static const problem problems[] = {
    { 3, 24, 24, 300, 40 }, { 2, 17, 31, 9, 33 },  { 2, 70, 70, 500, 300 }, { 4, 1, 1, 50, 16 }, { 3, 5, 1, 40, 8 },
    { 2, 40, 3, 700, 5 },   { 2, 0, 6, 30, 7 },    { 2, 6, 0, 30, 7 },      { 1, 64, 64, 1, 20 }, { 0, 4, 4, 10, 4 },
};
enum { PROBLEMS = sizeof problems / sizeof problems[0] };

static void norms_are_certified(void **state) {
    (void)state;
    static const double scales[][2] = { { 1, 1 }, { -0.5, 3 }, { 2, 0 }, { 0, -1 }, { 1e-3, 1e4 } };
    const char *isas[3];
    size_t count = test_isas(isas);
    test_random random = { 1 };
    for (size_t k = 0; k < count * PROBLEMS * 10; k++) {
        const problem *q = &problems[k / count % PROBLEMS];
        tied t;
        new_tied(&t, &random, q, (psg_dtype)(k / count / PROBLEMS % 2), TEST_CONTIGUOUS);
        const double *scale = scales[k % 5];
        t.f.block[0][0].scale = scale[0], t.f.block[0][1].scale = scale[1];
        fixture_refresh(&t.f);
        psg_context *context = context_of(isas[k % count], k / count % 3 ? PSG_GEMM_KERNEL : PSG_GEMM_OPENBLAS, "gram");
        if (goes_by_grams(context, &t.f) != (q->head > 0)) fail_msg("problem %d: another route", (int)(q - problems));
        check_certified(context, &t.f, true);
        free_tied(&t);
        psg_context_destroy(context);
    }
}

static void every_question_agrees(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "gram", "tiles", "identity" };
    test_random random = { 2 };
    for (int k = 0; k < 4 * 2 * PROBLEMS; k++) {
        tied t;
        new_tied(&t, &random, &problems[k / 8], (psg_dtype)(k % 2), k % 3 ? TEST_CONTIGUOUS : TEST_ANY);
        psg_context *context = context_of(NULL, PSG_GEMM_AUTOMATIC, routes[k / 2 % 4]);
        check_all_questions(context, &t.f, &random);
        free_tied(&t);
        psg_context_destroy(context);
    }
}

/* ---- samples that cancel ---- */

/* The head's product becomes -(1 + difference) times the table's rows: position t is one-hot at its id. */
static void cancel(tied *t, int64_t n, double difference) {
    const psg_tensor *g = &t->head.array[0].view, *a = &t->head.array[1].view, *ids = &t->f.block[0][0].ids;
    for (int64_t k = 0; k < g->shape[1]; k++) {
        double id = test_get(ids, (int64_t[]){ n, k });
        for (int64_t i = 0; i < g->shape[2]; i++) test_set(g, (int64_t[]){ n, k, i }, (double)i == id ? -1 : 0);
        for (int64_t j = 0; j < a->shape[2]; j++) {
            double e = test_get3(&t->f.array[0].view, n, k, j);
            test_set(a, (int64_t[]){ n, k, j }, (double)(float)(e * (1 + difference * test_get3(a, n, k, j))));
        }
    }
}

static void samples_that_cancel_fall_back_alone(void **state) {
    (void)state;
    static const double differences[] = { 1, 1e-1, 1e-2, 1e-3, 1e-5, 1e-9, 0 };
    test_random random = { 3 };
    for (int k = 0; k < 7 * 4; k++) {
        tied t;
        new_tied(&t, &random, &(problem){ 3, 40, 40, 200, 60 }, (psg_dtype)(k % 2), TEST_CONTIGUOUS);
        cancel(&t, 1, differences[k / 4]);
        fixture_refresh(&t.f);
        psg_context *context = context_of(NULL, k / 2 % 2 ? PSG_GEMM_KERNEL : PSG_GEMM_OPENBLAS, "gram");
        int64_t fallbacks = check_certified(context, &t.f, true), least = differences[k / 4] < 1e-8;
        if (k % 2 == 0) least = differences[k / 4] < 2e-3;
        assert_true(fallbacks >= least && fallbacks <= (differences[k / 4] < 0.2));
        free_tied(&t);
        psg_context_destroy(context);
    }
}

/* What no row receives may be anything; nothing of it reaches the norm. */
static void positions_without_a_row_are_not_read(void **state) {
    (void)state;
    test_random random = { 4 };
    for (int k = 0; k < 4; k++) {
        tied t;
        new_tied(&t, &random, &problems[0], (psg_dtype)(k % 2), TEST_CONTIGUOUS);
        const psg_tensor *ids = &t.f.block[0][0].ids;
        for (int64_t n = 0; n < 3; n++) {
            test_set(ids, (int64_t[]){ n, 2 * n }, -100);
            for (int64_t j = 0; j < 40; j++) {
                test_set(&t.f.array[0].view, (int64_t[]){ n, 2 * n, j }, j % 2 ? NAN : INFINITY);
            }
        }
        fixture_refresh(&t.f);
        psg_context *context = context_of(NULL, k / 2 ? PSG_GEMM_KERNEL : PSG_GEMM_OPENBLAS, "gram");
        assert_int_equal(check_certified(context, &t.f, true), 0);
        free_tied(&t);
        psg_context_destroy(context);
    }
}

/* Values whose squares or products leave the range of the real type, or of double. */
static void extreme_values_keep_their_bound(void **state) {
    (void)state;
    static const double sizes[][2] = { { 1e-25, 1e-25 }, { 1e18, 1e15 }, { 1e-44, 1e-40 }, { 1e-160, 1e-170 },
                                       { 1e-300, 1e-20 }, { 1e150, 1e140 }, { 1e-8, 1e-30 } };
    test_random random = { 5 };
    for (int k = 0; k < 7 * 2; k++) {
        const psg_dtype dtype = (psg_dtype)(k % 2);
        const double *size = sizes[k / 2];
        if (dtype == PSG_F32 && (size[0] < 1e-45 || size[0] > 1e38)) continue;
        tied t;
        new_tied(&t, &random, &problems[0], dtype, TEST_CONTIGUOUS);
        const psg_tensor *scaled[] = { &t.f.array[0].view, &t.head.array[0].view, &t.head.array[1].view };
        for (int which = 0; which < 3; which++) {
            for (int64_t i = 0; i < psg_tensor_count(scaled[which]); i++) {
                test_set_at(scaled[which], i, size[which % 2] * test_get_at(scaled[which], i));
            }
        }
        fixture_refresh(&t.f);
        psg_context *context = context_of(NULL, PSG_GEMM_AUTOMATIC, "gram");
        double sqnorm[3], upper[3];
        TEST_OK(context, psg_sqnorm(context, t.f.pointer, 1, sqnorm, upper, NULL));
        for (int n = 0; n < 3; n++) assert_true((long double)upper[n] >= fixture_sqnorm(&t.f, n));
        free_tied(&t);
        psg_context_destroy(context);
    }
}

/* ---- one sample, one result ---- */

static void select_sample(psg_tensor *x, int64_t n) {
    x->data = (char *)x->data + n * x->stride[0] * (int64_t)psg_dtype_size(x->dtype);
    x->shape[0] = 1;
}

static void norms_do_not_know_their_neighbours(void **state) {
    (void)state;
    test_random random = { 6 };
    for (int k = 0; k < 8; k++) {
        tied t;
        new_tied(&t, &random, &(problem){ 4, 30, 30, 400, 50 }, (psg_dtype)(k % 2), TEST_CONTIGUOUS);
        for (int64_t n = 0; n < 4; n++) {   /* sample n ends early, by other numbers of zeros in both */
            for (int64_t s = 30 - 3 * n; s < 30; s++) {
                for (int64_t j = 0; j < 50; j++) test_set(&t.f.array[0].view, (int64_t[]){ n, s, j }, 0);
            }
            for (int64_t s = 30 - 2 * n; s < 30; s++) {
                for (int64_t i = 0; i < 400; i++) test_set(&t.head.array[0].view, (int64_t[]){ n, s, i }, 0);
            }
        }
        fixture_refresh(&t.f);
        psg_context *context = context_of(NULL, PSG_GEMM_AUTOMATIC, k / 4 ? "gram" : NULL);
        double all[2][4], one[2];
        TEST_OK(context, psg_sqnorm(context, t.f.pointer, 1, all[0], all[1], NULL));
        for (int64_t n = 0; n < 4; n++) {
            psg_block blocks[2] = { t.f.block[0][0], t.f.block[0][1] };
            select_sample(&blocks[0].backprop, n), select_sample(&blocks[0].ids, n);
            select_sample(&blocks[1].backprop, n), select_sample(&blocks[1].activation, n);
            psg_gradient gradient = psg_gradient_of_blocks(blocks, 2, 2, t.f.gradient[0].shape);
            const psg_gradient *set = &gradient;
            TEST_OK(context, psg_sqnorm(context, &set, 1, one, one + 1, NULL));
            assert_true(one[0] == all[0][n] && one[1] == all[1][n]);
        }
        free_tied(&t);
        psg_context_destroy(context);
    }
}

/* ---- the choice ---- */

static void the_cheaper_route_is_told_and_taken(void **state) {
    (void)state;
    const struct { problem q; bool grams; } cases[] = {
        { { 1, 16, 16, 3000, 64 }, true }, { { 1, 200, 200, 64, 16 }, false }, { { 1, 1, 1, 1000, 64 }, true },
    };
    test_random random = { 7 };
    for (size_t k = 0; k < 3; k++) {
        tied t;
        new_tied(&t, &random, &cases[k].q, PSG_F32, TEST_CONTIGUOUS);
        psg_context *context = context_of(NULL, PSG_GEMM_AUTOMATIC, NULL);
        assert_true(goes_by_grams(context, &t.f) == cases[k].grams);
        uint64_t before = psg_context_products(context, PSG_GEMM_AUTOMATIC);
        check_certified(context, &t.f, true);
        assert_true((psg_context_products(context, PSG_GEMM_AUTOMATIC) > before) == cases[k].grams);
        TEST_OK(context, psg_context_force_route(context, "tiles"));
        assert_false(goes_by_grams(context, &t.f));
        free_tied(&t);
        psg_context_destroy(context);
    }
}

/* Two pieces of one table and the head; a head on some of the rows; scales that f32 does not hold. */
static void other_mixtures_go_by_tiles(void **state) {
    (void)state;
    test_random random = { 8 };
    psg_context *context = context_of(NULL, PSG_GEMM_AUTOMATIC, "gram");
    for (int k = 0; k < 3; k++) {
        tied t;
        new_tied(&t, &random, &(problem){ 2, 9, 9, 80, 12 }, PSG_F32, TEST_CONTIGUOUS);
        if (k == 0) t.f.block[0][2] = t.f.block[0][0], t.f.gradient[0].block_count = 3;
        if (k == 1) t.f.block[0][1].offset = 12, t.f.gradient[0].shape[0] = 81;
        if (k == 2) t.f.block[0][1].scale = 1e-35;
        fixture_refresh(&t.f);
        assert_false(goes_by_grams(context, &t.f));
        check_certified(context, &t.f, false);
        free_tied(&t);
    }
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_certified),
        cmocka_unit_test(every_question_agrees),
        cmocka_unit_test(samples_that_cancel_fall_back_alone),
        cmocka_unit_test(positions_without_a_row_are_not_read),
        cmocka_unit_test(extreme_values_keep_their_bound),
        cmocka_unit_test(norms_do_not_know_their_neighbours),
        cmocka_unit_test(the_cheaper_route_is_told_and_taken),
        cmocka_unit_test(other_mixtures_go_by_tiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
