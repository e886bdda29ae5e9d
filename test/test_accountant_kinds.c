/* Events that few trainings have (groups, truncated batches, rho, residues, extremes) against the same facts told
 * otherwise. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "accountant_fixture.h"
#include "support.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static double gaussian(double sigma, uint64_t releases) {
    double epsilon;
    assert_int_equal(psg_gaussian_epsilon(sigma, releases, 1e-5, &epsilon), PSG_OK);
    return epsilon;
}

static double epsilon_at(psg_context *c, psg_relation relation, psg_event event, uint64_t releases) {
    return epsilon_of_event(c, relation, event, releases, 1e-5).epsilon;
}

static psg_privacy delta_at(psg_context *c, psg_relation relation, psg_event event, uint64_t releases, double epsilon) {
    psg_privacy p;
    psg_accountant *a = accountant_of(c, relation, event, releases);
    TEST_OK(c, psg_accountant_delta(a, epsilon, &p));
    psg_accountant_destroy(a);
    return p;
}

/* ---- samplings ---- */

/* A batch meets two records at most twice as often as one, and moves by twice as much. */
static void a_group_is_a_larger_record(void **state) {
    psg_event two = { .sampling = PSG_SAMPLING_FIXED_SIZE, .noise_multiplier = 4, .records = 5000, .batch_size = 50,
                      .group_size = 2 };
    psg_event one = two;
    one.noise_multiplier = 2, one.batch_size = 100, one.group_size = 0;
    assert_within(epsilon_at(*state, 1, two, 100), epsilon_at(*state, 1, one, 100), 0);
}

/* Bins have credit for one record more or less alone: replaced ones and groups are in one release of every epoch. */
static void bins_without_their_relation_are_epochs(void **state) {
    psg_event bins = epochs_event(2, 10);
    bins.sampling = PSG_SAMPLING_BALLS_IN_BINS;
    assert_within(epsilon_at(*state, PSG_REPLACE_ONE, bins, 30), gaussian(1, 3), 1e-8);
    bins.group_size = 2;
    assert_within(epsilon_at(*state, PSG_ADD_OR_REMOVE_ONE, bins, 30), gaussian(1, 3), 1e-8);
}

/* Epochs of another sampling are others: ten releases from the first one on are one epoch. */
static void epochs_of_two_samplings_do_not_mix(void **state) {
    psg_context *c = *state;
    double epsilon;
    psg_event bins = epochs_event(1e6, 10), epochs = epochs_event(2, 10);
    bins.sampling = PSG_SAMPLING_BALLS_IN_BINS;
    psg_accountant *a = accountant_of(c, PSG_ADD_OR_REMOVE_ONE, bins, 1);
    TEST_OK(c, psg_accountant_add(a, &epochs, 10));
    TEST_OK(c, psg_accountant_epsilon_upper(a, 1e-5, &epsilon));
    assert_within(epsilon, gaussian(2, 1), 1e-4);
    psg_accountant_destroy(a);
}

static void truncation_costs_where_records_take_places(void **state) {
    psg_event cut = { .sampling = PSG_SAMPLING_TRUNCATED_POISSON, .noise_multiplier = 4, .sample_rate = 0.1,
                      .records = 100, .batch_size = 12 };
    /* Who is in the batch does not depend on a replaced record's values. */
    assert_within(epsilon_at(*state, 1, cut, 9), epsilon_at(*state, 1, poisson_event(4, 0.1), 9), 0);
    assert_ordered(epsilon_at(*state, 0, poisson_event(4, 0.1), 9) * 1.1, epsilon_at(*state, 0, cut, 9));
    cut.group_size = 2;
    assert_within(epsilon_at(*state, 0, cut, 9), gaussian(1, 9), 1e-8);
    cut.group_size = 0, cut.sample_rate = 1, cut.batch_size = 100;   /* everybody has a place, but at twice the noise */
    assert_within(epsilon_at(*state, 0, cut, 9), gaussian(2, 9), 1e-8);
}

/* ---- extremes ---- */

/* Everybody takes a place, with next to no noise: moments are infinite, not NaN, and so is epsilon. */
static void no_moment_is_no_number(void **state) {
    const psg_event loud = { .sampling = PSG_SAMPLING_TRUNCATED_POISSON, .noise_multiplier = 1e-160, .sample_rate = 0.9,
                             .records = 1000, .batch_size = 1 };
    psg_privacy p = epsilon_of_event(*state, 0, loud, 1, 1e-5);
    assert_true(isinf(p.epsilon) && p.epsilon > 0);
    assert_string_equal(p.accountant, "none");
    p = delta_at(*state, 0, loud, 1, 10);
    assert_true(p.delta == 1);
}

/* All losses are 0 in doubles: bounds that do not need them hold. */
static void losses_below_the_doubles_are_bounded(void **state) {
    psg_privacy p = epsilon_of_event(*state, 0, poisson_event(1e100, 1e-300), 10, 1e-5);
    assert_true(p.epsilon >= DBL_MIN && p.epsilon < 1e-50 && p.epsilon_lower == 0);
    assert_non_null(p.note);
    p = delta_at(*state, 0, poisson_event(1e100, 1e-300), 10, 1);
    assert_true(p.delta >= DBL_MIN && p.delta < 1e-50 && p.delta_lower == 0);
}

/* Far from any delta that doubles hold. */
static void a_delta_below_the_doubles_is_the_least(void **state) {
    psg_privacy p = delta_at(*state, 0, poisson_event(1, 1), 1, 1e300);
    assert_true(p.delta == DBL_MIN && p.delta_lower == 0);
    assert_string_equal(p.accountant, "Gaussian");
}

/* ---- rho ---- */

/* What is known by its rho alone costs more than the Gaussian of that rho, and less than at one order (Bun and Steinke
 * 2016: delta <= e^{-(epsilon - rho)^2 / (4 rho)}). */
static void a_delta_of_rho_is_between(void **state) {
    const psg_event event = { .sampling = PSG_SAMPLING_EXTERNAL, .rho = 0.125 }, same = poisson_event(2, 1);
    for (double epsilon = 1; epsilon < 4; epsilon++) {
        psg_privacy rho = delta_at(*state, 0, event, 1, epsilon), exact = delta_at(*state, 0, same, 1, epsilon);
        assert_string_equal(rho.accountant, "zCDP");
        assert_ordered(exact.delta, rho.delta);
        assert_ordered(rho.delta, exp(-(epsilon - 0.125) * (epsilon - 0.125) / 0.5));
        assert_true(rho.delta_lower == 0 && rho.order > 1);
    }
}

/* ---- residues ---- */

/* delta(epsilon) of the real releases is e^kappa delta(epsilon - 2 kappa) + (1 + e^epsilon) eta of the ideal ones, and
 * the ideal at epsilon + 2 kappa is so much of the real at epsilon. */
static void residues_are_added_to_delta(void **state) {
    const psg_event ideal = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 1 };
    psg_event real = ideal;
    const double kappa = 0.05, eta = 1e-4;   /* of ten releases */
    real.residue_epsilon = kappa / 10, real.residue_delta = eta / 10;
    for (double epsilon = 3; epsilon < 9; epsilon += 2) {
        psg_privacy p = delta_at(*state, 0, real, 10, epsilon);
        double above = delta_at(*state, 0, ideal, 10, epsilon - 2 * kappa).delta;
        double below = delta_at(*state, 0, ideal, 10, epsilon + 2 * kappa).delta_lower;
        assert_within(p.delta, exp(kappa) * above + (1 + exp(epsilon)) * eta, 1e-9 * p.delta);
        double left = fmax(below - (1 + exp(epsilon + 2 * kappa)) * eta, 0);
        assert_within(p.delta_lower, left * exp(-kappa), 1e-9 * left);
    }
}

static void residues_above_epsilon_leave_nothing(void **state) {
    psg_event real = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 1, .residue_epsilon = 0.1 };
    psg_privacy p = delta_at(*state, 0, real, 10, 1.9);
    assert_true(p.delta == 1 && p.delta_lower == 0 && strstr(p.note, "residues"));
    assert_ordered(delta_at(*state, 0, real, 10, 2).delta, 1);
}

/* At the epsilon of RDP the residues are more than delta, at that of the distributions they are less. */
static void residues_are_taken_at_the_best_epsilon(void **state) {
    psg_event event = poisson_event(0.35, 0.01);
    const double fine = epsilon_of_event(*state, 0, event, 120, 1e-5).epsilon;
    event.residue_delta = 0.1e-5 * exp(-fine) / 120;
    psg_privacy p = epsilon_of_event(*state, 0, event, 120, 1e-5);
    assert_string_equal(p.accountant, "PLD");
    assert_ordered(fine, p.epsilon);
    assert_ordered(p.epsilon, fine + 0.6);   /* delta less a third costs 0.54 */
}

/* ---- budgets ---- */

/* epsilon is a staircase of epochs: whole epochs fit, and not one release more. */
static void budgets_end_at_an_epoch(void **state) {
    psg_context *c = *state;
    uint64_t releases;
    const psg_event event = epochs_event(2, 1000);
    for (uint64_t epochs = 1; epochs < 5; epochs++) {
        TEST_OK(c, psg_calibrate_steps(c, &event, 0, gaussian(2, epochs) * (1 + 1e-7), 1e-5, &releases));
        assert_true(releases <= 1000 * epochs && releases >= 1000 * epochs * (1 - 1e-3));
    }
}

/* A budget of a million releases ends within 5e-4 of them. */
static void long_budgets_end_where_they_should(void **state) {
    psg_context *c = *state;
    uint64_t releases;
    const psg_event event = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 1000 };
    const double epsilon = gaussian(1000, 1234567);
    TEST_OK(c, psg_calibrate_steps(c, &event, 0, epsilon * (1 + 1e-9), 1e-5, &releases));
    assert_true(releases >= 1233332 && releases <= 1234568);
    assert_ordered(gaussian(1000, releases), epsilon * (1 + 1e-9));
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
        cmocka_unit_test(a_group_is_a_larger_record),
        cmocka_unit_test(bins_without_their_relation_are_epochs),
        cmocka_unit_test(epochs_of_two_samplings_do_not_mix),
        cmocka_unit_test(truncation_costs_where_records_take_places),
        cmocka_unit_test(no_moment_is_no_number),
        cmocka_unit_test(losses_below_the_doubles_are_bounded),
        cmocka_unit_test(a_delta_below_the_doubles_is_the_least),
        cmocka_unit_test(a_delta_of_rho_is_between),
        cmocka_unit_test(residues_are_added_to_delta),
        cmocka_unit_test(residues_above_epsilon_leave_nothing),
        cmocka_unit_test(residues_are_taken_at_the_best_epsilon),
        cmocka_unit_test(budgets_end_at_an_epoch),
        cmocka_unit_test(long_budgets_end_where_they_should),
    };
    return cmocka_run_group_tests_name("accountant kinds", tests, set_up, tear_down);
}
