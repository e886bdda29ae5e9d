/* A step of an MLP 784 - 512 - 256 - 10 with ReLU, beside naive loops and an f64 reference. */
#include <math.h>
#include <string.h>

#include "case_step.h"

enum { LAYERS = 3, PARAMS = 2 * LAYERS };

static const int64_t width[LAYERS + 1] = { 784, 512, 256, 10 };

/* Forward and backward of one sample by naive loops, in one real type. */
typedef struct naive_mlp {
    const naive_table *naive;
    const void *value[PARAMS];
    void *h[LAYERS + 1], *g[LAYERS + 1];    /* outputs of the layers, h[0] the input; their gradients */
    void *grad[PARAMS], *sum[PARAMS];
} naive_mlp;

typedef struct mlp_case {
    step_case step;                         /* the first member: c->state is both */
    naive_mlp naive;
    uint64_t noise;                         /* state of the naive loop's noise */
    double noise_sum;
} mlp_case;

static const model_param params[] = {
    { "weight_1", MODEL_UNIFORM, 2, { 512, 784 } }, { "bias_1", MODEL_SMALL, 1, { 512 } },
    { "weight_2", MODEL_UNIFORM, 2, { 256, 512 } }, { "bias_2", MODEL_SMALL, 1, { 256 } },
    { "weight_3", MODEL_UNIFORM, 2, { 10, 256 } },  { "bias_3", MODEL_SMALL, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var scores(psg_tape *tape, const psg_var *w, psg_var h) {
    for (int k = 0; k < LAYERS; k++) {
        h = psg_linear(tape, h, w[2 * k], w[2 * k + 1]);
        if (k + 1 < LAYERS) h = psg_relu(tape, h);
    }
    return h;
}

static const model_kind mlp = { "mlp", "784 - 512 - 256 - 10, relu", params, scores };

static size_t count_of(int k) {
    return (size_t)(width[k / 2 + 1] * (k % 2 ? 1 : width[k / 2]));
}

static size_t param_count(void) {
    size_t count = 0;
    for (int k = 0; k < PARAMS; k++) count += count_of(k);
    return count;
}

/* ---- naive ---- */

static void naive_gradients(naive_mlp *m, size_t label) {
    const naive_table *naive = m->naive;
    for (int k = 0; k < LAYERS; k++) {
        size_t in = (size_t)width[k], out = (size_t)width[k + 1];
        naive->linear(1, in, out, m->h[k], m->value[2 * k], m->value[2 * k + 1], m->h[k + 1]);
        if (k + 1 < LAYERS) naive->relu(out, m->h[k + 1], m->h[k + 1]);
    }
    naive->cross_entropy_backward((size_t)width[LAYERS], m->h[LAYERS], label, m->g[LAYERS]);
    for (int k = LAYERS - 1; k >= 0; k--) {
        size_t in = (size_t)width[k], out = (size_t)width[k + 1];
        naive->linear_weight(1, in, out, m->g[k + 1], m->h[k], m->grad[2 * k]);
        naive->linear_bias(1, out, m->g[k + 1], m->grad[2 * k + 1]);
        if (k == 0) break;
        naive->linear_input(1, in, out, m->g[k + 1], m->value[2 * k], m->g[k]);
        naive->relu_backward(in, m->h[k], m->g[k], m->g[k]);
    }
}

static double naive_norm_of(const naive_mlp *m) {
    double square = 0;
    for (int k = 0; k < PARAMS; k++) square += m->naive->dot(count_of(k), m->grad[k], m->grad[k]);
    return sqrt(square);
}

static void naive_add(naive_mlp *m, double factor) {
    for (int k = 0; k < PARAMS; k++) m->naive->add(count_of(k), factor, m->grad[k], m->sum[k]);
}

static int64_t label_of(const mlp_case *s, int64_t n) {
    return ((const int64_t *)s->step.labels.data)[n];
}

static void naive_plain(bench_case *c, int64_t n) {
    mlp_case *s = c->state;
    s->naive.h[0] = bench_at(&s->step.tape.input, n * width[0]);
    naive_gradients(&s->naive, (size_t)label_of(s, n));
    naive_add(&s->naive, 1.0);
}

/* Every sample bears its share of the noise of the step. */
static void naive_private(bench_case *c, int64_t n) {
    mlp_case *s = c->state;
    s->naive.h[0] = bench_at(&s->step.tape.input, n * width[0]);
    naive_gradients(&s->naive, (size_t)label_of(s, n));
    naive_add(&s->naive, fmin(1.0, 1.0 / naive_norm_of(&s->naive)));
    for (size_t i = 0; i < param_count() / (size_t)c->samples; i++) s->noise_sum += bench_gaussian(&s->noise);
}

static void prepare_naive(bench_case *c, mlp_case *s) {
    naive_mlp *m = &s->naive;
    m->naive = naive_of(c->dtype);
    for (int k = 0; k < PARAMS; k++) {
        m->value[k] = s->step.tape.value[k].data;
        m->grad[k] = bench_zeros(c, s->step.tape.value[k].rank, s->step.tape.value[k].shape).data;
        m->sum[k] = bench_zeros(c, s->step.tape.value[k].rank, s->step.tape.value[k].shape).data;
    }
    for (int k = 1; k <= LAYERS; k++) {
        m->h[k] = bench_zeros(c, 1, &width[k]).data;
        m->g[k] = bench_zeros(c, 1, &width[k]).data;
    }
}

/* ---- residual: of the sum over the batch, with the factors that the library found ---- */

static naive_mlp reference_start(bench_case *c, const mlp_case *s) {
    naive_mlp m = { .naive = &naive_f64 };
    for (int k = 0; k < PARAMS; k++) {
        m.value[k] = bench_to_f64(c, &s->step.tape.value[k]);
        m.grad[k] = bench_memory(c, count_of(k) * sizeof(double));
        m.sum[k] = bench_memory(c, count_of(k) * sizeof(double));
    }
    for (int k = 1; k <= LAYERS; k++) {
        m.h[k] = bench_memory(c, (size_t)width[k] * sizeof(double));
        m.g[k] = bench_memory(c, (size_t)width[k] * sizeof(double));
    }
    return m;
}

/* At weights that timed steps have moved, a hidden unit may come to lie so near the kink of its ReLU that f32 and f64
 * take different sides; the initial ones are always the same. */
static psg_status residual_of(bench_case *c, double *residual) {
    mlp_case *s = c->state;
    int plain = bench_asks(c, "plain");
    step_case_restore(&s->step);
    TRY(plain ? tape_forward_ordinary(c) : tape_forward(c));
    TRY(plain ? tape_plain_sum(c) : tape_clipped_sum(c));
    naive_mlp m = reference_start(c, s);
    double *x = bench_to_f64(c, &s->step.tape.input);
    for (int64_t n = 0; n < c->samples; n++) {
        m.h[0] = x + n * width[0];
        naive_gradients(&m, (size_t)label_of(s, n));
        naive_add(&m, plain ? 1.0 : s->step.tape.factors[n]);
    }
    for (int k = 0; k < PARAMS; k++) {
        *residual = fmax(*residual, bench_error(c, (int64_t)count_of(k), s->step.tape.sum[k].data, m.sum[k]));
    }
    return PSG_OK;
}

/* ---- limits ---- */

/* Layer by layer; the first has no input gradient.  A ReLU reads and writes its units, backward the gradient too. */
static psg_status count(bench_case *c) {
    double B = (double)c->samples, P = (double)param_count(), size = (double)psg_dtype_size(c->dtype);
    double units = 784 + 2 * (2 * 512 + 2 * 256 + 10);      /* activations and their gradients */
    int has_forward = !bench_asks(c, "clipped_sum");
    c->working_set = size * (B * units + (has_forward ? 4 : 2) * P);
    for (int k = 0; k < LAYERS; k++) {
        double in = (double)width[k], out = (double)width[k + 1], flops = 2 * B * in * out, w = in * out;
        if (has_forward) bench_add_pass(c, flops, size * (B * in + w), size * B * out);
        if (has_forward && k > 0) bench_add_pass(c, 0, size * B * in, size * B * in);
        if (k > 0) bench_add_pass(c, flops, size * (B * out + w), size * B * in);
        if (k > 0) bench_add_pass(c, 0, 2 * size * B * in, size * B * in);
    }
    return step_case_count_rest(c);
}

/* ---- the case ---- */

static psg_status prepare(bench_case *c) {
    mlp_case *s = bench_memory(c, sizeof *s);
    s->step.kind = &mlp;
    s->step.tape.input = bench_uniform(c, 1.0, 2, (int64_t[]){ c->problem->dim[0], width[0] });
    TRY(step_case_start(c, &s->step, width[LAYERS]));
    prepare_naive(c, s);
    c->count = count;
    c->residual = residual_of;
    if (!bench_asks(c, "clipped_sum")) c->naive = bench_asks(c, "plain") ? naive_plain : naive_private;
    return PSG_OK;
}

const bench_op bench_mlp_step = { "mlp_step", "B", 1, step_questions, prepare, NULL };
