/* The accountant's list: what is added, counted, merged and refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "accountant/binomial.h"
#include "accountant_fixture.h"
#include "psg/accountant.h"
#include "support.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static double epsilon_of(psg_context *context, const psg_accountant *accountant) {
    double epsilon = NAN;
    TEST_OK(context, psg_accountant_epsilon_upper(accountant, 1e-5, &epsilon));
    return epsilon;
}

static void check_run(const psg_accountant *a, size_t k, psg_event expected, uint64_t expected_releases) {
    psg_event event;
    uint64_t releases;
    assert_int_equal(psg_accountant_run(a, k, &event, &releases), PSG_OK);
    assert_memory_equal(&event, &expected, sizeof event);
    assert_int_equal(releases, expected_releases);
}

static void equal_events_are_one_run(void **state) {
    psg_context *c = *state;
    const psg_event one = poisson_event(1, 0.01), two = poisson_event(1, 0.02);
    psg_accountant *a = accountant_of(c, 0, one, 3), *copy;
    TEST_OK(c, psg_accountant_add(a, &one, 4));
    TEST_OK(c, psg_accountant_add(a, &two, 0));
    for (int k = 0; k < 9; k++) TEST_OK(c, psg_accountant_add(a, k % 2 ? &one : &two, 1));
    assert_int_equal(psg_accountant_runs(a), 10);
    assert_int_equal(psg_accountant_releases(a), 16);
    check_run(a, 0, one, 7);
    check_run(a, 9, two, 1);
    TEST_OK(c, psg_accountant_copy(a, &copy));
    TEST_OK(c, psg_accountant_merge(copy, copy));
    assert_int_equal(psg_accountant_releases(copy), 32);
    assert_int_equal(psg_accountant_runs(copy), 20);
    psg_accountant *whole = accountant_of(c, 0, one, 22);
    TEST_OK(c, psg_accountant_add(whole, &two, 10));
    assert_within(epsilon_of(c, copy), epsilon_of(c, whole), 0);
    psg_accountant_destroy(a), psg_accountant_destroy(copy), psg_accountant_destroy(whole);
}

/* A steady training takes no memory, so that recording a release cannot fail. */
static void lengthening_a_run_takes_no_memory(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    psg_event event = poisson_event(1, 0.01);
    psg_accountant *a = accountant_of(context, 0, event, 1), *copy;
    test_allocator_arm(&allocator, 1, true);
    for (int k = 0; k < 100; k++) TEST_OK(context, psg_accountant_add(a, &event, 1));
    for (int k = 0; k < 3; k++) {
        event.noise_multiplier += 1;
        TEST_OK(context, psg_accountant_add(a, &event, 1));
    }
    event.noise_multiplier += 1;
    assert_int_equal(psg_accountant_add(a, &event, 1), PSG_ERR_MEMORY);
    assert_int_equal(psg_accountant_copy(a, &copy), PSG_ERR_MEMORY);
    assert_null(copy);
    assert_int_equal(psg_accountant_releases(a), 104);
    test_allocator_arm(&allocator, 0, false);
    TEST_OK(context, psg_accountant_add(a, &event, 1));
    psg_accountant_destroy(a);
    test_context_free(context);
    assert_int_equal(allocator.live_blocks, 0);
}

/* Epochs go on through other events; those of another training do not. */
static void epochs_are_counted_as_they_pass(void **state) {
    psg_context *c = *state;
    const psg_event epoch = epochs_event(2, 10), other = epochs_event(1000, 7);
    double three, four, more;
    assert_int_equal(psg_gaussian_epsilon(2, 3, 1e-5, &three), PSG_OK);
    assert_int_equal(psg_gaussian_epsilon(2, 4, 1e-5, &four), PSG_OK);
    psg_accountant *a = accountant_of(c, 0, epoch, 25), *b = accountant_of(c, 0, epoch, 5);
    assert_within(epsilon_of(c, a), three, 1e-8 * three);
    TEST_OK(c, psg_accountant_add(b, &other, 1));
    TEST_OK(c, psg_accountant_add(b, &epoch, 6));   /* the 6th to the 11th: two epochs, and one before */
    assert_true(epsilon_of(c, b) > three && epsilon_of(c, b) < three * 1.001);
    TEST_OK(c, psg_accountant_add(b, &other, 1));
    TEST_OK(c, psg_accountant_add(b, &epoch, 9));   /* the 12th to the 20th: one more */
    assert_true(epsilon_of(c, b) > four && epsilon_of(c, b) < four * 1.001);
    psg_accountant_destroy(b);
    b = accountant_of(c, 0, epoch, 1);
    TEST_OK(c, psg_accountant_merge(a, b));
    assert_within(epsilon_of(c, a), four, 1e-8 * four);
    TEST_OK(c, psg_accountant_add(a, &epoch, 6));   /* to the 31st of its own: a fourth epoch, and the other's one */
    assert_int_equal(psg_gaussian_epsilon(2, 5, 1e-5, &more), PSG_OK);
    assert_ordered(more, epsilon_of(c, a));
    psg_accountant_destroy(a);
    TEST_OK(c, psg_accountant_create(c, PSG_ADD_OR_REMOVE_ONE, &a));
    TEST_OK(c, psg_accountant_merge(a, b));
    TEST_OK(c, psg_accountant_add(a, &epoch, 1));   /* of a training that has just begun: a record may be in both */
    assert_int_equal(psg_gaussian_epsilon(2, 2, 1e-5, &more), PSG_OK);
    assert_within(epsilon_of(c, a), more, 1e-8 * more);
    psg_accountant_destroy(a), psg_accountant_destroy(b);
}

/* A bin that is kept for good is no independent draw of a second run. */
static void bins_of_two_runs_have_no_credit(void **state) {
    psg_context *c = *state;
    psg_event bins = epochs_event(2, 10), other = poisson_event(1000, 1);
    bins.sampling = PSG_SAMPLING_BALLS_IN_BINS;
    double two;
    assert_int_equal(psg_gaussian_epsilon(2, 2, 1e-5, &two), PSG_OK);
    psg_accountant *a = accountant_of(c, 0, bins, 10);
    assert_ordered(epsilon_of(c, a) * 1.1, two);
    TEST_OK(c, psg_accountant_add(a, &other, 1));
    TEST_OK(c, psg_accountant_add(a, &bins, 10));
    assert_ordered(two, epsilon_of(c, a));
    psg_accountant_destroy(a);
}

static void a_mark_is_for_good(void **state) {
    psg_context *c = *state;
    const psg_event event = poisson_event(10, 0.01);
    psg_accountant *a = accountant_of(c, 0, event, 1), *b = accountant_of(c, 0, event, 1);
    assert_true(psg_accountant_is_private(a));
    psg_accountant_mark_not_private(a);
    psg_accountant_mark_not_private(NULL);
    TEST_OK(c, psg_accountant_add(a, &event, 1));
    TEST_OK(c, psg_accountant_merge(b, a));
    psg_privacy p;
    TEST_OK(c, psg_accountant_delta(b, 3, &p));
    assert_true(isinf(epsilon_of(c, a)) && isinf(epsilon_of(c, b)) && p.delta == 1);
    assert_false(psg_accountant_is_private(b));
    psg_accountant_destroy(a), psg_accountant_destroy(b);
}

static void nothing_costs_nothing(void **state) {
    psg_privacy p;
    psg_accountant *a = accountant_of(*state, 0, poisson_event(1, 0.1), 0);
    assert_true(epsilon_of(*state, a) == 0);
    TEST_OK((psg_context *)*state, psg_accountant_delta(a, 0, &p));
    assert_true(p.delta == 0);
    psg_accountant_destroy(a);
    assert_true(isinf(epsilon_of_event(*state, 0, poisson_event(0, 0.1), 1, 1e-5).epsilon));
}

/* ---- refusals ---- */

static void check_refused(psg_context *c, psg_relation relation, psg_event event, psg_status status, const char *text) {
    psg_accountant *a = accountant_of(c, relation, poisson_event(1, 0.1), 1);
    assert_int_equal(psg_accountant_add(a, &event, 1), status);
    if (!strstr(psg_context_message(c), text)) fail_msg("no %s in: %s", text, psg_context_message(c));
    assert_int_equal(psg_accountant_releases(a), 1);
    psg_accountant_destroy(a);
}

static void wrong_events_are_refused(void **state) {
    psg_context *c = *state;
    const psg_status argument = PSG_ERR_ARGUMENT;
    psg_event event = poisson_event(1, 0.1), fixed = { .sampling = PSG_SAMPLING_FIXED_SIZE, .noise_multiplier = 1 };
    check_refused(c, 0, poisson_event(-1, 0.1), argument, "noise_multiplier");
    check_refused(c, 0, poisson_event(NAN, 0.1), argument, "noise_multiplier");
    check_refused(c, 0, poisson_event(INFINITY, 0.1), argument, "noise_multiplier");
    check_refused(c, 0, poisson_event(1, 1.5), argument, "sample_rate");
    check_refused(c, 0, poisson_event(1, 0), argument, "sample_rate");
    check_refused(c, 0, (psg_event){ 0 }, argument, "sample_rate");
    check_refused(c, 0, poisson_event(1, NAN), argument, "sample_rate");
    check_refused(c, 1, fixed, argument, "records");
    fixed.records = 10;
    check_refused(c, 1, fixed, argument, "batch_size");
    fixed.batch_size = 11;
    check_refused(c, 1, fixed, argument, "batch_size");
    fixed.batch_size = 3;
    check_refused(c, 0, fixed, PSG_ERR_UNSUPPORTED, "PSG_REPLACE_ONE");
    check_refused(c, 0, epochs_event(1, 0), argument, "batches");
    event.sampling = (psg_sampling)17;
    check_refused(c, 0, event, argument, "sampling");
    event = poisson_event(1, 0.1), event.records = 5;
    check_refused(c, 0, event, argument, "records");
    event = poisson_event(1, 0.1), event.rho = 1;
    check_refused(c, 0, event, argument, "rho");
    event = poisson_event(1, 0.1), event.residue_epsilon = -1;
    check_refused(c, 0, event, argument, "residue_epsilon");
    event = poisson_event(1, 0.1), event.residue_delta = NAN;
    check_refused(c, 0, event, argument, "residue_delta");
    event = poisson_event(1, 0.1), event.reserved[3] = 1;
    check_refused(c, 0, event, argument, "reserved");
}

static void wrong_calls_are_refused(void **state) {
    psg_context *c = *state;
    const psg_event event = poisson_event(1, 0.1);
    psg_accountant *a = accountant_of(c, 0, event, 3), *b = accountant_of(c, 1, event, 1);
    psg_privacy p = { .epsilon = 7 };
    uint64_t releases = 7;
    double epsilon = 7;
    const double deltas[] = { 0, 1, -1, NAN };
    psg_accountant *none = a;
    assert_int_equal(psg_accountant_create(c, (psg_relation)2, &none), PSG_ERR_ARGUMENT);
    assert_null(none);
    assert_int_equal(psg_accountant_merge(a, b), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_merge(a, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_add(a, NULL, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_add(NULL, &event, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_add(a, &event, UINT64_MAX - 2), PSG_ERR_OVERFLOW);
    assert_int_equal(psg_accountant_run(a, 1, (psg_event *)&p, &releases), PSG_ERR_ARGUMENT);
    for (int k = 0; k < COUNT(deltas); k++) {
        assert_int_equal(psg_accountant_epsilon(a, deltas[k], &p), PSG_ERR_ARGUMENT);
        assert_int_equal(psg_accountant_epsilon_upper(a, deltas[k], &epsilon), PSG_ERR_ARGUMENT);
    }
    assert_int_equal(psg_accountant_delta(a, -1, &p), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_delta(a, NAN, &p), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_delta(a, INFINITY, &p), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_epsilon(NULL, 1e-5, &p), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_accountant_epsilon(a, 1e-5, NULL), PSG_ERR_ARGUMENT);
    assert_true(p.epsilon == 7 && epsilon == 7 && psg_accountant_releases(a) == 3 && psg_accountant_runs(a) == 1);
    psg_accountant_destroy(a), psg_accountant_destroy(b), psg_accountant_destroy(NULL);
}

/* ---- the binomial tails behind truncation ---- */

/* Sums of Pascal's triangle; and 1 - Phi with its first correction where there are a billion records. */
static void binomial_tails_are_sums(void **state) {
    (void)state;
    double mass[31] = { 1 };
    for (int n = 1; n <= 30; n++)
        for (int k = n; k >= 0; k--) mass[k] = 0.7 * mass[k] + (k ? 0.3 * mass[k - 1] : 0);
    double tail = 0;
    for (int k = 30; k >= 0; k--) {
        tail += mass[k];
        assert_within(psg_binomial_mass(30, 0.3, (uint64_t)k), mass[k], 1e-12 * mass[k]);
        assert_within(psg_binomial_tail(30, 0.3, (uint64_t)k), tail, 2e-9 * tail);
    }
    assert_true(psg_binomial_tail(10, 0.5, 11) == 0 && psg_binomial_tail(10, 0.5, 0) == 1);
    assert_ordered(1e-30, psg_binomial_tail(UINT64_MAX, 0.5, UINT64_MAX / 2 + ((uint64_t)1 << 34)));
    assert_ordered(psg_binomial_tail(UINT64_MAX, 0.5, UINT64_MAX / 2 + ((uint64_t)1 << 34)), 1e-12);
    double deviation = sqrt(1e9 * 0.01 * 0.99), z = (10009999.5 - 1e7) / deviation;
    assert_within(psg_binomial_tail(1000000000, 0.01, 10010000), 0.5 * erfc(z / sqrt(2)), 2e-6);
}

static int set_up(void **state) {
    *state = test_context(1, NULL);
    return 0;
}

static int tear_down(void **state) {
    test_context_free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_events_are_one_run),
        cmocka_unit_test(lengthening_a_run_takes_no_memory),
        cmocka_unit_test(epochs_are_counted_as_they_pass),
        cmocka_unit_test(bins_of_two_runs_have_no_credit),
        cmocka_unit_test(a_mark_is_for_good),
        cmocka_unit_test(nothing_costs_nothing),
        cmocka_unit_test(wrong_events_are_refused),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(binomial_tails_are_sums),
    };
    return cmocka_run_group_tests_name("accountant list", tests, set_up, tear_down);
}
