/* Audits of the private step from outside: what one sample can move, and what an attacker can tell.
 *
 * Record and replay (after Cebere et al. 2026): the private sums of D and D + x differ by at most C, for samples chosen
 * to break that.  White box (Nasr et al. 2023): an attacker who sees releases of D and of D + x, with x a canary of
 * norm C, cannot tell them apart better than noise of the declared multiplier allows, and not much worse either. */
#include "dp_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- record and replay ---- */

typedef enum kind {
    NORMAL,
    ZERO,
    HUGE_VALUES,
    TINY,
    ONE_NAN,
    ONE_INFINITY,
    ONE_HOT,
    CANCELLING,
    COMMON_MEAN,
    KINDS
} kind;

static void set3(const psg_tensor *x, int64_t n, int64_t t, int64_t i, double value) {
    test_set_at(x, (n * x->shape[1] + t) * x->shape[2] + i, value);
}

/* Large tokens whose products cancel in pairs but for a small rest: ghost norms lose every digit here. */
static void set_cancelling(test_random *random, dp_batch *b, int64_t n) {
    for (int64_t t = 0; t < b->t; t++) {
        for (int64_t j = 0; j < b->d; j++) set3(&b->a.view, n, t, j, 700 + 1e-3 * test_normal(random));
        for (int64_t i = 0; i < b->p; i++) set3(&b->g.view, n, t, i, (t % 2 ? -700 : 700) + 1e-3 * test_normal(random));
    }
}

/* Activations around one mean, gradients that sum to almost nothing over the positions. */
static void set_common_mean(test_random *random, dp_batch *b, int64_t n) {
    for (int64_t j = 0; j < b->d; j++) {
        double mean = 30 * test_normal(random);
        for (int64_t t = 0; t < b->t; t++) set3(&b->a.view, n, t, j, mean + 0.01 * test_normal(random));
    }
    for (int64_t i = 0; i < b->p; i++) {
        double rest = 0;
        for (int64_t t = 0; t < b->t; t++) {
            double value = t + 1 < b->t ? test_normal(random) : -rest;
            set3(&b->g.view, n, t, i, value);
            rest += value;
        }
    }
}

static void poison(test_random *random, dp_batch *b, int64_t n, kind kind) {
    const double value[KINDS] = { [HUGE_VALUES] = 1e30, [TINY] = 1e-42, [ONE_NAN] = NAN, [ONE_INFINITY] = INFINITY };
    if (kind == ZERO || kind == HUGE_VALUES || kind == TINY) dp_batch_set_sample(b, n, value[kind]);
    if (kind == ONE_NAN || kind == ONE_INFINITY) set3(&b->a.view, n, b->t - 1, b->d - 1, value[kind]);
    if (kind == ONE_HOT) {
        dp_batch_set_sample(b, n, 0);
        set3(&b->g.view, n, 0, 0, 1e4);
        set3(&b->a.view, n, 0, 0, 1e4);
    }
    if (kind == CANCELLING) set_cancelling(random, b, n);
    if (kind == COMMON_MEAN) set_common_mean(random, b, n);
}

/* The sums of samples [first, first + count), at one sum a release: no noise, divisor 1. */
static void private_sum(psg_context *context, const psg_dp_options *options, const dp_batch *batch, int64_t first,
                        int64_t count, double *sum) {
    dp_run run = dp_run_new(context, options, batch, 1);
    TEST_OK(context, dp_run_add(&run, batch, first, count));
    TEST_OK(context, dp_run_release(&run, sum));
    dp_run_free(&run);
}

static double distance(const double *x, const double *y, int64_t n) {
    long double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ((long double)x[i] - y[i]) * ((long double)x[i] - y[i]);
    return (double)sqrtl(sum);
}

/* One sample more than `size`, at the end or at the front, where it shifts all others. */
static void check_pair(psg_context *context, test_random *random, psg_dtype dtype) {
    static const int64_t sizes[] = { 0, 1, 2, 63, 64, 65 }, positions[] = { 1, 2, 3, 16, 40 };
    static const double norms[] = { 1e-3, 1, 50 };
    static double with[DP_MAX_ELEMENTS], without[DP_MAX_ELEMENTS];
    int64_t size = TEST_PICK(random, sizes), at = test_range(random, 0, 1) ? size : 0;
    dp_batch batch = dp_batch_new(random, dtype, size + 1, TEST_PICK(random, positions), 1);
    for (int64_t n = 0; n <= size; n++) {
        if (n == at || test_range(random, 0, 3) == 0) poison(random, &batch, n, (kind)test_range(random, 0, KINDS - 1));
    }
    psg_dp_options options = dp_external(norms[test_range(random, 0, 2)], 0, 1, 100);
    private_sum(context, &options, &batch, 0, size + 1, with);
    private_sum(context, &options, &batch, at ? 0 : 1, size, without);
    double moved = distance(with, without, dp_batch_elements(&batch)), c = options.max_grad_norm;
    if (!(moved <= c * (1 + 0x1p-36 * sqrt((double)dp_batch_elements(&batch)) / 2))) {   /* and its rounding */
        fail_msg("one sample moved the sum by %.17g, C is %g (%s, B %lld, T %lld, p %lld, d %lld)", moved,
                 options.max_grad_norm, psg_dtype_name(dtype), (long long)size, (long long)batch.t, (long long)batch.p,
                 (long long)batch.d);
    }
    dp_batch_free(&batch);
}

static void one_sample_moves_the_sum_by_at_most_c(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "identity", "gram", "tiles" };
    test_random random = { 2024 };
    psg_context *context = test_context(1, NULL);
    for (size_t route = 0; route < COUNT(routes); route++) {
        TEST_OK(context, psg_context_force_route(context, routes[route]));
        for (int pair = 0; pair < 250; pair++) check_pair(context, &random, pair % 3 ? PSG_F32 : PSG_F64);
    }
    test_context_free(context);
}

/* ---- what an attacker can tell ---- */

enum { SCORES = 20000, HALF = SCORES / 2 };

/* The regularised incomplete beta function by its continued fraction (Lentz), a, b >= 1. */
static double beta_fraction(double a, double b, double x) {
    double f = 1, c = 1, d = 0;
    for (int k = 0; k < 2000; k++) {
        int m = k / 2;
        double term = k == 0 ? 1 : k % 2 ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                         : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / (1 + term * d);
        c = 1 + term / c;
        f *= c * d;
        if (k && fabs(c * d - 1) < 1e-14) break;
    }
    return f - 1;
}

static double beta_below(double a, double b, double x) {
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* An upper bound on the probability of an event seen `hits` times in n, at level 1 - level (Clopper and Pearson). */
static double probability_bound(int hits, int n, double level) {
    double low = 0, high = 1;
    if (hits == n) return 1;
    for (int k = 0; k < 60; k++) {
        double middle = (low + high) / 2;
        if (beta_below(hits + 1, n - hits, middle) < 1 - level) low = middle;
        else high = middle;
    }
    return high;
}

static double normal_quantile(double p) {
    double low = -40, high = 40;
    for (int k = 0; k < 100; k++) {
        double middle = (low + high) / 2;
        if (erfc(-middle / sqrt(2)) / 2 < p) low = middle;
        else high = middle;
    }
    return high;
}

static int count_above(const double *scores, int n, double threshold) {
    int count = 0;
    for (int i = 0; i < n; i++) count += scores[i] > threshold;
    return count;
}

/* Lower bound on mu of Gaussian differential privacy, from scores without and with the canary: half of them choose the
 * threshold, the others are counted. */
static double mu_bound(const double *out, const double *in) {
    double best = -1, threshold = 0, level = 0.5e-6;
    for (double t = -4; t < 5; t += 0.05) {
        double fpr = probability_bound(count_above(out, HALF, t), HALF, level);
        double fnr = probability_bound(HALF - count_above(in, HALF, t), HALF, level);
        double mu = fpr < 1 && fnr < 1 ? -normal_quantile(fpr) - normal_quantile(fnr) : -1;
        if (mu > best) {
            best = mu;
            threshold = t;
        }
    }
    double fpr = probability_bound(count_above(out + HALF, HALF, threshold), HALF, level);
    double fnr = probability_bound(HALF - count_above(in + HALF, HALF, threshold), HALF, level);
    return -normal_quantile(fpr) - normal_quantile(fnr);
}

/* Releases of one sample along coordinate 0 of five, with or without a canary of norm above C along coordinate 1. */
static void attack(psg_context *context, const psg_dp_options *options, unsigned char seed, int64_t samples,
                   double *scores) {
    const float rows[2][5] = { { 3, 0, 0, 0, 0 }, { 0, 9, 0, 0, 0 } };
    const int64_t five[] = { 5 };
    const unsigned char key[32] = { seed };
    double released[5];
    psg_tensor view = psg_f32_2d(rows[0], samples, 5), out = psg_tensor_of(PSG_F64, released, 1, five);
    psg_block block = psg_rows(&view);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, five);
    const psg_gradient *list[] = { &gradient };
    psg_generator *generator;
    psg_dp *dp;
    TEST_OK(context, psg_generator_create_seeded(context, key, &generator));
    TEST_OK(context, psg_dp_create(context, generator, options, five, 1, &dp));
    for (int i = 0; i < SCORES; i++) {
        psg_batch batch = dp_take(context, dp, 0, samples);
        TEST_OK(context, psg_dp_accumulate(dp, &batch, list, 1, NULL));
        TEST_OK(context, psg_dp_release(dp, &out, 1));
        scores[i] = released[1] * options->expected_batch_size / options->max_grad_norm;
    }
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
}

static void an_attacker_learns_what_was_declared(void **state) {
    (void)state;
    static double out[SCORES], in[SCORES];
    static const double sigmas[] = { 0.5, 1 };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < COUNT(sigmas); k++) {
        psg_dp_options options = dp_external(0.7, sigmas[k], 4, 8);
        attack(context, &options, (unsigned char)(2 * k), 1, out);
        attack(context, &options, (unsigned char)(2 * k + 1), 2, in);
        double mu = mu_bound(out, in) * sigmas[k];
        if (!(mu >= 0.75 && mu <= 1)) fail_msg("mu is at least %g / sigma, must be in [0.75, 1] / sigma", mu);
    }
    test_context_free(context);
}

/* The bounds above, at values with closed forms: P[X <= x] of Beta(1, b) is 1 - (1 - x)^b. */
static void the_tools_of_the_audit_are_right(void **state) {
    (void)state;
    test_near(beta_below(1, 7, 0.3), 1 - pow(0.7, 7), 1e-13, "beta", 0);
    test_near(beta_below(7, 1, 0.3), pow(0.3, 7), 1e-13, "beta", 1);
    test_near(probability_bound(0, 1000, 0.05), 1 - pow(0.05, 1e-3), 1e-12, "bound", 0);
    test_near(normal_quantile(0.975), 1.959963984540054, 1e-12, "quantile", 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sample_moves_the_sum_by_at_most_c),
        cmocka_unit_test(the_tools_of_the_audit_are_right),
        cmocka_unit_test(an_attacker_learns_what_was_declared),
    };
    return cmocka_run_group_tests_name("dp audit", tests, NULL, NULL);
}
