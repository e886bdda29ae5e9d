/* Versions, statuses, contexts, allocator and arena, shapes and views, the pool, OpenBLAS's thread count. */
#include "support.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/context.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/shape.h"

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
    for (int a = PSG_OK; a <= PSG_ERR_SYSTEM; a++) {
        const char *name = psg_status_name((psg_status)a);
        assert_true(strncmp(name, a ? "PSG_ERR_" : "PSG_OK", a ? 8 : 6) == 0);
        for (int b = PSG_OK; b < a; b++) assert_string_not_equal(name, psg_status_name((psg_status)b));
    }
    assert_string_equal(psg_status_name((psg_status)-1), "unknown status");
    assert_string_equal(psg_status_name((psg_status)(PSG_ERR_SYSTEM + 1)), "unknown status");
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

/* ---- shapes ---- */

__extension__ typedef __int128 wide;

/* Values around powers of two, so that products lie around 2^31, 2^32, 2^63, 2^64. */
static int64_t edge_size(test_random *random) {
    int64_t power = (int64_t)((uint64_t)1 << test_range(random, 0, 62));
    int64_t size = power + test_range(random, -2, 2);
    return size < 0 ? 0 : size;
}

static void products_are_exact_or_refused(void **state) {
    (void)state;
    test_random random = { 12 };
    int64_t refused = 0;
    for (int repeat = 0; repeat < 10000; repeat++) {
        int rank = (int)test_range(&random, 0, PSG_MAX_RANK);
        int64_t shape[PSG_MAX_RANK];
        wide exact = 1;
        bool zero = false, fits = true;
        for (int d = 0; d < rank; d++) {
            shape[d] = test_range(&random, 0, 2) ? test_range(&random, 1, 5) : edge_size(&random);
            zero |= shape[d] == 0;
            exact = fits ? exact * shape[d] : exact;
            fits &= exact <= INT64_MAX;
        }
        int64_t expected = zero ? 0 : fits ? (int64_t)exact : -1;
        refused += expected < 0;
        assert_int_equal(psg_shape_product(rank, shape), expected);
        psg_tensor view = psg_tensor_of(PSG_F32, NULL, rank, shape);
        assert_int_equal(psg_tensor_count(&view), expected);
        assert_int_equal(psg_tensor_is_valid(&view), expected == 0);   /* no memory behind it */
    }
    assert_true(refused > 1000);
}

static void sizes_are_exact_or_refused(void **state) {
    (void)state;
    test_random random = { 13 };
    for (int repeat = 0; repeat < 10000; repeat++) {
        int64_t a = edge_size(&random), b = edge_size(&random), product = -7;
        wide exact = (wide)a * b;
        assert_int_equal(psg_size_multiply(a, b, &product), exact <= INT64_MAX);
        if (exact <= INT64_MAX) assert_int_equal(product, (int64_t)exact);
        assert_false(psg_size_multiply(-a - 1, b, &product));
        assert_false(psg_size_multiply(a, -b - 1, &product));
        size_t bytes = 0;
        assert_int_equal(psg_size_bytes(a, 8, &bytes), (wide)a * 8 <= (wide)SIZE_MAX);
        if ((wide)a * 8 <= (wide)SIZE_MAX) assert_true(bytes == (size_t)a * 8);
        assert_false(psg_size_bytes(-1 - a, 1, &bytes));
    }
}

static void views_outside_the_rules_are_refused(void **state) {
    (void)state;
    float data[4] = { 0 };
    int64_t shape[12] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    psg_tensor view = psg_tensor_of(PSG_F32, data, 9, shape);
    assert_int_equal(view.rank, -1);
    assert_int_equal(psg_tensor_count(&view), -1);
    assert_int_equal(psg_tensor_of(PSG_F32, data, -1, shape).rank, -1);
    assert_int_equal(psg_tensor_strided(PSG_F32, data, 9, shape, shape).rank, -1);
    assert_int_equal(psg_tensor_count(NULL), -1);
    assert_false(psg_tensor_is_valid(NULL));
    view = psg_tensor_of((psg_dtype)9, data, 1, shape);
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, data, 1, (int64_t[]){ -1 });
    assert_int_equal(psg_tensor_count(&view), -1);
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, data, 2, (int64_t[]){ 0, -1 });
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ 0, 3 });
    assert_true(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, NULL, 0, NULL);
    assert_false(psg_tensor_is_valid(&view));
    view = psg_tensor_of(PSG_F32, data, 0, NULL);
    assert_true(psg_tensor_is_valid(&view));
    assert_int_equal(psg_tensor_count(&view), 1);
}

static void short_forms_are_contiguous(void **state) {
    (void)state;
    float f[24] = { 0 };
    int64_t i[3] = { 0 };
    psg_tensor all[] = { psg_f32_1d(f, 24), psg_f32_2d(f, 4, 6), psg_f32_3d(f, 2, 3, 4), psg_f32_4d(f, 2, 3, 2, 2),
                         psg_i64_1d(i, 3) };
    for (int k = 0; k < 5; k++) {
        assert_int_equal(all[k].rank, k < 4 ? k + 1 : 1);
        assert_int_equal(psg_tensor_count(&all[k]), k < 4 ? 24 : 3);
        assert_int_equal(all[k].dtype, k < 4 ? PSG_F32 : PSG_I64);
        assert_true(psg_tensor_is_contiguous(&all[k]));
        assert_int_equal(all[k].stride[all[k].rank - 1], 1);
    }
    assert_int_equal(all[3].stride[0], 12);
}

static void random_shape(test_random *random, int *rank, int64_t shape[PSG_MAX_RANK]) {
    *rank = (int)test_range(random, 0, 5);
    for (int d = 0; d < *rank; d++) shape[d] = test_range(random, test_range(random, 0, 9) ? 1 : 0, 4);
}

static void contiguity_is_row_major_without_gaps(void **state) {
    (void)state;
    test_random random = { 14 };
    for (int repeat = 0; repeat < 2000; repeat++) {
        int rank;
        int64_t shape[PSG_MAX_RANK];
        random_shape(&random, &rank, shape);
        test_array array = test_array_new(&random, PSG_F32, rank, shape, TEST_ANY);
        int64_t count = psg_tensor_count(&array.view);
        bool expected = true;
        for (int64_t k = 0; k < count; k++) {   /* the k-th element, found through its value */
            test_set_at(&array.view, k, (double)k);
        }
        ptrdiff_t first = ((unsigned char *)array.view.data - array.memory) / 4;
        for (int64_t k = 0; k < count; k++) expected &= first + k < array.elements && array.member[first + k];
        for (int64_t k = 0; k < count && expected; k++) expected &= ((float *)array.view.data)[k] == (float)k;
        assert_int_equal(!!psg_tensor_is_contiguous(&array.view), expected);
        test_array_free(&array);
    }
}

static void copies_follow_any_strides(void **state) {
    (void)state;
    test_random random = { 15 };
    for (int repeat = 0; repeat < 2000; repeat++) {
        int rank;
        int64_t shape[PSG_MAX_RANK];
        random_shape(&random, &rank, shape);
        psg_dtype dtype = (psg_dtype)(repeat % 4);
        test_array from = test_array_new(&random, dtype, rank, shape, TEST_ANY | (repeat % 3 ? 0 : TEST_SHARED_BATCH));
        test_array to = test_array_new(&random, dtype, rank, shape, TEST_ANY);
        test_fill_integers(&random, &from.view, -1000, 1000);
        psg_tensor_copy(&from.view, &to.view);
        assert_true(test_same_bits(&from.view, &to.view));
        test_array_free(&from);
        test_array_free(&to);
    }
}

static void merged_views_keep_their_elements(void **state) {
    (void)state;
    test_random random = { 16 };
    int merged_count = 0;
    for (int repeat = 0; repeat < 5000; repeat++) {
        int rank = (int)test_range(&random, 1, 5);
        int64_t shape[PSG_MAX_RANK];
        for (int d = 0; d < rank; d++) shape[d] = test_range(&random, 1, 3);
        int layout = repeat % 2 ? TEST_ANY : TEST_CONTIGUOUS;
        test_array array = test_array_normal(&random, PSG_F64, rank, shape, layout);
        psg_tensor merged = array.view;
        int first = (int)test_range(&random, 0, rank), last = (int)test_range(&random, first - 1, rank - 1);
        if (psg_tensor_merge(&merged, first, last)) {
            merged_count++;
            assert_int_equal(merged.rank, rank - (last - first));
            assert_int_equal(psg_tensor_count(&merged), psg_tensor_count(&array.view));
            for (int64_t k = 0; k < psg_tensor_count(&merged); k++) {
                assert_true(test_get_at(&merged, k) == test_get_at(&array.view, k));
            }
        } else {
            assert_int_equal(layout, TEST_ANY);   /* a contiguous view always merges */
        }
        test_array_free(&array);
    }
    assert_true(merged_count > 2500);
}

static void shape_text_is_readable_and_bounded(void **state) {
    (void)state;
    char text[PSG_SHAPE_TEXT];
    assert_string_equal(psg_shape_text(0, NULL, text), "()");
    assert_string_equal(psg_shape_text(2, (int64_t[]){ 2, 3 }, text), "(2, 3)");
    int64_t longest[PSG_MAX_RANK];
    for (int d = 0; d < PSG_MAX_RANK; d++) longest[d] = INT64_MIN;
    psg_shape_text(PSG_MAX_RANK, longest, text);
    assert_true(strlen(text) < PSG_SHAPE_TEXT && text[strlen(text) - 1] == ')');
}

/* ---- the pool ---- */

typedef struct visits {
    atomic_int count[256];
    atomic_int busy[64];
    atomic_int wrong;
    unsigned slots;
} visits;

static void visit(void *argument, size_t index, unsigned slot) {
    visits *v = argument;
    if (slot >= v->slots || atomic_exchange(&v->busy[slot], 1)) atomic_fetch_add(&v->wrong, 1);
    atomic_fetch_add(&v->count[index], 1);
    atomic_store(&v->busy[slot], 0);
}

static void check_visits(psg_context *context, size_t count) {
    visits v = { .slots = psg_context_threads(context) };
    psg_parallel(context, count, visit, &v);
    assert_int_equal(v.wrong, 0);
    for (size_t k = 0; k < 256; k++) assert_int_equal(v.count[k], k < count ? 1 : 0);
}

static void pool_runs_every_index_once(void **state) {
    (void)state;
    static const unsigned threads[] = { 1, 2, 3, 7, 16 };
    test_random random = { 17 };
    for (size_t k = 0; k < sizeof threads / sizeof threads[0]; k++) {
        psg_context *context = test_context(threads[k], NULL);
        for (int repeat = 0; repeat < 4000; repeat++) {
            check_visits(context, (size_t)test_range(&random, 0, repeat % 10 ? 8 : 256));
            if (repeat % 1000 == 999) usleep(3000);   /* let the workers fall asleep */
        }
        psg_context_destroy(context);
    }
}

static void pools_come_and_go(void **state) {
    (void)state;
    for (int repeat = 0; repeat < 100; repeat++) {
        psg_context *context = test_context((unsigned)(1 + repeat % 5), NULL);
        if (repeat % 2) check_visits(context, 20);
        psg_context_destroy(context);
    }
}

typedef struct host_calls { size_t calls; unsigned slots; } host_calls;

static void reverse_for(void *user, size_t count, unsigned slots, psg_task task, void *argument) {
    host_calls *calls = user;
    calls->calls++;
    calls->slots = slots;
    for (size_t k = count; k-- > 0;) task(argument, k, (unsigned)k % slots);
}

static void host_loop_replaces_the_pool(void **state) {
    (void)state;
    host_calls calls = { 0 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 5;
    options.parallel_for = reverse_for;
    options.parallel_user = &calls;
    for (int alone = 0; alone < 2; alone++) {
        options.leave_openblas_alone = alone;
        psg_context *context;
        assert_int_equal(psg_context_create(&options, &context), PSG_OK);
        assert_int_equal(psg_context_threads(context), 5);
        for (size_t count = 0; count < 20; count++) check_visits(context, count);
        assert_int_equal(calls.slots, 5);
        assert_true(calls.calls >= 18);
        calls = (host_calls){ 0 };
        psg_context_destroy(context);
    }
}

static void forked_child_still_computes(void **state) {
    (void)state;
    psg_context *context = test_context(3, NULL);
    check_visits(context, 100);
    for (int repeat = 0; repeat < 10; repeat++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            alarm(10);
            visits v = { .slots = 3 };
            psg_parallel(context, 50, visit, &v);
            int good = !v.wrong;
            for (size_t k = 0; k < 50; k++) good &= v.count[k] == 1;
            psg_context_destroy(context);
            _exit(good ? 0 : 1);
        }
        int outcome;
        assert_int_equal(waitpid(child, &outcome, 0), child);
        assert_true(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
    }
    check_visits(context, 100);
    psg_context_destroy(context);
}

/* ---- OpenBLAS's thread count ---- */

typedef struct blas_seen { atomic_int single, other; } blas_seen;

static void look_at_openblas(void *argument, size_t index, unsigned slot) {
    (void)index;
    (void)slot;
    blas_seen *seen = argument;
    atomic_fetch_add(openblas_get_num_threads() == 1 ? &seen->single : &seen->other, 1);
}

static void openblas_count_is_restored(void **state) {
    (void)state;
    int before = openblas_get_num_threads();
    for (int host = 1; host <= 2; host++) {
        openblas_set_num_threads(host);
        host = openblas_get_num_threads();
        psg_context *context = test_context(3, NULL);
        assert_int_equal(openblas_get_num_threads(), host);
        blas_seen seen = { 0 };
        for (int repeat = 0; repeat < 50; repeat++) psg_parallel(context, 9, look_at_openblas, &seen);
        assert_int_equal(seen.single, 450);
        assert_int_equal(openblas_get_num_threads(), host);
        psg_context_destroy(context);
        assert_int_equal(openblas_get_num_threads(), host);
    }
    openblas_set_num_threads(before);
}

static void openblas_can_be_left_alone(void **state) {
    (void)state;
    int before = openblas_get_num_threads();
    openblas_set_num_threads(2);
    int host = openblas_get_num_threads();
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.leave_openblas_alone = 1;
    psg_context *context;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    blas_seen seen = { 0 };
    psg_parallel(context, 4, look_at_openblas, &seen);
    assert_int_equal(seen.other, host == 1 ? 0 : 4);
    psg_context_destroy(context);
    openblas_set_num_threads(before);
}

static void *compute_in_own_context(void *argument) {
    blas_seen *seen = argument;
    psg_context *context = NULL;
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 2;
    if (psg_context_create(&options, &context)) return NULL;
    for (int repeat = 0; repeat < 2000; repeat++) psg_parallel(context, 3, look_at_openblas, seen);
    psg_context_destroy(context);
    return seen;
}

static void contexts_in_two_threads_share_the_bracket(void **state) {
    (void)state;
    int before = openblas_get_num_threads();
    openblas_set_num_threads(2);
    int host = openblas_get_num_threads();
    blas_seen seen = { 0 };
    pthread_t thread[2];
    for (int k = 0; k < 2; k++) assert_int_equal(pthread_create(&thread[k], NULL, compute_in_own_context, &seen), 0);
    for (int k = 0; k < 2; k++) {
        void *result;
        pthread_join(thread[k], &result);
        assert_non_null(result);
    }
    assert_int_equal(seen.other, 0);
    assert_int_equal(seen.single, 12000);
    assert_int_equal(openblas_get_num_threads(), host);
    openblas_set_num_threads(before);
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
        cmocka_unit_test(products_are_exact_or_refused),
        cmocka_unit_test(sizes_are_exact_or_refused),
        cmocka_unit_test(views_outside_the_rules_are_refused),
        cmocka_unit_test(short_forms_are_contiguous),
        cmocka_unit_test(contiguity_is_row_major_without_gaps),
        cmocka_unit_test(copies_follow_any_strides),
        cmocka_unit_test(merged_views_keep_their_elements),
        cmocka_unit_test(shape_text_is_readable_and_bounded),
        cmocka_unit_test(pool_runs_every_index_once),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(host_loop_replaces_the_pool),
        cmocka_unit_test(forked_child_still_computes),
        cmocka_unit_test(openblas_count_is_restored),
        cmocka_unit_test(openblas_can_be_left_alone),
        cmocka_unit_test(contexts_in_two_threads_share_the_bracket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
