/* Recurrent layers beside the lines of test/cases: padding of any value, one block a weight over all steps, dropout
 * between the layers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "case_results.h"

static const char *const kinds[] = { "rnn", "lstm", "gru" };
enum { KINDS = 3 };

/* Every line of the tables that runs. */
static void for_each_line(void (*check)(psg_context *context, const case_line *line)) {
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < KINDS; k++) {
        case_table table;
        char message[512];
        if (case_table_read(case_op_find(kinds[k]), PSG_CASES_DIR, &table, message, sizeof message)) {
            fail_msg("%s", message);
        }
        for (int i = 0; i < table.count; i++) {
            const case_line *line = &table.line[i];
            if (!case_flag(line, "error") && !case_flag(line, "bench")) check(context, line);
        }
        case_table_free(&table);
    }
    test_context_free(context);
}

/* ---- padding ---- */

enum { X, LENGTHS, MOST = 64 /* samples */ };

typedef struct padded_pass {
    case_results results;
    double norms[CASE_OPERANDS][2 * MOST]; /* sqnorm and upper, of every sample */
} padded_pass;

/* Steps past the lengths of x, or of y's gradient, become `value`. */
static void pad(const case_run *run, const psg_tensor *steps, double value) {
    psg_tensor view = case_batch_first(&run->line, steps);
    for (int64_t n = 0; n < view.shape[0]; n++) {
        for (int64_t t = (int64_t)test_get_at(&run->value[LENGTHS], n); t < view.shape[1]; t++) {
            for (int64_t i = 0; i < view.shape[2]; i++) test_set(&view, (int64_t[]){ n, t, i }, value);
        }
    }
}

static void take_norms(const case_run *run, padded_pass *pass) {
    memset(pass->norms, 0, sizeof pass->norms);
    for (int k = 0; k < CASE_OPERANDS; k++) {
        psg_gradient gradient;
        const psg_gradient *set = &gradient;
        if (!run->param[k] || psg_gradient_of(run->tape, run->param[k], &gradient)) continue;
        TEST_OK(run->context, psg_sqnorm(run->context, &set, 1, pass->norms[k], pass->norms[k] + MOST, NULL));
    }
}

/* The output gradient is that of the case; where the output is y, `beyond` past the lengths. */
static void run_padded(psg_context *context, const case_line *line, psg_dtype real, double value, double beyond,
                       padded_pass *pass) {
    case_run run;
    psg_tensor y;
    TEST_OK(context, case_run_open(&run, context, line, real, 0, -1));
    pad(&run, &run.value[X], value);
    psg_pass p = case_run_pass(&run);
    TEST_OK(context, case_run_forward(&run, &p));
    TEST_OK(context, psg_value(run.tape, run.output, &y));
    psg_tensor first = case_batch_first(line, &y), grad = psg_tensor_of(PSG_F64, NULL, first.rank, first.shape);
    grad.data = calloc((size_t)psg_tensor_count(&grad) + 1, sizeof(double));
    assert_true(grad.data && line->batch_size <= MOST);
    case_fill_reals(line, "grad_output", &grad);
    const char *output = case_word(line, "output", "y");
    case_run turned = run;
    turned.line.option_count = 0; /* grad has its batch in front */
    if (!strcmp(output, "y")) pad(&turned, &grad, beyond);
    case_take_run(&run, &(case_way){ .real = real, .grad_output = grad.data }, &pass->results);
    free(grad.data);
    take_norms(&run, pass);
    case_run_close(&run);
}

static void no_gradient_beyond(const case_line *line, const case_tensor *grad) {
    int64_t steps = line->operand[X].shape[1], features = line->operand[X].shape[2];
    for (int64_t n = 0; n < grad->rows; n++) {
        for (int64_t i = (int64_t)line->operand[LENGTHS].values[n] * features; i < steps * features; i++) {
            assert_true(grad->data[n * grad->row + i] == 0);
        }
    }
}

/* Padding of any value gives the bits of padding with zeros: gradients, their norms and the norms' bounds too; and no
 * gradient of an output past the length is read. */
static void check_padding(psg_context *context, const case_line *line) {
    static const double paddings[] = { NAN, INFINITY, -INFINITY, 1e20 };
    static padded_pass zeros, padded;
    if (!line->operand[LENGTHS].present || case_flag(line, "ordinary") || line->batch_size == 0) return;
    for (psg_dtype real = PSG_F32; real <= PSG_F64; real++) {
        run_padded(context, line, real, 0, 0, &zeros);
        for (int k = 0; k < 4; k++) {
            run_padded(context, line, real, paddings[k], paddings[3 - k], &padded);
            case_same_bits(line, &padded.results, &zeros.results, 0, -1, "padding");
            assert_memory_equal(padded.norms, zeros.norms, sizeof zeros.norms);
            if (padded.results.grad[X].wanted) no_gradient_beyond(line, &padded.results.grad[X]);
            case_results_free(&padded.results);
        }
        case_results_free(&zeros.results);
    }
}

static void any_padding_will_do(void **state) {
    (void)state;
    for_each_line(check_padding);
}

/* ---- blocks ---- */

/* One block a weight, layer and direction, however many steps there are; a tied weight has one a use. */
static void check_blocks(psg_context *context, const case_line *line) {
    case_run run;
    size_t most = 0;
    TEST_OK(context, case_run_open(&run, context, line, PSG_F64, 0, -1));
    psg_pass pass = case_run_pass(&run);
    pass.loss_reduction = PSG_LOSS_FOLLOW;
    TEST_OK(context, case_run_forward(&run, &pass));
    TEST_OK(context, psg_backward_from(run.tape, run.output, NULL));
    for (int k = 0; k < CASE_OPERANDS; k++) {
        psg_gradient gradient;
        if (strncmp(line->op->rule[k].name ? line->op->rule[k].name : "", "weight", 6)) continue;
        if (!run.param[k] || psg_gradient_of(run.tape, run.param[k], &gradient)) continue;
        if (gradient.block_count > most) most = gradient.block_count;
    }
    int64_t uses = case_flag(line, "tied") ? 2 * case_int(line, "num_layers", 1) : 1;
    if (most > (size_t)uses) fail_msg("%s: %zu blocks", case_label_of(line, "blocks").text, most);
    case_run_close(&run);
}

static void one_block_over_all_steps(void **state) {
    (void)state;
    for_each_line(check_blocks);
}

/* ---- dropout ---- */

/* The two layers of the run, in a pass of their own. */
static psg_var apart(const case_run *run, const psg_pass *pass) {
    enum { WEIGHTS = 4, SET = 5 }; /* operands of the table in front, and of a layer and direction */
    const psg_var none = psg_none();
    psg_rnn_weights weights[2];
    TEST_OK(run->context, psg_tape_begin(run->tape, pass));
    for (int k = 0; k < 2; k++) {
        psg_param *const *p = run->param + WEIGHTS + k * 2 * SET;
        weights[k] = (psg_rnn_weights){ psg_use(run->tape, p[0]), psg_use(run->tape, p[1]), psg_use(run->tape, p[2]),
                                        psg_use(run->tape, p[3]), none };
    }
    psg_var y = psg_input(run->tape, &run->value[X]);
    y = psg_lstm(run->tape, y, none, none, none, &weights[0], NULL, NULL, NULL);
    y = psg_dropout(run->tape, y, 0.5);
    return psg_lstm(run->tape, y, none, none, none, &weights[1], NULL, NULL, NULL);
}

/* Dropout lies between the layers, as psg_dropout between two one-layer networks; not on the last one's output, and not
 * in evaluation. */
static void dropout_between_layers(void **state) {
    (void)state;
    static const char text[] = "two | x 3,4,2 | weight_ih_l0 20,2 | weight_hh_l0 20,5 | bias_ih_l0 20 | bias_hh_l0 20 "
                               "| weight_ih_l1 20,5 | weight_hh_l1 20,5 | bias_ih_l1 20 | bias_hh_l1 20 | "
                               "num_layers=2 dropout=0.5";
    enum { VALUES = 3 * 4 * 5 };
    psg_context *context = test_context(2, NULL);
    case_line line;
    case_run run;
    char message[512];
    psg_tensor value[3];
    double together[VALUES];
    if (case_line_parse(case_op_find("lstm"), text, &line, message, sizeof message)) fail_msg("%s", message);
    TEST_OK(context, case_run_open(&run, context, &line, PSG_F64, 0, -1));
    for (int way = 0; way < 3; way++) { /* together, apart, together in evaluation */
        psg_pass pass = { .dropout_seed = 3, .sample_ids = run.names, .evaluation = way == 2 };
        TEST_OK(context, case_run_forward(&run, &pass));
        psg_var y = run.output;
        if (way == 1) y = apart(&run, &pass);
        TEST_OK(context, psg_value(run.tape, y, &value[way]));
        for (int k = 0; k < VALUES; k++) assert_true(test_get_at(&value[way], k) != 0);
        if (way == 0) memcpy(together, value[0].data, sizeof together);
        if (way == 1) assert_memory_equal(value[1].data, together, sizeof together);
        if (way == 2) assert_true(test_get_at(&value[2], 0) != together[0]);
    }
    case_run_close(&run);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_padding_will_do),
        cmocka_unit_test(one_block_over_all_steps),
        cmocka_unit_test(dropout_between_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
