/* embedding_bag where the lines of test/cases do not go: ragged bags, and the contribution of a clipped sample. */
#include <math.h>

#include "small_pass.h"

enum { V = 6, MOST = 64 };

/* ---- ragged bags ---- */

typedef struct bag_case {
    int64_t bags, start[6];     /* bags + 1 places */
    int weighted, ordinary;
    int64_t features;
} bag_case;

static const bag_case bag_cases[] = {
    { 4, { 0, 3, 3, 8, 9 }, 0, 0, 5 }, { 4, { 0, 0, 4, 4, 4 }, 1, 0, 3 }, { 4, { 0, 3, 3, 8, 9 }, 1, 0, 70 },
    { 3, { 0, 2, 2, 6 }, 1, 1, 5 },    { 2, { 0, 0, 0 }, 0, 0, 3 },
};

/* Of bags [first, first + count): values, grad_samples (of an ordinary pass, their sum), gradients of the weights. */
typedef struct bag_answer {
    double y[4 * 70], grad[4 * V * 70], grad_weights[MOST];
} bag_answer;

typedef struct bag_operands {
    psg_tensor ids, weights, offsets, g; /* all of them */
    psg_param *table;
} bag_operands;

static psg_tensor part_of(const psg_tensor *t, int64_t first, int64_t count) {
    psg_tensor part = *t;
    part.data = (char *)t->data + first * t->stride[0] * (int64_t)psg_dtype_size(t->dtype);
    part.shape[0] = count;
    return part;
}

static void take(const psg_tensor *from, double *to) {
    for (int64_t k = 0; k < psg_tensor_count(from); k++) to[k] = test_get_at(from, k);
}

/* All bags by their offsets, or bag n as the one row of a batch. */
static void run_bags(small_pass *f, const bag_case *c, const psg_embedding_bag_options *options, const bag_operands *o,
                     int64_t n, bag_answer *answer) {
    int64_t first = n < 0 ? 0 : n, count = n < 0 ? c->bags : 1, start = c->start[first];
    psg_embedding_bag_options used = *options;
    psg_tensor ids = part_of(&o->ids, start, c->start[first + count] - start), y, grad;
    psg_tensor weights = part_of(&o->weights, start, ids.shape[0]), g = part_of(&o->g, first, count);
    if (n >= 0) {
        int64_t row[2] = { 1, ids.shape[0] };
        ids = psg_tensor_of(ids.dtype, ids.data, 2, row);
        weights = psg_tensor_of(weights.dtype, weights.data, 2, row);
        used.include_last_offset = 0;
    }
    small_begin(f, (psg_pass){ .batch_size = count, .has_batch_size = 1, .ordinary = c->ordinary });
    psg_var in = n < 0 ? psg_constant(f->tape, &ids) : psg_input(f->tape, &ids);
    psg_var w = c->weighted ? psg_input_with_grad(f->tape, &weights) : psg_none();
    psg_var offsets = n >= 0 ? psg_none() : used.include_last_offset ? psg_constant(f->tape, &o->offsets)
                                                                     : psg_input(f->tape, &o->offsets);
    psg_var out = psg_embedding_bag(f->tape, in, psg_use(f->tape, o->table), offsets, w, &used);
    TEST_OK(f->context, psg_value(f->tape, out, &y));
    take(&y, answer->y);
    small_backward(f, out, &g);
    if (c->weighted) {
        TEST_OK(f->context, psg_input_grad(f->tape, w, &grad));
        take(&grad, answer->grad_weights);
    }
    psg_gradient gradient = small_gradient_of(f, o->table);
    const psg_gradient *set = &gradient;
    double memory[4 * V * 70];
    psg_tensor each = psg_tensor_of(g.dtype, memory, 3, (int64_t[]){ count, V, c->features });
    psg_tensor sum = psg_tensor_of(g.dtype, memory, 2, each.shape + 1);
    if (c->ordinary) TEST_OK(f->context, psg_weighted_sum(f->context, &set, 1, NULL, PSG_OVERWRITE, &sum));
    else TEST_OK(f->context, psg_grad_sample(f->context, &gradient, 1, PSG_OVERWRITE, &each));
    take(c->ordinary ? &sum : &each, answer->grad);
}

/* A ragged bag has the bits of its row alone; frequencies of an ordinary pass are counted over all bags. */
static void check_bags(small_pass *f, const bag_case *c, const psg_embedding_bag_options *options,
                       const bag_operands *o) {
    static bag_answer all, one;
    int64_t row = V * c->features, d = c->features;
    double sum[V * 70] = { 0 }, often[V] = { 0 };
    psg_embedding_bag_options of_one = *options;
    if (c->ordinary) of_one.scale_grad_by_freq = 0;
    run_bags(f, c, options, o, -1, &all);
    for (int64_t n = 0; n < c->bags; n++) {
        run_bags(f, c, &of_one, o, n, &one);
        assert_memory_equal(all.y + n * d, one.y, (size_t)d * sizeof(double));
        if (!c->ordinary) assert_memory_equal(all.grad + n * row, one.grad, (size_t)row * sizeof(double));
        for (int64_t k = c->start[n]; k < c->start[n + 1] && c->weighted; k++) {
            assert_true(all.grad_weights[k] == one.grad_weights[k - c->start[n]]);
        }
        for (int64_t k = 0; k < row; k++) sum[k] += one.grad[k];
    }
    const double bound = o->g.dtype == PSG_F64 ? 1e-13 : 1e-5;
    for (int64_t k = 0; k < psg_tensor_count(&o->ids); k++) often[(int64_t)test_get_at(&o->ids, k)]++;
    for (int64_t k = 0; k < row && c->ordinary; k++) {
        double share = options->scale_grad_by_freq && often[k / d] > 0 ? 1 / often[k / d] : 1;
        test_near(all.grad[k], share * sum[k], bound, "ordinary", k);
    }
}

static void ragged_bags_are_their_rows(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof bag_cases / sizeof bag_cases[0] * 144; k++) {
        const bag_case *c = &bag_cases[k / 144];
        int which = (int)(k % 36), real = k / 36 & 1 ? PSG_F32 : PSG_F64, wide = k / 72 & 1;
        psg_embedding_bag_options options = PSG_EMBEDDING_BAG_OPTIONS_INIT;
        options.mode = (psg_bag_mode)(which % 3);
        options.has_padding_idx = which / 3 % 3 > 0;
        options.padding_idx = which / 3 % 3 == 1 ? 1 : -2;
        options.scale_grad_by_freq = which / 9 & 1;
        options.include_last_offset = which / 18 & 1;
        if (c->weighted && options.mode != PSG_BAG_SUM) continue;
        if (options.scale_grad_by_freq && options.mode == PSG_BAG_MAX) continue;
        small_pass f;
        small_open_on(&f, 2, NULL);
        int64_t total = c->start[c->bags], count = c->bags + options.include_last_offset;
        bag_operands o = { .ids = small_zeros(&f, wide ? PSG_I64 : PSG_I32, 1, &total),
                           .weights = small_zeros(&f, (psg_dtype)real, 1, &total),
                           .offsets = small_zeros(&f, wide ? PSG_I32 : PSG_I64, 1, &count),
                           .g = small_zeros(&f, (psg_dtype)real, SHAPE(c->bags, c->features)) };
        psg_tensor table = small_zeros(&f, (psg_dtype)real, SHAPE(V, c->features));
        test_fill_integers(&f.random, &o.ids, 0, V - 1);
        test_fill_normal(&f.random, &o.weights, 1);
        test_fill_normal(&f.random, &o.g, 1);
        test_fill_normal(&f.random, &table, 1);
        for (int64_t n = 0; n < count; n++) test_set_at(&o.offsets, n, (double)c->start[n]);
        TEST_OK(f.context, psg_param_create(f.context, "table", &table, &o.table));
        f.param[f.params++] = o.table;
        check_bags(&f, c, &options, &o);
        small_close(&f);
    }
}

/* A bag of one id repeated, or whose columns are won by different ids, adds no more than C to a clipped sum. */
static void a_clipped_bag_adds_no_more_than_c(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    for (int mode = 0; mode < 3; mode++) {
        int64_t values[8] = { 3, 3, 3, 3, 1, 2, 1, 4 };
        double g[8], out[V * 4], norms[2];
        test_array table = test_array_normal(&f.random, PSG_F64, 2, (int64_t[]){ V, 4 }, TEST_CONTIGUOUS);
        psg_tensor ids = psg_tensor_of(PSG_I64, values, 2, (int64_t[]){ 2, 4 });
        psg_tensor grad = psg_tensor_of(PSG_F64, g, 2, (int64_t[]){ 2, 4 });
        psg_tensor sum = psg_tensor_of(PSG_F64, out, 2, (int64_t[]){ V, 4 });
        for (int n = 0; n < 2; n++) {
            for (int k = 0; k < 8; k++) g[k] = k / 4 == n ? 3 + k : 0;
            psg_param *param;
            TEST_OK(f.context, psg_param_create(f.context, "table", &table.view, &param));
            psg_embedding_bag_options o = { .mode = (psg_bag_mode)mode };
            TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
            psg_var y = psg_embedding_bag(f.tape, psg_input(f.tape, &ids), psg_use(f.tape, param), psg_none(),
                                          psg_none(), &o);
            TEST_OK(f.context, psg_backward_from(f.tape, y, &grad));
            psg_gradient gradient;
            const psg_gradient *set = &gradient;
            TEST_OK(f.context, psg_gradient_of(f.tape, param, &gradient));
            psg_clip clip = PSG_CLIP_INIT;
            TEST_OK(f.context, psg_clipped_sum(f.context, &set, 1, &clip, PSG_OVERWRITE, &sum, norms, NULL, NULL));
            double square = 0, expected = 0;
            for (int k = 0; k < V * 4; k++) square += out[k] * out[k];
            for (int k = 0; k < 8; k++) expected += g[k] * g[k];
            assert_true(square <= 1 && square > 0.99);
            if (mode == PSG_BAG_SUM && n == 0)
                test_near(norms[0], 4 * sqrt(expected), 1e-5, "norm of a repeated id", 0);
            if (mode != PSG_BAG_SUM && n == 0) test_near(norms[0], sqrt(expected), 1e-5, "norm of a repeated id", mode);
            if (mode == PSG_BAG_MAX) test_near(norms[n], sqrt(expected), 1e-5, "norm of a maximum", n);
            psg_param_destroy(param);
        }
        test_array_free(&table);
    }
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ragged_bags_are_their_rows),
        cmocka_unit_test(a_clipped_bag_adds_no_more_than_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
