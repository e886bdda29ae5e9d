/* The ops without parameters at their limits: what is not finite, empty batches, dropout. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "small_pass.h"

/* ---- ops of up to two operands ---- */

static psg_var relu(psg_tape *t, const psg_var *in) { return psg_relu(t, in[0]); }
static psg_var tanh_(psg_tape *t, const psg_var *in) { return psg_tanh(t, in[0]); }
static psg_var sigmoid(psg_tape *t, const psg_var *in) { return psg_sigmoid(t, in[0]); }
static psg_var gelu(psg_tape *t, const psg_var *in) { return psg_gelu(t, in[0], 0); }
static psg_var gelu_tanh(psg_tape *t, const psg_var *in) { return psg_gelu(t, in[0], 1); }
static psg_var scale(psg_tape *t, const psg_var *in) { return psg_scale(t, in[0], -1.75); }
static psg_var softmax_last(psg_tape *t, const psg_var *in) { return psg_softmax(t, in[0], -1); }
static psg_var ce(psg_tape *t, const psg_var *in, psg_reduction reduction, int ignore, double smoothing) {
    psg_cross_entropy_options options = { reduction, ignore, 1, smoothing, 0, { 0 } };
    return psg_cross_entropy(t, in[0], in[1], &options);
}
static psg_var ce_none(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_NONE, 0, 0); }

/* ---- extreme values ---- */

/* Runs an op on a row of f64 or f32 values with an output gradient of ones; labels may be NULL. */
static void row_case(small_pass *r, psg_dtype dtype, psg_var (*build)(psg_tape *, const psg_var *), int64_t n,
                     const double *x, const int64_t *label, double *y, double *gx) {
    double memory[64];
    psg_tensor in = psg_tensor_of(dtype, memory, 2, (int64_t[]){ 1, n }), value, grad;
    psg_tensor target = psg_i64_1d(label, 1);
    for (int64_t i = 0; i < n; i++) test_set_at(&in, i, x[i]);
    TEST_OK(r->context, psg_tape_begin(r->tape, NULL));
    psg_var vars[2] = { psg_input_with_grad(r->tape, &in), label ? psg_input(r->tape, &target) : psg_none() };
    psg_var out = build(r->tape, vars);
    TEST_OK(r->context, psg_backward_from(r->tape, out, NULL));
    TEST_OK(r->context, psg_value(r->tape, out, &value));
    TEST_OK(r->context, psg_input_grad(r->tape, vars[0], &grad));
    for (int64_t i = 0; i < psg_tensor_count(&value); i++) y[i] = test_get_at(&value, i);
    for (int64_t i = 0; i < n; i++) gx[i] = test_get_at(&grad, i);
}

static void what_is_not_finite_stays_in_its_row(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    psg_var (*const ops[])(psg_tape *, const psg_var *) = { relu, tanh_, sigmoid, gelu, gelu_tanh, scale };
    for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
        for (int64_t n = 1; n < 40; n += 19) {
            double x[40] = { 0 }, y[40], gx[40];
            x[n - 1] = NAN;
            row_case(&r, PSG_F32, ops[k], n, x, NULL, y, gx);
            assert_true(isnan(y[n - 1]));
            for (int64_t i = 0; i < n - 1; i++) assert_true(isfinite(y[i]) && isfinite(gx[i]));
        }
    }
    double x[3] = { 0, NAN, 1 }, infinite[3] = { INFINITY, 0, 0 }, masked[3] = { 0, -INFINITY, 0 }, y[3], gx[3];
    int64_t label = 0;
    row_case(&r, PSG_F64, softmax_last, 3, x, NULL, y, gx);
    assert_true(isnan(y[0]) && isnan(y[1]) && isnan(y[2]));
    row_case(&r, PSG_F64, ce_none, 3, x, &label, y, gx);
    assert_true(isnan(y[0]) && isnan(gx[0]) && isnan(gx[2]));
    row_case(&r, PSG_F64, ce_none, 3, infinite, &label, y, gx);
    assert_true(isnan(y[0]) && isnan(gx[0]));
    row_case(&r, PSG_F64, softmax_last, 3, masked, NULL, y, gx);
    test_near(y[0], 0.5, 1e-15, "masked softmax", 0);
    test_near(y[1], 0, 0, "masked softmax", 1);
    small_close(&r);
}

/* The sizes of an empty batch can still be inferred. */
static void empty_batches_have_their_sizes(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    psg_pass pass = { .has_batch_size = 1 };
    psg_tensor x = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ 0, 6 }), value;
    TEST_OK(r.context, psg_tape_begin(r.tape, &pass));
    psg_var y = psg_reshape(r.tape, psg_input(r.tape, &x), 3, (int64_t[]){ 0, 2, -1 });
    TEST_OK(r.context, psg_value(r.tape, y, &value));
    assert_int_equal(value.shape[2], 3);
    small_close(&r);
}

/* ---- dropout ---- */

enum { DROP_N = 6, DROP_T = 7, DROP_D = 501 };

/* Keeps: y != 0, on an input of ones; grad must agree.  Layout (N, T, D) or, batch_second, (T, N, D). */
static void drop(small_pass *r, double p, int64_t first, int64_t samples, int batch_second, unsigned char *kept) {
    static float ones[DROP_N * DROP_T * DROP_D];
    int64_t ids[DROP_N], shape[3] = { samples, DROP_T, DROP_D };
    for (int64_t n = 0; n < samples; n++) ids[n] = 1000 + first + n;
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) ones[i] = 1;
    if (batch_second) shape[0] = DROP_T, shape[1] = samples;
    psg_tensor x = psg_tensor_of(PSG_F32, ones, 3, shape), y, grad;
    psg_pass pass = { .batch_second = batch_second, .dropout_seed = 5, .sample_ids = ids, .batch_size = samples };
    TEST_OK(r->context, psg_tape_begin(r->tape, &pass));
    psg_var in = psg_input_with_grad(r->tape, &x), out = psg_dropout(r->tape, in, p);
    TEST_OK(r->context, psg_backward_from(r->tape, out, NULL));
    TEST_OK(r->context, psg_value(r->tape, out, &y));
    TEST_OK(r->context, psg_input_grad(r->tape, in, &grad));
    assert_true(test_same_bits(&y, &grad));
    for (int64_t n = 0; n < samples; n++) {
        for (int64_t t = 0; t < DROP_T; t++) {
            for (int64_t d = 0; d < DROP_D; d++) {
                double v = batch_second ? test_get3(&y, t, n, d) : test_get3(&y, n, t, d);
                if (v != 0) test_near(v, 1 / (1 - p), 1e-6 / (1 - p), "dropout", d);
                kept[((first + n) * DROP_T + t) * DROP_D + d] = v != 0;
            }
        }
    }
}

static void dropout_belongs_to_the_sample(void **state) {
    (void)state;
    static unsigned char whole[DROP_N * DROP_T * DROP_D], parts[sizeof whole], second[sizeof whole];
    const double rates[] = { 0.1, 0.5, 0.9, 0, 1 };
    small_pass r;
    small_open_on(&r, 2, NULL);
    for (size_t k = 0; k < sizeof rates / sizeof rates[0]; k++) {
        double p = rates[k], count = sizeof whole, zeros = 0;
        drop(&r, p, 0, DROP_N, 0, whole);
        for (int64_t first = 0; first < DROP_N; first += 2) drop(&r, p, first, 2, 0, parts);
        drop(&r, p, 0, DROP_N, 1, second);
        assert_memory_equal(whole, parts, sizeof whole);
        assert_memory_equal(whole, second, sizeof whole);
        for (size_t i = 0; i < sizeof whole; i++) zeros += !whole[i];
        test_near(zeros, p * count, 4.9 * sqrt(count * p * (1 - p)), "dropped", (int64_t)k);
    }
    small_close(&r);
}

/* Larger samples than a worker's workspace holds words for, two calls on one tape, and evaluation. */
static void dropout_has_the_same_bits_for_any_threads(void **state) {
    (void)state;
    enum { SIZE = 300000 };
    float *x = calloc(2 * SIZE, sizeof *x);
    for (size_t i = 0; i < 2 * SIZE; i++) x[i] = 1;
    small_pass one, two;
    small_open_on(&one, 1, NULL);
    small_open_on(&two, 2, NULL);
    psg_tensor in = psg_f32_2d(x, 2, SIZE), a, b, c;
    small_pass *runs[2] = { &one, &two };
    for (int k = 0; k < 2; k++) {
        TEST_OK(runs[k]->context, psg_tape_begin(runs[k]->tape, &(psg_pass){ .sample_ids = (int64_t[]){ 0, 1 } }));
        psg_var v = psg_input(runs[k]->tape, &in);
        psg_var y = psg_dropout(runs[k]->tape, v, 0.5), z = psg_dropout(runs[k]->tape, v, 0.5);
        TEST_OK(runs[k]->context, psg_value(runs[k]->tape, y, k ? &b : &a));
        TEST_OK(runs[k]->context, psg_value(runs[k]->tape, z, &c));
    }
    assert_true(test_same_bits(&a, &b));
    assert_false(test_same_bits(&b, &c));
    psg_pass pass = { .evaluation = 1 };
    TEST_OK(one.context, psg_tape_begin(one.tape, &pass));
    TEST_OK(one.context, psg_value(one.tape, psg_dropout(one.tape, psg_input(one.tape, &in), 0.5), &a));
    assert_true(test_same_bits(&a, &in));
    small_close(&one);
    small_close(&two);
    free(x);
}

/* What may be done with losses, constants and batches that stay in place. */
static void what_keeps_the_batch_is_allowed(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    psg_pass pass = { .batch_second = 1 };
    float numbers[8] = { 0 };
    psg_tensor x = psg_f32_3d(numbers, 1, 2, 4), scalar = psg_tensor_of(PSG_F32, numbers, 0, NULL), value;
    TEST_OK(r.context, psg_tape_begin(r.tape, &pass));
    psg_var in = psg_input(r.tape, &x), a = psg_mse(r.tape, in, in, PSG_SUM), factor = psg_constant(r.tape, &scalar);
    psg_var loss = psg_add(r.tape, psg_scale(r.tape, a, 0.5), psg_mul(r.tape, a, factor));
    TEST_OK(r.context, psg_value(r.tape, loss, &value));
    /* (1, B, D): the batch comes first either way */
    psg_var dropped = psg_reshape(r.tape, in, 2, (int64_t[]){ 2, 4 });
    psg_reshape(r.tape, dropped, 3, (int64_t[]){ 1, 2, 4 });
    psg_add(r.tape, dropped, in);
    psg_transpose(r.tape, in, 0, 2);
    psg_transpose(r.tape, in, 1, 1);
    psg_softmax(r.tape, in, 0);
    psg_mean(r.tape, in, 1, (int[]){ 2 }, 1);
    psg_mean(r.tape, in, 3, (int[]){ 0, 1, 2 }, 1);
    TEST_OK(r.context, psg_tape_status(r.tape));
    small_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_finite_stays_in_its_row),
        cmocka_unit_test(empty_batches_have_their_sizes),
        cmocka_unit_test(dropout_belongs_to_the_sample),
        cmocka_unit_test(dropout_has_the_same_bits_for_any_threads),
        cmocka_unit_test(what_keeps_the_batch_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
