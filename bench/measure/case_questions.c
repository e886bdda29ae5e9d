/* The questions of psg/gradient.h asked of one factored block of raw arrays: the weight of a linear layer. */
#include <math.h>
#include <string.h>

#include "plan_passes.h"

enum { CHECKED = 4 };

typedef struct question_case {
    int64_t T, in, out;
    psg_tensor x, g, direction, sum;
    psg_tensor all;                     /* gram: the naive gradients of all samples */
    psg_block block;
    psg_gradient gradient;
    double *weights, *answer, *upper;   /* B; B, for gram B x B; B */
    void *dw, *naive_sum;               /* the naive loop's gradient of one sample and sum */
    double naive_answer;
} question_case;

/* ---- what is timed ---- */

static psg_status run_sqnorm(bench_case *c) {
    question_case *s = c->state;
    return psg_sqnorm(c->context, c->gradient, 1, s->answer, s->upper, &c->fallbacks);
}

static psg_status run_weighted_sum(bench_case *c) {
    question_case *s = c->state;
    return psg_weighted_sum(c->context, c->gradient, 1, s->weights, PSG_OVERWRITE, &s->sum);
}

static psg_status run_dot(bench_case *c) {
    question_case *s = c->state;
    return psg_dot(c->context, c->gradient, 1, &s->direction, s->answer);
}

static psg_status run_gram(bench_case *c) {
    question_case *s = c->state;
    return psg_gram(c->context, c->gradient, 1, s->answer);
}

static psg_status run_sum_of_squares(bench_case *c) {
    question_case *s = c->state;
    return psg_sum_of_squares(c->context, c->gradient, 1, PSG_OVERWRITE, &s->sum);
}

/* ---- naive: the gradient of one sample, then what the question wants of it ---- */

static void naive_gradient(bench_case *c, int64_t n, void *dw) {
    question_case *s = c->state;
    naive_of(c->dtype)->linear_weight((size_t)s->T, (size_t)s->in, (size_t)s->out, bench_at(&s->g, n * s->T * s->out),
                                      bench_at(&s->x, n * s->T * s->in), dw);
}

static void naive_sqnorm(bench_case *c, int64_t n) {
    question_case *s = c->state;
    naive_gradient(c, n, s->dw);
    s->naive_answer += naive_of(c->dtype)->dot((size_t)(s->in * s->out), s->dw, s->dw);
}

static void naive_weighted_sum(bench_case *c, int64_t n) {
    question_case *s = c->state;
    naive_gradient(c, n, s->dw);
    naive_of(c->dtype)->add((size_t)(s->in * s->out), s->weights[n], s->dw, s->naive_sum);
}

static void naive_dot(bench_case *c, int64_t n) {
    question_case *s = c->state;
    naive_gradient(c, n, s->dw);
    s->naive_answer += naive_of(c->dtype)->dot((size_t)(s->in * s->out), s->dw, s->direction.data);
}

/* A sample has B / 2 partners on average. */
static void naive_gram(bench_case *c, int64_t n) {
    question_case *s = c->state;
    int64_t size = s->in * s->out;
    void *dw = bench_at(&s->all, n * size);
    naive_gradient(c, n, dw);
    for (int64_t m = 0; m <= c->samples / 2; m++) {
        s->naive_answer += naive_of(c->dtype)->dot((size_t)size, dw, bench_at(&s->all, m % c->samples * size));
    }
}

static void naive_sum_of_squares(bench_case *c, int64_t n) {
    question_case *s = c->state;
    naive_gradient(c, n, s->dw);
    naive_of(c->dtype)->add_squares((size_t)(s->in * s->out), 1.0, s->dw, s->naive_sum);
}

/* ---- residuals ---- */

static double *reference_gradient(bench_case *c, const double *x, const double *g, int64_t n, double *dw) {
    question_case *s = c->state;
    naive_f64.linear_weight((size_t)s->T, (size_t)s->in, (size_t)s->out, g + n * s->T * s->out, x + n * s->T * s->in,
                            dw);
    return dw;
}

/* Squared norms and inner products with the direction, of the first samples; each relative to |grad| |direction|. */
static psg_status scalar_residual(bench_case *c, double *residual) {
    question_case *s = c->state;
    size_t size = (size_t)(s->in * s->out);
    int64_t checked = bench_check_count(c, 2.0 * (double)s->T * (double)size);
    const double *x = bench_to_f64(c, &s->x), *g = bench_to_f64(c, &s->g);
    const double *v = bench_asks(c, "dot") ? bench_to_f64(c, &s->direction) : NULL;
    double *dw = bench_memory(c, size * sizeof *dw);
    for (int64_t n = 0; n < checked; n++) {
        reference_gradient(c, x, g, n, dw);
        double square = naive_f64.dot(size, dw, dw);
        double expected = v ? naive_f64.dot(size, dw, v) : square;
        double scale = v ? sqrt(square * naive_f64.dot(size, v, v)) : square;
        *residual = fmax(*residual, fabs(s->answer[n] - expected) / scale);
    }
    return PSG_OK;
}

static psg_status sum_residual(bench_case *c, double *residual) {
    question_case *s = c->state;
    size_t size = (size_t)(s->in * s->out);
    const double *x = bench_to_f64(c, &s->x), *g = bench_to_f64(c, &s->g);
    double *dw = bench_memory(c, size * sizeof *dw), *sum = bench_memory(c, size * sizeof *sum);
    for (int64_t n = 0; n < c->samples; n++) {
        reference_gradient(c, x, g, n, dw);
        if (bench_asks(c, "weighted_sum")) naive_f64.add(size, s->weights[n], dw, sum);
        else naive_f64.add_squares(size, 1.0, dw, sum);
    }
    *residual = bench_error(c, (int64_t)size, s->sum.data, sum);
    return PSG_OK;
}

/* The corner of the first samples, relative to the norms of the two. */
static psg_status gram_residual(bench_case *c, double *residual) {
    question_case *s = c->state;
    size_t size = (size_t)(s->in * s->out);
    int64_t checked = c->samples < CHECKED ? c->samples : CHECKED;
    const double *x = bench_to_f64(c, &s->x), *g = bench_to_f64(c, &s->g);
    double *dw[CHECKED], norm[CHECKED];
    for (int64_t n = 0; n < checked; n++) {
        dw[n] = reference_gradient(c, x, g, n, bench_memory(c, size * sizeof **dw));
        norm[n] = sqrt(naive_f64.dot(size, dw[n], dw[n]));
        for (int64_t m = 0; m <= n; m++) {
            double expected = naive_f64.dot(size, dw[n], dw[m]);
            *residual = fmax(*residual, fabs(s->answer[n * c->samples + m] - expected) / (norm[n] * norm[m]));
        }
    }
    return PSG_OK;
}

/* ---- limits: norms and weighted sums as the plan has them, else the cheapest known way to the answer ---- */

static psg_status count(bench_case *c) {
    const question_case *s = c->state;
    double B = (double)c->samples, T = (double)s->T, in = (double)s->in, out = (double)s->out;
    double size = (double)psg_dtype_size(c->dtype), blocks = size * B * T * (in + out), w = size * in * out;
    double product = 2 * B * T * in * out;
    c->working_set = blocks + w;
    if (bench_asks(c, "sqnorm") || bench_asks(c, "weighted_sum")) return bench_add_plan(c, size);
    if (bench_asks(c, "dot")) {
        bench_add_pass(c, product, blocks + w, 8 * B);
    } else if (bench_asks(c, "gram")) {
        double pairs = B * (B + 1) * T * T * (in + out);
        bench_add_pass(c, fmin(pairs, product + B * (B + 1) * in * out), blocks, 8 * B * B);
    } else {
        bench_add_pass(c, product + 2 * B * in * out, blocks, w);
    }
    return PSG_OK;
}

/* ---- the cases ---- */

typedef struct entry {
    const char *name;
    psg_question question;
    psg_status (*run)(bench_case *c);
    void (*naive)(bench_case *c, int64_t sample);
    psg_status (*residual)(bench_case *c, double *residual);
} entry;

static const entry entries[] = {
    { "sqnorm", PSG_ASK_SQNORM, run_sqnorm, naive_sqnorm, scalar_residual },
    { "weighted_sum", PSG_ASK_WEIGHTED_SUM, run_weighted_sum, naive_weighted_sum, sum_residual },
    { "dot", PSG_ASK_DOT, run_dot, naive_dot, scalar_residual },
    { "gram", PSG_ASK_GRAM, run_gram, naive_gram, gram_residual },
    { "sum_of_squares", PSG_ASK_SUM_OF_SQUARES, run_sum_of_squares, naive_sum_of_squares, sum_residual },
};

static const char *const questions[] = { "sqnorm", "weighted_sum", "dot", "gram", "sum_of_squares", NULL };

static const entry *entry_of(const bench_case *c) {
    const entry *e = entries;
    while (strcmp(e->name, c->problem->question) != 0) e++;
    return e;
}

static void prepare_answers(bench_case *c, question_case *s) {
    int64_t weight[] = { s->out, s->in }, B = c->samples;
    s->direction = bench_uniform(c, 1.0, 2, weight);
    s->sum = bench_zeros(c, 2, weight);
    s->dw = bench_zeros(c, 2, weight).data;
    s->naive_sum = bench_zeros(c, 2, weight).data;
    if (bench_asks(c, "gram")) s->all = bench_zeros(c, 3, (int64_t[]){ B, s->out, s->in });
    s->answer = bench_memory(c, (size_t)(bench_asks(c, "gram") ? B * B : B) * sizeof *s->answer);
    s->upper = bench_memory(c, (size_t)B * sizeof *s->upper);
    s->weights = bench_memory(c, (size_t)B * sizeof *s->weights);
    for (int64_t n = 0; n < B; n++) s->weights[n] = 1.0 / (double)(n + 1);
}

static psg_status prepare(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    const entry *e = entry_of(c);
    question_case *s = bench_memory(c, sizeof *s);
    *s = (question_case){ .T = dim[1], .in = dim[2], .out = dim[3] };
    c->state = s;
    c->samples = dim[0];
    s->x = bench_uniform(c, 1.0, 3, (int64_t[]){ dim[0], dim[1], dim[2] });
    s->g = bench_uniform(c, 1.0, 3, (int64_t[]){ dim[0], dim[1], dim[3] });
    s->block = psg_factored(&s->g, &s->x);
    s->gradient = psg_gradient_of_blocks(&s->block, 1, 2, (int64_t[]){ s->out, s->in });
    c->gradient[0] = &s->gradient;
    c->gradient_count = 1;
    prepare_answers(c, s);
    c->count = count;
    c->question = e->question;
    c->run = e->run;
    c->naive = e->naive;
    c->residual = e->residual;
    return PSG_OK;
}

const bench_op bench_questions = { "linear", "B,T,in,out", 4, questions, prepare, NULL };
