/* RDP and the exact Gaussian against published tables, against themselves, and at their edges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/accountant/rdp.h"
#include "psg/accountant.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static void assert_near(double actual, double expected, double relative) {
    if (!(fabs(actual - expected) <= relative * fabs(expected)))
        fail_msg("%.17g is not %.17g to %g relative", actual, expected, relative);
}

static void assert_at_least(double actual, double bound) {
    if (!(actual >= bound))
        fail_msg("%.17g is below %.17g", actual, bound);
}

/* ---- golden tables ---- */

#define MAX_CELLS 24

typedef struct table {
    FILE *file;
    char line[2048];
    char *cell[MAX_CELLS];
} table;

/* Splits the line in place at its commas, those between quotes excepted. */
static void split(table *t) {
    int count = 0;
    int quoted = 0;
    memset(t->cell, 0, sizeof t->cell);
    t->line[strcspn(t->line, "\r\n")] = '\0';
    t->cell[count++] = t->line;
    for (char *c = t->line; *c != '\0'; c++) {
        if (*c == '"')
            quoted = !quoted;
        if (*c == ',' && !quoted && count < MAX_CELLS) {
            *c = '\0';
            t->cell[count++] = c + 1;
        }
    }
}

static int next_row(table *t) {
    if (fgets(t->line, sizeof t->line, t->file) == NULL)
        return 0;
    split(t);
    return 1;
}

static void open_table(table *t, const char *path) {
    t->file = fopen(path, "r");
    if (t->file == NULL)
        fail_msg("cannot read %s", path);
    assert_true(next_row(t));
}

static double number(const table *t, int column) {
    assert_non_null(t->cell[column]);
    return strtod(t->cell[column], NULL);
}

static uint64_t whole(const table *t, int column) {
    return strtoull(t->cell[column], NULL, 10);
}

/* ---- orders that the tables were made with ---- */

#define MAX_ORDERS 192

typedef struct orders {
    double order[MAX_ORDERS];
    int count;
} orders;

static void append(orders *o, double first, double last, double step) {
    int more = (int)floor((last - first) / step + 0.5);
    for (int k = 0; k <= more; k++)
        o->order[o->count++] = first + k * step;
}

static void append_powers(orders *o, double last) {
    for (double order = 128; order <= last; order *= 2)
        o->order[o->count++] = order;
}

static orders opacus_orders(void) {
    orders o = { .count = 0 };
    append(&o, 1.1, 10.9, 0.1);
    append(&o, 12, 63, 1);
    return o;
}

static orders google_orders(void) {
    orders o = { .count = 0 };
    append(&o, 1.1, 10.9, 0.1);
    append(&o, 11, 63, 1);
    append_powers(&o, 1024);
    return o;
}

static orders tensorflow_privacy_orders(void) {
    orders o = { .count = 0 };
    append(&o, 1.25, 2.25, 0.25);
    append(&o, 2.5, 4.5, 0.5);
    append(&o, 5, 63, 1);
    append_powers(&o, 512);
    return o;
}

/* epsilon of one kind of release by RDP at these orders (Canonne, Kamath and Steinke 2020, proposition 12). */
static double epsilon_of(const orders *o, double q, double sigma, double releases, double delta, double *best_order) {
    double best = INFINITY;
    for (int k = 0; k < o->count; k++) {
        double rdp = NAN, alpha = o->order[k];
        assert_int_equal(psg_rdp_sampled_gaussian(q, sigma, alpha, &rdp), PSG_OK);
        double epsilon = releases * rdp + log1p(-1 / alpha) - (log(delta) + log(alpha)) / (alpha - 1);
        if (epsilon < best) {
            best = epsilon;
            if (best_order) *best_order = alpha;
        }
    }
    return best;
}

static double rdp_of(double q, double sigma, double alpha) {
    double rdp = NAN;
    assert_int_equal(psg_rdp_sampled_gaussian(q, sigma, alpha, &rdp), PSG_OK);
    return rdp;
}

static double exact_gaussian(double sigma, uint64_t releases, double delta) {
    double epsilon = NAN;
    assert_int_equal(psg_gaussian_epsilon(sigma, releases, delta, &epsilon), PSG_OK);
    return epsilon;
}

/* ---- golden tests ---- */

static void the_rdp_curve_is_the_papers(void **state) {
    (void)state;
    enum { ORDER, RATE, NOISE, STEPS, RDP };
    table t;
    int rows = 0;
    for (open_table(&t, PSG_GOLDEN_DIR "/rdp_curve.csv"); next_row(&t); rows++) {
        double rdp = rdp_of(number(&t, RATE), number(&t, NOISE), number(&t, ORDER));
        assert_near(number(&t, STEPS) * rdp, number(&t, RDP), 1e-8);
    }
    fclose(t.file);
    assert_int_equal(rows, 120);
}

static void the_grid_agrees_with_the_peers(void **state) {
    (void)state;
    enum { NOISE, RATE, STEPS, DELTA, OPACUS, ORDER };
    orders opacus = opacus_orders();
    table t;
    int rows = 0;
    for (open_table(&t, PSG_GOLDEN_DIR "/accountant_grid.csv"); next_row(&t); rows++) {
        double q = number(&t, RATE), sigma = number(&t, NOISE), delta = number(&t, DELTA);
        double order;
        double epsilon = epsilon_of(&opacus, q, sigma, number(&t, STEPS), delta, &order);
        assert_near(epsilon, number(&t, OPACUS), 1e-6);
        assert_near(order, number(&t, ORDER), 1e-12);
    }
    fclose(t.file);
    assert_int_equal(rows, 8);
}

static void the_analytic_gaussian_is_exact(void **state) {
    (void)state;
    enum { NOISE, STEPS, DELTA, EPSILON };
    table t;
    int rows = 0;
    for (open_table(&t, PSG_GOLDEN_DIR "/analytic_gaussian.csv"); next_row(&t); rows++) {
        double epsilon = exact_gaussian(number(&t, NOISE), whole(&t, STEPS), number(&t, DELTA));
        assert_near(epsilon, number(&t, EPSILON), 1e-8);
        assert_at_least(epsilon, number(&t, EPSILON));
    }
    fclose(t.file);
    assert_int_equal(rows, 6);
}

enum { ID, MECHANISM, ACCOUNTANT, NOISE, RATE, STEPS, DELTA, QUANTITY, EXPECTED, TOLERANCE, KIND, SOURCE, TEST,
       RECOMPUTED, EXACT, NOTE };

static int starts(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* The published value, or that of the signed series where the source dropped the signs. */
static double golden(const table *t) {
    return number(t, *t->cell[EXACT] != '\0' ? EXACT : EXPECTED);
}

static void check_epsilon(const table *t) {
    orders o = google_orders();
    if (strstr(t->cell[NOTE], "orders 1.1..10.9"))
        o = opacus_orders();
    if (strstr(t->cell[NOTE], "orders [1.25"))
        o = tensorflow_privacy_orders();
    double epsilon = epsilon_of(&o, number(t, RATE), number(t, NOISE), number(t, STEPS), number(t, DELTA), NULL);
    assert_near(epsilon, golden(t), 1e-7);
}

static void check_rdp(const table *t, double alpha) {
    assert_near(number(t, STEPS) * rdp_of(number(t, RATE), number(t, NOISE), alpha), golden(t), 1e-8);
}

static void check_exact_gaussian(const table *t, double epsilon, double relative) {
    assert_near(exact_gaussian(number(t, NOISE), whole(t, STEPS), number(t, DELTA)), epsilon, relative);
}

/* Checks the row if it asks something that the library answers. */
static int check_row(const table *t) {
    const char *accountant = t->cell[ACCOUNTANT], *quantity = t->cell[QUANTITY];
    int gaussian = strcmp(t->cell[MECHANISM], "gaussian") == 0;
    double value;
    if (!gaussian && strcmp(t->cell[MECHANISM], "poisson_subsampled_gaussian") != 0)
        return 0;
    if (starts(accountant, "RDP") && strcmp(quantity, "epsilon") == 0)
        check_epsilon(t);
    else if (starts(accountant, "RDP") && sscanf(quantity, "rdp(alpha=%lf)", &value) == 1)
        check_rdp(t, value);
    else if (gaussian && strcmp(accountant, "PLD") == 0)
        check_exact_gaussian(t, number(t, EXPECTED), 1e-6);
    else
        return 0;
    return 1;
}

static void published_values_are_met(void **state) {
    (void)state;
    table t;
    int checked = 0;
    for (open_table(&t, PSG_GOLDEN_DIR "/accountant.csv"); next_row(&t);)
        checked += check_row(&t);
    fclose(t.file);
    assert_int_equal(checked, 13);
}

/* Published pairs of noise and delta at a known epsilon (dp_accounting's and pfl-research's tests, Balle and Wang). */
static void published_gaussians_are_met(void **state) {
    (void)state;
    assert_near(exact_gaussian(1.0 / 3, 1, 0.78760074), 1, 1e-6);
    assert_near(exact_gaussian(sqrt(2), 1, 0.00040834087), 2.25, 1e-6);
    assert_near(exact_gaussian(1, 1, 0.12693673750664392), 1, 1e-8);
    assert_near(exact_gaussian(1, 1, 0.020923635821113756), 2, 1e-8);
}

/* ---- properties ---- */

/* The same settings in every run: a 64-bit linear congruential generator (Knuth's constants). */
static double uniform(double low, double high) {
    static uint64_t seed = 1;
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * ((double)(seed >> 11) / 9007199254740992.0);
}

static double log_uniform(double low, double high) {
    return exp(uniform(log(low), log(high)));
}

static void series_and_quadrature_agree(void **state) {
    (void)state;
    int compared = 0;
    for (int k = 0; k < 2000 && compared < 200; k++) {
        double q = log_uniform(1e-4, 1), sigma = log_uniform(0.05, 20), alpha = uniform(1.01, 20);
        double series = psg_rdp_log_excess_series(q, sigma, alpha);
        if (isnan(series))
            continue;
        double quadrature = psg_rdp_log_excess_quadrature(q, sigma, alpha);
        assert_near(exp(series - quadrature), 1, 1e-8);
        compared++;
    }
    assert_int_equal(compared, 200);
}

static void binomial_sum_and_quadrature_agree(void **state) {
    (void)state;
    for (int k = 0; k < 200; k++) {
        double q = log_uniform(1e-12, 1), sigma = log_uniform(0.05, 100), alpha = floor(uniform(2, 100));
        double sum = psg_rdp_log_excess_integer(q, sigma, alpha);
        assert_near(exp(sum - psg_rdp_log_excess_quadrature(q, sigma, alpha)), 1, 1e-8);
    }
}

/* alpha / (2 sigma^2) + alpha log(q) / (alpha - 1) <= RDP <= alpha / (2 sigma^2): what follows from leaving out 1 - q
 * in the moment, and from convexity in q. */
static void check_bounds(double q, double sigma, double alpha) {
    double rdp = rdp_of(q, sigma, alpha);
    double full_batch = alpha / 2 / sigma / sigma;
    assert_true(rdp > 0);
    assert_true(rdp <= fmax(full_batch, 1e-300));
    if (isfinite(full_batch))
        assert_at_least(rdp, full_batch * (1 - 1e-12) + alpha / (alpha - 1) * log(q));
    else
        assert_true(isinf(rdp));
}

static void rdp_keeps_its_bounds_at_extremes(void **state) {
    (void)state;
    const double q[] = { 5e-324, 1e-300, 1e-17, 1e-6, 0.01, 0.5, 1 - 1e-9, 1 - 0x1p-53, 1 };
    const double sigma[] = { 5e-324, 1e-200, 1e-155, 1e-150, 1e-9, 0.0099, 0.05, 1, 1e9, 1e99, 1e101, 1e308 };
    const double alpha[] = { 1 + 0x1p-52, 1 + 1e-8, 1.01, 1.5, 2 - 1e-7, 2, 2 + 1e-7, 10.9, 255.5, 1024, 1e308 };
    for (int i = 0; i < COUNT(q); i++)
        for (int j = 0; j < COUNT(sigma); j++)
            for (int k = 0; k < COUNT(alpha); k++)
                check_bounds(q[i], sigma[j], alpha[k]);
}

/* A - 1 = alpha (alpha - 1) / 2 q^2 (e^{1/sigma^2} - 1) to first order in q: far below what 1 + ... can hold. */
static void small_rates_keep_their_digits(void **state) {
    (void)state;
    const double alpha[] = { 1.1, 2, 3.7, 30 };
    for (int k = 0; k < COUNT(alpha); k++)
        assert_near(rdp_of(1e-12, 3, alpha[k]), alpha[k] / 2 * 1e-24 * expm1(1.0 / 9), 1e-9);
}

static void a_full_batch_is_the_gaussian(void **state) {
    (void)state;
    for (int k = 0; k < 200; k++) {
        double sigma = log_uniform(0.1, 100), delta = log_uniform(1e-12, 0.1);
        uint64_t releases = (uint64_t)log_uniform(1, 1e6);
        double alpha = uniform(1.01, 64);
        assert_near(rdp_of(1, sigma, alpha), alpha / (2 * sigma * sigma), 1e-15);
        orders o = google_orders();
        double bound = epsilon_of(&o, 1, sigma, (double)releases, delta, NULL);
        assert_at_least(bound, exact_gaussian(sigma, releases, delta));
    }
    assert_near(rdp_of(1 - 1e-13, 1.3, 2.5), rdp_of(1, 1.3, 2.5), 1e-11);
}

/* As mu = 1 / sigma goes to 0, delta(t mu) = mu (phi(t) - t Phi(-t)): the exact formula is then all cancellation, and
 * must err upwards. */
static void the_gaussian_survives_cancellation(void **state) {
    (void)state;
    const double sigma = 1e10;
    for (double t = 0.25; t <= 4; t += 0.25) {
        double density = exp(-t * t / 2) / sqrt(2 * acos(-1));
        double epsilon = exact_gaussian(sigma, 1, (density - t * erfc(t / sqrt(2)) / 2) / sigma);
        assert_at_least(epsilon, t / sigma * (1 - 1e-8));
        assert_near(epsilon, t / sigma, 1e-3);
    }
}

/* ---- edges ---- */

static void rdp_has_its_limits_at_the_edges(void **state) {
    (void)state;
    assert_true(rdp_of(0, 1, 2) == 0 && rdp_of(0, 0, 2) == 0);
    assert_true(isinf(rdp_of(0.1, 0, 2)) && isinf(rdp_of(1, 0, 1.5)));
    const struct { double q, sigma, alpha; } refused[] = {
        { -0.1, 1, 2 }, { 1.1, 1, 2 }, { NAN, 1, 2 },                /* rates */
        { 0.1, -1, 2 }, { 0.1, NAN, 2 }, { 0.1, INFINITY, 2 },       /* noises */
        { 0.1, 1, 1 }, { 0.1, 1, NAN }, { 0.1, 1, INFINITY },        /* orders */
    };
    double rdp = 7;
    for (int k = 0; k < COUNT(refused); k++) {
        psg_status status = psg_rdp_sampled_gaussian(refused[k].q, refused[k].sigma, refused[k].alpha, &rdp);
        assert_int_equal(status, PSG_ERR_ARGUMENT);
    }
    assert_true(rdp == 7);
    assert_int_equal(psg_rdp_sampled_gaussian(0.1, 1, 2, NULL), PSG_ERR_ARGUMENT);
}

static void the_gaussian_has_its_limits_at_the_edges(void **state) {
    (void)state;
    double epsilon = 7;
    assert_int_equal(psg_gaussian_epsilon(-1, 1, 1e-5, &epsilon), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian_epsilon(INFINITY, 1, 1e-5, &epsilon), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian_epsilon(1, 1, 0, &epsilon), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian_epsilon(1, 1, 1, &epsilon), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian_epsilon(1, 1, 1e-5, NULL), PSG_ERR_ARGUMENT);
    assert_true(epsilon == 7);
    assert_true(exact_gaussian(1, 0, 1e-5) == 0 && exact_gaussian(0, 0, 1e-5) == 0);
    assert_true(isinf(exact_gaussian(0, 1, 1e-5)) && isinf(exact_gaussian(1e-300, 1, 1e-5)));
    const double sigma[] = { 1e-100, 1e-3, 1, 1e3, 1e6, 1e9, 1e12, 1e100, 1e300 };
    const double delta[] = { 1e-300, 1e-15, 1e-5, 0.5, 1 - 0x1p-53 };
    for (int i = 0; i < COUNT(sigma); i++)
        for (int j = 0; j < COUNT(delta); j++)
            assert_true(exact_gaussian(sigma[i], 1, delta[j]) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rdp_curve_is_the_papers),
        cmocka_unit_test(the_grid_agrees_with_the_peers),
        cmocka_unit_test(the_analytic_gaussian_is_exact),
        cmocka_unit_test(published_values_are_met),
        cmocka_unit_test(published_gaussians_are_met),
        cmocka_unit_test(series_and_quadrature_agree),
        cmocka_unit_test(binomial_sum_and_quadrature_agree),
        cmocka_unit_test(rdp_keeps_its_bounds_at_extremes),
        cmocka_unit_test(small_rates_keep_their_digits),
        cmocka_unit_test(a_full_batch_is_the_gaussian),
        cmocka_unit_test(the_gaussian_survives_cancellation),
        cmocka_unit_test(rdp_has_its_limits_at_the_edges),
        cmocka_unit_test(the_gaussian_has_its_limits_at_the_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
