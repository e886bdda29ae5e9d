/* Sums over samples: micro-batches, memory budgets, weights of zero, nothing to sum. */
#include "gradient_fixture.h"

#include <math.h>

enum { B = 5, ROUNDS = 24 };

/* ---- micro-batches ---- */

static psg_gradient part_of(psg_block *block, const psg_gradient *whole, int64_t first, int64_t count) {
    *block = whole->blocks[0];
    psg_tensor *views[] = { &block->backprop, &block->activation };
    for (int k = 0; k < (block->form == PSG_ROWS ? 1 : 2); k++) {
        int64_t bytes = views[k]->stride[0] * (int64_t)psg_dtype_size(views[k]->dtype);
        views[k]->data = (char *)views[k]->data + first * bytes;
        views[k]->shape[0] = count;
    }
    return psg_gradient_of_blocks(block, 1, whole->rank, whole->shape);
}

/* Sums over micro-batches, accumulated in PSG_F64, equal the sum over the batch. */
static void micro_batches_add_up(void **state) {
    (void)state;
    static const psg_question questions[] = { PSG_ASK_WEIGHTED_SUM, PSG_ASK_CLIPPED_SUM, PSG_ASK_SUM_OF_SQUARES };
    test_random random = { 8 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        psg_question question = questions[round % 3];
        answers whole = answers_of(context, &f, question), parts = answers_of(context, &f, question);
        whole.clip = parts.clip = (psg_clip){ .max_grad_norm = 0.7, .max_batch_size = 64 };
        TEST_OK(context, answers_ask(&whole, context, &f, question, PSG_OVERWRITE));
        for (int64_t first = 0; first < B; first += 2) {
            int64_t count = first + 2 < B ? 2 : B - first;
            psg_block block[FIXTURE_GRADIENTS];
            psg_gradient part[FIXTURE_GRADIENTS];
            const psg_gradient *set[FIXTURE_GRADIENTS];
            for (size_t k = 0; k < f.count; k++) {
                part[k] = part_of(&block[k], &f.gradient[k], first, count);
                set[k] = &part[k];
            }
            psg_write write = first ? PSG_ACCUMULATE : PSG_OVERWRITE;
            if (question == PSG_ASK_WEIGHTED_SUM) {
                TEST_OK(context, psg_weighted_sum(context, set, f.count, parts.weights + first, write, parts.sums));
            } else if (question == PSG_ASK_CLIPPED_SUM) {
                TEST_OK(context,
                        psg_clipped_sum(context, set, f.count, &parts.clip, write, parts.sums, NULL, NULL, NULL));
            } else {
                TEST_OK(context, psg_sum_of_squares(context, set, f.count, write, parts.sums));
            }
        }
        for (size_t k = 0; k < f.count; k++) {
            for (int64_t e = 0; e < f.size[k]; e++) {
                double terms = 0;
                for (int64_t n = 0; n < B; n++) {
                    double term = f.terms[n * f.total + f.start[k] + e];
                    terms += question == PSG_ASK_SUM_OF_SQUARES ? term * term : term * 10;
                }
                test_near(test_get_at(&parts.sums[k], e), test_get_at(&whole.sums[k], e),
                          test_bound(f.dtype, 2 * f.positions + 80, terms), psg_question_name(question), e);
            }
        }
        answers_free(&whole);
        answers_free(&parts);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* A tape's memory budget changes the plan, not the answer. */
static void budgets_agree(void **state) {
    (void)state;
    test_random random = { 9 };
    for (int round = 0; round < ROUNDS; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        static const size_t budgets[] = { 0, 1, 5000, (size_t)1 << 30 };
        for (int k = 0; k < 4; k++) {
            psg_context *context = test_context_with(NULL, 2, NULL, budgets[k]);
            test_random same = { 77 };
            check_question(context, &f, &same, PSG_ASK_CLIPPED_SUM);
            psg_context_destroy(context);
        }
        fixture_free(&f);
    }
}

/* ---- weights of zero ---- */

static void samples_of_weight_zero_are_not_read(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "identity", "gram", "tiles", "keep", "recompute" };
    test_random random = { 10 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < 2 * ROUNDS; round++) {
        TEST_OK(context, psg_context_force_route(context, routes[round % 6]));
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        answers poisoned = answers_of(context, &f, PSG_ASK_GRAM), zero = answers_of(context, &f, PSG_ASK_GRAM);
        int64_t victims[2] = { round % B, (round + 2) % B };
        double values[2] = { round % 2 ? NAN : INFINITY, 0 };
        for (int pass = 0; pass < 2; pass++) {
            answers *a = pass ? &zero : &poisoned;
            for (size_t k = 0; k < f.array_count; k++) {
                int64_t row = psg_tensor_count(&f.array[k].view) / B;
                for (int64_t e = 0; e < 2 * row; e++) {
                    test_set_at(&f.array[k].view, victims[e / row] * row + e % row, values[pass]);
                }
            }
            a->weights[victims[0]] = 0;
            a->weights[victims[1]] = -0.0;
            TEST_OK(context, answers_ask(a, context, &f, PSG_ASK_WEIGHTED_SUM, PSG_OVERWRITE));
        }
        for (size_t k = 0; k < f.count; k++) assert_true(test_same_bits(&poisoned.sums[k], &zero.sums[k]));
        answers_free(&poisoned);
        answers_free(&zero);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* All weights zero, an empty batch, no positions: zeros are written, or nothing is added. */
static void empty_sums_are_zero(void **state) {
    (void)state;
    test_random random = { 11 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < 12; k++) {
        fixture f;
        int64_t batch = k % 3 == 0 ? 0 : 4, positions = k % 3 == 1 ? 0 : 3;
        fixture_single(&f, &random, (psg_dtype)(k / 6), FIXTURE_WHOLE, batch, positions, 7, 9, TEST_CONTIGUOUS);
        answers a;
        psg_write write = (psg_write)(k / 3 % 2);
        answers_new(&a, &f, &random, PSG_F64, write);
        for (int64_t n = 0; n < batch; n++) a.weights[n] = k % 3 == 2 ? 0 : 1;
        double before = test_get_at(&a.sums[0], 5);
        TEST_OK(context, answers_ask(&a, context, &f, PSG_ASK_WEIGHTED_SUM, write));
        assert_true(test_get_at(&a.sums[0], 5) == (write == PSG_ACCUMULATE ? before : 0));
        answers_free(&a);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(micro_batches_add_up),
        cmocka_unit_test(budgets_agree),
        cmocka_unit_test(samples_of_weight_zero_are_not_read),
        cmocka_unit_test(empty_sums_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
