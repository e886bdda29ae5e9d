#include "case_step.h"

#include <math.h>
#include <string.h>

#include "plan_passes.h"

#define FIRST_VALUES_SEED 1

const char *const step_questions[] = { "private", "plain", "clipped_sum", NULL };

static psg_var record(tape_case *t, psg_var input) {
    static const psg_cross_entropy_options sum = { .reduction = PSG_SUM, .class_last = 1 };   /* (B, ..., classes) */
    step_case *s = (step_case *)t;
    psg_var w[BENCH_MAX_PARAMS];
    for (int k = 0; k < t->param_count; k++) w[k] = psg_use(t->tape, t->param[k]);
    return psg_cross_entropy(t->tape, s->kind->scores(t->tape, w, input), psg_input(t->tape, &s->labels), &sum);
}

/* ---- what is timed ---- */

psg_status step_case_accumulate(bench_case *c) {
    step_case *s = c->state;
    psg_clip_report report;
    psg_batch batch;
    TRY(psg_dp_sample(s->dp, &batch));
    TRY(psg_dp_accumulate(s->dp, &batch, c->gradient, c->gradient_count, &report));
    c->fallbacks = report.fallbacks;
    return PSG_OK;
}

psg_status step_case_release(bench_case *c) {
    step_case *s = c->state;
    return psg_dp_release_to(s->dp, s->sgd);
}

psg_status step_case_plain_sum(bench_case *c) {
    step_case *s = c->state;
    return psg_weighted_sum(c->context, c->gradient, c->gradient_count, NULL, PSG_OVERWRITE, s->tape.sum);
}

psg_status step_case_update(bench_case *c) {
    step_case *s = c->state;
    return psg_optimizer_step(s->sgd, s->tape.sum, c->gradient_count);
}

static psg_status run_private(bench_case *c) {
    TRY(tape_pass(c));
    TRY(step_case_accumulate(c));
    return step_case_release(c);
}

static psg_status run_plain(bench_case *c) {
    TRY(tape_forward_ordinary(c));
    TRY(tape_backward(c));
    TRY(step_case_plain_sum(c));
    return step_case_update(c);
}

static void choose(bench_case *c) {
    c->question = bench_asks(c, "plain") ? PSG_ASK_WEIGHTED_SUM : PSG_ASK_CLIPPED_SUM;
    if (bench_asks(c, "clipped_sum")) {
        c->before = tape_forward;
        c->run = tape_clipped_sum;
        c->before_plain = tape_forward_ordinary;
        c->plain = tape_plain_sum;
    } else if (bench_asks(c, "plain")) {
        c->run = run_plain;
    } else {
        c->run = run_private;
        c->plain = run_plain;
    }
}

/* ---- limits ---- */

static double size_of(const bench_case *c) { return (double)psg_dtype_size(c->dtype); }

static double param_elements(const bench_case *c) {
    const step_case *s = c->state;
    double count = 0;
    for (int k = 0; k < s->tape.param_count; k++) count += (double)psg_tensor_count(&s->tape.value[k]);
    return count;
}

psg_status step_case_count_answers(bench_case *c) {
    return bench_add_plan(c, bench_asks(c, "private") ? 8 : size_of(c));
}

/* SGD with momentum.  A private step reads and clears its sums, 64-bit integers, on the way there; its noise counts by
 * its bytes alone. */
void step_case_count_update(bench_case *c) {
    double P = param_elements(c), bytes = size_of(c) * P;
    if (bench_asks(c, "private")) bench_add_pass(c, 0, 8 * P + 2 * bytes, 8 * P + 2 * bytes);
    else if (bench_asks(c, "plain")) bench_add_pass(c, 0, 3 * bytes, 2 * bytes);
}

psg_status step_case_count_rest(bench_case *c) {
    TRY(step_case_count_answers(c));
    step_case_count_update(c);
    return PSG_OK;
}

/* ---- the case ---- */

static void destroy(bench_case *c) {
    step_case *s = c->state;
    psg_dp_destroy(s->dp);
    psg_generator_destroy(s->generator);
    psg_optimizer_destroy(s->sgd);
    s->tape.destroy(c);
}

void step_case_restore(const step_case *s) {
    psg_tensor value[BENCH_MAX_PARAMS];
    memcpy(value, s->tape.value, sizeof value);
    model_initialize(s->kind, FIRST_VALUES_SEED, value);
}

static psg_status create_dp(bench_case *c, step_case *s) {
    static const unsigned char key[32] = { 0 };
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;
    int64_t counts[BENCH_MAX_PARAMS];
    for (int k = 0; k < s->tape.param_count; k++) counts[k] = psg_tensor_count(&s->tape.value[k]);
    dp.records = (uint64_t)c->samples;
    dp.sample_rate = 1;   /* every sample in every batch */
    dp.noise_multiplier = 1;
    dp.max_batch_size = c->samples;
    TRY(psg_generator_create_seeded(c->context, key, &s->generator));
    return psg_dp_create(c->context, s->generator, &dp, counts, c->gradient_count, &s->dp);
}

static psg_status create_sgd(bench_case *c, step_case *s) {
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    sgd.lr = 1e-5;
    sgd.momentum = 0.9;
    return psg_sgd_create(c->context, &sgd, s->tape.value, c->gradient_count, &s->sgd);
}

static psg_tensor labels_below(bench_case *c, int64_t classes) {
    int64_t *label = bench_memory(c, (size_t)c->samples * sizeof *label);
    for (int64_t n = 0; n < c->samples; n++) label[n] = n * 7 % classes;
    return psg_i64_1d(label, c->samples);
}

psg_status step_case_start(bench_case *c, step_case *s, int64_t classes) {
    c->samples = s->tape.input.shape[0];
    s->tape.record = record;
    s->tape.param_count = model_param_count(s->kind);
    if (!s->labels.data) s->labels = labels_below(c, classes);
    for (int k = 0; k < s->tape.param_count; k++) {
        s->tape.value[k] = bench_zeros(c, s->kind->param[k].rank, s->kind->param[k].shape);
    }
    step_case_restore(s);
    choose(c);
    TRY(tape_case_start(c, &s->tape));
    c->destroy = destroy;
    if (bench_asks(c, "private")) TRY(create_dp(c, s));
    return bench_asks(c, "clipped_sum") ? PSG_OK : create_sgd(c, s);
}
