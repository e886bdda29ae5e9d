/* Defects of other systems for per-sample gradients, and that they are not ours.  A number is that of the list of
 * ExpandedWeights' defects (A: silently wrong, B: crash or wrong error, C: missing), a letter that of Opacus'.
 *
 * Tested elsewhere, by name:
 *   A4 complex types                  there are none (psg/base.h)
 *   A5 tied weights                   tied_parameters_are_summed (test_tape.c), and test_table_defects.c for tables
 *   A6 recurrent modules              tables rnn, lstm, gru: "samples alone", "golden" (test_cases.c)
 *   A8 grad_sample of batch 1         1.4 grad_sample of batch 1 broadcast (test_tape_errors.c)
 *   A9 input changed in place         no op writes an input; the caller must not either (psg/tape.h)
 *   B12, B13 group_norm without bias, weight or with one frozen; f: layer_norm    tables group_norm, layer_norm
 *   B14, B15 non-contiguous input, output gradient     "variants" of every table
 *   B16 dilated conv3d, any batch     below, and table conv3d
 *   B18 keyword order, B25 one-element tuples          arguments are positions and fixed arrays
 *   B19 one-dimensional weight, B20 scalar argument    2.1, 1.1 (test_tape_errors.c)
 *   B21 trainable tensors that are no parameters       a parameter is a psg_param, a constant has no gradient
 *   B22 sizes checked in backward alone                "refusals" of every table: all are refused by the forward pass
 *   C  transposed convolution, bags, bilinear, prelu, attention, rms_norm, cells: tables of their names; norms and
 *      clipping: "questions" of every table; other batch dimensions: batch_second lines
 *   a  cancelling norms               upper_holds_on_cancelling_inputs (test_gradient_norm.c)
 *   e  norms of linear over rank 4    table linear, line rank5, "questions"
 *   g  a sample of NaN                removed_samples_leave_no_trace (test_gradient_clip.c), below through an op
 *   h  batch_first, i plain RNN       tables multi_head_attention, lstm with batch_second; rnn
 *   j  an export list with a slip     every header compiles alone, every symbol is exported (install_test.sh)
 *   k-n accounting                    test_accountant.c
 *   A1, A2, B23, c, d, o              tables: test_table_defects.c */
#include <math.h>
#include <string.h>

#include "small_pass.h"

enum { D = 3, N = 2, T = 4 };

/* ---- norms ---- */

/* A3: with running statistics the backward pass uses them too. */
static void instance_norm_evaluation_is_differentiated_as_it_is(void **state) {
    (void)state;
    enum { C = 3, X = 5 };
    small_pass f;
    small_open(&f);
    psg_param *weight = small_parameter(&f, "weight", SHAPE(C));
    psg_tensor x = small_normal(&f, SHAPE(N, C, X)), mean = small_normal(&f, SHAPE(C)),
               var = small_zeros(&f, PSG_F64, SHAPE(C));
    psg_tensor grad_output = small_normal(&f, SHAPE(N, C, X)), gx;
    test_fill_uniform(&f.random, &var, 0.5, 2.0);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var input = psg_input_with_grad(f.tape, &x);
    small_backward(&f, psg_instance_norm(f.tape, input, &mean, &var, psg_use(f.tape, weight), psg_none(), 0, 0.1, 1e-5),
                   &grad_output);
    TEST_OK(f.context, psg_input_grad(f.tape, input, &gx));
    const double *grad = small_grad_sample(&f, weight);
    for (int k = 0; k < N * C; k++) {
        double rstd = 1 / sqrt(test_get_at(&var, k % C) + 1e-5), sum = 0;
        for (int i = 0; i < X; i++) {
            double g = test_get_at(&grad_output, k * X + i), w = test_get_at(psg_param_value(weight), k % C);
            sum += g * (test_get_at(&x, k * X + i) - test_get_at(&mean, k % C)) * rstd;
            test_near(test_get_at(&gx, k * X + i), g * w * rstd, 1e-12, "input gradient", k * X + i);
        }
        test_near(grad[k], sum, 1e-12, "weight gradient", k);
    }
    small_close(&f);
}

/* B17: an empty batch is a batch.  B22: too small a channel is refused before backward. */
static void instance_norm_of_nothing_and_of_one_value(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *weight = small_parameter(&f, "weight", SHAPE(3));
    psg_tensor none = small_zeros(&f, PSG_F64, SHAPE(0, 3, 4)), single = small_zeros(&f, PSG_F64, SHAPE(2, 3, 1));
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var x = psg_input(f.tape, &none);
    small_backward(&f, psg_instance_norm(f.tape, x, NULL, NULL, psg_use(f.tape, weight), psg_none(), 1, 0.1, 1e-5),
                   NULL);
    assert_int_equal(small_gradient_of(&f, weight).batch_size, 0);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    x = psg_input(f.tape, &single);
    psg_instance_norm(f.tape, x, NULL, NULL, psg_use(f.tape, weight), psg_none(), 1, 0.1, 1e-5);
    assert_int_equal(psg_tape_status(f.tape), PSG_ERR_SHAPE);
    small_close(&f);
}

/* ---- the batch ---- */

/* A7: sizes that happen to agree do not hide a batch that moved. */
static void no_op_moves_the_batch(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x = small_normal(&f, SHAPE(N, N, N));
    for (int way = 0; way < 4; way++) {
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        psg_var v = psg_input(f.tape, &x);
        if (way == 0) psg_transpose(f.tape, v, 0, 1);
        if (way == 1) psg_permute(f.tape, v, 3, (int[]){ 2, 1, 0 });
        if (way == 2) psg_flip(f.tape, v, 1, (int[]){ 0 });
        if (way == 3) psg_reshape(f.tape, v, 3, (int64_t[]){ 1, N, N * N });
        assert_int_equal(psg_tape_status(f.tape), PSG_ERR_BATCH);
    }
    small_close(&f);
}

/* A10, B24: two biases whose output gradients are one array, all of equal elements, have grad_samples of their own. */
static void grad_samples_share_no_memory(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *w = small_parameter(&f, "w", SHAPE(D, D)), *a = small_parameter(&f, "a", SHAPE(D)),
              *b = small_parameter(&f, "b", SHAPE(D));
    psg_tensor x = small_normal(&f, SHAPE(N, D)), of_a = small_zeros(&f, PSG_F64, SHAPE(N, D)),
               of_b = small_zeros(&f, PSG_F64, SHAPE(N, D));
    TEST_OK(f.context, psg_param_attach_grad_sample(a, &of_a));
    TEST_OK(f.context, psg_param_attach_grad_sample(b, &of_b));
    psg_tensor one = small_zeros(&f, PSG_F64, SHAPE(1)), gx;
    test_set_at(&one, 0, 2.0);
    psg_tensor grad_output = psg_tensor_strided(PSG_F64, one.data, 2, (int64_t[]){ N, D }, (int64_t[]){ 0, 0 });
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var in = psg_input_with_grad(f.tape, &x), weight = psg_use(f.tape, w);
    psg_var left = psg_linear(f.tape, in, weight, psg_use(f.tape, a));
    psg_var y = psg_add(f.tape, left, psg_linear(f.tape, in, weight, psg_use(f.tape, b)));
    small_backward(&f, y, &grad_output);
    test_fill_value(&of_a, 77.0);
    TEST_OK(f.context, psg_input_grad(f.tape, y, &gx));
    for (int k = 0; k < N * D; k++) assert_true(test_get_at(&of_b, k) == 2 && test_get_at(&gx, k) == 2);
    assert_true(small_grad_sample(&f, a)[0] == 2);
    small_close(&f);
}

/* ---- convolution ---- */

typedef struct conv_case {
    int64_t batch, groups, dilation;
    psg_pad_mode mode;
} conv_case;

/* grad_sample of a padded, dilated conv3d against the samples alone. */
static void check_conv3d(small_pass *f, const conv_case *c) {
    psg_param *weight = small_parameter(f, "weight", SHAPE(2, 2 / c->groups, 2, 2, 2));
    psg_tensor x = small_normal(f, SHAPE(c->batch, 2, 4, 4, 4)),
               go = small_zeros(f, PSG_F64, SHAPE(c->batch, 2, 6, 6, 6));
    psg_conv_options options = { .padding = { 1, 1, 1 }, .groups = c->groups, .padding_mode = c->mode };
    int64_t out = 6 - c->dilation, row = 2 * out * out * out, weights = psg_tensor_count(psg_param_value(weight));
    for (int d = 0; d < 3; d++) options.dilation[d] = c->dilation;
    int64_t shape[] = { c->batch, 2, out, out, out };
    go = psg_tensor_of(PSG_F64, go.data, 5, shape);
    test_fill_normal(&f->random, &go, 1.0);
    small_begin(f, (psg_pass)PSG_PASS_INIT);
    small_backward(f, psg_conv3d(f->tape, psg_input(f->tape, &x), psg_use(f->tape, weight), psg_none(), &options), &go);
    const double *all = small_grad_sample(f, weight);
    small_check_contribution(f, weight);
    int64_t last = c->batch - 1;
    psg_tensor one = psg_tensor_of(PSG_F64, (double *)x.data + last * 128, 5, (int64_t[]){ 1, 2, 4, 4, 4 }),
               one_go = go;
    one_go.data = (double *)go.data + last * row;
    one_go.shape[0] = 1;
    small_begin(f, (psg_pass)PSG_PASS_INIT);
    small_backward(f, psg_conv3d(f->tape, psg_input(f->tape, &one), psg_use(f->tape, weight), psg_none(), &options),
                   &one_go);
    const double *alone = small_grad_sample(f, weight);
    for (int64_t i = 0; i < weights; i++) test_near(all[last * weights + i], alone[i], 1e-11, "conv3d", i);
}

/* B16: dilation with many samples and with groups.  b: padding modes, and their clipped sums. */
static void convolutions_of_any_batch_group_dilation_and_padding(void **state) {
    (void)state;
    static const conv_case cases[] = {
        { 2, 1, 1, PSG_PAD_CONSTANT },  { 33, 1, 2, PSG_PAD_CONSTANT }, { 3, 2, 2, PSG_PAD_CONSTANT },
        { 33, 2, 2, PSG_PAD_CONSTANT }, { 3, 1, 1, PSG_PAD_REFLECT },   { 3, 1, 1, PSG_PAD_REPLICATE },
        { 3, 2, 1, PSG_PAD_CIRCULAR },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        small_pass f;
        small_open(&f);
        check_conv3d(&f, &cases[k]);
        small_close(&f);
    }
}

/* g: a sample of NaN is removed from the sum of a convolution, which is finite. */
static void a_sample_of_nan_does_not_spoil_the_sum(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *weight = small_parameter(&f, "weight", SHAPE(2, 1, 3, 3));
    psg_tensor x = small_normal(&f, SHAPE(3, 1, 5, 5)), sum = small_zeros(&f, PSG_F64, SHAPE(2, 1, 3, 3));
    test_set_at(&x, 30, NAN);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    small_backward(&f, psg_conv2d(f.tape, psg_input(f.tape, &x), psg_use(f.tape, weight), psg_none(), NULL), NULL);
    psg_gradient gradient = small_gradient_of(&f, weight);
    const psg_gradient *set[] = { &gradient };
    psg_clip clip = PSG_CLIP_INIT;
    psg_clip_report report;
    TEST_OK(f.context, psg_clipped_sum(f.context, set, 1, &clip, PSG_OVERWRITE, &sum, NULL, NULL, &report));
    assert_int_equal(report.removed, 1);
    for (int k = 0; k < 18; k++) assert_true(isfinite(test_get_at(&sum, k)));
    small_close(&f);
}

/* ---- parameters outside layers ---- */

/* C: a scale and a shift of one's own have per-sample gradients. */
static void elementwise_parameters_have_gradients(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *scale = small_parameter(&f, "scale", SHAPE(D)), *shift = small_parameter(&f, "shift", SHAPE(T, D));
    psg_tensor x = small_normal(&f, SHAPE(N, T, D)), go = small_normal(&f, SHAPE(N, T, D));
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var y = psg_mul(f.tape, psg_input(f.tape, &x), psg_use(f.tape, scale));
    small_backward(&f, psg_add(f.tape, y, psg_use(f.tape, shift)), &go);
    const double *of_scale = small_grad_sample(&f, scale), *of_shift = small_grad_sample(&f, shift);
    for (int n = 0; n < N; n++) {
        for (int j = 0; j < D; j++) {
            double sum = 0;
            for (int t = 0; t < T; t++) {
                int64_t k = (n * T + t) * D + j;
                sum += test_get_at(&go, k) * test_get_at(&x, k);
                assert_true(of_shift[k] == test_get_at(&go, k));
            }
            test_near(of_scale[n * D + j], sum, 1e-13, "scale", n * D + j);
        }
    }
    small_close(&f);
}

/* ---- recurrent layers ---- */

enum { STEPS = 5, IN = 3, H = 2, SAMPLES = 3 };

typedef struct lstm {
    psg_param *ih[2], *hh[2];
} lstm;

static lstm new_lstm(small_pass *f) {
    return (lstm){ { small_parameter(f, "ih0", SHAPE(4 * H, IN)), small_parameter(f, "ih1", SHAPE(4 * H, H)) },
                   { small_parameter(f, "hh0", SHAPE(4 * H, H)), small_parameter(f, "hh1", SHAPE(4 * H, H)) } };
}

static psg_var run_lstm(small_pass *f, const lstm *l, const psg_tensor *x, const psg_tensor *lengths, double dropout,
                        psg_var *h_n) {
    psg_rnn_weights weights[2];
    psg_rnn_options options = PSG_RNN_OPTIONS_INIT;
    options.num_layers = 2;
    options.dropout = dropout;
    for (int k = 0; k < 2; k++) {
        weights[k] = (psg_rnn_weights){ psg_use(f->tape, l->ih[k]), psg_use(f->tape, l->hh[k]), psg_none(), psg_none(),
                                        psg_none() };
    }
    psg_var input = psg_input(f->tape, x), of = lengths ? psg_input(f->tape, lengths) : psg_none();
    return psg_lstm(f->tape, input, of, psg_none(), psg_none(), weights, &options, h_n, NULL);
}

/* A11, h: samples of any lengths in any order keep their rows; h_n is (N, layers, H); dropout between layers acts. */
static void recurrent_layers_keep_rows_states_and_dropout(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    lstm l = new_lstm(&f);
    psg_tensor x = small_normal(&f, SHAPE(SAMPLES, STEPS, IN)), go = small_normal(&f, SHAPE(SAMPLES, STEPS, H)), states,
               y[2];
    psg_tensor lengths = small_integers(&f, (int64_t[]){ 2, 5, 3 }, SHAPE(SAMPLES));
    psg_var h_n;
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    small_backward(&f, run_lstm(&f, &l, &x, &lengths, 0, &h_n), &go);
    TEST_OK(f.context, psg_value(f.tape, h_n, &states));
    assert_true(states.rank == 3 && states.shape[0] == SAMPLES && states.shape[1] == 2 && states.shape[2] == H);
    const double *all = small_grad_sample(&f, l.hh[0]);
    for (int n = 0; n < SAMPLES; n++) {
        int64_t length = (int64_t)test_get_at(&lengths, n);
        psg_tensor one = psg_tensor_of(PSG_F64, (double *)x.data + n * STEPS * IN, SHAPE(1, length, IN));
        psg_tensor one_go = psg_tensor_of(PSG_F64, (double *)go.data + n * STEPS * H, SHAPE(1, length, H));
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        small_backward(&f, run_lstm(&f, &l, &one, NULL, 0, NULL), &one_go);
        const double *alone = small_grad_sample(&f, l.hh[0]);
        for (int i = 0; i < 4 * H * H; i++) test_near(all[n * 4 * H * H + i], alone[i], 1e-12, "sample alone", i);
    }
    for (int evaluation = 0; evaluation < 2; evaluation++) {
        psg_pass pass = PSG_PASS_INIT;
        pass.evaluation = evaluation;
        pass.sample_ids = (int64_t[SAMPLES]){ 0, 1, 2 };
        small_begin(&f, pass);
        TEST_OK(f.context, psg_value(f.tape, run_lstm(&f, &l, &x, NULL, 0.5, NULL), &y[evaluation]));
        psg_tensor copy = small_zeros(&f, PSG_F64, y[evaluation].rank, y[evaluation].shape);
        memcpy(copy.data, y[evaluation].data, (size_t)psg_tensor_count(&copy) * sizeof(double));
        y[evaluation] = copy;
    }
    assert_false(test_same_bits(&y[0], &y[1]));
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instance_norm_evaluation_is_differentiated_as_it_is),
        cmocka_unit_test(instance_norm_of_nothing_and_of_one_value),
        cmocka_unit_test(no_op_moves_the_batch),
        cmocka_unit_test(grad_samples_share_no_memory),
        cmocka_unit_test(convolutions_of_any_batch_group_dilation_and_padding),
        cmocka_unit_test(a_sample_of_nan_does_not_spoil_the_sum),
        cmocka_unit_test(elementwise_parameters_have_gradients),
        cmocka_unit_test(recurrent_layers_keep_rows_states_and_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
