/* The composition of privacy losses against sums that are known: a loss of two values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "accountant/pld_compose.h"
#include "accountant_fixture.h"
#include "support.h"

/* Randomised response: loss +-level * interval with probabilities e^l / (1 + e^l) and 1 / (1 + e^l). */
typedef struct response {
    double interval, infinity;
    int level, releases;
} response;

static double probability_up(const response *r) { return 1 / (1 + exp(-r->level * r->interval)); }

/* delta(epsilon) = 1 - (1 - infinity)^T, here T infinity, and sum over k of Bin(T, p)(k) (1 - e^{epsilon - y_k})+. */
static double exact_delta(const response *r, double epsilon) {
    double p = probability_up(r), delta = 0;
    for (int k = 0; k <= r->releases; k++) {
        double y = (2 * k - r->releases) * r->level * r->interval;
        double log_mass = lgamma(r->releases + 1.0) - lgamma(k + 1.0) - lgamma(r->releases - k + 1.0) + k * log(p) +
                          (r->releases - k) * log1p(-p);
        if (y > epsilon) delta += exp(log_mass) * -expm1(epsilon - y);
    }
    return delta + r->releases * r->infinity;
}

typedef struct composed {
    psg_fft fft;
    double *work;
    psg_tilted tilted;
} composed;

static composed compose(psg_context *c, const response *r, double theta, size_t length) {
    const double p = probability_up(r);
    psg_atom atom[] = { { -r->level, 1 - p }, { r->level, p } };
    psg_release_loss loss = { .releases = r->releases };
    loss.atoms = (psg_atoms){ .atom = atom, .count = 2, .least = -r->level, .most = r->level, .infinity = r->infinity };
    const psg_release_losses losses = { &loss, 1, r->interval };
    psg_loss_window window = psg_losses_window(&losses, theta);
    composed made;
    TEST_OK(c, psg_fft_create(c, "test", length / 2, &made.fft));
    made.work = malloc(2 * length * sizeof *made.work);
    assert_non_null(made.work);
    assert_true((window.most - window.least) / r->interval < (double)length);
    assert_true(psg_losses_compose(&losses, theta, &window, &made.fft, made.work, &made.tilted));
    return made;
}

static void release(composed *made) {
    psg_fft_free(&made->fft);
    free(made->work);
}

static void check_delta(const composed *made, const response *r, double epsilon, double tolerance) {
    double exact = exact_delta(r, epsilon);
    double upper = exp(psg_tilted_log_delta(&made->tilted, epsilon, 1));
    double lower = exp(psg_tilted_log_delta(&made->tilted, epsilon, -1));
    assert_within(upper, exact, tolerance * exact);
    assert_within(lower, exact - r->releases * r->infinity, tolerance * exact);
    assert_ordered(exact * (1 - 1e-12), upper);
    assert_ordered(lower, exact * (1 + 1e-12));
    if (exact <= 2 * r->releases * r->infinity) return;
    assert_within(psg_tilted_epsilon(&made->tilted, log(exact), 1), epsilon, tolerance);
    assert_ordered(epsilon, psg_tilted_epsilon(&made->tilted, log(exact), 1) + 1e-12);
    assert_ordered(psg_tilted_epsilon(&made->tilted, log(exact), -1), epsilon + 1e-12);
}

static void a_sum_of_two_values_is_binomial(void **state) {
    const response r = { 0.01, 0, 7, 500 };
    composed made = compose(*state, &r, 2, 4096);
    for (double epsilon = 3.003; epsilon < 9; epsilon += 0.7) check_delta(&made, &r, epsilon, 1e-8);
    release(&made);
}

/* Far in the tail, where an FFT of the masses themselves leaves nothing: delta of 1e-200. */
static void a_tilt_reaches_the_tail(void **state) {
    const response r = { 0.01, 0, 7, 4000 };
    composed made = compose(*state, &r, 20, 8192);
    double epsilon = ((double)made.tilted.first + (double)made.tilted.length / 2) * r.interval + 0.003;
    assert_ordered(exact_delta(&r, epsilon), 1e-150);
    check_delta(&made, &r, epsilon, 1e-6);
    release(&made);
}

static void infinite_losses_are_added(void **state) {
    const response r = { 0.01, 1e-7, 7, 500 };
    composed made = compose(*state, &r, 2, 4096);
    for (double epsilon = 3.003; epsilon < 9; epsilon += 0.7) check_delta(&made, &r, epsilon, 1e-8);
    assert_true(isinf(psg_tilted_epsilon(&made.tilted, log(4e-5), 1)));
    release(&made);
}

/* ---- one release ---- */

static long double normal_between(long double from, long double to) {
    long double root = sqrtl(2);
    return from > 0 ? (erfcl(from / root) - erfcl(to / root)) / 2 : (erfcl(-to / root) - erfcl(-from / root)) / 2;
}

/* Probabilities of narrow buckets, and losses at the inverse of a loss, against long double: off by what they say. */
static void rounding_is_covered(void **state) {
    (void)state;
    static const double sigmas[] = { 0.3, 1, 20, 1e4 }, widths[] = { 1, 1e-3, 1e-7, 1e-11 };
    for (int k = 0; k < 4 * 4 * 40; k++) {
        const double s = sigmas[k % 4], from = (k / 16 - 20) * 0.3 * s, to = from + widths[k / 4 % 4] * s;
        const psg_pair pair = psg_pair_of(s, 0.01, 1, 0);
        const psg_bucket b = psg_pair_bucket(&pair, from, to);
        const long double center = normal_between((long double)from / s, (long double)to / s);
        const long double excess = 0.01 * (normal_between((from - 1.0L) / s, (to - 1.0L) / s) - center);
        assert_true(fabsl(b.q - center) <= b.q_error && fabsl(b.excess - excess) <= b.excess_error);
        const double epsilon = psg_pair_loss(&pair, from), x = psg_pair_inverse(&pair, epsilon);
        const long double loss = log1pl(0.01 * expm1l((2.0L * x - 1) / 2 / s / s));
        if (isfinite(x)) assert_true(fabsl(loss - epsilon) <= psg_pair_slack(&pair, x, epsilon));
    }
}

/* The mass that is left out of the grid is infinite in upper bounds, and is in the last point in lower ones. */
static void tails_are_given_to_infinity(void **state) {
    for (int two_sided = 0; two_sided < 2; two_sided++)
        for (int mirrored = 0; mirrored < 2; mirrored++)
            for (int side = 0; side < 2; side++) {
                const psg_pair pair = psg_pair_of(1, 0.3, 1, two_sided);
                const psg_loss_grid grid = { 1e-3, 64, 1e-2 };
                psg_atoms a = { .context = *state };
                const int has_least = !two_sided && !mirrored;   /* else lower bounds leave out losses below the grid */
                double mass = 0;
                TEST_OK(a.context, psg_atoms_add(&a, "test", &pair, &grid, (psg_side)side, mirrored, 1));
                for (size_t i = 0; i < a.count; i++) mass += a.atom[i].mass;
                assert_true(side == PSG_SIDE_UPPER ? a.infinity <= 1e-2 : a.infinity == 0);
                if (!mirrored && side == PSG_SIDE_UPPER) assert_ordered(1e-4, a.infinity);
                if (side == PSG_SIDE_UPPER || has_least) assert_within(mass + a.infinity, 1, 1e-9);
                psg_atoms_free(&a);
            }
}

/* Of P and Q, both directions and both sides: all mass is there, the upper mean above the lower one, and next to
 * nothing is infinite, wherever the points of the grid fall beside the least loss. */
static void one_release_is_whole(void **state) {
    const double sigma[] = { 0.1, 0.3, 1, 20 };
    for (int k = 0; k < 4; k++)
        for (int steps = 8; steps < 60; steps += 3)
            for (int mirrored = 0; mirrored < 2; mirrored++) {
                const psg_pair pair = psg_pair_of(sigma[k], 0.01, 1, 0);
                const psg_loss_grid grid = { -log1p(-0.01) / steps, 64, 1e-20 };
                double mean[2] = { 0, 0 };
                for (int side = 0; side < 2; side++) {
                    psg_atoms a = { .context = *state };
                    TEST_OK(a.context, psg_atoms_add(&a, "test", &pair, &grid, (psg_side)side, mirrored, 1));
                    double mass = 0;
                    for (size_t i = 0; i < a.count; i++) {
                        mass += a.atom[i].mass;
                        mean[side] += a.atom[i].mass * grid.interval * (double)a.atom[i].index;
                    }
                    assert_within(mass, 1, 1e-9);
                    assert_ordered(a.infinity, 1e-19);
                    psg_atoms_free(&a);
                }
                assert_ordered(mean[PSG_SIDE_LOWER], mean[PSG_SIDE_UPPER]);
                assert_within(mean[PSG_SIDE_LOWER], mean[PSG_SIDE_UPPER], grid.interval);
            }
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
        cmocka_unit_test(a_sum_of_two_values_is_binomial),
        cmocka_unit_test(a_tilt_reaches_the_tail),
        cmocka_unit_test(infinite_losses_are_added),
        cmocka_unit_test(rounding_is_covered),
        cmocka_unit_test(tails_are_given_to_infinity),
        cmocka_unit_test(one_release_is_whole),
    };
    return cmocka_run_group_tests_name("accountant compose", tests, set_up, tear_down);
}
