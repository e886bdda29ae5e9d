/* Misuse of the tape itself. */
#include <stdio.h>
#include <string.h>

#include "scene.h"
#include "small_pass.h"

static psg_status no_pass(scene *s) {
    scene_input(s, s->x);
    return psg_tape_status(s->tape);
}

static psg_status var_of_earlier_pass(scene *s) {
    scene_begin(s);
    psg_var x = scene_input(s, s->x);
    scene_begin(s);
    psg_var again = scene_input(s, s->x);
    return scene_record(s, &toy_multiply, again, x);
}

static psg_status var_of_other_tape(scene *s) {
    psg_tape *other;
    TEST_OK(s->context, psg_tape_create(s->context, &other));
    scene_begin(s);
    psg_tape_begin(other, NULL);
    psg_var x = scene_input(s, s->x), foreign = psg_input(other, &s->x);
    psg_tape_destroy(other);
    return scene_record(s, &toy_multiply, x, foreign);
}

static psg_status var_from_nowhere(scene *s) {
    scene_begin(s);
    return scene_record(s, &toy_multiply, scene_input(s, s->x), (psg_var){ 99 });
}

static psg_status value_of_stranger(scene *s) {
    psg_tensor value;
    scene_begin(s);
    return psg_value(s->tape, (psg_var){ 99 }, &value);
}

static psg_status too_many_inputs(scene *s) {
    scene_begin(s);
    psg_var x = scene_input(s, s->x);
    psg_record(s->tape, &toy_multiply, (psg_var[]){ x, x, x }, 3, NULL);
    return psg_tape_status(s->tape);
}

static psg_status null_op(scene *s) {
    scene_begin(s);
    psg_record(s->tape, NULL, NULL, 0, NULL);
    return psg_tape_status(s->tape);
}

static psg_status null_parameter(scene *s) {
    scene_begin(s);
    psg_use(s->tape, NULL);
    return psg_tape_status(s->tape);
}

static psg_status invalid_input(scene *s) {
    scene_begin(s);
    scene_input(s, psg_tensor_of(PSG_F64, NULL, 2, (int64_t[]){ B, IN }));
    return psg_tape_status(s->tape);
}

static psg_status integer_input_gradient(scene *s) {
    scene_begin(s);
    psg_tensor labels = psg_i64_1d(scene_integers, B);
    psg_input_with_grad(s->tape, &labels);
    return psg_tape_status(s->tape);
}

static psg_status loss_of_many(scene *s) {
    scene_begin(s);
    return psg_backward(s->tape, scene_input(s, s->x));
}

static psg_status loss_of_integers(scene *s) {
    scene_begin(s);
    return psg_backward(s->tape, psg_input(s->tape, &(psg_tensor){ scene_integers, PSG_I64, 1, { 1 }, { 1 } }));
}

static psg_status loss_is_parameter(scene *s) {
    scene_begin(s);
    return psg_backward(s->tape, psg_use(s->tape, s->weight));
}

static psg_status grad_output_shape(scene *s) {
    scene_begin(s);
    return psg_backward_from(s->tape, scene_input(s, s->x), &(psg_tensor){ scene_memory, PSG_F64, 1, { B }, { 1 } });
}

static psg_status grad_output_dtype(scene *s) {
    scene_begin(s);
    psg_tensor g = psg_tensor_of(PSG_F32, scene_memory, 2, s->x.shape);
    return psg_backward_from(s->tape, scene_input(s, s->x), &g);
}

static psg_status gradient_too_early(scene *s) {
    psg_gradient gradient;
    TEST_OK(s->context, scene_linear(s, NULL, s->x));
    return psg_gradient_of(s->tape, s->weight, &gradient);
}

static psg_status input_grad_too_early(scene *s) {
    psg_tensor grad;
    scene_begin(s);
    return psg_input_grad(s->tape, psg_input_with_grad(s->tape, &s->x), &grad);
}

static psg_status oversized_output(scene *s) {
    scene_begin(s);
    psg_var x = scene_input(s, s->x);
    psg_record(s->tape, &toy_oversized, &x, 1, NULL);
    return psg_tape_status(s->tape);
}

static psg_status impossible_block(scene *s) {
    scene_begin(s);
    psg_var v = scene_input(s, s->x);
    v = psg_record(s->tape, &toy_deep, (psg_var[]){ v, psg_use(s->tape, s->scale) }, 2, NULL);
    return psg_backward_from(s->tape, v, NULL);
}

static psg_status op_without_message(scene *s) {
    scene_begin(s);
    psg_var v = scene_input(s, s->x);
    v = psg_record(s->tape, &toy_failing, (psg_var[]){ v, psg_use(s->tape, s->scale) }, 2, NULL);
    return psg_backward_from(s->tape, v, NULL);
}

static const scene_row rows[] = {
    { "tape: no pass begun", PSG_ERR_STATE, no_pass, "call psg_tape_begin first" },
    { "tape: var of an earlier pass", PSG_ERR_ARGUMENT, var_of_earlier_pass, "b is no var of this pass" },
    { "tape: var of another tape", PSG_ERR_ARGUMENT, var_of_other_tape, "b is no var of this pass" },
    { "tape: var from nowhere", PSG_ERR_ARGUMENT, var_from_nowhere, "b is no var of this pass" },
    { "tape: value of a stranger", PSG_ERR_ARGUMENT, value_of_stranger, "psg_value: var is none of this pass" },
    { "tape: too many inputs", PSG_ERR_ARGUMENT, too_many_inputs, "3 inputs given, at most 2" },
    { "tape: NULL op", PSG_ERR_ARGUMENT, null_op, "op is NULL" },
    { "tape: NULL parameter", PSG_ERR_ARGUMENT, null_parameter, "param is NULL" },
    { "tape: invalid input", PSG_ERR_ARGUMENT, invalid_input, "psg_input: value is without data" },
    { "tape: gradient of integers", PSG_ERR_DTYPE, integer_input_gradient, "value is i64, only f32 and f64" },
    { "tape: loss of many elements", PSG_ERR_SHAPE, loss_of_many, "loss has shape (4, 6), must have one element" },
    { "tape: loss of integers", PSG_ERR_DTYPE, loss_of_integers, "var is i64" },
    { "tape: loss is a parameter", PSG_ERR_ARGUMENT, loss_is_parameter, "var is no input or output" },
    { "tape: grad_output of another shape", PSG_ERR_SHAPE, grad_output_shape, "has shape (4), var has (4, 6)" },
    { "tape: grad_output of another type", PSG_ERR_DTYPE, grad_output_dtype, "grad_output is f32, var is f64" },
    { "tape: gradient before backward", PSG_ERR_STATE, gradient_too_early, "psg_backward has not run" },
    { "tape: input gradient before backward", PSG_ERR_STATE, input_grad_too_early, "psg_backward has not run" },
    { "tape: output beyond 64 bits", PSG_ERR_OVERFLOW, oversized_output, "toy_oversized: the output shape (21474" },
    { "tape: block of an impossible rank", PSG_ERR_SHAPE, impossible_block, "toy_deep: a block of parameter" },
    { "tape: op fails without a message", PSG_ERR_NUMERIC, op_without_message, "backward failed with PSG_ERR_NUMERIC" },
};

static void every_row_is_answered(void **state) {
    (void)state;
    scene_check_rows(rows, sizeof rows / sizeof rows[0]);
}

/* NULL for the tape or for what is to be written. */
static void null_is_refused(void **state) {
    (void)state;
    psg_tensor tensor;
    psg_gradient gradient;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    assert_int_equal(psg_tape_create(context, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_tape_create(NULL, &tape), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_tape_begin(NULL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_tape_reserve(NULL, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_input(NULL, &tensor).id, -1);
    assert_int_equal(psg_record(NULL, &toy_sum, NULL, 0, NULL).id, -1);
    assert_int_equal(psg_backward(NULL, psg_none()), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_value(NULL, psg_none(), &tensor), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_value_shape(NULL, psg_none(), &tensor), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_tape_fail(NULL, PSG_ERR_SHAPE, "x"), PSG_ERR_ARGUMENT);
    assert_null(psg_tape_pass(NULL));
    assert_int_equal(psg_input_grad(NULL, psg_none(), &tensor), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gradient_of(NULL, NULL, &gradient), PSG_ERR_ARGUMENT);
    TEST_OK(context, psg_tape_create(context, &tape));
    assert_int_equal(psg_gradient_of(tape, NULL, &gradient), PSG_ERR_ARGUMENT);
    assert_string_equal(psg_context_message(context), "psg_gradient_of: param is NULL");
    psg_tape_destroy(tape);
    psg_tape_destroy(NULL);
    psg_param_destroy(NULL);
    test_context_free(context);
}

/* What a function that records several ops reads, and how it refuses. */
static void composites(void **state) {
    (void)state;
    static const float data[24];
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    psg_pass pass = { .batch_second = 1 };
    psg_tensor shape, input = psg_f32_3d(data, 2, 3, 4);
    TEST_OK(context, psg_tape_create(context, &tape));
    assert_null(psg_tape_pass(tape));
    TEST_OK(context, psg_tape_begin(tape, &pass));
    psg_var x = psg_relu(tape, psg_input(tape, &input));
    TEST_OK(context, psg_value_shape(tape, x, &shape));
    assert_true(shape.rank == 3 && shape.shape[0] == 2 && shape.shape[1] == 3 && shape.shape[2] == 4 && !shape.data);
    assert_true(psg_tape_pass(tape)->batch_second && psg_tape_pass(tape)->batch_size == 3);
    assert_int_equal(psg_value_shape(tape, psg_none(), &shape), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_tape_fail(tape, PSG_ERR_SHAPE, "block: %d", 7), PSG_ERR_SHAPE);
    assert_int_equal(psg_tape_fail(tape, PSG_ERR_DTYPE, "later"), PSG_ERR_SHAPE);
    assert_string_equal(psg_tape_message(tape), "block: 7");
    assert_int_equal(psg_value_shape(tape, x, &shape), PSG_ERR_SHAPE);
    assert_null(psg_tape_pass(tape));
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* The context has the message of the last call that failed, also where a tape repeats what it failed of. */
static void a_failed_tape_says_so_again(void **state) {
    (void)state;
    small_pass s;
    psg_gradient gradient[2];
    const psg_gradient *set[2];
    psg_tensor value;
    char first[512];
    small_open(&s);
    psg_param *const weight = small_parameter(&s, "weight", SHAPE(3, 4));
    const psg_tensor input = small_normal(&s, SHAPE(2, 4));
    small_begin(&s, (psg_pass)PSG_PASS_INIT);
    psg_var x = psg_input(s.tape, &input);
    psg_use(s.tape, NULL);
    snprintf(first, sizeof first, "%s", psg_tape_message(s.tape));
    assert_string_equal(psg_context_message(s.context), first);
    for (int call = 0; call < 5; call++) {
        assert_int_equal(psg_op_register(s.context, NULL), PSG_ERR_ARGUMENT);   /* another failure in between */
        assert_string_not_equal(psg_context_message(s.context), first);
        psg_status status = call == 0 ? psg_backward(s.tape, x)
                          : call == 1 ? psg_value(s.tape, x, &value)
                          : call == 2 ? psg_gradient_of(s.tape, weight, gradient)
                          : call == 3 ? psg_gradients_of(s.tape, &weight, 1, gradient, set)
                                      : psg_input_grad(s.tape, x, &value);
        assert_int_equal(status, psg_tape_status(s.tape));
        assert_string_equal(psg_context_message(s.context), first);
    }
    small_close(&s);
}

/* The list of gradients that questions take, of all parameters at once; the first that has none ends it. */
static void gradients_come_as_questions_take_them(void **state) {
    (void)state;
    small_pass s;
    psg_gradient gradient[2];
    const psg_gradient *set[2] = { NULL, NULL };
    double both[2], one[2], other[2];
    small_open(&s);
    psg_param *const params[2] = { small_parameter(&s, "weight", SHAPE(3, 4)), small_parameter(&s, "bias", SHAPE(3)) };
    const psg_tensor input = small_normal(&s, SHAPE(2, 4));
    small_begin(&s, (psg_pass)PSG_PASS_INIT);
    psg_var x = psg_input(s.tape, &input);
    psg_var y = psg_linear(s.tape, x, psg_use(s.tape, params[0]), psg_use(s.tape, params[1]));
    assert_int_equal(psg_gradients_of(s.tape, params, 2, gradient, set), PSG_ERR_STATE);
    small_backward(&s, y, NULL);
    TEST_OK(s.context, psg_gradients_of(s.tape, params, 2, gradient, set));
    TEST_OK(s.context, psg_sqnorm(s.context, set, 2, both, NULL, NULL));
    TEST_OK(s.context, psg_sqnorm(s.context, &set[0], 1, one, NULL, NULL));
    TEST_OK(s.context, psg_sqnorm(s.context, &set[1], 1, other, NULL, NULL));
    for (int n = 0; n < 2; n++) test_near(both[n], one[n] + other[n], 1e-12 * both[n], "sum of squares", n);
    assert_int_equal(psg_gradients_of(NULL, params, 2, gradient, set), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gradients_of(s.tape, NULL, 2, gradient, set), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gradients_of(s.tape, params, 2, NULL, set), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gradients_of(s.tape, params, 2, gradient, NULL), PSG_ERR_ARGUMENT);
    TEST_OK(s.context, psg_gradients_of(s.tape, NULL, 0, NULL, NULL));
    small_close(&s);
}

static psg_status try_three(psg_status first, psg_status second, int *reached) {
    PSG_TRY(first);
    ++*reached;
    PSG_TRY(second);
    ++*reached;
    return PSG_OK;
}

static void a_try_ends_with_the_first_error(void **state) {
    (void)state;
    int reached = 0;
    assert_int_equal(try_three(PSG_OK, PSG_OK, &reached), PSG_OK);
    assert_int_equal(reached, 2);
    assert_int_equal(try_three(PSG_OK, PSG_ERR_SHAPE, &reached), PSG_ERR_SHAPE);
    assert_int_equal(reached, 3);
    assert_int_equal(try_three(PSG_ERR_FILE, PSG_OK, &reached), PSG_ERR_FILE);
    assert_int_equal(reached, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_answered),
        cmocka_unit_test(null_is_refused),
        cmocka_unit_test(composites),
        cmocka_unit_test(a_failed_tape_says_so_again),
        cmocka_unit_test(gradients_come_as_questions_take_them),
        cmocka_unit_test(a_try_ends_with_the_first_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
