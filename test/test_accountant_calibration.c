/* Budgets turned into noise, releases and rates: certified, and not more than that. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "accountant_fixture.h"
#include "psg/accountant.h"
#include "support.h"

static double upper(psg_context *c, psg_relation relation, psg_event event, uint64_t releases, double delta) {
    double epsilon = NAN;
    psg_accountant *a = accountant_of(c, relation, event, releases);
    TEST_OK(c, psg_accountant_epsilon_upper(a, delta, &epsilon));
    psg_accountant_destroy(a);
    return epsilon;
}

/* jax_privacy's documentation: sigma 9.66 for epsilon 1, 155 steps for epsilon 2; Opacus's 1.3562 is RDP's, 1.2915
 * PRV's, both found to within 0.01 of epsilon 8. */
static void published_budgets_are_met(void **state) {
    psg_event event = poisson_event(0, 0.1);
    double noise;
    uint64_t releases;
    TEST_OK((psg_context *)*state, psg_calibrate_noise(*state, &event, 512, 0, 1, 1e-6, &noise));
    assert_within(noise, 9.66, 0.005);
    event.noise_multiplier = 3;
    TEST_OK((psg_context *)*state, psg_calibrate_steps(*state, &event, 0, 2, 1e-6, &releases));
    assert_int_equal(releases, 155);
    event.sample_rate = 0.04;
    TEST_OK((psg_context *)*state, psg_calibrate_noise(*state, &event, 2000, 0, 8, 1e-5, &noise));
    assert_true(noise < 1.2915 && noise > 1.2895);
}

static void check_noise(psg_context *c, psg_event event, psg_relation relation, uint64_t releases, double epsilon,
                        double delta) {
    double noise;
    TEST_OK(c, psg_calibrate_noise(c, &event, releases, relation, epsilon, delta, &noise));
    event.noise_multiplier = noise;
    assert_ordered(upper(c, relation, event, releases, delta), epsilon);
    event.noise_multiplier = noise * (1 - 1e-3);
    assert_ordered(epsilon, upper(c, relation, event, releases, delta));
}

static void noise_comes_back(void **state) {
    uint64_t seed = 3;
    for (int k = 0; k < 6; k++) {
        double rate = drawn_log_uniform(&seed, 1e-3, 1), epsilon = drawn_log_uniform(&seed, 0.1, 20);
        uint64_t releases = (uint64_t)drawn_log_uniform(&seed, 1, 2000);
        double delta = drawn_log_uniform(&seed, 1e-10, 1e-3);
        check_noise(*state, poisson_event(0, rate), k % 3 == 2, releases, epsilon, delta);
    }
    check_noise(*state, epochs_event(0, 20), 0, 200, 2, 1e-6);
    psg_event fixed = { .sampling = PSG_SAMPLING_FIXED_SIZE, .records = 5000, .batch_size = 50 };
    check_noise(*state, fixed, PSG_REPLACE_ONE, 300, 1, 1e-6);
}

static void rates_come_back(void **state) {
    psg_context *c = *state;
    psg_event event = poisson_event(1, 0);
    TEST_OK(c, psg_calibrate_rate(c, &event, 500, 0, 3, 1e-5, &event.sample_rate));
    assert_ordered(upper(c, 0, event, 500, 1e-5), 3);
    event.sample_rate *= 1 + 1e-3;
    assert_ordered(3, upper(c, 0, event, 500, 1e-5));
    event.noise_multiplier = 1000;
    TEST_OK(c, psg_calibrate_rate(c, &event, 5, 0, 3, 1e-5, &event.sample_rate));
    assert_true(event.sample_rate == 1);
}

/* What is left after 300 releases of one event, in releases of another. */
static void what_remains_fits(void **state) {
    psg_context *c = *state;
    const psg_event other = poisson_event(1.5, 0.02);
    psg_accountant *a = accountant_of(c, 0, poisson_event(1, 0.01), 300);
    uint64_t releases;
    double epsilon;
    TEST_OK(c, psg_accountant_remaining(a, &other, 2, 1e-5, &releases));
    assert_true(releases > 0);
    assert_int_equal(psg_accountant_releases(a), 300);
    TEST_OK(c, psg_accountant_add(a, &other, releases));
    TEST_OK(c, psg_accountant_epsilon_upper(a, 1e-5, &epsilon));
    assert_ordered(epsilon, 2);
    TEST_OK(c, psg_accountant_add(a, &other, 1 + releases / 500));
    TEST_OK(c, psg_accountant_epsilon_upper(a, 1e-5, &epsilon));
    assert_ordered(2, epsilon);
    TEST_OK(c, psg_accountant_remaining(a, &other, 2, 1e-5, &releases));
    assert_int_equal(releases, 0);
    psg_accountant_destroy(a);
}

static void what_cannot_be_is_refused(void **state) {
    psg_context *c = *state;
    psg_event event = poisson_event(1, 0.1), one = poisson_event(0, 1);
    double noise = 7;
    uint64_t releases = 7;
    assert_int_equal(psg_calibrate_noise(c, &event, 1, 0, 0, 1e-5, &noise), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_calibrate_noise(c, &event, 1, 0, INFINITY, 1e-5, &noise), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_calibrate_noise(c, &event, 1, 0, 1, 0, &noise), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_calibrate_noise(c, &event, 1, 0, 1, 1, &noise), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_calibrate_noise(c, &event, 1, 0, 1, 1e-5, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_calibrate_noise(c, NULL, 1, 0, 1, 1e-5, &noise), PSG_ERR_ARGUMENT);
    event.sample_rate = NAN;
    assert_int_equal(psg_calibrate_noise(c, &event, 1, 0, 1, 1e-5, &noise), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(c), "psg_calibrate_noise"));
    assert_int_equal(psg_calibrate_noise(c, &one, UINT64_MAX, 0, 1e-3, 1e-9, &noise), PSG_ERR_NUMERIC);
    event.sampling = PSG_SAMPLING_FIXED_SIZE;
    assert_int_equal(psg_calibrate_steps(c, &event, 0, 1, 1e-5, &releases), PSG_ERR_UNSUPPORTED);
    assert_true(noise == 7 && releases == 7);
    TEST_OK(c, psg_calibrate_noise(c, &one, 0, 0, 1, 1e-5, &noise));
    assert_true(noise == 0);
    event = poisson_event(1e100, 0.1);
    TEST_OK(c, psg_calibrate_steps(c, &event, 0, 1, 1e-5, &releases));
    assert_true(releases == UINT64_MAX);
    event = poisson_event(0.5, 1);
    TEST_OK(c, psg_calibrate_steps(c, &event, 0, 1, 1e-5, &releases));
    assert_int_equal(releases, 0);
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
        cmocka_unit_test(published_budgets_are_met), cmocka_unit_test(noise_comes_back),
        cmocka_unit_test(rates_come_back),           cmocka_unit_test(what_remains_fits),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests_name("accountant calibration", tests, set_up, tear_down);
}
