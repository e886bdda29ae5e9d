/* Defects of other systems for per-sample gradients, and that they are not ours.  A number is that of the list of
 * ExpandedWeights' defects (A: silently wrong, B: crash or wrong error, C: missing), a letter that of Opacus'.
 *
 * Where each is tested; "tables" are those of test/cases (test_cases.c), A10 and B24 are below:
 *   A1, d, A2 padding rows, frequencies    table embedding, "golden", "questions"
 *   A3 instance_norm in evaluation    table instance_norm, lines use_input_stats=0
 *   A4 complex types                  there are none (psg/base.h)
 *   A5 tied weights                   tied_parameters_are_summed (test_tape.c), a_tied_head_adds_its_uses
 *                                     (test_embedding.c)
 *   A6, A11 recurrent modules          tables rnn, lstm, gru: "samples alone", "golden"; test_recurrent.c
 *   A7 a batch that moved             tables transpose, permute, flip, reshape: lines equal_sizes, batch
 *   A8 grad_sample of batch 1         1.4 grad_sample of batch 1 broadcast (test_tape_errors.c)
 *   A9 input changed in place         no op writes an input; the caller must not either (psg/tape.h)
 *   B12, B13 group_norm without bias, weight or with one frozen; f: layer_norm    tables group_norm, layer_norm
 *   B14, B15 non-contiguous input, output gradient     "variants" of every table
 *   B16, b dilated conv3d, any batch, padding modes     table conv3d, lines many_dilated, reflected, ...
 *   B17 empty batches of instance_norm     table instance_norm, lines running_empty, empty
 *   B18 keyword order, B25 one-element tuples          arguments are positions and fixed arrays
 *   B19 one-dimensional weight, B20 scalar argument    2.1, 1.1 (test_tape_errors.c)
 *   B21 trainable tensors that are no parameters       a parameter is a psg_param, a constant has no gradient
 *   B22 sizes checked in backward alone                "refusals" of every table: all are refused by the forward pass
 *   B23 i32 ids                       table embedding, lines i32
 *   C  positions of all samples       one_row_of_ids_serves_every_sample (test_embedding.c)
 *   C  elementwise parameters         tables add, sub, mul, div: lines of parameters
 *   C  transposed convolution, bags, bilinear, prelu, attention, rms_norm, cells: tables of their names; norms and
 *      clipping: "questions" of every table; other batch dimensions: batch_second lines
 *   a  cancelling norms               upper_holds_on_cancelling_inputs (test_gradient_norm.c)
 *   e  norms of linear over rank 4    table linear, line rank5, "questions"
 *   g  a sample of NaN                removed_samples_leave_no_trace (test_gradient_clip.c), and one of windows,
 *                                     a_removed_sample_leaves_no_trace (test_gradient_unfolded.c)
 *   h  batch_first, i plain RNN       tables multi_head_attention, lstm with batch_second; rnn
 *   j  an export list with a slip     every header compiles alone, every symbol is exported (install_test.sh)
 *   k-n accounting                    test_accountant.c
 *   c  repeated ids, maxima of bags   a_clipped_bag_adds_no_more_than_c (test_embedding_bag.c)
 *   o  large tables                   large_tables_stay_sparse (test_embedding.c) */
#include "small_pass.h"

enum { D = 3, N = 2 };

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

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(grad_samples_share_no_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
