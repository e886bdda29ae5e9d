/* matmul against plain loops: broadcasting, parameters on either side, layouts, refusals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

typedef struct matmul_case {
    psg_role role[2];
    int rank[2];
    int64_t shape[2][5];
    bool batch_second;
    int vector;                  /* the operand of size 1 among the matrix's own dimensions is given without it */
} matmul_case;

/* Leading dimension d of a result of the given rank, in operand k. */
static int64_t leading(const matmul_case *c, int k, int rank, int d) {
    int own = d - (rank - c->rank[k]);
    return own < 0 ? 1 : c->shape[k][own];
}

typedef struct result {
    int rank, batch;
    int64_t shape[5], samples;
} result;

static result result_of(const matmul_case *c) {
    result r = { .rank = c->rank[0] > c->rank[1] ? c->rank[0] : c->rank[1] };
    for (int d = 0; d < r.rank - 2; d++) {
        int64_t a = leading(c, 0, r.rank, d), b = leading(c, 1, r.rank, d);
        r.shape[d] = a == 1 ? b : a;
    }
    r.shape[r.rank - 2] = c->shape[0][c->rank[0] - 2];
    r.shape[r.rank - 1] = c->shape[1][c->rank[1] - 1];
    r.batch = c->batch_second && r.rank >= 3;
    r.samples = r.shape[r.batch];
    return r;
}

/* The flat index of element (leading index of the result, i, j) in operand k. */
static int64_t place(const matmul_case *c, const result *r, int k, const int64_t *at, int64_t i, int64_t j) {
    int64_t flat = 0;
    for (int d = 0; d < r->rank - 2; d++) {
        int own = d - (r->rank - c->rank[k]);
        if (own >= 0) flat = flat * c->shape[k][own] + (c->shape[k][own] == 1 ? 0 : at[d]);
    }
    return (flat * c->shape[k][c->rank[k] - 2] + i) * c->shape[k][c->rank[k] - 1] + j;
}

/* Gradients by operand: of the value's size, or for a parameter (samples, size). */
static void refer(const matmul_case *c, const result *r, const psg_tensor x[2], const psg_tensor *gy, double *y,
                  double *const g[2]) {
    int64_t inner = c->shape[0][c->rank[0] - 1], count = psg_tensor_count(gy);
    for (int64_t f = 0; f < count; f++) {
        int64_t at[5], rest = f;
        for (int d = r->rank - 1; d >= 0; d--) {
            at[d] = rest % r->shape[d];
            rest /= r->shape[d];
        }
        int64_t i = at[r->rank - 2], j = at[r->rank - 1], n = at[r->batch];
        for (int64_t t = 0; t < inner; t++) {
            int64_t p[2] = { place(c, r, 0, at, i, t), place(c, r, 1, at, t, j) };
            double a = test_get_at(&x[0], p[0]), b = test_get_at(&x[1], p[1]), go = test_get_at(gy, f);
            y[f] += a * b;
            for (int k = 0; k < 2; k++) {
                int64_t sample = c->role[k] == PSG_PARAMETER ? n * psg_tensor_count(&x[k]) : 0;
                g[k][sample + p[k]] += go * (k ? a : b);
            }
        }
    }
}

static void compare(psg_dtype dtype, const psg_tensor *got, const double *expected, const char *what) {
    double bound = dtype == PSG_F64 ? 1e-11 : 2e-4;
    for (int64_t i = 0; i < psg_tensor_count(got); i++) test_near(test_get_at(got, i), expected[i], bound, what, i);
}

static psg_tensor array(psg_dtype dtype, int rank, const int64_t *shape, test_random *random) {
    psg_tensor t = psg_tensor_of(dtype, NULL, rank, shape);
    t.data = calloc((size_t)psg_tensor_count(&t) + 1, 8);
    test_fill_normal(random, &t, 1);
    return t;
}

typedef struct run {
    psg_context *context;
    psg_tape *tape;
    psg_param *param[2];
    psg_tensor x[2];
    psg_var var[2], y;
} run;

static void record(run *r, const matmul_case *c) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    TEST_OK(r->context, psg_tape_create(r->context, &r->tape));
    TEST_OK(r->context, psg_tape_begin(r->tape, &pass));
    for (int k = 0; k < 2; k++) {
        if (c->vector && c->role[k] != PSG_BATCHED) {
            r->x[k] = psg_tensor_of(r->x[k].dtype, r->x[k].data, 1, (int64_t[]){ psg_tensor_count(&r->x[k]) });
        }
        if (c->role[k] == PSG_PARAMETER) {
            TEST_OK(r->context, psg_param_create(r->context, "w", &r->x[k], &r->param[k]));
            r->var[k] = psg_use(r->tape, r->param[k]);
        } else if (c->role[k] == PSG_CONSTANT) {
            r->var[k] = psg_constant(r->tape, &r->x[k]);
        } else {
            r->var[k] = psg_input_with_grad(r->tape, &r->x[k]);
        }
    }
    r->y = psg_matmul(r->tape, r->var[0], r->var[1]);
    test_status(r->context, psg_tape_status(r->tape), PSG_OK, psg_tape_message(r->tape));
}

static void compare_gradient(const run *r, const matmul_case *c, int k, int64_t samples, const double *expected) {
    psg_tensor got;
    if (c->role[k] == PSG_BATCHED) {
        TEST_OK(r->context, psg_input_grad(r->tape, r->var[k], &got));
        compare(got.dtype, &got, expected, k ? "gradient of b" : "gradient of a");
    } else if (c->role[k] == PSG_PARAMETER) {
        psg_gradient gradient;
        int64_t shape[6] = { samples };
        int rank = r->x[k].rank;
        for (int d = 0; d < rank; d++) shape[d + 1] = r->x[k].shape[d];
        TEST_OK(r->context, psg_gradient_of(r->tape, r->param[k], &gradient));
        got = psg_tensor_of(r->x[k].dtype, NULL, rank + 1, shape);
        got.data = calloc((size_t)psg_tensor_count(&got) + 1, 8);
        TEST_OK(r->context, psg_grad_sample(r->context, &gradient, 1, PSG_OVERWRITE, &got));
        compare(got.dtype, &got, expected, k ? "grad_sample of b" : "grad_sample of a");
        free(got.data);
    }
}

static void check(psg_context *context, const matmul_case *c, psg_dtype dtype, test_random *random) {
    run r = { .context = context };
    result out = result_of(c);
    double *g[2], *y;
    for (int k = 0; k < 2; k++) {
        r.x[k] = array(dtype, c->rank[k], c->shape[k], random);
        int64_t copies = c->role[k] == PSG_PARAMETER ? out.samples : 1;
        g[k] = calloc((size_t)(copies * psg_tensor_count(&r.x[k])) + 1, sizeof **g);
    }
    psg_tensor gy = array(dtype, out.rank, out.shape, random), value;
    y = calloc((size_t)psg_tensor_count(&gy) + 1, sizeof *y);
    refer(c, &out, r.x, &gy, y, g);
    record(&r, c);
    TEST_OK(context, psg_value(r.tape, r.y, &value));
    assert_int_equal(value.rank, out.rank - c->vector);
    assert_int_equal(psg_tensor_count(&value), psg_tensor_count(&gy));
    for (int d = 0; d < out.rank && !c->vector; d++) assert_int_equal(value.shape[d], out.shape[d]);
    gy = psg_tensor_of(dtype, gy.data, value.rank, value.shape);
    compare(dtype, &value, y, "y");
    TEST_OK(context, psg_backward_from(r.tape, r.y, &gy));
    for (int k = 0; k < 2; k++) compare_gradient(&r, c, k, out.samples, g[k]);
    psg_tape_destroy(r.tape);
    for (int k = 0; k < 2; k++) {
        psg_param_destroy(r.param[k]);
        free(r.x[k].data);
        free(g[k]);
    }
    free(gy.data);
    free(y);
}

#define BATCHED_A(role) { PSG_BATCHED, role }
#define BATCHED_B(role) { role, PSG_BATCHED }

static const matmul_case cases[] = {
    { BATCHED_A(PSG_BATCHED), { 3, 3 }, { { 3, 2, 4 }, { 3, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 3, 2, 2, 4 }, { 3, 1, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 5, 5 }, { { 2, 1, 3, 2, 4 }, { 2, 4, 1, 4, 3 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 3, 2, 2, 4 }, { 3, 2, 4, 5 } }, 1, 0 },
    { BATCHED_A(PSG_BATCHED), { 5, 5 }, { { 3, 2, 1, 2, 4 }, { 1, 2, 3, 4, 5 } }, 1, 0 },
    { BATCHED_A(PSG_BATCHED), { 3, 3 }, { { 1, 70, 90 }, { 1, 90, 80 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 3, 3 }, { { 9, 33, 17 }, { 9, 17, 41 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 2, 2 }, { { 3, 4 }, { 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 2 }, { { 3, 2, 4 }, { 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 2 }, { { 3, 2, 4 }, { 4, 5 } }, 1, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 3 }, { { 3, 2, 4 }, { 1, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 3 }, { { 3, 2, 4 }, { 3, 4, 5 } }, 1, 0 },
    { BATCHED_A(PSG_PARAMETER), { 5, 2 }, { { 2, 3, 2, 2, 4 }, { 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 5, 3 }, { { 2, 3, 2, 2, 4 }, { 2, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 5, 4 }, { { 2, 3, 2, 2, 4 }, { 3, 1, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 5, 5 }, { { 2, 3, 2, 2, 4 }, { 2, 1, 2, 4, 5 } }, 1, 0 },
    { BATCHED_A(PSG_PARAMETER), { 4, 3 }, { { 2, 1, 2, 4 }, { 3, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_CONSTANT), { 4, 3 }, { { 2, 1, 2, 4 }, { 3, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_CONSTANT), { 3, 3 }, { { 2, 2, 4 }, { 2, 4, 5 } }, 0, 0 },
    { BATCHED_B(PSG_PARAMETER), { 2, 3 }, { { 5, 2 }, { 3, 2, 4 } }, 0, 0 },
    { BATCHED_B(PSG_PARAMETER), { 3, 4 }, { { 2, 5, 2 }, { 3, 2, 2, 4 } }, 0, 0 },
    { BATCHED_B(PSG_PARAMETER), { 3, 4 }, { { 2, 5, 2 }, { 3, 1, 2, 4 } }, 0, 0 },
    { BATCHED_B(PSG_PARAMETER), { 2, 4 }, { { 5, 2 }, { 3, 2, 2, 4 } }, 1, 0 },
    { BATCHED_B(PSG_CONSTANT), { 2, 4 }, { { 5, 2 }, { 3, 2, 2, 4 } }, 1, 0 },
    { BATCHED_A(PSG_BATCHED), { 3, 3 }, { { 0, 2, 4 }, { 0, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 3, 3 }, { { 2, 0, 4 }, { 2, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 3, 3 }, { { 2, 3, 0 }, { 2, 0, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 2, 1, 3, 2 }, { 2, 0, 2, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 2, 17, 1, 260 }, { 2, 1, 260, 520 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 9, 1, 3, 4 }, { 9, 32, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 5, 5 }, { { 5, 3, 7, 2, 4 }, { 1, 3, 1, 4, 5 } }, 1, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 0, 20, 3, 4 }, { 0, 1, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 2, 20, 0, 4 }, { 2, 1, 4, 5 } }, 0, 0 },
    { BATCHED_A(PSG_BATCHED), { 4, 4 }, { { 2, 20, 3, 4 }, { 2, 1, 4, 0 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 2 }, { { 0, 3, 2 }, { 2, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 2 }, { { 2, 0, 2 }, { 2, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 2 }, { { 2, 3, 0 }, { 0, 5 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 3, 2 }, { { 1, 1, 1 }, { 1, 1 } }, 0, 0 },
    { BATCHED_A(PSG_PARAMETER), { 2, 2 }, { { 3, 4 }, { 4, 1 } }, 0, 1 },
    { BATCHED_A(PSG_PARAMETER), { 4, 2 }, { { 3, 2, 2, 4 }, { 4, 1 } }, 0, 1 },
    { BATCHED_A(PSG_CONSTANT), { 3, 2 }, { { 3, 2, 4 }, { 4, 1 } }, 0, 1 },
    { BATCHED_A(PSG_PARAMETER), { 4, 2 }, { { 3, 2, 2, 4 }, { 4, 1 } }, 1, 1 },
    { BATCHED_B(PSG_PARAMETER), { 2, 3 }, { { 1, 2 }, { 3, 2, 4 } }, 0, 1 },
    { BATCHED_B(PSG_PARAMETER), { 2, 4 }, { { 1, 2 }, { 3, 2, 2, 4 } }, 1, 1 },
};

static void every_case(void **state) {
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        psg_context *context = test_context(threads, NULL);
        test_random random = { 17 };
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) check(context, &cases[k], (psg_dtype)dtype, &random);
        }
        test_context_free(context);
    }
}

/* ---- refusals ---- */

static const struct { matmul_case c; psg_status status; const char *text; } errors[] = {
    { { { PSG_BATCHED, PSG_CONSTANT }, { 1, 2 }, { { 4 }, { 4, 5 } }, 0, 0 }, PSG_ERR_BATCH, "the batch must" },
    { { { PSG_BATCHED, PSG_CONSTANT }, { 2, 0 }, { { 3, 4 }, { 0 } }, 0, 0 }, PSG_ERR_SHAPE, "of rank >= 1" },
    { { { PSG_BATCHED, PSG_CONSTANT }, { 4, 3 }, { { 2, 3, 2, 4 }, { 3, 4, 5 } }, 1, 0 }, PSG_ERR_BATCH,
      "what is no input" },
    { { { PSG_BATCHED, PSG_CONSTANT }, { 3, 2 }, { { 2, 3, 4 }, { 5, 4 } }, 0, 0 }, PSG_ERR_SHAPE,
      "dimension -2 of b" },
    { { { PSG_BATCHED, PSG_BATCHED }, { 4, 4 }, { { 2, 3, 3, 4 }, { 2, 2, 4, 5 } }, 0, 0 }, PSG_ERR_SHAPE,
      "broadcast" },
    { { { PSG_BATCHED, PSG_BATCHED }, { 3, 4 }, { { 2, 3, 4 }, { 2, 2, 4, 5 } }, 0, 0 }, PSG_ERR_BATCH,
      "the batch must" },
    { { { PSG_BATCHED, PSG_BATCHED }, { 2, 2 }, { { 4, 4 }, { 4, 5 } }, 0, 0 }, PSG_ERR_BATCH, "the batch must" },
    { { { PSG_CONSTANT, PSG_BATCHED }, { 2, 2 }, { { 3, 4 }, { 4, 5 } }, 0, 0 }, PSG_ERR_BATCH, "the batch must" },
    { { { PSG_BATCHED, PSG_CONSTANT }, { 2, 3 }, { { 2, 4 }, { 3, 4, 5 } }, 0, 0 }, PSG_ERR_BATCH, "the batch must" },
    { { { PSG_BATCHED, PSG_BATCHED }, { 3, 3 }, { { 4, 2, 2 }, { 4, 2, 3 } }, 1, 0 }, PSG_ERR_SHAPE,
      "dimension -2 of b" },
    { { { PSG_BATCHED, PSG_PARAMETER }, { 3, 3 }, { { 2, 3, 4 }, { 2, 4, 5 } }, 0, 0 }, PSG_ERR_BATCH,
      "what is no input of the pass must not have" },
};

static void refusals(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof errors / sizeof errors[0]; k++) {
        const matmul_case *c = &errors[k].c;
        run r = { .context = test_context(1, NULL) };
        test_random random = { 1 };
        psg_pass pass = PSG_PASS_INIT;
        pass.batch_second = c->batch_second;
        TEST_OK(r.context, psg_tape_create(r.context, &r.tape));
        TEST_OK(r.context, psg_tape_begin(r.tape, &pass));
        for (int j = 0; j < 2; j++) {
            r.x[j] = array(PSG_F32, c->rank[j], c->shape[j], &random);
            if (c->role[j] == PSG_PARAMETER) {
                TEST_OK(r.context, psg_param_create(r.context, "w", &r.x[j], &r.param[j]));
                r.var[j] = psg_use(r.tape, r.param[j]);
            } else {
                r.var[j] = c->role[j] == PSG_BATCHED ? psg_input(r.tape, &r.x[j]) : psg_constant(r.tape, &r.x[j]);
            }
        }
        psg_matmul(r.tape, r.var[0], r.var[1]);
        if (psg_tape_status(r.tape) != errors[k].status || !strstr(psg_tape_message(r.tape), errors[k].text)) {
            print_error("case %zu: %s\n", k, psg_tape_message(r.tape));
            fail();
        }
        psg_tape_destroy(r.tape);
        for (int j = 0; j < 2; j++) {
            psg_param_destroy(r.param[j]);
            free(r.x[j].data);
        }
        test_context_free(r.context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_case), cmocka_unit_test(refusals) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
