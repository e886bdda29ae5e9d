/* What libraries got wrong before: dropout between layers, the shapes of the final states, gradients that silently are
 * not there. */
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
        cmocka_unit_test(dropout_between_layers),
        cmocka_unit_test(shapes_of_final_states),
        cmocka_unit_test(gradients_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
