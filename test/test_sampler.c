/* Poisson batches: every record in by itself, at exactly its rate. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dp/random.h"

#define Z 4.89   /* two-sided level 1e-6 */

typedef struct fixture {
    psg_context *context;
    psg_generator *generator;
} fixture;

static int set_up(void **state) {
    static fixture f;
    const unsigned char seed[32] = { 5 };
    f.context = test_context(1, NULL);
    TEST_OK(f.context, psg_generator_create_seeded(f.context, seed, &f.generator));
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    psg_generator_destroy(f->generator);
    test_context_free(f->context);
    return 0;
}

static size_t sample(const fixture *f, uint64_t step, uint64_t records, double rate, int64_t *indices) {
    size_t count = 0;
    TEST_OK(f->context, psg_poisson_sample(f->generator, step, records, rate, indices, records, &count));
    for (size_t k = 0; k < count; k++) {
        assert_in_range(indices[k], 0, records - 1);
        assert_true(!k || indices[k - 1] < indices[k]);
    }
    return count;
}

/* ---- the law ---- */

enum { RECORDS = 1500, STEPS = 2000 };

typedef struct counts {
    double included[RECORDS];    /* how often record i */
    double together;             /* records i and i + 1 both */
    double steps_in_a_row;       /* record i in this step and in the last */
    double size, size_squares;
} counts;

static void count_batch(counts *c, const int64_t *indices, size_t size, unsigned char *last) {
    unsigned char now[RECORDS] = { 0 };
    for (size_t k = 0; k < size; k++) {
        c->included[indices[k]]++;
        now[indices[k]] = 1;
        c->together += k && indices[k] == indices[k - 1] + 1;
        c->steps_in_a_row += last[indices[k]];
    }
    memcpy(last, now, sizeof now);
    c->size += (double)size;
    c->size_squares += (double)(size * size);
}

/* What a binomial count of n trials at p may be. */
static void check_count(double count, double n, double p, const char *what) {
    test_near(count, n * p, Z * sqrt(n * p * (1 - p)) + 1, what, 0);
}

static void check_law(const fixture *f, double q) {
    static counts c;
    static unsigned char last[RECORDS];
    int64_t indices[RECORDS];
    memset(&c, 0, sizeof c);
    memset(last, 0, sizeof last);
    for (uint64_t step = 0; step < STEPS; step++) count_batch(&c, indices, sample(f, step, RECORDS, q, indices), last);
    const double n = RECORDS, t = STEPS, mean = c.size / t, variance = c.size_squares / t - mean * mean;
    double chi_square = 0;
    for (int i = 0; i < RECORDS; i++) chi_square += pow(c.included[i] - t * q, 2) / (t * q * (1 - q));
    check_count(c.size, n * t, q, "inclusions");
    check_count(c.together, (n - 1) * t, q * q, "neighbouring records");
    check_count(c.steps_in_a_row, n * (t - 1), q * q, "one record twice");
    test_near(chi_square, n, Z * sqrt(2 * n + n / (t * q * (1 - q))), "chi-square of the records", 0);
    test_near(variance, n * q * (1 - q), n * q * (1 - q) * Z * sqrt(2 / t), "variance of the batch size", 0);
}

static void records_come_independently_at_the_rate(void **state) {
    const double rates[] = { 0.003, 0.1, 0.5, 0.97 };
    for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) check_law(*state, rates[k]);
}

static void rates_of_0_and_1_take_none_and_all(void **state) {
    const fixture *f = *state;
    int64_t indices[1000];
    assert_int_equal(sample(f, 1, 1000, 0, indices), 0);
    assert_int_equal(sample(f, 1, 1000, -0.0, indices), 0);
    assert_int_equal(sample(f, 1, 1000, 1, indices), 1000);
    assert_int_equal(sample(f, 1, 1000, 0x1p-1074, indices), 0);
    assert_int_equal(sample(f, 1, 1000, 1 - 0x1p-53, indices), 1000);
    assert_int_equal(sample(f, 1, 0, 0.5, indices), 0);
    assert_int_equal(sample(f, 1, 1, 1, indices), 1);
}

/* Ten of 10^8 records are expected at 10^-7 and one at 10^-8, where a uniform of 24 bits would give six. */
static void a_small_rate_keeps_its_digits(void **state) {
    const fixture *f = *state;
    int64_t indices[64];
    size_t count, total = 0;
    for (uint64_t step = 0; step < 4; step++) {
        TEST_OK(f->context, psg_poisson_sample(f->generator, step, 25000000, 1e-7, indices, 64, &count));
        total += count;
    }
    test_near((double)total, 10, Z * sqrt(10), "inclusions at 1e-7", 0);
    for (uint64_t step = 0; step < 4; step++) {
        TEST_OK(f->context, psg_poisson_sample(f->generator, step, 25000000, 1e-8, indices, 64, &count));
        total -= count;   /* a batch at the smaller rate is a part of the other: the words are the same */
    }
    test_near((double)total, 9, Z * 3, "inclusions at 1e-7 and not at 1e-8", 0);
}

/* ---- each record by itself ---- */

/* Record i is in exactly when word i < floor(rate 2^64): just above the rate of its word, and not at it. */
static void the_threshold_is_exact(void **state) {
    const fixture *f = *state;
    enum { N = 3000 };
    uint64_t words[N];
    int64_t indices[N];
    psg_stream stream = { PSG_PURPOSE_SAMPLER, 0, 0, 1000003 };
    psg_stream_read(f->generator, &stream, 0, words, sizeof words);
    for (int i = 0; i < N; i += 7) {
        double below = ldexp((double)(words[i] >> 11), -53), above = ldexp((double)((words[i] >> 11) + 1), -53);
        size_t expected = 0, in = sample(f, 1000003, N, below, indices);
        for (size_t k = 0; k < in; k++) assert_int_not_equal(indices[k], i);
        for (int j = 0; j < N; j++) expected += words[j] >> 11 < words[i] >> 11;
        assert_int_equal(in, expected);
        in = sample(f, 1000003, N, above, indices);
        assert_int_equal(in, expected + 1);
        bool found = false;
        for (size_t k = 0; k < in; k++) found |= indices[k] == i;
        assert_true(found);
    }
}

static void more_records_change_no_decision(void **state) {
    const fixture *f = *state;
    const uint64_t sizes[] = { 0, 1, 7, 8, 9, 1023, 1024, 1025, 2047, 2048, 4999 };
    int64_t all[5000], some[5000];
    size_t total = sample(f, 11, 5000, 0.3, all);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t count = sample(f, 11, sizes[k], 0.3, some);
        assert_true(count == total || all[count] >= (int64_t)sizes[k]);
        assert_memory_equal(all, some, count * sizeof *all);
    }
}

static void steps_differ_and_repeat(void **state) {
    const fixture *f = *state;
    int64_t a[1000], b[1000];
    size_t first = sample(f, 1, 1000, 0.5, a), second = sample(f, 2, 1000, 0.5, b);
    assert_true(first != second || memcmp(a, b, first * sizeof *a));
    assert_int_equal(sample(f, 1, 1000, 0.5, b), first);
    assert_memory_equal(a, b, first * sizeof *a);
}

/* ---- room and arguments ---- */

static void what_does_not_fit_is_told(void **state) {
    const fixture *f = *state;
    int64_t all[1000], few[1000];
    size_t total = sample(f, 3, 1000, 0.2, all), count = 0;
    memset(few, 0xff, sizeof few);
    assert_int_equal(psg_poisson_sample(f->generator, 3, 1000, 0.2, few, 50, &count), PSG_ERR_MEMORY);
    assert_int_equal(count, total);
    assert_memory_equal(all, few, 50 * sizeof *all);
    assert_int_equal(few[50], -1);
    assert_non_null(strstr(psg_context_message(f->context), "capacity is 50"));
    TEST_OK(f->context, psg_poisson_sample(f->generator, 3, 1000, 0.2, few, total, &count));
    assert_int_equal(psg_poisson_sample(f->generator, 3, 1000, 0.2, NULL, 0, &count), PSG_ERR_MEMORY);
    assert_int_equal(count, total);
    assert_int_equal(psg_poisson_sample(f->generator, 3, 100, 1, few, 99, &count), PSG_ERR_MEMORY);
    assert_int_equal(count, 100);
}

static void wrong_arguments_are_refused(void **state) {
    const fixture *f = *state;
    const double bad[] = { -0x1p-1074, 1 + 0x1p-52, NAN, INFINITY, -INFINITY };
    int64_t index = 7;
    size_t count = 7;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_int_equal(psg_poisson_sample(f->generator, 0, 1, bad[k], &index, 1, &count), PSG_ERR_ARGUMENT);
    }
    assert_int_equal(psg_poisson_sample(f->generator, 0, UINT64_MAX, 0.5, &index, 1, &count), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_poisson_sample(f->generator, 0, 1, 0.5, NULL, 1, &count), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_poisson_sample(f->generator, 0, 1, 0.5, &index, 1, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_poisson_sample(NULL, 0, 1, 0.5, &index, 1, &count), PSG_ERR_ARGUMENT);
    assert_true(index == 7 && count == 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_independently_at_the_rate),
        cmocka_unit_test(rates_of_0_and_1_take_none_and_all),
        cmocka_unit_test(a_small_rate_keeps_its_digits),
        cmocka_unit_test(the_threshold_is_exact),
        cmocka_unit_test(more_records_change_no_decision),
        cmocka_unit_test(steps_differ_and_repeat),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests_name("sampler", tests, set_up, tear_down);
}
