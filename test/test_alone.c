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

static void try_line(row_test *test, const case_line *line, psg_dtype real) {
    static const int64_t among[BATCH] = { 0, ALONE_ZERO, 1, ALONE_HUGE, 2, ALONE_NAN, 3 };
    static const int64_t plain[4] = { 3, 1, 0, 2 };
    alone_setting setting = { .real = real, .threads = 2, .max_batch_size = 64 };
    alone_case c;
    if (!alone_open(&c, line, &setting, 5)) return;
    alone_check(&c, among, BATCH, 0);
    for (int64_t place = 0; place <= 4; place += 2) alone_check_joined(&c, plain, 4, 4, place);
    c.setting.accumulate = 1;
    alone_check(&c, plain, 3, 2);
    alone_check(&c, plain + 3, 1, 0);
    test->passed += c.passed;
    test->failed += c.failed;
    alone_close(&c);
}

static void run_table(void **state) {
    row_test *test = *state;
    char message[512];
    case_table table;
    if (case_table_read(test->op, PSG_CASES_DIR, &table, message, sizeof message)) fail_msg("%s", message);
    for (int k = 0; k < table.count; k++) {
        const case_line *line = &table.line[k];
        if (!alone_applies(line) || case_flag(line, "bench")) continue;
        for (int real = 0; real < 2; real++) try_line(test, line, (psg_dtype)real);
    }
    case_table_free(&table);
    assert_true(test->passed > 0 && test->failed == 0);
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
    return _cmocka_run_group_tests("alone", tests, count, NULL, NULL);
}
