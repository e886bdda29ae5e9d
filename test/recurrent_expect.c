/* What the formulas of PyTorch's documentation say, sample by sample, with gradients from test/graph.h. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"
#include "recurrent_model.h"

typedef struct sample_graph {
    const model *m;
    graph g;
    scalar *weights[MOST_WEIGHTS];
} sample_graph;

static scalar *new_scalars(int64_t count) {
    scalar *list = calloc((size_t)count + 1, sizeof *list);
    assert_non_null(list);
    return list;
}

static scalar *leaves(graph *g, int64_t count, const double *values) {
    scalar *list = new_scalars(count);
    for (int64_t i = 0; i < count; i++) list[i] = graph_leaf(g, values ? values[i] : 0);
    return list;
}

static scalar *weights_of(const sample_graph *s, int layer, int d, int which) {
    return s->weights[(s->m->tied ? 0 : layer * s->m->directions + d) * WEIGHT_KINDS + which];
}

/* sum_j w[row][j] x[j] (+ bias[row]) */
static scalar affine(graph *g, const scalar *w, const scalar *bias, int64_t row, int64_t n, const scalar *x) {
    scalar sum = bias ? bias[row] : graph_leaf(g, 0);
    for (int64_t j = 0; j < n; j++) sum = graph_add(g, sum, graph_multiply(g, w[row * n + j], x[j]));
    return sum;
}

typedef struct step_input {
    int layer, d;
    int64_t input;
    const scalar *x;
} step_input;

/* Gate q's two parts for unit k. */
static scalar part_x(sample_graph *s, const step_input *in, int q, int64_t k) {
    return affine(&s->g, weights_of(s, in->layer, in->d, WIH), weights_of(s, in->layer, in->d, BIH),
                  q * s->m->hidden + k, in->input, in->x);
}

static scalar part_h(sample_graph *s, const step_input *in, int q, int64_t k, const scalar *h) {
    return affine(&s->g, weights_of(s, in->layer, in->d, WHH), weights_of(s, in->layer, in->d, BHH),
                  q * s->m->hidden + k, model_output(s->m), h);
}

static scalar gate(sample_graph *s, const step_input *in, int q, int64_t k, const scalar *h) {
    return graph_add(&s->g, part_x(s, in, q, k), part_h(s, in, q, k, h));
}

static scalar lstm_unit(sample_graph *s, const step_input *in, int64_t k, const scalar *h, scalar c, scalar *new_c) {
    graph *g = &s->g;
    scalar i = graph_sigmoid(g, gate(s, in, 0, k, h)), f = graph_sigmoid(g, gate(s, in, 1, k, h));
    scalar cell = graph_tanh(g, gate(s, in, 2, k, h)), o = graph_sigmoid(g, gate(s, in, 3, k, h));
    *new_c = graph_add(g, graph_multiply(g, f, c), graph_multiply(g, i, cell));
    return graph_multiply(g, o, graph_tanh(g, *new_c));
}

static scalar gru_unit(sample_graph *s, const step_input *in, int64_t k, const scalar *h) {
    graph *g = &s->g;
    scalar r = graph_sigmoid(g, gate(s, in, 0, k, h)), z = graph_sigmoid(g, gate(s, in, 1, k, h));
    scalar n = graph_tanh(g, graph_add(g, part_x(s, in, 2, k), graph_multiply(g, r, part_h(s, in, 2, k, h))));
    return graph_add(g, graph_multiply(g, graph_subtract(g, h[k], n), z), n);
}

/* h (R) and c (H) become those after the step. */
static void step(sample_graph *s, const step_input *in, scalar *h, scalar *c) {
    const model *m = s->m;
    scalar *new_h = new_scalars(m->hidden);
    for (int64_t k = 0; k < m->hidden; k++) {
        if (m->kind == MODEL_LSTM) {
            new_h[k] = lstm_unit(s, in, k, h, c[k], &c[k]);
        } else if (m->kind == MODEL_GRU) {
            new_h[k] = gru_unit(s, in, k, h);
        } else {
            scalar a = gate(s, in, 0, k, h);
            new_h[k] = m->relu ? graph_relu(&s->g, a) : graph_tanh(&s->g, a);
        }
    }
    for (int64_t r = 0; r < model_output(m); r++) {
        h[r] = m->projection ? affine(&s->g, weights_of(s, in->layer, in->d, WHR), NULL, r, m->hidden, new_h)
                             : new_h[r];
    }
    free(new_h);
}

/* All layers; x (steps x input) is replaced by y (steps x directions R) of the last one. */
static scalar *run_layers(sample_graph *s, scalar *x, int64_t length, scalar *h, scalar *c) {
    const model *m = s->m;
    int64_t input = m->input, output = model_output(m), width = m->directions * output;
    for (int layer = 0; layer < m->layers; layer++) {
        scalar *y = leaves(&s->g, m->steps * width, NULL);
        for (int d = 0; d < m->directions; d++) {
            int64_t row = layer * m->directions + d;
            for (int64_t u = 0; u < length; u++) {
                int64_t t = d ? length - 1 - u : u;
                step_input in = { layer, d, input, x + t * input };
                step(s, &in, h + row * output, c + row * m->hidden);
                memcpy(y + t * width + d * output, h + row * output, (size_t)output * sizeof *y);
            }
        }
        free(x);
        x = y;
        input = width;
    }
    return x;
}

static void seed(graph *g, const scalar *list, int64_t count, const double *grad) {
    for (int64_t i = 0; i < count; i++) g->nodes[list[i]].grad += grad[i];
}

static void take(const graph *g, const scalar *list, bool gradients, double factor, model_result *r, int k, int64_t n) {
    if (!r->field[k]) return;
    for (int64_t i = 0; i < r->of_sample[k]; i++) {
        const graph_node *node = &g->nodes[list[i]];
        r->field[k][n * r->of_sample[k] + i] = gradients ? factor * node->grad : node->value;
    }
}

static scalar *initial(sample_graph *s, const double *given, int64_t n, int64_t width) {
    int64_t count = model_directions(s->m) * width;
    return leaves(&s->g, count, given && s->m->states == BATCHED_STATES ? given + n * count : given);
}

static void expect_sample(const model *m, const model_data *data, int64_t n, model_result *r) {
    sample_graph s = { .m = m };
    int64_t rows = model_directions(m), output = model_output(m), shape[2], y_count = m->steps * m->directions * output;
    for (int k = 0; k < MOST_WEIGHTS; k++) {
        if (model_weight_shape(m, k, shape)) s.weights[k] = leaves(&s.g, shape[0] * shape[1], data->weights[k]);
    }
    scalar *x0 = leaves(&s.g, m->steps * m->input, data->x + n * m->steps * m->input);
    scalar *x = new_scalars(m->steps * m->input), *h = initial(&s, data->h0, n, output);
    scalar *c = initial(&s, data->c0, n, m->hidden);
    scalar *h0 = new_scalars(rows * output), *c0 = new_scalars(rows * m->hidden);
    memcpy(x, x0, (size_t)(m->steps * m->input) * sizeof *x);
    memcpy(h0, h, (size_t)(rows * output) * sizeof *h);
    memcpy(c0, c, (size_t)(rows * m->hidden) * sizeof *c);
    scalar *y = run_layers(&s, x, data->lengths[n], h, c);
    seed(&s.g, y, y_count, data->grad_y + n * y_count);
    if (m->final_states) seed(&s.g, h, rows * output, data->grad_h + n * rows * output);
    if (m->final_states && m->kind == MODEL_LSTM) seed(&s.g, c, rows * m->hidden, data->grad_c + n * rows * m->hidden);
    graph_backward(&s.g);
    double factor = m->mean ? (double)m->batch : 1, shared = m->states == SHARED_STATES ? factor : 1;
    take(&s.g, y, false, 1, r, Y, n);
    take(&s.g, h, false, 1, r, H_N, n);
    take(&s.g, c, false, 1, r, C_N, n);
    take(&s.g, x0, true, 1, r, GRAD_X, n);
    take(&s.g, h0, true, shared, r, GRAD_H0, n);
    take(&s.g, c0, true, shared, r, GRAD_C0, n);
    for (int k = 0; k < MOST_WEIGHTS; k++) {
        if (s.weights[k]) take(&s.g, s.weights[k], true, factor, r, GRAD_WEIGHTS + k, n);
        free(s.weights[k]);
    }
    scalar *lists[] = { x0, h, c, h0, c0, y };
    for (size_t k = 0; k < sizeof lists / sizeof lists[0]; k++) free(lists[k]);
    graph_free(&s.g);
}

void model_expect(const model *m, const model_data *data, model_result *result) {
    model_result_new(m, result);
    for (int64_t n = 0; n < m->batch; n++) expect_sample(m, data, n, result);
}
