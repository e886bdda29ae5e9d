/* Parameters in elementwise ops: values and per-sample gradients against plain loops over indices,
 * in both types, and every error. */
#include <stdlib.h>
#include <string.h>

#include "small_pass.h"

/* ---- indices ---- */

static void index_of(const psg_tensor *t, int64_t k, int64_t *index) {
    for (int d = t->rank - 1; d >= 0; d--) {
        index[d] = k % t->shape[d];
        k /= t->shape[d];
    }
}

/* The flat element of t that an index of a whole of `rank` dimensions reads under broadcasting. */
static int64_t broadcast_at(const psg_tensor *t, int rank, const int64_t *index) {
    int64_t k = 0;
    for (int d = 0; d < t->rank; d++) k = k * t->shape[d] + (t->shape[d] == 1 ? 0 : index[d + rank - t->rank]);
    return k;
}

/* ---- add, sub, mul, div: one operand a parameter ---- */

typedef struct pair_case {
    int rank, p_rank;
    int64_t x[4], p[4];
    int batch_second;
} pair_case;

static const pair_case pairs[] = {
    { 3, 2, { 4, 3, 5 }, { 3, 5 }, 0 },       { 3, 1, { 4, 3, 5 }, { 5 }, 0 },
    { 3, 3, { 4, 3, 5 }, { 1, 3, 5 }, 0 },    { 4, 3, { 3, 4, 2, 3 }, { 4, 1, 1 }, 0 },
    { 3, 1, { 4, 3, 5 }, { 1 }, 0 },          { 3, 0, { 4, 3, 5 }, { 0 }, 0 },
    { 2, 1, { 3, 40 }, { 40 }, 0 },           { 4, 3, { 2, 3, 4, 5 }, { 3, 1, 5 }, 0 },
    { 4, 3, { 2, 3, 1, 5 }, { 3, 4, 5 }, 0 }, { 3, 3, { 5, 3, 4 }, { 5, 1, 4 }, 1 },
    { 3, 1, { 5, 3, 4 }, { 4 }, 1 },          { 3, 3, { 5, 3, 4 }, { 5, 1, 1 }, 1 },
    { 4, 2, { 5, 3, 4, 2 }, { 4, 2 }, 1 },    { 4, 4, { 5, 3, 4, 2 }, { 5, 1, 4, 1 }, 1 },
    { 2, 1, { 0, 4 }, { 4 }, 0 },             { 3, 2, { 2, 0, 4 }, { 1, 4 }, 0 },
    { 3, 1, { 1, 1, 1 }, { 1 }, 0 },          { 1, 1, { 5 }, { 1 }, 0 },
};

typedef psg_var (*pair_op)(psg_tape *, psg_var, psg_var);
static const pair_op pair_ops[] = { psg_add, psg_sub, psg_mul, psg_div };
enum { ADD, SUB, MUL, DIV, PAIR_OPS };

static double pair_value(int op, double a, double b) {
    return op == ADD ? a + b : op == SUB ? a - b : op == MUL ? a * b : a / b;
}

/* d out / d operand k */
static double pair_slope(int op, int k, double a, double b) {
    if (op == ADD) return 1;
    if (op == SUB) return k ? -1 : 1;
    if (op == MUL) return k ? a : b;
    return k ? -a / (b * b) : 1 / b;
}

typedef struct pair_run {
    test_array x, p, g, grad;      /* grad (B, *p) */
    psg_tensor out, gx;
} pair_run;

static void fill_away_from_zero(test_random *random, const psg_tensor *t) {
    for (int64_t k = 0; k < psg_tensor_count(t); k++) {
        double value = 0.5 + test_uniform(random);
        test_set_at(t, k, test_random_bits(random) & 1 ? value : -value);
    }
}

static void run_pair(small_pass *f, const pair_case *c, int op, int place, psg_dtype dtype, int ordinary, pair_run *r) {
    r->x = test_array_new(&f->random, dtype, c->rank, c->x, TEST_CONTIGUOUS);
    r->p = test_array_new(&f->random, dtype, c->p_rank, c->p, TEST_CONTIGUOUS);
    fill_away_from_zero(&f->random, &r->x.view);
    fill_away_from_zero(&f->random, &r->p.view);
    psg_param *param;
    TEST_OK(f->context, psg_param_create(f->context, "p", &r->p.view, &param));
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    pass.ordinary = ordinary;
    TEST_OK(f->context, psg_tape_begin(f->tape, &pass));
    psg_var x = psg_input_with_grad(f->tape, &r->x.view), p = psg_use(f->tape, param);
    psg_var out = place ? pair_ops[op](f->tape, x, p) : pair_ops[op](f->tape, p, x);
    TEST_OK(f->context, psg_value(f->tape, out, &r->out));
    r->g = test_array_normal(&f->random, dtype, r->out.rank, r->out.shape, TEST_CONTIGUOUS);
    TEST_OK(f->context, psg_backward_from(f->tape, out, &r->g.view));
    TEST_OK(f->context, psg_input_grad(f->tape, x, &r->gx));
    psg_gradient gradient;
    const psg_gradient *set = &gradient;
    TEST_OK(f->context, psg_gradient_of(f->tape, param, &gradient));
    int64_t shape[PSG_MAX_RANK] = { gradient.batch_size };
    for (int d = 0; d < c->p_rank; d++) shape[d + 1] = c->p[d];
    r->grad = test_array_new(&f->random, dtype, c->p_rank + !ordinary, shape + ordinary, TEST_CONTIGUOUS);
    if (ordinary) {
        TEST_OK(f->context, psg_weighted_sum(f->context, &set, 1, NULL, PSG_OVERWRITE, &r->grad.view));
    } else {
        TEST_OK(f->context, psg_grad_sample(f->context, &gradient, 1, PSG_OVERWRITE, &r->grad.view));
    }
    psg_param_destroy(param);
}

static void check_pair(small_pass *f, const pair_case *c, int op, int place, psg_dtype dtype, int ordinary) {
    pair_run r;
    run_pair(f, c, op, place, dtype, ordinary, &r);
    int64_t numel = psg_tensor_count(&r.p.view);
    double *expected = calloc((size_t)psg_tensor_count(&r.grad.view) + 1, sizeof *expected);
    double *gx = calloc((size_t)psg_tensor_count(&r.gx) + 1, sizeof *gx);
    for (int64_t k = 0; k < psg_tensor_count(&r.out); k++) {
        int64_t index[PSG_MAX_RANK];
        index_of(&r.out, k, index);
        int64_t at_x = broadcast_at(&r.x.view, r.out.rank, index), at_p = broadcast_at(&r.p.view, r.out.rank, index);
        double x = test_get_at(&r.x.view, at_x), p = test_get_at(&r.p.view, at_p), g = test_get_at(&r.g.view, k);
        double a = place ? x : p, b = place ? p : x;
        test_near(test_get_at(&r.out, k), pair_value(op, a, b), test_bound(dtype, 4, 4), "output", k);
        int64_t n = ordinary ? 0 : index[c->batch_second && r.out.rank >= 3];
        expected[n * numel + at_p] += g * pair_slope(op, place, a, b);
        gx[at_x] += g * pair_slope(op, !place, a, b);
    }
    for (int64_t k = 0; k < psg_tensor_count(&r.grad.view); k++) {
        test_near(test_get_at(&r.grad.view, k), expected[k], test_bound(dtype, 200, 100), "parameter gradient", k);
    }
    for (int64_t k = 0; k < psg_tensor_count(&r.gx); k++) {
        test_near(test_get_at(&r.gx, k), gx[k], test_bound(dtype, 50, 100), "input gradient", k);
    }
    free(expected);
    free(gx);
    test_array_free(&r.x);
    test_array_free(&r.p);
    test_array_free(&r.g);
    test_array_free(&r.grad);
}

static void test_pairs(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 2, NULL);
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        for (int which = 0; which < PAIR_OPS * 8; which++) {
            check_pair(&f, &pairs[k], which / 8, which & 1, which & 2 ? PSG_F64 : PSG_F32, which >> 2 & 1);
        }
    }
    small_close(&f);
}

/* A shift of the non-batch shape costs no copy: the pass needs no more memory than with a frozen one, a few blocks
 * apart. */
static void test_shift_is_a_view(void **state) {
    (void)state;
    size_t bytes[2];
    for (int trainable = 0; trainable < 2; trainable++) {
        small_pass f;
        small_open_on(&f, 1, NULL);
        test_array x = test_array_normal(&f.random, PSG_F64, 3, (int64_t[]){ 8, 16, 32 }, TEST_CONTIGUOUS);
        test_array p = test_array_normal(&f.random, PSG_F64, 2, (int64_t[]){ 16, 32 }, TEST_CONTIGUOUS);
        psg_param *param;
        TEST_OK(f.context, psg_param_create(f.context, "p", &p.view, &param));
        psg_param_set_trainable(param, trainable);
        TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
        psg_var in = psg_input_with_grad(f.tape, &x.view);
        psg_var out = psg_add(f.tape, in, psg_use(f.tape, param));
        TEST_OK(f.context, psg_backward_from(f.tape, out, NULL));
        bytes[trainable] = psg_tape_bytes(f.tape);
        psg_param_destroy(param);
        test_array_free(&x);
        test_array_free(&p);
        small_close(&f);
    }
    assert_true(bytes[1] < bytes[0] + 8 * 16 * 32 * sizeof(double) / 4);
}

/* ---- errors ---- */

static psg_param *param_of(small_pass *f, const test_array *array) {
    psg_param *param;
    TEST_OK(f->context, psg_param_create(f->context, "p", &array->view, &param));
    return param;
}

static test_array reals(small_pass *f, int rank, const int64_t *shape) {
    return test_array_normal(&f->random, PSG_F64, rank, shape, TEST_CONTIGUOUS);
}
#define REALS(f, ...) reals(f, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

static void test_pair_errors(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array x = REALS(&f, 4, 3), rows = REALS(&f, 4, 3), wide = REALS(&f, 5), deep = REALS(&f, 2, 4, 3);
    psg_param *by_row = param_of(&f, &rows), *misfit = param_of(&f, &wide), *outer = param_of(&f, &deep);
    for (int op = 0; op < PAIR_OPS; op++) {
        psg_tape_begin(f.tape, NULL);
        pair_ops[op](f.tape, psg_input(f.tape, &x.view), psg_use(f.tape, by_row));
        test_refused(f.tape, PSG_ERR_BATCH,
               "b is a parameter of shape (4, 3), which would run along the batch of the "
               "output; its size there must be 1");
        psg_tape_begin(f.tape, NULL);
        pair_ops[op](f.tape, psg_input(f.tape, &x.view), psg_use(f.tape, misfit));
        test_refused(f.tape, PSG_ERR_SHAPE, "a has shape (4, 3) and b (5), which do not broadcast");
        psg_tape_begin(f.tape, NULL);
        pair_ops[op](f.tape, psg_use(f.tape, outer), psg_input(f.tape, &x.view));
        test_refused(f.tape, PSG_ERR_BATCH, "a is a parameter of shape (2, 4, 3), which would run along");
        psg_tape_begin(f.tape, NULL);
        psg_input(f.tape, &x.view);
        pair_ops[op](f.tape, psg_use(f.tape, by_row), psg_use(f.tape, by_row));
        test_refused(f.tape, PSG_ERR_UNSUPPORTED, "has trainable parameters but no batched input");
        psg_tape_begin(f.tape, NULL);
        psg_input(f.tape, &x.view);
        pair_ops[op](f.tape, psg_use(f.tape, by_row), psg_constant(f.tape, &x.view));
        test_refused(f.tape, PSG_ERR_UNSUPPORTED, "has trainable parameters but no batched input");
    }
    /* 1 / loss is no sum over samples, loss / 2 is */
    test_array two = reals(&f, 0, (int64_t[]){ 0 });
    for (int k = 0; k < 2; k++) {
        psg_tape_begin(f.tape, NULL);
        psg_var loss = psg_mean(f.tape, psg_input(f.tape, &x.view), 2, (int[]){ 0, 1 }, 0);
        psg_var c = psg_constant(f.tape, &two.view);
        if (k) psg_div(f.tape, c, loss);
        else psg_div(f.tape, loss, c);
        if (k) test_refused(f.tape, PSG_ERR_BATCH, "div: b has shape ()");
        else assert_int_equal(psg_tape_status(f.tape), PSG_OK);
    }
    psg_param_destroy(by_row);
    psg_param_destroy(misfit);
    psg_param_destroy(outer);
    test_array_free(&x);
    test_array_free(&rows);
    test_array_free(&wide);
    test_array_free(&deep);
    test_array_free(&two);
    small_close(&f);
}

/* Two parameters make a value of an ordinary pass: their product's gradients are those of the whole sum. */
static void test_two_parameters(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array a = REALS(&f, 2, 3), b = REALS(&f, 3), g = REALS(&f, 2, 3), sum = REALS(&f, 3);
    psg_param *pa = param_of(&f, &a), *pb = param_of(&f, &b);
    psg_pass pass = PSG_PASS_INIT;
    pass.ordinary = 1;
    TEST_OK(f.context, psg_tape_begin(f.tape, &pass));
    psg_var out = psg_mul(f.tape, psg_use(f.tape, pa), psg_use(f.tape, pb));
    TEST_OK(f.context, psg_backward_from(f.tape, out, &g.view));
    psg_gradient gradient;
    const psg_gradient *set = &gradient;
    TEST_OK(f.context, psg_gradient_of(f.tape, pb, &gradient));
    TEST_OK(f.context, psg_weighted_sum(f.context, &set, 1, NULL, PSG_OVERWRITE, &sum.view));
    for (int64_t j = 0; j < 3; j++) {
        double expected = test_get_at(&g.view, j) * test_get_at(&a.view, j) +
                          test_get_at(&g.view, 3 + j) * test_get_at(&a.view, 3 + j);
        test_near(test_get_at(&sum.view, j), expected, 1e-12, "product of parameters", j);
    }
    psg_param_destroy(pa);
    psg_param_destroy(pb);
    test_array_free(&a);
    test_array_free(&b);
    test_array_free(&g);
    test_array_free(&sum);
    small_close(&f);
}

static void test_neg(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array x = REALS(&f, 4, 3);
    psg_tensor y, gx;
    TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
    psg_var in = psg_input_with_grad(f.tape, &x.view), out = psg_neg(f.tape, in);
    TEST_OK(f.context, psg_backward_from(f.tape, out, NULL));
    TEST_OK(f.context, psg_value(f.tape, out, &y));
    TEST_OK(f.context, psg_input_grad(f.tape, in, &gx));
    for (int64_t k = 0; k < 12; k++) {
        test_near(test_get_at(&y, k), -test_get_at(&x.view, k), 0, "neg", k);
        test_near(test_get_at(&gx, k), -1, 0, "neg's gradient", k);
    }
    test_array_free(&x);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),          cmocka_unit_test(test_shift_is_a_view),
        cmocka_unit_test(test_pair_errors),    cmocka_unit_test(test_two_parameters),
        cmocka_unit_test(test_neg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
