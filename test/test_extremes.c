/* Values by hand at the edges of the types, where an op's own tests do not go. */
#include "small_pass.h"

#include <math.h>

/* The input gradient of an op of one input, at an output gradient, in f32 and f64. */
static void gradient_at(psg_var (*op)(psg_tape *tape, psg_var x), int64_t n, const double *x, const double *gy,
                        const double *expected) {
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        small_pass f;
        small_open(&f);
        psg_tensor in = small_zeros(&f, (psg_dtype)dtype, 2, (int64_t[]){ 1, n }), grad = in, got;
        grad = small_zeros(&f, (psg_dtype)dtype, 2, (int64_t[]){ 1, n });
        for (int64_t k = 0; k < n; k++) {
            test_set_at(&in, k, x[k]);
            test_set_at(&grad, k, gy[k]);
        }
        small_begin(&f, (psg_pass){ .batch_size = 1 });
        psg_var var = psg_input_with_grad(f.tape, &in);
        small_backward(&f, op(f.tape, var), &grad);
        TEST_OK(f.context, psg_input_grad(f.tape, var, &got));
        for (int64_t k = 0; k < n; k++) {
            double bound = fabs(expected[k]) * (dtype == PSG_F32 ? 1e-5 : 1e-10);
            test_near(test_get_at(&got, k), expected[k], bound, "gradient", k);
        }
        small_close(&f);
    }
}

static psg_var softmax(psg_tape *tape, psg_var x) { return psg_softmax(tape, x, 1); }

/* y (gy - <gy, y>): 1e9 e^-20 / (3 + e^-20) = 0.687051... of three classes of 1/3 each, wherever the small one
 * stands. */
static void softmax_takes_large_gradients_of_small_classes(void **state) {
    (void)state;
    const double small = exp(-20) / (3 + exp(-20)), one = 1 / (3 + exp(-20)), mean = 1e9 * small;
    for (int at = 0; at < 4; at++) {
        double x[4] = { 0 }, gy[4] = { 0 }, expected[4];
        x[at] = -20;
        gy[at] = 1e9;
        for (int k = 0; k < 4; k++) expected[k] = k == at ? small * (1e9 - mean) : -one * mean;
        gradient_at(softmax, 4, x, gy, expected);
    }
}

static psg_var normalized_with_huge_eps(psg_tape *tape, psg_var x) {
    int64_t n = 2;
    return psg_layer_norm(tape, x, 1, &n, psg_none(), psg_none(), 1e80);
}

/* (x - mean) / sqrt(1e80), where f32 has 1 / sqrt(eps) to few digits alone. */
static void a_huge_eps_keeps_its_digits(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x = small_zeros(&f, PSG_F32, 2, (int64_t[]){ 1, 2 }), y;
    test_set_at(&x, 0, -1e30);
    test_set_at(&x, 1, 1e30);
    small_begin(&f, (psg_pass){ .batch_size = 1 });
    TEST_OK(f.context, psg_value(f.tape, normalized_with_huge_eps(f.tape, psg_input(f.tape, &x)), &y));
    for (int k = 0; k < 2; k++) test_near(test_get_at(&y, k), k ? 1e-10 : -1e-10, 1e-16, "y", k);
    small_close(&f);
}

static psg_var normalized(psg_tape *tape, psg_var x) {
    int64_t n = 33;
    return psg_layer_norm(tape, x, 1, &n, psg_none(), psg_none(), 1e-100);
}

/* Of a row of one value (x - mean) / sqrt(eps) is 0, also where f32 does not hold 1 / sqrt(eps). */
static void a_row_of_one_value_is_zero(void **state) {
    (void)state;
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        small_pass f;
        small_open(&f);
        psg_tensor x = small_zeros(&f, (psg_dtype)dtype, 2, (int64_t[]){ 1, 33 }), y;
        test_fill_value(&x, 3);
        small_begin(&f, (psg_pass){ .batch_size = 1 });
        TEST_OK(f.context, psg_value(f.tape, normalized(f.tape, psg_input(f.tape, &x)), &y));
        for (int k = 0; k < 33; k++) assert_true(test_get_at(&y, k) == 0);
        small_close(&f);
    }
}

/* Adam's first steps of one weight: -lr each at a constant gradient, 0 at none. */
static void adam_steps(double beta2, double eps, double g, int steps, double expected) {
    psg_context *context = test_context(1, NULL);
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        double memory[2] = { 0 };
        psg_tensor w = psg_tensor_of((psg_dtype)dtype, &memory[0], 1, (int64_t[]){ 1 }), grad = w;
        grad.data = &memory[1];
        test_set_at(&w, 0, 1);
        test_set_at(&grad, 0, dtype == PSG_F64 ? g * g * g * g * g * g * g * g : g);
        psg_adam_options options = PSG_ADAM_OPTIONS_INIT;
        options.lr = 1e-3;
        options.beta2 = beta2;
        options.eps = eps;
        psg_optimizer *adam;
        TEST_OK(context, psg_adam_create(context, &options, &w, 1, &adam));
        for (int k = 0; k < steps; k++) TEST_OK(context, psg_optimizer_step(adam, &grad, 1));
        test_near(test_get_at(&w, 0), expected, 1e-6, "weight", dtype);
        psg_optimizer_destroy(adam);
    }
    test_context_free(context);
}

static void adam_moves_at_extreme_numbers(void **state) {
    (void)state;
    adam_steps(0, 1e-8, 1e20, 2, 0.998);
    adam_steps(0.999, 1e-50, 0, 1, 1);
}

static void a_loss_of_nan_is_nan(void **state) {
    (void)state;
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        small_pass f;
        small_open(&f);
        psg_tensor x = small_zeros(&f, (psg_dtype)dtype, 2, (int64_t[]){ 1, 2 }), y = x, loss;
        y = small_zeros(&f, (psg_dtype)dtype, 2, (int64_t[]){ 1, 2 });
        test_fill_value(&x, 2);
        test_set_at(&y, 0, NAN);
        test_set_at(&y, 1, 1);
        small_begin(&f, (psg_pass){ .batch_size = 1 });
        psg_var out = psg_hinge_embedding(f.tape, psg_input(f.tape, &x), psg_input(f.tape, &y), 1, PSG_NONE);
        TEST_OK(f.context, psg_value(f.tape, out, &loss));
        assert_true(isnan(test_get_at(&loss, 0)) && test_get_at(&loss, 1) == 2);
        small_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_takes_large_gradients_of_small_classes),
        cmocka_unit_test(a_row_of_one_value_is_zero), cmocka_unit_test(a_huge_eps_keeps_its_digits),
        cmocka_unit_test(adam_moves_at_extreme_numbers),
        cmocka_unit_test(a_loss_of_nan_is_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
