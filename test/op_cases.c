#include "op_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- running a case ---- */

static bool wants_grad(const op_case *c, int k) { return c->from[k] == GRAD || c->from[k] == UNIT; }

static bool is_constant(const op_case *c, int k) { return c->from[k] == CONSTANT || c->from[k] == WEIGHTS; }

typedef struct run {
    psg_context *context;
    psg_tape *tape;
    psg_var in[MAX_IN], out;
} run;

static run run_open(unsigned threads, const char *isa) {
    run r = { .context = test_context(threads, isa) };
    TEST_OK(r.context, psg_tape_create(r.context, &r.tape));
    return r;
}

static void run_close(run *r) {
    psg_tape_destroy(r->tape);
    test_context_free(r->context);
}

/* Records the case's op; *value views the output. */
static void run_forward(run *r, const op_case *c, const psg_tensor *in, psg_tensor *value) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    pass.ordinary = c->ordinary;
    TEST_OK(r->context, psg_tape_begin(r->tape, &pass));
    for (int k = 0; k < c->inputs; k++) {
        r->in[k] = wants_grad(c, k) ? psg_input_with_grad(r->tape, &in[k])
                   : is_constant(c, k) ? psg_constant(r->tape, &in[k]) : psg_input(r->tape, &in[k]);
    }
    r->out = c->build(r->tape, r->in);
    TEST_OK(r->context, psg_tape_status(r->tape));
    TEST_OK(r->context, psg_value(r->tape, r->out, value));
}

static void run_backward(run *r, const psg_tensor *grad_output, const op_case *c, psg_tensor grad[MAX_IN]) {
    TEST_OK(r->context, psg_backward_from(r->tape, r->out, grad_output));
    for (int k = 0; k < c->inputs; k++) {
        if (wants_grad(c, k)) TEST_OK(r->context, psg_input_grad(r->tape, r->in[k], &grad[k]));
    }
}

/* Operands with values that f32 holds; targets of bce in any range will do. */
static void draw_inputs(const op_case *c, uint64_t seed, psg_dtype dtype, test_array array[MAX_IN],
                        psg_tensor in[MAX_IN]) {
    test_random random = { 20240u + seed };
    for (int k = 0; k < c->inputs; k++) {
        psg_dtype type = c->from[k] == LABELS ? seed % 2 ? PSG_I32 : PSG_I64 : dtype;
        array[k] = test_array_new(&random, type, c->rank[k], c->shape[k], TEST_CONTIGUOUS);
        in[k] = array[k].view;
        if (c->from[k] == LABELS) test_fill_integers(&random, &in[k], 0, c->classes - 1);
        for (int64_t i = 0; c->from[k] != LABELS && i < psg_tensor_count(&in[k]); i++) {
            bool inside = c->from[k] == UNIT || c->from[k] == WEIGHTS;
            test_set_at(&in[k], i, (double)(float)(inside ? 0.05 + 0.9 * test_uniform(&random)
                                                          : 2 * test_normal(&random)));
        }
    }
}

static test_array draw_grad_output(uint64_t seed, const psg_tensor *value) {
    test_random random = { 77u + seed };
    test_array array = test_array_new(&random, value->dtype, value->rank, value->shape, TEST_CONTIGUOUS);
    for (int64_t i = 0; i < psg_tensor_count(value); i++) {
        test_set_at(&array.view, i, (double)(float)test_normal(&random));
    }
    return array;
}

void op_case_index(const psg_tensor *t, int64_t k, int64_t index[PSG_MAX_RANK]) {
    for (int d = t->rank - 1; d >= 0; k /= t->shape[d--]) index[d] = k % t->shape[d];
}

/* Sums in the references and in the ops run over at most all elements of the input. */
static void check_values(const op_case *c, const psg_tensor *in, const psg_tensor *value, double unit) {
    for (int64_t k = 0; k < psg_tensor_count(value); k++) {
        int64_t index[PSG_MAX_RANK] = { 0 };
        op_case_index(value, k, index);
        double expected = c->out(in, index);
        test_near(test_get_at(value, k), expected, unit * (fabs(expected) + 1e-2), c->name, k);
    }
}

static double dot_with(const psg_tensor *value, const psg_tensor *weight) {
    double sum = 0;
    for (int64_t k = 0; k < psg_tensor_count(value); k++) sum += test_get_at(value, k) * test_get_at(weight, k);
    return sum;
}

/* Central differences of <grad_output, op(in)> in f64, or only some of them for a large input. */
static void check_differences(run *r, const op_case *c, psg_tensor *in, int k, const double *grad,
                              const psg_tensor *grad_output) {
    int64_t count = psg_tensor_count(&in[k]), step = count > 200 ? count / 20 : 1;
    double error = 0, norm = 0, h = 1e-5;
    for (int64_t i = 0; i < count; i += step) {
        double x = test_get_at(&in[k], i), sum[2];
        for (int side = 0; side < 2; side++) {
            psg_tensor value;
            test_set_at(&in[k], i, side ? x + h : x - h);
            run_forward(r, c, in, &value);
            sum[side] = dot_with(&value, grad_output);
        }
        test_set_at(&in[k], i, x);
        double numeric = (sum[1] - sum[0]) / (2 * h);
        error += (numeric - grad[i]) * (numeric - grad[i]);
        norm += numeric * numeric;
    }
    test_near(sqrt(error), 0, 1e-6 * sqrt(norm) + 1e-8, c->name, k);
}

void op_cases_values(const op_case *cases, int count) {
    run r = run_open(1, NULL);
    for (const op_case *c = cases; c < cases + count; c++) {
        test_array array[MAX_IN];
        psg_tensor in[MAX_IN], value, grad[MAX_IN];
        double *copy[MAX_IN] = { NULL };
        draw_inputs(c, (uint64_t)(c - cases), PSG_F64, array, in);
        run_forward(&r, c, in, &value);
        check_values(c, in, &value, 1e-12);
        test_array grad_output = draw_grad_output((uint64_t)(c - cases), &value);
        run_backward(&r, &grad_output.view, c, grad);
        for (int k = 0; k < c->inputs; k++) {
            if (!wants_grad(c, k)) continue;
            size_t bytes = (size_t)psg_tensor_count(&grad[k]) * sizeof(double);
            copy[k] = malloc(bytes + 1);
            memcpy(copy[k], grad[k].data, bytes);
        }
        for (int k = 0; k < c->inputs; k++) {
            if (copy[k]) check_differences(&r, c, in, k, copy[k], &grad_output.view);
            free(copy[k]);
        }
        for (int k = 0; k < c->inputs; k++) test_array_free(&array[k]);
        test_array_free(&grad_output);
    }
    run_close(&r);
}

/* f32 on each instruction set against f64: u = 6e-8, at most 16 roundings but for the sums, which are in double. */
void op_cases_types(const op_case *cases, int count) {
    const char *isas[3];
    size_t isa_count = test_isas(isas);
    for (size_t s = 0; s < 2 * isa_count; s++) {
        run r = run_open(1, isas[s / 2]), exact = run_open(1, NULL);
        psg_dtype dtype = s % 2 ? PSG_F64 : PSG_F32;
        double unit = s % 2 ? 1e-12 : 1e-6;
        for (const op_case *c = cases; c < cases + count; c++) {
            test_array array[MAX_IN], wide[MAX_IN];
            psg_tensor in[MAX_IN], in64[MAX_IN], value, value64, grad[MAX_IN], grad64[MAX_IN];
            draw_inputs(c, (uint64_t)(c - cases), dtype, array, in);
            draw_inputs(c, (uint64_t)(c - cases), PSG_F64, wide, in64);
            run_forward(&r, c, in, &value);
            run_forward(&exact, c, in64, &value64);
            for (int64_t k = 0; k < psg_tensor_count(&value); k++) {
                double expected = test_get_at(&value64, k);
                test_near(test_get_at(&value, k), expected, unit * (fabs(expected) + 1), c->name, k);
            }
            test_array go = draw_grad_output((uint64_t)(c - cases), &value);
            test_array go64 = draw_grad_output((uint64_t)(c - cases), &value64);
            run_backward(&r, &go.view, c, grad);
            run_backward(&exact, &go64.view, c, grad64);
            for (int k = 0; k < c->inputs; k++) {
                for (int64_t i = 0; wants_grad(c, k) && i < psg_tensor_count(&grad[k]); i++) {
                    double expected = test_get_at(&grad64[k], i);
                    test_near(test_get_at(&grad[k], i), expected, unit * (fabs(expected) + 1), c->name, i);
                }
                test_array_free(&array[k]);
                test_array_free(&wide[k]);
            }
            test_array_free(&go);
            test_array_free(&go64);
        }
        run_close(&r);
        run_close(&exact);
    }
}

/* One thread's bits against those of others. */
static void check_threads(run *one, run *others, int runs, const op_case *c, uint64_t seed) {
    test_array array[MAX_IN];
    psg_tensor in[MAX_IN], value, other, grad[MAX_IN], other_grad[MAX_IN];
    draw_inputs(c, seed, PSG_F32, array, in);
    run_forward(one, c, in, &value);
    test_array go = draw_grad_output(seed, &value);
    run_backward(one, &go.view, c, grad);
    for (int r = 0; r < runs; r++) {
        run_forward(&others[r], c, in, &other);
        assert_true(test_same_bits(&value, &other));
        run_backward(&others[r], &go.view, c, other_grad);
        for (int k = 0; k < c->inputs; k++) {
            if (wants_grad(c, k)) assert_true(test_same_bits(&grad[k], &other_grad[k]));
        }
    }
    for (int k = 0; k < c->inputs; k++) test_array_free(&array[k]);
    test_array_free(&go);
}

void op_cases_threads(const op_case *cases, int count) {
    run one = run_open(1, NULL), others[] = { run_open(2, NULL), run_open(3, NULL), run_open(7, NULL) };
    for (const op_case *c = cases; c < cases + count; c++) check_threads(&one, others, 3, c, (uint64_t)(c - cases));
    for (int r = 0; r < 3; r++) run_close(&others[r]);
    run_close(&one);
}

/* ---- isolation: another sample 0 changes no other sample's gradient, but through the scalar of a loss ---- */

static int64_t sample_of(const op_case *c, const psg_tensor *t, int64_t k) {
    int64_t index[PSG_MAX_RANK] = { 0 };
    op_case_index(t, k, index);
    return index[c->batch_second && t->rank >= 3];
}

static void copy_elements(const psg_tensor *t, double *to) {
    for (int64_t i = 0; i < psg_tensor_count(t); i++) to[i] = test_get_at(t, i);
}

void op_cases_isolation(const op_case *cases, int count) {
    run r = run_open(1, NULL);
    for (const op_case *c = cases; c < cases + count; c++) {
        test_array array[MAX_IN];
        psg_tensor in[MAX_IN], value, grad[MAX_IN];
        if (c->ordinary) continue;
        draw_inputs(c, (uint64_t)(c - cases), PSG_F64, array, in);
        run_forward(&r, c, in, &value);
        test_array go = draw_grad_output((uint64_t)(c - cases), &value);
        run_backward(&r, &go.view, c, grad);
        double *before[MAX_IN];
        for (int k = 0; k < c->inputs; k++) {
            before[k] = malloc((size_t)psg_tensor_count(&in[k]) * sizeof(double) + 1);
            if (wants_grad(c, k)) copy_elements(&grad[k], before[k]);
            for (int64_t i = 0; wants_grad(c, k) && i < psg_tensor_count(&in[k]); i++) {
                double other = (c->from[k] == UNIT ? 1 : 3) - test_get_at(&in[k], i);
                if (sample_of(c, &in[k], i) == 0) test_set_at(&in[k], i, other);
            }
        }
        run_forward(&r, c, in, &value);
        run_backward(&r, &go.view, c, grad);
        for (int k = 0; k < c->inputs; k++) {
            for (int64_t i = 0; wants_grad(c, k) && i < psg_tensor_count(&in[k]); i++) {
                if (sample_of(c, &in[k], i)) test_near(test_get_at(&grad[k], i), before[k][i], 0, c->name, i);
            }
            free(before[k]);
            test_array_free(&array[k]);
        }
        test_array_free(&go);
    }
    run_close(&r);
}
