/* Defects of other systems in look-up tables, and that they are not ours; numbered as in test_peer_defects.c. */
#include <math.h>
#include <string.h>

#include "small_pass.h"

enum { V = 6, D = 3, N = 2, T = 4 };
static const int64_t some_ids[N * T] = { 2, 0, 2, 5, 0, 0, 0, 1 };

static psg_var look_up(small_pass *f, psg_param *table, const psg_embedding_options *options) {
    psg_tensor ids = small_integers(f, some_ids, SHAPE(N, T));
    return psg_embedding(f->tape, psg_input(f->tape, &ids), psg_use(f->tape, table), options);
}

/* A1, d: the padding row gets no gradient and no part in the norm. */
static void embedding_padding_row_gets_no_gradient(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(V, D));
    psg_embedding_options options = { .has_padding_idx = 1, .padding_idx = 0 };
    for (int negative = 0; negative < 2; negative++) {
        options.padding_idx = negative ? -V : 0;
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        small_backward(&f, look_up(&f, table, &options), NULL);
        const double *grad = small_grad_sample(&f, table);
        double sqnorm[N];
        small_squared_norms(&f, table, sqnorm);
        for (int n = 0; n < N; n++) {
            for (int j = 0; j < D; j++) assert_true(grad[(n * V) * D + j] == 0);
        }
        assert_true(grad[2 * D] == 2 && grad[5 * D] == 1 && grad[(V + 1) * D] == 1);
        assert_true(fabs(sqnorm[0] - (4 + 1) * D) < 1e-12 && fabs(sqnorm[1] - D) < 1e-12);
    }
    small_close(&f);
}

/* A2: each occurrence counts 1 / (how often its id occurs in its own sample), as in a loop over the samples. */
static void embedding_frequency_is_the_samples_own(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(V, D));
    psg_embedding_options options = { .scale_grad_by_freq = 1 };
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    small_backward(&f, look_up(&f, table, &options), NULL);
    const double *grad = small_grad_sample(&f, table);
    for (int n = 0; n < N; n++) {
        for (int v = 0; v < V; v++) {
            bool occurs = false;
            for (int t = 0; t < T; t++) occurs |= some_ids[n * T + t] == v;
            test_near(grad[(n * V + v) * D], occurs ? 1 : 0, 1e-15, "row", n * V + v);
        }
    }
    small_close(&f);
}

/* A5: a table that is the last layer's weight too gets the sum of both, whatever their forms. */
static void a_table_tied_to_a_linear_layer_is_summed(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(V, D)), *copy = small_parameter(&f, "copy", SHAPE(V, D));
    memcpy(psg_param_value(copy)->data, psg_param_value(table)->data, V * D * sizeof(double));
    psg_tensor grad_output = small_normal(&f, SHAPE(N, T, V));
    const double *grad[3] = { NULL };
    for (int tied = 1; tied >= 0; tied--) {
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        psg_var h = psg_tanh(f.tape, look_up(&f, table, NULL));
        psg_var y = psg_linear(f.tape, h, psg_use(f.tape, tied ? table : copy), psg_none());
        small_backward(&f, y, &grad_output);
        grad[tied ? 2 : 0] = small_grad_sample(&f, table);
        if (!tied) grad[1] = small_grad_sample(&f, copy);
    }
    for (int i = 0; i < N * V * D; i++) test_near(grad[2][i], grad[0][i] + grad[1][i], 1e-12, "tied", i);
    small_close(&f);
}

/* B23: i32 ids, backward included. */
static void i32_ids_are_ids(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(V, D));
    psg_tensor narrow = small_zeros(&f, PSG_I32, SHAPE(N, T)), grad_output = small_normal(&f, SHAPE(N, T, D));
    for (int k = 0; k < N * T; k++) test_set_at(&narrow, k, (double)some_ids[k]);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    small_backward(&f, look_up(&f, table, NULL), &grad_output);
    const double *wide = small_grad_sample(&f, table);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var ids = psg_input(f.tape, &narrow);
    small_backward(&f, psg_embedding(f.tape, ids, psg_use(f.tape, table), NULL), &grad_output);
    assert_memory_equal(small_grad_sample(&f, table), wide, N * V * D * sizeof(double));
    small_close(&f);
}

/* C: ids without a batch, [T] or [1, T], serve every sample: positions. */
static void positions_are_broadcast_over_the_batch(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(V, D));
    psg_tensor x = small_normal(&f, SHAPE(N, T, D)),
               positions = small_integers(&f, (int64_t[]){ 0, 1, 2, 3 }, SHAPE(1, T));
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var input = psg_input(f.tape, &x), ids = psg_constant(f.tape, &positions);
    psg_var rows = psg_embedding(f.tape, ids, psg_use(f.tape, table), NULL);
    psg_tensor grad_output = small_normal(&f, SHAPE(N, T, D));
    small_backward(&f, psg_add(f.tape, input, rows), &grad_output);
    const double *grad = small_grad_sample(&f, table);
    for (int n = 0; n < N; n++) {
        for (int i = 0; i < V * D; i++) {
            double expected = i < T * D ? test_get_at(&grad_output, n * T * D + i) : 0;
            test_near(grad[n * V * D + i], expected, 1e-15, "position", n * V * D + i);
        }
    }
    small_close(&f);
}

/* c: repeated ids and maxima: what is clipped is as long as it is said to be. */
static void bags_are_clipped_to_their_bound(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(V, D));
    psg_tensor ids = small_integers(&f, (int64_t[]){ 3, 3, 3, 3, 1, 2, 1, 5 }, SHAPE(N, T));
    for (int mode = PSG_BAG_MEAN; mode <= PSG_BAG_MAX; mode++) {
        psg_embedding_bag_options options = { .mode = (psg_bag_mode)mode };
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        psg_var y = psg_embedding_bag(f.tape, psg_input(f.tape, &ids), psg_use(f.tape, table), psg_none(), psg_none(),
                                      &options);
        small_backward(&f, y, NULL);
        const double *grad = small_grad_sample(&f, table);
        double expected = mode == PSG_BAG_SUM ? 4 : 1; /* four times the same row */
        for (int j = 0; j < D; j++) test_near(grad[3 * D + j], expected, 1e-15, "row 3 of sample 0", j);
        small_check_contribution(&f, table);
    }
    small_close(&f);
}

/* o: norms, sums and sparse gradients of a large table never make (B, V, D). */
static void large_tables_stay_sparse(void **state) {
    (void)state;
    enum { ROWS = 200000, WIDTH = 8, BATCH = 16 };
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(ROWS, WIDTH));
    psg_tensor ids = small_zeros(&f, PSG_I64, SHAPE(BATCH, T));
    test_fill_integers(&f.random, &ids, 0, ROWS - 1);
    size_t before = psg_context_live_bytes(f.context);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    small_backward(&f, psg_embedding(f.tape, psg_input(f.tape, &ids), psg_use(f.tape, table), NULL), NULL);
    double sqnorm[BATCH];
    small_squared_norms(&f, table, sqnorm);
    psg_gradient gradient = small_gradient_of(&f, table);
    psg_tensor found = small_zeros(&f, PSG_I64, SHAPE(BATCH, T)),
               rows = small_zeros(&f, PSG_F64, SHAPE(BATCH, T, WIDTH));
    int64_t counts[BATCH];
    TEST_OK(f.context, psg_grad_sample_sparse(f.context, &gradient, 1.0, &found, &rows, counts));
    assert_true(counts[0] >= 1 && counts[0] <= T);
    assert_true(psg_context_live_bytes(f.context) - before < sizeof(double) * ROWS * WIDTH / 2);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding_padding_row_gets_no_gradient),
        cmocka_unit_test(embedding_frequency_is_the_samples_own),
        cmocka_unit_test(a_table_tied_to_a_linear_layer_is_summed),
        cmocka_unit_test(i32_ids_are_ids),
        cmocka_unit_test(positions_are_broadcast_over_the_batch),
        cmocka_unit_test(bags_are_clipped_to_their_bound),
        cmocka_unit_test(large_tables_stay_sparse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
