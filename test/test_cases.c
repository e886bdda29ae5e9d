/* Every table of test/cases, case by case: one test for each op and kind of check. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_checks.h"

static psg_status status_named(const char *name) {
    char text[64];
    snprintf(text, sizeof text, "PSG_ERR_%s", name);
    for (int status = 1; status <= PSG_ERR_BUDGET; status++) {
        if (!strcmp(psg_status_name((psg_status)status), text)) return (psg_status)status;
    }
    fail_msg("no status is called %s", text);
    return PSG_OK;
}

/* A front that fixes the rank, conv2d, records an op of any rank, conv. */
static size_t op_name_length(psg_context *context, const char *name) {
    return strlen(name) - (psg_op_find(context, name) || name[strlen(name) - 1] != 'd' ? 0 : 2);
}

/* Both runs hold the same operands, bit for bit. */
static int same_operands(const case_run *a, const case_run *b) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (psg_tensor_count(&a->value[k]) > 0 && a->memory[k] && !test_same_bits(&a->value[k], &b->value[k])) return 0;
    }
    return 1;
}

/* error=SHAPE "text": the forward pass is refused with that status, in words that begin with the op's name and hold the
 * text; nothing was written. */
static void check_refusal(psg_context *context, const case_line *line) {
    case_run run, untouched;
    TEST_OK(context, case_run_open(&untouched, context, line, PSG_F64, 0, -1));
    TEST_OK(context, case_run_open(&run, context, line, PSG_F64, 0, -1));
    psg_pass pass = case_run_pass(&run);
    psg_status status = case_run_forward(&run, &pass), expected = status_named(case_word(line, "error", ""));
    const char *message = psg_tape_message(run.tape), *name = case_word(line, "error_name", line->op->name);
    if (status != expected || strncmp(message, name, op_name_length(context, name)) || !strstr(message, line->says)) {
        fail_msg("%s: %s, \"%s\"", case_label_of(line, "refusal").text, psg_status_name(status), message);
    }
    if (!same_operands(&run, &untouched)) fail_msg("%s: an operand was written", case_label_of(line, "refusal").text);
    case_run_close(&untouched);
    case_run_close(&run);
}

static const struct kind {
    const char *name;
    void (*check)(psg_context *context, const case_line *line);
    int refused;     /* for the lines with error=, else for the others */
    int of_kernels;  /* values, and that they do not depend on company or threads: for each instruction set */
} kinds[] = {
    { "samples alone", case_check_samples, 0, 1 },
    { "golden", case_check_golden, 0, 1 },
    { "differences", case_check_differences, 0, 0 },
    { "questions", case_check_questions, 0, 1 },
    { "linearity", case_check_linearity, 0, 0 },
    { "isolation", case_check_isolation, 0, 1 },
    { "threads", case_check_threads, 0, 1 },
    { "variants", case_check_variants, 0, 0 },
    { "repetition", case_check_repetition, 0, 0 },
    { "f32", case_check_f32, 0, 1 },
    { "refusals", check_refusal, 1, 0 },
};

enum { KINDS = sizeof kinds / sizeof kinds[0], OPS = 200 };

typedef struct row_test {
    char name[CASE_NAME + 32];
    const case_op *op;
    const struct kind *kind;
} row_test;

static void run_table(void **state) {
    const row_test *test = *state;
    char message[512];
    case_table table;
    if (case_table_read(test->op, PSG_CASES_DIR, &table, message, sizeof message)) fail_msg("%s", message);
    test_allocator allocator = { .live_bytes = 0 }; /* fresh memory is NaN */
    psg_context *context = test_context_with(&allocator, 2, NULL, 0);
    assert_true(table.count > 0);
    for (int k = 0; k < table.count; k++) {
        const case_line *line = &table.line[k];
        if (case_flag(line, "bench") || case_flag(line, "error") != test->kind->refused) continue;
        test->kind->check(context, line);
    }
    test_context_free(context);
    case_table_free(&table);
    assert_true(allocator.live_blocks == 0 && allocator.mistakes == 0);
}

static void names_are_unique(void **state) {
    (void)state;
    char message[512];
    const case_op *op;
    for (int k = 0; (op = case_op_at(k)); k++) {
        case_table table;
        if (case_table_read(op, PSG_CASES_DIR, &table, message, sizeof message)) fail_msg("%s", message);
        assert_ptr_equal(case_op_find(op->name), op);
        for (int i = 0; i < table.count; i++) {
            for (int j = 0; j < i; j++) {
                if (!strcmp(table.line[i].name, table.line[j].name)) {
                    fail_msg("%s", case_label_of(&table.line[i], "twice").text);
                }
            }
        }
        case_table_free(&table);
    }
}

/* ---- the registry ---- */

enum { MOST_OPS = 256 };

typedef struct recorded {
    psg_context *context;
    int lines[MOST_OPS]; /* by place in the registry */
} recorded;

static void note_op(void *user, const psg_call *call, int backward, double seconds) {
    recorded *r = user;
    (void)seconds;
    for (size_t k = 0; !backward && k < MOST_OPS; k++) {
        const psg_op *op = psg_op_at(r->context, k);
        if (!op) return;
        r->lines[k] += !strcmp(op->name, call->op->name);
    }
}

static void observe_table(recorded *r, const case_op *op) {
    char message[512];
    case_table table;
    if (case_table_read(op, PSG_CASES_DIR, &table, message, sizeof message)) fail_msg("%s", message);
    for (int k = 0; k < table.count; k++) {
        case_run run;
        if (case_flag(&table.line[k], "bench") || case_flag(&table.line[k], "error")) continue;
        TEST_OK(r->context, case_run_open(&run, r->context, &table.line[k], PSG_F64, 0, -1));
        psg_pass pass = case_run_pass(&run);
        TEST_OK(r->context, psg_tape_observe(run.tape, note_op, r));
        TEST_OK(r->context, case_run_forward(&run, &pass));
        case_run_close(&run);
    }
    case_table_free(&table);
}

static void every_op_has_lines(void **state) {
    (void)state;
    recorded r = { .context = test_context(1, NULL) };
    const case_op *row;
    for (int k = 0; (row = case_op_at(k)); k++) observe_table(&r, row);
    const psg_op *op;
    for (size_t k = 0; (op = psg_op_at(r.context, k)); k++) {
        assert_true(k < MOST_OPS);
        if (r.lines[k] < 3) fail_msg("%s: %d lines of test/cases record it", op->name, r.lines[k]);
    }
    test_context_free(r.context);
}

/* PSG_TEST_KERNELS=yes, of the runs on further instruction sets: not the kinds that hold of ops whatever the
 * kernels. */
static int is_left_out(const struct kind *kind) { return getenv("PSG_TEST_KERNELS") && !kind->of_kernels; }

/* PSG_CASES="conv2d lstm": these tables alone. */
static int selected(const case_op *op) {
    const char *list = getenv("PSG_CASES");
    size_t length = strlen(op->name);
    if (!list) return 1;
    for (const char *at = list; (at = strstr(at, op->name)); at += length) {
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length])) return 1;
    }
    return 0;
}

int main(void) {
    static row_test rows[OPS * KINDS];
    static struct CMUnitTest tests[OPS * KINDS + 2];
    size_t count = 0;
    const case_op *op;
    for (int k = 0; k < OPS && (op = case_op_at(k)); k++) {
        for (int i = 0; i < KINDS && selected(op); i++) {
            if (is_left_out(&kinds[i])) continue;
            snprintf(rows[count].name, sizeof rows[count].name, "%s: %s", op->name, kinds[i].name);
            rows[count].op = op;
            rows[count].kind = &kinds[i];
            tests[count] = (struct CMUnitTest){ rows[count].name, run_table, NULL, NULL, &rows[count] };
            count++;
        }
    }
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(names_are_unique);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(every_op_has_lines);
    return _cmocka_run_group_tests("cases", tests, count, NULL, NULL);
}
