/* A step of an MLP 784 - 512 - 256 - 10 with ReLU: private (forward, backward, clipped sum, noise, SGD), plain (the
 * library's own step without privacy), and clipped_sum (backward and clipped sum against backward and plain sum). */
#include <math.h>
#include <string.h>

#include "tape_case.h"

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
    tape_case tape;                         /* the first member: c->state is both */
    psg_tensor labels, update[PARAMS];
    void *initial[PARAMS];                  /* weights before the first step */
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *sgd;
    naive_mlp naive;
    uint64_t noise;                         /* state of the naive loop's noise */
    double noise_sum;
} mlp_case;

static size_t count_of(int k) {
    return (size_t)(width[k / 2 + 1] * (k % 2 ? 1 : width[k / 2]));
}

static size_t param_count(void) {
    size_t count = 0;
    for (int k = 0; k < PARAMS; k++) count += count_of(k);
    return count;
}

static psg_var record(tape_case *t, psg_var h) {
    static const psg_cross_entropy_options sum = { PSG_SUM, 0, 0, 0.0 };
    mlp_case *s = (mlp_case *)t;
    for (int k = 0; k < LAYERS; k++) {
        h = psg_linear(t->tape, h, psg_use(t->tape, t->param[2 * k]), psg_use(t->tape, t->param[2 * k + 1]));
        if (k + 1 < LAYERS) h = psg_relu(t->tape, h);
    }
    return psg_cross_entropy(t->tape, h, psg_input(t->tape, &s->labels), &sum);
}

/* ---- what is timed ---- */

static psg_status run_private(bench_case *c) {
    mlp_case *s = c->state;
    psg_clip_report report;
    TRY(tape_pass(c));
    TRY(psg_dp_accumulate(s->dp, c->gradient, PARAMS, &report));
    TRY(psg_dp_release(s->dp, s->update, PARAMS));
    c->fallbacks = report.fallbacks;
    return psg_optimizer_step(s->sgd, s->update, PARAMS);
}

static psg_status run_plain(bench_case *c) {
    mlp_case *s = c->state;
    TRY(tape_forward_ordinary(c));
    TRY(tape_plain_sum(c));
    return psg_optimizer_step(s->sgd, s->tape.sum, PARAMS);
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
    return ((const int64_t *)s->labels.data)[n];
}

static void naive_plain(bench_case *c, int64_t n) {
    mlp_case *s = c->state;
    s->naive.h[0] = bench_at(&s->tape.input, n * width[0]);
    naive_gradients(&s->naive, (size_t)label_of(s, n));
    naive_add(&s->naive, 1.0);
}

/* Every sample bears its share of the noise of the step. */
static void naive_private(bench_case *c, int64_t n) {
    mlp_case *s = c->state;
    s->naive.h[0] = bench_at(&s->tape.input, n * width[0]);
    naive_gradients(&s->naive, (size_t)label_of(s, n));
    naive_add(&s->naive, fmin(1.0, 1.0 / naive_norm_of(&s->naive)));
    for (size_t i = 0; i < param_count() / (size_t)c->samples; i++) s->noise_sum += bench_gaussian(&s->noise);
}

static void prepare_naive(bench_case *c, mlp_case *s) {
    naive_mlp *m = &s->naive;
    m->naive = naive_of(c->dtype);
    for (int k = 0; k < PARAMS; k++) {
        m->value[k] = s->tape.value[k].data;
        m->grad[k] = bench_zeros(c, s->tape.value[k].rank, s->tape.value[k].shape).data;
        m->sum[k] = bench_zeros(c, s->tape.value[k].rank, s->tape.value[k].shape).data;
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
        m.value[k] = bench_to_f64(c, &s->tape.value[k]);
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
static void restore_initial(const bench_case *c, const mlp_case *s) {
    for (int k = 0; k < PARAMS; k++) {
        memcpy(s->tape.value[k].data, s->initial[k], count_of(k) * psg_dtype_size(c->dtype));
    }
}

static psg_status residual_of(bench_case *c, double *residual) {
    mlp_case *s = c->state;
    int plain = bench_asks(c, "plain");
    restore_initial(c, s);
    TRY(plain ? tape_forward_ordinary(c) : tape_forward(c));
    TRY(plain ? tape_plain_sum(c) : tape_clipped_sum(c));
    naive_mlp m = reference_start(c, s);
    double *x = bench_to_f64(c, &s->tape.input);
    for (int64_t n = 0; n < c->samples; n++) {
        m.h[0] = x + n * width[0];
        naive_gradients(&m, (size_t)label_of(s, n));
        naive_add(&m, plain ? 1.0 : s->tape.factors[n]);
    }
    for (int k = 0; k < PARAMS; k++) {
        *residual = fmax(*residual, bench_error(c, (int64_t)count_of(k), s->tape.sum[k].data, m.sum[k]));
    }
    return PSG_OK;
}

/* ---- limits ---- */

/* Of all layers: product by product, so that small layers do not hide the bytes of large ones. */
static void add_backward_passes(bench_case *c) {
    double B = (double)c->samples, size = (double)psg_dtype_size(c->dtype);
    bench_pass inputs = { 0, 0, 0 }, weights = { 0, 0, 0 };
    for (int k = 0; k < LAYERS; k++) {
        double in = (double)width[k], out = (double)width[k + 1], flops = 2 * B * in * out;
        bench_pass input = { flops, size * (in * out + B * out), size * B * in };
        if (k > 0) inputs = (bench_pass){ inputs.flops + input.flops, inputs.read + input.read,
                                          inputs.written + input.written };
        weights = (bench_pass){ weights.flops + flops, weights.read + size * B * (in + out),
                                weights.written + size * in * out };
    }
    bench_add_pass(c, inputs.flops, inputs.read, inputs.written);
    bench_add_pass(c, weights.flops, weights.read, weights.written);
}

static void add_passes(bench_case *c) {
    double B = (double)c->samples, P = (double)param_count(), size = (double)psg_dtype_size(c->dtype);
    double units = 784 + 2 * (512 + 256 + 10);      /* activations and their gradients */
    c->working_set = size * (B * units + (bench_asks(c, "clipped_sum") ? 2 : 4) * P);
    add_backward_passes(c);
    if (bench_asks(c, "clipped_sum")) return;
    bench_add_pass(c, 2 * B * P, size * (P + B * (784 + 512 + 256)), size * B * (512 + 256 + 10));
    if (bench_asks(c, "private")) bench_add_pass(c, 0, 8 * P, size * P);    /* sum to noisy update */
    bench_add_pass(c, 0, 3 * size * P, 2 * size * P);                       /* SGD with momentum */
}

/* ---- the case ---- */

static void destroy(bench_case *c) {
    mlp_case *s = c->state;
    psg_dp_destroy(s->dp);
    psg_generator_destroy(s->generator);
    psg_optimizer_destroy(s->sgd);
    s->tape.destroy(c);
}

static psg_status create_step(bench_case *c, mlp_case *s) {
    static const unsigned char key[32] = { 0 };
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    int64_t counts[PARAMS];
    for (int k = 0; k < PARAMS; k++) {
        counts[k] = (int64_t)count_of(k);
        s->initial[k] = bench_zeros(c, s->tape.value[k].rank, s->tape.value[k].shape).data;
        memcpy(s->initial[k], s->tape.value[k].data, count_of(k) * psg_dtype_size(c->dtype));
        s->update[k] = bench_zeros(c, s->tape.value[k].rank, s->tape.value[k].shape);
    }
    dp.max_batch_size = c->samples;
    dp.expected_batch_size = (double)c->samples;
    dp.sample_rate = 0.01;
    sgd.lr = 1e-5;
    sgd.momentum = 0.9;
    TRY(psg_generator_create_seeded(c->context, key, &s->generator));
    TRY(psg_dp_create(c->context, s->generator, &dp, counts, PARAMS, &s->dp));
    return psg_sgd_create(c->context, &sgd, s->tape.value, PARAMS, &s->sgd);
}

static void choose(bench_case *c) {
    c->question = bench_asks(c, "plain") ? PSG_ASK_WEIGHTED_SUM : PSG_ASK_CLIPPED_SUM;
    c->residual = residual_of;
    if (bench_asks(c, "clipped_sum")) {
        c->before = tape_forward;
        c->run = tape_clipped_sum;
        c->before_plain = tape_forward_ordinary;
        c->plain = tape_plain_sum;
    } else if (bench_asks(c, "plain")) {
        c->run = run_plain;
        c->naive = naive_plain;
    } else {
        c->run = run_private;
        c->plain = run_plain;
        c->naive = naive_private;
    }
}

static psg_status prepare(bench_case *c) {
    mlp_case *s = bench_memory(c, sizeof *s);
    int64_t B = c->problem->dim[0], *label = bench_memory(c, (size_t)B * sizeof *label);
    c->samples = B;
    s->tape.record = record;
    s->tape.param_count = PARAMS;
    s->tape.input = bench_uniform(c, 1.0, 2, (int64_t[]){ B, width[0] });
    for (int64_t n = 0; n < B; n++) label[n] = n * 7 % width[LAYERS];
    s->labels = psg_i64_1d(label, B);
    for (int k = 0; k < LAYERS; k++) {
        double bound = 1.0 / sqrt((double)width[k]);
        s->tape.value[2 * k] = bench_uniform(c, bound, 2, (int64_t[]){ width[k + 1], width[k] });
        s->tape.value[2 * k + 1] = bench_uniform(c, bound, 1, &width[k + 1]);
    }
    prepare_naive(c, s);
    add_passes(c);
    choose(c);
    TRY(tape_case_start(c, &s->tape));
    c->destroy = destroy;
    return create_step(c, s);
}

static const char *const questions[] = { "private", "plain", "clipped_sum", NULL };

const bench_op bench_mlp_step = { "mlp_step", "B", 1, questions, prepare };
