#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "case_checks.h"

/* Elements tried of one operand, spread over it. */
enum { TRIED = 40 };

typedef struct differences {
    case_run run;
    psg_pass pass;
    case_results results;
    double *slopes; /* a row of the output each, or one */
} differences;

/* slopes[n] += factor * loss of sample n with *element = value. */
static void add_losses(differences *d, double *element, double value, double factor) {
    double saved = *element;
    psg_tensor output;
    *element = value;
    psg_status status = case_run_forward(&d->run, &d->pass);
    *element = saved;
    if (status || psg_value(d->run.tape, d->run.output, &output)) fail_msg("%s", psg_tape_message(d->run.tape));
    psg_tensor first = case_batch_first(&d->run.line, &output);
    const case_tensor *go = &d->results.grad_output;
    for (int64_t i = 0; i < go->rows * go->row; i++) {
        d->slopes[i / go->row] += factor * go->data[i] * test_get_at(&first, i);
    }
}

/* The central difference of fourth order, (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12 h. */
static void differentiate(differences *d, double *element) {
    static const double h = 1e-4;
    double x = *element;
    memset(d->slopes, 0, (size_t)(d->results.output.rows + 1) * sizeof *d->slopes);
    add_losses(d, element, x + h, 8 / (12 * h));
    add_losses(d, element, x - h, -8 / (12 * h));
    add_losses(d, element, x + 2 * h, -1 / (12 * h));
    add_losses(d, element, x - 2 * h, 1 / (12 * h));
}

static double sum_of_slopes(const differences *d) {
    double sum = 0;
    for (int64_t n = 0; n < d->results.output.rows; n++) sum += d->slopes[n];
    return sum;
}

static void compare_element(differences *d, int k, int64_t i, double bound) {
    const case_tensor *grad = &d->results.grad[k];
    case_label label = case_result_label(&d->run.line, "differences", k);
    if (!d->run.param[k]) {
        test_near(grad->data[i], sum_of_slopes(d), bound, label.text, i);
    } else if (grad->rows == d->results.output.rows) {
        for (int64_t n = 0; n < grad->rows; n++) {
            test_near(grad->data[n * grad->row + i], d->slopes[n], bound, label.text, n * grad->row + i);
        }
    } else {
        double sum = 0;
        for (int64_t n = 0; n < grad->rows; n++) sum += grad->data[n * grad->row + i];
        test_near(sum, sum_of_slopes(d), bound, label.text, i);
    }
}

/* Element i of the operand, batch in front, in its own memory. */
static double *element_of(const differences *d, int k, int64_t i) {
    psg_tensor first = d->run.param[k] ? d->run.value[k] : case_batch_first(&d->run.line, &d->run.value[k]);
    int64_t at = 0;
    for (int dim = first.rank - 1; dim >= 0; dim--) {
        at += i % first.shape[dim] * first.stride[dim];
        i /= first.shape[dim];
    }
    return (double *)first.data + at;
}

static void check_operand(differences *d, int k) {
    int64_t count = psg_tensor_count(&d->run.value[k]), step = count > TRIED ? count / TRIED : 1;
    double bound = 1e-6 * fmax(1, case_largest(&d->results.grad[k]));
    for (int64_t i = 0; i < count; i += step) {
        double scale = 1;
        if (d->run.param[k] && d->pass.loss_reduction == PSG_LOSS_MEAN) scale = (double)d->run.line.batch_size;
        differentiate(d, element_of(d, k, i));
        for (int64_t n = 0; n < d->results.output.rows; n++) d->slopes[n] *= scale;
        compare_element(d, k, i, bound);
    }
}

void case_check_differences(psg_context *context, const case_line *line) {
    if (!strcmp(case_word(line, "smooth", "yes"), "no")) return;
    differences d = { .slopes = NULL };
    case_way way = { .real = PSG_F64 };
    psg_status status = case_run_open(&d.run, context, line, PSG_F64, 0, -1);
    d.pass = case_run_pass(&d.run);
    if (!status) status = case_run_forward(&d.run, &d.pass);
    if (status) fail_msg("%s", case_label_of(line, psg_tape_message(d.run.tape)).text);
    case_take_run(&d.run, &way, &d.results);
    d.slopes = calloc((size_t)d.results.output.rows + 1, sizeof *d.slopes);
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (d.results.grad[k].wanted && d.results.grad_output.wanted) check_operand(&d, k);
    }
    free(d.slopes);
    case_results_free(&d.results);
    case_run_close(&d.run);
}
