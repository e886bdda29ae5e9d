/* bilinear and prelu against plain loops over indices, in both types, and every error. */
#include <stdlib.h>
#include <string.h>

#include "small_pass.h"

static test_array reals(small_pass *f, psg_dtype dtype, int rank, const int64_t *shape) {
    return test_array_normal(&f->random, dtype, rank, shape, TEST_CONTIGUOUS);
}

/* The gradient of a parameter in the last pass, (B, *shape), or (*shape) of an ordinary pass. */
static test_array gradient_of(small_pass *f, const psg_param *param, int ordinary) {
    psg_gradient gradient;
    const psg_gradient *set = &gradient;
    TEST_OK(f->context, psg_gradient_of(f->tape, param, &gradient));
    int64_t shape[PSG_MAX_RANK] = { gradient.batch_size };
    for (int d = 0; d < gradient.rank; d++) shape[d + 1] = gradient.shape[d];
    test_array grad = reals(f, gradient.dtype, gradient.rank + !ordinary, shape + ordinary);
    if (ordinary) TEST_OK(f->context, psg_weighted_sum(f->context, &set, 1, NULL, PSG_OVERWRITE, &grad.view));
    else TEST_OK(f->context, psg_grad_sample(f->context, &gradient, 1, PSG_OVERWRITE, &grad.view));
    return grad;
}

/* ---- bilinear ---- */

typedef struct bilinear_case {
    int rank;
    int64_t lead[3], out, in1, in2;
    int with_bias, batch_second, ordinary;
} bilinear_case;

static const bilinear_case bilinears[] = {
    { 2, { 5 }, 3, 4, 2, 1, 0, 0 },          { 2, { 5 }, 2, 4, 6, 0, 0, 0 },        /* both factored forms */
    { 3, { 3, 9 }, 3, 4, 2, 1, 0, 0 },       { 3, { 3, 4 }, 6, 2, 7, 1, 0, 0 },     /* rows; factored with positions */
    { 4, { 3, 2, 5 }, 3, 4, 2, 1, 0, 0 },    { 3, { 4, 3 }, 3, 4, 2, 1, 1, 0 },
    { 4, { 4, 3, 2 }, 3, 2, 2, 1, 1, 0 },    { 4, { 2, 3, 2 }, 9, 2, 7, 1, 1, 0 },
    { 3, { 3, 4 }, 3, 4, 2, 1, 0, 1 },       { 2, { 0 }, 3, 4, 2, 1, 0, 0 },
    { 3, { 2, 0 }, 3, 4, 2, 1, 0, 0 },       { 2, { 3 }, 3, 0, 2, 1, 0, 0 },
    { 3, { 3, 5 }, 3, 2, 0, 0, 0, 0 },       { 2, { 3 }, 0, 4, 2, 1, 0, 0 },
    { 2, { 1 }, 1, 1, 1, 1, 0, 0 },          { 2, { 70 }, 2, 3, 4, 1, 0, 0 },
    { 2, { 3 }, 2, 3, 7000, 1, 0, 0 },       { 2, { 2 }, 2, 90, 90, 0, 0, 0 },      /* several chunks of either input */
    { 2, { 2 }, 40, 200, 3, 1, 0, 0 },       { 3, { 2, 1500 }, 3, 100, 2, 0, 0, 0 },
};

typedef struct bilinear_run {
    test_array x1, x2, w, b, g, gw, gb;
    psg_tensor y, gx1, gx2;
} bilinear_run;

static void run_bilinear(small_pass *f, const bilinear_case *c, psg_dtype dtype, bilinear_run *r) {
    int64_t shape[4] = { c->lead[0], c->rank > 2 ? c->lead[1] : 0, c->rank > 3 ? c->lead[2] : 0 };
    shape[c->rank - 1] = c->in1;
    r->x1 = reals(f, dtype, c->rank, shape);
    shape[c->rank - 1] = c->in2;
    r->x2 = reals(f, dtype, c->rank, shape);
    r->w = reals(f, dtype, 3, (int64_t[]){ c->out, c->in1, c->in2 });
    r->b = reals(f, dtype, 1, &c->out);
    psg_param *w, *b;
    TEST_OK(f->context, psg_param_create(f->context, "weight", &r->w.view, &w));
    TEST_OK(f->context, psg_param_create(f->context, "bias", &r->b.view, &b));
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    pass.ordinary = c->ordinary;
    TEST_OK(f->context, psg_tape_begin(f->tape, &pass));
    psg_var x1 = psg_input_with_grad(f->tape, &r->x1.view), x2 = psg_input_with_grad(f->tape, &r->x2.view);
    psg_var y = psg_bilinear(f->tape, x1, x2, psg_use(f->tape, w), c->with_bias ? psg_use(f->tape, b) : psg_none());
    TEST_OK(f->context, psg_value(f->tape, y, &r->y));
    r->g = reals(f, dtype, r->y.rank, r->y.shape);
    TEST_OK(f->context, psg_backward_from(f->tape, y, &r->g.view));
    TEST_OK(f->context, psg_input_grad(f->tape, x1, &r->gx1));
    TEST_OK(f->context, psg_input_grad(f->tape, x2, &r->gx2));
    r->gw = gradient_of(f, w, c->ordinary);
    if (c->with_bias) r->gb = gradient_of(f, b, c->ordinary);
    psg_param_destroy(w);
    psg_param_destroy(b);
}

/* The sample of row r of the leading dimensions. */
static int64_t sample_of(const bilinear_case *c, int64_t r) {
    if (c->ordinary) return 0;
    int64_t after = 1;
    for (int d = 1; d < c->rank - 1; d++) after *= c->lead[d];
    if (!c->batch_second || c->rank < 3) return r / after;
    return r / (after / c->lead[1]) % c->lead[1];
}

static void check_all(const psg_tensor *got, const double *expected, psg_dtype dtype, double k, const char *what) {
    for (int64_t i = 0; i < psg_tensor_count(got); i++) {
        test_near(test_get_at(got, i), expected[i], test_bound(dtype, k, 40 + 4 * k), what, i);
    }
}

static double *zeros(int64_t count) {
    double *made = calloc((size_t)count + 1, sizeof *made);
    assert_non_null(made);
    return made;
}

static void check_bilinear(small_pass *f, const bilinear_case *c, psg_dtype dtype) {
    bilinear_run r = { .y = { 0 } };
    run_bilinear(f, c, dtype, &r);
    int64_t rows = psg_tensor_count(&r.y) / (c->out ? c->out : 1), size = c->out * c->in1 * c->in2;
    double *gx1 = zeros(psg_tensor_count(&r.gx1)), *gx2 = zeros(psg_tensor_count(&r.gx2));
    double *gw = zeros(psg_tensor_count(&r.gw.view)), *gb = zeros(c->lead[0] * c->out * 10);
    for (int64_t row = 0; row < (c->out ? rows : 0); row++) {
        int64_t n = sample_of(c, row);
        for (int64_t o = 0; o < c->out; o++) {
            double y = c->with_bias ? test_get_at(&r.b.view, o) : 0, g = test_get_at(&r.g.view, row * c->out + o);
            for (int64_t i = 0; i < c->in1; i++) {
                for (int64_t j = 0; j < c->in2; j++) {
                    double x1 = test_get_at(&r.x1.view, row * c->in1 + i),
                           x2 = test_get_at(&r.x2.view, row * c->in2 + j);
                    double w = test_get_at(&r.w.view, (o * c->in1 + i) * c->in2 + j);
                    y += x1 * w * x2;
                    gx1[row * c->in1 + i] += g * w * x2;
                    gx2[row * c->in2 + j] += g * w * x1;
                    gw[n * size + (o * c->in1 + i) * c->in2 + j] += g * x1 * x2;
                }
            }
            test_near(test_get_at(&r.y, row * c->out + o), y,
                      test_bound(dtype, (double)(c->in1 * c->in2 + 8), 8.0 + (double)(c->in1 * c->in2)), "output",
                      row * c->out + o);
            gb[n * c->out + o] += g;
        }
    }
    double terms = (double)(c->in1 + c->in2 + c->out + (rows > 100 ? rows : 100));
    check_all(&r.gx1, gx1, dtype, terms, "gradient of input1");
    check_all(&r.gx2, gx2, dtype, terms, "gradient of input2");
    check_all(&r.gw.view, gw, dtype, terms, "gradient of weight");
    if (c->with_bias) check_all(&r.gb.view, gb, dtype, terms, "gradient of bias");
    test_array *arrays[] = { &r.x1, &r.x2, &r.w, &r.b, &r.g, &r.gw, &r.gb };
    for (int k = 0; k < 6 + c->with_bias; k++) test_array_free(arrays[k]);
    free(gx1);
    free(gx2);
    free(gw);
    free(gb);
}

static void test_bilinear_loops(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 2, NULL);
    for (size_t k = 0; k < sizeof bilinears / sizeof bilinears[0]; k++) {
        check_bilinear(&f, &bilinears[k], PSG_F64);
        check_bilinear(&f, &bilinears[k], PSG_F32);
    }
    small_close(&f);
}

/* Of the outer products only the smaller is kept: (g (x) x1) of 32 elements a sample, (x1 (x) x2) of 3200; with more
 * positions than outputs and inputs, the gradients themselves. */
static void test_bilinear_memory(void **state) {
    (void)state;
    static const int64_t sizes[][4] = { { 1, 2, 16, 200 }, { 1, 200, 16, 2 }, { 500, 4, 4, 4 } };   /* T, O, I1, I2 */
    small_pass f;
    small_open_on(&f, 1, NULL);
    for (int k = 0; k < 3; k++) {
        int64_t positions = sizes[k][0], out = sizes[k][1], in1 = sizes[k][2], in2 = sizes[k][3];
        test_array x1 = reals(&f, PSG_F64, 3, (int64_t[]){ 64, positions, in1 });
        test_array x2 = reals(&f, PSG_F64, 3, (int64_t[]){ 64, positions, in2 });
        test_array w = reals(&f, PSG_F64, 3, (int64_t[]){ out, in1, in2 });
        psg_param *param;
        TEST_OK(f.context, psg_param_create(f.context, "weight", &w.view, &param));
        size_t bytes[2];
        for (int trainable = 0; trainable < 2; trainable++) {
            psg_tape *tape;
            TEST_OK(f.context, psg_tape_create(f.context, &tape));
            psg_param_set_trainable(param, trainable);
            TEST_OK(f.context, psg_tape_begin(tape, NULL));
            psg_var y = psg_bilinear(tape, psg_input_with_grad(tape, &x1.view), psg_input(tape, &x2.view),
                                     psg_use(tape, param), psg_none());
            TEST_OK(f.context, psg_backward_from(tape, y, NULL));
            bytes[trainable] = psg_tape_bytes(tape);
            psg_tape_destroy(tape);
        }
        assert_true(bytes[1] < bytes[0] + 2 * 64 * 64 * sizeof(double));
        psg_param_destroy(param);
        test_array_free(&x1);
        test_array_free(&x2);
        test_array_free(&w);
    }
    small_close(&f);
}

static void test_bilinear_errors(void **state) {
    (void)state;
    static const struct {
        int64_t x1[2], x2[2], w[3], b;
        psg_status status;
        const char *text;
    } cases[] = {
        { { 4, 3 }, { 5, 2 }, { 6, 3, 2 }, 6, PSG_ERR_SHAPE, "input1 has shape (4, 3) and input2 (5, 2)" },
        { { 4, 3 }, { 4, 2 }, { 6, 2, 2 }, 6, PSG_ERR_SHAPE, "weight has shape (6, 2, 2), must be (out, 3, 2)" },
        { { 4, 3 }, { 4, 2 }, { 6, 3, 2 }, 5, PSG_ERR_SHAPE, "bias must have shape (6), has (5)" },
    };
    small_pass f;
    small_open_on(&f, 1, NULL);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        test_array x1 = reals(&f, PSG_F64, 2, cases[k].x1), x2 = reals(&f, PSG_F64, 2, cases[k].x2);
        test_array w = reals(&f, PSG_F64, 3, cases[k].w), b = reals(&f, PSG_F64, 1, &cases[k].b);
        psg_pass pass = PSG_PASS_INIT;
        pass.batch_size = 4;
        TEST_OK(f.context, psg_tape_begin(f.tape, &pass));
        psg_bilinear(f.tape, psg_input(f.tape, &x1.view), psg_input(f.tape, &x2.view), psg_constant(f.tape, &w.view),
                     psg_constant(f.tape, &b.view));
        test_refused(f.tape, cases[k].status, cases[k].text);
        test_array_free(&x1);
        test_array_free(&x2);
        test_array_free(&w);
        test_array_free(&b);
    }
    test_array x = reals(&f, PSG_F64, 1, (int64_t[]){ 4 }), w = reals(&f, PSG_F64, 3, (int64_t[]){ 2, 4, 4 });
    psg_tape_begin(f.tape, NULL);
    psg_bilinear(f.tape, psg_input(f.tape, &x.view), psg_input(f.tape, &x.view), psg_constant(f.tape, &w.view),
                 psg_none());
    test_refused(f.tape, PSG_ERR_SHAPE, "must be (N, *, in1) and (N, *, in2)");
    test_array y = reals(&f, PSG_F64, 2, (int64_t[]){ 2, 4 }), table = reals(&f, PSG_F64, 3, (int64_t[]){ 2, 4, 4 });
    psg_tape_begin(f.tape, NULL);
    psg_bilinear(f.tape, psg_input(f.tape, &y.view), psg_input(f.tape, &y.view), psg_input(f.tape, &table.view),
                 psg_none());
    test_refused(f.tape, PSG_ERR_UNSUPPORTED, "weight is computed in this pass, must be a parameter or a constant");
    test_array_free(&x);
    test_array_free(&y);
    test_array_free(&w);
    test_array_free(&table);
    small_close(&f);
}

/* ---- prelu ---- */

typedef struct prelu_case {
    int rank;
    int64_t x[4], weights;
    int batch_second, ordinary;
} prelu_case;

static const prelu_case prelus[] = {
    { 2, { 5, 37 }, 37, 0, 0 },       { 2, { 5, 37 }, 1, 0, 0 },        { 3, { 4, 3, 35 }, 3, 0, 0 },
    { 3, { 4, 3, 35 }, 1, 0, 0 },     { 4, { 2, 3, 4, 5 }, 3, 0, 0 },   { 1, { 6 }, 1, 0, 0 },
    { 3, { 3, 4, 5 }, 3, 1, 0 },      { 3, { 3, 4, 5 }, 1, 1, 0 },      { 3, { 3, 4, 1 }, 3, 1, 0 },
    { 2, { 5, 7 }, 7, 1, 0 },         { 3, { 3, 4, 5 }, 4, 0, 1 },      { 2, { 0, 4 }, 4, 0, 0 },
    { 3, { 3, 4, 0 }, 4, 0, 0 },      { 3, { 3, 0, 2 }, 1, 0, 0 },      { 3, { 3, 1, 2 }, 1, 0, 0 },
    { 2, { 3, 0 }, 0, 0, 0 },
};

static void check_prelu(small_pass *f, const prelu_case *c, psg_dtype dtype) {
    test_array x = reals(f, dtype, c->rank, c->x), w = reals(f, dtype, 1, &c->weights);
    test_array g = reals(f, dtype, c->rank, c->x);
    psg_param *param;
    TEST_OK(f->context, psg_param_create(f->context, "weight", &w.view, &param));
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    pass.ordinary = c->ordinary;
    TEST_OK(f->context, psg_tape_begin(f->tape, &pass));
    psg_var in = psg_input_with_grad(f->tape, &x.view), out = psg_prelu(f->tape, in, psg_use(f->tape, param));
    psg_tensor y, gx;
    TEST_OK(f->context, psg_value(f->tape, out, &y));
    TEST_OK(f->context, psg_backward_from(f->tape, out, &g.view));
    TEST_OK(f->context, psg_input_grad(f->tape, in, &gx));
    test_array gw = gradient_of(f, param, c->ordinary);
    int batch = c->batch_second && c->rank >= 3;
    double *expected = zeros(psg_tensor_count(&gw.view));
    for (int64_t k = 0; k < psg_tensor_count(&x.view); k++) {
        int64_t index[4] = { 0 }, rest = k;
        for (int d = c->rank - 1; d >= 0; d--) {
            index[d] = rest % c->x[d];
            rest /= c->x[d];
        }
        int64_t channel = c->weights > 1 ? index[1 - batch] : 0, n = c->ordinary ? 0 : index[batch];
        double v = test_get_at(&x.view, k), weight = test_get_at(&w.view, channel), gy = test_get_at(&g.view, k);
        test_near(test_get_at(&y, k), v > 0 ? v : weight * v, test_bound(dtype, 2, 4), "output", k);
        test_near(test_get_at(&gx, k), v > 0 ? gy : weight * gy, test_bound(dtype, 2, 4), "input gradient", k);
        if (v <= 0) expected[n * c->weights + channel] += gy * v;
    }
    check_all(&gw.view, expected, dtype, 200, "gradient of weight");
    free(expected);
    psg_param_destroy(param);
    test_array_free(&x);
    test_array_free(&w);
    test_array_free(&g);
    test_array_free(&gw);
}

static void test_prelu_loops(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 2, NULL);
    for (size_t k = 0; k < sizeof prelus / sizeof prelus[0]; k++) {
        check_prelu(&f, &prelus[k], PSG_F64);
        check_prelu(&f, &prelus[k], PSG_F32);
    }
    small_close(&f);
}

static void test_prelu_errors(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array x = reals(&f, PSG_F64, 3, (int64_t[]){ 4, 3, 5 }), five = reals(&f, PSG_F64, 1, (int64_t[]){ 5 });
    test_array square = reals(&f, PSG_F64, 2, (int64_t[]){ 3, 1 });
    const test_array *wrong[] = { &five, &square };
    for (int k = 0; k < 2; k++) {
        psg_tape_begin(f.tape, NULL);
        psg_prelu(f.tape, psg_input(f.tape, &x.view), psg_constant(f.tape, &wrong[k]->view));
        test_refused(f.tape, PSG_ERR_SHAPE, "prelu: weight must have shape (1) or (3), one element a channel, has ");
    }
    test_array_free(&x);
    test_array_free(&five);
    test_array_free(&square);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bilinear_loops), cmocka_unit_test(test_bilinear_memory),
        cmocka_unit_test(test_bilinear_errors), cmocka_unit_test(test_prelu_loops),
        cmocka_unit_test(test_prelu_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
