/* The range of C, of scales and of operands: what is covered is right to the last digits, what is not is refused. */
#include "clip_sum.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct one {
    psg_block block;
    psg_gradient gradient;
} one;

/* g^T a over T positions: p x d of one sample. */
static void factored(one *o, psg_dtype dtype, int64_t positions, void *g, int64_t p, void *a, int64_t d) {
    psg_tensor x = view3(dtype, g, 1, positions, p), y = view3(dtype, a, 1, positions, d);
    o->block = psg_factored(&x, &y);
    o->gradient = psg_gradient_of_blocks(&o->block, 1, 2, (int64_t[]){ p, d });
}

static void rows(one *o, psg_dtype dtype, int64_t positions, void *g, int64_t p) {
    psg_tensor x = view3(dtype, g, 1, positions, p);
    o->block = psg_rows(&x);
    o->gradient = psg_gradient_of_blocks(&o->block, 1, 1, &p);
}

static double contribution(psg_context *context, const psg_gradient *gradient, double c, psg_clip_report *report) {
    psg_clip clip = { .max_grad_norm = c, .max_batch_size = 8 };
    psg_tensor out = psg_tensor_of(PSG_F64, NULL, gradient->rank, gradient->shape);
    double *sum = clip_sum(context, gradient, 1, &clip, NULL, report), norm = 0;
    for (int64_t e = 0; e < psg_tensor_count(&out); e++) norm = hypot(norm, sum[e]);
    free(sum);
    return norm;
}

static void on_every_isa(void (*test)(psg_context *context)) {
    const char *isas[3];
    for (size_t k = 0, count = test_isas(isas); k < count; k++) {
        psg_context *context = test_context(1, isas[k]);
        test(context);
        psg_context_destroy(context);
    }
}

/* ---- what is refused ---- */

static psg_status ask_clip(psg_context *context, const psg_gradient *gradient, psg_dtype out_dtype, psg_write write,
                           double c, int64_t most) {
    double out[2] = { 7, 7 };
    psg_tensor outs = psg_tensor_of(out_dtype, out, gradient->rank, gradient->shape);
    double norm = 7, factor = 7;
    psg_clip clip = { .max_grad_norm = c, .max_batch_size = most };
    psg_clip_report report = { 7, 7, 7, 7, 7, { 0 } };
    psg_status status = psg_clipped_sum(context, &gradient, 1, &clip, write, &outs, &norm, &factor, &report);
    if (status) {
        assert_true(out[0] == 7 && out[1] == 7 && norm == 7 && factor == 7);
        assert_true(report.removed == 7 && report.clipped == 7 && report.mean_norm == 7);
    }
    return status;
}

static void check_words(psg_context *context, const char *words) {
    const char *message = psg_context_message(context);
    if (!strstr(message, words)) fail_msg("\"%s\" without \"%s\"", message, words);
}

static void max_grad_norm_beyond_its_range_is_refused(void **state) {
    (void)state;
    static const double out_of[] = { 0.99e-100, 1.01e100, 1e-310, DBL_MAX, 0, -0.0, -1, -INFINITY, NAN };
    static const double within[] = { 1e-100, 1e100, 1, INFINITY };
    float g[2] = { 3, 4 };
    one o;
    rows(&o, PSG_F32, 1, g, 2);
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < 9; k++) {
        psg_status status = ask_clip(context, &o.gradient, PSG_F64, PSG_OVERWRITE, out_of[k], 8);
        test_status(context, status, PSG_ERR_ARGUMENT, "C");
        check_words(context, "max_grad_norm");
        check_words(context, "1e-100 to 1e100");
    }
    for (int k = 0; k < 4; k++) TEST_OK(context, ask_clip(context, &o.gradient, PSG_F64, PSG_OVERWRITE, within[k], 8));
    psg_context_destroy(context);
}

static void sums_that_leave_f32_are_refused(void **state) {
    (void)state;
    float g[2] = { 3, 4 };
    one o;
    rows(&o, PSG_F32, 1, g, 2);
    psg_context *context = test_context(1, NULL);
    static const struct { double c; int64_t most; bool fits; } cases[] = {
        { 1e39, 1, false }, { 1e37, 64, false }, { 1e34, 0, false }, { 1e100, 1, false }, { 3.5e38, 1, false },
        { 3.4e38, 1, true }, { 1e37, 34, true }, { 1e33, 0, true }, { INFINITY, 1, true },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        psg_status status = ask_clip(context, &o.gradient, PSG_F32, PSG_OVERWRITE, cases[k].c, cases[k].most);
        test_status(context, status, cases[k].fits ? PSG_OK : PSG_ERR_ARGUMENT, "f32 outs");
        if (!cases[k].fits) check_words(context, "f32");
        TEST_OK(context, ask_clip(context, &o.gradient, PSG_F64, PSG_OVERWRITE, cases[k].c, cases[k].most));
    }
    psg_context_destroy(context);
}

/* Micro-batches say how many samples they are in all; a batch larger than that is refused. */
static void max_batch_size_is_given_where_it_counts(void **state) {
    (void)state;
    float g[2] = { 3, 4 };
    one o;
    rows(&o, PSG_F32, 1, g, 2);
    psg_context *context = test_context(1, NULL);
    test_status(context, ask_clip(context, &o.gradient, PSG_F64, PSG_ACCUMULATE, 1, 0), PSG_ERR_ARGUMENT, "accumulate");
    check_words(context, "PSG_ACCUMULATE");
    check_words(context, "max_batch_size");
    TEST_OK(context, ask_clip(context, &o.gradient, PSG_F64, PSG_ACCUMULATE, 1, 1));
    for (int k = 0; k < 4; k++) {
        int64_t batch = (int64_t[]){ PSG_DEFAULT_MAX_BATCH_SIZE, PSG_DEFAULT_MAX_BATCH_SIZE + 1, 9, 10 }[k];
        o.block.backprop.shape[0] = o.gradient.batch_size = batch;
        o.block.backprop.stride[0] = 0;
        psg_gradient *gradient = &o.gradient;
        double *out = calloc(2, sizeof *out);
        psg_tensor outs = psg_tensor_of(PSG_F64, out, 1, gradient->shape);
        psg_clip clip = { .max_grad_norm = 1, .max_batch_size = k < 2 ? 0 : 9 };
        psg_status status = psg_clipped_sum(context, (const psg_gradient *const *)&gradient, 1, &clip, PSG_OVERWRITE,
                                            &outs, NULL, NULL, NULL);
        test_status(context, status, k % 2 ? PSG_ERR_ARGUMENT : PSG_OK, "B");
        if (k % 2) check_words(context, "max_batch_size");
        assert_true((out[0] == 0) == (k % 2));
        free(out);
    }
    psg_context_destroy(context);
}

static void scales_beyond_their_range_are_refused(void **state) {
    (void)state;
    static const double out_of[] = { 0.99e-100, -1e-101, 1.01e100, -1e101, 1e250, INFINITY, NAN };
    static const double within[] = { 0, 1e-100, -1e100, 1e100 };
    double g[2] = { 3, 4 }, out[2] = { 7, 7 }, gram = 7, square = 7, dot = 7;
    one o;
    rows(&o, PSG_F64, 1, g, 2);
    const psg_gradient *set = &o.gradient;
    psg_context *context = test_context(1, NULL);
    psg_tensor outs = psg_tensor_of(PSG_F64, out, 1, set->shape), direction = psg_tensor_of(PSG_F64, g, 1, set->shape);
    psg_tensor sample = view2(PSG_F64, out, 1, 2);
    for (int k = 0; k < 7; k++) {
        o.block.scale = out_of[k];
        psg_status status[6] = {
            psg_sqnorm(context, &set, 1, &square, NULL, NULL),
            psg_weighted_sum(context, &set, 1, NULL, PSG_OVERWRITE, &outs),
            psg_dot(context, &set, 1, &direction, &dot), psg_gram(context, &set, 1, &gram),
            psg_sum_of_squares(context, &set, 1, PSG_OVERWRITE, &outs),
            psg_grad_sample(context, set, 1, PSG_OVERWRITE, &sample) };
        for (int i = 0; i < 6; i++) test_status(context, status[i], PSG_ERR_ARGUMENT, "scale");
        test_status(context, ask_clip(context, set, PSG_F64, PSG_OVERWRITE, 1, 8), PSG_ERR_ARGUMENT, "scale");
        check_words(context, "1e-100 to 1e100");
        assert_true(out[0] == 7 && gram == 7 && square == 7 && dot == 7);
    }
    for (int k = 0; k < 4; k++) {
        o.block.scale = within[k];
        TEST_OK(context, psg_sqnorm(context, &set, 1, &square, NULL, NULL));
        test_near(square, 25 * within[k] * within[k], 1e-14 * square, "square", k);
    }
    psg_context_destroy(context);
}

/* ---- squares that leave the range of doubles ---- */

/* T = 1, 3: operands whose squares are no doubles, their product 0.3. */
static void check_far_operands(psg_context *context) {
    double g[6] = { 0.3e-170, 0, 0.4e-170, 0, 0, 0.5e-170 }, a[6] = { 1e170, 0, 0, 1e170, 1e170, 0 };
    for (int64_t positions = 1; positions <= 3; positions += 2) {
        one o;
        factored(&o, PSG_F64, positions, g, 2, a, 2);
        const psg_gradient *set = &o.gradient;
        /* (0.3, 0; 0, 0), and over three positions (0.3, 0.4; 0.5, 0) */
        double square, upper, truth = positions == 1 ? 0.09 : 0.09 + 0.16 + 0.25;
        TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper, NULL));
        test_near(square, truth, 1e-14, "square", positions);
        if (!(upper >= truth * (1 - 1e-15) && upper <= truth * (1 + 1e-12))) fail_msg("upper is %.17g", upper);
        psg_clip_report report;
        double moved = contribution(context, &o.gradient, 0.01, &report);
        assert_true(report.removed == 0 && report.clipped == 1);
        test_near(moved, 0.01, 1e-11, "contribution", positions);
    }
}

static void squares_may_leave_the_range_of_doubles(void **state) { (void)state; on_every_isa(check_far_operands); }

/* Finite norms above sqrt(DBL_MAX) are clipped, not removed. */
static void check_large(psg_context *context) {
    double g[2] = { 3e160, 4e160 }, a = 1;
    for (int k = 0; k < 3; k++) {
        one o;
        if (k) rows(&o, PSG_F64, 1, g, 2);
        else factored(&o, PSG_F64, 1, g, 2, &a, 1);
        if (k == 2) o.block.scale = 1e10;
        psg_clip_report report;
        test_near(contribution(context, &o.gradient, 2, &report), 2, 1e-11, "contribution", k);
        assert_true(report.removed == 0 && report.clipped == 1);
        test_near(report.max_norm, 5e160 * o.block.scale, 1e-12 * 5e160 * o.block.scale, "norm", k);
    }
}

static void large_norms_are_clipped(void **state) { (void)state; on_every_isa(check_large); }

/* Small rows and products that a scale lifts: 1e-170 1e100 against C = 1e-80, 1e-90 1e-100 1e100 against 1e-100. */
static void check_small(psg_context *context) {
    double g[4] = { 3e-170, 4e-170, 0, 0 };
    for (int64_t positions = 1; positions <= 2; positions++) {
        one o;
        rows(&o, PSG_F64, positions, g, 2);
        o.block.scale = 1e100;
        test_near(contribution(context, &o.gradient, 1e-80, NULL), 1e-80, 1e-90, "rows", positions);
    }
    double h[2] = { 3e-90, 4e-90 }, a[2] = { 1e-100, 1 };
    for (int64_t positions = 1; positions <= 2; positions++) {
        one o;
        factored(&o, PSG_F64, positions, positions == 1 ? h : g, positions == 1 ? 2 : 1, a, 1);
        o.block.scale = 1e100;
        double moved = contribution(context, &o.gradient, 1e-100, NULL);
        if (!(moved <= 1e-100)) fail_msg("%g contributes %g", 1e-100, moved);
        if (positions == 1) assert_true(moved >= 0.999e-100);
    }
}

static void scaled_up_small_samples_are_clipped(void **state) { (void)state; on_every_isa(check_small); }

/* f32, one position: products below 2^-149, which f32 does not have. */
static void check_below_f32(psg_context *context) {
    float g[8], a[2] = { 0x1p-80f, 0x1.8p-80f };
    for (int i = 0; i < 8; i++) g[i] = (float)(1 + i / 7.0) * 0x1p-80f;
    for (double c = 1e-60; c < 1e-40; c *= 97) {
        one o;
        factored(&o, PSG_F32, 1, g, 8, a, 2);
        double norm = contribution(context, &o.gradient, INFINITY, NULL);
        double moved = contribution(context, &o.gradient, c, NULL), expected = norm < c ? norm : c;
        assert_true(norm > 1e-48 && norm < 1e-46);
        test_near(moved, expected, 1e-11 * expected, "contribution", (int64_t)log10(c));
        assert_true(moved <= c);
        o.block.scale = 0x1p149;
        moved = contribution(context, &o.gradient, c, NULL);
        assert_true(moved <= c && moved >= 0.999 * c);
    }
}

static void products_below_f32_are_clipped(void **state) { (void)state; on_every_isa(check_below_f32); }

/* f64, two positions that cancel but for the rounding of their products, their backprops' squares no doubles: what
 * sum_t |g_t||a_t| covers must not be lost with the squares. */
static void check_lost_lengths(psg_context *context) {
    test_random random = { 4 };
    for (int k = 0; k < 13 * 50; k++) {
        int exponent = -140 - 5 * (k % 13);
        double x = pow(10, exponent) * (1 + test_uniform(&random)), c = 1e130 * (1 + test_uniform(&random));
        double e = 1e130 * (1 + test_uniform(&random)), g[2] = { x, -x * (c / e) }, a[2] = { c, e };
        long double truth = (long double)g[0] * a[0] + (long double)g[1] * a[1];   /* off by 2^-11 of itself */
        double square, upper, terms = 2 * x * c, most = terms * test_gamma(PSG_F64, 16);
        one o;
        factored(&o, PSG_F64, 2, g, 1, a, 1);
        const psg_gradient *set = &o.gradient;
        TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper, NULL));
        if (!(upper >= truth * truth * (1 - 0x1p-9L))) fail_msg("1e%d: upper %g < %Lg", exponent, upper, truth * truth);
        if (!(upper <= most * most)) fail_msg("1e%d: upper %g is loose", exponent, upper);
    }
}

static void rounding_is_covered_where_squares_underflow(void **state) { (void)state; on_every_isa(check_lost_lengths); }

/* ---- dot ---- */

/* One live position, alone or with padding behind: its products are doubles. */
static void check_dot(psg_context *context) {
    static const float sizes[] = { 1e25f, 1e-25f, 1e-40f, 1e38f };
    for (int k = 0; k < 4 * 2; k++) {
        float g[4] = { sizes[k % 4], sizes[k % 4], 0, 0 }, a[4] = { sizes[k % 4], sizes[k % 4] / 2, NAN, INFINITY };
        float v[4] = { 1, 2, 3, 4 };
        one o;
        factored(&o, PSG_F32, 1 + k / 4, g, 2, a, 2);
        const psg_gradient *set = &o.gradient;
        psg_tensor direction = view2(PSG_F32, v, 2, 2);
        double dot, expected = (double)g[0] * a[0] * (1 + 3) + (double)g[0] * a[1] * (2 + 4);
        TEST_OK(context, psg_dot(context, &set, 1, &direction, &dot));
        test_near(dot, expected, 1e-14 * expected, "dot", k);
    }
}

static void dots_have_the_range_of_double(void **state) { (void)state; on_every_isa(check_dot); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(max_grad_norm_beyond_its_range_is_refused),
        cmocka_unit_test(sums_that_leave_f32_are_refused),
        cmocka_unit_test(max_batch_size_is_given_where_it_counts),
        cmocka_unit_test(scales_beyond_their_range_are_refused),
        cmocka_unit_test(squares_may_leave_the_range_of_doubles),
        cmocka_unit_test(large_norms_are_clipped),
        cmocka_unit_test(scaled_up_small_samples_are_clipped),
        cmocka_unit_test(products_below_f32_are_clipped),
        cmocka_unit_test(rounding_is_covered_where_squares_underflow),
        cmocka_unit_test(dots_have_the_range_of_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
