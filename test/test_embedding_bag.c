/* embedding_bag against plain loops over the ids of each bag: every mode, rows and ragged bags, weights, padding,
 * repeated ids, empty bags; the contribution of a clipped sample. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "small_pass.h"

enum { V = 6, MOST = 64 };

/* ---- a bag op and its operands ---- */

typedef struct bag_case {
    int64_t bags, length;       /* ids (bags, length), or */
    int64_t start[6];           /* ragged: bags + 1 places */
    int ragged, weighted, ordinary;
    int64_t features;
} bag_case;

static const bag_case bag_cases[] = {
    { 3, 4, { 0 }, 0, 0, 0, 5 },             { 3, 4, { 0 }, 0, 1, 0, 5 },
    { 3, 9, { 0 }, 0, 0, 0, 2 },             { 4, 0, { 0, 3, 3, 8, 9 }, 1, 0, 0, 5 },
    { 4, 0, { 0, 0, 4, 4, 4 }, 1, 1, 0, 3 }, { 4, 0, { 0, 3, 3, 8, 9 }, 1, 1, 0, 70 },
    { 3, 4, { 0 }, 0, 0, 1, 5 },             { 3, 0, { 0, 2, 2, 6 }, 1, 1, 1, 5 },
    { 2, 0, { 0, 0, 0 }, 1, 0, 0, 3 },       { 3, 0, { 0 }, 0, 0, 0, 3 },
    { 0, 3, { 0 }, 0, 1, 0, 3 },             { 2, 3, { 0 }, 0, 1, 0, 0 },
    { 1, 1, { 0 }, 0, 1, 0, 1 },
};

typedef struct bag_run {
    test_array ids, offsets, weights, table, g, dense;
    psg_tensor y, grad_weights;
} bag_run;

static int64_t start_of(const bag_case *c, int64_t n) { return c->ragged ? c->start[n] : n * c->length; }

static void make_operands(small_pass *f, const bag_case *c, const psg_embedding_bag_options *o, psg_dtype real,
                          psg_dtype integer, bag_run *r) {
    int64_t shape[2] = { c->bags, c->length }, total = start_of(c, c->bags), count = c->bags + o->include_last_offset;
    if (c->ragged) shape[0] = total;
    r->ids = test_array_new(&f->random, integer, c->ragged ? 1 : 2, shape, TEST_CONTIGUOUS);
    test_fill_integers(&f->random, &r->ids.view, 0, V - 1);
    r->weights = test_array_normal(&f->random, real, c->ragged ? 1 : 2, shape, TEST_CONTIGUOUS);
    r->offsets = test_array_new(&f->random, integer == PSG_I32 ? PSG_I64 : PSG_I32, 1, &count, TEST_CONTIGUOUS);
    for (int64_t n = 0; n < count; n++) test_set_at(&r->offsets.view, n, (double)start_of(c, n));
    r->table = test_array_normal(&f->random, real, 2, (int64_t[]){ V, c->features }, TEST_CONTIGUOUS);
    for (int64_t d = 0; d < c->features; d++) {   /* rows 1 and 2 are equal: the first id must win */
        test_set_at(&r->table.view, 2 * c->features + d, test_get_at(&r->table.view, c->features + d));
    }
}

static void run_bags(small_pass *f, const bag_case *c, const psg_embedding_bag_options *o, bag_run *r, int mean) {
    psg_param *param;
    TEST_OK(f->context, psg_param_create(f->context, "table", &r->table.view, &param));
    psg_pass pass = { .batch_size = c->bags, .has_batch_size = 1, .ordinary = c->ordinary,
                      .loss_reduction = mean ? PSG_LOSS_MEAN : PSG_LOSS_SUM };
    TEST_OK(f->context, psg_tape_begin(f->tape, &pass));
    psg_var ids = c->ragged ? psg_constant(f->tape, &r->ids.view) : psg_input(f->tape, &r->ids.view);
    psg_var offsets = !c->ragged ? psg_none() : o->include_last_offset ? psg_constant(f->tape, &r->offsets.view)
                                                                     : psg_input(f->tape, &r->offsets.view);
    psg_var weights = c->weighted ? psg_input_with_grad(f->tape, &r->weights.view) : psg_none();
    psg_var out = psg_embedding_bag(f->tape, ids, psg_use(f->tape, param), offsets, weights, o);
    TEST_OK(f->context, psg_value(f->tape, out, &r->y));
    r->g = test_array_normal(&f->random, r->y.dtype, 2, r->y.shape, TEST_CONTIGUOUS);
    TEST_OK(f->context, psg_backward_from(f->tape, out, &r->g.view));
    if (c->weighted) TEST_OK(f->context, psg_input_grad(f->tape, weights, &r->grad_weights));
    psg_gradient gradient;
    const psg_gradient *set = &gradient;
    TEST_OK(f->context, psg_gradient_of(f->tape, param, &gradient));
    int64_t shape[3] = { gradient.batch_size, V, c->features };
    r->dense = test_array_normal(&f->random, r->y.dtype, 3, shape, TEST_CONTIGUOUS);
    psg_tensor sum = psg_tensor_of(r->y.dtype, r->dense.view.data, 2, shape + 1);
    if (c->ordinary) TEST_OK(f->context, psg_weighted_sum(f->context, &set, 1, NULL, PSG_OVERWRITE, &sum));
    else TEST_OK(f->context, psg_grad_sample(f->context, &gradient, 1, PSG_OVERWRITE, &r->dense.view));
    psg_param_destroy(param);
}

/* ---- plain loops ---- */

typedef struct bag_answer {
    double y[MOST * 70], grad[MOST * 70], grad_weights[MOST];
} bag_answer;

static int is_row(const psg_embedding_bag_options *o, int64_t id) {
    return !o->has_padding_idx || id != (o->padding_idx < 0 ? o->padding_idx + V : o->padding_idx);
}

/* How often id k occurs among those counted with it: its bag's, or all. */
static double occurrences(const bag_case *c, const bag_run *r, int64_t n, int64_t k) {
    int64_t first = c->ordinary ? 0 : start_of(c, n), last = start_of(c, c->ordinary ? c->bags : n + 1);
    double count = 0;
    for (int64_t i = first; i < last; i++) count += test_get_at(&r->ids.view, i) == test_get_at(&r->ids.view, k);
    return count;
}

static void add_sums(const bag_case *c, const psg_embedding_bag_options *o, const bag_run *r, int64_t n,
                     bag_answer *answer) {
    double length = 0;
    for (int64_t k = start_of(c, n); k < start_of(c, n + 1); k++) {
        length += is_row(o, (int64_t)test_get_at(&r->ids.view, k));
    }
    for (int64_t k = start_of(c, n); k < start_of(c, n + 1); k++) {
        int64_t id = (int64_t)test_get_at(&r->ids.view, k);
        if (!is_row(o, id)) continue;
        double w = c->weighted ? test_get_at(&r->weights.view, k) : o->mode == PSG_BAG_MEAN ? 1 / length : 1;
        double share = o->scale_grad_by_freq ? 1 / occurrences(c, r, n, k) : 1;
        for (int64_t d = 0; d < c->features; d++) {
            double row = test_get_at(&r->table.view, id * c->features + d),
                   g = test_get_at(&r->g.view, n * c->features + d);
            answer->y[n * c->features + d] += w * row;
            answer->grad[((c->ordinary ? 0 : n) * V + id) * c->features + d] += share * w * g;
            answer->grad_weights[k] += g * row;
        }
    }
}

static void add_maxima(const bag_case *c, const psg_embedding_bag_options *o, const bag_run *r, int64_t n,
                       bag_answer *answer) {
    for (int64_t d = 0; d < c->features; d++) {
        int64_t winner = -1;
        double most = 0;
        for (int64_t k = start_of(c, n); k < start_of(c, n + 1); k++) {
            int64_t id = (int64_t)test_get_at(&r->ids.view, k);
            double row = test_get_at(&r->table.view, id * c->features + d);
            if (!is_row(o, id) || (winner >= 0 && row <= most)) continue;
            winner = id;
            most = row;
        }
        answer->y[n * c->features + d] = most;
        if (winner < 0) continue;
        answer->grad[((c->ordinary ? 0 : n) * V + winner) * c->features + d] += test_get_at(&r->g.view,
                                                                                             n * c->features + d);
    }
}

static void check_all(const psg_tensor *got, const double *expected, double scale, const char *what) {
    for (int64_t k = 0; k < psg_tensor_count(got); k++) {
        test_near(test_get_at(got, k), scale * expected[k], test_bound(got->dtype, 80, 80 * scale), what, k);
    }
}

static void check_bags(small_pass *f, const bag_case *c, const psg_embedding_bag_options *o, psg_dtype real,
                       psg_dtype integer, int mean) {
    bag_run r;
    bag_answer *answer = calloc(1, sizeof *answer);
    make_operands(f, c, o, real, integer, &r);
    run_bags(f, c, o, &r, mean);
    for (int64_t n = 0; n < c->bags; n++) {
        if (o->mode == PSG_BAG_MAX) add_maxima(c, o, &r, n, answer);
        else add_sums(c, o, &r, n, answer);
    }
    check_all(&r.y, answer->y, 1, "bags");
    check_all(&r.dense.view, answer->grad, mean && !c->ordinary ? (double)c->bags : 1, "gradient of the table");
    if (c->weighted) check_all(&r.grad_weights, answer->grad_weights, 1, "gradient of the weights");
    free(answer);
    test_array *arrays[] = { &r.ids, &r.offsets, &r.weights, &r.table, &r.g, &r.dense };
    for (int k = 0; k < 6; k++) test_array_free(arrays[k]);
}

static int is_allowed(const bag_case *c, const psg_embedding_bag_options *o) {
    if (c->weighted && o->mode != PSG_BAG_SUM) return 0;
    if (o->include_last_offset && !c->ragged) return 0;
    return !(o->scale_grad_by_freq && o->mode == PSG_BAG_MAX);
}

static void bags_are_those_of_plain_loops(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 2, NULL);
    for (size_t k = 0; k < sizeof bag_cases / sizeof bag_cases[0]; k++) {
        for (int which = 0; which < 3 * 3 * 2 * 2 * 4; which++) {
            psg_embedding_bag_options o = PSG_EMBEDDING_BAG_OPTIONS_INIT;
            o.mode = (psg_bag_mode)(which % 3);
            o.has_padding_idx = which / 3 % 3 > 0;
            o.padding_idx = which / 3 % 3 == 1 ? 1 : -2;
            o.scale_grad_by_freq = which / 9 & 1;
            o.include_last_offset = which / 18 & 1;
            int types = which / 36;
            if (!is_allowed(&bag_cases[k], &o)) continue;
            check_bags(&f, &bag_cases[k], &o, types & 1 ? PSG_F32 : PSG_F64, types & 2 ? PSG_I32 : PSG_I64, which & 1);
        }
    }
    small_close(&f);
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
        cmocka_unit_test(bags_are_those_of_plain_loops),
        cmocka_unit_test(a_clipped_bag_adds_no_more_than_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
