/* Normal deviates: their law, their addresses.  Statistics of n values are held to 4.89 standard errors (a
 * two-sided level of 1e-6) under fixed seeds. */
#include "kernels.h"
#include "support.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "dp/random.h"

#define Z 4.89

static const unsigned char seed[32] = "a seed of thirty-two bytes, once";

static psg_generator *seeded(psg_context *context) {
    psg_generator *generator;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    return generator;
}

static void *array(size_t count, size_t size) {
    void *memory = malloc(count * size);
    assert_non_null(memory);
    return memory;
}

static double *draw(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first, size_t count) {
    double *x = array(count, sizeof *x);
    assert_int_equal(psg_gaussian(generator, step, parameter, first, x, count), PSG_OK);
    return x;
}

/* ---- the law of the noise ---- */

static double moment(const double *x, size_t n, int power) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += pow(x[i], power);
    return sum / (double)n;
}

static double correlation(const double *x, const double *y, size_t n) {
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        xy += x[i] * y[i];
        xx += x[i] * x[i];
        yy += y[i] * y[i];
    }
    return xy / sqrt(xx * yy);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The Kolmogorov-Smirnov distance to N(0, 1); sorts x. */
static double ks_distance(double *x, size_t n) {
    qsort(x, n, sizeof *x, ascending);
    double distance = 0;
    for (size_t i = 0; i < n; i++) {
        double p = erfc(-x[i] / sqrt(2)) / 2;
        distance = fmax(distance, fmax(p - (double)i / (double)n, (double)(i + 1) / (double)n - p));
    }
    return distance;
}

static void noise_has_its_law(void **state) {
    (void)state;
    enum { N = 1000000 };
    const double error = Z / sqrt(N);
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    double *x = draw(generator, 3, 1, 0, N);
    test_near(moment(x, N, 1), 0, error, "mean", 0);
    test_near(sqrt(moment(x, N, 2)), 1, error / sqrt(2), "deviation", 0);
    test_near(moment(x, N, 3), 0, error * sqrt(15), "third moment", 0);
    test_near(moment(x, N, 4), 3, error * sqrt(96), "fourth moment", 0);
    test_near(ks_distance(x, N), 0, 2.69 / sqrt(N), "Kolmogorov-Smirnov", 0);
    free(x);
    psg_generator_destroy(generator);
    test_context_free(context);
}

static void noise_is_uncorrelated(void **state) {
    (void)state;
    enum { N = 1000000 };
    const double bound = Z / sqrt(N);
    const size_t lags[] = { 1, 2, 7, 8, 9, 15, 16, 4096 };
    psg_context *context = test_context(2, NULL);
    psg_generator *generator = seeded(context);
    double *x = draw(generator, 0, 0, 0, N + 4096);
    double *other_step = draw(generator, 1, 0, 0, N), *other_parameter = draw(generator, 0, 1, 0, N);
    double *far = draw(generator, 0, 0, (uint64_t)1 << 36, N);
    for (size_t k = 0; k < sizeof lags / sizeof *lags; k++) {
        test_near(correlation(x, x + lags[k], N), 0, bound, "lag", (int64_t)lags[k]);
    }
    test_near(correlation(x, other_step, N), 0, bound, "steps", 0);
    test_near(correlation(x, other_parameter, N), 0, bound, "parameters", 0);
    test_near(correlation(x, far, N), 0, bound, "coordinates 2^36 apart", 0);
    for (size_t i = 0; i < N; i++) {   /* a pair shares its radius, and only that: squares show it if more is shared */
        x[i] = x[i] * x[i] - 1;
        other_step[i] = other_step[i] * other_step[i] - 1;
    }
    test_near(correlation(x, x + 8, N - 8), 0, bound, "squares of a pair", 0);
    test_near(correlation(x, other_step, N), 0, bound, "squares of two steps", 0);
    free(x), free(other_step), free(other_parameter), free(far);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- the same numbers by another way ---- */

/* Words of a public noise stream from RFC 8439's ChaCha20: the 96-bit nonce is the high half of the block counter
 * before the last 8 nonce bytes of XChaCha20. */
static void words_by_rfc8439(uint64_t step, uint32_t parameter, uint64_t block, uint64_t words[8]) {
    unsigned char in[16] = { 1 }, subkey[32], nonce[12], bytes[64] = { 0 };
    uint32_t high = (uint32_t)(block >> 32);
    memcpy(in + 4, &parameter, 4);
    crypto_core_hchacha20(subkey, in, seed, NULL);
    memcpy(nonce, &high, 4);
    memcpy(nonce + 4, &step, 8);
    crypto_stream_chacha20_ietf_xor_ic(bytes, bytes, sizeof bytes, nonce, (uint32_t)block, subkey);
    memcpy(words, bytes, sizeof bytes);
}

static void check_against_definition(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first) {
    uint64_t a[8], b[8];
    double *x = draw(generator, step, parameter, first, 16);
    words_by_rfc8439(step, parameter, first / 8, a);
    words_by_rfc8439(step, parameter, first / 8 + 1, b);
    for (int i = 0; i < 8; i++) {
        double u = ((double)(a[i] >> 11) + 1) * 0x1p-53, v = (double)(b[i] >> 11) * 0x1p-53;
        double radius = sqrt(-2 * log(u)), angle = 2 * acos(-1) * v;
        test_near(x[i], radius * cos(angle), 1e-13, "cosine", i);
        test_near(x[8 + i], radius * sin(angle), 1e-13, "sine", i);
    }
    free(x);
}

static void noise_is_box_muller_on_chacha20(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        psg_context *context = test_context(1, isas[k]);
        psg_generator *generator = seeded(context);
        for (uint64_t first = 0; first < 4096; first += 16) check_against_definition(generator, 5, 2, first);
        check_against_definition(generator, UINT64_MAX, UINT32_MAX, ((uint64_t)1 << 62) + 16);
        check_against_definition(generator, (uint64_t)1 << 40, 0, (uint64_t)1 << 35);
        psg_generator_destroy(generator);
        test_context_free(context);
    }
}

/* Both ends of the uniforms: the radius stays finite, and 0 angle with the smallest radius is 0. */
static void the_kernel_takes_extreme_words(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        for (int real = 0; real < 2; real++) {
            uint64_t words[16] = { 0, UINT64_MAX, 2047, 2048 };
            double x[16];
            memcpy(x, words, sizeof x);
            psg_kernels_choose(isas[k], real)->gaussian(16, x);
            test_near(x[0], sqrt(2 * 53 * log(2)), 1e-14, "largest radius", 0);
            test_near(x[1], 0, 0, "radius of u = 1", 0);
            test_near(x[2], x[0], 0, "the low 11 bits do not count", 0);
            test_near(x[3], sqrt(2 * 52 * log(2)), 1e-14, "radius of u = 2^-52", 0);
        }
    }
}

static void splits_and_threads_do_not_matter(void **state) {
    (void)state;
    enum { N = 50000 };
    test_random random = { 1 };
    psg_context *context = test_context(1, NULL), *crowd = test_context(5, NULL);
    psg_generator *generator = seeded(context), *other = seeded(crowd);
    const uint64_t base = 12345;
    double *x = draw(generator, 9, 4, base, N), *y = draw(other, 9, 4, base, N);
    assert_memory_equal(x, y, N * sizeof *x);
    for (int round = 0; round < 300; round++) {
        size_t first = (size_t)test_range(&random, 0, N - 1), count = (size_t)test_range(&random, 0, 40);
        if (round % 10 == 0) count = (size_t)test_range(&random, 0, N);
        if (count > N - first) count = N - first;
        double *part = draw(round % 2 ? generator : other, 9, 4, base + first, count ? count : 1);
        assert_memory_equal(part, x + first, count * sizeof *x);
        free(part);
    }
    free(x), free(y);
    psg_generator_destroy(generator), psg_generator_destroy(other);
    test_context_free(context), test_context_free(crowd);
}

/* ---- addresses ---- */

static int by_word(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* 2 x 3 x 3 x 3 streams at 3 places each, their values chosen to overlap in every wrong packing of the address. */
static void no_word_comes_twice(void **state) {
    (void)state;
    enum { WORDS = 1024, STREAMS = 2 * 3 * 3 * 3 * 3 };
    const uint64_t value[3] = { 0, 1, (uint64_t)1 << 32 }, block[3] = { 0, (uint64_t)1 << 32, (uint64_t)1 << 40 };
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    uint64_t *words = array((size_t)WORDS * STREAMS, sizeof *words);
    for (size_t s = 0; s < STREAMS; s++) {
        psg_stream stream = { s % 2 ? PSG_PURPOSE_GAUSSIAN : PSG_PURPOSE_SAMPLER, (uint32_t)(s / 2 % 3),
                              value[s / 6 % 3], value[s / 18 % 3] };
        psg_stream_read(generator, &stream, block[s / 54], words + s * WORDS, WORDS * sizeof *words);
    }
    qsort(words, (size_t)WORDS * STREAMS, sizeof *words, by_word);
    for (size_t i = 1; i < (size_t)WORDS * STREAMS; i++) assert_true(words[i - 1] != words[i]);
    free(words);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- generators ---- */

static void system_keys_differ(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *a, *b;
    TEST_OK(context, psg_generator_create(context, &a));
    TEST_OK(context, psg_generator_create(context, &b));
    assert_memory_not_equal(a->key, b->key, PSG_KEY_BYTES);
    assert_false(psg_generator_is_seeded(a));
    psg_generator_destroy(a);
    a = seeded(context);
    assert_true(psg_generator_is_seeded(a));
    psg_generator_destroy(a), psg_generator_destroy(b), psg_generator_destroy(NULL);
    test_context_free(context);
}

/* Looks at memory as it is given back. */
typedef struct watcher { bool saw_key; } watcher;

static void *watched_allocate(void *user, size_t bytes) {
    (void)user;
    return malloc(bytes);
}

static void watched_release(void *user, void *memory, size_t bytes) {
    watcher *w = user;
    if (memory && memmem(memory, bytes, seed, sizeof seed)) w->saw_key = true;
    free(memory);
}

static void the_key_is_wiped(void **state) {
    (void)state;
    watcher w = { false };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.allocator = (psg_allocator){ watched_allocate, watched_release, &w };
    psg_context *context;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    psg_generator *generator = seeded(context);
    free(draw(generator, 0, 0, 0, 10000));
    psg_generator_destroy(generator);
    psg_context_destroy(context);
    assert_false(w.saw_key);
}

/* The workspace holds no noise that was not asked for. */
static void the_scratch_is_wiped(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    double *scratch = context->workspace[0];
    memset(scratch, 0, PSG_WORKSPACE_BYTES);
    free(draw(generator, 0, 0, 3, 9001));
    for (size_t i = 0; i < PSG_WORKSPACE_BYTES / sizeof *scratch; i++) assert_true(scratch[i] == 0);
    psg_generator_destroy(generator);
    test_context_free(context);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    double x;
    assert_int_equal(psg_generator_create(NULL, &generator), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_generator_create(context, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_generator_create_seeded(context, NULL, &generator), PSG_ERR_ARGUMENT);
    generator = seeded(context);
    assert_int_equal(psg_gaussian(NULL, 0, 0, 0, &x, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian(generator, 0, 0, 0, NULL, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian(generator, 0, 0, 0, NULL, 0), PSG_OK);
    assert_int_equal(psg_gaussian(generator, 0, 0, INT64_MAX, &x, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian(generator, 0, 0, UINT64_MAX, &x, 1), PSG_ERR_ARGUMENT);
    psg_generator_destroy(generator);
    test_context_free(context);
}

static void without_memory_nothing_is_lost(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    size_t blocks = allocator.live_blocks;
    psg_generator *generator = (void *)&allocator;
    test_allocator_arm(&allocator, 1, false);
    assert_int_equal(psg_generator_create(context, &generator), PSG_ERR_MEMORY);
    assert_null(generator);
    assert_int_equal(allocator.live_blocks, blocks);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_has_its_law),
        cmocka_unit_test(noise_is_uncorrelated),
        cmocka_unit_test(noise_is_box_muller_on_chacha20),
        cmocka_unit_test(the_kernel_takes_extreme_words),
        cmocka_unit_test(splits_and_threads_do_not_matter),
        cmocka_unit_test(no_word_comes_twice),
        cmocka_unit_test(system_keys_differ),
        cmocka_unit_test(the_key_is_wiped),
        cmocka_unit_test(the_scratch_is_wiped),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
