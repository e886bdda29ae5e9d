/* What carries the batch may not stand where a weight does: one sample's data would enter every sample's gradient.
 * Also integers where reals belong, and steps as large as an integer. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "support.h"

enum { B = 3 };

typedef struct scene {
    psg_context *context;
    psg_tape *tape;
    double memory[4 * B * B * B];
} scene;

static void open(scene *s) {
    s->context = test_context(1, NULL);
    TEST_OK(s->context, psg_tape_create(s->context, &s->tape));
    for (size_t i = 0; i < sizeof s->memory / sizeof *s->memory; i++) s->memory[i] = 0.25 * (double)(i % 7) - 0.5;
    TEST_OK(s->context, psg_tape_begin(s->tape, NULL));
}

static void close(scene *s) {
    psg_tape_destroy(s->tape);
    test_context_free(s->context);
}

static psg_var input(scene *s, int rank, const int64_t *shape) {
    psg_tensor view = psg_tensor_of(PSG_F64, s->memory, rank, shape);
    return psg_input(s->tape, &view);
}

static psg_var square(scene *s) { return psg_tanh(s->tape, input(s, 2, (int64_t[]){ B, B })); }

static void a_computed_weight_of_linear_is_refused(void **state) {
    (void)state;
    scene s;
    open(&s);
    psg_linear(s.tape, square(&s), square(&s), psg_none());
    test_refused(s.tape, PSG_ERR_UNSUPPORTED, "linear: weight is computed in this pass");
    TEST_OK(s.context, psg_tape_begin(s.tape, NULL));
    psg_tensor weight = psg_tensor_of(PSG_F64, s.memory, 2, (int64_t[]){ B, B });
    psg_var bias = psg_reshape(s.tape, psg_tanh(s.tape, input(&s, 2, (int64_t[]){ B, 1 })), 1, (int64_t[]){ B });
    psg_linear(s.tape, square(&s), psg_constant(s.tape, &weight), bias);
    test_refused(s.tape, PSG_ERR_UNSUPPORTED, "linear: bias is computed in this pass");
    close(&s);
}

static void test_attention(void **state) {
    (void)state;
    scene s;
    psg_in_projection_attributes projection = { 0, 0, B };
    psg_head_attention_attributes heads = { .num_heads = 1 };
    open(&s);
    psg_var x = input(&s, 3, (int64_t[]){ B, 2, B });
    psg_apply(s.tape, "in_projection", (psg_var[]){ x, square(&s) }, 2, &projection);
    test_refused(s.tape, PSG_ERR_UNSUPPORTED, "in_projection: weight is computed in this pass");
    TEST_OK(s.context, psg_tape_begin(s.tape, NULL));
    psg_var one = psg_sum(s.tape, psg_tanh(s.tape, input(&s, 3, (int64_t[]){ B, 2, 1 })), 3, (int[]){ 0, 1, 2 }, 1);
    x = input(&s, 3, (int64_t[]){ B, 2, 1 });
    psg_apply(s.tape, "head_attention", (psg_var[]){ x, x, x, psg_none(), psg_none(), one, one }, 7, &heads);
    test_refused(s.tape, PSG_ERR_UNSUPPORTED, "head_attention: bias_k is computed in this pass");
    close(&s);
}

static void integer_weights_are_refused(void **state) {
    (void)state;
    scene s;
    int64_t id[2 * B] = { 0 };
    psg_tensor ids = psg_tensor_of(PSG_I64, id, 2, (int64_t[]){ 2, B });
    psg_tensor weight = psg_tensor_of(PSG_I64, id, 2, (int64_t[]){ 1, B });
    open(&s);
    psg_linear(s.tape, psg_input(s.tape, &ids), psg_constant(s.tape, &weight), psg_none());
    test_refused(s.tape, PSG_ERR_DTYPE, "linear: input is i64");
    close(&s);
}

/* One window fits, at place 0, whatever the step: column k is the padded image's element k. */
static void a_weight_of_long_steps_is_refused(void **state) {
    (void)state;
    scene s;
    psg_unfold_options options = { .kernel = { 3, 3 }, .padding = { 2, 2 }, .stride = { INT64_MAX, INT64_MAX } };
    psg_tensor columns;
    open(&s);
    psg_var y = psg_unfold(s.tape, input(&s, 4, (int64_t[]){ 1, 1, 3, 3 }), &options);
    TEST_OK(s.context, psg_backward_from(s.tape, y, NULL));
    TEST_OK(s.context, psg_value(s.tape, y, &columns));
    assert_int_equal(psg_tensor_count(&columns), 9);
    for (int64_t k = 0; k < 9; k++) {
        assert_true(test_get_at(&columns, k) == (k == 8 ? s.memory[0] : 0.0));
    }
    close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_computed_weight_of_linear_is_refused),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(integer_weights_are_refused),
        cmocka_unit_test(a_weight_of_long_steps_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
