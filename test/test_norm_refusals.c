/* What layer_norm and group_norm refuse, and the messages. */
#include "support.h"

#include <string.h>

typedef struct refusal {
    bool group, second;
    int rank;
    int64_t shape[3];
    int normalized_rank;
    int64_t normalized[2], groups;
    int weight_rank, bias_rank;   /* 0: absent */
    int64_t weight[2], bias[2];
    psg_status status;
    const char *part;             /* of the message */
} refusal;

static const refusal refusals[] = {
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 2, .normalized = { 4, 5 }, .status = PSG_ERR_UNSUPPORTED,
      .part = "layer_norm: normalized_shape (4, 5) includes the batch dimension 0" },
    { .second = true, .rank = 3, .shape = { 2, 4, 5 }, .normalized_rank = 2, .normalized = { 4, 5 },
      .status = PSG_ERR_UNSUPPORTED, .part = "includes the batch dimension 1" },
    { .rank = 1, .shape = { 5 }, .normalized_rank = 2, .normalized = { 1, 5 }, .status = PSG_ERR_SHAPE,
      .part = "normalized_shape is (1, 5), must equal the last dimensions of input, which has shape (5)" },
    { .rank = 3, .shape = { 4, 5, 6 }, .normalized_rank = 1, .normalized = { 5 }, .status = PSG_ERR_SHAPE,
      .part = "normalized_shape is (5), must equal the last dimensions of input, which has shape (4, 5, 6)" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 0, .status = PSG_ERR_ARGUMENT,
      .part = "normalized_shape has rank 0" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 9, .status = PSG_ERR_ARGUMENT,
      .part = "normalized_shape has rank 9" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = -1, .status = PSG_ERR_ARGUMENT,
      .part = "normalized_shape has rank -1" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 1, .normalized = { 5 }, .weight_rank = 1, .weight = { 4 },
      .status = PSG_ERR_SHAPE, .part = "layer_norm: weight has shape (4), must have the normalized_shape, (5)" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 1, .normalized = { 5 }, .bias_rank = 2, .bias = { 1, 5 },
      .status = PSG_ERR_SHAPE, .part = "layer_norm: bias has shape (1, 5), must have the normalized_shape, (5)" },
    { .group = true, .rank = 1, .shape = { 6 }, .groups = 2, .status = PSG_ERR_SHAPE,
      .part = "group_norm: input has shape (6)" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = 4, .status = PSG_ERR_SHAPE,
      .part = "num_groups is 4, must divide the 6 channels of input of shape (4, 6)" },
    { .group = true, .second = true, .rank = 3, .shape = { 6, 4, 5 }, .groups = 4, .status = PSG_ERR_SHAPE,
      .part = "must divide the 6 channels" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = 0, .status = PSG_ERR_ARGUMENT, .part = "num_groups is 0" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = -2, .status = PSG_ERR_ARGUMENT,
      .part = "num_groups is -2" },
    { .group = true, .rank = 3, .shape = { 4, 6, 5 }, .groups = 2, .weight_rank = 1, .weight = { 5 },
      .status = PSG_ERR_SHAPE,
      .part = "group_norm: weight has shape (5), must have one element a channel, (6)" },
    { .group = true, .rank = 3, .shape = { 4, 6, 5 }, .groups = 2, .bias_rank = 2, .bias = { 6, 1 },
      .status = PSG_ERR_SHAPE,
      .part = "group_norm: bias has shape (6, 1)" },
};

static void expect(psg_tape *tape, psg_status status, const char *part) {
    if (psg_tape_status(tape) == status && strstr(psg_tape_message(tape), part)) return;
    fail_msg("%s: \"%s\", expected %s: \"%s\"", psg_status_name(psg_tape_status(tape)), psg_tape_message(tape),
             psg_status_name(status), part);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    float zero[200] = { 0 };
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        const refusal *e = &refusals[k];
        psg_pass pass = PSG_PASS_INIT;
        pass.batch_second = e->second;
        TEST_OK(context, psg_tape_begin(tape, &pass));
        psg_tensor x = psg_tensor_of(PSG_F32, zero, e->rank, e->shape);
        psg_tensor weight = psg_tensor_of(PSG_F32, zero, e->weight_rank, e->weight);
        psg_tensor bias = psg_tensor_of(PSG_F32, zero, e->bias_rank, e->bias);
        psg_var input = psg_input(tape, &x), w = e->weight_rank ? psg_constant(tape, &weight) : psg_none();
        psg_var b = e->bias_rank ? psg_constant(tape, &bias) : psg_none();
        int64_t normalized[9] = { e->normalized[0], e->normalized[1] };
        if (e->group) psg_group_norm(tape, input, e->groups, w, b, 1e-5);
        else psg_layer_norm(tape, input, e->normalized_rank, normalized, w, b, 1e-5);
        expect(tape, e->status, e->part);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void wrong_operands_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    double doubles[8] = { 0 };
    int64_t integers[8] = { 0 };
    float floats[8] = { 0 };
    psg_tensor x = psg_f32_2d(floats, 2, 4), w64 = psg_tensor_of(PSG_F64, doubles, 1, (int64_t[]){ 4 });
    psg_tensor ids = psg_tensor_of(PSG_I64, integers, 2, (int64_t[]){ 2, 4 }), w2 = psg_f32_1d(floats, 2);

    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, (int64_t[]){ 4 }, psg_constant(tape, &w64), psg_none(), 1e-5);
    expect(tape, PSG_ERR_DTYPE, "layer_norm: ");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_group_norm(tape, psg_input(tape, &ids), 2, psg_none(), psg_none(), 1e-5);
    expect(tape, PSG_ERR_DTYPE, "group_norm: input is i64, must be f32 or f64");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, (int64_t[]){ 4 }, psg_none(), psg_input(tape, &w2), 1e-5);
    expect(tape, PSG_ERR_UNSUPPORTED, "layer_norm: bias is computed from an input of the pass");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, NULL, psg_none(), psg_none(), 1e-5);
    expect(tape, PSG_ERR_ARGUMENT, "normalized_shape has rank 0");
    psg_tape_destroy(tape);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(wrong_operands_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
