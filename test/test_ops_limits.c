/* The ops without parameters at their limits: extreme and non-finite values, nothing at all, dropout, every error. */
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
    psg_cross_entropy_options options = { reduction, ignore, 1, smoothing, 0 };
    return psg_cross_entropy(t, in[0], in[1], &options);
}
static psg_var ce_none(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_NONE, 0, 0); }
static psg_var ce_ignore_sum(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_SUM, 1, 0); }
static psg_var ce_ignore_mean(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_MEAN, 1, 0); }

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

static void logits_of_any_size_have_their_losses(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (int dtype = 0; dtype < 2; dtype++) {
        double x[3] = { 1e4, -1e4, 1e4 - 1 }, y[3], gx[3], p = 1 / (1 + exp(-1)), unit = dtype ? 1e-15 : 3e-7;
        int64_t label = 1;
        row_case(&r, dtype, softmax_last, 3, x, NULL, y, gx);
        test_near(y[0], p, unit, "softmax", 0);
        test_near(y[1], 0, 0, "softmax", 1);
        row_case(&r, dtype, ce_none, 3, x, &label, y, gx);
        test_near(y[0], 2e4 + log(1 + exp(-1)), 2e4 * unit, "cross_entropy", 0);
        test_near(gx[0], p, unit, "cross_entropy", 0);
        test_near(gx[1], -1, unit, "cross_entropy", 1);
        /* a target that is nearly certain keeps the relative accuracy of loss and gradient */
        double sure[2] = { 20, 0 }, rest = exp(-20);
        label = 0;
        row_case(&r, dtype, ce_none, 2, sure, &label, y, gx);
        test_near(y[0], log1p(rest), 8 * unit * rest, "cross_entropy", 2);
        test_near(gx[0], -rest / (1 + rest), 8 * unit * rest, "cross_entropy", 3);
        test_near(gx[1], rest / (1 + rest), 8 * unit * rest, "cross_entropy", 4);
    }
    small_close(&r);
}

/* Saturated values keep their relative accuracy; beyond the range nothing but 0, 1 or x comes out. */
static void saturated_values_keep_their_digits(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (int dtype = 0; dtype < 2; dtype++) {
        double x[5] = { -10, 10, -300, 300, -2 }, y[5], gx[5], unit = dtype ? 1e-13 : 1e-5;
        double phi = exp(-50) / sqrt(8 * atan(1));
        row_case(&r, dtype, gelu, 5, x, NULL, y, gx);
        test_near(y[0], -5 * erfc(10 / sqrt(2)), unit * 5 * erfc(10 / sqrt(2)), "gelu", 0);
        test_near(gx[0], 0.5 * erfc(10 / sqrt(2)) - 10 * phi, unit * 10 * phi, "gelu slope", 0);
        test_near(y[2], 0, 0, "gelu", 2);
        test_near(y[3], 300, 0, "gelu", 3);
        test_near(gx[3], 1, 0, "gelu slope", 3);
        row_case(&r, dtype, gelu_tanh, 5, x, NULL, y, gx);
        test_near(gx[2], 0, 0, "gelu_tanh slope", 2);
        test_near(gx[3], 1, 0, "gelu_tanh slope", 3);
        test_near(y[3], 300, 0, "gelu_tanh", 3);
        row_case(&r, dtype, tanh_, 5, x, NULL, y, gx);
        test_near(gx[1], 1 / pow(cosh(10), 2), unit / pow(cosh(10), 2), "tanh slope", 1);
        test_near(y[3], 1, 0, "tanh", 3);
        row_case(&r, dtype, sigmoid, 5, x, NULL, y, gx);
        test_near(y[0], exp(-10) / (1 + exp(-10)), unit * exp(-10), "sigmoid", 0);
        test_near(gx[1], exp(-10) / pow(1 + exp(-10), 2), unit * exp(-10), "sigmoid slope", 1);
        test_near(y[3], 1, 0, "sigmoid", 3);
        double huge[2] = { -1e30, 1e30 };
        row_case(&r, dtype, gelu_tanh, 2, huge, NULL, y, gx);
        test_near(gx[0], 0, 0, "gelu_tanh slope", 4);
        test_near(gx[1], 1, 0, "gelu_tanh slope", 5);
    }
    small_close(&r);
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

/* ---- empty batches and sizes ---- */

/* The loss of an empty batch: 0 in a per-sample pass, NaN in an ordinary one. */
static void nothing_has_no_loss(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    for (int ordinary = 0; ordinary < 2; ordinary++) {
        for (int which = 0; which < 6; which++) {
            psg_pass pass = { .has_batch_size = 1, .ordinary = ordinary };
            psg_tensor x = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ 0, 3 }), value;
            psg_tensor target = psg_tensor_of(PSG_I64, NULL, 1, (int64_t[]){ 0 });
            TEST_OK(r.context, psg_tape_begin(r.tape, &pass));
            psg_var in = psg_input_with_grad(r.tape, &x), loss = psg_none();
            if (which == 0) loss = psg_cross_entropy(r.tape, in, psg_input(r.tape, &target), NULL);
            if (which == 1) loss = psg_mse(r.tape, in, in, PSG_MEAN);
            if (which == 2) loss = psg_binary_cross_entropy_with_logits(r.tape, in, in, PSG_MEAN);
            if (which == 3) loss = psg_mean(r.tape, in, 2, (int[]){ 0, 1 }, 0);
            if (which == 4) loss = psg_mse(r.tape, in, in, PSG_SUM);
            if (which == 5) loss = psg_l1(r.tape, in, in, PSG_SUM);
            TEST_OK(r.context, psg_backward(r.tape, loss));
            TEST_OK(r.context, psg_value(r.tape, loss, &value));
            test_near(test_get_at(&value, 0), ordinary && which < 4 ? NAN : 0, 0, "loss of nothing", which);
        }
    }
    /* the sizes of an empty batch can still be inferred */
    psg_pass pass = { .has_batch_size = 1 };
    psg_tensor x = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ 0, 6 }), value;
    TEST_OK(r.context, psg_tape_begin(r.tape, &pass));
    psg_var y = psg_reshape(r.tape, psg_input(r.tape, &x), 3, (int64_t[]){ 0, 2, -1 });
    TEST_OK(r.context, psg_value(r.tape, y, &value));
    assert_int_equal(value.shape[2], 3);
    small_close(&r);
}

static void ignored_rows_have_no_gradient(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    float logits[6] = { 1, NAN, 3, 4, 5, 6 };
    int64_t labels[2] = { 1, 1 };
    for (int ordinary = 0; ordinary < 2; ordinary++) {
        psg_pass pass = { .ordinary = ordinary };
        psg_tensor x = psg_f32_2d(logits, 2, 3), target = psg_i64_1d(labels, 2), value, grad;
        TEST_OK(r.context, psg_tape_begin(r.tape, &pass));
        psg_var in[2] = { psg_input_with_grad(r.tape, &x), psg_input(r.tape, &target) };
        psg_var loss = ordinary ? ce_ignore_mean(r.tape, in) : ce_ignore_sum(r.tape, in);
        TEST_OK(r.context, psg_backward(r.tape, loss));
        TEST_OK(r.context, psg_value(r.tape, loss, &value));
        TEST_OK(r.context, psg_input_grad(r.tape, in[0], &grad));
        test_near(test_get_at(&value, 0), ordinary ? NAN : 0, 0, "all ignored", ordinary);
        for (int64_t k = 0; k < 6; k++) test_near(test_get_at(&grad, k), 0, 0, "gradient of an ignored row", k);
    }
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

/* ---- errors ---- */

static float numbers[64];
static int64_t labels_good[4] = { 0, 1, 2, 0 }, labels_bad[4] = { 0, 1, 3, 0 }, labels_negative[4] = { 0, -1, 2, 0 };

typedef struct error_inputs {
    psg_tape *tape;
    psg_var x43, x424, x23, f64, scalar, labels, bad, negative, constant, integers;
} error_inputs;

typedef struct error_case {
    psg_var (*build)(const error_inputs *in);
    psg_status status;
    const char *text;
    int ordinary, batch_second;
} error_case;

#define FAIL(name, call) \
    static psg_var name(const error_inputs *in) { psg_tape *t = in->tape; (void)t; return call; }
static psg_var ce_with(const error_inputs *in, psg_var logits, psg_var target, psg_cross_entropy_options options) {
    return psg_cross_entropy(in->tape, logits, target, &options);
}
FAIL(e_relu_integer, psg_relu(t, in->integers))
FAIL(e_relu_loss, psg_relu(t, in->scalar))
FAIL(e_relu_wrong_batch, psg_relu(t, in->x23))
FAIL(e_dropout_p, psg_dropout(t, in->x43, 1.5))
FAIL(e_dropout_nan, psg_dropout(t, in->x43, NAN))
FAIL(e_dropout_constant, psg_dropout(t, in->constant, 0.5))
FAIL(e_add_shapes, psg_add(t, in->x43, in->x23))
FAIL(e_add_types, psg_add(t, in->x43, in->f64))
FAIL(e_add_integers, psg_add(t, in->integers, in->integers))
FAIL(e_add_batch, psg_add(t, in->x43, in->scalar))
FAIL(e_add_shifted, psg_add(t, psg_reshape(t, in->x424, 2, (int64_t[]){ 4, 8 }),
                            psg_reshape(t, in->x424, 3, (int64_t[]){ 4, 1, 8 })))
FAIL(e_mul_losses, psg_mul(t, in->scalar, in->scalar))
FAIL(e_softmax_dim, psg_softmax(t, in->x43, 2))
FAIL(e_softmax_batch, psg_softmax(t, in->x43, -2))
FAIL(e_softmax_batch_second, psg_softmax(t, in->x424, 1))
FAIL(e_reshape_count, psg_reshape(t, in->x43, 2, (int64_t[]){ 4, 4 }))
FAIL(e_reshape_infer, psg_reshape(t, in->x43, 2, (int64_t[]){ 5, -1 }))
FAIL(e_reshape_two, psg_reshape(t, in->x43, 2, (int64_t[]){ -1, -1 }))
FAIL(e_reshape_minus, psg_reshape(t, in->x43, 2, (int64_t[]){ 4, -3 }))
FAIL(e_reshape_rank, psg_reshape(t, in->x43, 9, (int64_t[9]){ 4, 3, 1, 1, 1, 1, 1, 1, 1 }))
FAIL(e_reshape_null, psg_reshape(t, in->x43, 2, NULL))
FAIL(e_reshape_batch, psg_reshape(t, in->x424, 2, (int64_t[]){ 8, 4 }))
FAIL(e_reshape_second, psg_reshape(t, in->x424, 2, (int64_t[]){ 4, 8 }))
FAIL(e_flatten_batch, psg_flatten(t, in->x424, 0, 1))
FAIL(e_flatten_order, psg_flatten(t, in->x424, 2, 1))
FAIL(e_flatten_dim, psg_flatten(t, in->x424, 1, 3))
FAIL(e_transpose_dim, psg_transpose(t, in->x43, 0, 2))
FAIL(e_transpose_batch, psg_transpose(t, in->x424, 0, 2))
FAIL(e_transpose_second, psg_transpose(t, in->x424, 0, 1))
FAIL(e_mean_none, psg_mean(t, in->x43, 0, NULL, 0))
FAIL(e_mean_null, psg_mean(t, in->x43, 1, NULL, 0))
FAIL(e_mean_twice, psg_mean(t, in->x43, 2, (int[]){ 1, -1 }, 0))
FAIL(e_mean_dim, psg_mean(t, in->x43, 1, (int[]){ 2 }, 0))
FAIL(e_mean_batch, psg_mean(t, in->x43, 1, (int[]){ 0 }, 0))
FAIL(e_ce_rank, psg_cross_entropy(t, in->labels, in->labels, NULL))
FAIL(e_ce_logits_rank, psg_cross_entropy(t, psg_reshape(t, in->constant, 1, (int64_t[]){ 6 }), in->labels, NULL))
FAIL(e_ce_shape, psg_cross_entropy(t, in->x424, in->labels, NULL))
FAIL(e_ce_batch, psg_cross_entropy(t, in->constant, in->labels, NULL))
FAIL(e_ce_type, psg_cross_entropy(t, in->x43, in->x424, NULL))
FAIL(e_ce_label, psg_cross_entropy(t, in->x43, in->bad, NULL))
FAIL(e_ce_negative, psg_cross_entropy(t, in->x43, in->negative, NULL))
FAIL(e_ce_smoothing, ce_with(in, in->x43, in->labels, (psg_cross_entropy_options){ .label_smoothing = 1.5 }))
FAIL(e_ce_reduction, ce_with(in, in->x43, in->labels, (psg_cross_entropy_options){ .reduction = 7 }))
FAIL(e_ce_ignore, ce_with(in, in->x43, in->labels, (psg_cross_entropy_options){ .has_ignore_index = 1 }))
FAIL(e_mse_shape, psg_mse(t, in->x43, in->x424, PSG_SUM))
FAIL(e_mse_reduction, psg_mse(t, in->x43, in->x43, 3))
FAIL(e_mse_type, psg_mse(t, in->x43, in->labels, PSG_SUM))
FAIL(e_bce_shape, psg_binary_cross_entropy_with_logits(t, in->x43, in->x424, PSG_MEAN))

static const error_case errors[] = {
    { e_relu_integer, PSG_ERR_DTYPE, "relu: input is i64", 0, 0 },
    { e_relu_loss, PSG_ERR_BATCH, "relu: input has shape ()", 0, 0 },
    { e_relu_wrong_batch, PSG_ERR_BATCH, "must be the batch of 4", 0, 0 },
    { e_dropout_p, PSG_ERR_ARGUMENT, "dropout: p is 1.5", 0, 0 },
    { e_dropout_nan, PSG_ERR_ARGUMENT, "dropout: p is", 0, 0 },
    { e_dropout_constant, PSG_ERR_BATCH, "carries no batch", 0, 0 },
    { e_add_shapes, PSG_ERR_SHAPE, "a has shape (4, 3) and b (2, 3)", 1, 0 },
    { e_add_types, PSG_ERR_DTYPE, "f64", 0, 0 },
    { e_add_integers, PSG_ERR_DTYPE, "add: a is i64", 0, 0 },
    { e_add_batch, PSG_ERR_BATCH, "b of shape () would be broadcast", 0, 0 },
    { e_add_shifted, PSG_ERR_BATCH, "a of shape (4, 8) would be broadcast", 0, 0 },
    { e_mul_losses, PSG_ERR_BATCH, "mul: a has shape ()", 0, 0 },
    { e_softmax_dim, PSG_ERR_ARGUMENT, "softmax: dim is 2, must be in [-2, 2)", 0, 0 },
    { e_softmax_batch, PSG_ERR_UNSUPPORTED, "mixes the samples", 0, 0 },
    { e_softmax_batch_second, PSG_ERR_UNSUPPORTED, "mixes the samples", 0, 1 },
    { e_reshape_count, PSG_ERR_SHAPE, "as many elements as (4, 4)", 0, 0 },
    { e_reshape_infer, PSG_ERR_SHAPE, "shape[1] = -1 cannot be inferred", 0, 0 },
    { e_reshape_two, PSG_ERR_ARGUMENT, "shape[1] is -1", 0, 0 },
    { e_reshape_minus, PSG_ERR_ARGUMENT, "shape[1] is -3", 0, 0 },
    { e_reshape_rank, PSG_ERR_ARGUMENT, "rank must be in [0, 8]", 0, 0 },
    { e_reshape_null, PSG_ERR_ARGUMENT, "not NULL", 0, 0 },
    { e_reshape_batch, PSG_ERR_BATCH, "(4, 2, 4) to (8, 4) does not keep the batch", 0, 0 },
    { e_reshape_second, PSG_ERR_BATCH, "does not keep the batch", 0, 1 },
    { e_flatten_batch, PSG_ERR_BATCH, "flatten: (4, 2, 4) to (8, 4)", 0, 0 },
    { e_flatten_order, PSG_ERR_ARGUMENT, "start_dim is 2", 0, 0 },
    { e_flatten_dim, PSG_ERR_ARGUMENT, "end_dim is 3", 0, 0 },
    { e_transpose_dim, PSG_ERR_ARGUMENT, "dim1 is 2", 0, 0 },
    { e_transpose_batch, PSG_ERR_BATCH, "would move the batch from dimension 0", 0, 0 },
    { e_transpose_second, PSG_ERR_BATCH, "would move the batch from dimension 1", 0, 1 },
    { e_mean_none, PSG_ERR_ARGUMENT, "count must be in [1, 2]", 0, 0 },
    { e_mean_null, PSG_ERR_ARGUMENT, "dims not NULL", 0, 0 },
    { e_mean_twice, PSG_ERR_ARGUMENT, "dim -1 is given twice", 0, 0 },
    { e_mean_dim, PSG_ERR_ARGUMENT, "a dim is 2", 0, 0 },
    { e_mean_batch, PSG_ERR_UNSUPPORTED, "mixes the samples", 0, 0 },
    { e_ce_rank, PSG_ERR_DTYPE, "logits is i64", 0, 0 },
    { e_ce_logits_rank, PSG_ERR_SHAPE, "rank >= 2", 0, 0 },
    { e_ce_shape, PSG_ERR_SHAPE, "logits has shape (4, 2, 4) and target (4)", 0, 0 },
    { e_ce_batch, PSG_ERR_SHAPE, "logits has shape (2, 3) and target (4)", 0, 0 },
    { e_ce_type, PSG_ERR_SHAPE, "target, which is real", 0, 0 },
    { e_ce_label, PSG_ERR_ARGUMENT, "target[2] (in memory order) is 3, must be in [0, 3)", 0, 0 },
    { e_ce_negative, PSG_ERR_ARGUMENT, "target[1] (in memory order) is -1", 0, 0 },
    { e_ce_smoothing, PSG_ERR_ARGUMENT, "label_smoothing is 1.5", 0, 0 },
    { e_ce_reduction, PSG_ERR_ARGUMENT, "reduction is 7", 0, 0 },
    { e_ce_ignore, PSG_ERR_UNSUPPORTED, "use reduction PSG_SUM", 0, 0 },
    { e_mse_shape, PSG_ERR_SHAPE, "mse: input has shape (4, 3) and target (4, 2, 4)", 0, 0 },
    { e_mse_reduction, PSG_ERR_ARGUMENT, "reduction is 3", 0, 0 },
    { e_mse_type, PSG_ERR_DTYPE, "target is i64", 0, 0 },
    { e_bce_shape, PSG_ERR_SHAPE, "must be equal", 0, 0 },
};

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    static double wide[12];
    for (const error_case *e = errors; e < errors + sizeof errors / sizeof errors[0]; e++) {
        int second = e->batch_second;
        psg_pass pass = { .ordinary = e->ordinary, .batch_second = second, .batch_size = second ? 2 : 4 };
        psg_tensor x43 = psg_f32_2d(numbers, 4, 3), x424 = psg_f32_3d(numbers, 4, 2, 4);
        psg_tensor x23 = psg_f32_2d(numbers, 2, 3);
        psg_tensor f64 = psg_tensor_of(PSG_F64, wide, 2, (int64_t[]){ 4, 3 }), good = psg_i64_1d(labels_good, 4);
        psg_tensor bad = psg_i64_1d(labels_bad, 4), negative = psg_i64_1d(labels_negative, 4);
        TEST_OK(r.context, psg_tape_begin(r.tape, &pass));
        psg_tape *t = r.tape;
        error_inputs in = { t, psg_input(t, &x43), psg_input(t, &x424), psg_input(t, &x23), psg_input(t, &f64),
                            psg_none(), psg_input(t, &good), psg_input(t, &bad), psg_input(t, &negative),
                            psg_constant(t, &x23), psg_input(t, &good) };
        if (!second) in.scalar = psg_mse(t, in.x43, in.x43, PSG_SUM);
        TEST_OK(r.context, psg_tape_status(t));
        e->build(&in);
        test_refused(t, e->status, e->text);
    }
    small_close(&r);
}

/* What may be done with losses, constants and batches that stay in place. */
static void what_keeps_the_batch_is_allowed(void **state) {
    (void)state;
    small_pass r;
    small_open_on(&r, 1, NULL);
    psg_pass pass = { .batch_second = 1 };
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
        cmocka_unit_test(logits_of_any_size_have_their_losses),
        cmocka_unit_test(saturated_values_keep_their_digits),
        cmocka_unit_test(what_is_not_finite_stays_in_its_row),
        cmocka_unit_test(nothing_has_no_loss),
        cmocka_unit_test(ignored_rows_have_no_gradient),
        cmocka_unit_test(dropout_belongs_to_the_sample),
        cmocka_unit_test(dropout_has_the_same_bits_for_any_threads),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(what_keeps_the_batch_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
