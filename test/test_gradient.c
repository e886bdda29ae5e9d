/* The seven questions on random sets of gradients against plain loops: every route, instruction set, thread count,
 * memory budget and parallel loop of the host's. */
#include "gradient_fixture.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const routes[] = { NULL, "identity", "gram", "tiles", "keep", "recompute" };
enum { ROUTES = sizeof routes / sizeof routes[0] };

static const size_t some_budget = (size_t)64 << 20;

/* ---- agreement with plain loops ---- */

static void check_random_sets(psg_dtype dtype, uint64_t seed, int rounds) {
    const char *isas[3];
    size_t isa_count = test_isas(isas);
    test_random random = { seed };
    for (int round = 0; round < rounds; round++) {
        size_t budget = round % 2 ? some_budget : 0;
        psg_context *context = test_context_with(NULL, (unsigned)(1 + round % 3), isas[round % isa_count], budget);
        fixture f;
        fixture_random(&f, &random, dtype);
        check_all_questions(context, &f, &random);
        fixture_free(&f);
        psg_context_destroy(context);
    }
}

static void f64_sets_agree_with_plain_loops(void **state) {
    (void)state;
    check_random_sets(PSG_F64, 100, 150);
}

static void f32_sets_agree_with_plain_loops(void **state) {
    (void)state;
    check_random_sets(PSG_F32, 200, 150);
}

static const int64_t features[] = { 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130 };
static const int64_t positions[] = { 0, 1, 2, 3, 17, 64, 130 };
enum { FEATURES = sizeof features / sizeof features[0], POSITIONS = sizeof positions / sizeof positions[0] };

/* Every size meets every number of positions; the forms, layouts and questions are drawn. */
static void every_size_agrees(void **state) {
    (void)state;
    test_random random = { 300 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < FEATURES * POSITIONS; k++) {
        int64_t p = features[k % FEATURES], d = TEST_PICK(&random, features), t = positions[k / FEATURES];
        fixture f;
        fixture_single(&f, &random, (psg_dtype)(k % 2), (fixture_kind)test_range(&random, 0, 2), 2, t, p, d, TEST_ANY);
        check_all_questions(context, &f, &random);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* Sizes at which tiles, chunks of 64 rows and workspaces end. */
static void large_blocks_agree(void **state) {
    (void)state;
    static const int64_t sizes[][4] = { /* B, T, p, d */
        { 1, 1, 700, 1100 }, { 3, 5, 300, 513 }, { 130, 1, 9, 17 }, { 65, 2, 33, 5 }, { 2, 700, 20, 30 },
        { 1, 1500, 3, 2 }, { 5, 64, 1, 260 }, { 4, 33, 260, 1 }, { 2, 300, 520, 3 },
    };
    test_random random = { 400 };
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
            psg_context *context = test_context_with(NULL, 2, NULL, dtype ? some_budget : 0);
            fixture f;
            fixture_single(&f, &random, (psg_dtype)dtype, k % 3 ? FIXTURE_WHOLE : FIXTURE_TRANSPOSED, sizes[k][0],
                           sizes[k][1], sizes[k][2], sizes[k][3], k % 2 ? TEST_CONTIGUOUS : TEST_ANY);
            check_all_questions(context, &f, &random);
            fixture_free(&f);
            psg_context_destroy(context);
        }
    }
}

static void every_forced_route_agrees(void **state) {
    (void)state;
    test_random random = { 500 };
    for (int round = 0; round < 20; round++) {
        fixture f;
        fixture_random(&f, &random, (psg_dtype)(round % 2));
        psg_context *context = test_context_with(NULL, 2, NULL, round % 4 < 2 ? some_budget : 0);
        for (int route = 0; route < ROUTES; route++) {
            TEST_OK(context, psg_context_force_route(context, routes[route]));
            check_all_questions(context, &f, &random);
        }
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

static void unknown_route_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    assert_int_equal(psg_context_force_route(context, "fast"), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(context), "force_route"));
    assert_int_equal(psg_context_force_route(context, ""), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_context_force_route(NULL, "tiles"), PSG_ERR_ARGUMENT);
    psg_context_destroy(context);
}

static void optional_outputs_may_be_absent(void **state) {
    (void)state;
    test_random random = { 600 };
    psg_context *context = test_context(2, NULL);
    fixture f;
    fixture_layer(&f, &random, PSG_F32, 5, 17, 9, 16);
    answers full, bare;
    answers_new(&full, &f, &random, PSG_F32, PSG_OVERWRITE);
    answers_new(&bare, &f, &random, PSG_F32, PSG_OVERWRITE);
    TEST_OK(context, answers_ask(&full, context, &f, PSG_ASK_SQNORM, PSG_OVERWRITE));
    TEST_OK(context, psg_sqnorm(context, f.pointer, f.count, bare.sqnorm, NULL, NULL));
    assert_memory_equal(full.sqnorm, bare.sqnorm, 5 * sizeof(double));
    TEST_OK(context, answers_ask(&full, context, &f, PSG_ASK_CLIPPED_SUM, PSG_OVERWRITE));
    TEST_OK(context, psg_clipped_sum(context, f.pointer, f.count, &full.clip, PSG_OVERWRITE, bare.sums, NULL, NULL,
                                     NULL));
    for (size_t k = 0; k < f.count; k++) assert_true(test_same_bits(&full.sums[k], &bare.sums[k]));
    answers_free(&full);
    answers_free(&bare);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* ---- the same bits ---- */

/* All questions, one after the other, hashed together. */
static uint64_t bits_of(psg_context *context, const fixture *f, uint64_t seed) {
    uint64_t hash = 0;
    for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
        test_random random = { seed + (uint64_t)question };
        psg_write write = question % 2 ? PSG_ACCUMULATE : PSG_OVERWRITE;
        answers a;
        answers_new(&a, f, &random, question == PSG_ASK_WEIGHTED_SUM ? PSG_F64 : f->dtype, write);
        test_status(context, answers_ask(&a, context, f, (psg_question)question, write), PSG_OK,
                    psg_question_name((psg_question)question));
        hash = hash * 31 + answers_hash(&a);
        answers_free(&a);
    }
    return hash;
}

/* A set that one of the larger plans serves, so that there is work to split. */
static void draw_splittable(fixture *f, test_random *random, int round) {
    if (round % 2) {
        fixture_random(f, random, (psg_dtype)(round / 2 % 2));
    } else {
        fixture_layer(f, random, (psg_dtype)(round / 2 % 2), 33, round % 4 ? 17 : 1, 65, 130);
    }
}

static void any_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    static const unsigned threads[] = { 1, 2, 3, 7 };
    test_random random = { 700 };
    for (int round = 0; round < 12; round++) {
        fixture f;
        draw_splittable(&f, &random, round);
        uint64_t bits[4];
        for (int k = 0; k < 4; k++) {
            psg_context *context = test_context_with(NULL, threads[k], NULL, round % 3 ? 0 : some_budget);
            bits[k] = bits_of(context, &f, 1);
            assert_true(bits[k] == bits[0]);
            assert_true(bits_of(context, &f, 1) == bits[0]);   /* and again */
            psg_context_destroy(context);
        }
        fixture_free(&f);
    }
}

static void reverse_for(void *user, size_t count, unsigned slots, psg_task task, void *argument) {
    (void)user;
    for (size_t k = count; k-- > 0;) task(argument, k, (unsigned)(k % slots));
}

typedef struct threaded_loop {
    atomic_size_t next;
    size_t count;
    psg_task task;
    void *argument;
} threaded_loop;

typedef struct threaded_slot { threaded_loop *loop; unsigned slot; } threaded_slot;

static void *take_indices(void *argument) {
    threaded_slot *self = argument;
    threaded_loop *loop = self->loop;
    for (size_t k; (k = atomic_fetch_add(&loop->next, 1)) < loop->count;) loop->task(loop->argument, k, self->slot);
    return NULL;
}

static void threaded_for(void *user, size_t count, unsigned slots, psg_task task, void *argument) {
    (void)user;
    threaded_loop loop = { .count = count, .task = task, .argument = argument };
    threaded_slot self[64];
    pthread_t thread[64];
    for (unsigned k = 0; k < slots; k++) {
        self[k] = (threaded_slot){ &loop, k };
        assert_int_equal(pthread_create(&thread[k], NULL, take_indices, &self[k]), 0);
    }
    for (unsigned k = 0; k < slots; k++) pthread_join(thread[k], NULL);
}

static void a_loop_of_the_hosts_gives_the_same_bits(void **state) {
    (void)state;
    static const psg_parallel_for loops[] = { reverse_for, threaded_for };
    test_random random = { 800 };
    for (int round = 0; round < 6; round++) {
        fixture f;
        draw_splittable(&f, &random, round);
        psg_context *own = test_context(2, NULL);
        uint64_t bits = bits_of(own, &f, 2);
        psg_context_destroy(own);
        for (int k = 0; k < 2; k++) {
            psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
            options.threads = 7;
            options.parallel_for = loops[k];
            psg_context *context;
            assert_int_equal(psg_context_create(&options, &context), PSG_OK);
            assert_true(bits_of(context, &f, 2) == bits);
            psg_context_destroy(context);
        }
        fixture_free(&f);
    }
}

/* Two contexts in two threads of the host's at once. */
typedef struct shared_work { const fixture *f; uint64_t bits; } shared_work;

static void *compute_bits(void *argument) {
    shared_work *work = argument;
    psg_context *context = test_context(2, NULL);
    for (int repeat = 0; repeat < 3; repeat++) work->bits = bits_of(context, work->f, 3);
    psg_context_destroy(context);
    return NULL;
}

static void contexts_work_at_the_same_time(void **state) {
    (void)state;
    test_random random = { 900 };
    fixture f;
    fixture_layer(&f, &random, PSG_F32, 33, 17, 64, 65);
    shared_work work[3] = { { &f, 0 }, { &f, 0 }, { &f, 0 } };
    pthread_t thread[3];
    for (int k = 0; k < 3; k++) assert_int_equal(pthread_create(&thread[k], NULL, compute_bits, &work[k]), 0);
    for (int k = 0; k < 3; k++) pthread_join(thread[k], NULL);
    assert_true(work[0].bits == work[1].bits && work[1].bits == work[2].bits);
    fixture_free(&f);
}

/* ---- plans ---- */

static void plan_text_fits_any_buffer(void **state) {
    (void)state;
    test_random random = { 1000 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    for (int round = 0; round < 10; round++) {
        fixture_random(&f, &random, PSG_F32);
        for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
            size_t needed = 0, again = 0;
            psg_question ask = (psg_question)question;
            size_t count = ask == PSG_ASK_GRAD_SAMPLE ? 1 : f.count;
            TEST_OK(context, psg_plan_text(context, ask, f.pointer, count, NULL, NULL, 0, &needed));
            assert_true(needed > 0);
            char *full = malloc(needed + 2), *small = malloc(needed + 2);
            TEST_OK(context, psg_plan_text(context, ask, f.pointer, count, NULL, full, needed + 1, NULL));
            assert_int_equal(strlen(full), needed);
            for (size_t size = 1; size <= needed + 1; size += 1 + needed / 17) {
                memset(small, 'x', needed + 2);
                TEST_OK(context, psg_plan_text(context, ask, f.pointer, count, NULL, small, size, &again));
                assert_int_equal(again, needed);
                assert_int_equal(strlen(small), size - 1);
                assert_memory_equal(small, full, size - 1);
                assert_int_equal(small[size], 'x');
            }
            free(full);
            free(small);
        }
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void plans_do_not_depend_on_threads(void **state) {
    (void)state;
    test_random random = { 1100 };
    for (int round = 0; round < 10; round++) {
        fixture f;
        fixture_random(&f, &random, (psg_dtype)(round % 2));
        for (int question = 1; question < PSG_QUESTION_COUNT; question++) {
            char text[2][4096];
            for (int k = 0; k < 2; k++) {
                psg_context *context = test_context_with(NULL, k ? 7 : 1, NULL, some_budget);
                TEST_OK(context, psg_plan_text(context, (psg_question)question, f.pointer, f.count, NULL, text[k],
                                               sizeof text[k], NULL));
                psg_context_destroy(context);
            }
            assert_string_equal(text[0], text[1]);
        }
        fixture_free(&f);
    }
}

static void questions_have_names(void **state) {
    (void)state;
    static const char *const names[] = { "grad_sample", "sqnorm", "weighted_sum", "clipped_sum", "dot", "gram",
                                         "sum_of_squares" };
    for (int k = 0; k < PSG_QUESTION_COUNT; k++) assert_string_equal(psg_question_name((psg_question)k), names[k]);
    assert_non_null(psg_question_name((psg_question)-1));
    assert_non_null(psg_question_name(PSG_QUESTION_COUNT));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f64_sets_agree_with_plain_loops),
        cmocka_unit_test(f32_sets_agree_with_plain_loops),
        cmocka_unit_test(every_size_agrees),
        cmocka_unit_test(large_blocks_agree),
        cmocka_unit_test(every_forced_route_agrees),
        cmocka_unit_test(unknown_route_is_refused),
        cmocka_unit_test(optional_outputs_may_be_absent),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_loop_of_the_hosts_gives_the_same_bits),
        cmocka_unit_test(contexts_work_at_the_same_time),
        cmocka_unit_test(plan_text_fits_any_buffer),
        cmocka_unit_test(plans_do_not_depend_on_threads),
        cmocka_unit_test(questions_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
