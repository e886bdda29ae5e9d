/* The parts that the accountant is made of, where their formulas change: tails, pairs, curves and sums at their edges,
 * against closed forms and quadrature. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "accountant/binomial.h"
#include "accountant/bins_rdp.h"
#include "accountant/gaussian_mechanism.h"
#include "accountant/numeric.h"
#include "accountant/parts.h"
#include "accountant/pld.h"
#include "accountant/pld_compose.h"
#include "accountant/pld_losses.h"
#include "accountant_fixture.h"
#include "support.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static void nothing_is_subtracted_to_less(void **state) {
    (void)state;
    assert_within(psg_log_subtract(log(5), log(3)), log(2), 1e-15);
    assert_true(isnan(psg_log_subtract(1, 1)) && isnan(psg_log_subtract(1, 2)) && isnan(psg_log_subtract(NAN, 0)));
}

/* ---- binomials ---- */

static void binomials_have_their_edges(void **state) {
    (void)state;
    const uint64_t many = 1000000000000;   /* deviation 5e5: tails are bounds, not sums */
    assert_true(psg_binomial_mass(5, 0.3, 6) == 0);
    assert_true(psg_binomial_mass(5, 0, 0) == 1 && psg_binomial_mass(5, 0, 1) == 0);
    assert_true(psg_binomial_mass(5, 1, 5) == 1 && psg_binomial_mass(5, 1, 4) == 0);
    assert_true(psg_binomial_tail(10, 0, 1) == 0 && psg_binomial_tail(10, 0, 0) == 1);
    assert_true(psg_binomial_tail(10000, 0.5, 4000) == 1);          /* 20 deviations below the mean */
    assert_true(psg_binomial_tail(many, 0.5, many / 2) == 1);       /* of at least 1/2 */
    assert_true(psg_binomial_tail(many, 0.5, many) == 0);           /* 2^-1e12 */
    assert_true(psg_binomial_tail(2000, 0.01, 2000) == 0);          /* 1e-4000 */
}

/* ---- Gaussians ---- */

static void gaussians_have_their_limits(void **state) {
    (void)state;
    assert_true(psg_gaussian_epsilon_of(0, 1e-5) == 0 && psg_gaussian_epsilon_lower(0, 1e-5) == 0);
    assert_true(isinf(psg_gaussian_epsilon_of(INFINITY, 1e-5)));
    /* mu^2 / 2 is beyond the doubles: no epsilon is large enough, and none is known to be too small */
    assert_true(isinf(psg_gaussian_epsilon_of(1e300, 1e-5)) && psg_gaussian_epsilon_lower(1e300, 1e-5) == 0);
    for (int direction = -1; direction <= 1; direction += 2) {
        assert_true(psg_gaussian_log_delta(0, 1, direction) == -INFINITY);
        assert_true(psg_gaussian_log_delta(INFINITY, 1, direction) == 0);
        assert_true(psg_gaussian_log_delta(1, 1e300, direction) == -INFINITY);
    }
}

/* ---- balls in bins ---- */

/* The mean over z of ((1 + w) / 2)^power, w = e^{d z - d^2 / 2}, by the trapezoidal rule. */
static double mean_power_of_half(double d, double power) {
    const double step = 0.01;
    double sum = 0;
    for (double z = -20; z <= 20; z += step) sum += pow((1 + exp(d * z - d * d / 2)) / 2, power) * exp(-z * z / 2);
    return sum * step / sqrt(2 * acos(-1));
}

/* One release for two bins: the other has none, w_j = 1. */
static void an_empty_bin_has_no_loss(void **state) {
    (void)state;
    const psg_mechanism half = { .kind = PSG_MECHANISM_BINS, .sigma = 0.8, .batches = 2, .releases = 1 };
    for (int order = 2; order <= 5; order++) {
        double forward = log(mean_power_of_half(1.25, order)), backward = log(mean_power_of_half(1.25, 1 - order));
        assert_within(psg_bins_log_moment(&half, order, 0), forward, 1e-10);
        assert_within(psg_bins_log_moment(&half, order, 1), backward, 1e-10);
        assert_within(psg_bins_rdp(&half, order), fmax(forward, backward) / (order - 1), 1e-8);
    }
}

/* alpha v / 2 where the sum of moments would be out of its depth. */
static void bins_without_credit_are_gaussian(void **state) {
    (void)state;
    const psg_mechanism loud = { .kind = PSG_MECHANISM_BINS, .sigma = 0.25, .batches = 2, .releases = 2 };
    const psg_mechanism silent = { .kind = PSG_MECHANISM_BINS, .sigma = 0.125, .batches = 2, .releases = 1 };
    assert_true(isinf(psg_bins_log_moment(&loud, 64, 1)));
    assert_within(psg_bins_rdp(&loud, 64), 0.5 * 64 * 16, 1e-9);
    assert_within(psg_bins_rdp(&loud, 65), 0.5 * 65 * 16, 1e-9);
    assert_within(psg_bins_rdp(&silent, 3), 0.5 * 3 * 64, 1e-9);
}

/* ---- pairs ---- */

/* A group beyond the means that a pair has: all of it whenever one is there. */
static void large_groups_come_together(void **state) {
    (void)state;
    const psg_pair some = psg_pair_of(2, 0.01, 100, 0), all = psg_pair_of(2, 1, 100, 1);
    assert_true(some.means == 2 && some.sigma == 0.02 && !some.two_sided);
    assert_within(some.rate, 1 - pow(0.99, 100), 1e-14);
    assert_true(some.weight[1] == some.rate && some.weight[0] == 1 - some.rate);
    assert_true(all.means == 2 && all.sigma == 0.02 && all.rate == 1 && all.weight[0] == 0);
    assert_int_equal(psg_pair_of(2, 0.01, PSG_MOST_MEANS - 1, 0).means, PSG_MOST_MEANS);
}

/* A second distribution that fits the room the first one left. */
static void a_coarser_grid_needs_no_more_room(void **state) {
    const psg_pair pair = psg_pair_of(1, 1, 1, 0);
    const psg_loss_grid fine = { 0.001, 64, 1e-12 }, coarse = { 1, 64, 1e-12 };
    psg_atoms a = { .context = *state };
    TEST_OK(a.context, psg_atoms_add(&a, "test", &pair, &fine, PSG_SIDE_LOWER, 0, 0.75));
    const size_t capacity = a.capacity;
    TEST_OK(a.context, psg_atoms_add(&a, "test", &pair, &coarse, PSG_SIDE_LOWER, 0, 0.25));
    assert_int_equal(a.capacity, capacity);
    double mass = 0;
    for (size_t k = 0; k < a.count; k++) mass += a.atom[k].mass;
    assert_within(mass, 1, 1e-9);
    psg_atoms_free(&a);
}

/* A range that is no number would be cast to an integer. */
static void a_range_beyond_the_doubles_is_infinite(void **state) {
    (void)state;
    psg_mechanism part = { .kind = PSG_MECHANISM_POISSON, .sigma = 2, .rate = 0.5, .group = 1, .releases = 1 };
    const psg_composition c = { .parts = &part, .part_count = 1 };
    for (int mirrored = 0; mirrored < 2; mirrored++) {
        part.sigma = 2;
        const double range = psg_composition_range(&c, mirrored, 1e-10);
        assert_true(range > 1 && range < 10);
        part.sigma = 1e-200;
        /* of Q, the record is never seen: the loss is log(1 - rate) */
        const double last = psg_composition_range(&c, mirrored, 1e-10);
        assert_true(mirrored ? fabs(last - log(2) / 1024) < 1e-9 : isinf(last));
    }
}

/* ---- parts ---- */

static psg_composition parts_of(psg_context *context, const psg_mechanism *part, size_t count) {
    psg_composition c = { .context = context };
    TEST_OK(context, psg_parts_reserve(&c, "test", count));
    for (size_t k = 0; k < count; k++) TEST_OK(context, psg_parts_add(&c, &part[k]));
    psg_parts_merge(&c);
    return c;
}

/* Parts that differ in one field stay two; the third, which does not, is added to one of them. */
static void parts_that_differ_stay_apart(void **state) {
    const psg_mechanism usual = { PSG_MECHANISM_BINS, 1, 0.1, 2, 0.5, 0.25, 10, 3, 7 };
    psg_mechanism other[8];
    for (int k = 0; k < COUNT(other); k++) other[k] = usual, other[k].releases = 100;
    other[0].kind = PSG_MECHANISM_FIXED_SIZE, other[1].sigma = 2, other[2].rate = 0.2, other[3].group = 3;
    other[4].full = 0.75, other[5].full_rate = 0.5, other[6].batches = 11, other[7].position = 4;
    for (int k = 0; k < COUNT(other); k++) {
        const psg_mechanism list[] = { usual, other[k], usual };
        psg_composition c = parts_of(*state, list, 3);
        assert_int_equal(c.part_count, 2);
        assert_false(c.coarse);
        assert_true(c.parts[0].releases == 14 || c.parts[1].releases == 14);
        assert_int_equal(c.parts[0].releases + c.parts[1].releases, 114);
        psg_composition_free(&c);
    }
}

/* Of one kind and group; group 0: of all. */
static uint64_t releases_of(const psg_composition *c, psg_mechanism_kind kind, uint64_t group) {
    uint64_t releases = 0;
    for (size_t k = 0; k < c->part_count; k++) {
        const psg_mechanism *part = &c->parts[k];
        if (!group || (part->kind == kind && part->group == group)) releases += part->releases;
    }
    return releases;
}

/* Of two groups and two kinds: parts of one kind and group alone are merged, into the least noise and the most rate. */
static void too_many_parts_are_merged_by_kind(void **state) {
    psg_mechanism list[92];
    for (int k = 0; k < 92; k++) {
        list[k] = (psg_mechanism){ .kind = k % 2 ? PSG_MECHANISM_FIXED_SIZE : PSG_MECHANISM_POISSON, .rate = 0.1,
                                   .sigma = 2 + k / 4, .group = 1 + (uint64_t)(k / 2 % 2), .releases = 1 };
    }
    psg_composition c = parts_of(*state, list, 92);
    assert_true(c.coarse && c.part_count <= PSG_MOST_PARTS && c.squared_mu == 0);
    for (uint64_t group = 1; group <= 2; group++) {
        assert_int_equal(releases_of(&c, PSG_MECHANISM_POISSON, group), 23);
        assert_int_equal(releases_of(&c, PSG_MECHANISM_FIXED_SIZE, group), 23);
    }
    for (size_t k = 0; k < c.part_count; k++) {
        int found = 0;
        for (int i = 0; i < 92; i++) {
            found += list[i].kind == c.parts[k].kind && list[i].group == c.parts[k].group &&
                     list[i].sigma == c.parts[k].sigma;
        }
        assert_int_equal(found, 1);
        assert_true(c.parts[k].releases <= 3);   /* 2 * 92 / 64 at a time */
    }
    psg_composition_free(&c);
}

/* Truncated batches do not merge: those that are left over cost (2 group / sigma)^2 a release. */
static void what_cannot_merge_loses_its_credit(void **state) {
    psg_mechanism list[70];
    for (int k = 0; k < 70; k++) {
        list[k] = (psg_mechanism){ PSG_MECHANISM_TRUNCATED, 1 + k, 0.1, 1, 0.5, 0.25, 0, 0, 3 };
    }
    psg_composition c = parts_of(*state, list, 70);
    double expected = 0;
    for (int sigma = 65; sigma <= 70; sigma++) expected += 3 * 4.0 / (sigma * sigma);
    assert_true(c.coarse && c.part_count == PSG_MOST_PARTS);
    assert_within(c.squared_mu, expected, 1e-15);
    assert_int_equal(releases_of(&c, 0, 0), 64 * 3);
    psg_composition_free(&c);
}

/* ---- sums ---- */

/* The distributions of a Gaussian alone, whose answers are known. */
static void a_gaussian_has_its_distribution(void **state) {
    const psg_composition gaussian = { .context = *state, .squared_mu = 0.25, .squared_mu_all = 0.25 };
    const double exact = psg_gaussian_epsilon_of(0.5, 1e-5);
    psg_pld_bound bound;
    TEST_OK(gaussian.context, psg_pld_epsilon(&gaussian, "test", log(1e-5), log(1e-5), 1, &bound));
    assert_null(bound.note);
    assert_ordered(bound.lower, exact);
    assert_ordered(exact * (1 - 1e-8), bound.upper);
    assert_within(bound.upper, bound.lower, 1e-4 * exact);
}

/* Losses of one value, twice: the sum is at 2 levels. */
typedef struct sum {
    psg_fft fft;
    double *work;
    psg_atom atom;
    psg_release_loss loss;
    psg_release_losses losses;
} sum;

static void sum_new(sum *s, psg_context *context) {
    s->atom = (psg_atom){ 7, 1 };
    s->loss = (psg_release_loss){ { .atom = &s->atom, .count = 1, .least = 7, .most = 7 }, 2 };
    s->losses = (psg_release_losses){ &s->loss, 1, 0.25 };
    TEST_OK(context, psg_fft_create(context, "test", 32, &s->fft));
    s->work = malloc(4 * 64 * sizeof *s->work);
    assert_non_null(s->work);
}

static void sum_free(sum *s) {
    psg_fft_free(&s->fft);
    free(s->work);
}

/* No losses are told apart where the window is further out than the grid has numbers for. */
static void a_window_out_of_reach_is_refused(void **state) {
    sum s;
    psg_tilted tilted;
    sum_new(&s, *state);
    const psg_loss_window good = psg_losses_window(&s.losses, 1), far = { 1e17, 1.1e17, 2, 0.5 };
    assert_false(psg_losses_compose(&s.losses, 1, &far, &s.fft, s.work, &tilted));      /* e^{theta y} has no digits */
    assert_false(psg_losses_compose(&s.losses, 1e-10, &far, &s.fft, s.work, &tilted));  /* y has none */
    assert_true(psg_losses_compose(&s.losses, 1, &good, &s.fft, s.work, &tilted));
    assert_within(psg_tilted_log_delta(&tilted, 1.5, 1), log(-expm1(1.5 - 3.5)), 1e-9);
    assert_within(psg_tilted_log_delta(&tilted, 1.5, -1), log(-expm1(1.5 - 3.5)), 1e-9);
    sum_free(&s);
}

static psg_tilted compose(sum *s, psg_context *context) {
    psg_tilted tilted;
    sum_new(s, context);
    const psg_loss_window window = psg_losses_window(&s->losses, 1);
    assert_true(psg_losses_compose(&s->losses, 1, &window, &s->fft, s->work, &tilted));
    return tilted;
}

/* What may be outside is more than delta at the top: Chernoff's bound M e^{-theta epsilon} is left. */
static void more_than_delta_outside_is_bounded(void **state) {
    sum s;
    psg_tilted tilted = compose(&s, *state);
    tilted.outside = 1e-7;
    assert_within(psg_tilted_epsilon(&tilted, -200, 1), 3.5 + 200, 1e-9);
    assert_within(psg_tilted_epsilon(&tilted, log(0.5), 1), 3.5 + log(0.5), 1e-5);
    sum_free(&s);
}

/* A delta that no mass and no rounding reaches ends at the top of the window. */
static void a_delta_of_nothing_ends_at_the_top(void **state) {
    sum s;
    psg_tilted tilted = compose(&s, *state);
    tilted.outside = 0;
    const double top = ((double)tilted.first + (double)tilted.length - 1) * tilted.interval;
    assert_true(psg_tilted_epsilon(&tilted, -2000, 1) == top + tilted.slack);
    sum_free(&s);
}

/* Where infinite losses alone are more than delta there is no epsilon, however little is outside the window. */
static void more_than_delta_of_infinite_loss_is_open(void **state) {
    sum s;
    psg_tilted tilted = compose(&s, *state);
    tilted.outside = 0;
    tilted.infinity = 0.25;
    assert_within(psg_tilted_epsilon(&tilted, log(0.5), 1), 3.5 + log(0.75), 1e-6);
    assert_true(isinf(psg_tilted_epsilon(&tilted, log(0.25), 1)));
    assert_true(isinf(psg_tilted_epsilon(&tilted, log(0.2), 1)));
    sum_free(&s);
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
        cmocka_unit_test(nothing_is_subtracted_to_less),
        cmocka_unit_test(binomials_have_their_edges),
        cmocka_unit_test(gaussians_have_their_limits),
        cmocka_unit_test(an_empty_bin_has_no_loss),
        cmocka_unit_test(bins_without_credit_are_gaussian),
        cmocka_unit_test(large_groups_come_together),
        cmocka_unit_test(a_coarser_grid_needs_no_more_room),
        cmocka_unit_test(a_range_beyond_the_doubles_is_infinite),
        cmocka_unit_test(parts_that_differ_stay_apart),
        cmocka_unit_test(too_many_parts_are_merged_by_kind),
        cmocka_unit_test(what_cannot_merge_loses_its_credit),
        cmocka_unit_test(a_gaussian_has_its_distribution),
        cmocka_unit_test(a_window_out_of_reach_is_refused),
        cmocka_unit_test(more_than_delta_outside_is_bounded),
        cmocka_unit_test(a_delta_of_nothing_ends_at_the_top),
        cmocka_unit_test(more_than_delta_of_infinite_loss_is_open),
    };
    return cmocka_run_group_tests_name("accountant edges", tests, set_up, tear_down);
}
