/* What a trainable parameter costs a pass in memory, beside a frozen one: views and the smaller of two products, not
 * copies. */
#include <stdio.h>

#include "case_results.h"

typedef struct row {
    const char *op, *operands, *parameter;
    size_t bytes;              /* less than these more */
} row;

/* Of bilinear's outer products only the smaller is kept: (g (x) x1) of 32 elements a sample, (x1 (x) x2) of 32; with
 * more positions than outputs and inputs, the gradients themselves.  A shift of the non-batch shape is a view. */
static const row rows[] = {
    { "bilinear", "x1 64,1,16 | x2 64,1,200 | weight 2,16,200", "weight", 2 * 64 * 64 * sizeof(double) },
    { "bilinear", "x1 64,1,16 | x2 64,1,2 | weight 200,16,2", "weight", 2 * 64 * 64 * sizeof(double) },
    { "bilinear", "x1 64,500,4 | x2 64,500,4 | weight 4,4,4", "weight", 2 * 64 * 64 * sizeof(double) },
    { "add", "a 8,16,32 | b 16,32 parameter", "b", 8 * 16 * 32 * sizeof(double) / 4 },
};

static size_t bytes_of(psg_context *context, const row *r, const char *option) {
    case_line line;
    case_run run;
    char text[256], message[512];
    snprintf(text, sizeof text, "memory | %s | %s=%s", r->operands, option, r->parameter);
    if (case_line_parse(case_op_find(r->op), text, &line, message, sizeof message)) fail_msg("%s", message);
    TEST_OK(context, case_run_open(&run, context, &line, PSG_F64, 0, -1));
    psg_pass pass = case_run_pass(&run);
    TEST_OK(context, case_run_forward(&run, &pass));
    TEST_OK(context, psg_backward_from(run.tape, run.output, NULL));
    size_t bytes = psg_tape_bytes(run.tape);
    case_run_close(&run);
    return bytes;
}

static void gradients_are_no_copies(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        size_t frozen = bytes_of(context, &rows[k], "frozen"), trained = bytes_of(context, &rows[k], "trained");
        if (trained >= frozen + rows[k].bytes) fail_msg("%s: %zu bytes, frozen %zu", rows[k].op, trained, frozen);
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(gradients_are_no_copies) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
