#include "recurrent_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sizes ---- */

int64_t model_output(const model *m) { return m->projection ? m->projection : m->hidden; }
int64_t model_directions(const model *m) { return m->layers * m->directions; }

static int64_t gates_of(const model *m) { return m->kind == MODEL_LSTM ? 4 : m->kind == MODEL_GRU ? 3 : 1; }

bool model_weight_shape(const model *m, int k, int64_t shape[2]) {
    int at = k / WEIGHT_KINDS, which = k % WEIGHT_KINDS;
    if (at >= (m->tied ? 1 : model_directions(m))) return false;
    shape[0] = gates_of(m) * m->hidden;
    shape[1] = 1;
    if (which == WIH) shape[1] = at < m->directions ? m->input : m->directions * model_output(m);
    if (which == WHH) shape[1] = model_output(m);
    if (which == WHR) {
        shape[0] = m->projection;
        shape[1] = m->hidden;
    }
    return !(which == BIH && m->no_bias_ih) && !(which == BHH && m->no_bias_hh) && !(which == WHR && !m->projection);
}

/* ---- data ---- */

static double *draw(test_random *random, int64_t count, double scale) {
    double *values = calloc((size_t)count + 1, sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = (double)(float)(scale * test_normal(random));
    return values;
}

void model_data_new(test_random *random, const model *m, model_data *data) {
    int64_t rows = model_directions(m), output = model_output(m), b = m->batch, shape[2];
    int64_t states = m->states == BATCHED_STATES ? b : 1;
    *data = (model_data){ .x = draw(random, b * m->steps * m->input, 1) };
    data->grad_y = draw(random, b * m->steps * m->directions * output, 1);
    data->grad_h = draw(random, b * rows * output, 1);
    data->grad_c = draw(random, b * rows * m->hidden, 1);
    if (m->states) data->h0 = draw(random, states * rows * output, 1);
    if (m->states && m->kind == MODEL_LSTM) data->c0 = draw(random, states * rows * m->hidden, 1);
    for (int k = 0; k < MOST_WEIGHTS; k++) {
        if (model_weight_shape(m, k, shape)) data->weights[k] = draw(random, shape[0] * shape[1], 0.6);
    }
    data->lengths = calloc((size_t)b + 1, sizeof *data->lengths);
    assert_non_null(data->lengths);
    for (int64_t n = 0; n < b; n++) data->lengths[n] = m->lengths ? m->lengths[n] : m->steps;
}

void model_data_free(model_data *data) {
    double *arrays[] = { data->x, data->h0, data->c0, data->grad_y, data->grad_h, data->grad_c };
    for (size_t k = 0; k < sizeof arrays / sizeof arrays[0]; k++) free(arrays[k]);
    for (int k = 0; k < MOST_WEIGHTS; k++) free(data->weights[k]);
    free(data->lengths);
    *data = (model_data){ 0 };
}

static double *copy_of(const double *from, int64_t first, int64_t count) {
    double *copy = calloc((size_t)count + 1, sizeof *copy);
    assert_non_null(copy);
    return memcpy(copy, from + first, (size_t)count * sizeof *copy);
}

void model_alone(const model *m, const model_data *data, int64_t n, model *alone, model_data *one) {
    int64_t rows = model_directions(m), h = rows * model_output(m), c = rows * m->hidden, shape[2];
    int64_t x = m->steps * m->input, y = m->steps * m->directions * model_output(m);
    int64_t state = m->states == BATCHED_STATES ? n : 0;
    *one = (model_data){ copy_of(data->x, n * x, x), NULL, NULL, copy_of(data->grad_y, n * y, y),
                         copy_of(data->grad_h, n * h, h), copy_of(data->grad_c, n * c, c), { NULL }, NULL };
    if (data->h0) one->h0 = copy_of(data->h0, state * h, h);
    if (data->c0) one->c0 = copy_of(data->c0, state * c, c);
    for (int k = 0; k < MOST_WEIGHTS; k++) {
        if (model_weight_shape(m, k, shape)) one->weights[k] = copy_of(data->weights[k], 0, shape[0] * shape[1]);
    }
    one->lengths = calloc(1, sizeof *one->lengths);
    assert_non_null(one->lengths);
    one->lengths[0] = data->lengths[n];
    *alone = *m;
    alone->batch = 1;
    if (m->lengths) alone->lengths = one->lengths;
    if (m->ids) alone->ids = m->ids + n;
}

/* ---- results ---- */

void model_result_new(const model *m, model_result *r) {
    int64_t rows = model_directions(m), shape[2];
    *r = (model_result){ .batch = m->batch };
    bool lstm = m->kind == MODEL_LSTM;
    bool wants[GRAD_WEIGHTS] = { true, m->final_states, m->final_states && lstm, !m->no_input_grad, m->states != 0,
                                 m->states && lstm };
    int64_t h = rows * model_output(m), c = rows * m->hidden;
    int64_t counts[GRAD_WEIGHTS] = { m->steps * m->directions * model_output(m), h, c, m->steps * m->input, h, c };
    for (int k = 0; k < FIELDS; k++) {
        bool weight = k >= GRAD_WEIGHTS && model_weight_shape(m, k - GRAD_WEIGHTS, shape);
        if (weight && m->frozen >> (k - GRAD_WEIGHTS) % WEIGHT_KINDS & 1u) continue;
        if (weight ? false : k >= GRAD_WEIGHTS || !wants[k]) continue;
        r->of_sample[k] = weight ? shape[0] * shape[1] : counts[k];
        r->field[k] = calloc((size_t)(m->batch * r->of_sample[k]) + 1, sizeof(double));
        assert_non_null(r->field[k]);
    }
}

void model_result_free(model_result *result) {
    for (int k = 0; k < FIELDS; k++) {
        free(result->field[k]);
        free(result->norms[k]);
    }
    *result = (model_result){ 0 };
}

static const char *field_name(int k, char text[32]) {
    static const char *const names[] = { "y", "h_n", "c_n", "grad_x", "grad_h0", "grad_c0" };
    static const char *const weights[] = { "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr" };
    if (k < GRAD_WEIGHTS) return names[k];
    snprintf(text, 32, "%s_%d", weights[(k - GRAD_WEIGHTS) % WEIGHT_KINDS], (k - GRAD_WEIGHTS) / WEIGHT_KINDS);
    return text;
}

void model_near(const model *m, const model_result *actual, const model_result *expected, double tolerance) {
    char name[32], text[96];
    for (int k = 0; k < FIELDS; k++) {
        assert_true(!actual->field[k] == !expected->field[k]);
        assert_int_equal(actual->of_sample[k], expected->of_sample[k]);
        int64_t count = actual->field[k] ? m->batch * actual->of_sample[k] : 0;
        double largest = 0;
        for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(expected->field[k][i]));
        snprintf(text, sizeof text, "%s: %s", m->name, field_name(k, name));
        for (int64_t i = 0; i < count; i++) {
            test_near(actual->field[k][i], expected->field[k][i], tolerance * (1 + largest), text, i);
        }
    }
}

void model_same_sample(const model *m, const model_result *a, int64_t n, const model_result *b, int64_t k) {
    char name[32];
    for (int f = 0; f < FIELDS; f++) {
        if (!a->field[f]) continue;
        int64_t count = a->of_sample[f];
        if (memcmp(a->field[f] + n * count, b->field[f] + k * count, (size_t)count * sizeof(double)) == 0) continue;
        fail_msg("%s: %s of sample %lld differs", m->name, field_name(f, name), (long long)n);
    }
}
