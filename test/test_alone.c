/* One sample, one result, at small shapes: one test for each op; `make law` has large batches, all instruction sets and
 * every line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alone.h"
#include "support.h"

/* ---- the case tables ---- */

enum { OPS = 200, BATCH = 7 };

typedef struct row_test {
    char name[CASE_NAME + 16];
    const case_op *op;
    int64_t passed, failed;
} row_test;

/* ---- which ops were recorded ---- */

static char recorded[4096] = " ";

static void note_op(const char *op) {
    char word[64];
    snprintf(word, sizeof word, " %s ", op);
    if (!strstr(recorded, word) && strlen(recorded) + strlen(word) < sizeof recorded) strcat(recorded, word + 1);
}

/* After all others: no op of the registry can come without the law being asked of it. */
static void every_op_was_asked(void **state) {
    psg_context *context = test_context(1, NULL);
    const psg_op *op;
    char word[64];
    (void)state;
    for (size_t k = 0; (op = psg_op_at(context, k)); k++) {
        snprintf(word, sizeof word, " %s ", op->name);
        if (!strstr(recorded, word)) fail_msg("%s is in no case", op->name);
    }
    test_context_free(context);
}

/* Batches of samples of this size would take minutes: they are make law's. */
enum { MOST_ELEMENTS = 20000 };

static int reads_much(const case_line *line) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        psg_tensor whole = psg_tensor_of(PSG_F64, NULL, line->operand[k].rank, line->operand[k].shape);
        if (line->operand[k].present && psg_tensor_count(&whole) > MOST_ELEMENTS) return 1;
    }
    return 0;
}

static int writes_much(const alone_case *c) {
    psg_tensor sample = psg_tensor_of(PSG_F64, NULL, c->output.rank, c->output.size);
    return psg_tensor_count(&sample) > MOST_ELEMENTS;
}

static void try_line(row_test *test, const case_line *line, psg_dtype real, alone_setting setting) {
    static const int64_t among[BATCH] = { 0, ALONE_ZERO, 1, ALONE_HUGE, 2, ALONE_NAN, 3 };
    static const int64_t plain[4] = { 3, 1, 0, 2 };
    alone_case c;
    setting.real = real;
    if (!alone_open(&c, line, &setting, 5)) return;
    if (writes_much(&c)) {
        alone_close(&c);
        return;
    }
    c.recorded = note_op;
    alone_check(&c, among, BATCH, 0);
    c.setting.wide = 1;
    for (int64_t place = 0; place <= 4; place += 2) alone_check_joined(&c, plain, 4, 4, place);
    c.setting.accumulate = 1;
    alone_check(&c, plain, 3, 2);
    alone_check(&c, plain + 3, 1, 0);
    test->passed += c.passed;
    test->failed += c.failed;
    alone_close(&c);
}

/* Contexts for many lines. */
static alone_setting setting_of_lines(void) {
    alone_setting setting = { .threads = 2, .max_batch_size = 64 };
    setting.context = alone_context(&setting, setting.threads);
    setting.single = alone_context(&setting, 1);
    return setting;
}

static void free_setting(alone_setting *setting) {
    test_context_free(setting->context);
    test_context_free(setting->single);
}

static void run_table(void **state) {
    row_test *test = *state;
    char message[512];
    case_table table;
    alone_setting setting = setting_of_lines();
    if (case_table_read(test->op, PSG_CASES_DIR, &table, message, sizeof message)) fail_msg("%s", message);
    for (int k = 0; k < table.count; k++) {
        const case_line *line = &table.line[k];
        if (!alone_applies(line) || case_flag(line, "bench") || reads_much(line)) continue;
        for (int real = 0; real < 2; real++) try_line(test, line, (psg_dtype)real, setting);
    }
    case_table_free(&table);
    free_setting(&setting);
    assert_true(test->passed > 0 && test->failed == 0);
}

/* ---- lines of this test, and positions of zeros behind a sample's own ---- */

static void parse(const char *op, const char *text, case_line *line) {
    char message[512];
    if (case_line_parse(alone_op_find(op), text, line, message, sizeof message)) fail_msg("%s", message);
}

static void networks_and_draws(void **state) {
    static const char *const lines[][2] = {
        { "dropout", "rows | x 2,37 |" },
        { "dropout", "second | x 2,37,5 | p=0.2 batch_second" },
        { "feature_dropout", "image | x 2,13,7,11 | p=0.3" },
        { "gru", "dropout | x 2,3,4 | weight_ih_l0 9,4 | weight_hh_l0 9,3 | weight_ih_l1 9,3 | weight_hh_l1 9,3 | "
                 "num_layers=2 dropout=0.4" },
        { "multi_head_attention", "dropout | query 2,5,8 | in_proj_weight 24,8 | out_proj_weight 8,8 | num_heads=2 "
                                  "dropout_p=0.3" },
        { "two_losses", "rows | x 2,3,19 | y 2,3,19 | scale 19 | weight 19 | bias 19 |" },
        { "network", "rows | x 2,32 | label 2 <10 | w1 16,32 | b1 16 | w2 10,16 |" },
        { "network", "positions | x 2,16,32 | label 2 <10 | w1 16,32 | b1 16 | w2 10,16 |" },
    };
    row_test test = { .passed = 0 };
    alone_setting setting = setting_of_lines();
    (void)state;
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        case_line line;
        parse(lines[k][0], lines[k][1], &line);
        for (int real = 0; real < 2; real++) try_line(&test, &line, (psg_dtype)real, setting);
    }
    free_setting(&setting);
    assert_true(test.passed > 0 && test.failed == 0);
}

/* A batch that would not fit where its first samples do, on any number of threads. */
static void budgets_and_threads(void **state) {
    static const char *const lines[][2] = {
        { "linear", "budget | x 2,9,12 | weight 11,12 | bias 11 |" },
        { "conv2d", "budget | x 2,3,9,9 | weight 6,3,3,3 | bias 6 | padding=1" },
        { "embedding", "budget | ids 2,9 <10 | weight 10,7 |" },
        { "layer_norm", "budget | x 2,9,33 | weight 33 | bias 33 |" },
        { "network", "budget | x 2,16,32 | label 2 <10 | w1 16,32 | b1 16 | w2 10,16 |" },
    };
    static const unsigned threads[ALONE_BUDGETS] = { 1, 3, 5, 2 };
    int64_t pick[17], failed = 0;
    (void)state;
    for (int64_t n = 0; n < 17; n++) pick[n] = n * 5 % 17;
    for (size_t k = 0; k < sizeof lines / sizeof lines[0] * ALONE_BUDGETS; k++) {
        case_line line;
        alone_case c;
        alone_setting setting = { .real = (psg_dtype)(k % 2), .max_batch_size = 16 };
        size_t budget[ALONE_BUDGETS];
        parse(lines[k / ALONE_BUDGETS][0], lines[k / ALONE_BUDGETS][1], &line);
        alone_budgets(&line, setting.real, setting.max_batch_size, budget);
        setting.budget = budget[k % ALONE_BUDGETS];
        setting.threads = threads[k % ALONE_BUDGETS];
        assert_true(alone_open(&c, &line, &setting, 17));
        alone_check(&c, pick, 16, 4);
        alone_check_joined(&c, pick, 15, 16, 0);
        failed += c.failed;
        alone_close(&c);
    }
    assert_int_equal(failed, 0);
}

/* A line at two numbers of positions, under one name: one stream of parameters. */
static void try_padding(const char *op, const char *format, int live, int padded, psg_dtype real, int64_t *failed) {
    const int64_t pick[4] = { 1, 0, 3, 2 };
    alone_setting setting = { .real = real, .threads = 2, .max_batch_size = 64 };
    case_line line[2];
    alone_case c;
    for (int k = 0; k < 2; k++) {
        char text[512];
        snprintf(text, sizeof text, format, k ? padded : live, k ? padded : live);
        parse(op, text, &line[k]);
    }
    assert_true(alone_open(&c, &line[0], &setting, 4));
    alone_check_padded(&c, &line[1], 0, pick, 4);
    alone_check_padded(&c, &line[1], 0.25, pick, 4);
    assert_true(c.passed + c.failed > 0);
    *failed += c.failed;
    alone_close(&c);
}

static void padding_changes_nothing(void **state) {
    static const struct padding {
        const char *op, *format;
        int live, padded;
    } paddings[] = {
        { "linear", "padding | x 2,%d,6 | weight 4,6 | bias 4 |", 5, 9 },
        { "linear", "padding | x 2,%d,48 | weight 64,48 | bias 64 |", 32, 130 },
        { "rnn", "padding | x 2,%d,3 | lengths 2 =5,4 | weight_ih_l0 4,3 | weight_hh_l0 4,4 | bias_ih_l0 4 | "
                 "bias_hh_l0 4 |", 5, 11 },
        { "lstm", "padding | x 2,%d,3 | lengths 2 =5,4 | weight_ih_l0 16,3 | weight_hh_l0 16,4 | bias_ih_l0 16 | "
                  "bias_hh_l0 16 |", 5, 19 },
        { "gru", "padding | x 2,%d,3 | lengths 2 =5,4 | weight_ih_l0 12,3 | weight_hh_l0 12,4 | bias_ih_l0 12 | "
                 "bias_hh_l0 12 |", 5, 19 },
        { "multi_head_attention", "padding | query 2,%d,8 | in_proj_weight 24,8 | in_proj_bias 24 | out_proj_weight "
                                  "8,8 | out_proj_bias 8 | key_padding_mask 2,%d <1 | num_heads=2", 5, 21 },
    };
    int64_t failed = 0;
    (void)state;
    for (size_t k = 0; k < 2 * sizeof paddings / sizeof paddings[0]; k++) {
        const struct padding *p = &paddings[k / 2];
        try_padding(p->op, p->format, p->live, p->padded, (psg_dtype)(k % 2), &failed);
    }
    assert_int_equal(failed, 0);
}

int main(void) {
    static row_test rows[OPS];
    static struct CMUnitTest tests[OPS + 8];
    size_t count = 0;
    const case_op *op;
    for (int k = 0; k < OPS && (op = case_op_at(k)); k++, count++) {
        snprintf(rows[count].name, sizeof rows[count].name, "%s: alone", op->name);
        rows[count].op = op;
        tests[count] = (struct CMUnitTest){ rows[count].name, run_table, NULL, NULL, &rows[count] };
    }
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(networks_and_draws);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(budgets_and_threads);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(padding_changes_nothing);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(every_op_was_asked);
    return _cmocka_run_group_tests("alone", tests, count, NULL, NULL);
}
