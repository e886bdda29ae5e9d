/* Upper and lower bounds against published tables, against one another, and at extremes.  --settings n: random
 * settings to bracket, and above 100 the larger grids of monotonicity (`make accountant` asks for 500). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accountant/bins_rdp.h"
#include "accountant/privacy.h"
#include "accountant_fixture.h"
#include "psg/accountant.h"
#include "support.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static int settings = 16;

static psg_event sized_event(psg_sampling sampling, double sigma, double rate, uint64_t records, uint64_t batch_size) {
    psg_event event = poisson_event(sigma, rate);
    event.sampling = sampling;
    event.records = records;
    event.batch_size = batch_size;
    return event;
}

static void check_bracket(psg_privacy p, double expected, double tolerance) {
    assert_within(p.epsilon, expected, tolerance);
    assert_within(p.epsilon_lower, expected, tolerance);
    assert_ordered(p.epsilon_lower, p.epsilon);
}

/* ---- tables ---- */

/* dp_accounting 0.6.0 (pessimistic, interval 1e-4: up to 1e-4 above the truth) and PRV's estimates. */
static void poisson_epsilons_are_the_peers(void **state) {
    static const struct { double sigma, rate; uint64_t releases; double delta, expected; } row[] = {
        { 1, 0.01, 1000, 1e-5, 1.8282374 }, { 3, 0.1, 512, 1e-6, 3.7696866 }, { 1, 0.04, 250, 1e-5, 4.18515 },
        { 1, 0.1, 100, 1e-5, 7.04660 },     { 0.35, 0.01, 120, 1e-5, 18.6977 },
        { 1.1, 256.0 / 60000, 1000, 1e-5, 0.59869 },
        { 1.1, 256.0 / 60000, 14063, 1e-5, 2.38170 },
    };
    for (int k = 0; k < COUNT(row); k++) {
        psg_event event = poisson_event(row[k].sigma, row[k].rate);
        psg_privacy p = epsilon_of_event(*state, 0, event, row[k].releases, row[k].delta);
        assert_string_equal(p.accountant, "PLD");
        check_bracket(p, row[k].expected, 2e-4 * fmax(1, row[k].expected / 10) * (k == 4 ? 16 : 1));
    }
    psg_privacy p = epsilon_of_event(*state, 0, poisson_event(1, 0.01), 1000, 1e-5);
    assert_ordered(1.82823, p.epsilon);
    assert_ordered(p.epsilon, 1.82825);
}

/* PRV's estimates of accountant_grid.csv lie between the bounds, up to their own error. */
static void the_grid_of_peers_is_bracketed(void **state) {
    char line[512];
    int rows = 0;
    FILE *file = fopen(PSG_GOLDEN_DIR "/accountant_grid.csv", "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    for (; fgets(line, sizeof line, file); rows++) {
        double sigma, rate, steps, delta, rdp, google, lower, estimate, upper;
        assert_int_equal(sscanf(line, "%lf,%lf,%lf,%lf,%lf,%*f,%*f,%lf,%lf,%lf,%lf", &sigma, &rate, &steps, &delta,
                                &rdp, &google, &lower, &estimate, &upper), 9);
        psg_privacy p = epsilon_of_event(*state, 0, poisson_event(sigma, rate), (uint64_t)steps, delta);
        assert_ordered(p.epsilon_lower, estimate * (1 + 1e-5));
        assert_ordered(estimate * (1 - 1e-5), p.epsilon);
        assert_ordered(p.epsilon, google * (1 + 2e-5));
        assert_ordered(p.epsilon, rdp);
        assert_ordered(p.epsilon - p.epsilon_lower, 5e-5 * p.epsilon);
    }
    fclose(file);
    assert_int_equal(rows, 8);
}

static void other_samplings_are_the_peers(void **state) {
    const psg_sampling truncated = PSG_SAMPLING_TRUNCATED_POISSON, fixed = PSG_SAMPLING_FIXED_SIZE;
    const double rate = 256.0 / 60000;
    psg_context *c = *state;
    check_bracket(epsilon_of_event(c, 0, sized_event(truncated, 1.1, rate, 60000, 320), 1000, 1e-5), 0.61572, 5e-5);
    check_bracket(epsilon_of_event(c, 0, sized_event(truncated, 1.1, rate, 60000, 256), 1000, 1e-5), 4.45622, 2e-4);
    check_bracket(epsilon_of_event(c, 0, sized_event(truncated, 1.1, rate, 60000, 600), 1000, 1e-5), 0.59869, 5e-5);
    check_bracket(epsilon_of_event(c, 1, poisson_event(1, 0.01), 1000, 1e-5), 2.843440, 2e-5);
    /* without replacement: the peers' sigma is over the distance of two records */
    psg_privacy p = epsilon_of_event(c, 1, sized_event(fixed, 2.2, 0, 60000, 256), 1000, 1e-5);
    assert_within(p.epsilon, 1.2786377, 1e-6);
    assert_string_equal(p.accountant, "RDP");
    assert_non_null(p.note);
    assert_within(epsilon_of_event(c, 1, sized_event(fixed, 8, 0, 10000, 100), 1000, 1e-5).epsilon, 0.6389707, 1e-6);
}

/* The mixture of Gaussians of a group of two under Poisson sampling (dp_accounting). */
static void groups_are_the_peers(void **state) {
    psg_event event = poisson_event(1, 0.0064);
    event.group_size = 2;
    check_bracket(epsilon_of_event(*state, 0, event, 782, 1e-6), 2.53198, 5e-5);
    double two = epsilon_of_event(*state, 0, event, 782, 1e-6).epsilon_lower;
    assert_ordered(2 * epsilon_of_event(*state, 0, poisson_event(1, 0.0064), 782, 1e-6).epsilon, two);
}

/* One release: G051 to G059 of accountant.csv, closed forms of Google's tests. */
static void one_release_has_its_closed_form(void **state) {
    static const struct { double sigma, rate; psg_relation relation; double epsilon, delta; } row[] = {
        { 1.0 / 3, 0.7, 0, 1, 0.5356298793262404 }, { 1, 0.3, 0, 2, 0.0003341102928869332 },
        { 2, 0.8, 1, 1, 0.05808665654484252 },      { 2.0 / 3, 0.7, 1, 1, 0.4013057526509164 },
    };
    for (int k = 0; k < COUNT(row); k++) {
        psg_privacy p;
        psg_accountant *a = accountant_of(*state, row[k].relation, poisson_event(row[k].sigma, row[k].rate), 1);
        TEST_OK((psg_context *)*state, psg_accountant_delta(a, row[k].epsilon, &p));
        assert_within(p.delta, row[k].delta, 2e-5 * row[k].delta);
        assert_within(p.delta_lower, row[k].delta, 2e-5 * row[k].delta);
        assert_ordered(p.delta_lower, row[k].delta);
        assert_ordered(row[k].delta, p.delta);
        psg_accountant_destroy(a);
    }
}

static void what_is_not_sampled_is_exact(void **state) {
    double exact;
    const psg_relation add = PSG_ADD_OR_REMOVE_ONE;
    psg_context *c = *state;
    assert_int_equal(psg_gaussian_epsilon(1.1, 7, 1e-5, &exact), PSG_OK);
    check_bracket(epsilon_of_event(c, add, poisson_event(1.1, 1), 7, 1e-5), exact, 1e-7);
    check_bracket(epsilon_of_event(c, add, epochs_event(1.1, 100), 601, 1e-5), exact, 1e-7);
    check_bracket(epsilon_of_event(c, PSG_REPLACE_ONE, epochs_event(2.2, 100), 700, 1e-5), exact, 1e-7);
    psg_event group = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 3.3, .group_size = 3 };
    psg_privacy p = epsilon_of_event(c, add, group, 7, 1e-5);
    check_bracket(p, exact, 1e-7);
    assert_string_equal(p.accountant, "Gaussian");
}

/* rho = 1 / (2 sigma^2) of a Gaussian, known by its rho alone, costs more than the Gaussian. */
static void rho_is_enough(void **state) {
    psg_event event = { .sampling = PSG_SAMPLING_EXTERNAL, .rho = 0.5 / 16 };
    psg_privacy p = epsilon_of_event(*state, 0, event, 16, 1e-5);
    assert_string_equal(p.accountant, "zCDP");
    assert_ordered(4.37718, p.epsilon);
    assert_ordered(p.epsilon, 4.729);   /* RDP of sigma = 1 over all orders */
}

/* Balls in bins: exp(RDP(2)) = 1 + (e^{1 / sigma^2} - 1) / b of one epoch bounds epsilon by one order. */
static void bins_cost_less_than_epochs(void **state) {
    const double delta = 1e-5, order_two = log1p(expm1(1) / 10) + log(0.5) - log(2 * delta);
    psg_event event = epochs_event(1, 10);
    double without = epsilon_of_event(*state, 0, event, 10, delta).epsilon;
    event.sampling = PSG_SAMPLING_BALLS_IN_BINS;
    psg_privacy p = epsilon_of_event(*state, 0, event, 10, delta);
    assert_ordered(p.epsilon, fmin(without, order_two));
    event.batches = 1;
    check_bracket(epsilon_of_event(*state, 0, event, 10, delta), 17.85659, 2e-4);
}

/* The mean over z of f(w_1, w_2), w = e^{d z - d^2 / 2}, by the trapezoidal rule in both. */
static double mean_power_of_two(double d, double power) {
    const double step = 0.05;
    double sum = 0;
    for (double x = -20; x <= 20; x += step)
        for (double y = -20; y <= 20; y += step)
            sum += pow((exp(d * x - d * d / 2) + exp(d * y - d * d / 2)) / 2, power) * exp(-(x * x + y * y) / 2);
    return sum * step * step / (2 * acos(-1));
}

/* The moments of both directions in two bins, by quadrature; P against Q at order 2 in closed form. */
static void bins_have_their_moments(void **state) {
    (void)state;
    psg_mechanism two = { .kind = PSG_MECHANISM_BINS, .sigma = 0.8, .batches = 2, .releases = 2 };
    for (int order = 2; order <= 5; order++) {
        assert_within(psg_bins_log_moment(&two, order, 0), log(mean_power_of_two(1.25, order)), 1e-10);
        assert_within(psg_bins_log_moment(&two, order, 1), log(mean_power_of_two(1.25, 1 - order)), 1e-10);
    }
    const psg_mechanism ten = { .kind = PSG_MECHANISM_BINS, .sigma = 1, .batches = 10, .releases = 10 };
    const psg_mechanism many = { .kind = PSG_MECHANISM_BINS, .sigma = 1.1, .batches = 234, .releases = 234 };
    assert_within(psg_bins_log_moment(&ten, 2, 0), 0.1585650787, 1e-10);
    assert_within(psg_bins_log_moment(&many, 2, 0), 0.0054772094, 1e-10);
    assert_within(psg_bins_rdp(&ten, 2), 0.1585650787, 1e-9);
}

/* ---- composition ---- */

/* Three kinds together against the sum of their parts, and a Gaussian as Poisson of almost rate 1. */
static void kinds_compose(void **state) {
    psg_context *c = *state;
    psg_privacy p, split;
    psg_accountant *a = accountant_of(c, 0, poisson_event(1, 0.01), 500);
    psg_accountant *b = accountant_of(c, 0, poisson_event(1, 0.01), 250);
    const psg_event other = poisson_event(1.3, 0.02), whole = poisson_event(8, 1), nearly = poisson_event(8, 1 - 1e-9);
    TEST_OK(c, psg_accountant_add(a, &other, 200));
    TEST_OK(c, psg_accountant_add(a, &whole, 3));
    TEST_OK(c, psg_accountant_add(b, &nearly, 3));
    TEST_OK(c, psg_accountant_add(b, &other, 200));
    psg_accountant *rest = accountant_of(c, 0, poisson_event(1, 0.01), 250);
    TEST_OK(c, psg_accountant_merge(b, rest));
    TEST_OK(c, psg_accountant_epsilon(a, 1e-6, &p));
    TEST_OK(c, psg_accountant_epsilon(b, 1e-6, &split));
    assert_ordered(p.epsilon - p.epsilon_lower, 2e-4 * p.epsilon);
    assert_within(p.epsilon, split.epsilon, 2e-4);
    assert_ordered(epsilon_of_event(c, 0, poisson_event(1, 0.01), 500, 1e-6).epsilon, p.epsilon_lower);
    psg_accountant_destroy(a), psg_accountant_destroy(b), psg_accountant_destroy(rest);
}

/* 300 releases, their noise falling from 2 to 1 in steps of so many releases. */
static psg_privacy epsilon_of_schedule(psg_context *c, int step) {
    psg_privacy p;
    psg_accountant *a = accountant_of(c, 0, poisson_event(2, 0.01), 0);
    for (int k = 0; k < 300; k++) {
        const psg_event event = poisson_event(2 - (k - k % step) / 300.0, 0.01);
        TEST_OK(c, psg_accountant_add(a, &event, 1));
    }
    TEST_OK(c, psg_accountant_epsilon(a, 1e-5, &p));
    psg_accountant_destroy(a);
    return p;
}

/* More kinds than are composed one by one are merged into worse ones, never better: noise in steps of 5 releases is
 * more noise. */
static void many_kinds_are_merged(void **state) {
    psg_privacy merged = epsilon_of_schedule(*state, 1), better = epsilon_of_schedule(*state, 5);
    assert_true(merged.epsilon_lower == 0 && merged.note && !better.note);
    assert_ordered(better.epsilon - better.epsilon_lower, 1e-4 * better.epsilon);
    assert_ordered(better.epsilon, merged.epsilon);
    assert_ordered(merged.epsilon, 1.2 * better.epsilon);
}

/* epsilon + 2 T kappa and delta + (1 + e^epsilon) T eta, and no more than that. */
static void residues_are_added(void **state) {
    psg_event event = poisson_event(1, 0.01);
    psg_privacy ideal = epsilon_of_event(*state, 0, event, 1000, 1e-5);
    event.residue_epsilon = 1e-5;
    psg_privacy p = epsilon_of_event(*state, 0, event, 1000, 1e-5);
    assert_within(p.epsilon, ideal.epsilon + 0.02 + 1e-3, 1.2e-3);
    assert_ordered(ideal.epsilon + 0.02, p.epsilon);
    assert_ordered(p.epsilon_lower, ideal.epsilon_lower);
    event.residue_epsilon = 0;
    event.residue_delta = 1e-10;
    p = epsilon_of_event(*state, 0, event, 1000, 1e-5);
    psg_privacy less = epsilon_of_event(*state, 0, poisson_event(1, 0.01), 1000, 1e-5 - 1e-7 * (1 + exp(p.epsilon)));
    assert_ordered(less.epsilon, p.epsilon * (1 + 1e-6));
    assert_within(p.epsilon, less.epsilon, 0.01);
    event.residue_delta = 1e-7;
    p = epsilon_of_event(*state, 0, event, 1000, 1e-5);
    assert_true(isinf(p.epsilon) && p.note);
}

/* (1 + e^epsilon) T eta would be 1 at large epsilons, where the bound of a smaller one is next to nothing. */
static void delta_falls_with_epsilon_beside_residues(void **state) {
    psg_context *c = *state;
    psg_event event = poisson_event(1, 0.01);
    event.residue_epsilon = 1e-13;
    event.residue_delta = 1e-28;
    psg_accountant *a = accountant_of(c, PSG_ADD_OR_REMOVE_ONE, event, 2000);
    double before = 1;
    for (double epsilon = 1; epsilon < 1e300; epsilon *= epsilon < 100 ? 1.5 : 1e40) {
        psg_privacy p;
        TEST_OK(c, psg_accountant_delta(a, epsilon, &p));
        assert_ordered(p.delta_lower, p.delta);
        assert_ordered(p.delta, before);
        before = p.delta;
    }
    assert_ordered(before, 1e-20);
    psg_accountant_destroy(a);
}

/* Losses of the direction in which a record is missing end at 20 log(1 / 0.8) = 4.46, which epsilon passes here. */
static void delta_is_close_where_losses_of_one_direction_end(void **state) {
    psg_context *c = *state;
    psg_accountant *a = accountant_of(c, PSG_ADD_OR_REMOVE_ONE, poisson_event(1.62538, 0.2), 20);
    double before = 1;
    for (double epsilon = 3; epsilon < 8; epsilon += 0.25) {
        psg_privacy p;
        TEST_OK(c, psg_accountant_delta(a, epsilon, &p));
        assert_ordered(p.delta, p.delta_lower * 1.02);
        assert_ordered(p.delta, before);
        before = p.delta;
    }
    psg_accountant_destroy(a);
}

/* Renyi's delta is 0.014 here, a hundred thousand times the distribution's, whose masses far below it are not few. */
static void delta_is_close_where_the_quick_bounds_are_not(void **state) {
    psg_accountant *a = accountant_of(*state, PSG_ADD_OR_REMOVE_ONE, poisson_event(0.5, 1e-4), 1);
    psg_privacy p;
    TEST_OK((psg_context *)*state, psg_accountant_delta(a, 0.4, &p));
    assert_ordered(p.delta_lower, p.delta);
    assert_ordered(p.delta, 6e-8);
    psg_accountant_destroy(a);
}

/* ---- random settings ---- */

static double quick(psg_context *context, const psg_accountant *accountant, double delta) {
    psg_privacy p;
    TEST_OK(context, psg_privacy_epsilon(accountant, "test", delta, PSG_EFFORT_QUICK, &p));
    return p.epsilon;
}

/* 0 <= lower <= upper <= RDP; delta at epsilon comes back. */
static void check_setting(psg_context *c, psg_relation relation, psg_event event, uint64_t releases, double delta) {
    psg_privacy p, d;
    psg_accountant *a = accountant_of(c, relation, event, releases);
    TEST_OK(c, psg_accountant_epsilon(a, delta, &p));
    if (!(p.epsilon_lower >= 0 && p.epsilon_lower <= p.epsilon && p.epsilon <= quick(c, a, delta) && p.epsilon > 0)) {
        fail_msg("sigma %g rate %g releases %llu delta %g: [%.12g, %.12g], RDP %.12g", event.noise_multiplier,
                 event.sample_rate, (unsigned long long)releases, delta, p.epsilon_lower, p.epsilon,
                 quick(c, a, delta));
    }
    TEST_OK(c, psg_accountant_delta(a, fmin(p.epsilon, 1e300), &d));
    if (!(d.delta > 0 && d.delta_lower <= delta * (1 + 1e-9) && d.delta_lower <= d.delta)) {
        fail_msg("sigma %g rate %g releases %llu delta %g: [%.12g, %.12g] at %.12g", event.noise_multiplier,
                 event.sample_rate, (unsigned long long)releases, delta, d.delta_lower, d.delta, p.epsilon);
    }
    psg_accountant_destroy(a);
}

static void random_settings_are_bracketed(void **state) {
    uint64_t seed = 1;
    for (int k = 0; k < settings; k++) {
        double sigma = drawn_log_uniform(&seed, 0.3, 30), rate = drawn_log_uniform(&seed, 1e-5, 1);
        uint64_t releases = (uint64_t)drawn_log_uniform(&seed, 1, settings > 100 ? 1e6 : 1e4);
        double delta = drawn_log_uniform(&seed, 1e-12, 1e-2);
        psg_relation relation = k % 5 == 4 ? PSG_REPLACE_ONE : PSG_ADD_OR_REMOVE_ONE;
        psg_event event = poisson_event(sigma, rate);
        if (k % 7 == 6) event.group_size = 1 + (uint64_t)drawn_uniform(&seed, 1, 4);
        uint64_t most = (uint64_t)(6000 * rate) + 1;
        if (k % 7 == 3) event = sized_event(PSG_SAMPLING_TRUNCATED_POISSON, sigma, rate, 5000, most);
        check_setting(*state, relation, event, releases, delta);
    }
}

/* Nothing here may hang, or be a NaN, a negative number or 0. */
static void extremes_are_bounded(void **state) {
    static const struct { double sigma, rate, releases, delta; } row[] = {
        { 1, 1e-8, 1e7, 1e-5 },  { 1e4, 0.01, 1e7, 1e-5 },     { 0.02, 0.01, 100, 1e-5 }, { 0.02, 0.5, 1e7, 1e-5 },
        { 1, 0.01, 100, 1e-300 }, { 1, 0.01, 1e18, 1e-5 },      { 1, 1e-300, 10, 1e-5 },   { 1e-3, 0.01, 10, 1e-5 },
        { 1e100, 0.5, 10, 1e-5 }, { 1, 1 - 0x1p-53, 10, 1e-5 }, { 1e-200, 0.5, 1, 1e-5 },  { 1, 0.01, 10, 1 - 0x1p-53 },
    };
    for (int k = 0; k < COUNT(row); k++) {
        psg_event event = poisson_event(row[k].sigma, row[k].rate);
        check_setting(*state, k % 3 == 2, event, (uint64_t)row[k].releases, row[k].delta);
    }
    /* Where masses are below the normal numbers: 8110.39 is the truth (to 50 digits). */
    assert_ordered(8110.39, epsilon_of_event(*state, 0, poisson_event(0.0103, 1.48e-14), 1, 1.5e-287).epsilon);
    psg_privacy p = epsilon_of_event(*state, 0, poisson_event(1, 0.01), 1000, 1e-249);
    assert_ordered(p.epsilon - p.epsilon_lower, 0.01 * p.epsilon);
}

/* mu 1e-6 at delta 1e-20 and 1e-300, to 50 digits; sigma 30 at delta 0.1 needs no epsilon. */
static void lower_bounds_of_gaussians_are_below(void **state) {
    psg_event event = poisson_event(1e6, 1);
    assert_ordered(epsilon_of_event(*state, 0, event, 1, 1e-20).epsilon_lower, 7.38465965609e-6);
    assert_ordered(epsilon_of_event(*state, 0, event, 1, 1e-300).epsilon_lower, 3.65743125143e-5);
    assert_true(epsilon_of_event(*state, 0, poisson_event(30, 1), 1, 0.1).epsilon_lower == 0);
}

/* ---- monotonicity ---- */

#define RATES 16
#define NOISES 16
#define COUNTS 4
#define DELTAS 4

static double grid[RATES][NOISES][COUNTS][DELTAS];

static double at_or(int i, int j, int t, int d, double fallback) {
    return i < 0 || j < 0 || t < 0 || d < 0 ? fallback : grid[i][j][t][d];
}

/* Rates and releases grow, noise and delta fall: so does epsilon grow, up to what is rounded up. */
static void check_neighbours(int i, int j, int t, int d, double slack) {
    double here = grid[i][j][t][d] * (1 + slack);
    assert_ordered(at_or(i - 1, j, t, d, 0), here);
    assert_ordered(at_or(i, j - 1, t, d, 0), here);
    assert_ordered(at_or(i, j, t - 1, d, 0), here);
    assert_ordered(at_or(i, j, t, d - 1, 0), here);
}

static void quick_bounds_are_monotone(void **state) {
    const int side = settings > 100 ? RATES : 7;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++)
            for (int t = 0; t < COUNTS; t++) {
                psg_event event = poisson_event(pow(10, 3 - 4.0 * j / (side - 1)), pow(10, -8 + 8.0 * i / (side - 1)));
                psg_accountant *a = accountant_of(*state, 0, event, (uint64_t)pow(17, t));
                for (int d = 0; d < DELTAS; d++) {
                    grid[i][j][t][d] = quick(*state, a, pow(10, -3 * (d + 1)));
                    check_neighbours(i, j, t, d, 1e-9);
                }
                psg_accountant_destroy(a);
            }
}

/* Neighbouring settings may be discretised differently: what a bound may be above the truth is the slack. */
static void fine_bounds_are_monotone(void **state) {
    const int side = settings > 100 ? 10 : 3;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++)
            for (int t = 0; t < 3; t++) {
                psg_event event = poisson_event(pow(10, 0.6 - 0.9 * j / side), pow(10, -3 + 3.0 * i / side));
                psg_accountant *a = accountant_of(*state, 0, event, (uint64_t)pow(10, t + 1));
                for (int d = 0; d < 2; d++) {
                    TEST_OK((psg_context *)*state,
                            psg_accountant_epsilon_upper(a, pow(10, -3 * (d + 1)), &grid[i][j][t][d]));
                    check_neighbours(i, j, t, d, 1e-4);
                }
                psg_accountant_destroy(a);
            }
}

/* ---- memory ---- */

typedef struct meter {
    size_t live, peak;
} meter;

static void *metered(void *user, size_t bytes) {
    meter *m = user;
    m->live += bytes;
    if (m->live > m->peak) m->peak = m->live;
    return malloc(bytes);
}

static void unmetered(void *user, void *memory, size_t bytes) {
    ((meter *)user)->live -= bytes;
    free(memory);
}

/* The longest grids, of two kinds, with both bounds: less than 128 MiB beside what a context takes. */
static void memory_is_bounded(void **state) {
    (void)state;
    meter m = { 0, 0 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    psg_privacy p;
    options.threads = 1;
    options.allocator = (psg_allocator){ metered, unmetered, &m };
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    psg_accountant *a = accountant_of(context, 0, poisson_event(1, 0.01), 10000000);
    const psg_event other = poisson_event(0.7, 1e-4);
    TEST_OK(context, psg_accountant_add(a, &other, 1000000));
    const size_t before = m.peak = m.live;
    TEST_OK(context, psg_accountant_epsilon(a, 1e-5, &p));
    assert_string_equal(p.accountant, "PLD");
    assert_int_equal(m.live, before);
    assert_true(m.peak - before < (size_t)128 << 20);
    psg_accountant_destroy(a);
    psg_context_destroy(context);
    assert_int_equal(m.live, 0);
}

static void without_memory_there_is_no_answer(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    psg_accountant *a = accountant_of(context, 0, poisson_event(2, 0.2), 3);
    const size_t blocks = allocator.live_blocks;
    psg_status status = PSG_ERR_MEMORY;
    for (uint64_t n = 1; status; n++) {
        psg_privacy p = { .epsilon = 7 };
        test_allocator_arm(&allocator, n, n % 2);
        status = psg_accountant_epsilon(a, 1e-5, &p);
        assert_true(status == PSG_OK ? n > 10 : status == PSG_ERR_MEMORY && p.epsilon == 7);
        assert_int_equal(allocator.live_blocks, blocks);
    }
    psg_accountant_destroy(a);
    test_context_free(context);
    assert_int_equal(allocator.mistakes, 0);
}

static int set_up(void **state) {
    *state = test_context(1, NULL);
    return 0;
}

static int tear_down(void **state) {
    test_context_free(*state);
    return 0;
}

int main(int count, char **argument) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poisson_epsilons_are_the_peers),
        cmocka_unit_test(the_grid_of_peers_is_bracketed),
        cmocka_unit_test(other_samplings_are_the_peers),
        cmocka_unit_test(groups_are_the_peers),
        cmocka_unit_test(one_release_has_its_closed_form),
        cmocka_unit_test(what_is_not_sampled_is_exact),
        cmocka_unit_test(rho_is_enough),
        cmocka_unit_test(bins_cost_less_than_epochs),
        cmocka_unit_test(bins_have_their_moments),
        cmocka_unit_test(kinds_compose),
        cmocka_unit_test(many_kinds_are_merged),
        cmocka_unit_test(residues_are_added),
        cmocka_unit_test(delta_falls_with_epsilon_beside_residues),
        cmocka_unit_test(delta_is_close_where_losses_of_one_direction_end),
        cmocka_unit_test(delta_is_close_where_the_quick_bounds_are_not),
        cmocka_unit_test(random_settings_are_bracketed),
        cmocka_unit_test(extremes_are_bounded), cmocka_unit_test(lower_bounds_of_gaussians_are_below),
        cmocka_unit_test(quick_bounds_are_monotone),
        cmocka_unit_test(fine_bounds_are_monotone),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(without_memory_there_is_no_answer),
    };
    if (count == 3 && strcmp(argument[1], "--settings") == 0) settings = atoi(argument[2]);
    return cmocka_run_group_tests_name("accountant bounds", tests, set_up, tear_down);
}
