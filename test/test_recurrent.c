/* RNN, LSTM and GRU against plain formulas, in every combination that PyTorch offers, and the laws: a sample alone, any
 * order of lengths, any number of threads, dropout between the layers. */
#include <math.h>
#include <string.h>

#include "recurrent_model.h"

/* ---- networks ---- */

static const int64_t descending[] = { 5, 3 }, any_order[] = { 2, 5, 0, 3, 5 }, all_zero[] = { 0, 0, 0 };
static const int64_t long_ones[] = { 3, 20, 1, 20, 7, 0, 19, 2, 11, 20, 4, 5, 17, 9, 20, 6, 1, 13, 20, 8, 3 };

#define SIZES(b, t, i, h) .batch = b, .steps = t, .input = i, .hidden = h
#define STACK(l, d) .layers = l, .directions = d

static const model models[] = {
    { "rnn", MODEL_RNN, SIZES(3, 4, 2, 3), STACK(1, 1) },
    { "rnn relu", MODEL_RNN, SIZES(2, 3, 2, 5), STACK(2, 2), .relu = true, .final_states = true },
    { "rnn, all of it", MODEL_RNN, SIZES(5, 5, 3, 4), STACK(2, 2), .states = BATCHED_STATES, .lengths = any_order,
      .final_states = true, .mean = true },
    { "rnn without biases", MODEL_RNN, SIZES(4, 3, 2, 3), STACK(2, 1), .no_bias_ih = true, .no_bias_hh = true },
    { "rnn with shared states", MODEL_RNN, SIZES(5, 5, 3, 4), STACK(2, 2), .states = SHARED_STATES,
      .lengths = any_order, .mean = true },
    { "lstm", MODEL_LSTM, SIZES(3, 4, 2, 3), STACK(1, 1) },
    { "lstm, batch second", MODEL_LSTM, SIZES(3, 4, 2, 3), STACK(2, 2), .batch_second = true },
    { "lstm, all of it", MODEL_LSTM, SIZES(5, 5, 3, 4), STACK(3, 2), .states = BATCHED_STATES, .lengths = any_order,
      .final_states = true, .mean = true, .projection = 2 },
    { "lstm, all of it, batch second", MODEL_LSTM, SIZES(5, 5, 3, 4), STACK(3, 2), .states = BATCHED_STATES,
      .lengths = any_order, .final_states = true, .projection = 3, .batch_second = true, .i32_lengths = true },
    { "lstm with shared states", MODEL_LSTM, SIZES(5, 5, 3, 4), STACK(2, 2), .states = SHARED_STATES,
      .lengths = any_order, .projection = 2, .batch_second = true },
    { "lstm, packed of PyTorch's tests", MODEL_LSTM, SIZES(2, 5, 2, 2), STACK(2, 1), .lengths = descending,
      .final_states = true },
    { "lstm without biases", MODEL_LSTM, SIZES(3, 3, 2, 4), STACK(2, 2), .no_bias_ih = true, .no_bias_hh = true },
    { "lstm with one bias", MODEL_LSTM, SIZES(3, 3, 2, 4), STACK(1, 1), .no_bias_ih = true },
    { "lstm with frozen weights", MODEL_LSTM, SIZES(3, 3, 2, 4), STACK(2, 1), .frozen = 1u << WIH | 1u << BHH },
    { "lstm with all weights frozen", MODEL_LSTM, SIZES(3, 3, 2, 4), STACK(2, 1), .frozen = 31 },
    { "lstm without input gradient", MODEL_LSTM, SIZES(3, 3, 2, 4), STACK(2, 2), .no_input_grad = true },
    { "lstm, tied", MODEL_LSTM, SIZES(3, 4, 4, 2), STACK(3, 2), .tied = true, .mean = true },
    { "lstm, many samples, odd sizes", MODEL_LSTM, SIZES(21, 20, 9, 19), STACK(1, 2), .lengths = long_ones,
      .final_states = true, .states = BATCHED_STATES },
    { "lstm, one sample", MODEL_LSTM, SIZES(1, 6, 3, 35), STACK(2, 1), .final_states = true },
    { "lstm, one step", MODEL_LSTM, SIZES(3, 1, 3, 4), STACK(2, 2), .states = BATCHED_STATES },
    { "lstm, no steps", MODEL_LSTM, SIZES(3, 0, 3, 4), STACK(2, 2), .states = BATCHED_STATES, .final_states = true },
    { "lstm, no steps, no states", MODEL_LSTM, SIZES(3, 0, 3, 4), STACK(1, 1) },
    { "lstm, no samples", MODEL_LSTM, SIZES(0, 4, 3, 4), STACK(2, 2), .states = BATCHED_STATES },
    { "lstm, no features", MODEL_LSTM, SIZES(3, 4, 0, 4), STACK(1, 2) },
    { "lstm, no units", MODEL_LSTM, SIZES(3, 4, 2, 0), STACK(2, 2), .final_states = true },
    { "lstm, lengths 0", MODEL_LSTM, SIZES(3, 4, 3, 4), STACK(2, 2), .lengths = all_zero, .states = BATCHED_STATES,
      .final_states = true },
    { "gru", MODEL_GRU, SIZES(3, 4, 2, 3), STACK(1, 1) },
    { "gru, all of it", MODEL_GRU, SIZES(5, 5, 3, 4), STACK(3, 2), .states = BATCHED_STATES, .lengths = any_order,
      .final_states = true, .mean = true },
    { "gru, all of it, batch second", MODEL_GRU, SIZES(5, 5, 3, 4), STACK(2, 2), .states = SHARED_STATES,
      .lengths = any_order, .final_states = true, .batch_second = true },
    { "gru with one bias", MODEL_GRU, SIZES(3, 3, 2, 4), STACK(2, 2), .no_bias_ih = true },
    { "gru with the other bias", MODEL_GRU, SIZES(3, 3, 2, 4), STACK(2, 2), .no_bias_hh = true },
    { "gru, frozen", MODEL_GRU, SIZES(3, 3, 2, 4), STACK(1, 1), .frozen = 1u << WHH | 1u << BIH },
    { "gru, odd sizes", MODEL_GRU, SIZES(21, 20, 5, 37), STACK(1, 2), .lengths = long_ones, .final_states = true },
    { "rnn_cell", MODEL_RNN, SIZES(3, 1, 2, 4), STACK(1, 1), .cell = true, .states = BATCHED_STATES },
    { "rnn_cell relu", MODEL_RNN, SIZES(3, 1, 2, 4), STACK(1, 1), .cell = true, .relu = true, .no_bias_hh = true },
    { "lstm_cell", MODEL_LSTM, SIZES(3, 1, 2, 4), STACK(1, 1), .cell = true, .states = BATCHED_STATES,
      .final_states = true },
    { "lstm_cell with shared states", MODEL_LSTM, SIZES(3, 1, 2, 4), STACK(1, 1), .cell = true,
      .states = SHARED_STATES, .mean = true },
    { "gru_cell", MODEL_GRU, SIZES(3, 1, 2, 4), STACK(1, 1), .cell = true, .states = BATCHED_STATES },
    { "gru_cell without a state", MODEL_GRU, SIZES(1, 1, 2, 4), STACK(1, 1), .cell = true },
};

enum { MODELS = sizeof models / sizeof models[0] };

/* f32: the gates' rounding, carried through all steps of these networks. */
static double tolerance(psg_dtype dtype) { return dtype == PSG_F64 ? 1e-12 : 2e-5; }

/* ---- values and gradients ---- */

static void compare_model(psg_context *context, const model *m) {
    test_random random = { 7 };
    model_data data;
    model_result expected, actual;
    model_data_new(&random, m, &data);
    model_expect(m, &data, &expected);
    for (psg_dtype dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        model_run(context, dtype, m, &data, &actual);
        model_near(m, &actual, &expected, tolerance(dtype));
        model_result_free(&actual);
    }
    model_result_free(&expected);
    model_data_free(&data);
}

static void values_and_gradients(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t i = 0; i < count; i++) {
        psg_context *context = test_context(2, isas[i]);
        for (int k = 0; k < MODELS; k++) compare_model(context, &models[k]);
        test_context_free(context);
    }
}

/* The ordinary gradient is the sum of the samples'. */
static void ordinary_gradients(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < MODELS; k++) {
        model m = models[k];
        if (!m.batch || m.states == SHARED_STATES) continue;
        m.mean = false;
        m.ordinary = true;
        test_random random = { 8 };
        model_data data;
        model_result expected, actual;
        model_data_new(&random, &m, &data);
        model_expect(&m, &data, &expected);
        model_run(context, PSG_F64, &m, &data, &actual);
        for (int f = GRAD_WEIGHTS; f < FIELDS; f++) {
            int64_t count = expected.field[f] ? expected.of_sample[f] : 0;
            for (int64_t i = 0; i < count; i++) {
                for (int64_t n = 1; n < m.batch; n++) expected.field[f][i] += expected.field[f][n * count + i];
                test_near(actual.field[f][i], expected.field[f][i], 1e-10, m.name, i);
            }
        }
        model_result_free(&expected);
        model_result_free(&actual);
        model_data_free(&data);
    }
    test_context_free(context);
}

/* ---- laws ---- */

/* Every sample has the bits that it has alone: with dropout and lengths, and the mean's factor apart. */
static void samples_are_alone(void **state) {
    (void)state;
    static const int64_t ids[] = { 7, -3, 1000, 0, 12, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 1, 2, 3, 4, 5, 6 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < MODELS; k++) {
        model m = models[k], alone;
        m.mean = false;
        m.dropout = m.layers > 1 ? 0.5 : 0;
        m.ids = ids;
        test_random random = { 9 };
        model_data data, one;
        model_result whole, single;
        model_data_new(&random, &m, &data);
        model_run(context, PSG_F32, &m, &data, &whole);
        for (int64_t n = 0; n < m.batch; n++) {
            model_alone(&m, &data, n, &alone, &one);
            model_run(context, PSG_F32, &alone, &one, &single);
            model_same_sample(&m, &whole, n, &single, 0);
            model_result_free(&single);
            model_data_free(&one);
        }
        model_result_free(&whole);
        model_data_free(&data);
    }
    test_context_free(context);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    model m = { "lstm of many samples", MODEL_LSTM, SIZES(70, 9, 13, 24), STACK(2, 2), .final_states = true };
    for (m.kind = MODEL_RNN; m.kind <= MODEL_GRU; m.kind++) {
        model_result first, other;
        for (unsigned threads = 1; threads <= 4; threads++) {
            psg_context *context = test_context(threads, NULL);
            test_random random = { 10 };
            model_data data;
            model_data_new(&random, &m, &data);
            model_run(context, PSG_F32, &m, &data, threads == 1 ? &first : &other);
            for (int64_t n = 0; n < m.batch && threads > 1; n++) model_same_sample(&m, &other, n, &first, n);
            if (threads > 1) model_result_free(&other);
            model_data_free(&data);
            test_context_free(context);
        }
        model_result_free(&first);
    }
}

/* Gradients of samples in the caller's order, whatever the order of their lengths (PyTorch's are sorted ones): the
 * samples of a batch are not permuted against those of the same batch with one length changed to the longest. */
static void lengths_keep_the_order(void **state) {
    (void)state;
    static const int64_t before[] = { 1, 4, 2, 3 }, after[] = { 1, 4, 4, 3 };
    psg_context *context = test_context(2, NULL);
    model m = { "lengths", MODEL_GRU, SIZES(4, 4, 2, 3), STACK(2, 2), .lengths = before, .final_states = true };
    test_random random = { 11 };
    model_data data;
    model_result a, b;
    model_data_new(&random, &m, &data);
    model_run(context, PSG_F64, &m, &data, &a);
    data.lengths[2] = 4;
    m.lengths = after;
    model_run(context, PSG_F64, &m, &data, &b);
    for (int64_t n = 0; n < 4; n++) {
        if (n != 2) model_same_sample(&m, &a, n, &b, n);
    }
    assert_memory_not_equal(a.field[GRAD_WEIGHTS] + 2 * a.of_sample[GRAD_WEIGHTS],
                            b.field[GRAD_WEIGHTS] + 2 * b.of_sample[GRAD_WEIGHTS], sizeof(double));
    model_result_free(&a);
    model_result_free(&b);
    model_data_free(&data);
    test_context_free(context);
}

/* Nothing is read beyond the length: garbage there changes nothing. */
static void nothing_beyond_the_length(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    model m = { "garbage", MODEL_LSTM, SIZES(5, 5, 3, 4), STACK(2, 2), .lengths = any_order, .final_states = true };
    test_random random = { 12 };
    model_data data;
    model_result clean, dirty;
    model_data_new(&random, &m, &data);
    model_run(context, PSG_F64, &m, &data, &clean);
    for (int64_t n = 0; n < m.batch; n++) {
        for (int64_t t = any_order[n]; t < m.steps; t++) data.grad_y[(n * m.steps + t) * 8] = 1e30;
    }
    for (int64_t n = 0; n < m.batch; n++) {
        for (int64_t t = any_order[n]; t < m.steps; t++) data.x[(n * m.steps + t) * m.input] = 1e30;
    }
    model_run(context, PSG_F64, &m, &data, &dirty);
    for (int64_t n = 0; n < m.batch; n++) model_same_sample(&m, &clean, n, &dirty, n);
    model_result_free(&clean);
    model_result_free(&dirty);
    model_data_free(&data);
    test_context_free(context);
}

static void pad(const model *m, model_data *data, double value) {
    for (int64_t n = 0; n < m->batch; n++) {
        double *x = data->x + n * m->steps * m->input;
        for (int64_t i = data->lengths[n] * m->input; i < m->steps * m->input; i++) x[i] = value;
    }
}

static void no_gradient_beyond(const model *m, const model_data *data, const model_result *result) {
    for (int64_t n = 0; n < m->batch; n++) {
        const double *grad = result->field[GRAD_X] + n * m->steps * m->input;
        for (int64_t i = data->lengths[n] * m->input; i < m->steps * m->input; i++) assert_true(grad[i] == 0);
    }
}

static void compare_padding(psg_context *context, psg_dtype dtype, const model *m) {
    static const double paddings[] = { NAN, INFINITY, -INFINITY, 1e20 };
    test_random random = { 14 };
    model_data data;
    model_result zeros, padded;
    model_data_new(&random, m, &data);
    pad(m, &data, 0);
    model_run(context, dtype, m, &data, &zeros);
    for (size_t p = 0; p < sizeof paddings / sizeof paddings[0]; p++) {
        pad(m, &data, paddings[p]);
        model_run(context, dtype, m, &data, &padded);
        for (int64_t n = 0; n < m->batch; n++) model_same_sample(m, &padded, n, &zeros, n);
        for (int k = GRAD_WEIGHTS; k < FIELDS; k++) {
            if (!zeros.norms[k]) continue;
            assert_memory_equal(padded.norms[k], zeros.norms[k], (size_t)(2 * m->batch) * sizeof(double));
        }
        no_gradient_beyond(m, &data, &padded);
        model_result_free(&padded);
    }
    model_result_free(&zeros);
    model_data_free(&data);
}

/* Padding of any value gives the bits of padding with zeros: gradients, their norms and the norms' bounds too. */
static void any_padding_will_do(void **state) {
    (void)state;
    static const model padded[] = {
        { "padding", 0, SIZES(5, 5, 3, 4), STACK(1, 1), .lengths = any_order },
        { "padding, all of it", 0, SIZES(5, 5, 3, 4), STACK(2, 2), .lengths = any_order, .final_states = true,
          .states = BATCHED_STATES },
        { "padding, odd sizes", 0, SIZES(21, 20, 19, 17), STACK(2, 2), .lengths = long_ones },
    };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < 2 * 3 * 4; k++) {
        model m = padded[k % 3];
        m.kind = k / 3 % 4 == 3 ? MODEL_LSTM : k / 3 % 4;
        m.projection = k / 3 % 4 == 3 ? 2 : 0;
        m.batch_second = k / 12;
        compare_padding(context, PSG_F32, &m);
        compare_padding(context, PSG_F64, &m);
    }
    test_context_free(context);
}

/* One block a weight, layer and direction, however many steps there are; a tied weight has one a use. */
static void one_block_over_all_steps(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    model m = { "blocks", MODEL_LSTM, SIZES(2, 12, 4, 2), STACK(2, 2), .projection = 0 };
    for (int tied = 0; tied <= 1; tied++) {
        for (m.kind = MODEL_RNN; m.kind <= MODEL_GRU; m.kind++) {
            m.tied = tied;
            test_random random = { 13 };
            model_data data;
            model_result result;
            model_data_new(&random, &m, &data);
            model_run(context, PSG_F64, &m, &data, &result);
            assert_int_equal(result.most_blocks, tied ? 4 : 1);
            model_result_free(&result);
            model_data_free(&data);
        }
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_gradients),
        cmocka_unit_test(ordinary_gradients),
        cmocka_unit_test(samples_are_alone),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(lengths_keep_the_order),
        cmocka_unit_test(nothing_beyond_the_length),
        cmocka_unit_test(any_padding_will_do),
        cmocka_unit_test(one_block_over_all_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
