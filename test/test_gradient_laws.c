/* Laws that hold whatever the values: sums, permutations, scaling, duplication, isolation. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 5, ROUNDS = 24 };

static psg_tensor sample_of(const answers *a, size_t k, int64_t n) {
    psg_tensor view = a->out[k].view;
    view.data = (char *)view.data + n * view.stride[0] * (int64_t)psg_dtype_size(view.dtype);
    view.shape[0] = 1;
    return view;
}

static double bound_at(const fixture *f, double k_terms, int64_t n, size_t k, int64_t e) {
    return test_bound(f->dtype, k_terms, f->terms[n * f->total + f->start[k] + e]);
}

/* sum_n grad_sample[n] = weighted_sum with weights NULL. */
static void samples_sum_to_the_ordinary_gradient(void **state) {
    (void)state;
    test_random random = { 1 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        answers samples = answers_of(context, &f, PSG_ASK_GRAD_SAMPLE), sums = answers_of(context, &f, PSG_ASK_GRAM);
        TEST_OK(context, psg_weighted_sum(context, f.pointer, f.count, NULL, PSG_OVERWRITE, sums.sums));
        for (size_t k = 0; k < f.count; k++) {
            for (int64_t e = 0; e < f.size[k]; e++) {
                double expected = 0, bound = 0;
                for (int64_t n = 0; n < B; n++) {
                    expected += test_get_at(&samples.out[k].view, n * f.size[k] + e);
                    bound += bound_at(&f, 2 * f.positions + 80, n, k, e);
                }
                test_near(test_get_at(&sums.sums[k], e), expected, bound, "sum", e);
            }
        }
        answers_free(&samples);
        answers_free(&sums);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* A selection of samples (a permutation, copies of one) selects their gradients and norms bit for bit. */
static void check_selection(psg_context *context, const fixture *f, const int64_t *samples, int64_t count) {
    fixture chosen;
    fixture_select(&chosen, f, samples, count);
    answers all = answers_of(context, f, PSG_ASK_GRAD_SAMPLE), some = answers_of(context, &chosen, PSG_ASK_GRAD_SAMPLE);
    TEST_OK(context, answers_ask(&all, context, f, PSG_ASK_SQNORM, PSG_OVERWRITE));
    TEST_OK(context, answers_ask(&some, context, &chosen, PSG_ASK_SQNORM, PSG_OVERWRITE));
    TEST_OK(context, answers_ask(&all, context, f, PSG_ASK_DOT, PSG_OVERWRITE));
    TEST_OK(context, answers_ask(&some, context, &chosen, PSG_ASK_DOT, PSG_OVERWRITE));
    for (int64_t n = 0; n < count; n++) {
        for (size_t k = 0; k < f->count; k++) {
            psg_tensor expected = sample_of(&all, k, samples[n]), actual = sample_of(&some, k, n);
            assert_true(test_same_bits(&expected, &actual));
        }
        assert_true(some.sqnorm[n] == all.sqnorm[samples[n]] && some.upper[n] == all.upper[samples[n]]);
        double terms = 0;
        for (int64_t e = 0; e < f->total; e++) terms += f->terms[samples[n] * f->total + e];
        test_near(some.dots[n], all.dots[samples[n]], test_bound(f->dtype, f->features + f->positions + 8, 10 * terms),
                  "dot", n);
    }
    answers_free(&all);
    answers_free(&some);
    fixture_free(&chosen);
}

static void permuted_samples_permute_the_answers(void **state) {
    (void)state;
    static const int64_t permutations[][B] = { { 4, 3, 2, 1, 0 }, { 1, 2, 3, 4, 0 }, { 0, 2, 1, 4, 3 } };
    test_random random = { 2 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        check_selection(context, &f, permutations[round % 3], B);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void copies_of_a_sample_have_its_answers(void **state) {
    (void)state;
    static const int64_t copies[] = { 3, 3, 3, 0, 3, 0 };
    test_random random = { 3 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        check_selection(context, &f, copies, 6);
        check_selection(context, &f, copies, 1);   /* a batch of that sample alone */
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* A power of two scales every answer exactly: both through the block and through the question. */
static void scales_scale(void **state) {
    (void)state;
    test_random random = { 4 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        answers plain = answers_of(context, &f, PSG_ASK_GRAD_SAMPLE), scaled = answers_of(context, &f, PSG_ASK_SQNORM);
        TEST_OK(context, answers_ask(&plain, context, &f, PSG_ASK_SQNORM, PSG_OVERWRITE));
        scaled.scale = 0.5;
        for (size_t k = 0; k < f.count; k++) f.block[k][0].scale = 8;
        TEST_OK(context, answers_ask(&scaled, context, &f, PSG_ASK_GRAD_SAMPLE, PSG_OVERWRITE));
        TEST_OK(context, answers_ask(&scaled, context, &f, PSG_ASK_SQNORM, PSG_OVERWRITE));
        for (size_t k = 0; k < f.count; k++) {
            for (int64_t e = 0; e < B * f.size[k]; e++) {
                double value = test_get_at(&plain.out[k].view, e);
                assert_true(test_get_at(&scaled.out[k].view, e) == 4 * value);
            }
        }
        for (int64_t n = 0; n < B; n++) {
            test_near(scaled.sqnorm[n], 64 * plain.sqnorm[n], 1e-12 * scaled.sqnorm[n], "sqnorm", n);
        }
        answers_free(&plain);
        answers_free(&scaled);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* Another sample's values, NaN included, change no bit of this sample's. */
static void check_isolation(psg_context *context, const fixture *f, test_random *random, double poison) {
    answers before = answers_of(context, f, PSG_ASK_GRAD_SAMPLE), after = answers_of(context, f, PSG_ASK_GRAD_SAMPLE);
    static const psg_question questions[] = { PSG_ASK_GRAD_SAMPLE, PSG_ASK_SQNORM, PSG_ASK_DOT, PSG_ASK_GRAM };
    for (int k = 0; k < 4; k++) TEST_OK(context, answers_ask(&before, context, f, questions[k], PSG_OVERWRITE));
    int64_t j = test_range(random, 0, B - 1);
    for (size_t k = 0; k < f->array_count; k++) {
        int64_t row = psg_tensor_count(&f->array[k].view) / B;
        for (int64_t e = 0; e < row; e++) {
            test_set_at(&f->array[k].view, j * row + e, isnan(poison) ? poison : poison * test_normal(random));
        }
    }
    for (int k = 0; k < 4; k++) TEST_OK(context, answers_ask(&after, context, f, questions[k], PSG_OVERWRITE));
    for (int64_t n = 0; n < B; n++) {
        if (n == j) {
            assert_true(!isnan(poison) || (!isfinite(after.sqnorm[n]) && !isfinite(after.upper[n])));
            continue;
        }
        for (size_t k = 0; k < f->count; k++) {
            psg_tensor expected = sample_of(&before, k, n), actual = sample_of(&after, k, n);
            assert_true(test_same_bits(&expected, &actual));
        }
        assert_true(before.sqnorm[n] == after.sqnorm[n] && before.upper[n] == after.upper[n]);
        assert_true(before.dots[n] == after.dots[n]);
        for (int64_t m = 0; m < B; m++) assert_true(m == j || before.gram[n * B + m] == after.gram[n * B + m]);
    }
    answers_free(&before);
    answers_free(&after);
}

static void samples_are_isolated(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "identity", "gram", "tiles" };
    static const double poisons[] = { 1.0, 1e6, (double)NAN };
    test_random random = { 5 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < 3 * ROUNDS; round++) {
        TEST_OK(context, psg_context_force_route(context, routes[round % 4]));
        fixture f;
        fixture_draw_layer(&f, &random, round / 3, B);
        check_isolation(context, &f, &random, poisons[round % 3]);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_sum_to_the_ordinary_gradient),
        cmocka_unit_test(permuted_samples_permute_the_answers),
        cmocka_unit_test(copies_of_a_sample_have_its_answers),
        cmocka_unit_test(scales_scale),
        cmocka_unit_test(samples_are_isolated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
