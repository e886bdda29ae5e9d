/* Answers case lines from the standard input, for differential.py and accuracy.py; with the argument f32 in that type:
 *
 *     <op> <case line>\n
 *
 * with, in the machine's byte order: i32 status, i32 length and bytes of the message; when the status is 0, i32 count
 * of results, each i32 k (the operand; -1 the output, -2 the squared norms over all parameters), i64 rows, i64 row,
 * rows * row f64, batch in front; a parameter's is grad_sample, one row (the sum) in an ordinary pass. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases/cases.h"

enum { TEXT = 4096 };

static void put(const void *data, size_t bytes) {
    if (fwrite(data, 1, bytes, stdout) != bytes) exit(1);
}

static void put_i32(int32_t value) { put(&value, sizeof value); }

static void put_head(int k, int64_t rows, int64_t row) {
    put_i32(k);
    put(&rows, sizeof rows);
    put(&row, sizeof row);
}

static double element_at(const psg_tensor *tensor, int64_t k) {
    int64_t at = 0;
    for (int d = tensor->rank - 1; d >= 0; d--) {
        at += k % tensor->shape[d] * tensor->stride[d];
        k /= tensor->shape[d];
    }
    switch (tensor->dtype) {
    case PSG_F32:
        return (double)((float *)tensor->data)[at];
    case PSG_F64:
        return ((double *)tensor->data)[at];
    case PSG_I32:
        return ((int32_t *)tensor->data)[at];
    default:
        return (double)((int64_t *)tensor->data)[at];
    }
}

static void put_tensor(const case_line *line, int k, const psg_tensor *tensor) {
    psg_tensor first = case_batch_first(line, tensor);
    int64_t count = psg_tensor_count(&first), rows = first.rank ? first.shape[0] : 1;
    put_head(k, rows, rows ? count / rows : 0);
    for (int64_t i = 0; i < count; i++) {
        double value = element_at(&first, i);
        put(&value, sizeof value);
    }
}

/* ---- one case ---- */

typedef struct answer {
    psg_tensor output, grad_output, grad[CASE_OPERANDS];
    psg_gradient gradient[CASE_OPERANDS];
    const psg_gradient *set[CASE_OPERANDS];
    size_t count; /* of set */
    double *sqnorm;
} answer;

static void store(const psg_tensor *tensor, int64_t at, double value) {
    if (tensor->dtype == PSG_F32) ((float *)tensor->data)[at] = (float)value;
    else ((double *)tensor->data)[at] = value;
}

static psg_status draw_grad_output(case_run *run, answer *a) {
    psg_tensor view = case_batch_first(&run->line, &a->output);
    psg_tensor first = psg_tensor_of(PSG_F64, NULL, view.rank, view.shape);
    size_t bytes = (size_t)psg_tensor_count(&first) * 8 + 8;
    first.data = malloc(bytes);
    a->grad_output = a->output;
    a->grad_output.data = malloc(bytes);
    if (!first.data || !a->grad_output.data) return PSG_ERR_MEMORY;
    case_fill_reals(&run->line, "grad_output", &first);
    view.data = a->grad_output.data;
    int64_t index[PSG_MAX_RANK];
    for (int64_t i = 0; i < psg_tensor_count(&first); i++) {
        int64_t at = 0, rest = i;
        for (int d = view.rank - 1; d >= 0; d--) {
            index[d] = rest % view.shape[d];
            rest /= view.shape[d];
            at += index[d] * view.stride[d];
        }
        store(&view, at, ((double *)first.data)[i]);
    }
    free(first.data);
    return PSG_OK;
}

static psg_status answer_parameter(case_run *run, answer *a, int k, int ordinary) {
    psg_status status = psg_gradient_of(run->tape, run->param[k], &a->gradient[k]);
    const psg_tensor *value = psg_param_value(run->param[k]);
    int64_t shape[PSG_MAX_RANK] = { a->gradient[k].batch_size };
    if (ordinary) shape[0] = 1;
    for (int d = 0; d < value->rank && d < PSG_MAX_RANK - 1; d++) shape[d + 1] = value->shape[d];
    psg_tensor out = psg_tensor_of(run->real, NULL, value->rank + 1, shape), sum = *value;
    out.data = malloc((size_t)psg_tensor_count(&out) * 8 + 8);
    if (!out.data) return PSG_ERR_MEMORY;
    sum.data = out.data;
    a->grad[k] = out;
    a->set[a->count++] = &a->gradient[k];
    if (status && status != PSG_ERR_STATE) return status; /* not reached: zero */
    return ordinary ? psg_weighted_sum(run->context, &a->set[a->count - 1], 1, NULL, PSG_OVERWRITE, &sum)
                    : psg_grad_sample(run->context, &a->gradient[k], 1.0, PSG_OVERWRITE, &out);
}

/* Another one every case: elements kept are then counted in independent draws (FNV-1a of the name). */
static uint64_t seed_of(const char *name) {
    uint64_t hash = 0xcbf29ce484222325;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
    return hash;
}

static psg_status answer_case(case_run *run, answer *a) {
    psg_pass pass = case_run_pass(run);
    pass.dropout_seed = seed_of(run->line.name);
    psg_status status = case_run_forward(run, &pass);
    if (!status) status = psg_value(run->tape, run->output, &a->output);
    if (status || a->output.dtype != run->real) return status;
    status = draw_grad_output(run, a);
    if (!status) status = psg_backward_from(run->tape, run->output, &a->grad_output);
    for (int k = 0; k < CASE_OPERANDS && !status; k++) {
        if (!case_wants_grad(&run->line, k)) continue;
        if (run->param[k]) {
            status = answer_parameter(run, a, k, pass.ordinary);
        } else {
            status = psg_input_grad(run->tape, run->var[k], &a->grad[k]);
        }
    }
    if (status || pass.ordinary || !a->count) return status;
    a->sqnorm = malloc((size_t)a->set[0]->batch_size * sizeof *a->sqnorm + 8);
    return a->sqnorm ? psg_sqnorm(run->context, a->set, a->count, a->sqnorm, NULL, NULL) : PSG_ERR_MEMORY;
}

static void put_answer(const case_run *run, const answer *a) {
    int32_t results = 1 + (a->sqnorm != NULL);
    for (int k = 0; k < CASE_OPERANDS; k++) results += a->grad[k].data != NULL;
    put_i32(results);
    put_tensor(&run->line, -1, &a->output);
    for (int k = 0; k < CASE_OPERANDS; k++) {
        case_line first = run->line;
        if (run->param[k]) first.option_count = 0; /* grad_sample has its batch in front in every pass */
        if (a->grad[k].data) put_tensor(&first, k, &a->grad[k]);
    }
    if (!a->sqnorm) return;
    put_head(-2, a->set[0]->batch_size, 1);
    put(a->sqnorm, (size_t)a->set[0]->batch_size * sizeof *a->sqnorm);
}

static void put_status(psg_status status, const char *message) {
    put_i32((int32_t)status);
    put_i32((int32_t)strlen(message));
    put(message, strlen(message));
}

static void free_answer(const case_run *run, answer *a) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (run->param[k]) free(a->grad[k].data);
    }
    free(a->grad_output.data);
    free(a->sqnorm);
}

static void run_line(psg_context *context, psg_dtype real, const case_line *line) {
    case_run run;
    answer a = { .count = 0 };
    psg_status status = case_run_open(&run, context, line, real, 0, -1);
    if (!status) status = answer_case(&run, &a);
    put_status(status, status && psg_tape_status(run.tape) ? psg_tape_message(run.tape) : psg_context_message(context));
    if (!status) put_answer(&run, &a);
    free_answer(&run, &a);
    case_run_close(&run);
}

static void run_text(psg_context *context, psg_dtype real, char *text) {
    char message[512];
    case_line line;
    text[strcspn(text, "\n")] = 0;
    char *rest = text + strcspn(text, " ");
    if (*rest) *rest++ = 0;
    const case_op *op = case_op_find(text);
    if (!op) {
        put_status(PSG_ERR_ARGUMENT, "no such table");
    } else if (case_line_parse(op, rest, &line, message, sizeof message)) {
        put_status(PSG_ERR_ARGUMENT, message);
    } else {
        run_line(context, real, &line);
    }
    fflush(stdout);
}

int main(int count, char **arguments) {
    char text[TEXT];
    psg_dtype real = count > 1 && !strcmp(arguments[1], "f32") ? PSG_F32 : PSG_F64;
    psg_context *context;
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 2;
    if (psg_context_create(&options, &context)) return 1;
    while (fgets(text, sizeof text, stdin)) run_text(context, real, text);
    psg_context_destroy(context);
    return 0;
}
