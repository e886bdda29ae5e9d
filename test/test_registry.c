/* Every built-in op passes psg_op_check at the shapes below; an op without a row here fails the test. */
#include <string.h>

#include "support.h"

enum { MOST_INPUTS = 3 };

typedef struct shape {
    psg_role role;
    psg_dtype dtype;
    int rank;
    int64_t dims[4];
} shape;

#define BATCHED(...) { PSG_BATCHED, PSG_F64, __VA_ARGS__ }
#define LABELS(...) { PSG_BATCHED, PSG_I64, __VA_ARGS__ }
#define PARAMETER(...) { PSG_PARAMETER, PSG_F64, __VA_ARGS__ }

typedef struct op_case {
    const char *op;
    shape inputs[MOST_INPUTS];
    const void *attributes;
} op_case;

static const psg_layer_norm_attributes over_last = { 1, { 5 }, 1e-5 }, over_two = { 2, { 3, 4 }, 1e-3 };
static const psg_group_norm_attributes two_groups = { 2, 1e-5 }, one_group = { 1, 1e-5 };
static const psg_gelu_attributes exact_gelu = { 0 }, tanh_gelu = { 1 };
static const psg_dropout_attributes some = { 0.4 };
static const psg_scale_attributes by = { -1.5 };
static const psg_softmax_attributes last_dim = { -1 }, dim_1 = { 1 };
static const psg_reshape_attributes as_12 = { 2, { 3, 12 } };
static const psg_flatten_attributes from_1 = { 1, -1 };
static const psg_transpose_attributes swap_12 = { 1, 2 };
static const psg_mean_attributes over_1 = { 1, { 1 }, 0 };
static const psg_cross_entropy_options mean_ce = PSG_CROSS_ENTROPY_INIT, smooth_ce = { PSG_NONE, 0, 0, 0.2 },
                                       ignoring_ce = { PSG_SUM, 1, 0, 0.0 };
static const psg_loss_attributes mean_loss = { PSG_MEAN }, sum_loss = { PSG_SUM }, no_reduction = { PSG_NONE };

static const op_case cases[] = {
    { "linear", { BATCHED(2, { 4, 3 }), PARAMETER(2, { 5, 3 }), PARAMETER(1, { 5 }) }, NULL },
    { "linear", { BATCHED(4, { 3, 2, 2, 4 }), PARAMETER(2, { 3, 4 }) }, NULL },
    { "layer_norm", { BATCHED(3, { 3, 2, 5 }), PARAMETER(1, { 5 }), PARAMETER(1, { 5 }) }, &over_last },
    { "layer_norm", { BATCHED(3, { 2, 3, 4 }), PARAMETER(2, { 3, 4 }) }, &over_two },
    { "group_norm", { BATCHED(3, { 3, 4, 3 }), PARAMETER(1, { 4 }), PARAMETER(1, { 4 }) }, &two_groups },
    { "group_norm", { BATCHED(2, { 3, 4 }), { 0 }, PARAMETER(1, { 4 }) }, &one_group },
    { "relu", { BATCHED(2, { 3, 4 }) }, NULL },
    { "tanh", { BATCHED(2, { 3, 4 }) }, NULL },
    { "sigmoid", { BATCHED(2, { 3, 4 }) }, NULL },
    { "gelu", { BATCHED(2, { 3, 4 }) }, &exact_gelu },
    { "gelu", { BATCHED(2, { 3, 4 }) }, &tanh_gelu },
    { "dropout", { BATCHED(2, { 3, 8 }) }, &some },
    { "add", { BATCHED(3, { 3, 2, 4 }), BATCHED(3, { 3, 1, 4 }) }, NULL },
    { "mul", { BATCHED(3, { 3, 2, 4 }), BATCHED(3, { 3, 2, 1 }) }, NULL },
    { "scale", { BATCHED(2, { 3, 4 }) }, &by },
    { "softmax", { BATCHED(2, { 3, 4 }) }, &last_dim },
    { "softmax", { BATCHED(3, { 3, 4, 2 }) }, &dim_1 },
    { "reshape", { BATCHED(3, { 3, 4, 3 }) }, &as_12 },
    { "flatten", { BATCHED(3, { 3, 4, 3 }) }, &from_1 },
    { "transpose", { BATCHED(3, { 3, 4, 2 }) }, &swap_12 },
    { "mean", { BATCHED(3, { 3, 4, 2 }) }, &over_1 },
    { "cross_entropy", { BATCHED(2, { 3, 4 }), LABELS(1, { 3 }) }, &mean_ce },
    { "cross_entropy", { BATCHED(3, { 3, 4, 2 }), LABELS(2, { 3, 2 }) }, &smooth_ce },
    { "cross_entropy", { BATCHED(2, { 5, 3 }), LABELS(1, { 5 }) }, &ignoring_ce },
    { "mse", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &mean_loss },
    { "mse", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &no_reduction },
    { "binary_cross_entropy_with_logits", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &sum_loss },
};

enum { CASES = sizeof cases / sizeof cases[0] };

static void fill_operands(const op_case *c, psg_operand *inputs) {
    memset(inputs, 0, PSG_MAX_INPUTS * sizeof *inputs);
    for (int k = 0; k < MOST_INPUTS; k++) {
        const shape *s = &c->inputs[k];
        inputs[k].role = s->role;
        inputs[k].value = psg_tensor_of(s->dtype, NULL, s->rank, s->dims);
    }
}

static void every_op_passes_its_check(void **state) {
    (void)state;
    psg_context *context;
    assert_int_equal(psg_context_create(NULL, &context), PSG_OK);
    for (int k = 0; k < CASES; k++) {
        psg_operand inputs[PSG_MAX_INPUTS];
        fill_operands(&cases[k], inputs);
        const psg_op *op = psg_op_find(context, cases[k].op);
        assert_non_null(op);
        psg_status status = psg_op_check(context, op, inputs, cases[k].attributes);
        if (status) print_error("case %d: %s\n", k, psg_context_message(context));
        assert_int_equal(status, PSG_OK);
    }
    psg_context_destroy(context);
}

static void every_op_has_a_case(void **state) {
    (void)state;
    psg_context *context;
    assert_int_equal(psg_context_create(NULL, &context), PSG_OK);
    size_t ops = 0;
    for (const psg_op *op; (op = psg_op_at(context, ops)); ops++) {
        int found = 0;
        for (int k = 0; k < CASES; k++) found += !strcmp(cases[k].op, op->name);
        if (!found) print_error("op %s has no case\n", op->name);
        assert_true(found > 0);
    }
    assert_true(ops >= 18);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_passes_its_check),
        cmocka_unit_test(every_op_has_a_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
