/* Memory of the questions: none in a second call; every allocation that fails is an error without a trace. */
#include "gradient_fixture.h"

#include <string.h>

static void draw_set(fixture *f, test_random *random, int round) {
    if (round % 3) fixture_random(f, random, (psg_dtype)(round % 2));
    else fixture_layer(f, random, (psg_dtype)(round % 2), 33, round % 2 ? 64 : 1, 65, 33);
}

static void a_second_call_allocates_nothing(void **state) {
    (void)state;
    test_random random = { 7 };
    for (int round = 0; round < 24; round++) {
        fixture f;
        draw_set(&f, &random, round);
        psg_context *context = test_context_with(NULL, 2, NULL, round % 4 < 2 ? 0 : (size_t)64 << 20);
        for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
            answers a;
            answers_new(&a, &f, &random, f.dtype, PSG_OVERWRITE);
            TEST_OK(context, answers_ask(&a, context, &f, (psg_question)question, PSG_OVERWRITE));
            uint64_t before = psg_context_allocations(context);
            for (int again = 0; again < 2; again++) {
                TEST_OK(context, answers_ask(&a, context, &f, (psg_question)question, PSG_OVERWRITE));
            }
            if (psg_context_allocations(context) != before) {
                fail_msg("%s allocates in a second call", psg_question_name((psg_question)question));
            }
            answers_free(&a);
        }
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

/* The n-th allocation of one question fails: either the question does without it, or it is PSG_ERR_MEMORY, outputs
 * untouched, and the next try gives the bits of an undisturbed one.  Returns whether a failure was met. */
static bool fail_one(const fixture *f, psg_question question, size_t budget, uint64_t n, bool forever, uint64_t bits) {
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 2, NULL, budget);
    test_random random = { 8 };
    answers a;
    answers_new(&a, f, &random, f->dtype, PSG_OVERWRITE);
    uint64_t before = answers_hash(&a);
    test_allocator_arm(&allocator, n, forever);
    psg_status status = answers_ask(&a, context, f, question, PSG_OVERWRITE);
    bool failed = allocator.failed > 0;
    if (status) {
        assert_true(failed);
        const char *name = psg_question_name(question);
        assert_int_equal(status, PSG_ERR_MEMORY);
        assert_non_null(strstr(psg_context_message(context), name));
        if (question != PSG_ASK_GRAD_SAMPLE && answers_hash(&a) != before) {
            fail_msg("%s has written an output before its memory ran out", name);
        }
    }
    test_allocator_arm(&allocator, 0, false);
    TEST_OK(context, answers_ask(&a, context, f, question, PSG_OVERWRITE));
    assert_true(answers_hash(&a) == bits);
    answers_free(&a);
    psg_context_destroy(context);
    assert_int_equal(allocator.live_bytes, 0);
    assert_int_equal(allocator.live_blocks, 0);
    assert_int_equal(allocator.mistakes, 0);
    return failed;
}

static uint64_t undisturbed_bits(const fixture *f, psg_question question, size_t budget) {
    psg_context *context = test_context_with(NULL, 2, NULL, budget);
    test_random random = { 8 };
    answers a;
    answers_new(&a, f, &random, f->dtype, PSG_OVERWRITE);
    TEST_OK(context, answers_ask(&a, context, f, question, PSG_OVERWRITE));
    uint64_t bits = answers_hash(&a);
    answers_free(&a);
    psg_context_destroy(context);
    return bits;
}

static void failing_allocations_lose_nothing(void **state) {
    (void)state;
    test_random random = { 9 };
    uint64_t met = 0;
    for (int round = 0; round < 12; round++) {
        fixture f;
        draw_set(&f, &random, round);
        size_t budget = round % 4 < 2 ? 0 : (size_t)64 << 20;
        for (int k = 0; k < 2 * PSG_QUESTION_COUNT; k++) {
            psg_question question = (psg_question)(k / 2);
            uint64_t bits = undisturbed_bits(&f, question, budget), n = 1;
            while (fail_one(&f, question, budget, n, k % 2, bits)) n++;
            assert_true(n < 1000);
            met += n - 1;
        }
        fixture_free(&f);
    }
    assert_true(met > 0);   /* some question of some set needs memory */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_call_allocates_nothing),
        cmocka_unit_test(failing_allocations_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
