/* The elementwise functions, glu, log_softmax and softmin where the lines of test/cases do not go: kinks, limits in
 * both types, NaN, saturated rows, dropout of whole channels. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "kernels.h"
#include "small_pass.h"

/* ---- single values ---- */

#define FUNCTION(name, call) static psg_var name(psg_tape *t, const psg_var *in) { return call; }
FUNCTION(relu, psg_relu(t, in[0]))
FUNCTION(hyperbolic, psg_tanh(t, in[0]))
FUNCTION(sigmoid, psg_sigmoid(t, in[0]))
FUNCTION(gelu, psg_gelu(t, in[0], 0))
FUNCTION(gelu_tanh, psg_gelu(t, in[0], 1))
FUNCTION(relu6, psg_relu6(t, in[0]))
FUNCTION(logsigmoid, psg_logsigmoid(t, in[0]))
FUNCTION(silu, psg_silu(t, in[0]))
FUNCTION(mish, psg_mish(t, in[0]))
FUNCTION(hardsigmoid, psg_hardsigmoid(t, in[0]))
FUNCTION(hardswish, psg_hardswish(t, in[0]))
FUNCTION(softsign, psg_softsign(t, in[0]))
FUNCTION(tanhshrink, psg_tanhshrink(t, in[0]))
FUNCTION(exponential, psg_exp(t, in[0]))
FUNCTION(square, psg_square(t, in[0]))
FUNCTION(absolute, psg_abs(t, in[0]))
FUNCTION(sine, psg_sin(t, in[0]))
FUNCTION(cosine, psg_cos(t, in[0]))
FUNCTION(logarithm, psg_log(t, in[0]))
FUNCTION(root, psg_sqrt(t, in[0]))
FUNCTION(elu, psg_elu(t, in[0], 0.7))
FUNCTION(celu, psg_celu(t, in[0], 2))
FUNCTION(celu_negative, psg_celu(t, in[0], -2))
FUNCTION(selu, psg_selu(t, in[0]))
FUNCTION(leaky_relu, psg_leaky_relu(t, in[0], 0.1))
FUNCTION(leaky_relu_0, psg_leaky_relu(t, in[0], 0))
FUNCTION(softplus, psg_softplus(t, in[0], 2, 3))
FUNCTION(hardtanh, psg_hardtanh(t, in[0], -0.4, 1.6))
FUNCTION(softshrink, psg_softshrink(t, in[0], 0.5))
FUNCTION(hardshrink, psg_hardshrink(t, in[0], 0.5))
FUNCTION(threshold, psg_threshold(t, in[0], 0.3, -2))
FUNCTION(log_softmax_1, psg_log_softmax(t, in[0], 1))
FUNCTION(log_softmax_last, psg_log_softmax(t, in[0], -1))
FUNCTION(softmin_1, psg_softmin(t, in[0], 1))
FUNCTION(softmax_1, psg_softmax(t, in[0], 1))
FUNCTION(softmax_last, psg_softmax(t, in[0], -1))

/* y = f(x) and f'(x) on a (1, n) row that holds x in its last place and 0.5 elsewhere. */
static void at_value(small_pass *r, psg_dtype dtype, psg_var (*f)(psg_tape *, const psg_var *), int64_t n,
                     double x, double *y, double *slope) {
    double memory[64];
    psg_tensor in = psg_tensor_of(dtype, memory, 2, (int64_t[]){ 1, n }), value, grad;
    for (int64_t i = 0; i < n; i++) test_set_at(&in, i, i == n - 1 ? x : 0.5);
    TEST_OK(r->context, psg_tape_begin(r->tape, NULL));
    psg_var var = psg_input_with_grad(r->tape, &in), out = f(r->tape, &var);
    TEST_OK(r->context, psg_backward_from(r->tape, out, NULL));
    TEST_OK(r->context, psg_value(r->tape, out, &value));
    TEST_OK(r->context, psg_input_grad(r->tape, var, &grad));
    *y = test_get_at(&value, n - 1);
    *slope = test_get_at(&grad, n - 1);
}

typedef struct point {
    psg_var (*f)(psg_tape *, const psg_var *);
    const char *name;
    double x, y, slope;
} point;

#define AT(f, ...) { f, #f, __VA_ARGS__ }

/* Kinks, where PyTorch's subgradient is taken; what lies beyond the range of an exponential; the limits at +-Inf. */
#define SELU_SCALE 1.0507009873554804934
#define SELU_LOWEST -1.7580993408473768599
static const point limits[] = {
    AT(relu, 0, 0, 0), AT(relu, INFINITY, INFINITY, 1), AT(relu, -INFINITY, 0, 0), AT(relu6, 0, 0, 0),
    AT(relu6, 6, 6, 0), AT(relu6, INFINITY, 6, 0), AT(relu6, -INFINITY, 0, 0), AT(hyperbolic, INFINITY, 1, 0),
    AT(hyperbolic, 300, 1, 0), AT(sigmoid, 300, 1, 0),
    AT(hyperbolic, -INFINITY, -1, 0), AT(hyperbolic, -1e38, -1, 0), AT(sigmoid, INFINITY, 1, 0),
    AT(sigmoid, -INFINITY, 0, 0), AT(sigmoid, -1e38, 0, 0), AT(logsigmoid, -1e4, -1e4, 1), AT(logsigmoid, 1e4, 0, 0),
    AT(logsigmoid, INFINITY, 0, 0), AT(logsigmoid, -INFINITY, -INFINITY, 1), AT(silu, -1e4, 0, 0),
    AT(silu, 1e4, 1e4, 1), AT(silu, 1e38, 1e38, 1), AT(silu, -1e38, 0, 0), AT(silu, INFINITY, INFINITY, 1),
    AT(silu, -INFINITY, 0, 0), AT(mish, -1e4, 0, 0), AT(mish, 1e4, 1e4, 1), AT(mish, 1e38, 1e38, 1),
    AT(mish, -1e38, 0, 0), AT(mish, INFINITY, INFINITY, 1), AT(mish, -INFINITY, 0, 0), AT(hardsigmoid, -3, 0, 0),
    AT(hardsigmoid, 3, 1, 0), AT(hardsigmoid, INFINITY, 1, 0), AT(hardsigmoid, -INFINITY, 0, 0),
    AT(hardswish, -3, 0, 0), AT(hardswish, 3, 3, 1), AT(hardswish, -1e4, 0, 0), AT(hardswish, 1e4, 1e4, 1),
    AT(hardswish, INFINITY, INFINITY, 1), AT(hardswish, -INFINITY, 0, 0), AT(softsign, 1e30, 1, 0),
    AT(softsign, -3e38, -1, 0), AT(softsign, 1e300, 1, 0), AT(softsign, INFINITY, 1, 0), AT(softsign, -INFINITY, -1, 0),
    AT(tanhshrink, 1e4, 9999, 1), AT(tanhshrink, 0, 0, 0), AT(tanhshrink, INFINITY, INFINITY, 1),
    AT(tanhshrink, -INFINITY, -INFINITY, 1), AT(exponential, -1e4, 0, 0), AT(exponential, 1e4, INFINITY, INFINITY),
    AT(exponential, INFINITY, INFINITY, INFINITY), AT(exponential, -INFINITY, 0, 0),
    AT(logarithm, INFINITY, INFINITY, 0), AT(logarithm, 0, -INFINITY, INFINITY),
    AT(logarithm, -0.0, -INFINITY, INFINITY), AT(root, 0, 0, INFINITY), AT(root, -0.0, 0, INFINITY),
    AT(root, INFINITY, INFINITY, 0), AT(square, -3, 9, -6), AT(square, -INFINITY, INFINITY, -INFINITY),
    AT(absolute, 0, 0, 0), AT(absolute, -2, 2, -1), AT(absolute, INFINITY, INFINITY, 1),
    AT(absolute, -INFINITY, INFINITY, -1), AT(sine, INFINITY, NAN, NAN), AT(cosine, -INFINITY, NAN, NAN),
    AT(selu, INFINITY, INFINITY, SELU_SCALE), AT(selu, -INFINITY, SELU_LOWEST, 0), AT(gelu, 1e38, 1e38, 1),
    AT(gelu, -1e38, 0, 0), AT(gelu, INFINITY, INFINITY, 1), AT(gelu, -INFINITY, 0, 0), AT(gelu_tanh, 1e38, 1e38, 1),
    AT(gelu_tanh, -1e38, 0, 0), AT(gelu_tanh, INFINITY, INFINITY, 1), AT(gelu_tanh, -INFINITY, 0, 0),
    AT(elu, 0, 0, 0.7), AT(elu, 1e4, 1e4, 1), AT(elu, INFINITY, INFINITY, 1), AT(elu, -INFINITY, -0.7, 0),
    AT(celu, 0, 0, 1), AT(celu, INFINITY, INFINITY, 1), AT(celu, -INFINITY, -2, 0),
    AT(celu_negative, -INFINITY, -INFINITY, INFINITY), AT(leaky_relu, 0, 0, 0.1), AT(leaky_relu, INFINITY, INFINITY, 1),
    AT(leaky_relu, -INFINITY, -INFINITY, 0.1), AT(leaky_relu_0, INFINITY, INFINITY, 1),
    AT(leaky_relu_0, -INFINITY, 0, 0), AT(softplus, 1e4, 1e4, 1), AT(softplus, -1e4, 0, 0), AT(softplus, 3e38, 3e38, 1),
    AT(softplus, INFINITY, INFINITY, 1), AT(softplus, -INFINITY, 0, 0), AT(hardtanh, -1e4, -0.4, 0),
    AT(hardtanh, INFINITY, 1.6, 0), AT(hardtanh, -INFINITY, -0.4, 0), AT(softshrink, 0.5, 0, 0),
    AT(softshrink, -0.5, 0, 0), AT(softshrink, INFINITY, INFINITY, 1), AT(softshrink, -INFINITY, -INFINITY, 1),
    AT(hardshrink, 0.5, 0, 0), AT(hardshrink, -0.5, 0, 0), AT(hardshrink, INFINITY, INFINITY, 1),
    AT(hardshrink, -INFINITY, -INFINITY, 1), AT(threshold, INFINITY, INFINITY, 1), AT(threshold, -INFINITY, -2, 0),
    AT(relu, NAN, NAN, NAN), AT(hyperbolic, NAN, NAN, NAN), AT(sigmoid, NAN, NAN, NAN), AT(gelu, NAN, NAN, NAN),
    AT(gelu_tanh, NAN, NAN, NAN), AT(relu6, NAN, NAN, NAN), AT(logsigmoid, NAN, NAN, NAN), AT(silu, NAN, NAN, NAN),
    AT(mish, NAN, NAN, NAN), AT(hardsigmoid, NAN, NAN, NAN), AT(hardswish, NAN, NAN, NAN), AT(softsign, NAN, NAN,
    NAN), AT(tanhshrink, NAN, NAN, NAN), AT(exponential, NAN, NAN, NAN), AT(square, NAN, NAN, NAN), AT(absolute, NAN,
    NAN, NAN), AT(sine, NAN, NAN, NAN), AT(cosine, NAN, NAN, NAN), AT(logarithm, NAN, NAN, NAN), AT(root, NAN, NAN,
    NAN), AT(elu, NAN, NAN, NAN), AT(celu, NAN, NAN, NAN), AT(celu_negative, NAN, NAN, NAN), AT(selu, NAN, NAN, NAN),
    AT(leaky_relu, NAN, NAN, NAN), AT(leaky_relu_0, NAN, NAN, NAN), AT(softplus, NAN, NAN, NAN), AT(hardtanh, NAN,
    NAN, NAN), AT(softshrink, NAN, NAN, NAN), AT(hardshrink, NAN, NAN, NAN), AT(threshold, NAN, NAN, NAN),
    AT(log_softmax_1, NAN, NAN, NAN), AT(log_softmax_last, NAN, NAN, NAN), AT(softmin_1, NAN, NAN, NAN),
};

/* Numbers that f32 has not, of x in f32: the results are those of double, rounded. */
#define NUMBERS(name, build) static psg_var name(psg_tape *t, const psg_var *in) { return build; }
NUMBERS(elu_huge, psg_elu(t, in[0], 1e40))
NUMBERS(elu_tiny, psg_elu(t, in[0], -1e-50))
NUMBERS(celu_tiny, psg_celu(t, in[0], 1e-50))
NUMBERS(celu_small, psg_celu(t, in[0], 1e-38))
NUMBERS(celu_large, psg_celu(t, in[0], 1e38))
NUMBERS(celu_huge, psg_celu(t, in[0], 1e40))
NUMBERS(leaky_relu_tiny, psg_leaky_relu(t, in[0], 1e-50))
NUMBERS(leaky_relu_huge, psg_leaky_relu(t, in[0], 1e40))
NUMBERS(softplus_tiny, psg_softplus(t, in[0], 1e-50, 20))
NUMBERS(softplus_huge, psg_softplus(t, in[0], 1e50, 20))
NUMBERS(softplus_all, psg_softplus(t, in[0], 1e10, 1e50))
NUMBERS(hardtanh_wide, psg_hardtanh(t, in[0], -1e40, 1e40))
NUMBERS(threshold_tiny, psg_threshold(t, in[0], -1e-50, 5))
NUMBERS(softshrink_huge, psg_softshrink(t, in[0], 1e40))

static const point numbers_beyond_f32[] = {
    AT(elu_huge, -1e-8, -1e32, INFINITY), AT(elu_huge, 3, 3, 1), AT(elu_huge, -100, -INFINITY, 0.00037200759760208359),
    AT(elu_huge, -INFINITY, -INFINITY, 0), AT(elu_tiny, -5, 0, 0), AT(elu_tiny, 5, 5, 1), AT(celu_tiny, -1, 0, 0),
    AT(celu_tiny, 0, 0, 1), AT(celu_tiny, -INFINITY, 0, 0), AT(celu_tiny, 1e-45, 0x1p-149, 1),
    AT(celu_small, -1, -1e-38, 0), AT(celu_small, 0, 0, 1), AT(celu_large, -0.001, -0.001, 1),
    AT(celu_huge, -1e-30, -1e-30, 1), AT(celu_huge, -INFINITY, -INFINITY, 0), AT(leaky_relu_tiny, -1e38, -1e-12, 0),
    AT(leaky_relu_huge, -1e-10, -1e30, INFINITY), AT(softplus_tiny, 1, INFINITY, 0.5), AT(softplus_huge, 1, 1, 1),
    AT(softplus_huge, 0, 0, 0.5), AT(softplus_huge, -1, 0, 0), AT(softplus_all, 1e38, 1e38, 1),
    AT(hardtanh_wide, 1e38, 1e38, 1), AT(hardtanh_wide, INFINITY, INFINITY, 0), AT(threshold_tiny, 0, 0, 1),
    AT(threshold_tiny, -1e-30, 5, 0), AT(softshrink_huge, -1e38, 0, 0),
};

static void expect(double found, double right, double relative, const point *p, const char *what) {
    char text[96];
    snprintf(text, sizeof text, "%s(%g), %s", p->name, p->x, what);
    if (isnan(right) && !isnan(found)) fail_msg("%s is %g, must be NaN", text, found);
    if (!isnan(right)) test_near(found, right, isinf(right) ? 0 : fmax(relative * fabs(right), 1e-39), text, 0);
}

/* In the last place of a row of one element and of whole vectors. */
static void expect_at(small_pass *r, psg_dtype dtype, const point *p) {
    for (int64_t n = 1; n < 40; n += 31) {
        double y, slope, unit = dtype == PSG_F64 ? 1e-15 : 1.5e-7;
        at_value(r, dtype, p->f, n, p->x, &y, &slope);
        expect(y, p->y, unit, p, "value");
        expect(slope, p->slope, unit, p, "slope");
    }
}

static void kinks_limits_and_nan_are_pytorchs(void **state) {
    (void)state;
    const char *isas[3];
    for (size_t s = 0; s < 2 * test_isas(isas); s++) {
        small_pass r;
        small_open_on(&r, 1, isas[s / 2]);
        for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
            expect_at(&r, s % 2 ? PSG_F64 : PSG_F32, &limits[k]);
        }
        small_close(&r);
    }
}

static void parameters_beyond_f32_round_in_double(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (size_t k = 0; k < sizeof numbers_beyond_f32 / sizeof numbers_beyond_f32[0]; k++) {
        expect_at(&r, PSG_F32, &numbers_beyond_f32[k]);
    }
    small_close(&r);
}

/* Relative accuracy where a function or its slope is small; expected by formulas that do not cancel there. */
static void small_values_keep_their_digits(void **state) {
    (void)state;
    double e = exp(-20), tiny = 1e-6;
    const point points[] = {
        AT(logsigmoid, 20, -log1p(e), e / (1 + e)), AT(logsigmoid, -20, -20 - log1p(e), 1 / (1 + e)),
        AT(softplus, -10, log1p(e) / 2, e / (1 + e)),
        AT(silu, -20, -20 * e / (1 + e), e * (1 + e - 20) / pow(1 + e, 2)),
        AT(mish, -20, -20 * tanh(log1p(e)), tanh(log1p(e)) - 20 * (1 - pow(tanh(log1p(e)), 2)) * e / (1 + e)),
        AT(elu, -tiny, 0.7 * expm1(-tiny), 0.7 * exp(-tiny)), AT(celu, -20, 2 * expm1(-10), exp(-10)),
        AT(selu, -20, 1.7580993408473768 * expm1(-20), 1.7580993408473768 * e), AT(exponential, -20, e, e),
        AT(tanhshrink, -20, -20 + 1, 1),
        AT(gelu, -10, -7.6198530241605261e-23, -7.6184000964648141e-22),
        AT(hyperbolic, 10, tanh(10), 1 / pow(cosh(10), 2)), AT(sigmoid, -10, exp(-10) / (1 + exp(-10)),
        exp(-10) / pow(1 + exp(-10), 2)), AT(sigmoid, 10, 1 / (1 + exp(-10)), exp(-10) / pow(1 + exp(-10), 2)),
        AT(gelu, -300, 0, 0), AT(gelu, 300, 300, 1), AT(gelu_tanh, -300, 0, 0), AT(gelu_tanh, 300, 300, 1),
        AT(gelu_tanh, -1e30, 0, 0), AT(gelu_tanh, 1e30, 1e30, 1),
        AT(tanhshrink, 0x1p-10, 0x1p-30 / 3 * (1 - 0.4 * 0x1p-20 + 17.0 / 105 * 0x1p-40), pow(tanh(0x1p-10), 2)),
        AT(tanhshrink, 0.5, 0.0378828427399902415, 0.213552267034072590),
    };
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (size_t k = 0; k < sizeof points / sizeof points[0]; k++) {
        for (int dtype = 0; dtype < 2; dtype++) {
            double y, slope, unit = dtype ? 1e-14 : 3e-6;
            at_value(&r, dtype, points[k].f, 1, points[k].x, &y, &slope);
            test_near(y, points[k].y, unit * fabs(points[k].y), points[k].name, dtype);
            test_near(slope, points[k].slope, unit * fabs(points[k].slope), points[k].name, dtype);
        }
    }
    small_close(&r);
}

/* ---- rows in which one probability is nearly 1 ---- */

enum { SATURATED = 37 };

/* Gradients as sums over pairs, of which no term cancels another: y_j sum_k y_k (g_j - g_k), and of the logarithm
 * sum_k (p_k g_j - p_j g_k).  The largest score is at `top`. */
static double pairs(const double *x, const double *g, int top, int j, bool logarithm) {
    double e[SATURATED], total = 0, sum = 0;
    for (int k = 0; k < SATURATED; k++) total += e[k] = exp(x[k] - x[top]);
    for (int k = 0; k < SATURATED; k++) {
        sum += logarithm ? e[k] * g[j] - e[j] * g[k] : e[j] / total * e[k] * (g[j] - g[k]);
    }
    return sum / total;
}

/* Scores of 0, -1/2, ... but for `top`; the row in the last dimension or, beside another, in dimension 1. */
static void saturated_row(small_pass *r, psg_dtype dtype, psg_var (*f)(psg_tape *, const psg_var *), int strided,
                          double score, bool logarithm) {
    double x[SATURATED], g[SATURATED], memory[2][2 * SATURATED];
    const int top = 18, columns = strided ? 2 : 1;
    const int64_t shape[3] = { 1, strided ? SATURATED : 1, strided ? 2 : SATURATED };
    psg_tensor in = psg_tensor_of(dtype, memory[0], 3, shape), gy = psg_tensor_of(dtype, memory[1], 3, shape);
    psg_tensor grad, value;
    for (int k = 0; k < SATURATED; k++) {
        x[k] = k == top ? score : -0.5 * (k % 4);
        g[k] = k == top ? -1 : 0.125 * (k % 3);
        for (int c = 0; c < columns; c++) {
            test_set_at(&in, k * columns + c, x[k]);
            test_set_at(&gy, k * columns + c, g[k]);
        }
    }
    TEST_OK(r->context, psg_tape_begin(r->tape, NULL));
    psg_var var = psg_input_with_grad(r->tape, &in), out = f(r->tape, &var);
    TEST_OK(r->context, psg_backward_from(r->tape, out, &gy));
    TEST_OK(r->context, psg_input_grad(r->tape, var, &grad));
    TEST_OK(r->context, psg_value(r->tape, out, &value));
    double unit = dtype == PSG_F64 ? 1e-14 : 4e-6, others = 0;
    for (int j = 0; j < SATURATED; j++) {
        double right = pairs(x, g, top, j, logarithm);
        test_near(test_get_at(&grad, j * columns), right, unit * fabs(right), logarithm ? "log_softmax" : "softmax", j);
        others += j == top ? 0 : exp(x[j] - score);
    }
    double right = logarithm ? -log1p(others) : 1 / (1 + others);
    test_near(test_get_at(&value, top * columns), right, unit * fabs(right), "value", top);
}

static void saturated_rows_keep_their_digits(void **state) {
    (void)state;
    const char *isas[3];
    for (size_t s = 0; s < test_isas(isas); s++) {
        small_pass r;
        small_open_on(&r, 1, isas[s]);
        for (int k = 0; k < 12; k++) {
            psg_dtype dtype = k % 2 ? PSG_F64 : PSG_F32;
            double score = k / 2 * 10;
            saturated_row(&r, dtype, softmax_last, 0, score, false);
            saturated_row(&r, dtype, softmax_1, 1, score, false);
            saturated_row(&r, dtype, log_softmax_last, 0, score, true);
            saturated_row(&r, dtype, log_softmax_1, 1, score, true);
        }
        small_close(&r);
    }
}

/* log_softmax and softmax of large scores, of -inf, of rows that underflow in softmax. */
static void scores_of_any_size_are_taken(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (int dtype = 0; dtype < 2; dtype++) {
        double memory[4], unit = dtype ? 1e-15 : 3e-7;
        psg_tensor x = psg_tensor_of(dtype, memory, 2, (int64_t[]){ 1, 4 }), value, grad;
        const double scores[4] = { 1e4, -1e4, 1e4 - 1, -INFINITY };
        for (int64_t i = 0; i < 4; i++) test_set_at(&x, i, scores[i]);
        TEST_OK(r.context, psg_tape_begin(r.tape, NULL));
        psg_var in = psg_input_with_grad(r.tape, &x), out = psg_log_softmax(r.tape, in, 1);
        TEST_OK(r.context, psg_value(r.tape, out, &value));
        double small = log1p(exp(-1));
        test_near(test_get_at(&value, 0), -small, unit, "log_softmax", 0);
        test_near(test_get_at(&value, 1), -2e4 - small, 2e4 * unit, "log_softmax", 1);
        test_near(test_get_at(&value, 2), -1 - small, 2 * unit, "log_softmax", 2);
        test_near(test_get_at(&value, 3), -INFINITY, 0, "log_softmax", 3);
        psg_tensor p;
        TEST_OK(r.context, psg_value(r.tape, psg_softmax(r.tape, in, 1), &p));
        test_near(test_get_at(&p, 0), exp(-small), unit, "softmax", 0);
        test_near(test_get_at(&p, 1), 0, 0, "softmax", 1);
        TEST_OK(r.context, psg_backward_from(r.tape, out, NULL));
        TEST_OK(r.context, psg_input_grad(r.tape, in, &grad));
        test_near(test_get_at(&grad, 0), 1 - 4 * exp(-small), 4 * unit, "log_softmax", 4);
        test_near(test_get_at(&grad, 1), 1, 0, "log_softmax", 5);
    }
    small_close(&r);
}

/* ---- whole channels ---- */

/* Runs dropout of (n, c, s) ones with one spatial dimension; y holds the output, gx the gradient of ones. */
static void drop(small_pass *r, psg_pass pass, int64_t a, int64_t b, int64_t s, double p, double *y, double *gx) {
    double ones[4096];
    psg_tensor x = psg_tensor_of(PSG_F64, ones, 3, (int64_t[]){ a, b, s }), value, grad;
    test_fill_value(&x, 1);
    TEST_OK(r->context, psg_tape_begin(r->tape, &pass));
    psg_var in = psg_input_with_grad(r->tape, &x), out = psg_dropout1d(r->tape, in, p);
    TEST_OK(r->context, psg_backward_from(r->tape, out, NULL));
    TEST_OK(r->context, psg_value(r->tape, out, &value));
    TEST_OK(r->context, psg_input_grad(r->tape, in, &grad));
    for (int64_t i = 0; i < a * b * s; i++) {
        y[i] = test_get_at(&value, i);
        gx[i] = test_get_at(&grad, i);
    }
}

static void channels_are_dropped_whole(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 3, NULL);
    enum { N = 16, C = 32, S = 7 };
    double y[N * C * S], gx[N * C * S], again[N * C * S], other[N * C * S];
    psg_pass pass = PSG_PASS_INIT;
    int dropped = 0;
    int64_t ids[N];
    for (int n = 0; n < N; n++) ids[n] = n;
    pass.dropout_seed = 5;
    pass.sample_ids = ids;
    drop(&r, pass, N, C, S, 0.25, y, gx);
    for (int k = 0; k < N * C; k++) {
        for (int i = 0; i < S; i++) {
            assert_true(y[k * S + i] == (y[k * S] != 0 ? 1 / 0.75 : 0));
            assert_true(gx[k * S + i] == y[k * S + i]);
        }
        dropped += y[k * S] == 0;
    }
    test_near(dropped, 0.25 * N * C, 5 * sqrt(N * C * 0.25 * 0.75), "dropped channels", 0);
    /* sample 3 alone, and with the batch second, drops the same channels */
    int64_t three = 3;
    pass.sample_ids = &three;
    drop(&r, pass, 1, C, S, 0.25, again, gx);
    for (int i = 0; i < C * S; i++) assert_true(again[i] == y[3 * C * S + i]);
    pass.sample_ids = ids;
    pass.batch_second = 1;
    drop(&r, pass, C, N, S, 0.25, other, gx);
    for (int n = 0; n < N; n++) {
        for (int c = 0; c < C; c++) assert_true(other[(c * N + n) * S] == y[(n * C + c) * S]);
    }
    pass.evaluation = 1;
    drop(&r, pass, C, N, S, 0.25, other, gx);
    for (int i = 0; i < N * C * S; i++) assert_true(other[i] == 1 && gx[i] == 1);
    pass.evaluation = 0;
    drop(&r, pass, C, N, S, 1, other, gx);
    for (int i = 0; i < N * C * S; i++) assert_true(other[i] == 0 && gx[i] == 0);
    small_close(&r);
}

/* Where x > 0 the gradient of a single weight has no term, though x or the gradient there be infinite, in whichever
 * lane. */
static void positive_elements_do_not_move_a_weight(void **state) {
    (void)state;
    enum { MOST = 70 };
    const char *isas[3];
    float x[MOST], gy[MOST];
    for (int i = 0; i < MOST; i++) x[i] = -1, gy[i] = 1;
    for (size_t k = 0, count = test_isas(isas); k < count; k++) {
        psg_context *context = test_context(1, isas[k]);
        for (int at = 0; at < MOST; at++) {
            x[at] = INFINITY;
            assert_true(context->kernels[PSG_F32]->prelu_weight(MOST, x, gy) == 1 - MOST);
            x[at] = 1, gy[at] = -INFINITY;
            assert_true(context->kernels[PSG_F32]->prelu_weight(MOST, x, gy) == 1 - MOST);
            x[at] = -1, gy[at] = 1;
        }
        test_context_free(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinks_limits_and_nan_are_pytorchs),
        cmocka_unit_test(parameters_beyond_f32_round_in_double),
        cmocka_unit_test(small_values_keep_their_digits),
        cmocka_unit_test(scores_of_any_size_are_taken),
        cmocka_unit_test(saturated_rows_keep_their_digits),
        cmocka_unit_test(channels_are_dropped_whole),
        cmocka_unit_test(positive_elements_do_not_move_a_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
