#include "tape_case.h"

#include <string.h>

#define MAX_GRAD_NORM 1.0

static void destroy(bench_case *c) {
    tape_case *t = c->state;
    psg_tape_destroy(t->tape);
    for (int k = 0; k < t->param_count; k++) psg_param_destroy(t->param[k]);
}

psg_status tape_case_start(bench_case *c, tape_case *t) {
    c->state = t;
    c->destroy = t->destroy = destroy;
    TRY(psg_tape_create(c->context, &t->tape));
    for (int k = 0; k < t->param_count; k++) {
        TRY(psg_param_create(c->context, k % 2 ? "bias" : "weight", &t->value[k], &t->param[k]));
        t->sum[k] = bench_zeros(c, t->value[k].rank, t->value[k].shape);
        c->gradient[k] = &t->gradient[k];
    }
    c->gradient_count = (size_t)t->param_count;
    t->factors = bench_memory(c, (size_t)c->samples * sizeof *t->factors);
    t->sqnorm = bench_memory(c, (size_t)c->samples * sizeof *t->sqnorm);
    return PSG_OK;
}

psg_status tape_case_attach(bench_case *c, tape_case *t) {
    for (int k = 0; k < t->param_count; k++) {
        int64_t shape[PSG_MAX_RANK] = { c->samples };
        memcpy(shape + 1, t->value[k].shape, (size_t)t->value[k].rank * sizeof *shape);
        t->grad_sample[k] = bench_zeros(c, t->value[k].rank + 1, shape);
        TRY(psg_param_attach_grad_sample(t->param[k], &t->grad_sample[k]));
    }
    return PSG_OK;
}

static psg_status forward(bench_case *c, int ordinary) {
    tape_case *t = c->state;
    psg_pass pass = PSG_PASS_INIT;
    pass.ordinary = ordinary;
    for (int k = 0; k < t->param_count; k++) psg_param_clear_grad_sample(t->param[k]);
    TRY(psg_tape_begin(t->tape, &pass));
    t->input_var = t->want_input_grad ? psg_input_with_grad(t->tape, &t->input) : psg_input(t->tape, &t->input);
    t->output = t->record(t, t->input_var);
    return psg_tape_status(t->tape);
}

psg_status tape_forward(bench_case *c) { return forward(c, 0); }

psg_status tape_forward_ordinary(bench_case *c) { return forward(c, 1); }

psg_status tape_backward(bench_case *c) {
    tape_case *t = c->state;
    if (t->cotangent.data) TRY(psg_backward_from(t->tape, t->output, &t->cotangent));
    else TRY(psg_backward(t->tape, t->output));
    for (int k = 0; k < t->param_count; k++) TRY(psg_gradient_of(t->tape, t->param[k], &t->gradient[k]));
    return PSG_OK;
}

psg_status tape_pass(bench_case *c) {
    TRY(tape_forward(c));
    return tape_backward(c);
}

psg_status tape_sqnorm(bench_case *c) {
    tape_case *t = c->state;
    TRY(tape_pass(c));
    return psg_sqnorm(c->context, c->gradient, c->gradient_count, t->sqnorm, NULL, &c->fallbacks);
}

psg_status tape_clipped_sum(bench_case *c) {
    tape_case *t = c->state;
    const psg_clip clip = { .max_grad_norm = MAX_GRAD_NORM, .max_batch_size = c->samples };
    psg_clip_report report;
    TRY(tape_backward(c));
    TRY(psg_clipped_sum(c->context, c->gradient, c->gradient_count, &clip, PSG_OVERWRITE, t->sum, NULL, t->factors,
                        &report));
    c->fallbacks = report.fallbacks;
    return PSG_OK;
}

psg_status tape_plain_sum(bench_case *c) {
    tape_case *t = c->state;
    TRY(tape_backward(c));
    return psg_weighted_sum(c->context, c->gradient, c->gradient_count, NULL, PSG_OVERWRITE, t->sum);
}
