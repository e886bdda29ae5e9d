/* What one sample can move, and short runs of the audits (test/audit) that `make dp-audit` runs longer.
 *
 * The private sums of D and D + x differ by at most C, for samples chosen to break that: record and replay, after
 * Cebere et al. 2026. */
#include "dp_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "audit/audit.h"
#include "audit/statistics.h"

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
    static const double norms[] = { 1e-3, 1, 50 }, scales[] = { 1, 0.05 };   /* norms above 1, and below it */
    static double with[DP_MAX_ELEMENTS], without[DP_MAX_ELEMENTS];
    int64_t size = TEST_PICK(random, sizes), at = test_range(random, 0, 1) ? size : 0;
    double scale = scales[test_range(random, 0, 1)];
    dp_batch batch = dp_batch_new(random, dtype, size + 1, TEST_PICK(random, positions), scale);
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

/* ---- the audits, with fixed keys and smaller than in make dp-audit ---- */

static void pass(audit_report (*audit)(const audit_options *), int64_t n) {
    const audit_options options = { 1, n };
    const audit_report report = audit(&options);
    if (!report.passed) fail_msg("%s", report.text);
}

static void neighbours_differ_by_the_record_alone(void **state) {
    (void)state;
    pass(audit_records, 300);
}

static void one_step_is_what_sigma_says(void **state) {
    (void)state;
    pass(audit_one_step, 100000);
}

static void one_run_refutes_no_claim(void **state) {
    (void)state;
    pass(audit_one_run, 10000);
}

static void released_noise_has_its_law(void **state) {
    (void)state;
    pass(audit_noise, 1000000);
}

/* P[X <= x] of Beta(1, b) is 1 - (1 - x)^b; deviates by SciPy 1 (binom, chi2, norm). */
static void the_tools_of_the_audits_are_right(void **state) {
    (void)state;
    test_near(beta_below(1, 7, 0.3), 1 - pow(0.7, 7), 1e-13, "beta", 0);
    test_near(beta_below(7, 1, 0.3), pow(0.3, 7), 1e-13, "beta", 1);
    test_near(probability_bound(0, 1000, 0.05), 1 - pow(0.05, 1e-3), 1e-12, "bound", 0);
    test_near(normal_quantile(0.975), 1.959963984540054, 1e-12, "quantile", 0);
    test_near(binomial_at_least(9, 10, 0.5), 11.0 / 1024, 1e-14, "binomial", 0);
    const int64_t many = 100000000;   /* lgamma of it is 1.7e9, to 2e-7 */
    test_near(deviate_of_count(60, many, normal_above(5)), 5.050733812508, 1e-6, "count", 60);
    test_near(deviate_of_count(10, many, normal_above(5)), -3.867463335600, 1e-6, "count", 10);
    test_near(deviate_of_count(15880139, many, normal_above(1)), 3.999241596891, 1e-6, "count", 15880139);
    test_near(deviate_of_count(15850911, many, normal_above(1)), -4.000391003075, 1e-6, "count", 15850911);
    test_near(deviate_of_chi_square(390, 255), 5.191226014569, 0.01, "chi-square", 255);   /* an approximation */
    test_near(deviate_of_chi_square(60, 16), 4.882640353223, 0.08, "chi-square", 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sample_moves_the_sum_by_at_most_c),
        cmocka_unit_test(the_tools_of_the_audits_are_right),
        cmocka_unit_test(neighbours_differ_by_the_record_alone),
        cmocka_unit_test(one_step_is_what_sigma_says),
        cmocka_unit_test(one_run_refutes_no_claim),
        cmocka_unit_test(released_noise_has_its_law),
    };
    return cmocka_run_group_tests_name("dp audit", tests, NULL, NULL);
}
