/* Versions, statuses, contexts, allocator and arena. */
#include "support.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/memory.h"

/* ---- versions, statuses, types ---- */

static void version_macros_agree(void **state) {
    (void)state;
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", PSG_VERSION_MAJOR, PSG_VERSION_MINOR, PSG_VERSION_PATCH);
    assert_string_equal(text, PSG_VERSION_STRING);
    assert_string_equal(text, psg_version());
}

static void statuses_have_their_own_names(void **state) {
    (void)state;
    for (int a = PSG_OK; a <= PSG_ERR_BUDGET; a++) {
        const char *name = psg_status_name((psg_status)a);
        assert_true(strncmp(name, a ? "PSG_ERR_" : "PSG_OK", a ? 8 : 6) == 0);
        for (int b = PSG_OK; b < a; b++) assert_string_not_equal(name, psg_status_name((psg_status)b));
    }
    assert_string_equal(psg_status_name((psg_status)-1), "unknown status");
    assert_string_equal(psg_status_name((psg_status)(PSG_ERR_BUDGET + 1)), "unknown status");
    assert_string_equal(psg_status_name((psg_status)INT_MAX), "unknown status");
}

static void dtypes_have_sizes_and_names(void **state) {
    (void)state;
    assert_int_equal(psg_dtype_size(PSG_F32), sizeof(float));
    assert_int_equal(psg_dtype_size(PSG_F64), sizeof(double));
    assert_int_equal(psg_dtype_size(PSG_I32), sizeof(int32_t));
    assert_int_equal(psg_dtype_size(PSG_I64), sizeof(int64_t));
    assert_int_equal(psg_dtype_size((psg_dtype)4), 0);
    assert_int_equal(psg_dtype_size((psg_dtype)-1), 0);
    assert_string_equal(psg_dtype_name(PSG_F32), "f32");
    assert_string_equal(psg_dtype_name(PSG_F64), "f64");
    assert_string_equal(psg_dtype_name(PSG_I32), "i32");
    assert_string_equal(psg_dtype_name(PSG_I64), "i64");
    assert_string_equal(psg_dtype_name((psg_dtype)77), "unknown");
}

/* ---- contexts ---- */

static psg_status create(const char *isa, unsigned threads, psg_context **context) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.isa = isa;
    options.threads = threads;
    *context = (psg_context *)(uintptr_t)1;
    return psg_context_create(&options, context);
}

static void context_refuses_unknown_isa(void **state) {
    (void)state;
    static const char *const unknown[] = { "", "AVX2", "avx", "avx512 ", "sse2", "baseline\n" };
    for (size_t k = 0; k < sizeof unknown / sizeof unknown[0]; k++) {
        psg_context *context;
        assert_int_equal(create(unknown[k], 1, &context), PSG_ERR_ARGUMENT);
        assert_null(context);
    }
    assert_int_equal(psg_context_create(NULL, NULL), PSG_ERR_ARGUMENT);
    psg_context_destroy(NULL);
}

static void context_reads_psg_isa(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    assert_true(count >= 1);
    psg_context *context;
    for (size_t k = 0; k < count; k++) {
        setenv("PSG_ISA", isas[k], 1);
        assert_int_equal(create(NULL, 1, &context), PSG_OK);
        assert_string_equal(psg_context_isa(context), isas[k]);
        psg_context_destroy(context);
        assert_int_equal(create("baseline", 1, &context), PSG_OK);   /* the option goes before the environment */
        assert_string_equal(psg_context_isa(context), "baseline");
        psg_context_destroy(context);
    }
    setenv("PSG_ISA", "pentium", 1);
    assert_int_equal(create(NULL, 1, &context), PSG_ERR_ARGUMENT);
    assert_null(context);
    unsetenv("PSG_ISA");
    assert_int_equal(create(NULL, 1, &context), PSG_OK);
    assert_string_equal(psg_context_isa(context), isas[count - 1]);   /* the best one */
    psg_context_destroy(context);
}

static void context_reads_psg_num_threads(void **state) {
    (void)state;
    static const char *const bad[] = { "0", "-1", "two", "2x", "1.5", "99999999999999999999", " " };
    psg_context *context;
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        setenv("PSG_NUM_THREADS", bad[k], 1);
        assert_int_equal(create(NULL, 0, &context), PSG_ERR_ARGUMENT);
        assert_null(context);
        assert_int_equal(create(NULL, 2, &context), PSG_OK);   /* the option goes before the environment */
        assert_int_equal(psg_context_threads(context), 2);
        psg_context_destroy(context);
    }
    setenv("PSG_NUM_THREADS", "3", 1);
    assert_int_equal(create(NULL, 0, &context), PSG_OK);
    assert_int_equal(psg_context_threads(context), 3);
    psg_context_destroy(context);
    setenv("PSG_NUM_THREADS", "1000", 1);
    assert_int_equal(create(NULL, 0, &context), PSG_OK);
    assert_int_equal(psg_context_threads(context), 64);
    psg_context_destroy(context);
    unsetenv("PSG_NUM_THREADS");
    assert_int_equal(create(NULL, 0, &context), PSG_OK);
    assert_true(psg_context_threads(context) >= 1 && psg_context_threads(context) <= 64);
    psg_context_destroy(context);
}

static void context_refuses_half_an_allocator(void **state) {
    (void)state;
    test_allocator counter = { 0 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.allocator = test_allocator_hook(&counter);
    options.allocator.release = NULL;
    assert_int_equal(psg_context_create(&options, &context), PSG_ERR_ARGUMENT);
    options.allocator = test_allocator_hook(&counter);
    options.allocator.allocate = NULL;
    assert_int_equal(psg_context_create(&options, &context), PSG_ERR_ARGUMENT);
    assert_int_equal(counter.calls, 0);
}

static void context_counts_its_memory(void **state) {
    (void)state;
    test_allocator counter = { 0 };
    psg_context *context = test_context_with(&counter, 3, NULL, 0);
    assert_int_equal(psg_context_live_bytes(context), counter.live_bytes);
    assert_int_equal(psg_context_allocations(context), counter.calls);
    assert_string_equal(psg_context_message(context), "");
    void *block = psg_alloc(context, 1000);
    assert_int_equal((uintptr_t)block % PSG_ALIGNMENT, 0);
    assert_int_equal(psg_context_live_bytes(context), counter.live_bytes);
    psg_free(context, block);
    psg_free(context, NULL);
    assert_null(psg_alloc(context, SIZE_MAX));
    assert_null(psg_alloc(context, SIZE_MAX - 64));
    assert_int_equal(psg_context_live_bytes(context), counter.live_bytes);
    assert_int_equal(psg_context_allocations(context), counter.calls);
    psg_context_destroy(context);
    assert_int_equal(counter.live_bytes, 0);
    assert_int_equal(counter.mistakes, 0);
}

static void context_creation_survives_every_failing_allocation(void **state) {
    (void)state;
    for (int forever = 0; forever < 2; forever++) {
        for (uint64_t n = 1;; n++) {
            assert_true(n < 100);
            test_allocator counter = { 0 };
            test_allocator_arm(&counter, n, forever);
            psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
            options.threads = 3;
            options.allocator = test_allocator_hook(&counter);
            psg_context *context;
            psg_status status = psg_context_create(&options, &context);
            assert_int_equal(status, counter.failed ? PSG_ERR_MEMORY : PSG_OK);
            assert_true(!context == !!counter.failed);
            psg_context_destroy(context);
            assert_int_equal(counter.live_bytes, 0);
            assert_int_equal(counter.live_blocks, 0);
            assert_int_equal(counter.mistakes, 0);
            if (!counter.failed) break;
        }
    }
}

static void messages_are_kept_and_cut(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    assert_int_equal(psg_fail(context, PSG_ERR_SHAPE, "f: x is %d", 7), PSG_ERR_SHAPE);
    assert_string_equal(psg_context_message(context), "f: x is 7");
    char *big = malloc(2000);
    memset(big, 'a', 1999);
    big[1999] = 0;
    psg_fail(context, PSG_ERR_SHAPE, "%s", big);
    assert_int_equal(strlen(psg_context_message(context)), PSG_MESSAGE_SIZE - 1);
    free(big);
    psg_fail(context, PSG_ERR_SHAPE, "f: \"%s\"", "a\nb\t\x1b[31m\x7f \xc3\xa9\xe2\x82\xac \xc2\x9b \xff\xc3");
    assert_string_equal(psg_context_message(context), "f: \"a?b??[31m? \xc3\xa9\xe2\x82\xac ?? ??\"");
    psg_fail(context, PSG_ERR_SHAPE, "a\xe2\x80\xa8" "b\xe2\x80\xae" "c\xe2\x81\xa6" "d\xe2\x80\xa7" "e");
    assert_string_equal(psg_context_message(context), "a???b???c???d\xe2\x80\xa7" "e");
    psg_context_destroy(context);
}

/* ---- arena ---- */

typedef struct arena_round { size_t bytes[40]; unsigned char *block[40]; int count; } arena_round;

static bool arena_take_round(psg_arena *arena, arena_round *round) {
    for (int k = 0; k < round->count; k++) {
        round->block[k] = psg_arena_take(arena, round->bytes[k]);
        if (!round->block[k]) return false;
        assert_int_equal((uintptr_t)round->block[k] % PSG_ALIGNMENT, 0);
        memset(round->block[k], k, round->bytes[k]);
    }
    for (int k = 0; k < round->count; k++) {   /* no block overlaps another */
        for (size_t b = 0; b < round->bytes[k]; b++) assert_int_equal(round->block[k][b], k);
    }
    return true;
}

static void arena_second_round_allocates_nothing(void **state) {
    (void)state;
    test_allocator counter = { 0 };
    psg_context *context = test_context_with(&counter, 1, NULL, 0);
    size_t fresh = psg_context_live_bytes(context);
    test_random random = { 11 };
    for (int repeat = 0; repeat < 50; repeat++) {
        arena_round round = { .count = (int)test_range(&random, 0, 40) };
        for (int k = 0; k < round.count; k++) {
            round.bytes[k] = (size_t)test_range(&random, 0, k % 5 == 4 ? 100000 : 300);
        }
        psg_arena arena;
        psg_arena_init(&arena, context);
        assert_true(arena_take_round(&arena, &round));
        assert_int_equal(psg_arena_reset(&arena), PSG_OK);
        uint64_t before = psg_context_allocations(context);
        for (int again = 0; again < 3; again++) {
            assert_true(arena_take_round(&arena, &round));
            assert_int_equal(psg_arena_reset(&arena), PSG_OK);
        }
        assert_int_equal(psg_context_allocations(context), before);
        assert_null(psg_arena_take(&arena, SIZE_MAX));
        psg_arena_release(&arena);
        assert_int_equal(psg_context_live_bytes(context), fresh);
    }
    psg_context_destroy(context);
    assert_int_equal(counter.live_bytes + counter.mistakes, 0);
}

static void arena_reserve_makes_a_round_free_of_allocations(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_arena arena;
    psg_arena_init(&arena, context);
    assert_int_equal(psg_arena_reserve(&arena, 300000), PSG_OK);
    uint64_t before = psg_context_allocations(context);
    for (int k = 0; k < 100; k++) assert_non_null(psg_arena_take(&arena, 2944));
    assert_int_equal(psg_context_allocations(context), before);
    assert_int_equal(psg_arena_reset(&arena), PSG_OK);
    assert_int_equal(psg_arena_reserve(&arena, 100), PSG_OK);
    assert_int_equal(psg_context_allocations(context), before);
    assert_int_equal(psg_arena_reserve(&arena, SIZE_MAX), PSG_ERR_MEMORY);
    assert_non_null(psg_arena_take(&arena, 10));   /* still usable */
    psg_arena_release(&arena);
    psg_context_destroy(context);
}

static void arena_survives_failing_allocations(void **state) {
    (void)state;
    arena_round round = { .count = 40 };
    for (int k = 0; k < round.count; k++) round.bytes[k] = (size_t)(k * 3000);
    for (int forever = 0; forever < 2; forever++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            test_allocator counter = { 0 };
            psg_context *context = test_context_with(&counter, 1, NULL, 0);
            psg_arena arena;
            psg_arena_init(&arena, context);
            test_allocator_arm(&counter, n, forever);
            bool taken = arena_take_round(&arena, &round);
            psg_status reset = psg_arena_reset(&arena);
            failed = counter.failed > 0;
            assert_true(failed || (taken && reset == PSG_OK));
            test_allocator_arm(&counter, 0, false);
            assert_true(arena_take_round(&arena, &round));
            psg_arena_release(&arena);
            psg_context_destroy(context);
            assert_int_equal(counter.live_bytes + counter.mistakes, 0);
        }
    }
}

int main(void) {
    unsetenv("PSG_ISA");
    unsetenv("PSG_NUM_THREADS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_macros_agree),
        cmocka_unit_test(statuses_have_their_own_names),
        cmocka_unit_test(dtypes_have_sizes_and_names),
        cmocka_unit_test(context_refuses_unknown_isa),
        cmocka_unit_test(context_reads_psg_isa),
        cmocka_unit_test(context_reads_psg_num_threads),
        cmocka_unit_test(context_refuses_half_an_allocator),
        cmocka_unit_test(context_counts_its_memory),
        cmocka_unit_test(context_creation_survives_every_failing_allocation),
        cmocka_unit_test(messages_are_kept_and_cut),
        cmocka_unit_test(arena_second_round_allocates_nothing),
        cmocka_unit_test(arena_reserve_makes_a_round_free_of_allocations),
        cmocka_unit_test(arena_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
