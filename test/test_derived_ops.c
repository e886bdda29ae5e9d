/* Ops that derive weights, through the public contract: one of a user's, its mistakes, and what is refused. */
#include <string.h>

#include "support.h"

/* ---- toy_square: E = w w, a row an element ---- */

typedef enum fault { RIGHT, WRONG_PULL, FORGETS, WRONG_SIZE, NO_DERIVATION, ADDS_BLOCK, FAULTS } fault;
typedef struct toy_attributes { fault fault; } toy_attributes;

static psg_status square_shape(psg_call *call) {
    const psg_tensor *w = &call->input[0].value;
    return psg_call_output(call, w->dtype, w->rank, w->shape);
}

/* Twice the values stay in double for the pull. */
static psg_status square_forward(psg_call *call) {
    const psg_tensor *w = &call->input[0].value;
    int64_t count = psg_tensor_count(w);
    double *slopes = psg_call_keep(call, (size_t)(count + 1) * sizeof *slopes);
    call->kept = slopes;
    if (!slopes) return PSG_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        slopes[i] = 2 * test_get_at(w, i);
        test_set_at(&call->output, i, test_get_at(w, i) * test_get_at(w, i));
    }
    return PSG_OK;
}

static void square_pull(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    const double *slopes = user;
    for (int64_t i = 0; i < count; i++) pulled[i] = slopes[first + i] * grad[i];
}

static void wrong_pull(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    square_pull(user, first, count, grad, pulled);
    for (int64_t i = 0; i < count; i++) pulled[i] *= 1.01;
}

static double square_norm(const void *user, int64_t row) {
    const double *slopes = user;
    return slopes[row] < 0 ? -slopes[row] : slopes[row];
}

static psg_status square_backward(psg_call *call) {
    fault fault = ((const toy_attributes *)call->attributes)->fault;
    psg_derivation d = { .rows = psg_tensor_count(&call->output), .columns = 1, .width = 1, .pull = square_pull,
                         .norm = square_norm, .user = call->kept };
    assert_null(call->grad_output.data);
    if (fault == WRONG_PULL) d.pull = wrong_pull;
    if (fault == WRONG_SIZE) d.columns = 2;
    if (fault == FORGETS) return PSG_OK;
    if (fault == ADDS_BLOCK) return psg_call_add_rows(call, 0, &call->output);
    return psg_call_derive(call, 0, fault == NO_DERIVATION ? NULL : &d);
}

static const char *const names[] = { "w" };
static const psg_op toy_square = { .name = "toy_square", .input_count = 1, .input_names = names, .parameter_inputs = 1,
                                   .attributes_size = sizeof(toy_attributes), .derives = 1, .shape = square_shape,
                                   .forward = square_forward, .backward = square_backward };

/* A layer that calls psg_call_derive. */
static psg_status stray_backward(psg_call *call) {
    psg_derivation d = { .rows = 1, .columns = 1, .width = 1, .pull = square_pull, .norm = square_norm };
    return psg_call_derive(call, 1, &d);
}

static psg_status stray_shape(psg_call *call) {
    return psg_call_output(call, call->input[0].value.dtype, 2, call->input[0].value.shape);
}

static psg_status stray_forward(psg_call *call) {
    test_fill_value(&call->output, 0);
    return PSG_OK;
}

static const psg_op toy_stray = { .name = "toy_stray", .input_count = 2, .parameter_inputs = 2, .shape = stray_shape,
                                  .forward = stray_forward, .backward = stray_backward };

/* ---- psg_op_check ---- */

static psg_status check(psg_context *context, fault fault) {
    psg_operand input = { .role = PSG_PARAMETER, .value = psg_tensor_of(PSG_F64, NULL, 3, (int64_t[]){ 2, 3, 2 }) };
    return psg_op_check(context, &toy_square, &input, &(toy_attributes){ fault });
}

static void its_check_knows_right_from_wrong(void **state) {
    (void)state;
    static const psg_status expected[FAULTS] = { PSG_OK, PSG_ERR_NUMERIC, PSG_ERR_ARGUMENT, PSG_ERR_ARGUMENT,
                                                 PSG_ERR_ARGUMENT, PSG_ERR_ARGUMENT };
    static const char *const text[FAULTS] = {
        "", "psg_op_check: toy_square: the gradient of w (input 0) at element 0 for sample 0",
        "toy_square: backward did not call psg_call_derive for w",
        "toy_square: a derivation has 12 rows of 2 and 1 elements", "toy_square: the derivation is NULL",
        "toy_square: adds a block, must call psg_call_derive",
    };
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < FAULTS; k++) {
        test_status(context, check(context, (fault)k), expected[k], text[k]);
        if (!strstr(psg_context_message(context), text[k])) fail_msg("%s", psg_context_message(context));
    }
    psg_op defect = toy_square;
    defect.couples_batch = 1;
    assert_int_equal(psg_op_register(context, &defect), PSG_ERR_ARGUMENT);
    defect = toy_square;
    defect.parameter_inputs = 0;
    assert_int_equal(psg_op_register(context, &defect), PSG_ERR_ARGUMENT);
    test_context_free(context);
}

/* Without memory the tape says so, wherever it runs out. */
static void memory_may_run_out(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    uint64_t n = 1;
    for (psg_status status = PSG_ERR_MEMORY; status; n++) {
        test_allocator_arm(&allocator, n, true);
        status = check(context, RIGHT);
        test_allocator_arm(&allocator, 0, false);
        assert_true(status == PSG_OK || status == PSG_ERR_MEMORY);
    }
    assert_true(n > 4);
    test_context_free(context);
    assert_true(!allocator.live_bytes && !allocator.mistakes);
}

/* ---- a tape ---- */

enum { B = 3, P = 4, D = 4 };

typedef struct scene {
    psg_context *context;
    psg_tape *tape;
    psg_param *w, *gain;
    double memory[2 * P * D + B * D + P], out[B * P * D];
    psg_tensor x;
    int64_t ids[B];
} scene;

static void open(scene *s) {
    *s = (scene){ .ids = { 0, 2, 1 } };
    s->context = test_context(1, NULL);
    for (size_t i = 0; i < sizeof s->memory / sizeof *s->memory; i++) s->memory[i] = 0.125 * (double)(i * 5 % 17) - 1;
    psg_tensor w = psg_tensor_of(PSG_F64, s->memory, 2, (int64_t[]){ P, D });
    psg_tensor gain = psg_tensor_of(PSG_F64, s->memory + P * D, 1, (int64_t[]){ P });
    s->x = psg_tensor_of(PSG_F64, s->memory + P * D + P, 2, (int64_t[]){ B, D });
    TEST_OK(s->context, psg_param_create(s->context, "w", &w, &s->w));
    TEST_OK(s->context, psg_param_create(s->context, "gain", &gain, &s->gain));
    TEST_OK(s->context, psg_tape_create(s->context, &s->tape));
    TEST_OK(s->context, psg_tape_begin(s->tape, NULL));
}

static void close(scene *s) {
    psg_tape_destroy(s->tape);
    psg_param_destroy(s->w);
    psg_param_destroy(s->gain);
    test_context_free(s->context);
}

static psg_var input(scene *s) { return psg_input(s->tape, &s->x); }
static psg_var normed(scene *s) { return psg_weight_norm(s->tape, psg_use(s->tape, s->w), psg_none(), NULL); }
static psg_var linear(scene *s, psg_var weight) { return psg_linear(s->tape, input(s), weight, psg_none()); }

static psg_var ids(scene *s) {
    psg_tensor view = psg_tensor_of(PSG_I64, s->ids, 1, (int64_t[]){ B });
    return psg_input(s->tape, &view);
}

/* ---- refusals ---- */

static void derived_twice(scene *s) { psg_weight_standardize(s->tape, normed(s), psg_none(), NULL); }
static void derived_gain(scene *s) {
    psg_var gain = psg_record(s->tape, &toy_square, (psg_var[]){ psg_use(s->tape, s->gain) }, 1, NULL);
    psg_weight_norm(s->tape, psg_use(s->tape, s->w), gain, NULL);
}
static void of_the_batch(scene *s) { psg_weight_norm(s->tape, input(s), psg_none(), NULL); }
static void no_gradient_there(scene *s) { psg_relu(s->tape, normed(s)); }
static void started_at(scene *s) { psg_backward_from(s->tape, normed(s), NULL); }
static void changed_by_max_norm(scene *s) {
    psg_embedding_options options = { .max_norm = 1 };
    psg_embedding(s->tape, ids(s), normed(s), &options);
}
static void stray(scene *s) {
    psg_var y = psg_record(s->tape, &toy_stray, (psg_var[]){ input(s), psg_use(s->tape, s->w) }, 2, NULL);
    psg_backward_from(s->tape, y, NULL);
}
static void no_batch(scene *s) {
    psg_tensor table = psg_tensor_of(PSG_F64, s->memory, 2, (int64_t[]){ P, D });
    psg_linear(s->tape, psg_constant(s->tape, &table), normed(s), psg_none());
}

static void mistakes_are_named(void **state) {
    (void)state;
    static const struct { void (*play)(scene *s); psg_status status; const char *text; } rows[] = {
        { derived_twice, PSG_ERR_UNSUPPORTED,
          "weight_standardize: weight is a derived weight itself, must be a parameter or a constant" },
        { derived_gain, PSG_ERR_UNSUPPORTED, "weight_norm: g is a derived weight itself" },
        { of_the_batch, PSG_ERR_UNSUPPORTED, "weight_norm: v is computed from the batch" },
        { no_gradient_there, PSG_ERR_UNSUPPORTED, "relu: input is the trainable parameter \"weight_norm of w\"" },
        { started_at, PSG_ERR_ARGUMENT, "psg_backward_from: var is no input or output" },
        { changed_by_max_norm, PSG_ERR_ARGUMENT, "embedding: max_norm changes rows of weight, which must be a param" },
        { stray, PSG_ERR_ARGUMENT, "toy_stray: calls psg_call_derive, but does not derive" },
        { no_batch, PSG_ERR_UNSUPPORTED, "linear: has trainable parameters but no batched input" },
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        scene s;
        open(&s);
        rows[k].play(&s);
        const char *message = psg_tape_message(s.tape);
        if (psg_tape_status(s.tape) != rows[k].status || !strstr(message, rows[k].text)) {
            fail_msg("%s: \"%s\" lacks \"%s\"", psg_status_name(psg_tape_status(s.tape)), message, rows[k].text);
        }
        close(&s);
    }
}

/* ---- lives on the tape ---- */

/* Before any input tells the batch size; attached arrays; a weight that nothing uses has no gradient. */
static void the_batch_may_come_later(void **state) {
    (void)state;
    scene s;
    psg_gradient gradient;
    open(&s);
    psg_tensor out = psg_tensor_of(PSG_F64, s.out, 3, (int64_t[]){ B, P, D });
    TEST_OK(s.context, psg_param_attach_grad_sample(s.w, &out));
    psg_var unused = psg_weight_norm(s.tape, psg_use(s.tape, s.w), psg_use(s.tape, s.gain), NULL), weight = normed(&s);
    (void)unused;
    if (psg_backward_from(s.tape, linear(&s, weight), NULL)) fail_msg("%s", psg_tape_message(s.tape));
    assert_true(psg_param_has_grad_sample(s.w));
    assert_int_equal(psg_gradient_of(s.tape, s.gain, &gradient), PSG_ERR_STATE);
    TEST_OK(s.context, psg_gradient_of(s.tape, s.w, &gradient));
    assert_int_equal(gradient.batch_size, B);
    assert_int_equal(gradient.block_count, 1);
    /* J^T e is orthogonal to w, row by row. */
    for (int64_t i = 0; i < B * P; i++) {
        double dot = 0, length = 0;
        for (int64_t k = 0; k < D; k++) dot += s.out[i * D + k] * s.memory[i % P * D + k];
        for (int64_t k = 0; k < D; k++) length += s.out[i * D + k] * s.out[i * D + k];
        assert_true(dot * dot <= 1e-28 && length > 1e-6);
    }
    close(&s);
}

/* A frozen parameter beside a trainable one; frozen ones alone are like a frozen weight. */
static void frozen_ones_get_nothing(void **state) {
    (void)state;
    for (int frozen = 0; frozen < 4; frozen++) {
        scene s;
        psg_gradient gradient;
        open(&s);
        psg_param_set_trainable(s.w, !(frozen & 1));
        psg_param_set_trainable(s.gain, !(frozen & 2));
        psg_var weight = psg_weight_norm(s.tape, psg_use(s.tape, s.w), psg_use(s.tape, s.gain), NULL);
        if (psg_backward_from(s.tape, linear(&s, weight), NULL)) fail_msg("%s", psg_tape_message(s.tape));
        assert_int_equal(psg_gradient_of(s.tape, s.w, &gradient), frozen & 1 ? PSG_ERR_STATE : PSG_OK);
        assert_int_equal(psg_gradient_of(s.tape, s.gain, &gradient), frozen & 2 ? PSG_ERR_STATE : PSG_OK);
        close(&s);
    }
}

/* An ordinary pass gives the sum of the per-sample gradients, in one block pulled once. */
static void ordinary_passes_agree(void **state) {
    (void)state;
    double sums[2][P * D];
    for (int ordinary = 0; ordinary < 2; ordinary++) {
        scene s;
        psg_gradient gradient;
        const psg_gradient *set = &gradient;
        psg_pass pass = PSG_PASS_INIT;
        open(&s);
        pass.ordinary = ordinary;
        TEST_OK(s.context, psg_tape_begin(s.tape, &pass));
        psg_var y = linear(&s, normed(&s));
        if (psg_backward_from(s.tape, psg_mul(s.tape, y, y), NULL)) fail_msg("%s", psg_tape_message(s.tape));
        TEST_OK(s.context, psg_gradient_of(s.tape, s.w, &gradient));
        assert_int_equal(gradient.batch_size, ordinary ? 1 : B);
        psg_tensor sum = psg_tensor_of(PSG_F64, sums[ordinary], 2, (int64_t[]){ P, D });
        TEST_OK(s.context, psg_weighted_sum(s.context, &set, 1, NULL, PSG_OVERWRITE, &sum));
        close(&s);
    }
    for (int k = 0; k < P * D; k++) test_near(sums[1][k], sums[0][k], 1e-12, "ordinary sum", k);
}

static void plans_name_the_route(void **state) {
    (void)state;
    scene s;
    psg_gradient gradient;
    const psg_gradient *set = &gradient;
    char text[512];
    open(&s);
    if (psg_backward_from(s.tape, linear(&s, normed(&s)), NULL)) fail_msg("%s", psg_tape_message(s.tape));
    TEST_OK(s.context, psg_gradient_of(s.tape, s.w, &gradient));
    TEST_OK(s.context, psg_plan_text(s.context, PSG_ASK_SQNORM, &set, 1, NULL, text, sizeof text, NULL));
    if (!strstr(text, "w") || !strstr(text, "pulled")) fail_msg("%s", text);
    close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_check_knows_right_from_wrong),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(the_batch_may_come_later),
        cmocka_unit_test(frozen_ones_get_nothing),
        cmocka_unit_test(ordinary_passes_agree),
        cmocka_unit_test(plans_name_the_route),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
