/* What a recurrent layer refuses, in the forward pass and by name; and what libraries got wrong before: dropout between
 * layers, the shapes of the final states, gradients that silently are not there. */
#include <string.h>

#include "support.h"

/* ---- a network on a tape ---- */

enum { B = 3, T = 4, I = 2, H = 5 };
enum { RNN, LSTM, GRU };

static const int64_t gates_of[] = { 1, 4, 3 };

typedef struct fixture {
    psg_context *context;
    psg_tape *tape;
    test_random random;
    test_array arrays[64];
    int array_count;
    psg_param *params[32];
    int param_count;
    psg_pass pass;
} fixture;

static fixture start(void) {
    fixture f = { .context = test_context(2, NULL), .random = { 5 }, .pass = PSG_PASS_INIT };
    TEST_OK(f.context, psg_tape_create(f.context, &f.tape));
    return f;
}

static void finish(fixture *f) {
    psg_tape_destroy(f->tape);
    for (int k = 0; k < f->param_count; k++) psg_param_destroy(f->params[k]);
    for (int k = 0; k < f->array_count; k++) test_array_free(&f->arrays[k]);
    test_context_free(f->context);
}

static psg_tensor *tensor(fixture *f, int rank, const int64_t *shape) {
    assert_true(f->array_count < 64);
    test_array *array = &f->arrays[f->array_count++];
    *array = test_array_normal(&f->random, PSG_F32, rank, shape, TEST_CONTIGUOUS);
    return &array->view;
}

static psg_var param(fixture *f, int rank, int64_t rows, int64_t columns) {
    psg_param **made = &f->params[f->param_count++];
    TEST_OK(f->context, psg_param_create(f->context, "w", tensor(f, rank, (int64_t[]){ rows, columns }), made));
    return psg_use(f->tape, *made);
}

static psg_rnn_weights weights(fixture *f, int kind, int64_t input) {
    int64_t rows = gates_of[kind] * H;
    return (psg_rnn_weights){ param(f, 2, rows, input), param(f, 2, rows, H), param(f, 1, rows, 0),
                              param(f, 1, rows, 0), psg_none() };
}

static psg_var input(fixture *f, int rank, const int64_t *shape) {
    return psg_input_with_grad(f->tape, tensor(f, rank, shape));
}

static psg_var sequence(fixture *f) { return input(f, 3, (int64_t[]){ B, T, I }); }

static void begin(fixture *f) {
    f->pass.has_batch_size = 1;
    f->pass.batch_size = B;
    TEST_OK(f->context, psg_tape_begin(f->tape, &f->pass));
}

static psg_var apply(fixture *f, int kind, psg_var x, psg_var lengths, psg_var h0, const psg_rnn_weights *w,
                     const psg_rnn_options *options) {
    if (kind == RNN) return psg_rnn(f->tape, x, lengths, h0, w, options, NULL);
    if (kind == GRU) return psg_gru(f->tape, x, lengths, h0, w, options, NULL);
    return psg_lstm(f->tape, x, lengths, h0, psg_none(), w, options, NULL, NULL);
}

/* The pass has failed with the status and a message that begins with the op's name and holds the text. */
static void refused(const fixture *f, psg_status status, const char *op, const char *text) {
    const char *message = psg_tape_message(f->tape);
    assert_int_equal(psg_tape_status(f->tape), status);
    if (strncmp(message, op, strlen(op)) || !strstr(message, text)) {
        fail_msg("the message is \"%s\", must be of %s and say \"%s\"", message, op, text);
    }
}

/* ---- refusals ---- */

typedef psg_rnn_weights (*spoil)(fixture *f, psg_rnn_weights w);

static psg_rnn_weights ih_rank(fixture *f, psg_rnn_weights w) { w.weight_ih = param(f, 1, 4 * H, 0); return w; }
static psg_rnn_weights ih_gates(fixture *f, psg_rnn_weights w) { w.weight_ih = param(f, 2, 4 * H + 1, I); return w; }
static psg_rnn_weights ih_input(fixture *f, psg_rnn_weights w) { w.weight_ih = param(f, 2, 4 * H, I + 1); return w; }
static psg_rnn_weights hh_shape(fixture *f, psg_rnn_weights w) { w.weight_hh = param(f, 2, 4 * H, H + 1); return w; }
static psg_rnn_weights ih_bias(fixture *f, psg_rnn_weights w) { w.bias_ih = param(f, 1, H, 0); return w; }
static psg_rnn_weights hh_bias(fixture *f, psg_rnn_weights w) { w.bias_hh = param(f, 2, 4 * H, 1); return w; }
static psg_rnn_weights hr_shape(fixture *f, psg_rnn_weights w) { w.weight_hr = param(f, 2, 2, H); return w; }
static psg_rnn_weights hr_rank(fixture *f, psg_rnn_weights w) { w.weight_hr = param(f, 1, 2, 0); return w; }
static psg_rnn_weights no_ih(fixture *f, psg_rnn_weights w) { (void)f; w.weight_ih = psg_none(); return w; }
static psg_rnn_weights no_hh(fixture *f, psg_rnn_weights w) { (void)f; w.weight_hh = psg_none(); return w; }
static psg_rnn_weights batched(fixture *f, psg_rnn_weights w) {
    w.bias_ih = psg_input(f->tape, tensor(f, 1, (int64_t[]){ 4 * H }));
    return w;
}

static void weights_that_do_not_fit(void **state) {
    (void)state;
    static const struct { spoil spoil; psg_status status; const char *text; } cases[] = {
        { ih_rank, PSG_ERR_SHAPE, "weight_ih must have shape (4 hidden_size, input_size)" },
        { ih_gates, PSG_ERR_SHAPE, "weight_ih must have shape (4 hidden_size, input_size)" },
        { ih_input, PSG_ERR_SHAPE, "weight_ih must have shape (20, 2), has (20, 3)" },
        { hh_shape, PSG_ERR_SHAPE, "weight_hh must have shape (20, 5), has (20, 6)" },
        { ih_bias, PSG_ERR_SHAPE, "bias_ih must have shape (20), has (5)" },
        { hh_bias, PSG_ERR_SHAPE, "bias_hh must have shape (20), has (20, 1)" },
        { hr_shape, PSG_ERR_SHAPE, "weight_hh must have shape (20, 2), has (20, 5)" },
        { hr_rank, PSG_ERR_SHAPE, "weight_hr must have shape (proj_size, hidden_size)" },
        { no_ih, PSG_ERR_ARGUMENT, "weight_ih is absent" },
        { no_hh, PSG_ERR_ARGUMENT, "weight_hh is absent" },
        { batched, PSG_ERR_UNSUPPORTED, "bias_ih carries the batch, must be a parameter or a constant" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        fixture f = start();
        begin(&f);
        psg_var x = sequence(&f);
        psg_rnn_weights w = cases[k].spoil(&f, weights(&f, LSTM, I));
        apply(&f, LSTM, x, psg_none(), psg_none(), &w, NULL);
        refused(&f, cases[k].status, "lstm", cases[k].text);
        finish(&f);
    }
}

static void inputs_that_do_not_fit(void **state) {
    (void)state;
    static const struct { int rank; int64_t shape[4]; int second; psg_status status; const char *text; } cases[] = {
        { 2, { B, I }, 0, PSG_ERR_SHAPE, "input must have shape (N, T, input_size), has (3, 2)" },
        { 2, { B, I }, 1, PSG_ERR_SHAPE, "input must have shape (N, T, input_size), has (3, 2)" },
        { 4, { B, T, 1, I }, 0, PSG_ERR_SHAPE, "input must have shape (N, T, input_size)" },
        { 3, { T, B, I }, 0, PSG_ERR_BATCH, "batch" },
        { 3, { B, T, I }, 1, PSG_ERR_BATCH, "batch" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        for (int kind = RNN; kind <= GRU; kind++) {
            fixture f = start();
            f.pass.batch_second = cases[k].second;
            begin(&f);
            psg_var x = input(&f, cases[k].rank, cases[k].shape);
            psg_rnn_weights w = weights(&f, kind, I);
            apply(&f, kind, x, psg_none(), psg_none(), &w, NULL);
            refused(&f, cases[k].status, kind == RNN ? "rnn" : kind == LSTM ? "lstm" : "gru", cases[k].text);
            finish(&f);
        }
    }
}

static psg_var numbers(fixture *f, psg_dtype dtype, int64_t count, const int64_t *values, bool constant) {
    test_array *array = &f->arrays[f->array_count++];
    *array = test_array_new(&f->random, dtype, 1, &count, TEST_CONTIGUOUS);
    for (int64_t k = 0; k < count; k++) test_set_at(&array->view, k, (double)values[k]);
    return constant ? psg_constant(f->tape, &array->view) : psg_input(f->tape, &array->view);
}

static void lengths_that_do_not_fit(void **state) {
    (void)state;
    static const struct {
        psg_dtype dtype;
        int64_t count, values[B + 1];
        bool constant;
        psg_status status;
        const char *text;
    } cases[] = {
        { PSG_I64, B, { 1, 5, 2 }, false, PSG_ERR_ARGUMENT, "lengths[1] is 5, must be in [0, 4]" },
        { PSG_I32, B, { 1, 2, -1 }, false, PSG_ERR_ARGUMENT, "lengths[2] is -1, must be in [0, 4]" },
        { PSG_I64, B + 1, { 1, 2, 3, 4 }, false, PSG_ERR_SHAPE, "lengths must have shape (3), has (4)" },
        { PSG_F32, B, { 1, 2, 3 }, false, PSG_ERR_DTYPE, "lengths is f32, must be i32 or i64" },
        { PSG_I64, B, { 1, 2, 3 }, true, PSG_ERR_BATCH, "lengths carries no batch" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        fixture f = start();
        begin(&f);
        psg_var x = sequence(&f), n = numbers(&f, cases[k].dtype, cases[k].count, cases[k].values, cases[k].constant);
        psg_rnn_weights w = weights(&f, GRU, I);
        apply(&f, GRU, x, n, psg_none(), &w, NULL);
        refused(&f, cases[k].status, "gru", cases[k].text);
        finish(&f);
    }
}

static void states_that_do_not_fit(void **state) {
    (void)state;
    static const struct { int rank; int64_t shape[3]; bool parameter; const char *text; } cases[] = {
        { 3, { B, 2, H }, false, "hx must have shape (3, 1, 5), has (3, 2, 5)" },
        { 3, { 1, B, H }, false, "hx must have shape (3, 1, 5), has (1, 3, 5)" },
        { 3, { B, 1, H + 1 }, false, "hx must have shape (3, 1, 5), has (3, 1, 6)" },
        { 2, { B, H }, false, "hx must have shape (3, 1, 5), has (3, 5)" },
        { 2, { 2, H }, true, "hx must have shape (1, 5), has (2, 5)" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        fixture f = start();
        begin(&f);
        psg_var x = sequence(&f), h0;
        if (cases[k].parameter) h0 = param(&f, cases[k].rank, cases[k].shape[0], cases[k].shape[1]);
        else h0 = input(&f, cases[k].rank, cases[k].shape);
        psg_rnn_weights w = weights(&f, RNN, I);
        apply(&f, RNN, x, psg_none(), h0, &w, NULL);
        refused(&f, PSG_ERR_SHAPE, "rnn", cases[k].text);
        finish(&f);
    }
}

/* Empty arrays may be large: no product of sizes overflows. */
static void sizes_beyond_2_31(void **state) {
    (void)state;
    const int64_t most = INT64_MAX;
    for (int k = 0; k < 3; k++) {
        fixture f = start();
        begin(&f);
        psg_tensor wide = psg_tensor_of(PSG_F32, NULL, 3, (int64_t[]){ B, most / 64, 0 });
        psg_tensor high = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ k == 2 ? 0 : most / 8 - 3, k == 2 ? most / 8 : 0 });
        psg_var x = k ? sequence(&f) : psg_input(f.tape, &wide), constant = psg_constant(f.tape, &high);
        psg_rnn_weights w = weights(&f, LSTM, k ? I : 0);
        if (k == 1) w.weight_hr = constant;
        if (k == 2) w.weight_ih = constant;
        apply(&f, LSTM, x, psg_none(), psg_none(), &w, NULL);
        refused(&f, PSG_ERR_OVERFLOW, "lstm", "sizes must be below 2^31");
        finish(&f);
    }
    fixture f = start();
    begin(&f);
    psg_recurrent_attributes rows = { .state_row = 1, .state_rows = INT64_MIN };
    psg_rnn_weights w = weights(&f, RNN, I);
    const psg_var in[] = { sequence(&f), input(&f, 3, (int64_t[]){ B, 1, H }), psg_none(), w.weight_ih, w.weight_hh };
    psg_apply(f.tape, "rnn", in, 5, &rows);
    refused(&f, PSG_ERR_SHAPE, "rnn", "hx must have shape");
    finish(&f);
}

/* What is not turned at the door would be read in another order. */
static void constant_states_of_a_batch_second_pass(void **state) {
    (void)state;
    fixture f = start();
    f.pass.batch_second = 1;
    begin(&f);
    psg_var x = input(&f, 3, (int64_t[]){ T, B, I });
    psg_var h0 = psg_constant(f.tape, tensor(&f, 3, (int64_t[]){ B, B, H }));
    psg_rnn_weights w[B];
    for (int k = 0; k < B; k++) w[k] = weights(&f, RNN, k ? H : I);
    apply(&f, RNN, x, psg_none(), h0, w, &(psg_rnn_options){ .num_layers = B });
    refused(&f, PSG_ERR_BATCH, "rnn", "must be an input (psg_input) in a batch_second pass");
    finish(&f);
}

static void options_out_of_range(void **state) {
    (void)state;
    static const struct { psg_rnn_options options; int second; const char *text; } cases[] = {
        { { -1, 0, 0, 0, 0 }, 0, "num_layers is -1" },
        { { INT32_MAX, 1, 0, 0, 0 }, 0, "num_layers is 2147483647, must be in [1, 65536]" },
        { { 1, 0, 1.5, 0, 0 }, 0, "dropout is 1.5, must be in [0, 1]" },
        { { 1, 0, -0.5, 0, 0 }, 0, "dropout is -0.5" },
        { { 1, 0, 0, (psg_rnn_nonlinearity)3, 0 }, 0, "nonlinearity is 3" },
        { { 1, 0, 0, 0, PSG_RNN_BATCH_SECOND }, 0, "layout is 2, but the batch is dimension 0" },
        { { 1, 0, 0, 0, PSG_RNN_BATCH_FIRST }, 1, "layout is 1, but the batch is dimension 1" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        fixture f = start();
        f.pass.batch_second = cases[k].second;
        begin(&f);
        psg_var x = input(&f, 3, cases[k].second ? (int64_t[]){ T, B, I } : (int64_t[]){ B, T, I });
        psg_rnn_weights w = weights(&f, RNN, I);
        apply(&f, RNN, x, psg_none(), psg_none(), &w, &cases[k].options);
        refused(&f, PSG_ERR_ARGUMENT, "rnn", cases[k].text);
        finish(&f);
    }
}

static void what_only_lstm_has(void **state) {
    (void)state;
    fixture f = start();
    begin(&f);
    psg_var x = sequence(&f);
    psg_rnn_weights w = weights(&f, GRU, I);
    w.weight_hr = param(&f, 2, 2, H);
    apply(&f, GRU, x, psg_none(), psg_none(), &w, NULL);
    refused(&f, PSG_ERR_ARGUMENT, "gru", "weight_hr is given, but only lstm has one");
    begin(&f);
    psg_lstm(f.tape, sequence(&f), psg_none(), psg_none(), psg_none(), NULL, NULL, NULL, NULL);
    refused(&f, PSG_ERR_ARGUMENT, "lstm", "weights is NULL");
    begin(&f);
    psg_gru_cell(f.tape, input(&f, 2, (int64_t[]){ B, I }), psg_none(), NULL);
    refused(&f, PSG_ERR_ARGUMENT, "gru_cell", "weights is NULL");
    begin(&f);
    w = weights(&f, GRU, I);
    psg_gru_cell(f.tape, sequence(&f), psg_none(), &w);
    refused(&f, PSG_ERR_SHAPE, "gru_cell", "input must have shape (N, input_size), has (3, 4, 2)");
    finish(&f);
}

static void directions_must_agree(void **state) {
    (void)state;
    psg_rnn_options both = { 1, 1, 0, PSG_RNN_TANH, PSG_RNN_LAYOUT_OF_PASS };
    for (int k = 0; k < 3; k++) {
        fixture f = start();
        begin(&f);
        psg_var x = sequence(&f);
        psg_rnn_weights w[2] = { weights(&f, LSTM, I), weights(&f, LSTM, I) };
        if (k == 0) w[1].weight_hh = psg_none();
        if (k == 1) w[1].weight_hh = param(&f, 2, 4 * H, 2);
        if (k == 2) w[1].weight_hr = param(&f, 2, H, H);
        apply(&f, LSTM, x, psg_none(), psg_none(), w, &both);
        refused(&f, k == 1 ? PSG_ERR_SHAPE : PSG_ERR_ARGUMENT, "lstm",
                k == 0 ? "weight_hh_reverse is absent" : k == 1 ? "weight_hh_reverse must have shape (20, 5)"
                : "weight_hr must be given for both directions or for neither");
        finish(&f);
    }
}

/* ---- what others got wrong ---- */

/* Dropout lies between the layers, as psg_dropout between two one-layer networks; not on the last one's output, and not
 * in evaluation. */
static void dropout_between_layers(void **state) {
    (void)state;
    fixture f = start();
    psg_tensor *x = tensor(&f, 3, (int64_t[]){ B, T, I }), value;
    double values[2][B * T * H];
    psg_rnn_options two = { 2, 0, 0.5, PSG_RNN_TANH, PSG_RNN_LAYOUT_OF_PASS };
    static const int64_t names[B] = { 5, 2, 7 };
    f.pass.dropout_seed = 3;
    f.pass.sample_ids = names;
    begin(&f);
    weights(&f, LSTM, I);
    weights(&f, LSTM, H);
    for (int apart = 0; apart <= 1; apart++) {
        psg_rnn_weights used[2];
        begin(&f);
        psg_var y = psg_input(f.tape, x);
        for (int k = 0; k < 2; k++) {
            psg_var v[4];
            for (int q = 0; q < 4; q++) v[q] = psg_use(f.tape, f.params[4 * k + q]);
            used[k] = (psg_rnn_weights){ v[0], v[1], v[2], v[3], psg_none() };
        }
        if (apart) {
            y = psg_dropout(f.tape, apply(&f, LSTM, y, psg_none(), psg_none(), used, NULL), 0.5);
            y = apply(&f, LSTM, y, psg_none(), psg_none(), used + 1, NULL);
        } else {
            y = apply(&f, LSTM, y, psg_none(), psg_none(), used, &two);
        }
        TEST_OK(f.context, psg_value(f.tape, y, &value));
        for (int k = 0; k < B * T * H; k++) values[apart][k] = test_get_at(&value, k);
        for (int k = 0; k < B * T * H; k++) assert_true(values[apart][k] != 0);
    }
    assert_memory_equal(values[0], values[1], sizeof values[0]);
    f.pass.evaluation = 1;
    begin(&f);
    psg_rnn_weights plain[2];
    for (int k = 0; k < 2; k++) {
        plain[k] = (psg_rnn_weights){ psg_use(f.tape, f.params[4 * k]), psg_use(f.tape, f.params[4 * k + 1]),
                                      psg_use(f.tape, f.params[4 * k + 2]), psg_use(f.tape, f.params[4 * k + 3]),
                                      psg_none() };
    }
    psg_var y = apply(&f, LSTM, psg_input(f.tape, x), psg_none(), psg_none(), plain, &two);
    TEST_OK(f.context, psg_value(f.tape, y, &value));
    assert_true(test_get_at(&value, 0) != values[0][0]);
    finish(&f);
}

/* Rows of a sample are its layers and directions, whatever B; in the pass's layout. */
static void shapes_of_final_states(void **state) {
    (void)state;
    for (int second = 0; second <= 1; second++) {
        fixture f = start();
        f.pass.batch_second = second;
        begin(&f);
        psg_var x = input(&f, 3, second ? (int64_t[]){ T, B, I } : (int64_t[]){ B, T, I }), h, c;
        psg_rnn_options options = { 3, 1, 0, PSG_RNN_TANH, second ? PSG_RNN_BATCH_SECOND : PSG_RNN_BATCH_FIRST };
        psg_rnn_weights w[6];
        for (int k = 0; k < 6; k++) w[k] = weights(&f, LSTM, k < 2 ? I : 2 * H);
        psg_var y = psg_lstm(f.tape, x, psg_none(), psg_none(), psg_none(), w, &options, &h, &c);
        psg_tensor value;
        const int64_t want[2][3] = { { B, 6, H }, { 6, B, H } }, want_y[2][3] = { { B, T, 2 * H }, { T, B, 2 * H } };
        TEST_OK(f.context, psg_value(f.tape, h, &value));
        assert_int_equal(value.rank, 3);
        assert_memory_equal(value.shape, want[second], sizeof want[0]);
        TEST_OK(f.context, psg_value(f.tape, c, &value));
        assert_int_equal(value.rank, 3);
        assert_memory_equal(value.shape, want[second], sizeof want[0]);
        TEST_OK(f.context, psg_value(f.tape, y, &value));
        assert_memory_equal(value.shape, want_y[second], sizeof want_y[0]);
        finish(&f);
    }
}

/* Attached arrays are written; and the second pass takes no memory from the allocator. */
static void gradients_are_there(void **state) {
    (void)state;
    for (int kind = RNN; kind <= GRU; kind++) {
        fixture f = start();
        psg_tensor *x = tensor(&f, 3, (int64_t[]){ B, T, I });
        begin(&f);
        weights(&f, kind, I);
        for (int k = 0; k < 4; k++) {
            const psg_tensor *value = psg_param_value(f.params[k]);
            int64_t shape[3] = { B, value->shape[0], k < 2 ? value->shape[1] : 0 };
            psg_tensor *out = tensor(&f, value->rank + 1, shape);
            test_fill_value(out, -77);
            TEST_OK(f.context, psg_param_attach_grad_sample(f.params[k], out));
        }
        uint64_t allocations = 0;
        for (int pass = 0; pass < 3; pass++) {
            if (pass == 2) allocations = psg_context_allocations(f.context);
            for (int k = 0; k < 4; k++) psg_param_clear_grad_sample(f.params[k]);
            begin(&f);
            psg_rnn_weights w = { psg_use(f.tape, f.params[0]), psg_use(f.tape, f.params[1]),
                                  psg_use(f.tape, f.params[2]), psg_use(f.tape, f.params[3]), psg_none() };
            psg_var y = apply(&f, kind, psg_input_with_grad(f.tape, x), psg_none(), psg_none(), &w, NULL);
            TEST_OK(f.context, psg_backward_from(f.tape, y, NULL));
        }
        assert_int_equal(psg_context_allocations(f.context), allocations);
        for (int k = 0; k < 4; k++) {
            assert_true(psg_param_has_grad_sample(f.params[k]));
            const psg_tensor *out = &f.arrays[f.array_count - 4 + k].view;
            for (int64_t i = 0; i < psg_tensor_count(out); i++) assert_true(test_get_at(out, i) != -77);
        }
        finish(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_that_do_not_fit),
        cmocka_unit_test(inputs_that_do_not_fit),
        cmocka_unit_test(lengths_that_do_not_fit),
        cmocka_unit_test(states_that_do_not_fit),
        cmocka_unit_test(sizes_beyond_2_31),
        cmocka_unit_test(constant_states_of_a_batch_second_pass),
        cmocka_unit_test(options_out_of_range),
        cmocka_unit_test(what_only_lstm_has),
        cmocka_unit_test(directions_must_agree),
        cmocka_unit_test(dropout_between_layers),
        cmocka_unit_test(shapes_of_final_states),
        cmocka_unit_test(gradients_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
