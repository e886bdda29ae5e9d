/* What layers take.  Parts of parameters: a slice, a transpose or a reshape of a parameter, given to a layer, has
 * the value and (in its place of the whole) the gradient that a parameter of its own would have. */
#include "small_pass.h"

#include <stdlib.h>
#include <string.h>

enum { B = 3, T = 4 };

/* ---- parts ---- */

typedef psg_var (*part_function)(psg_tape *tape, psg_var whole);
#define DIMS(...) (int)(sizeof((int[]){ __VA_ARGS__ }) / sizeof(int)), (int[]){ __VA_ARGS__ }

static psg_var all(psg_tape *t, psg_var w) { return (void)t, w; }
static psg_var first_rows(psg_tape *t, psg_var w) { return psg_slice(t, w, 0, 0, 5, 1); }
static psg_var other_rows(psg_tape *t, psg_var w) { return psg_slice(t, w, 0, 1, 6, 2); }
static psg_var some_columns(psg_tape *t, psg_var w) { return psg_slice(t, w, 1, 2, 6, 1); }
static psg_var other_columns(psg_tape *t, psg_var w) { return psg_slice(t, w, 1, 0, 6, 2); }
static psg_var turned(psg_tape *t, psg_var w) { return psg_transpose(t, w, 0, 1); }
static psg_var turned_part(psg_tape *t, psg_var w) { return psg_transpose(t, first_rows(t, some_columns(t, w)), 0, 1); }
static psg_var reshaped(psg_tape *t, psg_var w) { return psg_reshape(t, w, SHAPE(4, 9)); }
static psg_var folded(psg_tape *t, psg_var w) { return psg_reshape(t, some_columns(t, w), SHAPE(6, 2, 2)); }
static psg_var one_row(psg_tape *t, psg_var w) { return psg_select(t, w, 0, -2); }
static psg_var one_column(psg_tape *t, psg_var w) { return psg_select(t, w, 1, 3); }
static psg_var one_more(psg_tape *t, psg_var w) { return psg_squeeze(t, psg_unsqueeze(t, one_row(t, w), 0), 0); }
static psg_var flat(psg_tape *t, psg_var w) { return psg_flatten(t, turned(t, turned(t, w)), 0, 1); }
static psg_var middle(psg_tape *t, psg_var w) { return psg_select(t, w, 1, 1); }
static psg_var moved(psg_tape *t, psg_var w) { return psg_permute(t, w, DIMS(2, 0, 1)); }
static psg_var thin(psg_tape *t, psg_var w) { return psg_slice(t, w, 1, 1, 3, 1); }
static psg_var filters(psg_tape *t, psg_var w) { return psg_slice(t, w, 0, 1, 4, 2); }

/* ---- what takes them: y of a batched x, whose shape follows from the part's ---- */

typedef psg_var (*layer_function)(psg_tape *tape, const psg_tensor *x, psg_var part);

static psg_var as_weight(psg_tape *t, const psg_tensor *x, psg_var w) {
    return psg_linear(t, psg_input(t, x), w, psg_none());
}
static psg_var as_bias(psg_tape *t, const psg_tensor *x, psg_var w) { return psg_add(t, psg_input(t, x), w); }
static psg_var as_scale(psg_tape *t, const psg_tensor *x, psg_var w) { return psg_mul(t, psg_input(t, x), w); }
static psg_var as_matrix(psg_tape *t, const psg_tensor *x, psg_var w) { return psg_matmul(t, psg_input(t, x), w); }
static psg_var as_filters(psg_tape *t, const psg_tensor *x, psg_var w) {
    return psg_conv1d(t, psg_input(t, x), w, psg_none(), NULL);
}
static psg_var as_table(psg_tape *t, const psg_tensor *x, psg_var w) {
    static const int64_t ids[B * T] = { 0, 1, 1, 0, 2, 1, 2, 2, 0, 0, 0, 1 };
    psg_tensor view = psg_i64_2d(ids, B, T);
    return (void)x, psg_embedding(t, psg_input(t, &view), w, NULL);
}
static psg_var as_gain(psg_tape *t, const psg_tensor *x, psg_var w) {
    int64_t features = x->shape[x->rank - 1];
    return psg_layer_norm(t, psg_input(t, x), 1, &features, w, psg_none(), 1e-5);
}

typedef struct trial {
    const char *name;
    int rank;
    int64_t whole[4];
    part_function part;
    layer_function layer;
    int x_rank;
    int64_t x[4];
} trial;

static const trial trials[] = {
    { "all, weight", 2, { 6, 6 }, all, as_weight, 3, { B, T, 6 } },
    { "first rows, weight", 2, { 6, 6 }, first_rows, as_weight, 3, { B, T, 6 } },
    { "first rows, one position", 2, { 6, 6 }, first_rows, as_weight, 2, { B, 6 } },
    { "other rows, weight", 2, { 6, 6 }, other_rows, as_weight, 3, { B, T, 6 } },
    { "columns, weight", 2, { 6, 6 }, some_columns, as_weight, 3, { B, T, 4 } },
    { "every other column, weight", 2, { 6, 6 }, other_columns, as_weight, 3, { B, T, 3 } },
    { "transposed, weight", 2, { 6, 6 }, turned, as_weight, 3, { B, T, 6 } },
    { "transposed part, weight", 2, { 6, 6 }, turned_part, as_weight, 3, { B, T, 5 } },
    { "reshaped, weight", 2, { 6, 6 }, reshaped, as_weight, 3, { B, T, 9 } },
    { "first rows, positions", 2, { 6, 6 }, first_rows, as_bias, 3, { B, 5, 6 } },
    { "columns, positions", 2, { 6, 6 }, some_columns, as_bias, 3, { B, 6, 4 } },
    { "transposed, positions", 2, { 6, 6 }, turned_part, as_scale, 3, { B, 4, 5 } },
    { "row, bias", 2, { 6, 6 }, one_row, as_bias, 3, { B, T, 6 } },
    { "column, bias", 2, { 6, 6 }, one_column, as_bias, 3, { B, T, 6 } },
    { "row, scale", 2, { 6, 6 }, one_more, as_scale, 3, { B, T, 6 } },
    { "column, gain", 2, { 6, 6 }, one_column, as_gain, 3, { B, T, 6 } },
    { "flat, scale", 2, { 6, 6 }, flat, as_scale, 2, { B, 36 } },
    { "first rows, table", 2, { 6, 6 }, first_rows, as_table, 0, { 0 } },
    { "transposed, table", 2, { 6, 6 }, turned, as_table, 0, { 0 } },
    { "columns, table", 2, { 6, 6 }, some_columns, as_table, 0, { 0 } },
    { "matrix of three, weight", 3, { 5, 3, 4 }, middle, as_weight, 3, { B, T, 4 } },
    { "permuted, matrices", 3, { 5, 3, 4 }, moved, as_matrix, 4, { B, 4, T, 5 } },
    { "columns in two, positions", 2, { 6, 6 }, folded, as_scale, 4, { B, 6, 2, 2 } },
    { "filters", 3, { 5, 3, 2 }, filters, as_filters, 3, { B, 3, 6 } },
    { "channels of filters", 3, { 5, 4, 2 }, thin, as_filters, 3, { B, 2, 6 } },
};

/* ---- the law ---- */

/* Element k of the whole holds k: the part's values tell where its elements lie. */
static void find_places(small_pass *f, const trial *t, psg_param *whole, psg_tensor *places) {
    psg_tensor value = *psg_param_value(whole), counted, numbers = small_zeros(f, PSG_F64, t->rank, t->whole);
    memcpy(numbers.data, value.data, (size_t)psg_tensor_count(&value) * sizeof(double));
    for (int64_t k = 0; k < psg_tensor_count(&value); k++) test_set_at(&value, k, (double)k);
    small_begin(f, (psg_pass){ .batch_size = B });
    TEST_OK(f->context, psg_value(f->tape, t->part(f->tape, psg_use(f->tape, whole)), &counted));
    *places = small_zeros(f, PSG_F64, counted.rank, counted.shape);
    memcpy(places->data, counted.data, (size_t)psg_tensor_count(&counted) * sizeof(double));
    memcpy(value.data, numbers.data, (size_t)psg_tensor_count(&value) * sizeof(double));
}

/* One pass with a var for the part; its output's gradient is random, the same for one seed. */
static void run(small_pass *f, const trial *t, const psg_tensor *x, psg_param *param, part_function part) {
    small_begin(f, (psg_pass){ .batch_size = B });
    psg_var y = t->layer(f->tape, x, part(f->tape, psg_use(f->tape, param)));
    psg_tensor value;
    TEST_OK(f->context, psg_value(f->tape, y, &value));
    psg_tensor grad = small_zeros(f, PSG_F64, value.rank, value.shape);
    test_random random = { 77 };
    test_fill_normal(&random, &grad, 1);
    small_backward(f, y, &grad);
}

static void a_part_has_the_gradient_of_its_own(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof trials / sizeof *trials; k++) {
        const trial *t = &trials[k];
        small_pass f;
        small_open(&f);
        psg_param *whole = small_parameter(&f, "whole", t->rank, t->whole);
        psg_tensor places, x = small_normal(&f, t->x_rank, t->x);
        find_places(&f, t, whole, &places);
        psg_param *own = small_parameter(&f, "own", places.rank, places.shape);
        const int64_t size = psg_tensor_count(psg_param_value(whole)), part = psg_tensor_count(&places);
        for (int64_t i = 0; i < part; i++) {
            double v = test_get_at(psg_param_value(whole), (int64_t)test_get_at(&places, i));
            test_set_at(psg_param_value(own), i, v);
        }
        run(&f, t, &x, own, all);
        double sqnorm[B], part_sqnorm[B], *expected = calloc((size_t)(B * size), sizeof *expected);
        const double *grad = small_grad_sample(&f, own);
        for (int64_t i = 0; i < B * part; i++) {
            expected[i / part * size + (int64_t)test_get_at(&places, i % part)] = grad[i];
        }
        small_squared_norms(&f, own, sqnorm);
        run(&f, t, &x, whole, t->part);
        grad = small_grad_sample(&f, whole);
        for (int64_t i = 0; i < B * size; i++) test_near(grad[i], expected[i], 1e-12 * 64, t->name, i);
        small_squared_norms(&f, whole, part_sqnorm);
        for (int n = 0; n < B; n++) test_near(part_sqnorm[n], sqnorm[n], 1e-10 * sqnorm[n], t->name, n);
        small_check_contribution(&f, whole);
        free(expected);
        small_close(&f);
    }
}

/* The loss sum |y|^2 of y = W x, or of y = W x + (its two halves' products side by side) = 2 W x. */
static const double *fused_gradient(small_pass *f, psg_param *fused, const psg_tensor *x, bool twice) {
    small_begin(f, (psg_pass){ .batch_size = B });
    psg_var w = psg_use(f->tape, fused), in = psg_input(f->tape, x), y = psg_linear(f->tape, in, w, psg_none());
    if (twice) {
        psg_var half[2];
        for (int k = 0; k < 2; k++) {
            half[k] = psg_linear(f->tape, in, psg_slice(f->tape, w, 0, 3 * k, 3 * k + 3, 1), psg_none());
        }
        y = psg_add(f->tape, psg_cat(f->tape, half, 2, 2), y);
    }
    small_backward(f, psg_sum(f->tape, psg_mul(f->tape, y, y), DIMS(0, 1, 2), 0), NULL);
    return small_grad_sample(f, fused);
}

/* A fused weight taken in parts, and whole. */
static void parts_and_the_whole_add_up(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *fused = small_parameter(&f, "fused", SHAPE(6, 4));
    psg_tensor x = small_normal(&f, SHAPE(B, T, 4));
    double once[B * 24];
    memcpy(once, fused_gradient(&f, fused, &x, false), sizeof once);
    const double *twice = fused_gradient(&f, fused, &x, true);
    for (int i = 0; i < B * 24; i++) test_near(twice[i], 4 * once[i], 1e-10, "fused", i);
    small_check_contribution(&f, fused);
    small_close(&f);
}

/* What no place can say is refused where it is recorded. */
static void what_is_no_part_is_refused(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *w = small_parameter(&f, "w", SHAPE(6, 6));
    small_begin(&f, (psg_pass){ .batch_size = B });
    reshaped(f.tape, turned(f.tape, psg_use(f.tape, w)));
    assert_int_equal(psg_tape_status(f.tape), PSG_ERR_UNSUPPORTED);
    assert_non_null(strstr(psg_tape_message(f.tape), "reshape: the result is no part of parameter \"w\""));
    small_begin(&f, (psg_pass){ .batch_size = B });
    psg_flip(f.tape, psg_use(f.tape, w), DIMS(0));
    assert_int_equal(psg_tape_status(f.tape), PSG_ERR_UNSUPPORTED);
    assert_non_null(strstr(psg_tape_message(f.tape), "flip: the result is no part of a parameter: dimension 0 would go"));
    small_begin(&f, (psg_pass){ .batch_size = B });
    psg_slice(f.tape, psg_use(f.tape, w), 2, 0, 1, 1);
    assert_int_equal(psg_tape_status(f.tape), PSG_ERR_ARGUMENT);
    small_close(&f);
}

/* ---- the order of C's arguments ---- */

/* x + scale * positions, the look-up before or after the input that tells the batch size; *value and the table's
 * gradient are the answers. */
static void add_positions(small_pass *f, psg_param *table, const psg_tensor *x, bool first, double *value,
                          double *grad) {
    static const int64_t places[T] = { 0, 1, 2, 3 };
    psg_tensor ids = psg_i64_1d(places, T), y;
    small_begin(f, (psg_pass){ .batch_size = 0 });
    psg_var in = first ? psg_none() : psg_input(f->tape, x);
    psg_var where = psg_embedding(f->tape, psg_constant(f->tape, &ids), psg_use(f->tape, table), NULL);
    where = psg_scale(f->tape, where, 0.5);
    if (first) in = psg_input(f->tape, x);
    psg_var sum = psg_add(f->tape, in, where);
    TEST_OK(f->context, psg_value(f->tape, sum, &y));
    memcpy(value, y.data, (size_t)psg_tensor_count(&y) * sizeof *value);
    small_backward(f, psg_sum(f->tape, psg_mul(f->tape, sum, sum), DIMS(0, 1, 2), 0), NULL);
    memcpy(grad, small_grad_sample(f, table), B * 6 * 4 * sizeof *grad);
}

/* psg_add(t, psg_input(...), psg_embedding(t, psg_constant(...), ...)) has its arguments evaluated in any order. */
static void a_look_up_may_come_before_the_input(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(6, 4));
    psg_tensor x = small_normal(&f, SHAPE(B, T, 4)), value;
    double values[2][B * T * 4], grads[2][B * 6 * 4];
    for (int first = 0; first < 2; first++) add_positions(&f, table, &x, first, values[first], grads[first]);
    assert_memory_equal(values[0], values[1], sizeof values[0]);
    assert_memory_equal(grads[0], grads[1], sizeof grads[0]);
    static const int64_t places[2] = { 0, 6 };
    psg_tensor ids = psg_i64_1d(places, 2);
    small_begin(&f, (psg_pass){ .batch_size = 0 });
    psg_var lost = psg_embedding(f.tape, psg_constant(f.tape, &ids), psg_use(f.tape, table), NULL);
    assert_int_equal(psg_tape_status(f.tape), PSG_OK);
    psg_input(f.tape, &x);
    assert_non_null(strstr(psg_tape_message(f.tape), "embedding: ids at (1) is 6, must be in [0, 6)"));
    small_begin(&f, (psg_pass){ .batch_size = 0 });
    lost = psg_embedding(f.tape, psg_constant(f.tape, &ids), psg_use(f.tape, table), NULL);
    assert_int_equal(psg_value(f.tape, lost, &value), PSG_ERR_BATCH);
    assert_non_null(strstr(psg_tape_message(f.tape), "no psg_input of this pass tells the batch size"));
    small_close(&f);
}

/* ---- parts at the edges ---- */

static psg_var no_rows(psg_tape *t, psg_var w) { return psg_slice(t, w, 0, 2, 2, 1); }
static psg_var no_columns(psg_tape *t, psg_var w) { return psg_slice(t, w, 1, 2, 2, 1); }

static void empty_parts_have_no_gradient(void **state) {
    (void)state;
    static const part_function parts[] = { no_rows, no_columns };
    small_pass f;
    small_open(&f);
    psg_param *w = small_parameter(&f, "w", SHAPE(6, 6));
    for (int k = 0; k < 2; k++) {
        psg_tensor x = small_normal(&f, SHAPE(B, k ? 0 : 6)), y;
        small_begin(&f, (psg_pass){ .batch_size = B });
        psg_var out = psg_linear(f.tape, psg_input(f.tape, &x), parts[k](f.tape, psg_use(f.tape, w)), psg_none());
        TEST_OK(f.context, psg_value(f.tape, out, &y));
        psg_tensor grad = small_normal(&f, y.rank, y.shape);
        small_backward(&f, out, &grad);
        const double *g = small_grad_sample(&f, w);
        for (int i = 0; i < B * 36; i++) assert_true(g[i] == 0);
    }
    small_close(&f);
}

/* What wants no gradient is copied, in any order. */
static void a_frozen_parameter_is_taken_in_any_order(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_param *w = small_parameter(&f, "w", SHAPE(6, 6));
    psg_param_set_trainable(w, 0);
    psg_tensor value, from = *psg_param_value(w);
    small_begin(&f, (psg_pass){ .batch_size = B });
    psg_var twisted = reshaped(f.tape, turned(f.tape, psg_flip(f.tape, psg_use(f.tape, w), DIMS(0))));
    TEST_OK(f.context, psg_value(f.tape, twisted, &value));
    for (int64_t k = 0; k < 36; k++) {
        assert_true(test_get_at(&value, k) == test_get_at(&from, (5 - k % 6) * 6 + k / 6));
    }
    small_close(&f);
}

static void a_part_is_checked_like_a_weight(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_operand operand = { .role = PSG_PARAMETER };
    operand.value = psg_tensor_of(PSG_F64, NULL, SHAPE(4, 3));
    psg_slice_attributes attributes = { 1, 0, 3, 2 };
    TEST_OK(f.context, psg_op_check(f.context, psg_op_find(f.context, "slice"), &operand, &attributes));
    psg_param *w = small_parameter(&f, "w", SHAPE(6, 6));
    small_begin(&f, (psg_pass){ .batch_size = B });
    psg_weight_norm(f.tape, first_rows(f.tape, psg_use(f.tape, w)), psg_none(), NULL);
    assert_non_null(strstr(psg_tape_message(f.tape), "v is a part of a parameter, must be a parameter"));
    small_close(&f);
}

/* ---- batch_second: what the caller has as dimension 1 ---- */

static void values_are_shown_as_they_were_given(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor memory = small_normal(&f, SHAPE(2, 3, 2)), shown;   /* (N, T, D), seen as (T, N, D) */
    psg_tensor x = psg_tensor_strided(PSG_F64, memory.data, 3, (int64_t[]){ 3, 2, 2 }, (int64_t[]){ 2, 6, 1 });
    small_begin(&f, (psg_pass){ .batch_second = 1 });
    psg_var in = psg_input(f.tape, &x);
    for (int again = 0; again < 2; again++) {
        TEST_OK(f.context, psg_value(f.tape, again ? psg_scale(f.tape, in, 1) : in, &shown));
        assert_true(psg_tensor_is_contiguous(&shown) && test_same_bits(&x, &shown));
    }
    small_close(&f);
}

/* T = N = 3: a constant of the batch's shape would be read transposed. */
static void constants_along_the_batch_are_refused(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x = small_normal(&f, SHAPE(3, 3, 3)), c = small_normal(&f, SHAPE(3, 3, 3));
    psg_tensor h = small_normal(&f, SHAPE(2, 3, 3, 4)), keys = small_normal(&f, SHAPE(2, 3, 3, 4));
    psg_param *w = small_parameter(&f, "w", SHAPE(2, 3, 3));
    for (int k = 0; k < 6; k++) {
        small_begin(&f, (psg_pass){ .batch_second = 1 });
        psg_var a = psg_input(f.tape, &x), b = psg_constant(f.tape, &c), pair[2] = { a, b };
        psg_var q = psg_input(f.tape, &h), kv = psg_constant(f.tape, &keys);
        if (k == 0) psg_mse(f.tape, a, b, PSG_MEAN);
        if (k == 1) psg_bilinear(f.tape, a, b, psg_use(f.tape, w), psg_none());
        if (k == 2) psg_scaled_dot_product_attention(f.tape, q, kv, kv, psg_none(), NULL);
        if (k == 3) psg_cat(f.tape, pair, 2, 2);
        if (k == 4) psg_add(f.tape, a, b);
        if (k == 5) psg_flatten(f.tape, a, 0, -1);
        if (psg_tape_status(f.tape) != PSG_ERR_BATCH) fail_msg("%d: %s", k, psg_tape_message(f.tape));
    }
    small_close(&f);
}

/* Dropout's place is that of its call, whether the batch size was known by then or not. */
static void waiting_moves_no_dropout(void **state) {
    (void)state;
    static const int64_t places[T] = { 0, 1, 2, 3 }, names[B] = { 4, 9, 11 };
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(6, 4));
    psg_tensor ids = psg_i64_1d(places, T), x = small_normal(&f, SHAPE(B, T, 4)), kept[2];
    double first[B * T * 4];
    for (int waits = 0; waits < 2; waits++) {
        small_begin(&f, (psg_pass){ .batch_size = waits ? 0 : B, .dropout_seed = 3, .sample_ids = names });
        psg_var p = psg_dropout(f.tape, psg_embedding(f.tape, psg_constant(f.tape, &ids), psg_use(f.tape, table), NULL),
                                0.5);
        psg_scale(f.tape, psg_constant(f.tape, &x), 2);
        psg_var sum = psg_add(f.tape, psg_dropout(f.tape, psg_input(f.tape, &x), 0.5), p);
        TEST_OK(f.context, psg_value(f.tape, sum, &kept[waits]));
        if (!waits) memcpy(first, kept[0].data, sizeof first);
    }
    assert_memory_equal(first, kept[1].data, sizeof first);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_has_the_gradient_of_its_own),
        cmocka_unit_test(parts_and_the_whole_add_up),
        cmocka_unit_test(what_is_no_part_is_refused),
        cmocka_unit_test(a_look_up_may_come_before_the_input),
        cmocka_unit_test(empty_parts_have_no_gradient),
        cmocka_unit_test(a_frozen_parameter_is_taken_in_any_order),
        cmocka_unit_test(a_part_is_checked_like_a_weight),
        cmocka_unit_test(values_are_shown_as_they_were_given),
        cmocka_unit_test(constants_along_the_batch_are_refused),
        cmocka_unit_test(waiting_moves_no_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
