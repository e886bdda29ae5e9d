/* The private sum and its release. */
#include "dp_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dp/mechanism.h"

#define Z 4.89   /* two-sided level 1e-6 */
#define COUNT(array) (sizeof(array) / sizeof *(array))

static psg_dp_options options_of(double c, double sigma, double expected) { return dp_external(c, sigma, expected, 128); }

/* What a fresh psg_dp of this seed releases after one batch. */
static void release_of(psg_context *context, const psg_dp_options *options, const dp_batch *batch, double *out) {
    dp_run run = dp_run_new(context, options, batch, 1);
    TEST_OK(context, dp_run_add(&run, batch, 0, batch->b));
    TEST_OK(context, dp_run_release(&run, out));
    dp_run_free(&run);
}

/* ---- noise ---- */

static psg_dp *large_dp(psg_context *context, psg_generator *generator, const psg_dp_options *options, int64_t a,
                        int64_t b) {
    const int64_t counts[] = { a, b };
    psg_dp *dp;
    TEST_OK(context, psg_dp_create(context, generator, options, counts, 2, &dp));
    return dp;
}

static void release_pair(psg_context *context, psg_dp *dp, double *a, int64_t na, double *b, int64_t nb) {
    psg_tensor outs[] = { psg_tensor_of(PSG_F64, a, 1, &na), psg_tensor_of(PSG_F64, b, 1, &nb) };
    TEST_OK(context, psg_dp_release(dp, outs, 2));
}

static double inner(const double *x, const double *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* sigma C / expected, in every parameter and step, and nothing in common between any two. */
static void an_empty_batch_releases_noise(void **state) {
    (void)state;
    enum { N = 1000000, RELEASES = 3 };
    psg_context *context = test_context(2, NULL);
    const unsigned char seed[32] = { 2 };
    psg_generator *generator;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    psg_dp_options options = options_of(0.25, 3, 40);
    const double deviation = 3 * 0.25 / 40;
    double *x[RELEASES * 2];
    for (int k = 0; k < RELEASES * 2; k++) assert_non_null(x[k] = malloc(N * sizeof(double)));
    psg_dp *first = large_dp(context, generator, &options, N, N);
    psg_dp *second = large_dp(context, generator, &options, N, N);
    release_pair(context, first, x[0], N, x[1], N);    /* two steps of one, one of another of the same generator */
    release_pair(context, first, x[2], N, x[3], N);
    release_pair(context, second, x[4], N, x[5], N);
    for (int i = 0; i < RELEASES * 2; i++) {
        double norm = sqrt(inner(x[i], x[i], N) / N);
        test_near(norm / deviation, 1, Z / sqrt(2.0 * N), "deviation of release", i);
        for (int j = 0; j < i; j++) {
            test_near(inner(x[i], x[j], N) / N / (deviation * deviation), 0, Z / sqrt(N), "correlation", i * 10 + j);
        }
    }
    assert_int_equal(psg_gaussian(generator, 0, 0, 0, x[1], N), PSG_OK);
    test_near(inner(x[0], x[1], N) / N / deviation, 0, Z / sqrt(N), "correlation with psg_gaussian", 0);
    for (int k = 0; k < RELEASES * 2; k++) free(x[k]);
    psg_dp_destroy(first), psg_dp_destroy(second);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* psg_discrete_gaussian shows streams that no mechanism has. */
static void noise_is_not_the_public_streams(void **state) {
    (void)state;
    enum { N = 1000 };
    psg_context *context = test_context(1, NULL);
    const unsigned char seed[32] = { 2 };
    psg_generator *generator;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    psg_dp_options options = options_of(0.25, 3, 40);
    double x[N], y[N];
    int64_t z[N];
    psg_dp *dp = large_dp(context, generator, &options, N, N);
    const double factor = dp->grid.unit / 40;
    release_pair(context, dp, x, N, y, N);
    TEST_OK(context, psg_discrete_gaussian(generator, 0, 0, 0, z, N));
    for (int i = 0; i < N; i++) assert_true(x[i] != factor * (double)z[i]);
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
    test_context_free(context);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    enum { A = 70001, B = 33 };
    static double x[2][A + B];
    for (int k = 0; k < 2; k++) {
        psg_context *context = test_context(k ? 5 : 1, NULL);
        const unsigned char seed[32] = { 2 };
        psg_generator *generator;
        TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
        psg_dp_options options = options_of(1, 1, 8);
        psg_dp *dp = large_dp(context, generator, &options, A, B);
        release_pair(context, dp, x[k], A, x[k] + A, B);
        psg_dp_destroy(dp);
        psg_generator_destroy(generator);
        test_context_free(context);
    }
    assert_memory_equal(x[0], x[1], sizeof x[0]);
}

/* ---- the sum ---- */

/* C over 2^36: without noise the grid has this unit, and each of 5 addends is off by half of it, or as little. */
static const double run_unit = 0x1p-36;

/* Gradients far below C: the release is their sum over the expected size, whatever the realised one. */
static void sums_are_divided_by_the_expected_size(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 1 };
    dp_batch batch = dp_batch_new(&random, PSG_F64, 5, 3, 1e-3);
    psg_dp_options options = options_of(1, 0, 7);
    double out[DP_MAX_ELEMENTS];
    release_of(context, &options, &batch, out);
    for (int64_t i = 0; i < batch.p; i++) {
        for (int64_t j = 0; j < batch.d; j++) {
            double sum = 0;
            for (int64_t n = 0; n < 5; n++) {
                for (int64_t t = 0; t < 3; t++) {
                    sum += test_get3(&batch.g.view, n, t, i) * test_get3(&batch.a.view, n, t, j);
                }
            }
            test_near(out[i * batch.d + j], sum / 7, 6 * run_unit / 7, "weight", i * batch.d + j);
        }
    }
    dp_batch_free(&batch);
    test_context_free(context);
}

/* The same sum, clipped, in parts of 4, 0, 5 and 1. */
static void check_micro_batches(psg_context *context, psg_dtype dtype) {
    test_random random = { 2 };
    dp_batch batch = dp_batch_new(&random, dtype, 10, 4, 1);
    psg_dp_options options = options_of(0.5, 1, 10);
    double whole[DP_MAX_ELEMENTS], parts[DP_MAX_ELEMENTS];
    release_of(context, &options, &batch, whole);
    dp_run run = dp_run_new(context, &options, &batch, 1);
    const int64_t sizes[] = { 4, 0, 5, 1 };
    for (int64_t k = 0, first = 0; k < 4; first += sizes[k++]) {
        TEST_OK(context, dp_run_add(&run, &batch, first, sizes[k]));
    }
    TEST_OK(context, dp_run_release(&run, parts));
    assert_memory_equal(parts, whole, (size_t)dp_batch_elements(&batch) * sizeof *parts);
    dp_run_free(&run);
    dp_batch_free(&batch);
}

static void micro_batches_do_not_matter(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    check_micro_batches(context, PSG_F64);
    check_micro_batches(context, PSG_F32);
    test_context_free(context);
}

static void check_removed_sample(psg_context *context, psg_dtype dtype, int64_t t, double poison) {
    test_random random = { 3 };
    dp_batch batch = dp_batch_new(&random, dtype, 9, t, 1);
    psg_dp_options options = options_of(0.5, 1, 10);
    double clean[DP_MAX_ELEMENTS], poisoned[DP_MAX_ELEMENTS];
    dp_batch_set_sample(&batch, 4, 0);
    release_of(context, &options, &batch, clean);
    dp_batch_set_sample(&batch, 4, 0.5);
    test_set_at(&batch.g.view, 4 * t * batch.p, poison);
    release_of(context, &options, &batch, poisoned);
    assert_memory_equal(clean, poisoned, (size_t)dp_batch_elements(&batch) * sizeof *clean);
    dp_batch_free(&batch);
}

static void a_sample_that_is_not_finite_is_as_zero(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    const double poison[] = { NAN, INFINITY, -INFINITY };
    for (size_t k = 0; k < COUNT(poison); k++) {
        for (int64_t t = 1; t <= 5; t += 2) {
            check_removed_sample(context, PSG_F32, t, poison[k]);
            check_removed_sample(context, PSG_F64, t, poison[k]);
        }
    }
    test_context_free(context);
}

static void more_than_max_batch_size_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 4 };
    dp_batch batch = dp_batch_new(&random, PSG_F64, 11, 1, 1);
    psg_dp_options options = options_of(1, 1, 10);
    options.max_batch_size = 10;
    double out[2][DP_MAX_ELEMENTS];
    for (int attempt = 0; attempt < 2; attempt++) {
        dp_run run = dp_run_new(context, &options, &batch, 1);
        TEST_OK(context, dp_run_add(&run, &batch, 0, 6));
        if (attempt) assert_int_equal(dp_run_add(&run, &batch, 6, 5), PSG_ERR_STATE);
        if (attempt) assert_non_null(strstr(psg_context_message(context), "max_batch_size 10"));
        TEST_OK(context, dp_run_add(&run, &batch, 6, 4));
        TEST_OK(context, dp_run_add(&run, &batch, 0, 0));
        TEST_OK(context, dp_run_release(&run, out[attempt]));
        TEST_OK(context, dp_run_add(&run, &batch, 0, 10));   /* the next step counts anew */
        dp_run_free(&run);
    }
    assert_memory_equal(out[0], out[1], (size_t)dp_batch_elements(&batch) * sizeof(double));
    options = (psg_dp_options)PSG_DP_OPTIONS_INIT;
    options.records = 1000;
    options.sample_rate = 0.01;
    options.noise_multiplier = 1;
    dp_run run = dp_run_new(context, &options, &batch, 1);
    assert_int_equal(psg_dp_max_batch_size(run.dp), 112);   /* 10 + 12 sqrt(10) + 64 = 111.9 */
    dp_run_free(&run);
    dp_batch_free(&batch);
    test_context_free(context);
}

static void the_report_counts_what_was_seen(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 5 };
    dp_batch batch = dp_batch_new(&random, PSG_F64, 4, 1, 1);
    dp_batch_set_sample(&batch, 0, 0);
    dp_batch_set_sample(&batch, 1, NAN);
    psg_dp_options options = options_of(1e-6, 0, 4);
    dp_run run = dp_run_new(context, &options, &batch, 1);
    dp_part part;
    dp_batch_part(&batch, 0, 4, &part);
    psg_clip_report report;
    psg_batch taken = dp_take(context, run.dp, 0, 4);
    TEST_OK(context, psg_dp_accumulate(run.dp, &taken, part.list, DP_PARAMS, &report));
    assert_int_equal(report.clipped, 2);
    assert_int_equal(report.removed, 1);
    dp_run_free(&run);
    dp_batch_free(&batch);
    test_context_free(context);
}

/* ---- the reduce hook ---- */

typedef struct hook {
    int64_t add;
    size_t count;
    int64_t sum;           /* of what it was shown */
    psg_status status;
} hook;

static psg_status run_hook(void *user, int64_t *sums, size_t count) {
    hook *h = user;
    h->count = count;
    h->sum = 0;
    for (size_t i = 0; i < count; i++) {
        h->sum += sums[i];
        sums[i] += h->add;
    }
    return h->status;
}

static void reduce_sees_every_sum(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 6 };
    dp_batch batch = dp_batch_new(&random, PSG_F64, 3, 1, 1e-2);
    psg_dp_options options = options_of(1, 1, 5);
    hook h = { .add = (int64_t)15 << 36 };
    double plain[DP_MAX_ELEMENTS], reduced[DP_MAX_ELEMENTS];
    int64_t shown = 0;
    const int64_t elements = dp_batch_elements(&batch);
    release_of(context, &options, &batch, plain);
    dp_run run = dp_run_new(context, &options, &batch, 1);
    psg_dp_set_reduce(run.dp, run_hook, &h);
    TEST_OK(context, dp_run_add(&run, &batch, 0, 3));
    for (int64_t i = 0; i < elements; i++) shown += run.dp->sums[i];
    TEST_OK(context, dp_run_release(&run, reduced));
    assert_int_equal(h.count, elements);
    assert_true(h.sum == shown);   /* without noise */
    for (int64_t i = 0; i < elements; i++) {
        test_near(reduced[i], plain[i] + 0x1p36 * 15 / 5 * run.dp->grid.unit, 1e-14, "reduced", i);
    }
    dp_run_free(&run);
    dp_batch_free(&batch);
    test_context_free(context);
}

/* Counted, nothing written, and the next step begins at zero with noise of its own. */
static void a_reduce_that_fails_releases_nothing(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 6 };
    dp_batch batch = dp_batch_new(&random, PSG_F64, 3, 1, 1);
    psg_dp_options options = options_of(1, 1, 5);
    hook h = { .add = 1000000000, .status = PSG_ERR_SYSTEM };
    double out[DP_MAX_ELEMENTS], expected[DP_MAX_ELEMENTS];
    const size_t bytes = (size_t)dp_batch_elements(&batch) * sizeof *out;
    dp_run run = dp_run_new(context, &options, &batch, 1), other = dp_run_new(context, &options, &batch, 1);
    memset(out, 7, sizeof out);
    memset(expected, 7, sizeof expected);
    psg_dp_set_reduce(run.dp, run_hook, &h);
    TEST_OK(context, dp_run_add(&run, &batch, 0, 3));
    assert_int_equal(dp_run_release(&run, out), PSG_ERR_SYSTEM);
    assert_non_null(strstr(psg_context_message(context), "PSG_ERR_SYSTEM"));
    assert_memory_equal(out, expected, sizeof out);
    assert_int_equal(psg_dp_step(run.dp), 1);
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(run.dp)), 1);
    psg_dp_set_reduce(run.dp, NULL, NULL);
    TEST_OK(context, dp_run_release(&other, expected));   /* an empty batch, twice */
    TEST_OK(context, dp_run_release(&other, expected));
    TEST_OK(context, dp_run_release(&run, out));
    assert_memory_equal(out, expected, bytes);
    dp_run_free(&run), dp_run_free(&other);
    dp_batch_free(&batch);
    test_context_free(context);
}

/* ---- accounting ---- */

static double epsilon_of(const psg_accountant *accountant) {
    double epsilon = -1;
    assert_int_equal(psg_accountant_epsilon_upper(accountant, 1e-5, &epsilon), PSG_OK);
    return epsilon;
}

static void the_accountant_counts_releases(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    TEST_OK(context, psg_generator_create(context, &generator));
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.records = 60000;
    options.sample_rate = 0.01;
    options.noise_multiplier = 1.1;
    psg_dp *dp = large_dp(context, generator, &options, 3, 4);
    psg_accountant *expected;
    psg_event event = PSG_EVENT_INIT;
    event.noise_multiplier = 1.1;
    event.sample_rate = 0.01;
    TEST_OK(context, psg_accountant_create(context, PSG_ADD_OR_REMOVE_ONE, &expected));
    assert_true(epsilon_of(psg_dp_accountant(dp)) == 0);
    double a[3], b[4];
    for (uint64_t step = 0; step < 50; step++) {
        psg_batch batch;
        assert_int_equal(psg_dp_step(dp), step);
        TEST_OK(context, psg_dp_sample(dp, &batch));
        release_pair(context, dp, a, 3, b, 4);
    }
    TEST_OK(context, psg_accountant_add(expected, &event, 50));
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(dp)), 50);
    double epsilon = epsilon_of(expected);
    psg_accountant_destroy(expected);
    test_near(epsilon_of(psg_dp_accountant(dp)), epsilon, 1e-12 * epsilon, "epsilon", 0);
    psg_dp_destroy(dp);
    options.noise_multiplier = 0;
    options.without_noise = 1;
    dp = large_dp(context, generator, &options, 3, 4);
    psg_batch batch;
    TEST_OK(context, psg_dp_sample(dp, &batch));
    release_pair(context, dp, a, 3, b, 4);
    assert_true(isinf(epsilon_of(psg_dp_accountant(dp))) && a[0] == 0 && b[3] == 0);
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
    test_context_free(context);
}

static void what_is_seeded_is_not_private(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 1 };
    dp_batch batch = dp_batch_new(&random, PSG_F32, 1, 1, 1);
    psg_dp_options options = options_of(1, 1, 1);
    dp_run run = dp_run_new(context, &options, &batch, 1);
    assert_false(psg_accountant_is_private(psg_dp_accountant(run.dp)));
    assert_true(isinf(epsilon_of(psg_dp_accountant(run.dp))));
    dp_run_free(&run);
    dp_batch_free(&batch);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_batch_releases_noise),
        cmocka_unit_test(noise_is_not_the_public_streams),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(sums_are_divided_by_the_expected_size),
        cmocka_unit_test(micro_batches_do_not_matter),
        cmocka_unit_test(a_sample_that_is_not_finite_is_as_zero),
        cmocka_unit_test(more_than_max_batch_size_is_refused),
        cmocka_unit_test(the_report_counts_what_was_seen),
        cmocka_unit_test(reduce_sees_every_sum),
        cmocka_unit_test(a_reduce_that_fails_releases_nothing),
        cmocka_unit_test(the_accountant_counts_releases),
        cmocka_unit_test(what_is_seeded_is_not_private),
    };
    return cmocka_run_group_tests_name("dp", tests, NULL, NULL);
}
