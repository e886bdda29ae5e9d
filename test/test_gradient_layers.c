/* Clipping layer by layer: uppers that are added, factors from their total, a weighted sum a layer. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 33 };

typedef struct layered {
    double total[B], factors[B];
    psg_clip_report report;
    double *sum;                /* all layers' */
} layered;

/* As a program does that frees a layer's arrays before the next, and computes them again for the sums. */
static void clip_by_layers(psg_context *context, const fixture *f, const psg_clip *clip, layered *l) {
    double square[B], upper[B];
    *l = (layered){ .sum = calloc((size_t)f->total, sizeof *l->sum) };
    for (size_t k = 0; k < f->count; k++) {
        TEST_OK(context, psg_sqnorm(context, &f->pointer[k], 1, square, upper, NULL));
        psg_add_upper(f->batch_size, upper, l->total);
    }
    TEST_OK(context, psg_clip_factors(context, clip, l->total, f->batch_size, l->factors, &l->report));
    for (size_t k = 0; k < f->count; k++) {
        psg_tensor out = psg_tensor_of(PSG_F64, l->sum + f->start[k], f->gradient[k].rank, f->gradient[k].shape);
        TEST_OK(context, psg_weighted_sum(context, &f->pointer[k], 1, l->factors, PSG_OVERWRITE, &out));
    }
}

static void clip_at_once(psg_context *context, const fixture *f, const psg_clip *clip, layered *l) {
    psg_tensor outs[FIXTURE_GRADIENTS];
    *l = (layered){ .sum = calloc((size_t)f->total, sizeof *l->sum) };
    for (size_t k = 0; k < f->count; k++) {
        outs[k] = psg_tensor_of(PSG_F64, l->sum + f->start[k], f->gradient[k].rank, f->gradient[k].shape);
    }
    TEST_OK(context, psg_clipped_sum(context, f->pointer, f->count, clip, PSG_OVERWRITE, outs, l->total, l->factors,
                                     &l->report));
}

static void set_sample(const fixture *f, size_t array, int64_t n, double value) {
    const psg_tensor *x = &f->array[array].view;
    int64_t row = psg_tensor_count(x) / x->shape[0];
    for (int64_t e = 0; e < row; e++) test_set_at(x, n * row + e, value);
}

static void compare_reports(const psg_clip_report *a, const psg_clip_report *b, double bound) {
    assert_int_equal(a->clipped, b->clipped);
    assert_int_equal(a->removed, b->removed);
    test_near(a->mean_norm, b->mean_norm, bound * b->mean_norm, "mean_norm", 0);
    test_near(a->max_norm, b->max_norm, bound * b->max_norm, "max_norm", 0);
}

/* Two certified bounds of one norm are as far apart as rounding in the real type may move it: a weight and its bias
 * have one bound where they are in one set. */
static double apart(const fixture *f, int64_t n) {
    double mass = 0, norm = (double)sqrtl(fixture_sqnorm(f, n));
    for (size_t k = 0; k < f->count; k++) mass += f->mass[(size_t)n * f->count + k];
    double share = norm > 0 ? mass / norm : 0;
    return 1e-12 + test_gamma(f->dtype, f->positions + f->features + 8) * share * share;
}

static void layers_clip_as_all_at_once(void **state) {
    (void)state;
    test_random random = { 1 };
    for (int round = 0; round < 24; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        if (round % 3) set_sample(&f, round % 3 == 1 ? 0 : 2, 4, round % 4 ? NAN : INFINITY);
        set_sample(&f, 0, 7, 0);
        set_sample(&f, 2, 7, 0);
        fixture_refresh(&f);
        psg_context *context = test_context(2, NULL);
        psg_clip clip = { .max_grad_norm = round % 5 ? 0.1 * f.features : 1e6, .max_batch_size = round % 2 ? 0 : B };
        layered layers, once;
        clip_by_layers(context, &f, &clip, &layers);
        clip_at_once(context, &f, &clip, &once);
        double most = 0;
        for (int n = 0; n < B; n++) {
            double bound = isfinite(f.mass[n * 3]) && isfinite(f.mass[n * 3 + 2]) ? apart(&f, n) : 0;
            test_near(layers.factors[n], once.factors[n], bound * once.factors[n], "factor", n);
            most = fmax(most, bound);
        }
        for (int64_t e = 0; e < f.total; e++) {
            test_near(layers.sum[e], once.sum[e], B * most * clip.max_grad_norm, "sum", e);
        }
        compare_reports(&layers.report, &once.report, most);
        assert_true((layers.factors[4] == 0) == (round % 3 != 0) && layers.factors[7] == 1);
        free(layers.sum);
        free(once.sum);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

static double distance(const double *a, const double *b, int64_t count) {
    long double sum = 0;
    for (int64_t e = 0; e < count; e++) sum += ((long double)a[e] - b[e]) * ((long double)a[e] - b[e]);
    return (double)sqrtl(sum);
}

static void a_sample_moves_layered_sums_by_at_most_c(void **state) {
    (void)state;
    test_random random = { 2 };
    int64_t kept[B];
    for (int64_t n = 0; n < B; n++) kept[n] = n;
    for (int round = 0; round < 24; round++) {
        fixture with, without;
        fixture_draw_layer(&with, &random, round, B);
        if (round % 2) set_sample(&with, 0, B - 1, with.dtype == PSG_F32 ? 3e15 : 1e60);
        fixture_select(&without, &with, kept, B - 1);
        psg_context *context = test_context(1, NULL);
        psg_clip clip = { .max_grad_norm = 0.3, .max_batch_size = B };
        layered a, b;
        clip_by_layers(context, &with, &clip, &a);
        clip_by_layers(context, &without, &clip, &b);
        double moved = distance(a.sum, b.sum, with.total);
        if (!(moved <= 0.3 && moved > 0.28)) fail_msg("round %d: moved by %.17g C", round, moved / 0.3);
        assert_memory_equal(a.factors, b.factors, (B - 1) * sizeof(double));
        free(a.sum);
        free(b.sum);
        psg_context_destroy(context);
        fixture_free(&with);
        fixture_free(&without);
    }
}

/* One layer's NaN removes the sample from all, as if its rows were zero. */
static void a_removed_sample_leaves_no_trace_in_any_layer(void **state) {
    (void)state;
    test_random random = { 3 };
    for (int round = 0; round < 16; round++) {
        fixture f;
        fixture_draw_layer(&f, &random, round, B);
        psg_context *context = test_context(2, NULL);
        psg_clip clip = { .max_grad_norm = 0.5, .max_batch_size = 64 };
        layered poisoned, zero;
        set_sample(&f, 2, 5, round % 2 ? NAN : INFINITY);
        clip_by_layers(context, &f, &clip, &poisoned);
        set_sample(&f, 0, 5, 0);
        set_sample(&f, 2, 5, 0);
        clip_by_layers(context, &f, &clip, &zero);
        assert_int_equal(poisoned.report.removed, 1);
        assert_int_equal(zero.report.removed, 0);
        assert_memory_equal(poisoned.sum, zero.sum, (size_t)f.total * sizeof *zero.sum);
        free(poisoned.sum);
        free(zero.sum);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

/* ---- the factors alone ---- */

static void factors_are_functions_of_the_bound(void **state) {
    (void)state;
    const double upper[] = { 0, 1, 4, 4.0000001, 1e300, 1e-300, NAN, INFINITY, 25, -1 };
    enum { COUNT = sizeof upper / sizeof upper[0] };
    psg_context *context = test_context(1, NULL);
    psg_clip clip = { .max_grad_norm = 2, .max_batch_size = COUNT };
    psg_clip_report report;
    double factors[COUNT], in_place[COUNT];
    TEST_OK(context, psg_clip_factors(context, &clip, upper, COUNT, factors, &report));
    for (int k = 0; k < COUNT; k++) {
        bool removed = isnan(sqrt(upper[k])) || isinf(upper[k]);
        double expected = removed ? 0 : fmin(1, 2 / sqrt(upper[k]));
        test_near(factors[k], expected, 1e-11 * expected, "factor", k);
        if (!removed && upper[k] > 0) assert_true(factors[k] * sqrtl(upper[k]) <= 2);
    }
    assert_true(report.removed == 3 && report.clipped == 3 && report.fallbacks == 0);
    test_near(report.max_norm, 1e150, 1e137, "max_norm", 0);
    test_near(report.mean_norm, 1e150 / 7, 1e137, "mean_norm", 0);
    memcpy(in_place, upper, sizeof upper);
    TEST_OK(context, psg_clip_factors(context, &clip, in_place, COUNT, in_place, NULL));
    assert_memory_equal(in_place, factors, sizeof factors);
    TEST_OK(context, psg_clip_factors(context, &clip, NULL, 0, NULL, &report));
    assert_true(report.removed == 0 && report.mean_norm == 0 && report.max_norm == 0);
    clip.max_grad_norm = INFINITY;
    TEST_OK(context, psg_clip_factors(context, &clip, upper, COUNT, factors, &report));
    for (int k = 0; k < COUNT; k++) assert_true(factors[k] == (isnan(sqrt(upper[k])) || isinf(upper[k]) ? 0 : 1));
    assert_int_equal(report.clipped, 0);
    psg_context_destroy(context);
}

static void bad_factors_are_refused(void **state) {
    (void)state;
    static const struct { psg_clip clip; int64_t batch; const char *word; int missing; } cases[] = {
        { { 1, 8, PSG_CLIP_FLAT, 0, { 0 } }, 4, "clip is NULL", 1 },
        { { 1, 8, PSG_CLIP_FLAT, 0, { 0 } }, 4, "upper", 2 },
        { { 1, 8, PSG_CLIP_FLAT, 0, { 0 } }, 4, "factors", 4 },
        { { 1, 8, PSG_CLIP_FLAT, 0, { 0 } }, -1, "batch_size is -1", 0 },
        { { 1, 3, PSG_CLIP_FLAT, 0, { 0 } }, 4, "max_batch_size is 3", 0 },
        { { 0, 8, PSG_CLIP_FLAT, 0, { 0 } }, 4, "max_grad_norm", 0 },
        { { NAN, 8, PSG_CLIP_FLAT, 0, { 0 } }, 4, "max_grad_norm", 0 },
        { { 1e101, 8, PSG_CLIP_FLAT, 0, { 0 } }, 4, "1e100", 0 },
        { { 1e-101, 8, PSG_CLIP_FLAT, 0, { 0 } }, 4, "1e-100", 0 },
        { { 1, -1, PSG_CLIP_FLAT, 0, { 0 } }, 4, "max_batch_size", 0 },
        { { 1, 50000000, PSG_CLIP_FLAT, 0, { 0 } }, 4, "margin", 0 },
        { { 1, 8, (psg_clipping)3, 0, { 0 } }, 4, "clipping is 3", 0 },
        { { 1, 8, PSG_CLIP_AUTOMATIC, -1, { 0 } }, 4, "stability is -1", 0 },
        { { INFINITY, 8, PSG_CLIP_NORMALIZED, 0, { 0 } }, 4, "max_grad_norm", 0 },
    };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        double upper[4] = { 1, 2, 3, 4 }, factors[4] = { 7, 7, 7, 7 };
        psg_clip_report report = { 7, 7, 7, 7, 7, { 0 } };
        int missing = cases[k].missing;
        psg_status status = psg_clip_factors(context, missing & 1 ? NULL : &cases[k].clip, missing & 2 ? NULL : upper,
                                             cases[k].batch, missing & 4 ? NULL : factors, &report);
        test_status(context, status, PSG_ERR_ARGUMENT, cases[k].word);
        const char *message = psg_context_message(context);
        if (!strstr(message, cases[k].word) || strncmp(message, "psg_clip_factors: ", 18)) fail_msg("%s", message);
        assert_true(factors[0] == 7 && factors[3] == 7 && report.removed == 7 && report.max_norm == 7);
    }
    double one = 1;
    assert_int_equal(psg_clip_factors(NULL, &cases[0].clip, &one, 1, &one, NULL), PSG_ERR_ARGUMENT);
    psg_context_destroy(context);
}

static void uppers_are_added_upwards(void **state) {
    (void)state;
    test_random random = { 4 };
    for (int k = 0; k < 1000; k++) {
        double upper = exp(40 * test_normal(&random)), total = exp(40 * test_normal(&random));
        long double truth = (long double)total + upper;   /* rounded to 64 bits */
        psg_add_upper(1, &upper, &total);
        if (!(total >= truth * (1 + 0x1p-63L) && total <= truth * (1 + 0x1p-50L))) fail_msg("%g and %g", upper, total);
    }
    double upper[] = { NAN, 1, INFINITY, 0, 1.7e308 }, total[] = { 1, NAN, 1, 0, 1.7e308 };
    psg_add_upper(5, upper, total);
    assert_true(isnan(total[0]) && isnan(total[1]) && isinf(total[2]) && total[3] == 0 && isinf(total[4]));
    psg_add_upper(0, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_clip_as_all_at_once),
        cmocka_unit_test(a_sample_moves_layered_sums_by_at_most_c),
        cmocka_unit_test(a_removed_sample_leaves_no_trace_in_any_layer),
        cmocka_unit_test(factors_are_functions_of_the_bound),
        cmocka_unit_test(bad_factors_are_refused),
        cmocka_unit_test(uppers_are_added_upwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
