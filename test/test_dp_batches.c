/* The batches of a mechanism: each sampling has its law, and no record is used that was not drawn, or twice. */
#include "dp_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dp/mechanism.h"
#include "dp/random.h"

#define Z 4.89   /* two-sided level 1e-6 */

enum { RECORDS = 600 };

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

static psg_dp_options sampled(psg_sampling sampling) {
    psg_dp_options o = PSG_DP_OPTIONS_INIT;
    o.sampling = sampling;
    o.records = RECORDS;
    o.noise_multiplier = 1;
    return o;
}

static psg_dp_options poisson(uint64_t records, double rate) {
    psg_dp_options o = sampled(PSG_SAMPLING_POISSON);
    o.records = records;
    o.sample_rate = rate;
    return o;
}

static psg_dp *open_dp(const fixture *f, const psg_dp_options *options) {
    const int64_t one = 1;
    psg_dp *dp;
    TEST_OK(f->context, psg_dp_create(f->context, f->generator, options, &one, 1, &dp));
    return dp;
}

static void release(const fixture *f, psg_dp *dp) {
    double out;
    const int64_t one = 1;
    psg_tensor outs = psg_tensor_of(PSG_F64, &out, 1, &one);
    TEST_OK(f->context, psg_dp_release(dp, &outs, 1));
}

static psg_batch sample(const fixture *f, psg_dp *dp) {
    psg_batch batch;
    TEST_OK(f->context, psg_dp_sample(dp, &batch));
    for (int64_t n = 0; n < batch.count; n++) {
        assert_true(batch.ids[n] >= 0 && (uint64_t)batch.ids[n] < dp->options.records);
        assert_true(!n || batch.ids[n - 1] < batch.ids[n]);
    }
    assert_true(batch.count <= psg_dp_max_batch_size(dp) && batch.step == psg_dp_step(dp));
    return batch;
}

/* What a binomial count of n trials at p may be. */
static void check_count(double count, double n, double p, const char *what) {
    test_near(count, n * p, Z * sqrt(n * p * (1 - p)) + 1, what, 0);
}

/* ---- laws ---- */

typedef struct counts {
    double included[RECORDS];    /* how often record i */
    double together;             /* records i and i + 1 both */
    double in_a_row;             /* record i in this step and in the last */
    double size, size_squares;
} counts;

static void count_batch(counts *c, const psg_batch *batch, unsigned char *last) {
    unsigned char now[RECORDS] = { 0 };
    for (int64_t k = 0; k < batch->count; k++) {
        c->included[batch->ids[k]]++;
        now[batch->ids[k]] = 1;
        c->together += k && batch->ids[k] == batch->ids[k - 1] + 1;
        c->in_a_row += last[batch->ids[k]];
    }
    memcpy(last, now, sizeof now);
    c->size += (double)batch->count;
    c->size_squares += (double)(batch->count * batch->count);
}

static counts count_steps(const fixture *f, const psg_dp_options *options, int steps) {
    counts c;
    unsigned char last[RECORDS] = { 0 };
    psg_dp *dp = open_dp(f, options);
    memset(&c, 0, sizeof c);
    for (int step = 0; step < steps; step++) {
        psg_batch batch = sample(f, dp);
        count_batch(&c, &batch, last);
        release(f, dp);
    }
    psg_dp_destroy(dp);
    return c;
}

/* Chi-square of the records' counts, each of t trials at q. */
static void check_records(const counts *c, double t, double q) {
    double chi_square = 0, n = RECORDS;
    for (int i = 0; i < RECORDS; i++) chi_square += pow(c->included[i] - t * q, 2) / (t * q * (1 - q));
    test_near(chi_square, n, Z * sqrt(2 * n + n / (t * q * (1 - q))), "chi-square of the records", 0);
}

static void poisson_records_come_independently_at_the_rate(void **state) {
    enum { STEPS = 2000 };
    static const double rates[] = { 0.003, 0.1, 0.5, 0.97 };
    for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) {
        psg_dp_options options = poisson(RECORDS, rates[k]);
        counts c = count_steps(*state, &options, STEPS);
        const double n = RECORDS, t = STEPS, q = rates[k], mean = c.size / t;
        check_records(&c, t, q);
        check_count(c.size, n * t, q, "inclusions");
        check_count(c.together, (n - 1) * t, q * q, "neighbouring records");
        check_count(c.in_a_row, n * (t - 1), q * q, "one record twice");
        test_near(c.size_squares / t - mean * mean, n * q * (1 - q), n * q * (1 - q) * Z * sqrt(2 / t),
                  "variance of the batch size", 0);
    }
}

/* At most 60 of some 60 +- 7: each record alike, batches of 60 half of the time. */
static void truncated_batches_are_cut_at_random(void **state) {
    enum { STEPS = 2000, MOST = 60 };
    psg_dp_options options = sampled(PSG_SAMPLING_TRUNCATED_POISSON);
    options.sample_rate = 0.1;
    options.max_batch_size = MOST;
    counts c = count_steps(*state, &options, STEPS);
    double expected = 0, p = exp(RECORDS * log(0.9));   /* of 0 records, binomially */
    for (int k = 0; k <= RECORDS; k++) {
        expected += p * (k < MOST ? k : MOST);
        p *= (double)(RECORDS - k) / (k + 1) / 9;
    }
    check_records(&c, STEPS, expected / RECORDS);
    test_near(c.size / STEPS, expected, Z * 8 / sqrt(STEPS), "mean of the size", 0);
}

static void fixed_batches_have_their_size(void **state) {
    enum { STEPS = 2000, SIZE = 50 };
    psg_dp_options options = sampled(PSG_SAMPLING_FIXED_SIZE);
    options.batch_size = SIZE;
    options.relation = PSG_REPLACE_ONE;
    counts c = count_steps(*state, &options, STEPS);
    const double q = (double)SIZE / RECORDS, pair = q * (SIZE - 1) / (RECORDS - 1);
    check_records(&c, STEPS, q);
    check_count(c.together, (RECORDS - 1) * (double)STEPS, pair, "neighbouring records");
    check_count(c.in_a_row, RECORDS * (STEPS - 1.0), q * q, "one record twice");
    assert_true(c.size == SIZE * STEPS && c.size_squares == (double)SIZE * SIZE * STEPS);
}

/* Every record once an epoch, whose order is its own. */
static void epochs_have_every_record_once(void **state) {
    const fixture *f = *state;
    enum { SIZE = 70, BATCHES = 9 };   /* 8 of 70 and one of 40 */
    psg_dp_options options = sampled(PSG_SAMPLING_EPOCHS);
    options.batch_size = SIZE;
    psg_dp *dp = open_dp(f, &options);
    int first[2][RECORDS];
    for (int epoch = 0; epoch < 2; epoch++) {
        for (int i = 0; i < RECORDS; i++) first[epoch][i] = -1;
        for (int b = 0; b < BATCHES; b++) {
            psg_batch batch = sample(f, dp);
            assert_int_equal(batch.count, b < 8 ? SIZE : 40);
            for (int64_t n = 0; n < batch.count; n++) {
                assert_int_equal(first[epoch][batch.ids[n]], -1);
                first[epoch][batch.ids[n]] = b;
            }
            release(f, dp);
        }
    }
    int same = 0;
    for (int i = 0; i < RECORDS; i++) same += first[0][i] == first[1][i];
    check_count(same, RECORDS, 1.0 / BATCHES, "records in the same batch twice");
    psg_dp_destroy(dp);
}

/* Every record in the bin that it picked for good. */
static void bins_keep_their_records(void **state) {
    const fixture *f = *state;
    enum { BINS = 12 };
    psg_dp_options options = sampled(PSG_SAMPLING_BALLS_IN_BINS);
    options.batches = BINS;
    psg_dp *dp = open_dp(f, &options);
    int bin[RECORDS], seen[BINS] = { 0 };
    for (int i = 0; i < RECORDS; i++) bin[i] = -1;
    for (int step = 0; step < 2 * BINS; step++) {
        psg_batch batch = sample(f, dp);
        for (int64_t n = 0; n < batch.count; n++) {
            assert_int_equal(bin[batch.ids[n]], step < BINS ? -1 : step - BINS);
            bin[batch.ids[n]] = step % BINS;
        }
        seen[step % BINS] = (int)batch.count;
        release(f, dp);
    }
    double chi_square = 0, mean = (double)RECORDS / BINS;
    for (int b = 0; b < BINS; b++) chi_square += pow(seen[b] - mean, 2) / mean;
    assert_true(chi_square < BINS - 1 + Z * sqrt(2 * (BINS - 1)) + Z * Z);
    psg_dp_destroy(dp);
}

/* 0.15 of 1.5 10^8 records are expected at 10^-9, and five with probability below 10^-6; a uniform of 24 bits, whose
 * least is below any rate, would give nine. */
static void a_small_rate_keeps_its_digits(void **state) {
    const fixture *f = *state;
    psg_dp_options options = poisson(25000000, 1e-9);
    psg_dp *dp = open_dp(f, &options);
    double total = 0;
    for (int step = 0; step < 6; step++) {
        total += (double)sample(f, dp).count;
        release(f, dp);
    }
    assert_true(total < 5);
    psg_dp_destroy(dp);
}

/* Record i is in exactly when word i < floor(rate 2^64): just above the rate of its word, and not at it. */
static void the_threshold_is_exact(void **state) {
    const fixture *f = *state;
    uint64_t words[RECORDS];
    for (int i = 0; i < RECORDS; i += 97) {
        for (int up = 0; up < 2; up++) {
            psg_stream stream = { PSG_PURPOSE_SAMPLER, 0, f->generator->next_owner, 0 };
            psg_stream_read(f->generator, &stream, 0, words, sizeof words);
            psg_dp_options options = poisson(RECORDS, ldexp((double)((words[i] >> 11) + (unsigned)up), -53));
            psg_dp *dp = open_dp(f, &options);
            psg_batch batch = sample(f, dp);
            int64_t expected = 0;
            bool found = false;
            for (int j = 0; j < RECORDS; j++) expected += words[j] >> 11 < (words[i] >> 11) + (unsigned)up;
            for (int64_t n = 0; n < batch.count; n++) found |= batch.ids[n] == i;
            assert_true(found == up && batch.count == expected);
            psg_dp_destroy(dp);
        }
    }
}

/* A word whose last 11 bits are 0 is a rate, and below it is not the word itself. */
static void the_threshold_is_excluded(void **state) {
    const fixture *f = *state;
    enum { MANY = 40000 };
    static uint64_t words[MANY];
    psg_stream stream = { PSG_PURPOSE_SAMPLER, 0, f->generator->next_owner, 0 };
    psg_stream_read(f->generator, &stream, 0, words, sizeof words);
    int i = 0;
    while (i < MANY && words[i] & 2047) i++;
    assert_true(i < MANY);
    psg_dp_options options = poisson(MANY, ldexp((double)words[i], -64));
    psg_dp *dp = open_dp(f, &options);
    psg_batch batch = sample(f, dp);
    int64_t below = 0;
    for (int j = 0; j < MANY; j++) below += words[j] < words[i];
    assert_int_equal(batch.count, below);
    for (int64_t n = 0; n < batch.count; n++) assert_true(batch.ids[n] != i);
    psg_dp_destroy(dp);
}

static void a_rate_of_1_takes_all(void **state) {
    const fixture *f = *state;
    psg_dp_options options = poisson(RECORDS, 1);
    psg_dp *dp = open_dp(f, &options);
    assert_int_equal(sample(f, dp).count, RECORDS);
    psg_dp_destroy(dp);
}

/* ---- whose batch it is ---- */

static void mechanisms_of_one_generator_draw_apart(void **state) {
    const fixture *f = *state;
    psg_dp_options options = poisson(RECORDS, 0.5);
    psg_dp *one = open_dp(f, &options), *two = open_dp(f, &options);
    psg_batch a = sample(f, one), b = sample(f, two), again = sample(f, one);
    int64_t both = 0;
    for (int64_t i = 0, j = 0; i < a.count && j < b.count;) {
        both += a.ids[i] == b.ids[j];
        if (a.ids[i] <= b.ids[j]) i++;
        else j++;
    }
    check_count((double)both, RECORDS, 0.25, "records in both");
    assert_true(a.stream != b.stream && a.owner != b.owner);
    assert_true(again.ids == a.ids && again.count == a.count && again.stream == a.stream);
    release(f, one);
    psg_batch next = sample(f, one);
    assert_true(next.stream != a.stream && next.step == 1);
    psg_dp_destroy(one);
    psg_dp_destroy(two);
}

static psg_status add(psg_dp *dp, const psg_batch *batch) {
    static const float rows[RECORDS + 8] = { 1 };
    const int64_t one = 1;
    psg_tensor view = psg_f32_2d(rows, batch->count, 1);
    psg_block block = psg_rows(&view);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, &one);
    const psg_gradient *list = &gradient;
    return psg_dp_accumulate(dp, batch, &list, 1, NULL);
}

static void records_are_used_once(void **state) {
    const fixture *f = *state;
    psg_dp_options options = poisson(RECORDS, 0.5);
    psg_dp *dp = open_dp(f, &options), *other = open_dp(f, &options);
    psg_batch batch = sample(f, dp), part = psg_batch_part(&batch, 3, 5), wrong = sample(f, other);
    int64_t ids[2] = { 0, 0 };
    test_fails(f->context, add(dp, &wrong), PSG_ERR_STATE, "not of this psg_dp's step");
    TEST_OK(f->context, add(dp, &part));
    test_fails(f->context, add(dp, &batch), PSG_ERR_STATE, "was accumulated before");
    while (ids[0] == batch.ids[ids[0]]) ids[0]++;   /* the first that was not drawn */
    part.ids = ids;
    part.count = 1;
    test_fails(f->context, add(dp, &part), PSG_ERR_STATE, "is not of the step's batch");
    part = psg_batch_part(&batch, 8, batch.count - 8);
    TEST_OK(f->context, add(dp, &part));
    ids[0] = batch.ids[1];
    ids[1] = batch.ids[1];
    part.ids = ids;
    part.count = 2;
    test_fails(f->context, add(dp, &part), PSG_ERR_STATE, "was accumulated before");
    part.count = 1;
    TEST_OK(f->context, add(dp, &part));   /* the refused pair has left it */
    release(f, dp);
    test_fails(f->context, add(dp, &part), PSG_ERR_STATE, "step 1");
    psg_dp_destroy(dp);
    psg_dp_destroy(other);
}

static void a_release_has_its_batch(void **state) {
    const fixture *f = *state;
    double out = 7;
    const int64_t one = 1;
    psg_tensor outs = psg_tensor_of(PSG_F64, &out, 1, &one);
    psg_dp_options options = poisson(RECORDS, 0.1), external = dp_external(1, 1, 4, 8);
    psg_dp *dp = open_dp(f, &options), *own = open_dp(f, &external);
    test_fails(f->context, psg_dp_release(dp, &outs, 1), PSG_ERR_STATE, "psg_dp_sample");
    assert_true(out == 7 && psg_dp_step(dp) == 0);
    sample(f, dp);
    release(f, dp);
    test_fails(f->context, psg_dp_release(dp, &outs, 1), PSG_ERR_STATE, "psg_dp_sample");
    release(f, own);
    psg_dp_destroy(dp);
    psg_dp_destroy(own);
}

/* The release after a refused one is that of a mechanism that was never asked. */
static void more_than_was_said_is_refused(void **state) {
    const fixture *f = *state;
    psg_dp_options options = poisson(RECORDS, 0.5);
    options.max_batch_size = 100;
    psg_dp *dp = open_dp(f, &options);
    psg_batch batch = { .count = -7 };
    test_fails(f->context, psg_dp_sample(dp, &batch), PSG_ERR_STATE, "max_batch_size 100");
    test_fails(f->context, psg_dp_sample(dp, &batch), PSG_ERR_STATE, "max_batch_size 100");
    assert_true(batch.count == -7 && psg_dp_step(dp) == 0);
    psg_dp_destroy(dp);
}

/* ---- the caller's batches ---- */

static void taken_records_are_each_once(void **state) {
    const fixture *f = *state;
    psg_dp_options options = dp_external(1, 1, 4, 8);
    options.records = 100;
    psg_dp *dp = open_dp(f, &options);
    const int64_t first[] = { 9, 3, 7 }, more[] = { 99, 0 }, twice[] = { 5, 6, 5 }, again[] = { 1, 3 }, out[] = { 100 };
    const int64_t below[] = { -1 }, many[] = { 11, 12, 13, 14 };
    psg_batch batch;
    TEST_OK(f->context, psg_dp_take(dp, first, 3, &batch));
    assert_memory_equal(batch.ids, first, sizeof first);
    TEST_OK(f->context, add(dp, &batch));
    test_fails(f->context, psg_dp_take(dp, twice, 3, &batch), PSG_ERR_STATE, "5 twice");
    test_fails(f->context, psg_dp_take(dp, again, 2, &batch), PSG_ERR_STATE, "ids[1] is 3");
    test_fails(f->context, psg_dp_take(dp, out, 1, &batch), PSG_ERR_ARGUMENT, "below records");
    test_fails(f->context, psg_dp_take(dp, below, 1, &batch), PSG_ERR_ARGUMENT, "ids[0] is -1");
    test_fails(f->context, psg_dp_take(dp, NULL, 1, &batch), PSG_ERR_ARGUMENT, "ids is NULL");
    test_fails(f->context, psg_dp_sample(dp, &batch), PSG_ERR_UNSUPPORTED, "psg_dp_take");
    TEST_OK(f->context, psg_dp_take(dp, more, 2, &batch));
    assert_true(batch.count == 2 && batch.ids[0] == 99 && batch.ids[1] == 0);
    test_fails(f->context, psg_dp_take(dp, many, 4, &batch), PSG_ERR_STATE, "max_batch_size 8");
    TEST_OK(f->context, psg_dp_take(dp, many, 3, &batch));
    TEST_OK(f->context, add(dp, &batch));
    release(f, dp);
    TEST_OK(f->context, psg_dp_take(dp, first, 3, &batch));   /* the next step has none yet */
    psg_dp_destroy(dp);
    options = poisson(100, 0.1);
    dp = open_dp(f, &options);
    test_fails(f->context, psg_dp_take(dp, first, 3, &batch), PSG_ERR_UNSUPPORTED, "psg_dp_sample");
    psg_dp_destroy(dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poisson_records_come_independently_at_the_rate),
        cmocka_unit_test(truncated_batches_are_cut_at_random),
        cmocka_unit_test(fixed_batches_have_their_size),
        cmocka_unit_test(epochs_have_every_record_once),
        cmocka_unit_test(bins_keep_their_records),
        cmocka_unit_test(a_small_rate_keeps_its_digits),
        cmocka_unit_test(the_threshold_is_exact),
        cmocka_unit_test(the_threshold_is_excluded),
        cmocka_unit_test(a_rate_of_1_takes_all),
        cmocka_unit_test(mechanisms_of_one_generator_draw_apart),
        cmocka_unit_test(records_are_used_once),
        cmocka_unit_test(a_release_has_its_batch),
        cmocka_unit_test(more_than_was_said_is_refused),
        cmocka_unit_test(taken_records_are_each_once),
    };
    return cmocka_run_group_tests_name("dp batches", tests, set_up, tear_down);
}
