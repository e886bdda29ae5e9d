#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "case_checks.h"

typedef struct repetition {
    case_run run;
    psg_pass pass;
    psg_tensor attached[CASE_OPERANDS];
    psg_tensor grad_output;
} repetition;

static void check(repetition *r, psg_status status, const char *what) {
    if (status) fail_msg("%s: %s", case_label_of(&r->run.line, what).text, psg_context_message(r->run.context));
}

static void attach(repetition *r) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!r->run.param[k] || !case_wants_grad(&r->run.line, k)) continue;
        const psg_tensor *value = psg_param_value(r->run.param[k]);
        int64_t shape[PSG_MAX_RANK] = { r->run.line.batch_size };
        if (value->rank + 1 > PSG_MAX_RANK) continue;
        memcpy(shape + 1, value->shape, (size_t)value->rank * sizeof *shape);
        psg_tensor out = psg_tensor_of(PSG_F64, NULL, value->rank + 1, shape);
        out.data = malloc((size_t)psg_tensor_count(&out) * 8 + 8);
        r->attached[k] = out;
        check(r, psg_param_attach_grad_sample(r->run.param[k], &out), "psg_param_attach_grad_sample");
    }
}

static void walk_back(repetition *r) {
    if (r->grad_output.dtype != PSG_F64) return; /* a shape op of integers */
    check(r, psg_backward_from(r->run.tape, r->run.output, &r->grad_output), "psg_backward_from");
}

static void one_pass(repetition *r) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (r->attached[k].data) psg_param_clear_grad_sample(r->run.param[k]);
    }
    check(r, case_run_forward(&r->run, &r->pass), "forward");
    walk_back(r);
}

/* Attached arrays hold what the question answers. */
static void compare_attached(repetition *r) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!r->attached[k].data) continue;
        psg_gradient gradient;
        psg_tensor answer = r->attached[k];
        answer.data = malloc((size_t)psg_tensor_count(&answer) * 8 + 8);
        if (psg_gradient_of(r->run.tape, r->run.param[k], &gradient) == PSG_ERR_STATE) { /* not reached */
            free(answer.data);
            continue;
        }
        check(r, psg_grad_sample(r->run.context, &gradient, 1.0, PSG_OVERWRITE, &answer), "psg_grad_sample");
        if (!test_same_bits(&answer, &r->attached[k])) {
            fail_msg("%s", case_label_of(&r->run.line, "an attached array is not grad_sample").text);
        }
        free(answer.data);
    }
}

static void *copy_of(const psg_tensor *tensor) {
    size_t bytes = (size_t)psg_tensor_count(tensor) * 8;
    void *copy = malloc(bytes + 8);
    return memcpy(copy, tensor->data, bytes);
}

static void check_again(repetition *r) {
    void *before[CASE_OPERANDS] = { NULL };
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!r->attached[k].data) continue;
        before[k] = copy_of(&r->attached[k]);
        test_fill_value(&r->attached[k], NAN);
    }
    uint64_t allocations = psg_context_allocations(r->run.context);
    one_pass(r);
    if (psg_context_allocations(r->run.context) != allocations) {
        fail_msg("%s", case_label_of(&r->run.line, "a later pass allocates").text);
    }
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (before[k] && memcmp(before[k], r->attached[k].data, (size_t)psg_tensor_count(&r->attached[k]) * 8)) {
            fail_msg("%s", case_label_of(&r->run.line, "a later pass gives other bits").text);
        }
        free(before[k]);
    }
}

void case_check_repetition(psg_context *context, const case_line *line) {
    repetition r = { .grad_output = { .data = NULL } };
    if (case_flag(line, "ordinary")) return;
    check(&r, case_run_open(&r.run, context, line, PSG_F64, 0, -1), "case_run_open");
    r.pass = case_run_pass(&r.run);
    attach(&r);
    check(&r, case_run_forward(&r.run, &r.pass), "forward");
    check(&r, psg_value(r.run.tape, r.run.output, &r.grad_output), "psg_value");
    r.grad_output.data = malloc((size_t)psg_tensor_count(&r.grad_output) * 8 + 8);
    test_fill_value(&r.grad_output, 0.75);
    walk_back(&r);
    compare_attached(&r);
    one_pass(&r); /* the second pass may still find the room of the first too small */
    check_again(&r);
    free(r.grad_output.data);
    case_run_close(&r.run);
    for (int k = 0; k < CASE_OPERANDS; k++) free(r.attached[k].data);
}
