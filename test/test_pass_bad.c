/* Records with values that an op refuses: removed, counted, and nothing of anybody else's changes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "psg/ops.h"
#include "small_pass.h"

enum { RECORDS = 5, BAD = 1, T = 3, D = 4, CLASSES = 3, ROWS = 6, MOST = 64 };

typedef struct fixture {
    small_pass f;
    psg_param *table, *weight, *ih, *hh;
    psg_tensor x, y;                    /* (RECORDS, T, D), (RECORDS, D) */
    const int64_t *pick;                /* the records of a batch */
    int64_t count;
} fixture;

static void open_fixture(fixture *n) {
    small_open(&n->f);
    n->table = small_parameter(&n->f, "table", SHAPE(ROWS, D));
    n->weight = small_parameter(&n->f, "weight", SHAPE(CLASSES, D));
    n->ih = small_parameter(&n->f, "ih", SHAPE(4 * D, D));
    n->hh = small_parameter(&n->f, "hh", SHAPE(4 * D, D));
    n->x = small_normal(&n->f, SHAPE(RECORDS, T, D));
    n->y = small_normal(&n->f, SHAPE(RECORDS, D));
}

/* The picked records of an array. */
static psg_tensor picked(fixture *n, const psg_tensor *all) {
    psg_tensor part = *all;
    size_t row = (size_t)all->stride[0] * 8;
    part.shape[0] = n->count;
    part.data = malloc((size_t)n->count * row + 8);
    n->f.memory[n->f.arrays++] = part.data;
    assert_true(n->f.arrays < MOST);
    for (int64_t k = 0; k < n->count; k++) {
        memcpy((char *)part.data + (size_t)k * row, (const char *)all->data + (size_t)n->pick[k] * row, row);
    }
    return part;
}

static psg_var integers(fixture *n, const int64_t *values, int64_t width) {
    psg_tensor all = psg_i64_2d(values, RECORDS, width), part = picked(n, &all);
    if (width == 1) part.rank = 1;
    return psg_input(n->f.tape, &part);
}

static psg_var reals(fixture *n, const psg_tensor *all) {
    psg_tensor part = picked(n, all);
    return psg_input(n->f.tape, &part);
}

static psg_var scores(fixture *n, psg_var x) {
    return psg_linear(n->f.tape, x, psg_use(n->f.tape, n->weight), psg_none());
}

/* Some loss of what an op gives: the mean of squares, features at a time. */
static psg_var loss_of(fixture *n, psg_var x, int rank) {
    psg_var y = scores(n, x);
    return psg_mean(n->f.tape, psg_square(n->f.tape, y), rank, (int[]){ 0, 1, 2 }, 0);
}

static psg_var label(fixture *n) {
    psg_var x = scores(n, reals(n, &n->y));
    return psg_cross_entropy(n->f.tape, x, integers(n, (int64_t[]){ 0, 3, 2, 1, 1 }, 1), NULL);
}

static psg_var labels_of_positions(fixture *n) {
    static const psg_cross_entropy_options last = { .class_last = 1 };
    static const int64_t labels[] = { 0, 1, 2, 0, -1, 2, 1, 1, 0, 2, 2, 2, 0, 1, 0 };
    return psg_cross_entropy(n->f.tape, scores(n, reals(n, &n->x)), integers(n, labels, T), &last);
}

static psg_var likelihood(fixture *n) {
    psg_var x = psg_log_softmax(n->f.tape, scores(n, reals(n, &n->y)), 1);
    return psg_nll(n->f.tape, x, integers(n, (int64_t[]){ 0, -7, 2, 1, 1 }, 1), psg_none(), NULL);
}

static const int64_t ids[] = { 0, 1, 1, 2, ROWS, -4, 3, 5, 1, 0, 0, 2, 4, 5, 5 };

static psg_var embedding(fixture *n) {
    return loss_of(n, psg_embedding(n->f.tape, integers(n, ids, T), psg_use(n->f.tape, n->table), NULL), 3);
}

static psg_var bag(fixture *n, psg_var of, psg_var offsets, psg_bag_mode mode) {
    psg_embedding_bag_options options = { .mode = mode };
    psg_var table = psg_use(n->f.tape, n->table);
    return loss_of(n, psg_embedding_bag(n->f.tape, of, table, offsets, psg_none(), &options), 2);
}

static psg_var bag_of_rows(fixture *n) { return bag(n, integers(n, ids, T), psg_none(), PSG_BAG_SUM); }
static psg_var greatest_of_rows(fixture *n) { return bag(n, integers(n, ids, T), psg_none(), PSG_BAG_MAX); }

static psg_var ragged_bag(fixture *n) {
    static const int64_t places[RECORDS] = { 0, 3, 6, 9, 12 };
    psg_tensor all = psg_i64_2d(ids, RECORDS, T), flat = picked(n, &all);
    flat = psg_i64_1d(flat.data, n->count * T);
    psg_tensor offsets = psg_i64_1d(places, n->count);
    return bag(n, psg_constant(n->f.tape, &flat), psg_input(n->f.tape, &offsets), PSG_BAG_MEAN);
}

static psg_var length(fixture *n) {
    psg_rnn_weights weights = { psg_use(n->f.tape, n->ih), psg_use(n->f.tape, n->hh), psg_none(), psg_none(),
                                psg_none() };
    psg_var x = reals(n, &n->x), lengths = integers(n, (int64_t[]){ 3, 4, 1, 0, 2 }, 1);
    return loss_of(n, psg_lstm(n->f.tape, x, lengths, psg_none(), psg_none(), &weights, NULL, NULL, NULL), 3);
}

/* Record BAD has a probability of 3. */
static psg_var probability(fixture *n) {
    double shift[RECORDS] = { 0 }, target[RECORDS * CLASSES] = { 1, 0, 1 };
    shift[BAD] = 3;
    psg_tensor more = psg_tensor_of(PSG_F64, shift, 2, (int64_t[]){ RECORDS, 1 });
    psg_tensor goal = psg_tensor_of(PSG_F64, target, 2, (int64_t[]){ RECORDS, CLASSES });
    psg_var p = psg_sigmoid(n->f.tape, scores(n, reals(n, &n->y)));
    return psg_binary_cross_entropy(n->f.tape, psg_add(n->f.tape, p, reals(n, &more)), reals(n, &goal), PSG_MEAN);
}

typedef struct bad_case {
    const char *name, *quotes;
    psg_var (*loss)(fixture *n);
} bad_case;

static const bad_case cases[] = {
    { "label", "is 3, must be in [0, 3)", label },
    { "labels_of_positions", "is -1, must be in [0, 3)", labels_of_positions },
    { "nll", "is -7, must be in [0, 3)", likelihood },
    { "embedding", "is 6, must be in [0, 6)", embedding },
    { "bag", "is 6, must be in [0, 6)", bag_of_rows },
    { "maximum", "is 6, must be in [0, 6)", greatest_of_rows },
    { "ragged bag", "is 6, must be in [0, 6)", ragged_bag },
    { "length", "is 4, must be in [0, 3]", length },
    { "probability", "must be in [0, 1]", probability },
};

static psg_status walk(fixture *n, const bad_case *c, int removes, const int64_t *pick, int64_t count) {
    psg_pass pass = PSG_PASS_INIT;
    pass.remove_bad_records = removes;
    n->pick = pick;
    n->count = count;
    small_begin(&n->f, pass);
    return psg_backward(n->f.tape, c->loss(n));
}

/* All parameters that the pass reached. */
static size_t reached(fixture *n, psg_gradient *gradient, const psg_gradient **set) {
    size_t count = 0;
    for (int k = 0; k < n->f.params; k++) {
        if (!psg_gradient_of(n->f.tape, n->f.param[k], &gradient[count])) set[count] = &gradient[count], count++;
    }
    return count;
}

static void clipped_sum(fixture *n, double (*sums)[MOST], psg_clip_report *report) {
    psg_gradient gradient[4];
    const psg_gradient *set[4];
    psg_tensor outs[4];
    psg_clip clip = PSG_CLIP_INIT;
    size_t count = reached(n, gradient, set);
    clip.max_grad_norm = 0.125;
    for (size_t k = 0; k < count; k++) outs[k] = psg_tensor_of(PSG_F64, sums[k], set[k]->rank, set[k]->shape);
    TEST_OK(n->f.context, psg_clipped_sum(n->f.context, set, count, &clip, PSG_OVERWRITE, outs, NULL, NULL, report));
}

static const int64_t everybody[] = { 0, 1, 2, 3, 4 }, others[] = { 0, 2, 3, 4 };

static void the_sum_is_that_of_the_others(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        fixture n;
        open_fixture(&n);
        double with[4][MOST] = { { 0 } }, without[4][MOST] = { { 0 } };
        psg_clip_report report, plain;
        if (walk(&n, &cases[k], 1, everybody, RECORDS)) fail_msg("%s: %s", cases[k].name, psg_tape_message(n.f.tape));
        clipped_sum(&n, with, &report);
        if (walk(&n, &cases[k], 1, others, RECORDS - 1)) fail_msg("%s: %s", cases[k].name, psg_tape_message(n.f.tape));
        clipped_sum(&n, without, &plain);
        if (report.removed != 1 || plain.removed) fail_msg("%s: %d removed", cases[k].name, (int)report.removed);
        if (memcmp(with, without, sizeof with)) fail_msg("%s: the sum differs", cases[k].name);
        assert_true(report.mean_norm == plain.mean_norm && report.mean_norm > 0);
        small_close(&n.f);
    }
}

static void otherwise_the_pass_ends(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        assert_int_equal(walk(&n, &cases[k], 0, everybody, RECORDS), PSG_ERR_ARGUMENT);
        const char *message = psg_tape_message(n.f.tape);
        if (!strstr(message, cases[k].quotes)) fail_msg("\"%s\" lacks \"%s\"", message, cases[k].quotes);
    }
    small_close(&n.f);
}

/* What belongs to no record is refused as ever. */
static void what_is_no_records_is_refused(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    psg_tensor shared = psg_i64_1d((int64_t[]){ 0, 9 }, 2), x = n.y;
    small_begin(&n.f, (psg_pass){ .remove_bad_records = 1 });
    psg_input(n.f.tape, &x);
    psg_embedding(n.f.tape, psg_constant(n.f.tape, &shared), psg_use(n.f.tape, n.table), NULL);
    assert_int_equal(psg_tape_status(n.f.tape), PSG_ERR_ARGUMENT);
    n.pick = everybody;
    n.count = RECORDS;
    small_begin(&n.f, (psg_pass){ .remove_bad_records = 1, .allow_updates = 1 });
    psg_embedding_options shrinks = { .max_norm = 1 };
    psg_embedding(n.f.tape, integers(&n, ids, T), psg_use(n.f.tape, n.table), &shrinks);
    assert_int_equal(psg_tape_status(n.f.tape), PSG_ERR_UNSUPPORTED);
    small_begin(&n.f, (psg_pass){ .remove_bad_records = 1, .ordinary = 1 });
    label(&n);
    assert_int_equal(psg_tape_status(n.f.tape), PSG_ERR_ARGUMENT);
    small_close(&n.f);
}

static void check_one(const fixture *n, const double *all, const double *clean, int64_t width, const char *what) {
    for (int64_t k = 0; k < n->count * width; k++) {
        bool right = k / width == BAD ? isnan(all[k]) : all[k] == clean[k - (k / width > BAD) * width];
        if (!right) fail_msg("%s[%d] is %g", what, (int)k, all[k]);
    }
}

/* Every question about the record answers NaN, and about the others what it answers without it. */
static void every_question_knows(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    double grads[2][RECORDS * CLASSES * D], norms[2][RECORDS], dots[2][RECORDS], gram[RECORDS * RECORDS];
    double sum[CLASSES * D], some[RECORDS] = { 1, 0, 1, 1, 1 };
    psg_tensor total = psg_tensor_of(PSG_F64, sum, 2, (int64_t[]){ CLASSES, D });
    for (int clean = 0; clean < 2; clean++) {
        TEST_OK(n.f.context, walk(&n, cases, 1, clean ? others : everybody, RECORDS - clean));
        psg_gradient gradient = small_gradient_of(&n.f, n.weight);
        const psg_gradient *set = &gradient;
        psg_tensor out = psg_tensor_of(PSG_F64, grads[clean], 3, (int64_t[]){ n.count, CLASSES, D });
        TEST_OK(n.f.context, psg_grad_sample(n.f.context, &gradient, 1, PSG_OVERWRITE, &out));
        TEST_OK(n.f.context, psg_sqnorm(n.f.context, &set, 1, norms[clean], NULL, NULL));
        TEST_OK(n.f.context, psg_dot(n.f.context, &set, 1, psg_param_value(n.weight), dots[clean]));
        if (clean) break;
        TEST_OK(n.f.context, psg_gram(n.f.context, &set, 1, gram));
        TEST_OK(n.f.context, psg_weighted_sum(n.f.context, &set, 1, some, PSG_OVERWRITE, &total));
        assert_true(isfinite(sum[0]));
        TEST_OK(n.f.context, psg_weighted_sum(n.f.context, &set, 1, NULL, PSG_OVERWRITE, &total));
        assert_true(isnan(sum[0]) && isnan(sum[CLASSES * D - 1]));
        TEST_OK(n.f.context, psg_sum_of_squares(n.f.context, &set, 1, PSG_OVERWRITE, &total));
        assert_true(isnan(sum[0]));
        for (int i = 0; i < RECORDS * RECORDS; i++) {
            assert_true(isnan(gram[i]) == (i / RECORDS == BAD || i % RECORDS == BAD));
        }
    }
    n.count = RECORDS;
    check_one(&n, grads[0], grads[1], CLASSES * D, "grad_sample");
    check_one(&n, norms[0], norms[1], 1, "sqnorm");
    check_one(&n, dots[0], dots[1], 1, "dot");
    small_close(&n.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_is_that_of_the_others),
        cmocka_unit_test(otherwise_the_pass_ends),
        cmocka_unit_test(what_is_no_records_is_refused),
        cmocka_unit_test(every_question_knows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
