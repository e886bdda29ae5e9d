/* The registry, and psg_op_check on the built-in ops and on right and wrong ops of a user. */
#include <string.h>

#include "cases/cases.h"
#include "support.h"
#include "tape/tape_struct.h"
#include "toy_ops.h"

static psg_operand operand(psg_role role, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_operand made = { .role = role };
    made.value = psg_tensor_of(dtype, NULL, rank, shape);
    return made;
}

static psg_status check_scale(psg_context *context, const psg_op *op, int with_bias) {
    psg_operand inputs[3] = { operand(PSG_BATCHED, PSG_F32, 3, (int64_t[]){ 3, 2, 4 }),
                              operand(PSG_PARAMETER, PSG_F32, 1, (int64_t[]){ 4 }), { .role = PSG_ABSENT } };
    if (with_bias) inputs[2] = inputs[1];
    return psg_op_check(context, op, inputs, NULL);
}

static void expect_message(psg_context *context, psg_status status, const char *const *parts) {
    assert_int_equal(status, PSG_ERR_NUMERIC);
    for (; *parts; parts++) {
        if (!strstr(psg_context_message(context), *parts)) {
            fail_msg("\"%s\" is missing in \"%s\"", *parts, psg_context_message(context));
        }
    }
}

static void right_ops_pass(void **state) {
    psg_context *context = *state;
    TEST_OK(context, check_scale(context, &toy_scale, 0));
    TEST_OK(context, check_scale(context, &toy_scale, 1));
    psg_operand matmul[2] = { operand(PSG_BATCHED, PSG_F64, 4, (int64_t[]){ 3, 2, 2, 4 }),
                              operand(PSG_PARAMETER, PSG_F64, 2, (int64_t[]){ 5, 4 }) };
    TEST_OK(context, psg_op_check(context, &toy_matmul, matmul, NULL));
    psg_operand pair[2] = { operand(PSG_BATCHED, PSG_F64, 2, (int64_t[]){ 3, 4 }), { .role = PSG_ABSENT } };
    pair[1] = pair[0];
    TEST_OK(context, psg_op_check(context, &toy_multiply, pair, NULL));
    TEST_OK(context, psg_op_check(context, &toy_noise, pair, NULL));
    pair[1].role = PSG_CONSTANT;
    TEST_OK(context, psg_op_check(context, &toy_multiply, pair, NULL));
    TEST_OK(context, psg_op_check(context, &toy_sum, pair, &(toy_sum_attributes){ 1 }));   /* no sample in its output */
    pair[1] = operand(PSG_BATCHED, PSG_I64, 1, (int64_t[]){ 3 });
    TEST_OK(context, psg_op_check(context, &toy_pick, pair, NULL));
}

static void small_and_empty_batches_pass(void **state) {
    psg_context *context = *state;
    for (int64_t batch = 0; batch < 2; batch++) {
        psg_operand inputs[2] = { operand(PSG_BATCHED, PSG_F64, 2, (int64_t[]){ batch, 4 }),
                                  operand(PSG_PARAMETER, PSG_F64, 2, (int64_t[]){ 5, 4 }) };
        TEST_OK(context, psg_op_check(context, &toy_matmul, inputs, NULL));
    }
}

static void wrong_ops_fail(void **state) {
    psg_context *context = *state;
    expect_message(context, check_scale(context, &toy_wrong, 1),
                   (const char *const[]){ "psg_op_check: toy_wrong: ", "the gradient of weight (input 1) at element 0",
                                          "for sample 0 is", "by central differences", NULL });
    expect_message(context, check_scale(context, &toy_forgetful, 1),
                   (const char *const[]){ "psg_op_check: toy_forgetful: ", "bias (input 2)", "is 0, by", NULL });
    expect_message(context, check_scale(context, &toy_mixing, 1),
                   (const char *const[]){ "psg_op_check: toy_mixing: ", "changing sample 0 changes the output",
                                          "of sample 1", "samples must not mix", NULL });
}

/* What the tape says of an op, psg_op_check says too. */
static void other_errors_come_through(void **state) {
    psg_context *context = *state;
    psg_operand x = operand(PSG_BATCHED, PSG_F64, 2, (int64_t[]){ 3, 4 });
    psg_operand mismatch[3] = { x, operand(PSG_PARAMETER, PSG_F64, 1, (int64_t[]){ 5 }), { .role = PSG_ABSENT } };
    assert_int_equal(psg_op_check(context, &toy_scale, mismatch, NULL), PSG_ERR_SHAPE);
    assert_string_equal(psg_context_message(context), "toy_scale: weight has 5 features, input has 4");
    assert_int_equal(check_scale(context, &toy_failing, 0), PSG_ERR_NUMERIC);
    assert_string_equal(psg_context_message(context), "toy_failing: backward failed with PSG_ERR_NUMERIC");
    assert_int_equal(psg_op_check(context, &toy_center, &x, NULL), PSG_ERR_UNSUPPORTED);
    assert_int_equal(psg_op_check(context, NULL, &x, NULL), PSG_ERR_ARGUMENT);
    psg_op wide = toy_center;
    wide.input_count = PSG_MAX_INPUTS + 1;
    assert_int_equal(psg_op_check(context, &wide, &x, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_op_check(context, &toy_center, NULL, NULL), PSG_ERR_ARGUMENT);
    psg_operand two[2] = { x, operand(PSG_BATCHED, PSG_F64, 2, (int64_t[]){ 4, 3 }) };
    assert_int_equal(psg_op_check(context, &toy_multiply, two, NULL), PSG_ERR_BATCH);
}

/* Without memory the check says so, and gives back what it had. */
static void memory_may_run_out(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    uint64_t n = 1;
    for (psg_status status = PSG_ERR_MEMORY; status; n++) {
        test_allocator_arm(&allocator, n, true);
        status = check_scale(context, &toy_scale, 1);
        test_allocator_arm(&allocator, 0, false);
        assert_true(status == PSG_OK || status == PSG_ERR_MEMORY);
    }
    assert_true(n > 4);
    test_context_free(context);
    assert_true(!allocator.live_bytes && !allocator.mistakes);
}

/* ---- the built-in ops, at small lines of the case tables ---- */

enum { BUILT_IN = 200, EACH = 6, SMALL = 120 };

static int is_small(const case_line *line) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        psg_tensor whole = psg_tensor_of(PSG_F64, NULL, line->operand[k].rank, line->operand[k].shape);
        if (line->operand[k].present && psg_tensor_count(&whole) > SMALL) return 0;
    }
    return 1;
}

static int is_checkable(const case_line *line) {
    static const char *const others[] = { "error", "bench", "ordinary", "batch_second", "evaluation", "allow_updates" };
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
        if (case_flag(line, others[k])) return 0;
    }
    return strcmp(case_word(line, "smooth", "yes"), "no") && line->batch_size > 1 && is_small(line);
}

static size_t place_of(const psg_context *context, const psg_op *op) {
    size_t k = 0;
    while (psg_op_at(context, k) != op) k++;
    return k;
}

/* Checks each op that the line's front recorded, at the values it had. */
static void check_nodes(psg_context *context, const case_line *line, int *checked) {
    case_run run;
    TEST_OK(context, case_run_open(&run, context, line, PSG_F64, 0, -1));
    psg_pass pass = case_run_pass(&run);
    TEST_OK(context, case_run_forward(&run, &pass));
    for (const psg_tape_node *node = run.tape->last; node; node = node->previous) {
        const psg_op *op = node->call.op;
        psg_operand inputs[PSG_MAX_INPUTS];
        if (++checked[place_of(context, op)] > EACH) continue;
        memcpy(inputs, node->call.input, (size_t)op->input_count * sizeof *inputs);
        psg_status status = psg_op_check(context, op, inputs, node->call.attributes);
        if (status) fail_msg("%s/%s: %s", line->op->name, line->name, psg_context_message(context));
    }
    case_run_close(&run);
}

/* Ops that draw have no table. */
static void check_drawing(psg_context *context, const char *name, const void *attributes, int *checked) {
    psg_operand x = operand(PSG_BATCHED, PSG_F64, 3, (int64_t[]){ 3, 4, 2 });
    const psg_op *op = psg_op_find(context, name);
    TEST_OK(context, psg_op_check(context, op, &x, attributes));
    checked[place_of(context, op)]++;
}

static void every_built_in_op_passes(void **state) {
    psg_context *context = *state;
    int checked[BUILT_IN] = { 0 };
    char message[512];
    const case_op *row;
    for (int k = 0; (row = case_op_at(k)); k++) {
        case_table table;
        if (case_table_read(row, PSG_CASES_DIR, &table, message, sizeof message)) fail_msg("%s", message);
        for (int i = 0; i < table.count; i++) {
            if (is_checkable(&table.line[i])) check_nodes(context, &table.line[i], checked);
        }
        case_table_free(&table);
    }
    check_drawing(context, "dropout", &(psg_dropout_attributes){ 0.4 }, checked);
    check_drawing(context, "feature_dropout", &(psg_feature_dropout_attributes){ 0.4, 1 }, checked);
    for (size_t k = 0; psg_op_at(context, k); k++) {
        if (!checked[k]) fail_msg("no line of test/cases records the op %s", psg_op_at(context, k)->name);
    }
}

static void ops_are_found_by_name(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    size_t built_in = 0;
    while (psg_op_at(context, built_in)) built_in++;
    assert_true(built_in > 0);
    for (size_t k = 0; k < built_in; k++) {
        assert_ptr_equal(psg_op_find(context, psg_op_at(context, k)->name), psg_op_at(context, k));
    }
    assert_null(psg_op_find(context, "toy_scale"));
    assert_null(psg_op_find(context, NULL));
    TEST_OK(context, psg_op_register(context, &toy_scale));
    TEST_OK(context, psg_op_register(context, &toy_matmul));
    assert_ptr_equal(psg_op_find(context, "toy_scale"), &toy_scale);
    assert_ptr_equal(psg_op_at(context, built_in + 1), &toy_matmul);
    assert_null(psg_op_at(context, built_in + 2));
    assert_int_equal(psg_op_register(context, &toy_scale), PSG_ERR_STATE);
    assert_string_equal(psg_context_message(context), "psg_op_register: the name \"toy_scale\" is taken");
    psg_op nameless = toy_scale, missing = toy_scale, wide = toy_scale, taken = toy_scale;
    nameless.name = "";
    missing.name = "missing";
    missing.backward = NULL;
    wide.name = "wide";
    wide.input_count = PSG_MAX_INPUTS + 1;
    taken.name = "linear";
    assert_int_equal(psg_op_register(context, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_op_register(context, &nameless), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_op_register(context, &missing), PSG_ERR_ARGUMENT);
    assert_string_equal(psg_context_message(context), "psg_op_register: op->backward is missing");
    assert_int_equal(psg_op_register(context, &wide), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_op_register(context, &taken), PSG_ERR_STATE);
    test_context_free(context);
}

static int make_context(void **state) {
    *state = test_context(1, NULL);
    return 0;
}

static int free_context(void **state) {
    test_context_free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_built_in_op_passes),
        cmocka_unit_test(right_ops_pass),
        cmocka_unit_test(small_and_empty_batches_pass),
        cmocka_unit_test(wrong_ops_fail),
        cmocka_unit_test(other_errors_come_through),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(ops_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, make_context, free_context);
}
