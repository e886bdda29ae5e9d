/* Whole steps of the models of step_models.h.  Their residual is that of the batch's sum against the same in f64. */
#include <math.h>
#include <string.h>

#include "case_step.h"
#include "step_models.h"

/* The sums of the case, computed by a context of its own in f64 with the factors that the case found. */
static psg_status sums_in_f64(bench_case *c, step_case *s, bench_case *wide, step_case *t) {
    *wide = (bench_case){ .op = c->op, .problem = c->problem, .dtype = PSG_F64, .context = c->context };
    *t = (step_case){ .kind = s->kind };
    t->tape.input = s->tape.input;
    if (s->tape.input.dtype == c->dtype) {
        t->tape.input = psg_tensor_of(PSG_F64, bench_to_f64(c, &s->tape.input), s->tape.input.rank,
                                      s->tape.input.shape);
    }
    TRY(step_case_start(wide, t, 10));
    TRY(bench_asks(c, "plain") ? tape_forward_ordinary(wide) : tape_forward(wide));
    TRY(tape_backward(wide));
    return psg_weighted_sum(c->context, wide->gradient, wide->gradient_count,
                            bench_asks(c, "plain") ? NULL : s->tape.factors, PSG_OVERWRITE, t->tape.sum);
}

static psg_status residual_of(bench_case *c, double *residual) {
    step_case *s = c->state, *t = bench_memory(c, sizeof *t);
    bench_case *wide = bench_memory(c, sizeof *wide);
    step_case_restore(s);
    TRY(bench_asks(c, "plain") ? tape_forward_ordinary(c) : tape_forward(c));
    TRY(bench_asks(c, "plain") ? tape_plain_sum(c) : tape_clipped_sum(c));
    psg_status status = sums_in_f64(c, s, wide, t);
    for (size_t k = 0; k < c->gradient_count && status == PSG_OK; k++) {
        int64_t count = psg_tensor_count(&s->tape.sum[k]);
        *residual = fmax(*residual, bench_error(c, count, s->tape.sum[k].data, t->tape.sum[k].data));
    }
    bench_case_close(wide);
    return status;
}

/* ---- limits: forward and input gradients of all layers, then what every step has ---- */

typedef struct model_cost {
    double products;        /* multiply-adds of a sample's forward pass, in linear layers, convolutions, attention */
    double attention;       /* of them those of two activations: both have a gradient, which no parameter's pass does */
    double first;           /* of the layer that wants no input gradient */
    double in, out;         /* elements that products read and write, a sample */
    double through;         /* elements that other layers write: activations, norms, pooling, sums of two paths */
} model_cost;

typedef struct model_case {
    step_case step;         /* the first member: c->state is both */
    const model_cost *cost;
} model_case;

/* A layer that is no product reads about what it writes; its backward reads the gradient and the values. */
static psg_status count(bench_case *c) {
    const model_case *s = c->state;
    const model_cost *cost = s->cost;
    double B = (double)c->samples, P = 0, size = (double)psg_dtype_size(c->dtype);
    for (int k = 0; k < s->step.tape.param_count; k++) P += (double)psg_tensor_count(&s->step.tape.value[k]);
    double in = size * B * cost->in, out = size * B * cost->out, through = size * B * cost->through;
    c->working_set = 2 * (out + through) + 4 * size * P;
    if (!bench_asks(c, "clipped_sum")) {
        bench_add_pass(c, 2 * B * cost->products, in + size * P, out);
        bench_add_pass(c, 0, through, through);
    }
    bench_add_pass(c, 2 * B * (cost->products - cost->first + cost->attention), out + size * P, in);
    bench_add_pass(c, 0, 2 * through, through);
    return step_case_count_rest(c);
}

/* ---- the cases ---- */

static psg_status prepare(bench_case *c, const model_kind *kind, psg_tensor input, const model_cost *cost) {
    model_case *s = bench_memory(c, sizeof *s);
    s->cost = cost;
    s->step.kind = kind;
    s->step.tape.input = input;
    TRY(step_case_start(c, &s->step, 10));
    c->count = count;
    c->residual = residual_of;
    return PSG_OK;
}

static psg_status prepare_cnn_mnist(bench_case *c) {
    static const model_cost cost = {
        .products = 16. * 64 * 196 + 32. * 256 * 25 + 32 * 512 + 320, .first = 16. * 64 * 196,
        .in = 784 + 16 * 169 + 512 + 32, .out = 16 * 196 + 32 * 25 + 32 + 10,
        .through = 16 * 196 + 16 * 169 + 32 * 25 + 512 + 32,
    };
    psg_tensor images = bench_uniform(c, 1.0, 4, (int64_t[]){ c->problem->dim[0], 1, 28, 28 });
    return prepare(c, &cnn_mnist_model, images, &cost);
}

static psg_status prepare_cnn_group_norm(bench_case *c) {
    static const model_cost cost = {
        .products = 1024. * (32 * 27 + 64 * 288) + 256. * 128 * 576 + 1280, .first = 1024. * 32 * 27,
        .in = 1024. * (3 + 32) + 256 * 64 + 128, .out = 1024. * (32 + 64) + 256 * 128 + 10,
        .through = 1024. * 2 * (32 + 64) + 256. * (64 + 2 * 128) + 128,
    };
    psg_tensor images = bench_uniform(c, 1.0, 4, (int64_t[]){ c->problem->dim[0], 3, 32, 32 });
    return prepare(c, &cnn_group_norm_model, images, &cost);
}

/* A layer, a token: projections 4 d^2, feed-forward 8 d^2, scores and values 2 T d; products read d for queries, keys
 * and values together, 3 d for attention, d, d and 4 d; norms, sums and the embedding write d each, GELU 4 d. */
static psg_status prepare_transformer(bench_case *c) {
    static const model_cost cost = {
        .products = 2. * TOKENS * (12. * 128 * 128 + 2. * TOKENS * 128) + 1280, .attention = 4. * TOKENS * TOKENS * 128,
        .in = 2. * TOKENS * 10 * 128 + 128, .out = 2. * TOKENS * 10 * 128 + 10,
        .through = TOKENS * 128. * (1 + 2 * 8) + 128,
    };
    int64_t B = c->problem->dim[0], *token = bench_memory(c, (size_t)(B * TOKENS) * sizeof *token);
    for (int64_t i = 0; i < B * TOKENS; i++) token[i] = i * 7919 % TOKEN_COUNT;
    return prepare(c, &transformer_model, psg_tensor_of(PSG_I64, token, 2, (int64_t[]){ B, TOKENS }), &cost);
}

static psg_status prepare_mlp_small(bench_case *c) {
    static const model_cost cost = { .products = 784 * 32 + 320, .first = 784 * 32, .in = 784 + 32, .out = 32 + 10,
                                     .through = 32 };
    return prepare(c, &mlp_small_model, bench_uniform(c, 1.0, 2, (int64_t[]){ c->problem->dim[0], 784 }), &cost);
}

/* A layer and step: three gates of 32 from the input and from the state; their values, and the state. */
static psg_status prepare_gru_small(bench_case *c) {
    static const model_cost cost = { .products = GRU_STEPS * 4. * 96 * 32 + 320, .first = GRU_STEPS * 96. * 32,
                                     .in = GRU_STEPS * 4. * 32 + 32, .out = GRU_STEPS * 4. * 96 + 10,
                                     .through = GRU_STEPS * 2. * 32 };
    psg_tensor x = bench_uniform(c, 1.0, 3, (int64_t[]){ c->problem->dim[0], GRU_STEPS, 32 });
    return prepare(c, &gru_small_model, x, &cost);
}

const bench_op bench_cnn_mnist_step = { "cnn_mnist_step", "B", 1, step_questions, prepare_cnn_mnist, NULL };
const bench_op bench_cnn_group_norm_step = { "cnn_group_norm_step", "B", 1, step_questions, prepare_cnn_group_norm,
                                             NULL };
const bench_op bench_transformer_step = { "transformer_step", "B", 1, step_questions, prepare_transformer, NULL };
const bench_op bench_mlp_small_step = { "mlp_small_step", "B", 1, step_questions, prepare_mlp_small, NULL };
const bench_op bench_gru_small_step = { "gru_small_step", "B", 1, step_questions, prepare_gru_small, NULL };
