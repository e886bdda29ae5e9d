/* What psg_dp refuses, and that nothing has happened then: nothing released, nothing counted, nothing lost. */
#include "dp_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/context.h"
#include "dp/mechanism.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static psg_dp_options usual;

typedef struct fixture {
    psg_context *context;
    dp_batch batch;
    dp_run run;
} fixture;

static int set_up(void **state) {
    static fixture f;
    test_random random = { 1 };
    f.context = test_context(2, NULL);
    usual = dp_external(1, 1, 10, 64);
    f.batch = dp_batch_new(&random, PSG_F32, 4, 1, 1);
    f.run = dp_run_new(f.context, &usual, &f.batch, 1);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    dp_run_free(&f->run);
    dp_batch_free(&f->batch);
    test_context_free(f->context);
    return 0;
}

/* ---- creation ---- */

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif

static void wrong_options_are_refused(void **state) {
    fixture *f = *state;
#define DATA .records = 1000, .noise_multiplier = 1, .max_grad_norm = 1
#define POISSON DATA, .sample_rate = 0.01
#define OWN .sampling = PSG_SAMPLING_EXTERNAL, .expected_batch_size = 10
    static const int groups[] = { 0, 1, 2 };
    static const double norms[] = { 1, 0 };
    const struct { psg_dp_options options; const char *name; } bad[] = {
        { { 0 }, "records is 0" },
        { PSG_DP_OPTIONS_INIT, "records is 0" },
        { { OWN, .noise_multiplier = 1 }, "max_grad_norm is 0" },
        { { OWN, .noise_multiplier = 1, .max_grad_norm = -1 }, "max_grad_norm" },
        { { OWN, .noise_multiplier = 1, .max_grad_norm = INFINITY }, "max_grad_norm" },
        { { OWN, .noise_multiplier = 1, .max_grad_norm = NAN }, "max_grad_norm" },
        { { OWN, .noise_multiplier = 1, .max_grad_norm = 1e-101 }, "max_grad_norm" },
        { { OWN, .noise_multiplier = 1, .max_grad_norm = 1e101 }, "max_grad_norm" },
        { { OWN, .max_grad_norm = 1, .noise_multiplier = -0.1 }, "noise_multiplier" },
        { { OWN, .max_grad_norm = 1, .noise_multiplier = 1e-4 }, "1/1024" },
        { { OWN, .max_grad_norm = 1, .noise_multiplier = 1e7 }, "noise_multiplier" },
        { { OWN, .max_grad_norm = 1, .noise_multiplier = INFINITY }, "noise_multiplier" },
        { { OWN, .max_grad_norm = 1, .noise_multiplier = NAN }, "noise_multiplier" },
        { { OWN, .max_grad_norm = 1, .noise_multiplier = 0x1p-10, .max_batch_size = 20000 }, "at most 2^24" },
        { { .sampling = PSG_SAMPLING_EXTERNAL, .max_grad_norm = 1, .noise_multiplier = 1 }, "expected_batch_size" },
        { { POISSON, .expected_batch_size = -1 }, "expected_batch_size" },
        { { POISSON, .expected_batch_size = NAN }, "expected_batch_size" },
        { { POISSON, .expected_batch_size = INFINITY }, "expected_batch_size" },
        { { POISSON, .expected_batch_size = 1e17 }, "expected_batch_size" },
        { { POISSON, .max_batch_size = -1 }, "max_batch_size" },
        { { POISSON, .batch_size = 5 }, "batch_size is 5" },
        { { POISSON, .batches = 5 }, "batches is 5" },
        { { DATA }, "sample_rate" },
        { { DATA, .sample_rate = -0.01 }, "sample_rate" },
        { { DATA, .sample_rate = 1.01 }, "sample_rate" },
        { { DATA, .sample_rate = NAN }, "sample_rate" },
        { { DATA, .sampling = (psg_sampling)9 }, "sampling is 9" },
        { { POISSON, .sampling = PSG_SAMPLING_TRUNCATED_POISSON }, "max_batch_size" },
        { { POISSON, .sampling = PSG_SAMPLING_EPOCHS, .batch_size = 5 }, "sample_rate" },
        { { DATA, .sampling = PSG_SAMPLING_FIXED_SIZE }, "batch_size is 0" },
        { { DATA, .sampling = PSG_SAMPLING_FIXED_SIZE, .batch_size = 1001 }, "batch_size is 1001" },
        { { DATA, .sampling = PSG_SAMPLING_FIXED_SIZE, .batch_size = 9, .max_batch_size = 8 }, "max_batch_size" },
        { { DATA, .sampling = PSG_SAMPLING_BALLS_IN_BINS }, "batches is 0" },
        { { POISSON, .clipping = (psg_clipping)3 }, "clipping is 3" },
        { { POISSON, .clipping = PSG_CLIP_AUTOMATIC, .stability = -1 }, "stability" },
        { { POISSON, .group_count = 4 }, "group_count is 4" },
        { { POISSON, .group_count = 2 }, "group_count is 2" },
        { { POISSON, .group_count = 2, .groups = (const int[]){ 0, 0, 0 } }, "no parameter in group 1" },
        { { .records = 9, .max_grad_norm = 1, .sample_rate = 1 }, "without_noise" },
        { { POISSON, .epsilon = 1e-3, .delta = 1e-9 }, "allows no release" },
        { { POISSON, .group_count = 2, .groups = groups }, "groups[2] is 2" },
        { { POISSON, .group_count = 2, .groups = (const int[]){ 0, 1, 0 }, .group_norms = norms }, "group_norms[1]" },
        { { POISSON, .quantile = 1.5 }, "quantile is 1.5" },
        { { POISSON, .quantile = 0.5, .quantile_noise = 0.4 }, "quantile_noise" },
        { { POISSON, .quantile = 0.5, .quantile_rate = -1 }, "quantile_rate" },
        { { OWN, .max_grad_norm = 1, .noise_multiplier = 0x1p-10, .max_batch_size = 17500, .quantile = 0.5,
            .quantile_noise = 0.502e-3 }, "64-bit integers" },
        { { POISSON, .quantile = 0.5, .clipping = PSG_CLIP_NORMALIZED }, "quantile" },
        { { POISSON, .quantile_rate = 0.1 }, "quantile is 0" },
        { { POISSON, .delta = 1e-5 }, "epsilon is 0" },
        { { POISSON, .steps = 5 }, "epsilon is 0" },
        { { POISSON, .epsilon = 1 }, "delta is 0" },
        { { POISSON, .epsilon = -1, .delta = 1e-5 }, "epsilon is -1" },
        { { .records = 9, .max_grad_norm = 1, .sample_rate = 1, .epsilon = 1, .delta = 1e-5 }, "steps is 0" },
    };
    for (size_t k = 0; k < COUNT(bad); k++) {
        psg_dp *dp = (void *)f;
        psg_status status = psg_dp_create(f->context, f->run.generator, &bad[k].options, f->run.counts, DP_PARAMS, &dp);
        test_fails(f->context, status, PSG_ERR_ARGUMENT, bad[k].name);
        assert_null(dp);
    }
    const psg_dp_options no_bound = { DATA, .sampling = PSG_SAMPLING_FIXED_SIZE, .batch_size = 9 };
    psg_dp *dp;
    test_status(f->context, psg_dp_create(f->context, f->run.generator, &no_bound, f->run.counts, DP_PARAMS, &dp),
                PSG_ERR_UNSUPPORTED, "");   /* without replacement has a bound for replaced records alone */
}

/* Under OpenBLAS a record moves the gradients of others: by name only. */
static void an_engine_without_its_options_is_refused(void **state) {
    (void)state;
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    int64_t counts[1] = { 4 };
    for (int engine = PSG_GEMM_AUTOMATIC; engine <= PSG_GEMM_KERNEL; engine++) {
        psg_context *context;
        psg_generator *generator;
        psg_dp *dp;
        options.gemm = (psg_gemm_engine)engine;
        assert_int_equal(psg_context_create(&options, &context), PSG_OK);
        TEST_OK(context, psg_generator_create(context, &generator));
        psg_dp_options own = usual;
        psg_status status = psg_dp_create(context, generator, &own, counts, 1, &dp);
        bool refused = context->gemm == PSG_GEMM_OPENBLAS;
        assert_int_equal(status, refused ? PSG_ERR_ARGUMENT : PSG_OK);
        if (refused) assert_non_null(strstr(psg_context_message(context), "allow_openblas"));
        psg_dp_destroy(dp);
        own.allow_openblas = 1;
        TEST_OK(context, psg_dp_create(context, generator, &own, counts, 1, &dp));
        psg_dp_destroy(dp);
        psg_generator_destroy(generator);
        psg_context_destroy(context);
    }
}

static void wrong_arguments_of_create_are_refused(void **state) {
    fixture *f = *state;
    psg_context *c = f->context, *other = test_context(1, NULL);
    psg_generator *g = f->run.generator;
    const int64_t negative[] = { 1, -1 }, huge[] = { INT64_MAX, 1 }, large[] = { INT64_MAX };
    psg_dp *dp;
    assert_int_equal(psg_dp_create(NULL, g, &usual, f->run.counts, 3, &dp), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_create(other, g, &usual, f->run.counts, 3, &dp), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_create(c, NULL, &usual, f->run.counts, 3, &dp), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_create(c, g, NULL, f->run.counts, 3, &dp), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_create(c, g, &usual, NULL, 3, &dp), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_create(c, g, &usual, f->run.counts, 0, &dp), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_create(c, g, &usual, f->run.counts, 3, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_create(c, g, &usual, negative, 2, &dp), PSG_ERR_SHAPE);
    assert_int_equal(psg_dp_create(c, g, &usual, huge, 2, &dp), PSG_ERR_OVERFLOW);
    assert_int_equal(psg_dp_create(c, g, &usual, large, 1, &dp), PSG_ERR_OVERFLOW);
    assert_int_equal(psg_dp_accumulate(NULL, NULL, NULL, 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_release(NULL, NULL, 0), PSG_ERR_ARGUMENT);
    psg_dp_destroy(NULL);
    test_context_free(other);
}

static void without_memory_nothing_is_lost(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    const int64_t counts[] = { 3, 0, 5 };
    psg_generator *generator;
    TEST_OK(context, psg_generator_create(context, &generator));
    size_t blocks = allocator.live_blocks;
    psg_status status = PSG_ERR_MEMORY;
    for (uint64_t n = 1; status; n++) {
        psg_dp *dp = NULL;
        test_allocator_arm(&allocator, n, n % 2);
        status = psg_dp_create(context, generator, &usual, counts, 3, &dp);
        assert_true(status == PSG_OK ? n > 10 : status == PSG_ERR_MEMORY && !dp);
        psg_dp_destroy(dp);
        assert_int_equal(allocator.live_blocks, blocks);
    }
    psg_generator_destroy(generator);
    test_context_free(context);
    assert_int_equal(allocator.mistakes, 0);
}

/* ---- steps ---- */

/* The release after refused calls is that of a run without them. */
static void wrong_arguments_of_accumulate_are_refused(void **state) {
    fixture *f = *state;
    psg_dp *dp = f->run.dp;
    dp_part part, other;
    double out[DP_MAX_ELEMENTS], expected[DP_MAX_ELEMENTS];
    dp_run clean = dp_run_new(f->context, &usual, &f->batch, 1);
    dp_batch_part(&f->batch, 0, 4, &part);
    dp_batch_part(&f->batch, 0, 3, &other);
    const psg_gradient *swapped[] = { part.list[1], part.list[0], part.list[2] };
    const psg_gradient *hole[] = { part.list[0], NULL, part.list[2] };
    const psg_gradient *mixed[] = { part.list[0], other.list[1], part.list[2] };
    psg_gradient strange = part.gradient[1];
    strange.rank = 99;
    const psg_gradient *no_rank[] = { part.list[0], &strange, part.list[2] };
    psg_batch four = dp_take(f->context, dp, 1000, 4), none = { .count = 4, .owner = four.owner };
    assert_int_equal(psg_dp_accumulate(dp, NULL, part.list, DP_PARAMS, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_accumulate(dp, &none, part.list, DP_PARAMS, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_accumulate(dp, &four, NULL, DP_PARAMS, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_accumulate(dp, &four, part.list, 2, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_accumulate(dp, &four, hole, DP_PARAMS, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_accumulate(dp, &four, swapped, DP_PARAMS, NULL), PSG_ERR_SHAPE);
    assert_int_equal(psg_dp_accumulate(dp, &four, no_rank, DP_PARAMS, NULL), PSG_ERR_SHAPE);
    assert_int_equal(psg_dp_accumulate(dp, &four, mixed, DP_PARAMS, NULL), PSG_ERR_BATCH);
    part.gradient[0].batch_size = -1;
    assert_int_equal(psg_dp_accumulate(dp, &four, part.list, DP_PARAMS, NULL), PSG_ERR_BATCH);
    TEST_OK(f->context, dp_run_add(&f->run, &f->batch, 0, 4));
    TEST_OK(f->context, dp_run_add(&clean, &f->batch, 0, 4));
    TEST_OK(f->context, dp_run_release(&f->run, out));
    TEST_OK(f->context, dp_run_release(&clean, expected));
    assert_memory_equal(out, expected, (size_t)dp_batch_elements(&f->batch) * sizeof *out);
    dp_run_free(&clean);
}

static void check_refused_release(const fixture *f, const psg_tensor *outs, size_t count, psg_status expected) {
    uint64_t step = psg_dp_step(f->run.dp);
    test_fails(f->context, psg_dp_release(f->run.dp, outs, count), expected, "psg_dp_release");
    assert_int_equal(psg_dp_step(f->run.dp), step);
}

static void wrong_arguments_of_release_are_refused(void **state) {
    fixture *f = *state;
    double out[2 * DP_MAX_ELEMENTS] = { 0 };
    float out32[DP_MAX_ELEMENTS] = { 0 };
    const int64_t *counts = f->run.counts, strides[] = { 2 }, longer = counts[0] + 1;
    psg_tensor outs[DP_PARAMS] = { psg_tensor_of(PSG_F32, out32, 1, &counts[0]),
                                   psg_tensor_of(PSG_F64, out, 1, &counts[1]),
                                   psg_tensor_of(PSG_F64, out, 1, &counts[2]) };
    const psg_tensor good = outs[0];
    const struct { psg_tensor out; psg_status expected; } bad[] = {
        { psg_tensor_of(PSG_F64, out, 1, &longer), PSG_ERR_SHAPE },
        { psg_tensor_of(PSG_I32, out, 1, &counts[0]), PSG_ERR_DTYPE },
        { psg_tensor_of((psg_dtype)77, out, 1, &counts[0]), PSG_ERR_ARGUMENT },
        { psg_tensor_of(PSG_F64, NULL, 1, &counts[0]), PSG_ERR_ARGUMENT },
        { psg_tensor_of(PSG_F64, out, 99, &counts[0]), PSG_ERR_ARGUMENT },
        { psg_tensor_strided(PSG_F64, out, 1, &counts[0], strides), PSG_ERR_ARGUMENT },
    };
    assert_true(counts[0] > 1);
    for (size_t k = 0; k < COUNT(bad); k++) {
        outs[0] = bad[k].out;
        check_refused_release(f, outs, DP_PARAMS, bad[k].expected);
    }
    outs[0] = good;
    check_refused_release(f, outs, 2, PSG_ERR_ARGUMENT);
    check_refused_release(f, NULL, DP_PARAMS, PSG_ERR_ARGUMENT);
    for (size_t i = 0; i < COUNT(out); i++) assert_true(out[i] == 0);
    uint64_t allocations = psg_context_allocations(f->context);
    TEST_OK(f->context, psg_dp_release(f->run.dp, outs, DP_PARAMS));
    assert_int_equal(psg_context_allocations(f->context), allocations);
    assert_true(out[0] != 0 && out32[0] != 0);
}

/* f32 outs hold the doubles' numbers, rounded. */
static void sums_are_released_to_either_type(void **state) {
    fixture *f = *state;
    double wide[DP_MAX_ELEMENTS];
    float narrow[DP_MAX_ELEMENTS];
    dp_run a = dp_run_new(f->context, &usual, &f->batch, 3), b = dp_run_new(f->context, &usual, &f->batch, 3);
    psg_tensor outs[DP_PARAMS];
    for (int64_t k = 0, first = 0; k < DP_PARAMS; first += a.counts[k++]) {
        outs[k] = psg_tensor_of(PSG_F32, narrow + first, 1, &a.counts[k]);
    }
    TEST_OK(f->context, dp_run_release(&a, wide));
    TEST_OK(f->context, psg_dp_release(b.dp, outs, DP_PARAMS));
    for (int64_t i = 0; i < dp_batch_elements(&f->batch); i++) assert_true(narrow[i] == (float)wide[i]);
    dp_run_free(&a), dp_run_free(&b);
}

static void a_child_is_refused(void **state) {
    fixture *f = *state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        double out[DP_MAX_ELEMENTS] = { 0 };
        psg_dp *dp = NULL;
        uint64_t step = psg_dp_step(f->run.dp);
        bool refused = dp_run_release(&f->run, out) == PSG_ERR_FORKED && out[0] == 0;
        refused &= psg_dp_step(f->run.dp) == step;
        refused &= psg_dp_create(f->context, f->run.generator, &usual, f->run.counts, DP_PARAMS, &dp) == PSG_ERR_FORKED;
        _exit(refused && !dp ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Nothing of a step is in the next. */
static void sums_begin_at_zero(void **state) {
    fixture *f = *state;
    double out[DP_MAX_ELEMENTS];
    dp_run run = dp_run_new(f->context, &usual, &f->batch, 5);
    TEST_OK(f->context, dp_run_add(&run, &f->batch, 0, 1));
    assert_true(run.dp->sums[0] != 0);
    TEST_OK(f->context, dp_run_release(&run, out));
    for (int64_t i = 0; i < dp_batch_elements(&f->batch); i++) assert_true(run.dp->sums[i] == 0);
    dp_run_free(&run);
}

/* ---- nothing private is left in memory ---- */

typedef struct watcher { int64_t pattern; bool saw; } watcher;

static void *watched_allocate(void *user, size_t bytes) {
    (void)user;
    return malloc(bytes);
}

static void watched_release(void *user, void *memory, size_t bytes) {
    watcher *w = user;
    if (memory && memmem(memory, bytes, &w->pattern, sizeof w->pattern)) w->saw = true;
    free(memory);
}

static psg_status write_pattern(void *user, int64_t *sums, size_t count) {
    const watcher *w = user;
    for (size_t i = 0; i < count; i++) sums[i] = w->pattern;
    return PSG_ERR_SYSTEM;
}

/* A reduce hook leaves a pattern in the sums and fails; a destroyed psg_dp leaves none either. */
static void sums_are_wiped(void **state) {
    fixture *f = *state;
    watcher w = { 0x123456789abcdef, false };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.allocator = (psg_allocator){ watched_allocate, watched_release, &w };
    psg_context *context;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    double out[DP_MAX_ELEMENTS];
    dp_run run = dp_run_new(context, &usual, &f->batch, 1);
    psg_dp_set_reduce(run.dp, write_pattern, &w);
    assert_int_equal(dp_run_release(&run, out), PSG_ERR_SYSTEM);
    dp_run_free(&run);
    psg_context_destroy(context);
    assert_false(w.saw);
}

static void noise_is_wiped(void **state) {
    fixture *f = *state;
    double out[DP_MAX_ELEMENTS];
    for (unsigned slot = 0; slot < psg_context_threads(f->context); slot++) {
        memset(f->context->workspace[slot], 0, PSG_WORKSPACE_BYTES);
    }
    TEST_OK(f->context, dp_run_release(&f->run, out));
    for (unsigned slot = 0; slot < psg_context_threads(f->context); slot++) {
        const unsigned char *bytes = f->context->workspace[slot];
        for (size_t i = 0; i < PSG_WORKSPACE_BYTES; i++) assert_true(bytes[i] == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engine_without_its_options_is_refused),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(wrong_arguments_of_create_are_refused),
        cmocka_unit_test(without_memory_nothing_is_lost),
        cmocka_unit_test(wrong_arguments_of_accumulate_are_refused),
        cmocka_unit_test(wrong_arguments_of_release_are_refused),
        cmocka_unit_test(sums_are_released_to_either_type),
        cmocka_unit_test(a_child_is_refused),
        cmocka_unit_test(sums_begin_at_zero),
        cmocka_unit_test(sums_are_wiped),
        cmocka_unit_test(noise_is_wiped),
    };
    return cmocka_run_group_tests_name("dp refusals", tests, set_up, tear_down);
}
