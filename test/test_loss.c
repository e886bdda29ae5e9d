/* The losses where the lines of test/cases do not go: kinks, limits, NaN, saturated, empty and ignored
 * targets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "small_pass.h"

/* ---- single values ---- */

#define NUMBERED(name, call) static psg_var name(psg_tape *t, const psg_var *in) { return call; }
#define POISSON(...) &(psg_poisson_nll_options){ __VA_ARGS__, { 0 } }
NUMBERED(l1_none, psg_l1(t, in[0], in[1], PSG_NONE))
NUMBERED(l1_mean, psg_l1(t, in[0], in[1], PSG_MEAN))
NUMBERED(smooth_l1_none, psg_smooth_l1(t, in[0], in[1], 0.5, PSG_NONE))
NUMBERED(huber_none, psg_huber(t, in[0], in[1], 1.5, PSG_NONE))
NUMBERED(binary_none, psg_binary_cross_entropy(t, in[0], in[1], PSG_NONE))
NUMBERED(binary_mean, psg_binary_cross_entropy(t, in[0], in[1], PSG_MEAN))
NUMBERED(kl_none, psg_kl_div(t, in[0], in[1], 0, PSG_NONE))
NUMBERED(kl_log_none, psg_kl_div(t, in[0], in[1], 1, PSG_NONE))
NUMBERED(poisson_log_none, psg_poisson_nll(t, in[0], in[1], POISSON(PSG_NONE, 0, 0, 0.0)))
NUMBERED(poisson_full_none, psg_poisson_nll(t, in[0], in[1], POISSON(PSG_NONE, 1, 1, 0.01)))
NUMBERED(soft_margin_none, psg_soft_margin(t, in[0], in[1], PSG_NONE))
NUMBERED(hinge_none, psg_hinge_embedding(t, in[0], in[1], 0.6, PSG_NONE))
NUMBERED(smooth_l1_0, psg_smooth_l1(t, in[0], in[1], 0, PSG_NONE))
NUMBERED(smooth_l1_1e30, psg_smooth_l1(t, in[0], in[1], 1e30, PSG_NONE))
NUMBERED(smooth_l1_1e40, psg_smooth_l1(t, in[0], in[1], 1e40, PSG_NONE))
NUMBERED(smooth_l1_1e300, psg_smooth_l1(t, in[0], in[1], 1e300, PSG_NONE))
NUMBERED(huber_1e15, psg_huber(t, in[0], in[1], 1e15, PSG_MEAN))
NUMBERED(huber_1e30, psg_huber(t, in[0], in[1], 1e30, PSG_MEAN))
NUMBERED(squared, psg_mse(t, in[0], in[1], PSG_MEAN))
NUMBERED(logits, psg_binary_cross_entropy_with_logits(t, in[0], in[1], PSG_NONE))
NUMBERED(poisson_1e_50, psg_poisson_nll(t, in[0], in[1], POISSON(PSG_NONE, 1, 0, 1e-50)))

enum { BOTH, F32_ALONE, F64_ALONE };

typedef struct point {
    psg_var (*f)(psg_tape *, const psg_var *);
    const char *name;
    double x, target, y, dx, dtarget;
    int types, zeros;                      /* elements 0 behind the one */
} point;

#define AT(builder, ...) { .f = builder, #builder, __VA_ARGS__ }

/* Kinks as PyTorch has them, targets and inputs at the ends of their domains, values beyond an exponential's range. */
static const point points[] = {
    AT(l1_none, 2, 2, 0, 0, 0), AT(smooth_l1_0, 2, 2, 0, 0, 0), AT(smooth_l1_0, 3, 2, 1, 1, -1),
    AT(smooth_l1_none, 0.5, 0, 0.25, 1, -1), AT(huber_none, 1.5, 0, 1.125, 1.5, -1.5),
    AT(huber_none, 1e4, 0, 1.5 * (1e4 - 0.75), 1.5, -1.5),
    AT(kl_none, -3, 0, 0, 0, -INFINITY), AT(kl_none, -INFINITY, 1, INFINITY, -1, INFINITY),
    AT(soft_margin_none, 1e4, 1, 0, 0, 0), AT(soft_margin_none, -1e4, 1, 1e4, -1, 1e4),
    AT(hinge_none, 2, 1, 2, 1, 0), AT(hinge_none, 2, -1, 0, 0, 0), AT(hinge_none, 0.25, -1, 0.35, -1, 0),
    /* squares and differences that overflow, and means of them that do not */
    AT(squared, 1e20, 0, 1e37, 2e17, -2e17, BOTH, 999), AT(squared, 3e154, 0, 9e305, 6e151, -6e151, F64_ALONE, 999),
    AT(squared, 3e38, -3e38, INFINITY, 1.2e36, -1.2e36, F32_ALONE, 999),
    AT(l1_mean, 3e38, -3e38, 6e35, 1e-3, -1e-3, BOTH, 999),
    AT(l1_mean, 1.5e308, -1.5e308, 3e305, 1e-3, -1e-3, F64_ALONE, 999), AT(l1_none, INFINITY, INFINITY, NAN, NAN, NAN),
    AT(smooth_l1_1e30, 1e20, 0, 5e9, 1e-10, -1e-10), AT(smooth_l1_1e300, 1e200, 0, 5e99, 1e-100, -1e-100, F64_ALONE),
    AT(smooth_l1_1e40, 1e20, 0, 0.5, 1e-20, -1e-20), AT(huber_1e30, 1e20, 0, 5e36, 1e17, -1e17, BOTH, 999),
    AT(huber_1e15, 1e25, 0, 9.9999999995e36, 1e12, -1e12, BOTH, 999),
    AT(huber_1e30, 1e160, 0, 1e187, 1e27, -1e27, F64_ALONE, 999),
    /* logits that saturate */
    AT(logits, INFINITY, 1, 0, 0, -INFINITY), AT(logits, -INFINITY, 0, 0, 0, INFINITY),
    AT(logits, INFINITY, 0, INFINITY, 1, -INFINITY), AT(logits, -INFINITY, 1, INFINITY, -1, INFINITY),
    AT(logits, 20, 1, 2.0611536203143807e-9, -2.0611536181902037e-9, -20),
    AT(logits, -20, 0, 2.0611536203143807e-9, 2.0611536181902037e-9, 20),
    AT(logits, 20, 1 - 0x1p-10, 0.019531252061153620, 9.7656043884638180e-4, -20),
    AT(soft_margin_none, INFINITY, 1, 0, 0, 0), AT(soft_margin_none, -INFINITY, -1, 0, 0, 0),
    AT(soft_margin_none, -INFINITY, 1, INFINITY, -1, INFINITY), AT(soft_margin_none, INFINITY, 0, log(2), 0, -INFINITY),
    /* probabilities: what is bounded is the logarithm */
    AT(binary_none, 0, 1, 100, 0, 100), AT(binary_none, 1, 0, 100, 0, -100), AT(binary_none, 1, 1, 0, -1, -100),
    AT(binary_none, 0, 0, 0, 1, 100), AT(binary_none, 0x1p-58, 1, 58 * log(2), -0x1p58, 58 * log(2)),
    AT(binary_none, 0x1p-50, 0, 0x1p-50, 1, 50 * log(2)), AT(binary_none, 1e-50, 1, 100, -1e50, 100, F64_ALONE),
    AT(binary_mean, 0x1p-133, 1, 0.133 * log(2), -0x1p133 / 1000, 0.133 * log(2), F32_ALONE, 999),
    /* weights of 0, and limits */
    AT(kl_none, -INFINITY, 0, 0, 0, 0), AT(kl_log_none, -INFINITY, -INFINITY, 0, 0, 0),
    AT(kl_log_none, -1, -INFINITY, 0, 0, 0), AT(poisson_log_none, -INFINITY, 0, 0, 0, INFINITY),
    AT(poisson_log_none, INFINITY, 0, INFINITY, INFINITY, -INFINITY),
    AT(poisson_log_none, INFINITY, 1, INFINITY, INFINITY, -INFINITY),
    AT(poisson_log_none, -INFINITY, 1, INFINITY, -1, INFINITY),
    AT(poisson_full_none, 2, INFINITY, INFINITY, -INFINITY, INFINITY),
    AT(poisson_full_none, INFINITY, 1, INFINITY, 1, -INFINITY),
    AT(poisson_1e_50, 0, 1, 50 * log(10), -INFINITY, 50 * log(10), F32_ALONE),
    AT(poisson_1e_50, 0, 1, 50 * log(10), -1e50, 50 * log(10), F64_ALONE),
    AT(poisson_1e_50, 1, 1 + 0x1p-23, 1, -0x1p-23, 0), AT(hinge_none, INFINITY, 1, INFINITY, 1, 0),
    AT(hinge_none, INFINITY, -1, 0, 0, 0), AT(hinge_none, -INFINITY, -1, INFINITY, -1, 0),
};

static psg_var (*const functions[])(psg_tape *, const psg_var *) = {
    l1_none, l1_mean, smooth_l1_none, huber_none, binary_none, binary_mean, kl_none, kl_log_none, poisson_log_none,
    poisson_full_none, soft_margin_none, hinge_none, squared, logits,
};

enum { MOST = 1000 };

static void at_point(small_pass *r, psg_dtype dtype, const point *p, double *y, double *dx, double *dtarget) {
    static double memory[2][MOST];
    psg_tensor x = psg_tensor_of(dtype, memory[0], 1, (int64_t[]){ 1 + p->zeros }), target = x, value, grad;
    target.data = memory[1];
    memset(memory, 0, sizeof memory);
    test_set_at(&x, 0, p->x);
    test_set_at(&target, 0, p->target);
    TEST_OK(r->context, psg_tape_begin(r->tape, &(psg_pass){ .ordinary = 1 }));   /* of a mean the gradient as it is */
    psg_var in[2] = { psg_input_with_grad(r->tape, &x), psg_input_with_grad(r->tape, &target) };
    psg_var out = p->f(r->tape, in);
    TEST_OK(r->context, psg_value(r->tape, out, &value));
    TEST_OK(r->context, value.rank ? psg_backward_from(r->tape, out, NULL) : psg_backward(r->tape, out));
    *y = test_get_at(&value, 0);
    TEST_OK(r->context, psg_input_grad(r->tape, in[0], &grad));
    *dx = test_get_at(&grad, 0);
    TEST_OK(r->context, psg_input_grad(r->tape, in[1], &grad));
    *dtarget = test_get_at(&grad, 0);
}

static void check_point(const point *p, double got, double expected, double unit, const char *what) {
    bool same = isnan(expected) ? isnan(got) : isinf(expected) ? got == expected
                                                               : fabs(got - expected) <= unit * fabs(expected);
    if (!same) print_error("%s(%g, %g): %s is %.17g, expected %.17g\n", p->name, p->x, p->target, what, got, expected);
    assert_true(same);
}

static void kinks_and_limits_have_their_values(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (size_t k = 0; k < sizeof points / sizeof points[0]; k++) {
        const point *p = &points[k];
        for (int dtype = 0; dtype < 2; dtype++) {
            double y, dx, dtarget, unit = dtype ? 2e-15 : 1e-6;
            if (p->types == (dtype ? F32_ALONE : F64_ALONE)) continue;
            at_point(&r, dtype, p, &y, &dx, &dtarget);
            check_point(p, y, p->y, unit, "value");
            check_point(p, dx, p->dx, unit, "dx");
            check_point(p, dtarget, p->dtarget, unit, "dtarget");
        }
    }
    small_close(&r);
}

static void nan_stays(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (size_t k = 0; k < sizeof functions / sizeof functions[0]; k++) {
        double y, dx, dtarget;
        at_point(&r, PSG_F32, &(point){ .f = functions[k], .x = NAN, .target = 0.5 }, &y, &dx, &dtarget);
        if (!isnan(y)) fail_msg("function %zu of NaN is %g", k, y);
    }
    small_close(&r);
}

/* ---- classes: saturated, masked, of weight 0 ---- */

enum { SOFT = -1 };

typedef struct class_point {
    double x[3];
    int label;                 /* or SOFT: probabilities q */
    double q[3], weight[3];    /* weight: all 0 for none */
    double smoothing, loss, dx[3], dq[3];
    int types, rows;           /* 0: one; the mean of as many that are alike */
} class_point;

#define OF(...) { .x = __VA_ARGS__ }
static const class_point class_points[] = {
    OF({ 20, 0, -INFINITY }, 0, { 0 }, { 0 }, 0, 2.0611536203143807e-9,
      { -2.0611536181902036e-9, 2.0611536181902036e-9 }),
    OF({ 20, 0, -INFINITY }, SOFT, { 1, 0, 0 }, { 0 }, 0, 2.0611536203143807e-9,
      { -2.0611536181902036e-9, 2.0611536181902036e-9 }, { 2.0611536203143807e-9, 20.000000002061154, INFINITY }),
    OF({ 40, 0, 0 }, SOFT, { 1, 0, 0 }, { 0 }, 0, 8.496708510583178e-18,
      { -8.4967085105831779e-18, 4.248354255291589e-18, 4.248354255291589e-18 }, { 8.496708510583178e-18, 40, 40 }),
    OF({ 0, 20, -INFINITY }, SOFT, { 0.25, 0.75, 0 }, { 0 }, 0, 5.0000000020611536,
      { -0.24999999793884638, 0.24999999793884638 }, { 20.000000002061154, 2.0611536203143807e-9, INFINITY }),
    OF({ 0, 20, 0 }, SOFT, { 0, 1, 0 }, { 0.5, 4, 1 }, 0, 1.6489228945521629e-8,
      { 8.2446144557673974e-9, -1.6489228911534795e-8, 8.2446144557673974e-9 },
      { 10.000000002061154, 1.6489228945521629e-8, 20.000000004122307 }),
    OF({ 0, -INFINITY, 0 }, SOFT, { 0.5, 0, 0.5 }, { 0 }, 0, 0.69314718055994531, { 0 },
      { 0.69314718055994531, INFINITY, 0.69314718055994531 }),
    OF({ 20, 0, -INFINITY }, 0, { 0 }, { 1, 2, 0 }, 3 * 0x1p-30, 3.9314056604933521e-8,
      { -1.9850846895924655e-10, 1.9850846895924655e-10 }),
    OF({ 0, -INFINITY, 1 }, 0, { 0 }, { 1, 0, 2 }, 0.25, 1.1465950208515562,
      { -0.56439191196333821, 0, 0.56439191196333821 }),
    OF({ 0, -INFINITY, 1 }, 1, { 0 }, { 1, 0, 2 }, 0, 0, { 0 }),
    OF({ 0, -INFINITY, 0 }, 0, { 0 }, { 1, 1, 1 }, 1e-50, INFINITY, { -0.5, -1e-50 / 3, 0.5 }),
    OF({ 0, -INFINITY, 0 }, 1, { 0 }, { 0 }, 1, INFINITY, { 0.5 - 1. / 3, -1. / 3, 0.5 - 1. / 3 }),
    OF({ 1e4, -1e4, 9999 }, 1, { 0 }, { 0 }, 0, 20000.313261687518223,
      { 0.73105857863000488, -1, 0.26894142136999512 }),
    OF({ 0, -2e38, -2e38 }, 1, { 0 }, { 0 }, 0, 2e38, { 1e-3, -1e-3 }, { 0 }, BOTH, 1000),
    OF({ 0, -1e308, -1e308 }, 1, { 0 }, { 0 }, 0, 1e308, { 1e-3, -1e-3 }, { 0 }, F64_ALONE, 1000),
};

static void check_near(const char *name, size_t k, psg_dtype dtype, double got, double expected) {
    double most = dtype ? 2e-15 * fabs(expected) : 1e-6 * fabs(expected) + 0x1p-149;
    bool same = isinf(expected) ? got == expected : fabs(got - expected) <= most;
    if (!same) print_error("class point %zu, %s: %s is %.17g, expected %.17g\n", k, psg_dtype_name(dtype), name, got,
                           expected);
    assert_true(same);
}

/* The losses and gradients of cross_entropy, and what nll makes of the same numbers. */
static void at_class_point(small_pass *r, psg_dtype dtype, size_t k) {
    static double memory[2][3 * MOST];
    static int64_t labels[MOST];
    const class_point *p = &class_points[k];
    int64_t n = p->rows ? p->rows : 1, weighted = p->weight[0] != 0;
    psg_tensor x = psg_tensor_of(dtype, memory[0], 2, (int64_t[]){ n, 3 }), q = x, value, grad;
    psg_tensor weight = psg_tensor_of(dtype, (double[3]){ 0 }, 1, (int64_t[]){ 3 }), target = psg_i64_1d(labels, n);
    psg_cross_entropy_options options = { .reduction = p->rows ? PSG_MEAN : PSG_SUM, .label_smoothing = p->smoothing };
    q.data = memory[1];
    for (int64_t e = 0; e < 3 * n; e++) test_set_at(&x, e, p->x[e % 3]), test_set_at(&q, e, p->q[e % 3]);
    for (int64_t i = 0; i < n; i++) labels[i] = p->label;
    for (int c = 0; c < 3; c++) test_set_at(&weight, c, p->weight[c]);
    TEST_OK(r->context, psg_tape_begin(r->tape, &(psg_pass){ .ordinary = 1 }));   /* of a mean the gradient as it is */
    psg_var in = psg_input_with_grad(r->tape, &x);
    psg_var wanted = p->label == SOFT ? psg_input_with_grad(r->tape, &q) : psg_input(r->tape, &target);
    psg_var weights = weighted ? psg_constant(r->tape, &weight) : psg_none();
    psg_var loss = psg_cross_entropy_weighted(r->tape, in, wanted, weights, &options);
    TEST_OK(r->context, psg_backward(r->tape, loss));
    TEST_OK(r->context, psg_value(r->tape, loss, &value));
    check_near("loss", k, dtype, test_get_at(&value, 0), p->loss);
    for (int side = 0; side < (p->label == SOFT ? 2 : 1); side++) {
        TEST_OK(r->context, psg_input_grad(r->tape, side ? wanted : in, &grad));
        for (int64_t c = 0; c < 3; c++) {
            check_near(side ? "dq" : "dx", k, dtype, test_get_at(&grad, c), side ? p->dq[c] : p->dx[c]);
        }
    }
    if (p->label == SOFT || p->smoothing > 0) return;
    double w = weighted ? p->weight[p->label] : 1;
    loss = psg_nll(r->tape, in, wanted, weights, &(psg_nll_options){ .reduction = options.reduction });
    TEST_OK(r->context, psg_value(r->tape, loss, &value));
    check_near("nll", k, dtype, test_get_at(&value, 0), w == 0 ? 0 : -w * p->x[p->label]);
}

static void saturated_and_masked_classes_keep_their_digits(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (size_t k = 0; k < sizeof class_points / sizeof class_points[0]; k++) {
        for (int dtype = 0; dtype < 2; dtype++) {
            if (class_points[k].types != (dtype ? F32_ALONE : F64_ALONE)) at_class_point(&r, dtype, k);
        }
    }
    small_close(&r);
}

/* No samples: 0 in a per-sample pass; of a mean, 0 / 0 in an ordinary one. */
static void nothing_has_no_loss(void **state) {
    (void)state;
    enum { MEANS = 7, LOSSES = 9 };
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (int which = 0; which < 2 * LOSSES; which++) {
        const int ordinary = which / LOSSES;
        psg_tape *t = r.tape;
        psg_tensor none = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ 0, 3 }), value;
        psg_tensor labels = psg_tensor_of(PSG_I64, NULL, 1, (int64_t[]){ 0 });
        small_begin(&r, (psg_pass){ .has_batch_size = 1, .ordinary = ordinary });
        psg_var in = psg_input_with_grad(t, &none), target = psg_input(t, &labels), loss = psg_none();
        switch (which % LOSSES) {
        case 0: loss = psg_cross_entropy(t, in, target, NULL); break;
        case 1: loss = psg_cross_entropy(t, in, in, NULL); break;
        case 2: loss = psg_nll(t, in, target, psg_none(), NULL); break;
        case 3: loss = psg_kl_div(t, in, in, 0, PSG_BATCH_MEAN); break;
        case 4: loss = psg_mse(t, in, in, PSG_MEAN); break;
        case 5: loss = psg_binary_cross_entropy_with_logits(t, in, in, PSG_MEAN); break;
        case 6: loss = psg_mean(t, in, 2, (int[]){ 0, 1 }, 0); break;
        case 7: loss = psg_mse(t, in, in, PSG_SUM); break;
        case 8: loss = psg_l1(t, in, in, PSG_SUM); break;
        }
        TEST_OK(r.context, psg_backward(t, loss));
        TEST_OK(r.context, psg_value(t, loss, &value));
        test_near(test_get_at(&value, 0), ordinary && which % LOSSES < MEANS ? NAN : 0, 0, "loss of nothing", which);
    }
    small_close(&r);
}

/* All targets ignored: a sum of 0, a mean of 0 / 0; no gradient, though a logit is NaN. */
static void ignored_rows_have_no_gradient(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    float logits[6] = { 1, NAN, 3, 4, 5, 6 };
    int64_t labels[2] = { 1, 1 };
    for (int which = 0; which < 4; which++) {
        const int ordinary = which % 2;
        const psg_reduction reduction = ordinary ? PSG_MEAN : PSG_SUM;
        psg_tensor x = psg_f32_2d(logits, 2, 3), target = psg_i64_1d(labels, 2), value, grad;
        small_begin(&r, (psg_pass){ .ordinary = ordinary });
        psg_var in = psg_input_with_grad(r.tape, &x), ignored = psg_input(r.tape, &target);
        psg_cross_entropy_options of_logits = { .reduction = reduction, .has_ignore_index = 1, .ignore_index = 1 };
        psg_nll_options of_logarithms = { reduction, 1, 1, { 0 } };
        psg_var loss = which / 2 ? psg_nll(r.tape, in, ignored, psg_none(), &of_logarithms)
                                 : psg_cross_entropy(r.tape, in, ignored, &of_logits);
        TEST_OK(r.context, psg_backward(r.tape, loss));
        TEST_OK(r.context, psg_value(r.tape, loss, &value));
        TEST_OK(r.context, psg_input_grad(r.tape, in, &grad));
        test_near(test_get_at(&value, 0), ordinary ? NAN : 0, 0, "all ignored", which);
        for (int64_t k = 0; k < 6; k++) test_near(test_get_at(&grad, k), 0, 0, "gradient of an ignored row", k);
    }
    small_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinks_and_limits_have_their_values),
        cmocka_unit_test(nan_stays),
        cmocka_unit_test(saturated_and_masked_classes_keep_their_digits),
        cmocka_unit_test(nothing_has_no_loss),
        cmocka_unit_test(ignored_rows_have_no_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
