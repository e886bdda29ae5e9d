#include "case_results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

case_label case_label_of(const case_line *line, const char *what) {
    case_label label;
    snprintf(label.text, sizeof label.text, "%s/%s: %s", line->op->name, line->name, what);
    return label;
}

static void check_status(const case_run *run, psg_status status, const char *what) {
    if (!status) return;
    const char *message =
        run->tape && psg_tape_status(run->tape) ? psg_tape_message(run->tape) : psg_context_message(run->context);
    fail_msg("%s is %s: %s", case_label_of(&run->line, what).text, psg_status_name(status), message);
}

/* ---- tensors ---- */

static case_tensor new_tensor(int64_t rows, int64_t row) {
    case_tensor t = { 1, rows, row, calloc((size_t)(rows * row) + 1, sizeof(double)) };
    assert_non_null(t.data);
    return t;
}

/* A copy of any view, batch in front. */
static case_tensor copy_of(const case_line *line, const psg_tensor *tensor) {
    psg_tensor view = case_batch_first(line, tensor);
    int64_t count = psg_tensor_count(&view), rows = view.rank ? view.shape[0] : 1;
    case_tensor t = new_tensor(rows, rows ? count / rows : 0);
    for (int64_t k = 0; k < count; k++) t.data[k] = test_get_at(&view, k);
    return t;
}

void case_results_free(case_results *results) {
    free(results->output.data);
    free(results->grad_output.data);
    test_array_free(&results->held);
    for (int k = 0; k < CASE_OPERANDS; k++) free(results->grad[k].data);
    memset(results, 0, sizeof *results);
}

/* ---- the output gradient ---- */

/* Row `first` of what the case has for all samples. */
static psg_tensor draw_grad_output(const case_run *run, const case_way *way, const psg_tensor *output) {
    psg_tensor first = case_batch_first(&run->line, output);
    psg_tensor drawn = psg_tensor_of(PSG_F64, NULL, first.rank, first.shape);
    int64_t count = psg_tensor_count(&drawn);
    drawn.data = malloc((size_t)count * 8 + 8);
    if (way->grad_output) {
        memcpy(drawn.data, way->grad_output, (size_t)count * 8);
    } else {
        case_fill_reals(&run->line, "grad_output", &drawn);
    }
    for (int64_t k = 0; k < count && way->grad_scale != 0; k++) ((double *)drawn.data)[k] *= way->grad_scale;
    return drawn;
}

static test_array as_operand(const case_run *run, const case_way *way, test_random *random, const psg_tensor *drawn,
                             const psg_tensor *output) {
    test_array array =
        test_array_new(random, run->real, output->rank, output->shape, way->views ? TEST_ANY : TEST_CONTIGUOUS);
    psg_tensor first = case_batch_first(&run->line, &array.view);
    for (int64_t k = 0; k < psg_tensor_count(&first); k++) test_set_at(&first, k, test_get_at(drawn, k));
    return array;
}

/* ---- backward and its results ---- */

static void take_parameter(case_run *run, const case_way *way, int k, case_tensor *grad) {
    psg_gradient gradient;
    psg_status reached = psg_gradient_of(run->tape, run->param[k], &gradient);
    if (reached != PSG_ERR_STATE) check_status(run, reached, "psg_gradient_of"); /* else zero: not reached */
    const psg_tensor *value = psg_param_value(run->param[k]);
    int64_t shape[PSG_MAX_RANK] = { gradient.batch_size }, row = psg_tensor_count(value);
    for (int d = 0; d < value->rank && d < PSG_MAX_RANK - 1; d++) shape[d + 1] = value->shape[d];
    int ordinary = way->ordinary || case_flag(&run->line, "ordinary");
    *grad = new_tensor(ordinary ? 1 : gradient.batch_size, row);
    psg_tensor out = ordinary ? psg_tensor_of(run->real, NULL, value->rank, value->shape)
                              : psg_tensor_of(run->real, NULL, value->rank + 1, shape);
    out.data = malloc((size_t)psg_tensor_count(&out) * 8 + 8);
    test_fill_value(&out, NAN);
    const psg_gradient *set[] = { &gradient };
    check_status(run,
                 ordinary ? psg_weighted_sum(run->context, set, 1, NULL, PSG_OVERWRITE, &out)
                          : psg_grad_sample(run->context, &gradient, 1.0, PSG_OVERWRITE, &out),
                 "a question");
    for (int64_t i = 0; i < psg_tensor_count(&out); i++) grad->data[i] = test_get_at(&out, i);
    free(out.data);
}

static void take_grads(case_run *run, const case_way *way, case_results *results) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!case_wants_grad(&run->line, k)) continue;
        if (run->param[k]) {
            take_parameter(run, way, k, &results->grad[k]);
            continue;
        }
        psg_tensor grad;
        check_status(run, psg_input_grad(run->tape, run->var[k], &grad), "psg_input_grad");
        results->grad[k] = copy_of(&run->line, &grad);
    }
}

void case_take_run(case_run *run, const case_way *way, case_results *results) {
    test_random random = { 11 };
    psg_tensor output;
    memset(results, 0, sizeof *results);
    check_status(run, psg_value(run->tape, run->output, &output), "psg_value");
    results->output = copy_of(&run->line, &output);
    if (output.dtype != PSG_F32 && output.dtype != PSG_F64) return;
    psg_tensor drawn = draw_grad_output(run, way, &output);
    results->held = as_operand(run, way, &random, &drawn, &output);
    results->grad_output = copy_of(&run->line, &results->held.view);
    free(drawn.data);
    check_status(run, psg_backward_from(run->tape, run->output, &results->held.view), "psg_backward_from");
    take_grads(run, way, results);
}

/* ---- ways to run ---- */

static void change_value(case_run *run, int k, int64_t n) {
    const case_operand *operand = &run->line.operand[k];
    if (!operand->present || operand->role != PSG_BATCHED || !operand->rank) return;
    psg_tensor first = case_batch_first(&run->line, &run->value[k]);
    int64_t row = first.shape[0] ? psg_tensor_count(&first) / first.shape[0] : 0;
    for (int64_t i = n * row; i < (n + 1) * row; i++) {
        double value = test_get_at(&first, i), last = (double)(operand->high - 1);
        if (operand->kind == CASE_REAL) value = -1.5 * value;
        if (operand->kind == CASE_UNIT) value = 1 - value;
        if (operand->kind == CASE_POSITIVE) value = 2 - value;
        if (operand->kind == CASE_INTEGER && !operand->value_count) value = last - value + (double)operand->low;
        test_set_at(&first, i, value);
    }
}

/* Puts the batched operands and constants into views of random layouts; the arrays are the caller's. */
static void use_views(case_run *run, test_array *arrays) {
    test_random random = { 7 };
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!run->line.operand[k].present || run->param[k]) continue;
        const psg_tensor *value = &run->value[k];
        arrays[k] = test_array_new(&random, value->dtype, value->rank, value->shape, TEST_ANY);
        for (int64_t i = 0; i < psg_tensor_count(value); i++) test_set_at(&arrays[k].view, i, test_get_at(value, i));
        run->value[k] = arrays[k].view;
    }
}

void case_take(psg_context *context, const case_line *line, const case_way *way, case_results *results) {
    case_run run;
    test_array arrays[CASE_OPERANDS] = { { .memory = NULL } };
    psg_status status = case_run_open(&run, context, line, way->real, way->first, way->one_sample ? 1 : -1);
    check_status(&run, status, "case_run_open");
    for (int k = 0; k < CASE_OPERANDS && way->change; k++) change_value(&run, k, way->changed_sample);
    if (way->views) use_views(&run, arrays);
    psg_pass pass = case_run_pass(&run);
    pass.ordinary |= way->ordinary;
    if (pass.ordinary) pass.sample_ids = NULL;
    check_status(&run, case_run_forward(&run, &pass), "forward");
    case_take_run(&run, way, results);
    case_run_close(&run);
    for (int k = 0; k < CASE_OPERANDS; k++) test_array_free(&arrays[k]);
}

/* ---- comparing ---- */

double case_largest(const case_tensor *tensor) {
    double largest = 0;
    for (int64_t k = 0; k < tensor->rows * tensor->row; k++) largest = fmax(largest, fabs(tensor->data[k]));
    return largest;
}

case_label case_result_label(const case_line *line, const char *what, int k) {
    case_label label = case_label_of(line, what);
    size_t length = strlen(label.text);
    snprintf(label.text + length, sizeof label.text - length, k < 0 ? ": output" : ": gradient of %s",
             k < 0 ? "" : line->op->rule[k].name);
    return label;
}

static void check_shape(const case_tensor *actual, const case_tensor *expected, const case_label *label) {
    if (actual->wanted && actual->rows == expected->rows && actual->row == expected->row) return;
    fail_msg("%s: %lld x %lld values, expected %lld x %lld", label->text, (long long)actual->rows,
             (long long)actual->row, (long long)expected->rows, (long long)expected->row);
}

void case_near(const case_tensor *actual, const case_tensor *expected, double factor, double tolerance,
               case_label label) {
    check_shape(actual, expected, &label);
    double bound = tolerance * fmax(1, fabs(factor) * case_largest(expected));
    for (int64_t k = 0; k < expected->rows * expected->row; k++) {
        test_near(actual->data[k], factor * expected->data[k], bound, label.text, k);
    }
}

static const case_tensor *result_at(const case_results *results, int k) {
    return k < 0 ? &results->output : &results->grad[k];
}

void case_all_near(const case_line *line, const case_results *actual, const case_results *expected, double tolerance,
                   const char *what) {
    for (int k = -1; k < CASE_OPERANDS; k++) {
        if (!result_at(expected, k)->wanted) continue;
        case_near(result_at(actual, k), result_at(expected, k), 1.0, tolerance, case_result_label(line, what, k));
    }
}

void case_same_bits(const case_line *line, const case_results *actual, const case_results *expected, int64_t from,
                    int64_t to, const char *what) {
    for (int k = -1; k < CASE_OPERANDS; k++) {
        const case_tensor *a = result_at(actual, k), *e = result_at(expected, k);
        case_label label = case_result_label(line, what, k);
        if (!e->wanted) continue;
        check_shape(a, e, &label);
        int64_t begin = from * e->row, end = (to < 0 ? e->rows : to) * e->row;
        for (int64_t i = begin; i < end; i++) {
            if (!memcmp(&a->data[i], &e->data[i], sizeof(double))) continue;
            fail_msg("%s[%lld] is %.17g, not %.17g", label.text, (long long)i, a->data[i], e->data[i]);
        }
    }
}
