/* Whole steps of GPT-2 small: next-token cross entropy summed over all positions.  No residual: a pass in f64 would
 * take longer than the row, and the forms it is made of have rows with one. */
#include "case_step.h"
#include "step_models.h"

/* ---- limits ---- */

typedef struct pass_cost {
    double products;        /* multiply-adds of a sample's forward pass: projections, feed-forward, head, attention */
    double norms;           /* of the lower halves of a sample's Gram matrices, T (T + 1) / 2 of p and of d each */
    double elements;        /* of all activations of a sample, the scores included */
} pass_cost;

static pass_cost cost_of_sample(void) {
    const double T = GPT2_TOKENS, D = GPT2_WIDTH, V = GPT2_VOCABULARY, L = GPT2_LAYERS;
    const double half = T * (T + 1) / 2;
    return (pass_cost){ .products = T * (L * 12 * D * D + V * D) + L * 2 * half * D,
                        .norms = half * (L * (4 + 2 + 5 + 5) * D + V + D),
                        .elements = T * (L * 18 * D + V + 3 * D) };
}

static double param_count(const step_case *s) {
    double count = 0;
    for (int k = 0; k < s->tape.param_count; k++) count += (double)psg_tensor_count(&s->tape.value[k]);
    return count;
}

static void add_passes(bench_case *c, const step_case *s) {
    const pass_cost cost = cost_of_sample();
    double B = (double)c->samples, size = (double)psg_dtype_size(c->dtype), P = size * param_count(s);
    double values = size * B * cost.elements, flops = 2 * B * cost.products;
    c->working_set = 2 * values + 4 * P;
    if (!bench_asks(c, "clipped_sum")) bench_add_pass(c, flops, values + P, values);
    bench_add_pass(c, flops, values + P, values);
    if (!bench_asks(c, "plain")) bench_add_pass(c, 2 * B * cost.norms, 2 * values, 0);
    bench_add_pass(c, flops, 2 * values, P);
    if (bench_asks(c, "private")) bench_add_pass(c, 0, 2 * P, P);               /* sum to noisy update */
    if (!bench_asks(c, "clipped_sum")) bench_add_pass(c, 0, 3 * P, 2 * P);      /* SGD with momentum */
}

/* ---- the case ---- */

/* A sequence through the vocabulary from its element `first` on, a piece of it each sample. */
static psg_tensor tokens_from(bench_case *c, int64_t first) {
    int64_t B = c->problem->dim[0], *token = bench_memory(c, (size_t)(B * GPT2_TOKENS) * sizeof *token);
    for (int64_t i = 0; i < B * GPT2_TOKENS; i++) token[i] = (first + i) * 7919 % GPT2_VOCABULARY;
    return psg_tensor_of(PSG_I64, token, 2, (int64_t[]){ B, GPT2_TOKENS });
}

static psg_status prepare(bench_case *c) {
    step_case *s = bench_memory(c, sizeof *s);
    s->kind = &gpt2_model;
    s->tape.input = tokens_from(c, 0);
    s->labels = tokens_from(c, 1);
    TRY(step_case_start(c, s, GPT2_VOCABULARY));
    add_passes(c, s);
    return PSG_OK;
}

const bench_op bench_gpt2_step = { "gpt2_step", "B", 1, step_questions, prepare, NULL };
