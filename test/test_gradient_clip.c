/* Clipped sums: contributions that stay within C, samples with NaN and Inf removed without a trace. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Concatenated clipped sum of a set, in double; factors (or NULL) and report as in psg_clipped_sum. */
static double *clipped(psg_context *context, const fixture *f, const psg_clip *clip, double *factors,
                       psg_clip_report *report) {
    double *sum = calloc((size_t)f->total, sizeof *sum);
    psg_tensor outs[FIXTURE_GRADIENTS];
    for (size_t k = 0; k < f->count; k++) {
        outs[k] = psg_tensor_of(PSG_F64, sum + f->start[k], f->gradient[k].rank, f->gradient[k].shape);
    }
    TEST_OK(context, psg_clipped_sum(context, f->pointer, f->count, clip, PSG_OVERWRITE, outs, NULL, factors, report));
    return sum;
}

static void set_sample(const fixture *f, int64_t n, double value) {
    for (size_t k = 0; k < f->array_count; k++) {
        const psg_tensor *operand = &f->array[k].view;
        int64_t row = psg_tensor_count(operand) / operand->shape[0];
        for (int64_t e = 0; e < row; e++) test_set_at(operand, n * row + e, value);
    }
}

typedef enum poison {
    RANDOM_SAMPLE, ZERO_SAMPLE, HUGE_SAMPLE, DENORMAL_SAMPLE, NAN_SAMPLE, INF_SAMPLE, ONE_NAN, ONE_INF, ONE_HOT,
    CANCELLING_SAMPLE, OVERFLOWING_SAMPLE, POISONS
} poison;

static void set_one(const fixture *f, int64_t n, double value) {
    const psg_tensor *g = &f->array[0].view;
    int64_t row = psg_tensor_count(g) / g->shape[0];
    test_set_at(g, n * row + row / 2, value);
}

static void make_cancelling(const fixture *f, int64_t n) {
    for (size_t k = 0; k < f->array_count; k++) {
        const psg_tensor *x = &f->array[k].view;
        for (int64_t t = 0; t < x->shape[1]; t++) {
            for (int64_t j = 0; j < x->shape[2]; j++) {
                double value = k == 1 ? 700 + (double)j : (t % 2 ? -1 : 1) * (300 + (double)(j * (t / 2)));
                test_set(x, (int64_t[]){ n, t, j }, value);
            }
        }
    }
}

static void poison_sample(const fixture *f, int64_t n, poison kind) {
    switch (kind) {
    case ZERO_SAMPLE: set_sample(f, n, 0); break;
    case HUGE_SAMPLE: set_sample(f, n, f->dtype == PSG_F32 ? 1e18 : 1e70); break;
    case DENORMAL_SAMPLE: set_sample(f, n, 1e-42); break;
    case NAN_SAMPLE: set_sample(f, n, NAN); break;
    case INF_SAMPLE: set_sample(f, n, INFINITY); break;
    case ONE_NAN: set_one(f, n, NAN); break;
    case ONE_INF: set_one(f, n, -INFINITY); break;
    case ONE_HOT: set_sample(f, n, 0); set_one(f, n, 5); break;
    case CANCELLING_SAMPLE: make_cancelling(f, n); break;
    case OVERFLOWING_SAMPLE: set_sample(f, n, f->dtype == PSG_F32 ? 1e30 : 1e300); break;
    default: break;
    }
}

static bool is_removed(poison kind) { return kind >= NAN_SAMPLE && kind <= ONE_INF; }

static double distance(const double *a, const double *b, int64_t count) {
    long double sum = 0;
    for (int64_t e = 0; e < count; e++) sum += ((long double)a[e] - b[e]) * ((long double)a[e] - b[e]);
    return (double)sqrtl(sum);
}

/* D and D + x, in one batch size and in two: the sums differ by at most C. */
static void one_sample_moves_the_sum_by_at_most_c(void **state) {
    (void)state;
    test_random random = { 6 };
    for (int k = 0; k < POISONS * 24; k++) {
        int64_t batch = (int64_t[]){ 1, 2, 5, 33 }[k / POISONS % 4];
        fixture with, without;
        int64_t positions = (int64_t[]){ 1, 2, 17 }[k % 3];
        fixture_layer(&with, &random, k / POISONS % 3 ? PSG_F32 : PSG_F64, batch, positions, 33, 17);
        int64_t victim = test_range(&random, 0, batch - 1), kept[33], kept_count = 0;
        poison_sample(&with, victim, (poison)(k % POISONS));
        for (int64_t n = 0; n < batch; n++) if (n != victim) kept[kept_count++] = n;
        fixture_select(&without, &with, kept, kept_count);
        psg_context *context = test_context(1, NULL);
        psg_clip clip = { .max_grad_norm = test_range(&random, 0, 1) ? 1.0 : 1e-3, .max_batch_size = 64 };
        psg_clip_report report;
        double *a = clipped(context, &with, &clip, NULL, &report), *b = clipped(context, &without, &clip, NULL, NULL);
        double moved = distance(a, b, with.total);
        if (!(moved <= clip.max_grad_norm)) {
            fail_msg("poison %d, B %lld: the sum moved by %.17g C", k % POISONS, (long long)batch,
                     moved / clip.max_grad_norm);
        }
        if (is_removed((poison)(k % POISONS))) assert_int_equal(report.removed, 1);
        free(a);
        free(b);
        psg_context_destroy(context);
        fixture_free(&with);
        fixture_free(&without);
    }
}

/* From 1e-22 to 1e26 an element, positions and scales included: what is not removed contributes at most C, and nearly C
 * when it is clipped. */
static void check_contribution(psg_context *context, test_random *random, double size, bool one_hot, int64_t positions,
                               double scale, const char *route) {
    fixture f;
    fixture_single(&f, random, PSG_F32, FIXTURE_WHOLE, 1, positions, 9, 40, TEST_CONTIGUOUS);
    for (int k = 0; k < 2; k++) {
        int64_t count = psg_tensor_count(&f.array[k].view), row = f.array[k].view.shape[f.array[k].view.rank - 1];
        for (int64_t e = 0; e < count; e++) {
            double value = one_hot ? (e % row ? 0 : size) : size * (1 + 0.1 * test_uniform(random));
            test_set_at(&f.array[k].view, e, value);
        }
    }
    f.block[0][0].scale = scale;
    fixture_refresh(&f);
    TEST_OK(context, psg_context_force_route(context, route));
    psg_clip clip = { .max_grad_norm = 1.0 };
    psg_clip_report report;
    double *sum = clipped(context, &f, &clip, NULL, &report), *zero = calloc((size_t)f.total, sizeof *zero);
    double norm = distance(sum, zero, f.total), truth = (double)sqrtl(fixture_sqnorm(&f, 0));
    if (!(norm <= 1.0) || (!report.removed && truth > 1 && norm < 0.9)) {
        fail_msg("size %g, T = %lld, scale %g, route %s: norm %.6g contributes %.9g C", size, (long long)positions,
                 scale, route ? route : "of the plan", truth, norm);
    }
    assert_true(!report.removed || truth > 1e30);
    free(sum);
    free(zero);
    fixture_free(&f);
}

static void contributions_of_any_size_stay_within_c(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "gram", "tiles", "keep", "recompute" };
    static const double scales[] = { 1, 33, 1e-6, 1e10 };
    static const int64_t positions[] = { 1, 2, 8, 300 };
    test_random random = { 11 };
    psg_context *context = test_context_with(NULL, 1, NULL, (size_t)1 << 20);
    for (int exponent = -22; exponent <= 26; exponent++) {
        for (int k = 0; k < 5 * 4 * 4 * 2; k++) {
            check_contribution(context, &random, 1.8 * pow(10, exponent), k % 2, positions[k / 2 % 4],
                               scales[k / 8 % 4], routes[k / 32]);
        }
    }
    psg_context_destroy(context);
}

/* Many nearly equal contributions: f32 sums would let the last one count for more than C. */
static void sums_of_many_samples_keep_the_sensitivity(void **state) {
    (void)state;
    test_random random = { 7 };
    enum { SAMPLES = 2049 };
    int64_t *kept = malloc(SAMPLES * sizeof *kept);
    for (int64_t n = 0; n < SAMPLES; n++) kept[n] = n;
    for (int64_t positions = 1; positions <= 3; positions += 2) {
        fixture with, without;
        fixture_single(&with, &random, PSG_F32, FIXTURE_WHOLE, SAMPLES, positions, 7, 9, TEST_CONTIGUOUS);
        test_fill_uniform(&random, &with.array[0].view, 0.999, 1.001);
        test_fill_uniform(&random, &with.array[1].view, 0.999, 1.001);
        fixture_select(&without, &with, kept, SAMPLES - 1);
        psg_context *context = test_context(2, NULL);
        psg_clip clip = { .max_grad_norm = 1.0, .max_batch_size = SAMPLES };
        double *a = clipped(context, &with, &clip, NULL, NULL), *b = clipped(context, &without, &clip, NULL, NULL);
        double moved = distance(a, b, with.total);
        assert_true(moved <= 1.0 && moved > 0.97);
        free(a);
        free(b);
        psg_context_destroy(context);
        fixture_free(&with);
        fixture_free(&without);
    }
    free(kept);
}

static void removed_samples_leave_no_trace(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "identity", "gram", "tiles", "keep", "recompute" };
    test_random random = { 8 };
    for (int k = 0; k < 4 * 6 * 4; k++) {
        poison kind = (poison)(NAN_SAMPLE + k % 4);
        psg_dtype dtype = (psg_dtype)(k / 24 % 2);
        fixture f;
        fixture_layer(&f, &random, dtype, 5, k / 48 ? 17 : 1, 17, 9);
        psg_context *context = test_context_with(NULL, 2, NULL, k % 8 < 4 ? (size_t)64 << 20 : 0);
        TEST_OK(context, psg_context_force_route(context, routes[k / 4 % 6]));
        psg_clip clip = { .max_grad_norm = 0.5 };
        psg_clip_report report, zero_report;
        double factors[5];
        poison_sample(&f, 1, kind);
        poison_sample(&f, 4, kind);
        double *a = clipped(context, &f, &clip, factors, &report);
        assert_int_equal(report.removed, 2);
        assert_true(factors[1] == 0 && factors[4] == 0 && factors[0] > 0);
        assert_true(isfinite(report.mean_norm) && isfinite(report.max_norm));
        set_sample(&f, 1, 0);
        set_sample(&f, 4, 0);
        double *b = clipped(context, &f, &clip, factors, &zero_report);
        assert_int_equal(zero_report.removed, 0);
        assert_memory_equal(a, b, (size_t)f.total * sizeof *a);
        free(a);
        free(b);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

static void a_batch_of_removed_samples_gives_zero(void **state) {
    (void)state;
    test_random random = { 9 };
    psg_context *context = test_context(2, NULL);
    fixture f;
    fixture_layer(&f, &random, PSG_F32, 3, 5, 7, 9);
    for (int64_t n = 0; n < 3; n++) poison_sample(&f, n, ONE_NAN);
    psg_clip clip = PSG_CLIP_INIT;
    psg_clip_report report;
    double *sum = clipped(context, &f, &clip, NULL, &report);
    assert_int_equal(report.removed, 3);
    assert_int_equal(report.clipped, 0);
    assert_true(report.mean_norm == 0 && report.max_norm == 0);
    for (int64_t e = 0; e < f.total; e++) assert_true(sum[e] == 0);
    free(sum);
    fixture_free(&f);
    psg_context_destroy(context);
}

static void bad_clips_are_refused(void **state) {
    (void)state;
    static const double norms[] = { 0, -1, NAN, -INFINITY };
    test_random random = { 10 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    fixture_layer(&f, &random, PSG_F32, 3, 5, 7, 9);
    answers a;
    answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
    uint64_t before = answers_hash(&a);
    for (int k = 0; k < 4; k++) {
        a.clip = (psg_clip){ .max_grad_norm = norms[k] };
        psg_status status = answers_ask(&a, context, &f, PSG_ASK_CLIPPED_SUM, PSG_OVERWRITE);
        test_status(context, status, PSG_ERR_ARGUMENT, "max_grad_norm");
        assert_non_null(strstr(psg_context_message(context), "max_grad_norm"));
    }
    a.clip = (psg_clip){ .max_grad_norm = 1.0, .max_batch_size = -1 };
    test_status(context, answers_ask(&a, context, &f, PSG_ASK_CLIPPED_SUM, PSG_OVERWRITE), PSG_ERR_ARGUMENT, "batch");
    assert_non_null(strstr(psg_context_message(context), "max_batch_size"));
    a.clip.max_batch_size = 50000000;   /* margin 2 N gamma_N > 1/2 */
    test_status(context, answers_ask(&a, context, &f, PSG_ASK_CLIPPED_SUM, PSG_OVERWRITE), PSG_ERR_ARGUMENT, "margin");
    assert_true(answers_hash(&a) == before);
    a.clip.max_batch_size = 40000000;
    TEST_OK(context, answers_ask(&a, context, &f, PSG_ASK_CLIPPED_SUM, PSG_OVERWRITE));
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sample_moves_the_sum_by_at_most_c),
        cmocka_unit_test(contributions_of_any_size_stay_within_c),
        cmocka_unit_test(sums_of_many_samples_keep_the_sensitivity),
        cmocka_unit_test(removed_samples_leave_no_trace),
        cmocka_unit_test(a_batch_of_removed_samples_gives_zero),
        cmocka_unit_test(bad_clips_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
