/* Every error of PyTorch's call_for_per_sample_grads (1.13.1 and later), row by row: the status that answers it here,
 * or why it cannot arise in C.  The numbers are: 1.1 the wrapper, 1.2 its weights, 1.3 its ops, 1.4 what all ops check,
 * 1.6 particular cases, 2.9 types, 2.10 aliasing; what single ops refuse, 2.1 to 2.8, are error= lines of test/cases,
 * and what is no error here (2.5: frozen or absent biases, one value a channel) ordinary ones. */
#include "scene.h"

/* ---- 1.1: the wrapper ---- */

static psg_status bad_reduction(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.loss_reduction = (psg_loss_reduction)7;
    return psg_tape_begin(s->tape, &pass);
}

static psg_status negative_batch_size(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = -4;
    return psg_tape_begin(s->tape, &pass);
}

static psg_status explicit_zero(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.has_batch_size = 1;
    return scene_linear(s, &pass, VIEW(0, IN));
}

static psg_status grad_sample_set(scene *s) {
    psg_tensor array = psg_tensor_of(PSG_F64, scene_memory + 1024, 3, (int64_t[]){ B, OUT, IN });
    TEST_OK(s->context, psg_param_attach_grad_sample(s->weight, &array));
    for (int round = 0; round < 2; round++) {
        psg_tape_begin(s->tape, NULL);
        psg_var y = psg_linear(s->tape, scene_input(s, s->x), psg_use(s->tape, s->weight), psg_none());
        psg_backward_from(s->tape, y, NULL);
    }
    return psg_tape_status(s->tape);
}

static psg_status inputs_disagree(scene *s) {
    scene_begin(s);
    scene_input(s, s->x);
    scene_input(s, VIEW(B + 1, IN));
    return psg_tape_status(s->tape);
}

static psg_status mask_is_constant(scene *s) {
    scene_begin(s);
    psg_tensor mask = VIEW(B, IN);
    return scene_record(s, &toy_multiply, scene_input(s, s->x), psg_constant(s->tape, &mask));
}

static psg_status explicit_size_compares_nothing(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = B;
    psg_tape_begin(s->tape, &pass);
    scene_input(s, s->x);
    scene_input(s, VIEW(B + 1, IN));
    scene_input(s, scene_view(0, NULL));
    return psg_tape_status(s->tape);
}

static psg_status no_input(scene *s) {
    scene_begin(s);
    return scene_record(s, &toy_matmul, psg_constant(s->tape, &s->x), psg_use(s->tape, s->weight));
}

static psg_status scalar_input(scene *s) {
    scene_begin(s);
    scene_input(s, scene_view(0, NULL));
    return psg_tape_status(s->tape);
}

/* ---- 1.2, 1.3: parameters and ops ---- */

static psg_status invalid_parameter(scene *s) {
    psg_tensor value = psg_tensor_of(PSG_F64, NULL, 1, (int64_t[]){ 3 });
    psg_param *param;
    return psg_param_create(s->context, "p", &value, &param);
}

static psg_status integer_parameter(scene *s) {
    psg_tensor value = psg_i64_1d(scene_integers, 3);
    psg_param *param;
    return psg_param_create(s->context, "p", &value, &param);
}

static psg_status strided_parameter(scene *s) {
    psg_tensor value = psg_tensor_strided(PSG_F64, scene_memory, 1, (int64_t[]){ 3 }, (int64_t[]){ 2 });
    psg_param *param;
    return psg_param_create(s->context, "p", &value, &param);
}

static psg_status deep_parameter(scene *s) {
    psg_tensor value = psg_tensor_of(PSG_F64, scene_memory, PSG_MAX_RANK, (int64_t[]){ 1, 1, 1, 1, 1, 1, 1, 1 });
    psg_param *param;
    return psg_param_create(s->context, "p", &value, &param);
}

static psg_status parameter_without_rule(scene *s) {
    scene_begin(s);
    return scene_record(s, &toy_multiply, scene_input(s, s->x), psg_use(s->tape, s->scale));
}

static psg_status unknown_op(scene *s) {
    scene_begin(s);
    psg_apply(s->tape, "spectral_norm", NULL, 0, NULL);
    return psg_tape_status(s->tape);
}

static psg_status coupling_op(scene *s) {
    scene_begin(s);
    psg_var x = scene_input(s, s->x);
    psg_record(s->tape, &toy_center, &x, 1, NULL);
    return psg_tape_status(s->tape);
}

/* ---- 1.4: every op ---- */

static psg_status input_is_parameter(scene *s) {
    scene_begin(s);
    scene_input(s, s->x);
    return scene_record(s, &toy_matmul, psg_use(s->tape, s->weight), psg_use(s->tape, s->weight));
}

static psg_status only_parameters(scene *s) {
    scene_begin(s);
    scene_input(s, s->x);
    return scene_record(s, &toy_scale, psg_constant(s->tape, &s->x), psg_use(s->tape, s->scale));
}

static psg_status absent_input(scene *s) {
    scene_begin(s);
    return scene_record(s, &toy_matmul, psg_none(), psg_use(s->tape, s->weight));
}

static psg_status explicit_size_scalar(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = 1;
    return scene_linear(s, &pass, scene_view(0, NULL));
}

static psg_status inferred_zero(scene *s) { return scene_linear(s, NULL, VIEW(0, IN)); }

static psg_status batch_mismatch(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = B;
    return scene_linear(s, &pass, VIEW(B - 1, IN));
}

static psg_status larger_batch(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = B;
    return scene_linear(s, &pass, VIEW(B + 1, IN));
}

static psg_status second_dimension(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = B;
    pass.batch_second = 1;
    return scene_linear(s, &pass, VIEW(B, B + 1, IN));
}

static psg_status attached_array_of_one(scene *s) {
    psg_tensor array = psg_tensor_of(PSG_F64, scene_memory + 1024, 3, (int64_t[]){ 1, OUT, IN });
    TEST_OK(s->context, psg_param_attach_grad_sample(s->weight, &array));
    scene_begin(s);
    psg_var y = psg_linear(s->tape, scene_input(s, s->x), psg_use(s->tape, s->weight), psg_none());
    scene_memory[1024] = 42;
    psg_status status = psg_backward_from(s->tape, y, NULL);
    assert_true(scene_memory[1024] == 42 && !psg_param_has_grad_sample(s->weight));
    scene_memory[1024] = 0;
    return status;
}

static psg_status attached_shape(scene *s) {
    psg_tensor array = VIEW(B, IN, OUT);
    return psg_param_attach_grad_sample(s->weight, &array);
}

static psg_status attached_dtype(scene *s) {
    psg_tensor array = psg_tensor_of(PSG_F32, scene_memory, 3, (int64_t[]){ B, OUT, IN });
    return psg_param_attach_grad_sample(s->weight, &array);
}

static psg_status second_backward(scene *s) {
    scene_begin(s);
    psg_var x = psg_input_with_grad(s->tape, &s->x);
    TEST_OK(s->context, psg_backward_from(s->tape, x, NULL));
    return psg_backward_from(s->tape, x, NULL);
}

/* ---- 1.6: particular cases ---- */

static psg_status merged_batch(scene *s) {
    scene_begin(s);
    psg_var x = psg_reshape(s->tape, scene_input(s, VIEW(B, 2, IN)), 2, (int64_t[]){ 2 * B, IN });
    return scene_record(s, &toy_matmul, x, psg_use(s->tape, s->weight));
}

static psg_status broadcast_positions(scene *s) {
    scene_begin(s);
    scene_input(s, s->x);
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = B;
    return scene_linear(s, &pass, VIEW(1, IN));
}

static psg_status nothing_trainable(scene *s) {
    psg_param_set_trainable(s->weight, 0);
    psg_param_set_trainable(s->bias, 0);
    scene_linear(s, NULL, s->x);
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = B;
    return scene_linear(s, &pass, VIEW(B + 1, IN));   /* nobody needs a batch */
}

static psg_status unused_parameter(scene *s) {
    psg_gradient gradient;
    TEST_OK(s->context, scene_linear(s, NULL, s->x));
    return psg_gradient_of(s->tape, s->scale, &gradient);
}

static psg_status mixed_dtypes(scene *s) {
    scene_begin(s);
    psg_tensor x = psg_tensor_of(PSG_F32, scene_memory, 2, (int64_t[]){ B, IN });
    return scene_record(s, &toy_matmul, scene_input(s, x), psg_use(s->tape, s->weight));
}

/* ---- the table ---- */

#define CANNOT PSG_OK, NULL

static const scene_row rows[] = {
    { "1.1 loss_reduction not sum or mean", PSG_ERR_ARGUMENT, bad_reduction, "loss_reduction is 7, must be" },
    { "1.1 module is no nn.Module", CANNOT, "there are no modules: a model is code that records ops" },
    { "1.1 batch_size neither None nor int", CANNOT, "batch_size is an int64_t" },
    { "1.1 batch_size given by position", CANNOT, "options are a struct with named fields" },
    { "1.1 batch_size < 1", PSG_ERR_ARGUMENT, negative_batch_size, "batch_size is -4, must be >= 0" },
    { "1.1 batch_size 0 (an error there)", PSG_OK, explicit_zero, NULL },
    { "1.1 grad_sample set already", PSG_ERR_STATE, grad_sample_set, "grad_sample of parameter \"weight\" is set" },
    { "1.1 inputs of two batch sizes", PSG_ERR_BATCH, inputs_disagree,
      "batch size 4 and one with batch size 5, must all have a row for each sample; give" },
    { "1.1 an unbatched mask takes part in inference", PSG_OK, mask_is_constant, NULL },
    { "1.1 explicit batch_size: inputs not compared", PSG_OK, explicit_size_compares_nothing, NULL },
    { "1.1 no tensor among the inputs", PSG_ERR_UNSUPPORTED, no_input,
      "toy_matmul: has trainable parameters but no batched input" },
    { "1.1 0-d tensor (IndexError)", PSG_ERR_BATCH, scalar_input, "value is a scalar, which has no batch dimension" },
    { "1.1 inputs that are not pytree-able", CANNOT, "every input is named by its own psg_input" },
    { "1.1 create_graph: grad_sample has a grad_fn", CANNOT, "the walk back is not recorded" },
    { "1.1 forward under no_grad", CANNOT, "there is no mode: without psg_backward a pass has no gradients" },
    { "1.1 Jitted modules (TorchScript)", CANNOT, "nothing is compiled" },
    { "1.1 autograd.grad on a weight: not in the graph", CANNOT, "psg_gradient_of is the only way, and it works" },
    { "1.2 ExpandedWeight of no tensor", PSG_ERR_ARGUMENT, invalid_parameter, "value (p) is without data" },
    { "1.2 parameter of an integer type", PSG_ERR_DTYPE, integer_parameter, "value (p) is i64, must be f32 or f64" },
    { "1.2 (ours) parameter of rank 8", PSG_ERR_SHAPE, deep_parameter, "value (p) has rank 8, must be below" },
    { "1.2 (ours) parameter with gaps", PSG_ERR_ARGUMENT, strided_parameter, "value (p) must be contiguous" },
    { "1.2 ExpandedWeight of a tensor without grad", CANNOT, "a frozen parameter is used as it is, without gradient" },
    { "1.2 batch_size, loss_reduction of a weight unchecked", CANNOT, "they belong to the pass, which checks them" },
    { "1.2 cannot handle function mul, t, size, ...", PSG_ERR_UNSUPPORTED, parameter_without_rule,
      "b is the trainable parameter \"scale\", but this op has no gradient" },
    { "1.2 cannot handle function __get__ (properties)", CANNOT, "a parameter has no properties: only ops take it" },
    { "1.2 LazyLinear: AttributeError", CANNOT, "parameters have their shape when they are made" },
    { "1.3 op outside the registry", PSG_ERR_ARGUMENT, unknown_op, "there is no op \"spectral_norm\"" },
    { "1.3 batch_norm", PSG_ERR_UNSUPPORTED, coupling_op, "toy_center: mixes the samples of a batch" },
    { "1.3 RNN fills .grad silently", CANNOT, "a trainable parameter of a pass has per-sample gradients or an error" },
    { "1.4 keywords bound to other arguments", CANNOT, "inputs are given by position" },
    { "1.4 input is an ExpandedWeight", PSG_ERR_UNSUPPORTED, input_is_parameter, "input is the trainable parameter" },
    { "1.4 (ours) no operand is batched", PSG_ERR_UNSUPPORTED, only_parameters, "its output belongs to no sample" },
    { "1.4 input is no tensor", PSG_ERR_ARGUMENT, absent_input, "toy_matmul: input is absent, but required" },
    { "1.4 input is 0-d", PSG_ERR_BATCH, explicit_size_scalar, "linear: input is a scalar" },
    { "1.4 batch of size 0 (an error there)", PSG_OK, inferred_zero, NULL },
    { "1.4 batch size of input and weight differ", PSG_ERR_BATCH, batch_mismatch,
      "batch size 3, the pass has batch size 4" },
    { "1.4 the same with the batch second", PSG_ERR_BATCH, second_dimension,
      "batch size 5, the pass has batch size 4" },
    { "1.4 weights of two loss_reductions", CANNOT, "loss_reduction belongs to the pass" },
    { "1.4 ExpandedWeights mixed with Parameters", CANNOT, "a pass knows every parameter it uses" },
    { "1.4 grad_sample of batch 1 broadcast", PSG_ERR_SHAPE, attached_array_of_one,
      "has room for 1 samples, the batch" },
    { "1.4 grad_sample of another shape", PSG_ERR_SHAPE, attached_shape, "must be (B, *shape)" },
    { "1.4 (ours) grad_sample of another type", PSG_ERR_DTYPE, attached_dtype, "weight is f64, grad_sample is f32" },
    { "1.4 backward(retain_graph) twice doubles", PSG_ERR_STATE, second_backward, "walked back already" },
    { "1.4 conflicting batch_first in one layer", CANNOT, "batch_second belongs to the pass" },
    { "1.6 tied parameters", CANNOT, "their blocks are summed: tied_parameters_are_summed in test_tape.c" },
    { "1.6 smaller batch than N", PSG_ERR_BATCH, batch_mismatch, "linear: input has batch size 3" },
    { "1.6 larger batch than N", PSG_ERR_BATCH, larger_batch, "linear: input has batch size 5" },
    { "1.6 grad_sample set already", PSG_ERR_STATE, grad_sample_set, "clear it (psg_param_clear_grad_sample)" },
    { "1.6 batch merged with another dimension", PSG_ERR_BATCH, merged_batch,
      "reshape: (4, 2, 6) to (8, 6) does not keep" },
    { "1.6 batch permuted, sizes equal: silently wrong", CANNOT, "it does: no library can see it; ops that move the "
      "batch dimension refuse to in a per-sample pass" },
    { "1.6 op sees a subset of rows", PSG_ERR_BATCH, batch_mismatch, "batch size 3, the pass has batch size 4" },
    { "1.6 [1, T] positions broadcast over the batch", PSG_ERR_BATCH, broadcast_positions, "batch size 1, the pass" },
    { "1.6 no trainable parameter", PSG_OK, nothing_trainable, NULL },
    { "1.6 parameter not used", PSG_ERR_STATE, unused_parameter, "parameter \"scale\" has no gradient" },
    { "2.1 linear: bias grad_sample is a view of grad_output", CANNOT, "outputs are the caller's arrays" },
    { "2.4 layer_norm: normalized_shape an int", CANNOT, "it is an array with its rank" },
    { "2.9 two real types", PSG_ERR_DTYPE, mixed_dtypes, "weight is f64, but input is f32" },
    { "2.9 complex, half", CANNOT, "there are no such types" },
    { "2.10 input changed in place after forward", CANNOT, "it does: inputs must stay as they are; ops write none" },
};

static void every_row_is_answered(void **state) {
    (void)state;
    scene_check_rows(rows, sizeof rows / sizeof rows[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
