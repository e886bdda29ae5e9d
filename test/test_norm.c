/* Norms by the statistics of their input where the lines of test/cases do not go: sizes that stream, large means, equal
 * elements, what is not finite, powers of two, extremes. */
#include "norm_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Large enough for streaming stores, rows off the cache lines and on them, and few samples cut into parts. */
static void streamed_rows_are_right(void **state) {
    (void)state;
    static const norm_case list[] = {
        { .rank = 3, .shape = { 3, 1500, 1024 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 3, .shape = { 700, 4, 1001 }, .normalized = 1, .eps = 1e-5, .batch_second = true },
        { .rank = 2, .shape = { 2, 100003 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 3, .shape = { 3, 1500, 1024 }, .normalized = 1, .eps = 1e-5, .rms = true },
        { .rank = 4, .shape = { 12, 16, 128, 128 }, .groups = 4, .eps = 1e-5 },
        { .rank = 3, .shape = { 12, 16, 16385 }, .groups = 4, .eps = 1e-5, .batch_second = true },
    };
    psg_context *context = test_context(2, NULL);
    test_random random = { 11 };
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        norm_case c = list[k];
        c.group = c.groups > 0;
        c.mode[WEIGHT] = TRAINABLE;
        c.mode[BIAS] = c.rms ? ABSENT : TRAINABLE;
        c.input_grad = true;
        c.mean = 10;
        norm_check_case(context, &c, &random);
    }
    test_context_free(context);
}

/* eps NaN, or attributes of zeros but for the shape: the type's own epsilon. */
static void no_eps_is_the_machine_epsilon(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 1 };
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        test_array in = test_array_new(&random, (psg_dtype)dtype, 2, (int64_t[]){ 2, 4 }, TEST_CONTIGUOUS);
        test_fill_value(&in.view, sqrt(ldexp(1, dtype == PSG_F64 ? -52 : -23)));
        psg_rms_norm_attributes attributes = { .rank = 1, .normalized_shape = { 4 } };
        psg_tape *tape;
        psg_tensor y;
        TEST_OK(context, psg_tape_create(context, &tape));
        TEST_OK(context, psg_tape_begin(tape, NULL));
        psg_var var = psg_input(tape, &in.view);
        psg_var outs[] = { psg_rms_norm(tape, var, 1, (int64_t[]){ 4 }, psg_none(), NAN),
                           psg_apply(tape, "rms_norm", &var, 1, &attributes) };
        for (int k = 0; k < 2; k++) {
            TEST_OK(context, psg_value(tape, outs[k], &y));
            for (int64_t i = 0; i < 8; i++) test_near(test_get_at(&y, i), sqrt(0.5), 1e-6, "y", i);
        }
        psg_tape_destroy(tape);
        test_array_free(&in);
    }
    test_context_free(context);
}

/* ---- accuracy ---- */

/* 1 / sqrt(var) is read from y = (x - mean) rstd: the variance must be right to 1e-5, and so must y. */
static void large_means_cost_no_digits(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int group = 0; group < 2; group++) {
        for (int k = 0; k < 4; k++) {
            test_random random = { 21 };
            norm_case c = { .group = group, .rank = 3, .shape = { 8, 4, 768 }, .normalized = 1, .groups = 2,
                            .mean = (double[]){ 1e2, 1e3, 1e4, 1e6 }[k], .mode = { 0, TRAINABLE, ABSENT } };
            test_array in[3], g;
            norm_case_arrays(&c, &random, in, &g);
            if (k == 2) test_set_at(&in[INPUT].view, 0, 1.3e4);   /* the first element far off */
            norm_places l = norm_places_of(&c);
            norm_run r = norm_record(context, &c, in);
            norm_reference expected = norm_refer(&c, &l, in, &g);
            psg_tensor y;
            TEST_OK(context, psg_value(r.tape, r.y, &y));
            for (int64_t i = 0; i < psg_tensor_count(&y); i++) {
                double w = test_get_at(&in[WEIGHT].view, group ? i / 768 % 4 : i % 768);
                test_near(test_get_at(&y, i), expected.y[i], 2e-6 * fabs(w) * (fabs(expected.y[i] / w) + 1), "y", i);
            }
            norm_reference_free(&expected);
            norm_run_free(&r);
            for (int j = 0; j < 3; j++) test_array_free(&in[j]);
            test_array_free(&g);
        }
    }
    test_context_free(context);
}

/* Equal elements: variance 0 exactly, so y is the bias and eps 0 gives NaN. */
static void equal_elements_have_no_variance(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        for (int zero = 0; zero < 2; zero++) {
            test_random random = { 4 };
            norm_case c = { .dtype = (psg_dtype)dtype, .rank = 2, .shape = { 3, 771 }, .normalized = 1,
                            .eps = zero ? 0 : 1e-30, .mode = { 0, ABSENT, TRAINABLE } };
            test_array in[3], g;
            norm_case_arrays(&c, &random, in, &g);
            test_fill_value(&in[INPUT].view, 16777.1);
            norm_run r = norm_record(context, &c, in);
            psg_tensor y;
            TEST_OK(context, psg_value(r.tape, r.y, &y));
            for (int64_t i = 0; i < psg_tensor_count(&y); i++) {
                test_near(test_get_at(&y, i), zero ? NAN : test_get_at(&in[BIAS].view, i % 771), 0, "y", i);
            }
            norm_run_free(&r);
            for (int j = 0; j < 3; j++) test_array_free(&in[j]);
            test_array_free(&g);
        }
    }
    test_context_free(context);
}

/* A NaN or an Inf in one row makes that row NaN and no other. */
static void nonfinite_rows_stay_alone(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 6 };
    norm_case c = { .rank = 3, .shape = { 3, 2, 40 }, .normalized = 1, .eps = 1e-5 };
    test_array in[3], g;
    norm_case_arrays(&c, &random, in, &g);
    test_set_at(&in[INPUT].view, 1 * 40 + 39, NAN);
    test_set_at(&in[INPUT].view, 4 * 40, INFINITY);
    norm_run r = norm_record(context, &c, in);
    psg_tensor y;
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    for (int64_t i = 0; i < psg_tensor_count(&y); i++) {
        assert_int_equal(isnan(test_get_at(&y, i)) != 0, i / 40 == 1 || i / 40 == 4);
    }
    norm_run_free(&r);
    for (int j = 0; j < 3; j++) test_array_free(&in[j]);
    test_array_free(&g);
    test_context_free(context);
}

/* ---- laws ---- */

typedef struct outcome {
    int64_t bytes;
    unsigned char *data;
} outcome;

static void append(outcome *o, const psg_tensor *t) {
    int64_t bytes = psg_tensor_count(t) * (int64_t)psg_dtype_size(t->dtype);
    o->data = realloc(o->data, (size_t)(o->bytes + bytes));
    memcpy(o->data + o->bytes, t->data, (size_t)bytes);
    o->bytes += bytes;
}

static void times_power(const psg_tensor *t, int exponent) {
    for (int64_t k = 0; k < psg_tensor_count(t); k++) test_set_at(t, k, ldexp(test_get_at(t, k), exponent));
}

/* Of the input times 2^exponent; the input gradient is multiplied by that too. */
static outcome outcome_of(const norm_case *c, const char *isa, unsigned threads, int exponent) {
    psg_context *context = test_context(threads, isa);
    test_random random = { 8 };
    test_array in[3], g;
    norm_case_arrays(c, &random, in, &g);
    times_power(&in[INPUT].view, exponent);
    norm_run r = norm_record(context, c, in);
    outcome o = { 0 };
    psg_tensor t;
    TEST_OK(context, psg_backward_from(r.tape, r.y, &g.view));
    TEST_OK(context, psg_value(r.tape, r.y, &t));
    append(&o, &t);
    TEST_OK(context, psg_input_grad(r.tape, r.x, &t));
    append(&o, &t);
    times_power(&(psg_tensor){ .dtype = t.dtype, .rank = 1, .shape = { psg_tensor_count(&t) }, .stride = { 1 },
                               .data = o.data + o.bytes / 2 }, exponent);
    for (int k = WEIGHT; k <= BIAS && r.param[k]; k++) {
        psg_gradient gradient;
        TEST_OK(context, psg_gradient_of(r.tape, r.param[k], &gradient));
        for (size_t b = 0; b < gradient.block_count; b++) append(&o, &gradient.blocks[b].backprop);
    }
    norm_run_free(&r);
    for (int j = 0; j < 3; j++) test_array_free(&in[j]);
    test_array_free(&g);
    test_context_free(context);
    return o;
}

static void expect_near(const outcome *one, outcome other, psg_dtype dtype) {
    const int64_t count = one->bytes / (int64_t)psg_dtype_size(dtype);
    psg_tensor a = psg_tensor_of(dtype, one->data, 1, &count), b = psg_tensor_of(dtype, other.data, 1, &count);
    for (int64_t k = 0; k < count; k++) {
        double value = test_get_at(&a, k);
        test_near(test_get_at(&b, k), value, (dtype == PSG_F64 ? 1e-14 : 4e-6) * (1 + fabs(value)), "outcome", k);
    }
    free(other.data);
}

/* With eps 0 a power of two in the input changes nothing but the scale of its gradient, however far the squares are out
 * of range. */
static void powers_of_two_change_nothing(void **state) {
    (void)state;
    static const int exponents[2][6] = { { -100, -60, 30, 63, 80, 100 }, { -1000, -520, 300, 511, 700, 1000 } };
    static const norm_case list[] = {
        { .rank = 3, .shape = { 3, 5, 96 }, .normalized = 1 },
        { .rank = 2, .shape = { 3, 1037 }, .normalized = 1, .mean = 30 },
        { .rank = 3, .shape = { 3, 5, 37 }, .normalized = 1, .rms = true },
        { .rank = 3, .shape = { 3, 8, 45 }, .groups = 4 },
        { .rank = 2, .shape = { 3, 24 }, .groups = 2 },
        { .rank = 3, .shape = { 3, 8, 150 }, .groups = 8, .instance = true },
    };
    const char *isas[3];
    size_t isa_count = test_isas(isas);
    for (size_t k = 0; k < isa_count * 2 * (sizeof list / sizeof list[0]); k++) {
        norm_case c = list[k / 2 / isa_count];
        c.group = c.groups > 0;
        c.dtype = k % 2 ? PSG_F64 : PSG_F32;
        c.mode[WEIGHT] = TRAINABLE;
        c.mode[BIAS] = c.rms ? ABSENT : TRAINABLE;
        c.input_grad = true;
        outcome one = outcome_of(&c, isas[k / 2 % isa_count], 1, 0);
        for (int e = 0; e < 6; e++) {
            expect_near(&one, outcome_of(&c, isas[k / 2 % isa_count], 1, exponents[k % 2][e]), c.dtype);
        }
        free(one.data);
    }
}

/* ---- extremes ---- */

/* A row of 4, its standardized elements, g / sqrt(var + eps) (rms: mean square + eps), and g, the output gradient of
 * the first element; the others' is 0. */
typedef struct extreme {
    bool rms;
    psg_dtype dtype;
    double eps, x[4], y[4], slope, g;
} extreme;

#define ONE_LARGE { 1.7320508075688772, -0.57735026918962573, -0.57735026918962573, -0.57735026918962573 }
#define ALTERNATING { 1, -1, 1, -1 }
#define ONE_TO_FOUR { -1.3416407864998738, -0.44721359549995793, 0.44721359549995793, 1.3416407864998738 }

static const extreme extremes[] = {
    { false, PSG_F32, 1e-5, { 1e20, 1, 2, 3 }, ONE_LARGE, 2.3094010767585032e-20, 1 },
    { false, PSG_F32, 1e-5, { 1e30, -1e30, 3e30, -3e30 },
      { 0.44721359549995793, -0.44721359549995793, 1.3416407864998738, -1.3416407864998738 },
      4.4721359549995793e-31, 1 },
    { false, PSG_F32, 1e-5, { 3e38, -3e38, 3e38, -3e38 }, ALTERNATING, 1e10 / 3e38, 1e10 },
    { false, PSG_F32, 0, { 1e-30, 2e-30, 3e-30, 4e-30 }, ONE_TO_FOUR, 8.9442719099991588e29, 1 },
    { false, PSG_F32, 0, { 0x1p-149, 0x2p-149, 0x3p-149, 0x4p-149 }, ONE_TO_FOUR, 0.89442719099991588 * 0x1p89,
      0x1p-60 },
    { false, PSG_F32, 1e-50, { 1e-25, -1e-25, 1e-25, -1e-25 },
      { 0.70710678118654752, -0.70710678118654752, 0.70710678118654752, -0.70710678118654752 },
      0.70710678118654752e25, 1 },
    { true, PSG_F32, 1e-5, { 1e20, 1, 2, 3 }, { 2, 2e-20, 4e-20, 6e-20 }, 2e-20, 1 },
    { true, PSG_F32, 0, { 1e-30, -1e-30, 1e-30, -1e-30 }, ALTERNATING, 1e30, 1 },
    { false, PSG_F64, 1e-5, { 1e200, 1, 2, 3 }, ONE_LARGE, 2.3094010767585032e-200, 1 },
    { false, PSG_F64, 1e-5, { 1.7e308, -1.7e308, 1.7e308, -1.7e308 }, ALTERNATING, 1e10 / 1.7e308, 1e10 },
    { false, PSG_F64, 1e-5, { 1.7e308, 1.7e308, 1.7e308, 0 },
      { 0.57735026918962573, 0.57735026918962573, 0.57735026918962573, -1.7320508075688772 },
      2.3094010767585032e10 / 1.7e308, 1e10 },
    { false, PSG_F64, 0, { 1e-200, 2e-200, 3e-200, 4e-200 }, ONE_TO_FOUR, 8.9442719099991588e199, 1 },
    { false, PSG_F64, 0, { 0x1p-1074, 0x2p-1074, 0x3p-1074, 0x4p-1074 }, ONE_TO_FOUR, 0.89442719099991588 * 0x1p774,
      0x1p-300 },
    { false, PSG_F64, 1e-300, { 1e-160, -1e-160, 1e-160, -1e-160 }, { 1e-10, -1e-10, 1e-10, -1e-10 }, 1e150, 1 },
    { true, PSG_F64, 1e-5, { 1e160, -1e160, 1e160, -1e160 }, ALTERNATING, 1e-160, 1 },
    { true, PSG_F64, 0, { 1e-200, -1e-200, 1e-200, -1e-200 }, ALTERNATING, 1e200, 1 },
};

static void check_extreme(psg_context *context, const extreme *e, bool group) {
    norm_case c = { .group = group, .rms = e->rms, .dtype = e->dtype, .rank = 3, .shape = { 1, 1, 4 }, .normalized = 1,
                    .groups = 1, .eps = e->eps, .mode = { 0, TRAINABLE, ABSENT }, .input_grad = true };
    const double unit = e->dtype == PSG_F64 ? 1e-14 : 1e-6;
    test_random random = { 1 };
    test_array in[3], g;
    norm_case_arrays(&c, &random, in, &g);
    for (int64_t i = 0; i < 4; i++) test_set_at(&in[INPUT].view, i, e->x[i]);
    test_fill_value(&in[WEIGHT].view, 1);
    test_fill_value(&g.view, 0);
    test_set_at(&g.view, 0, e->g);
    norm_run r = norm_record(context, &c, in);
    psg_tensor y, gx;
    psg_gradient gradient;
    TEST_OK(context, psg_backward_from(r.tape, r.y, &g.view));
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    TEST_OK(context, psg_input_grad(r.tape, r.x, &gx));
    TEST_OK(context, psg_gradient_of(r.tape, r.param[WEIGHT], &gradient));
    for (int64_t i = 0; i < 4; i++) {
        double mean = e->rms ? 0 : 0.25, expected = e->slope * ((i == 0) - mean - e->y[i] * e->y[0] / 4);
        test_near(test_get_at(&y, i), e->y[i], unit * fabs(e->y[i]), "y", i);
        test_near(test_get_at(&gx, i), expected, 4 * unit * e->slope, "gx", i);
    }
    test_near(test_get_at(&gradient.blocks[0].backprop, 0), e->g * e->y[0], unit * e->g, "grad_weight", 0);
    norm_run_free(&r);
    for (int j = 0; j < 3; j++) test_array_free(&in[j]);
    test_array_free(&g);
}

static void extreme_rows_are_right(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t isa = 0; isa < count; isa++) {
        psg_context *context = test_context(1, isas[isa]);
        for (size_t k = 0; k < sizeof extremes / sizeof extremes[0]; k++) {
            for (int group = 0; group < 2 - extremes[k].rms; group++) check_extreme(context, &extremes[k], group);
        }
        test_context_free(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streamed_rows_are_right),
        cmocka_unit_test(no_eps_is_the_machine_epsilon),
        cmocka_unit_test(large_means_cost_no_digits),
        cmocka_unit_test(equal_elements_have_no_variance),
        cmocka_unit_test(nonfinite_rows_stay_alone),
        cmocka_unit_test(powers_of_two_change_nothing),
        cmocka_unit_test(extreme_rows_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
