/* Augmentations: the gradient of a record is the mean of its views' gradients, and a record is what it is alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "psg/ops.h"
#include "small_pass.h"

enum { B = 3, K = 4, ROWS = B * K, T = 5, D = 6, MOST = 4 * D * D + 64 };

typedef struct fixture {
    small_pass f;
    psg_param *square, *bias, *filter, *table, *ih, *hh;
    psg_tensor x, ids, labels;     /* (ROWS, T, D), (ROWS, T), (ROWS) */
    int64_t row, rows;             /* of this pass */
} fixture;

static void open_fixture(fixture *n) {
    int64_t ids[ROWS * T], labels[ROWS];
    small_open(&n->f);
    n->square = small_parameter(&n->f, "square", SHAPE(D, D));
    n->bias = small_parameter(&n->f, "bias", SHAPE(D));
    n->filter = small_parameter(&n->f, "filter", SHAPE(2, T, 3));
    n->table = small_parameter(&n->f, "table", SHAPE(7, D));
    n->ih = small_parameter(&n->f, "ih", SHAPE(4 * D, D));
    n->hh = small_parameter(&n->f, "hh", SHAPE(4 * D, D));
    n->x = small_normal(&n->f, SHAPE(ROWS, T, D));
    for (int k = 0; k < ROWS * T; k++) ids[k] = (k * k + k / 3) % 7;
    for (int k = 0; k < ROWS; k++) labels[k] = (k * 5 + k / 4) % D;
    n->ids = small_integers(&n->f, ids, SHAPE(ROWS, T));
    n->labels = small_integers(&n->f, labels, SHAPE(ROWS));
}

static psg_var rows_of(const fixture *n, const psg_tensor *all) {
    psg_tensor part = *all;
    part.data = (char *)all->data + (size_t)(n->row * all->stride[0]) * 8;
    part.shape[0] = n->rows;
    return psg_input(n->f.tape, &part);
}

static psg_var use(const fixture *n, psg_param *param) { return psg_use(n->f.tape, param); }

static psg_var linear(const fixture *n) {
    return psg_linear(n->f.tape, rows_of(n, &n->x), use(n, n->square), use(n, n->bias));
}

static psg_var conv(const fixture *n) {
    return psg_conv1d(n->f.tape, rows_of(n, &n->x), use(n, n->filter), psg_none(), NULL);
}

static psg_var norm(const fixture *n) {
    int64_t shape[] = { D };
    return psg_layer_norm(n->f.tape, rows_of(n, &n->x), 1, shape, use(n, n->bias), psg_none(), 1e-5);
}

static psg_var lookup(const fixture *n) {
    return psg_embedding(n->f.tape, rows_of(n, &n->ids), use(n, n->table), NULL);
}

static psg_var positions(const fixture *n) {   /* of the same rows in every view */
    psg_tensor ids = psg_i64_1d((const int64_t *)n->ids.data, T);
    psg_var x = rows_of(n, &n->x), p = psg_embedding(n->f.tape, psg_constant(n->f.tape, &ids), use(n, n->table), NULL);
    return psg_add(n->f.tape, x, p);
}

static psg_var lstm(const fixture *n) {
    psg_rnn_weights weights = { use(n, n->ih), use(n, n->hh), psg_none(), psg_none(), psg_none() };
    return psg_lstm(n->f.tape, rows_of(n, &n->x), psg_none(), psg_none(), psg_none(), &weights, NULL, NULL, NULL);
}

static psg_var tied(const fixture *n) {
    psg_var h = psg_tanh(n->f.tape, linear(n));
    return psg_linear(n->f.tape, h, use(n, n->square), psg_none());
}

static psg_var tied_table(const fixture *n) {
    return psg_linear(n->f.tape, psg_tanh(n->f.tape, lookup(n)), use(n, n->table), psg_none());
}

static psg_var derived(const fixture *n) {
    psg_var weight = psg_weight_standardize(n->f.tape, use(n, n->square), psg_none(), NULL);
    return psg_linear(n->f.tape, rows_of(n, &n->x), weight, psg_none());
}

static psg_var part(const fixture *n) {
    psg_var weight = psg_transpose(n->f.tape, use(n, n->square), 0, 1);
    return psg_linear(n->f.tape, rows_of(n, &n->x), weight, psg_none());
}

static psg_var dropped(const fixture *n) { return psg_dropout(n->f.tape, linear(n), 0.5); }

typedef struct layer { const char *name; psg_var (*apply)(const fixture *n); } layer;

static const layer layers[] = {
    { "linear", linear }, { "conv", conv }, { "layer_norm", norm }, { "embedding", lookup }, { "positions", positions },
    { "lstm", lstm }, { "tied", tied }, { "tied table", tied_table }, { "derived", derived }, { "part", part },
};

static psg_status walk(fixture *n, const layer *l, psg_pass pass, int64_t row, int64_t rows) {
    n->row = row;
    n->rows = rows;
    small_begin(&n->f, pass);
    psg_var y = psg_square(n->f.tape, l->apply(n));
    return psg_backward(n->f.tape, psg_mean(n->f.tape, y, 3, (int[]){ 0, 1, 2 }, 0));
}

static void grad_sample(fixture *n, const psg_param *param, int64_t samples, double *out) {
    psg_gradient gradient;
    memset(out, 0, (size_t)(samples * MOST) * sizeof *out);
    if (psg_gradient_of(n->f.tape, param, &gradient)) return;   /* unused */
    int64_t shape[4] = { samples };
    memcpy(shape + 1, gradient.shape, (size_t)gradient.rank * sizeof *shape);
    psg_tensor view = psg_tensor_of(PSG_F64, out, gradient.rank + 1, shape);
    TEST_OK(n->f.context, psg_grad_sample(n->f.context, &gradient, 1, PSG_OVERWRITE, &view));
}

static const psg_pass with_views = { .views = K }, without = { 0 };

static void a_record_has_the_mean_of_its_views(void **state) {
    (void)state;
    static double of_records[B * MOST], of_rows[ROWS * MOST];
    fixture n;
    open_fixture(&n);
    for (size_t l = 0; l < sizeof layers / sizeof layers[0]; l++) {
        for (int p = 0; p < n.f.params; p++) {
            int64_t count = psg_tensor_count(psg_param_value(n.f.param[p]));
            const psg_status status = walk(&n, &layers[l], with_views, 0, ROWS);
            if (status) fail_msg("%s: %s", layers[l].name, psg_tape_message(n.f.tape));
            assert_int_equal(psg_tape_batch_size(n.f.tape), B);
            grad_sample(&n, n.f.param[p], B, of_records);
            TEST_OK(n.f.context, walk(&n, &layers[l], without, 0, ROWS));
            grad_sample(&n, n.f.param[p], ROWS, of_rows);
            for (int64_t i = 0; i < B * count; i++) {
                double mean = 0, size = 0;
                for (int v = 0; v < K; v++) {
                    double one = of_rows[(i / count * K + v) * count + i % count];
                    mean += one / K;
                    size += fabs(one);
                }
                test_near(of_records[i], mean, 1e-14 * (size + 1), layers[l].name, i);
            }
        }
    }
    small_close(&n.f);
}

/* One record with its views alone gives the bits that it has among others. */
static void a_record_is_what_it_is_alone(void **state) {
    (void)state;
    static double together[B * MOST], alone[MOST];
    fixture n;
    open_fixture(&n);
    for (size_t l = 0; l < sizeof layers / sizeof layers[0]; l++) {
        for (int p = 0; p < n.f.params; p++) {
            int64_t count = psg_tensor_count(psg_param_value(n.f.param[p]));
            double norms[B] = { 0 }, one = 0;
            TEST_OK(n.f.context, walk(&n, &layers[l], with_views, 0, ROWS));
            grad_sample(&n, n.f.param[p], B, together);
            psg_gradient gradient;
            const psg_gradient *set = &gradient;
            if (psg_gradient_of(n.f.tape, n.f.param[p], &gradient)) continue;
            TEST_OK(n.f.context, psg_sqnorm(n.f.context, &set, 1, (double[B]){ 0 }, norms, NULL));
            for (int64_t r = 0; r < B; r++) {
                TEST_OK(n.f.context, walk(&n, &layers[l], with_views, r * K, K));
                grad_sample(&n, n.f.param[p], 1, alone);
                TEST_OK(n.f.context, psg_gradient_of(n.f.tape, n.f.param[p], &gradient));
                TEST_OK(n.f.context, psg_sqnorm(n.f.context, &set, 1, (double[1]){ 0 }, &one, NULL));
                bool same = !memcmp(alone, together + r * count, (size_t)count * sizeof *alone) && one == norms[r];
                if (!same) fail_msg("%s, %s: record %d", layers[l].name, psg_param_name(n.f.param[p]), (int)r);
            }
        }
    }
    small_close(&n.f);
}

static void masks_belong_to_record_and_view(void **state) {
    (void)state;
    static const int64_t names[] = { 7, 8, 12 };
    static double together[B * MOST], alone[MOST];
    static const layer drop = { "dropout", dropped };
    fixture n;
    open_fixture(&n);
    psg_batch batch = { .ids = names, .count = B, .stream = 3 }, one;
    psg_pass pass = { .views = K, .batch = &batch };
    for (int64_t k = 0; k < ROWS * T * D; k++) test_set_at(&n.x, k, 1 + (double)(k % (T * D)));   /* equal rows */
    TEST_OK(n.f.context, walk(&n, &drop, pass, 0, ROWS));
    grad_sample(&n, n.square, B, together);
    assert_memory_not_equal(together, together + D * D, D * D * sizeof *together);
    for (int64_t r = 0; r < B; r++) {
        one = psg_batch_part(&batch, r, 1);
        pass.batch = &one;
        TEST_OK(n.f.context, walk(&n, &drop, pass, r * K, K));
        grad_sample(&n, n.square, 1, alone);
        assert_memory_equal(alone, together + r * D * D, D * D * sizeof *alone);
    }
    psg_tensor y;
    small_begin(&n.f, (psg_pass){ .views = K, .batch = &batch });
    n.row = 0;
    n.rows = ROWS;
    TEST_OK(n.f.context, psg_value(n.f.tape, dropped(&n), &y));
    const double *value = y.data;
    for (int v = 1; v < K; v++) assert_memory_not_equal(value, value + v * T * D, T * D * sizeof *value);
    small_close(&n.f);
}

static void a_bad_view_removes_its_record(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    psg_clip clip = PSG_CLIP_INIT;
    psg_clip_report report;
    test_set_at(&n.labels, K + 2, D);
    n.row = 0;
    n.rows = ROWS;
    small_begin(&n.f, (psg_pass){ .views = K, .remove_bad_records = 1 });
    psg_var y = psg_select(n.f.tape, linear(&n), 1, 0);
    TEST_OK(n.f.context, psg_backward(n.f.tape, psg_cross_entropy(n.f.tape, y, rows_of(&n, &n.labels), NULL)));
    psg_gradient gradient = small_gradient_of(&n.f, n.square);
    const psg_gradient *set = &gradient;
    double norms[B];
    psg_tensor sum = small_zeros(&n.f, PSG_F64, SHAPE(D, D));
    TEST_OK(n.f.context, psg_clipped_sum(n.f.context, &set, 1, &clip, PSG_OVERWRITE, &sum, norms, NULL, &report));
    assert_true(report.removed == 1 && isnan(norms[1]) && isfinite(norms[0]) && isfinite(norms[2]));
    small_close(&n.f);
}

static void attached_arrays_are_of_records(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    psg_tensor out = small_zeros(&n.f, PSG_F64, SHAPE(B, D, D)), rows = small_zeros(&n.f, PSG_F64, SHAPE(ROWS, D, D));
    static double expected[B * MOST];
    TEST_OK(n.f.context, walk(&n, layers, with_views, 0, ROWS));
    grad_sample(&n, n.square, B, expected);
    TEST_OK(n.f.context, psg_param_attach_grad_sample(n.square, &out));
    TEST_OK(n.f.context, walk(&n, layers, with_views, 0, ROWS));
    assert_memory_equal(out.data, expected, B * D * D * sizeof *expected);
    TEST_OK(n.f.context, psg_param_attach_grad_sample(n.square, &rows));
    assert_int_equal(walk(&n, layers, with_views, 0, ROWS), PSG_ERR_SHAPE);
    small_close(&n.f);
}

static void check_begin(fixture *n, psg_pass pass, psg_status expected, const char *words) {
    psg_status status = psg_tape_begin(n->f.tape, &pass);
    n->row = 0;
    n->rows = ROWS - 1;
    if (!status) rows_of(n, &n->x);
    assert_int_equal(psg_tape_status(n->f.tape), expected);
    const char *message = psg_tape_message(n->f.tape);
    if (!strstr(message, words)) fail_msg("\"%s\" lacks \"%s\"", message, words);
}

static void what_does_not_divide_is_refused(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    check_begin(&n, with_views, PSG_ERR_BATCH, "views 4 does not divide");
    check_begin(&n, (psg_pass){ .views = -1 }, PSG_ERR_ARGUMENT, "views is -1");
    check_begin(&n, (psg_pass){ .views = 2, .ordinary = 1 }, PSG_ERR_ARGUMENT, "ordinary");
    check_begin(&n, (psg_pass){ .views = INT64_MAX, .batch_size = 2 }, PSG_ERR_OVERFLOW, "views");
    assert_int_equal(walk(&n, layers, (psg_pass){ .views = K, .batch_size = ROWS }, 0, ROWS), PSG_ERR_BATCH);
    TEST_OK(n.f.context, walk(&n, layers, (psg_pass){ .views = K, .batch_size = B }, 0, ROWS));
    small_close(&n.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_has_the_mean_of_its_views),
        cmocka_unit_test(a_record_is_what_it_is_alone),
        cmocka_unit_test(masks_belong_to_record_and_view),
        cmocka_unit_test(a_bad_view_removes_its_record),
        cmocka_unit_test(attached_arrays_are_of_records),
        cmocka_unit_test(what_does_not_divide_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
