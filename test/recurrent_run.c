/* The same network on a tape. */
#include <stdlib.h>
#include <string.h>

#include "recurrent_model.h"

enum { MOST_ARRAYS = 128 };

typedef struct run {
    psg_context *context;
    psg_tape *tape;
    psg_dtype dtype;
    const model *m;
    void *arrays[MOST_ARRAYS];
    int array_count;
    psg_param *params[MOST_WEIGHTS], *h0, *c0;
    psg_var x, h0_var, c0_var, y, h_n, c_n;
} run;

/* ---- arrays ---- */

static psg_tensor new_tensor(run *r, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_tensor tensor = psg_tensor_of(dtype, NULL, rank, shape);
    tensor.data = calloc((size_t)psg_tensor_count(&tensor) + 1, psg_dtype_size(dtype));
    assert_non_null(tensor.data);
    assert_true(r->array_count < MOST_ARRAYS);
    r->arrays[r->array_count++] = tensor.data;
    return tensor;
}

/* (B, rows, width) as the pass has it; a cell's without rows. */
static psg_tensor batched_tensor(run *r, int64_t rows, int64_t width) {
    int64_t batch = r->m->batch, shape[3] = { batch, rows, width };
    if (r->m->cell) return new_tensor(r, r->dtype, 2, (int64_t[]){ batch, width });
    if (r->m->batch_second) {
        shape[0] = rows;
        shape[1] = batch;
    }
    return new_tensor(r, r->dtype, 3, shape);
}

/* The place of element k of values sample by sample. */
static int64_t place_of(const model *m, int64_t rows, int64_t width, int64_t k) {
    int64_t column = k % width, row = k / width % rows, n = k / width / rows;
    return m->batch_second ? (row * m->batch + n) * width + column : k;
}

static psg_tensor batched(run *r, int64_t rows, int64_t width, const double *values) {
    psg_tensor tensor = batched_tensor(r, rows, width);
    for (int64_t k = 0; k < r->m->batch * rows * width; k++) {
        test_set_at(&tensor, place_of(r->m, rows, width, k), values[k]);
    }
    return tensor;
}

static void read_batched(const run *r, const psg_tensor *tensor, int64_t rows, int64_t width, double *values) {
    assert_int_equal(psg_tensor_count(tensor), r->m->batch * rows * width);
    if (tensor->rank == 3) {
        assert_int_equal(tensor->shape[r->m->batch_second ? 1 : 0], r->m->batch);
        assert_int_equal(tensor->shape[r->m->batch_second ? 0 : 1], rows);
    }
    for (int64_t k = 0; k < r->m->batch * rows * width; k++) {
        values[k] = test_get_at(tensor, place_of(r->m, rows, width, k));
    }
}

static psg_param *new_param(run *r, const char *name, int rank, const int64_t *shape, const double *values) {
    psg_tensor tensor = new_tensor(r, r->dtype, rank, shape);
    for (int64_t k = 0; k < psg_tensor_count(&tensor); k++) test_set_at(&tensor, k, values[k]);
    psg_param *param;
    TEST_OK(r->context, psg_param_create(r->context, name, &tensor, &param));
    return param;
}

/* ---- forward ---- */

static psg_var use_weight(run *r, const model_data *data, int at, int which) {
    int k = (r->m->tied ? 0 : at) * WEIGHT_KINDS + which;
    int64_t shape[2];
    if (!model_weight_shape(r->m, k, shape)) return psg_none();
    bool bias = which == BIH || which == BHH;
    if (!r->params[k]) {
        r->params[k] = new_param(r, "weight", bias ? 1 : 2, shape, data->weights[k]);
        psg_param_set_trainable(r->params[k], !(r->m->frozen >> which & 1u));
    }
    return psg_use(r->tape, r->params[k]);
}

static psg_var use_state(run *r, const double *values, int64_t width, psg_param **param) {
    int64_t rows = model_directions(r->m), shape[2] = { rows, width };
    if (!values) return psg_none();
    if (r->m->states == SHARED_STATES) {
        *param = new_param(r, "state", r->m->cell ? 1 : 2, r->m->cell ? shape + 1 : shape, values);
        return psg_use(r->tape, *param);
    }
    psg_tensor tensor = batched(r, rows, width, values);
    return psg_input_with_grad(r->tape, &tensor);
}

static psg_var use_lengths(run *r, const model_data *data) {
    if (!r->m->lengths) return psg_none();
    psg_tensor tensor = new_tensor(r, r->m->i32_lengths ? PSG_I32 : PSG_I64, 1, &r->m->batch);
    for (int64_t n = 0; n < r->m->batch; n++) test_set_at(&tensor, n, (double)data->lengths[n]);
    return psg_input(r->tape, &tensor);
}

static void apply_cell(run *r, const psg_rnn_weights *w) {
    psg_tape *tape = r->tape;
    if (r->m->kind == MODEL_RNN) {
        r->y = psg_rnn_cell(tape, r->x, r->h0_var, w, r->m->relu ? PSG_RNN_RELU : PSG_RNN_TANH);
    } else if (r->m->kind == MODEL_GRU) {
        r->y = psg_gru_cell(tape, r->x, r->h0_var, w);
    } else {
        r->y = psg_lstm_cell(tape, r->x, r->h0_var, r->c0_var, w, r->m->final_states ? &r->c_n : NULL);
    }
    r->h_n = r->y;
}

static void apply_layers(run *r, const model_data *data, const psg_rnn_weights *w) {
    const model *m = r->m;
    psg_rnn_options options = PSG_RNN_OPTIONS_INIT;
    options.num_layers = m->layers;
    options.bidirectional = m->directions == 2;
    options.dropout = m->dropout;
    options.nonlinearity = m->relu ? PSG_RNN_RELU : PSG_RNN_TANH;
    psg_var lengths = use_lengths(r, data), *h_n = m->final_states ? &r->h_n : NULL;
    psg_var *c_n = m->final_states ? &r->c_n : NULL;
    if (m->kind == MODEL_RNN) r->y = psg_rnn(r->tape, r->x, lengths, r->h0_var, w, &options, h_n);
    else if (m->kind == MODEL_GRU) r->y = psg_gru(r->tape, r->x, lengths, r->h0_var, w, &options, h_n);
    else r->y = psg_lstm(r->tape, r->x, lengths, r->h0_var, r->c0_var, w, &options, h_n, c_n);
}

static void forward(run *r, const model_data *data) {
    const model *m = r->m;
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = m->batch;
    pass.has_batch_size = 1;
    pass.loss_reduction = m->mean ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    pass.batch_second = m->batch_second;
    pass.ordinary = m->ordinary;
    pass.dropout_seed = 42;
    pass.sample_ids = m->ids;
    TEST_OK(r->context, psg_tape_begin(r->tape, &pass));
    psg_tensor x = batched(r, m->steps, m->input, data->x);
    r->x = m->no_input_grad ? psg_input(r->tape, &x) : psg_input_with_grad(r->tape, &x);
    r->h0_var = use_state(r, data->h0, model_output(m), &r->h0);
    r->c0_var = use_state(r, data->c0, m->hidden, &r->c0);
    psg_rnn_weights weights[6];
    for (int at = 0; at < (int)model_directions(m); at++) {
        weights[at] = (psg_rnn_weights){ use_weight(r, data, at, WIH), use_weight(r, data, at, WHH),
                                         use_weight(r, data, at, BIH), use_weight(r, data, at, BHH),
                                         use_weight(r, data, at, WHR) };
    }
    if (m->cell) apply_cell(r, weights);
    else apply_layers(r, data, weights);
    TEST_OK(r->context, psg_tape_status(r->tape));
}

/* ---- backward ---- */

/* <output, gradient>, one number a sample. */
static psg_var product_with(run *r, psg_var output, int64_t rows, int64_t width, const double *grad) {
    psg_tensor g = batched(r, rows, width, grad);
    int dims[2] = { r->m->batch_second ? 0 : 1, 2 }, count = g.rank == 3 ? 2 : 1;
    if (count == 1) dims[0] = 1;
    psg_var product = psg_mul(r->tape, output, psg_input(r->tape, &g));
    return psg_scale(r->tape, psg_mean(r->tape, product, count, dims, 0), (double)(rows * width));
}

static void backward(run *r, const model_data *data) {
    const model *m = r->m;
    int64_t rows = model_directions(m), width = m->directions * model_output(m);
    if (!m->final_states) {
        psg_tensor grad = batched(r, m->steps, width, data->grad_y);
        TEST_OK(r->context, psg_backward_from(r->tape, r->y, &grad));
        return;
    }
    psg_var loss = product_with(r, r->h_n, rows, model_output(m), data->grad_h);
    if (m->kind == MODEL_LSTM) {
        loss = psg_add(r->tape, loss, product_with(r, r->c_n, rows, m->hidden, data->grad_c));
    }
    if (m->steps) loss = psg_add(r->tape, loss, product_with(r, r->y, m->steps, width, data->grad_y));
    TEST_OK(r->context, psg_backward_from(r->tape, loss, NULL));
}

/* ---- results ---- */

static void take_value(const run *r, psg_var var, int64_t rows, int64_t width, double *values) {
    psg_tensor tensor;
    if (!values) return;
    TEST_OK(r->context, psg_value(r->tape, var, &tensor));
    read_batched(r, &tensor, rows, width, values);
}

static void take_grad(const run *r, psg_var var, int64_t rows, int64_t width, double *values) {
    psg_tensor tensor;
    if (!values) return;
    TEST_OK(r->context, psg_input_grad(r->tape, var, &tensor));
    read_batched(r, &tensor, rows, width, values);
}

/* Gradients of every sample; in an ordinary pass their sum, in the place of sample 0's. */
static double *norms_of(run *r, const psg_gradient *gradient) {
    int64_t batch = r->m->batch;
    double *norms = calloc((size_t)(2 * batch) + 1, sizeof *norms);
    assert_non_null(norms);
    TEST_OK(r->context, psg_sqnorm(r->context, &gradient, 1, norms, norms + batch, NULL));
    return norms;
}

static void take_param(run *r, const psg_param *param, model_result *result, int k) {
    psg_gradient gradient;
    if (!result->field[k]) {
        assert_int_equal(psg_gradient_of(r->tape, param, &gradient), PSG_ERR_STATE);
        return;
    }
    TEST_OK(r->context, psg_gradient_of(r->tape, param, &gradient));
    if (gradient.block_count > result->most_blocks) result->most_blocks = gradient.block_count;
    int64_t shape[3] = { r->m->ordinary ? 1 : r->m->batch };
    for (int d = 0; d < gradient.rank; d++) shape[d + 1] = gradient.shape[d];
    psg_tensor out = new_tensor(r, r->dtype, gradient.rank + 1, shape);
    if (r->m->ordinary) {
        psg_tensor sum = psg_tensor_of(r->dtype, out.data, gradient.rank, gradient.shape);
        const psg_gradient *list = &gradient;
        TEST_OK(r->context, psg_weighted_sum(r->context, &list, 1, NULL, PSG_OVERWRITE, &sum));
    } else {
        TEST_OK(r->context, psg_grad_sample(r->context, &gradient, 1.0, PSG_OVERWRITE, &out));
        result->norms[k] = norms_of(r, &gradient);
    }
    for (int64_t i = 0; i < psg_tensor_count(&out); i++) result->field[k][i] = test_get_at(&out, i);
}

static void take_results(run *r, model_result *result) {
    const model *m = r->m;
    int64_t rows = model_directions(m), output = model_output(m);
    take_value(r, r->y, m->steps, m->directions * output, result->field[Y]);
    take_value(r, r->h_n, rows, output, result->field[H_N]);
    take_value(r, r->c_n, rows, m->hidden, result->field[C_N]);
    take_grad(r, r->x, m->steps, m->input, result->field[GRAD_X]);
    if (r->h0) take_param(r, r->h0, result, GRAD_H0);
    else take_grad(r, r->h0_var, rows, output, result->field[GRAD_H0]);
    if (r->c0) take_param(r, r->c0, result, GRAD_C0);
    else take_grad(r, r->c0_var, rows, m->hidden, result->field[GRAD_C0]);
    for (int k = 0; k < MOST_WEIGHTS; k++) {
        if (r->params[k]) take_param(r, r->params[k], result, GRAD_WEIGHTS + k);
    }
}

void model_run(psg_context *context, psg_dtype dtype, const model *m, const model_data *data, model_result *result) {
    run r = { .context = context, .dtype = dtype, .m = m };
    model_result_new(m, result);
    TEST_OK(context, psg_tape_create(context, &r.tape));
    forward(&r, data);
    backward(&r, data);
    take_results(&r, result);
    psg_tape_destroy(r.tape);
    for (int k = 0; k < MOST_WEIGHTS; k++) psg_param_destroy(r.params[k]);
    psg_param_destroy(r.h0);
    psg_param_destroy(r.c0);
    for (int k = 0; k < r.array_count; k++) free(r.arrays[k]);
}
