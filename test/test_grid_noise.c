/* Grid noise: its law, at small scales and at that of the mechanism.  Statistics of n values are held to 4.89 standard
 * errors (a two-sided level of 1e-6) under fixed seeds.  --samples N: that many instead of 1e7. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dp/grid_noise.h"

#define Z 4.89

static size_t samples = 10000000;

static const unsigned char seed[32] = "thirty-two bytes to be seeded by";

static psg_generator *seeded(psg_context *context) {
    psg_generator *generator;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    return generator;
}

static void *array(size_t count, size_t size) {
    void *memory = calloc(count, size);
    assert_non_null(memory);
    return memory;
}

static void draw_to(psg_generator *generator, uint64_t step, uint64_t first, int64_t *z, size_t count) {
    assert_int_equal(psg_discrete_gaussian(generator, step, 1, first, z, count), PSG_OK);
}

static int64_t *draw(psg_generator *generator, uint64_t step, uint64_t first, size_t count) {
    int64_t *z = array(count, sizeof *z);
    draw_to(generator, step, first, z, count);
    return z;
}

/* ---- chi-square ---- */

typedef struct bins {
    double chi, expected, seen;
    int count;
} bins;

/* A bin too thin to be tried waits for the next. */
static void add_bin(bins *b, double expected, double seen) {
    b->expected += expected;
    b->seen += seen;
    if (b->expected < 20) return;
    b->chi += (b->seen - b->expected) * (b->seen - b->expected) / b->expected;
    b->expected = b->seen = 0;
    b->count++;
}

/* The quantile of 1 - 1e-6, by Wilson and Hilferty (1931). */
static void check_bins(const bins *b, const char *what, int64_t where) {
    const double k = b->count - 1, c = 2 / (9 * k);
    const double most = k * pow(1 - c + 4.7534 * sqrt(c), 3);
    if (b->chi > most) print_error("%s %lld: chi-square is %g of %g\n", what, (long long)where, b->chi, k);
    assert_true(b->count > 1 && b->chi <= most);
}

/* ---- small scales: the exact law ---- */

static double weight(double z, double scale) { return exp(-z * z / (2 * scale * scale)); }

static double norm_of(double scale) {
    double sum = 0;
    for (double z = ceil(40 * scale); z > 0; z--) sum += 2 * weight(z, scale);
    return sum + 1;
}

static double variance_of(double scale) {
    double sum = 0;
    for (double z = ceil(40 * scale); z > 0; z--) sum += 2 * z * z * weight(z, scale);
    return sum / norm_of(scale);
}

/* P(0) and variance of D_Z(0, s^2) by mpmath. */
static void the_law_in_this_test_is_right(void **state) {
    (void)state;
    test_near(1 / norm_of(1), .39894227826686171, 1e-15, "P(0), s = 1", 0);
    test_near(weight(1, 1) / norm_of(1), .24197072322446061, 1e-15, "P(1), s = 1", 0);
    test_near(variance_of(1), .99999978876772808, 1e-14, "variance, s = 1", 0);
    test_near(1 / norm_of(.5), .7865707070419479, 1e-15, "P(0), s = 1/2", 0);
    test_near(variance_of(.5), .21501267508813849, 1e-15, "variance, s = 1/2", 0);
    test_near(1 / norm_of(2), .19947114020071634, 1e-15, "P(0), s = 2", 0);
    test_near(variance_of(2), 4, 1e-14, "variance, s = 2", 0);
}

static void check_small(psg_generator *generator, unsigned ratio_bits, unsigned offset_bits) {
    enum { N = 2000000 };
    const double scale = ldexp(1, (int)(ratio_bits + offset_bits)), norm = norm_of(scale);
    const int64_t most = (int64_t)(8 * scale);
    psg_grid_table_make(&generator->grid, ratio_bits, offset_bits);
    int64_t *z = draw(generator, ratio_bits, 0, N), *seen = array((size_t)(2 * most + 1), sizeof *seen);
    for (size_t i = 0; i < N; i++) {
        assert_true(llabs(z[i]) <= most);
        seen[z[i] + most]++;
    }
    bins b = { 0 };
    for (int64_t k = -most; k <= most; k++) {
        add_bin(&b, N * weight((double)k, scale) / norm, (double)seen[k + most]);
    }
    check_bins(&b, "scale", (int64_t)scale);
    free(z), free(seen);
}

static void small_scales_have_the_exact_law(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    check_small(generator, 0, 0);   /* every magnitude a cell */
    check_small(generator, 1, 0);
    check_small(generator, 3, 0);
    check_small(generator, 3, 1);   /* caps are a tenth of the area */
    check_small(generator, 3, 4);
    check_small(generator, 7, 2);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- the scale of the mechanism ---- */

#define SCALE 0x1p36
#define QUARTER 27            /* log2 of a quarter of a cell */
#define REACH ((int)1792)     /* quarters in 3.5 S: what is beyond is one bin */
#define LOW_BITS 9

typedef struct tally {
    double moment[5], in_cell;      /* sums of powers of z / S, and of (offset / w - 1/2) j */
    double quarter[2 * REACH + 1];  /* by floor(z / quarter), the rest last */
    double low[1 << LOW_BITS], beyond[8];
    double odd_signs[30];           /* where bit k of |z| is the sign */
} tally;

static void count_one(tally *t, int64_t z) {
    const double x = (double)z / SCALE;
    const uint64_t m = (uint64_t)llabs(z), cell = m >> 29;
    double power = 1;
    for (int k = 1; k < 5; k++) t->moment[k] += power *= x;
    t->in_cell += (ldexp((double)(m & 0x1fffffff), -29) - .5) * (double)cell;
    const int64_t quarter = (z >> QUARTER) + REACH;
    t->quarter[quarter >= 0 && quarter < 2 * REACH ? quarter : 2 * REACH]++;
    t->low[m % (1 << LOW_BITS)]++;
    for (int k = 0; k < 30; k++) t->odd_signs[k] += (m >> k & 1) ^ (z < 0);
    for (int k = 1; k < 8; k++) t->beyond[k] += fabs(x) > k;
}

static tally *count_samples(size_t n) {
    enum { CHUNK = 1 << 18 };
    psg_context *context = test_context(2, NULL);
    psg_generator *generator = seeded(context);
    int64_t *z = array(CHUNK, sizeof *z);
    tally *t = array(1, sizeof *t);
    for (size_t first = 0; first < n; first += CHUNK) {
        const size_t count = n - first < CHUNK ? n - first : CHUNK;
        draw_to(generator, 3, first, z, count);
        for (size_t i = 0; i < count; i++) count_one(t, z[i]);
    }
    free(z);
    psg_generator_destroy(generator);
    test_context_free(context);
    return t;
}

static void check_moments(const tally *t, double n) {
    const double error = Z / sqrt(n);
    test_near(t->moment[1] / n, 0, error, "mean", 0);
    test_near(t->moment[2] / n, 1, error * sqrt(2), "variance", 0);
    test_near(t->moment[3] / n, 0, error * sqrt(15), "third moment", 0);
    test_near(t->moment[4] / n, 3, error * sqrt(96), "fourth moment", 0);
}

/* With a Poisson count's leave of a few for the rarest. */
static void check_tails(const tally *t, double n) {
    for (int k = 1; k < 8; k++) {
        const double p = erfc(k / sqrt(2));
        test_near(t->beyond[k], n * p, Z * sqrt(n * p * (1 - p)) + 8, "beyond deviation", k);
    }
}

static void check_quarters(const tally *t, double n) {
    bins b = { 0 };
    const double width = ldexp(1, QUARTER) / SCALE;
    for (int k = 0; k < 2 * REACH; k++) {
        const double from = fabs((k - REACH) * width), to = fabs((k + 1 - REACH) * width);
        add_bin(&b, n * fabs(erfc(from / sqrt(2)) - erfc(to / sqrt(2))) / 2, t->quarter[k]);
    }
    add_bin(&b, n * erfc(REACH * width / sqrt(2)), t->quarter[2 * REACH]);
    check_bins(&b, "quarters of cells", 0);
}

/* In cell j the density falls by the slope -(j + 1/2) / 128^2 per cell, to second order: E (t/w - 1/2) = slope / 12. */
static void check_slope_in_cells(const tally *t, double n) {
    double mean = 0, square = 0;
    for (double j = 0; j < 2048; j++) {
        const double p = erfc(j / 128 / sqrt(2)) - erfc((j + 1) / 128 / sqrt(2));
        mean -= p * j * (j + .5) / (12 * 128 * 128);
        square += p * j * j / 12;
    }
    test_near(t->in_cell / n, mean, Z * sqrt(square / n), "slope in cells", 0);
    assert_true(fabs(mean) > Z * sqrt(square / n));   /* flat cells would be told from these */
}

static void check_low_bits(const tally *t, double n) {
    bins b = { 0 };
    double even = 0;
    for (int k = 0; k < 1 << LOW_BITS; k++) {
        add_bin(&b, n / (1 << LOW_BITS), t->low[k]);
        even += k % 2 ? 0 : t->low[k];
    }
    check_bins(&b, "low bits", 0);
    test_near(even / n, .5, Z / sqrt(4 * n), "parity", 0);
    for (int k = 0; k < 30; k++) test_near(t->odd_signs[k] / n, .5, Z / sqrt(4 * n), "sign and bit", k);
}

static void noise_has_its_law(void **state) {
    (void)state;
    const double n = (double)samples;
    tally *t = count_samples(samples);
    check_moments(t, n);
    check_tails(t, n);
    check_quarters(t, n);
    check_slope_in_cells(t, n);
    check_low_bits(t, n);
    free(t);
}

static double correlation(const int64_t *x, const int64_t *y, size_t n, double about) {
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        double a = (double)x[i] / SCALE, b = (double)y[i] / SCALE;
        if (about != 0) a = a * a - about, b = b * b - about;
        xy += a * b;
        xx += a * a;
        yy += b * b;
    }
    return xy / sqrt(xx * yy);
}

static void noise_is_uncorrelated(void **state) {
    (void)state;
    enum { N = 500000 };
    const double bound = Z / sqrt(N);
    const size_t lags[] = { 1, 2, 3, 4, 7, 8, 9, 16, 4096 };
    psg_context *context = test_context(2, NULL);
    psg_generator *generator = seeded(context);
    int64_t *x = draw(generator, 0, 0, N + 4096), *step = draw(generator, 1, 0, N);
    int64_t *far = draw(generator, 0, (uint64_t)1 << 36, N), *parameter = array(N, sizeof *parameter);
    assert_int_equal(psg_discrete_gaussian(generator, 0, 2, 0, parameter, N), PSG_OK);
    for (int about = 0; about < 2; about++) {
        for (size_t k = 0; k < sizeof lags / sizeof *lags; k++) {
            test_near(correlation(x, x + lags[k], N, about), 0, bound, "lag", (int64_t)lags[k]);
        }
        test_near(correlation(x, step, N, about), 0, bound, "steps", about);
        test_near(correlation(x, parameter, N, about), 0, bound, "parameters", about);
        test_near(correlation(x, far, N, about), 0, bound, "coordinates 2^36 apart", about);
    }
    free(x), free(step), free(far), free(parameter);
    psg_generator_destroy(generator);
    test_context_free(context);
}

int main(int count, char **arguments) {
    if (count == 3 && !strcmp(arguments[1], "--samples")) samples = strtoull(arguments[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_law_in_this_test_is_right),
        cmocka_unit_test(small_scales_have_the_exact_law),
        cmocka_unit_test(noise_has_its_law),
        cmocka_unit_test(noise_is_uncorrelated),
    };
    return cmocka_run_group_tests_name("grid noise", tests, NULL, NULL);
}
