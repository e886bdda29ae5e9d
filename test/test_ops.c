/* The ops without parameters: values against plain loops over indices, gradients against central differences of the
 * op in f64, f32 against f64, the same bits for any number of threads, and every error. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op_cases.h"

/* ---- references ---- */

static double at_in(const psg_tensor *in, const int64_t *index) { return test_get(in, index); }

static double relu_ref(const psg_tensor *in, const int64_t *i) { return fmax(at_in(in, i), 0); }
static double tanh_ref(const psg_tensor *in, const int64_t *i) { return tanh(at_in(in, i)); }
static double sigmoid_ref(const psg_tensor *in, const int64_t *i) { return 1 / (1 + exp(-at_in(in, i))); }
static double gelu_ref(const psg_tensor *in, const int64_t *i) {
    double x = at_in(in, i);
    return 0.5 * x * (1 + erf(x / sqrt(2)));
}
static double gelu_tanh_ref(const psg_tensor *in, const int64_t *i) {
    double x = at_in(in, i), u = sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1 + tanh(u));
}
static double scale_ref(const psg_tensor *in, const int64_t *i) { return -1.75 * at_in(in, i); }

/* Element of an operand that is broadcast to a whole of `rank` dimensions. */
static double broadcast_get(const psg_tensor *t, int rank, const int64_t *index) {
    int64_t at[PSG_MAX_RANK];
    for (int d = 0; d < t->rank; d++) at[d] = t->shape[d] == 1 ? 0 : index[d + rank - t->rank];
    return test_get(t, at);
}
static int whole_rank(const psg_tensor *in) { return in[0].rank > in[1].rank ? in[0].rank : in[1].rank; }
static double add_ref(const psg_tensor *in, const int64_t *i) {
    return broadcast_get(&in[0], whole_rank(in), i) + broadcast_get(&in[1], whole_rank(in), i);
}
static double mul_ref(const psg_tensor *in, const int64_t *i) {
    return broadcast_get(&in[0], whole_rank(in), i) * broadcast_get(&in[1], whole_rank(in), i);
}

static double log_softmax(const psg_tensor *x, int dim, const int64_t *index) {
    int64_t at[PSG_MAX_RANK];
    memcpy(at, index, sizeof at);
    double max = -INFINITY, sum = 0;
    for (at[dim] = 0; at[dim] < x->shape[dim]; at[dim]++) max = fmax(max, test_get(x, at));
    for (at[dim] = 0; at[dim] < x->shape[dim]; at[dim]++) sum += exp(test_get(x, at) - max);
    return test_get(x, index) - max - log(sum);
}
static double softmax_last_ref(const psg_tensor *in, const int64_t *i) {
    return exp(log_softmax(in, in->rank - 1, i));
}
static double softmax_1_ref(const psg_tensor *in, const int64_t *i) { return exp(log_softmax(in, 1, i)); }

/* reshape and flatten keep the row-major order: the case's output shapes are given here. */
static double reshaped_ref(const psg_tensor *in, const int64_t *i, const int64_t *shape, int rank) {
    int64_t k = 0;
    for (int d = 0; d < rank; d++) k = k * shape[d] + i[d];
    return test_get_at(in, k);
}
static double reshape_ref(const psg_tensor *in, const int64_t *i) {
    return reshaped_ref(in, i, (int64_t[]){ 3, 2, 5, 2 }, 4);
}
static double flatten_ref(const psg_tensor *in, const int64_t *i) {
    return reshaped_ref(in, i, (int64_t[]){ 3, 20 }, 2);
}
static double transpose_ref(const psg_tensor *in, const int64_t *i) {
    int64_t at[PSG_MAX_RANK];
    memcpy(at, i, sizeof at);
    at[1] = i[in->rank - 1];
    at[in->rank - 1] = i[1];
    return test_get(in, at);
}

/* Mean of dims 1 and 3 of rank 4, kept. */
static double mean_13_ref(const psg_tensor *in, const int64_t *i) {
    double sum = 0;
    for (int64_t a = 0; a < in->shape[1]; a++) {
        for (int64_t b = 0; b < in->shape[3]; b++) sum += test_get(in, (int64_t[]){ i[0], a, i[2], b });
    }
    return sum / (double)(in->shape[1] * in->shape[3]);
}
static double mean_2_ref(const psg_tensor *in, const int64_t *i) {
    double sum = 0;
    for (int64_t a = 0; a < in->shape[2]; a++) sum += test_get(in, (int64_t[]){ i[0], i[1], a });
    return sum / (double)in->shape[2];
}
static double mean_0_ref(const psg_tensor *in, const int64_t *i) {
    double sum = 0;
    for (int64_t a = 0; a < in->shape[0]; a++) sum += test_get(in, (int64_t[]){ a, i[0], i[1] });
    return sum / (double)in->shape[0];
}
static double mean_all_ref(const psg_tensor *in, const int64_t *i) {
    (void)i;
    double sum = 0;
    for (int64_t k = 0; k < psg_tensor_count(in); k++) sum += test_get_at(in, k);
    return sum / (double)psg_tensor_count(in);
}

/* Cross entropy at one target; where: where the batch is in logits and in target. */
static double one_cross_entropy(const psg_tensor *in, const int64_t *t, int batch, int target_batch, double smoothing) {
    int64_t logit[PSG_MAX_RANK] = { 0 }, front[PSG_MAX_RANK], classes = in[0].shape[1 - batch];
    memcpy(front, t, sizeof front);
    front[0] = t[target_batch];
    front[target_batch] = target_batch ? t[0] : front[0];
    for (int d = 1; d < in[1].rank; d++) logit[d + 1] = front[d];
    logit[batch] = front[0];
    double loss = 0;
    for (int64_t c = 0; c < classes; c++) {
        logit[1 - batch] = c;
        double q = smoothing / (double)classes + (c == (int64_t)test_get(&in[1], t) ? 1 - smoothing : 0);
        loss -= q * log_softmax(&in[0], 1 - batch, logit);
    }
    return loss;
}
static double ce_none_ref(const psg_tensor *in, const int64_t *i) { return one_cross_entropy(in, i, 0, 0, 0); }
static double ce_second_ref(const psg_tensor *in, const int64_t *i) {
    return one_cross_entropy(in, i, 1, in[1].rank >= 3, 0.2);
}
static double ce_total(const psg_tensor *in, double smoothing, int64_t ignored, int64_t *counted) {
    double sum = 0;
    *counted = 0;
    for (int64_t k = 0; k < psg_tensor_count(&in[1]); k++) {
        int64_t index[PSG_MAX_RANK] = { 0 }, rest = k;
        for (int d = in[1].rank - 1; d >= 0; rest /= in[1].shape[d--]) index[d] = rest % in[1].shape[d];
        if ((int64_t)test_get(&in[1], index) == ignored) continue;
        sum += one_cross_entropy(in, index, 0, 0, smoothing);
        ++*counted;
    }
    return sum;
}
static double ce_mean_ref(const psg_tensor *in, const int64_t *i) {
    int64_t counted;
    (void)i;
    double sum = ce_total(in, 0.1, -1, &counted);
    return sum / (double)counted;
}
static double ce_ignore_sum_ref(const psg_tensor *in, const int64_t *i) {
    int64_t counted;
    (void)i;
    return ce_total(in, 0, 1, &counted);
}
static double ce_ignore_mean_ref(const psg_tensor *in, const int64_t *i) {
    int64_t counted;
    (void)i;
    double sum = ce_total(in, 0, 1, &counted);
    return sum / (double)counted;
}

static double mse_ref(const psg_tensor *in, const int64_t *i) { return pow(test_get(in, i) - test_get(in + 1, i), 2); }
static double bce_ref(const psg_tensor *in, const int64_t *i) {
    double x = test_get(in, i), y = test_get(in + 1, i);
    return fmax(x, 0) - x * y + log1p(exp(-fabs(x)));
}
static double total(const psg_tensor *in, double (*one)(const psg_tensor *, const int64_t *)) {
    double sum = 0;
    for (int64_t k = 0; k < psg_tensor_count(in); k++) {
        int64_t index[PSG_MAX_RANK] = { 0 }, rest = k;
        for (int d = in->rank - 1; d >= 0; rest /= in->shape[d--]) index[d] = rest % in->shape[d];
        sum += one(in, index);
    }
    return sum;
}
static double mse_sum_ref(const psg_tensor *in, const int64_t *i) { return (void)i, total(in, mse_ref); }
static double mse_mean_ref(const psg_tensor *in, const int64_t *i) {
    return mse_sum_ref(in, i) / (double)psg_tensor_count(in);
}
static double bce_sum_ref(const psg_tensor *in, const int64_t *i) { return (void)i, total(in, bce_ref); }
static double bce_mean_ref(const psg_tensor *in, const int64_t *i) {
    return bce_sum_ref(in, i) / (double)psg_tensor_count(in);
}

/* ---- the ops as cases ---- */

static psg_var relu(psg_tape *t, const psg_var *in) { return psg_relu(t, in[0]); }
static psg_var tanh_(psg_tape *t, const psg_var *in) { return psg_tanh(t, in[0]); }
static psg_var sigmoid(psg_tape *t, const psg_var *in) { return psg_sigmoid(t, in[0]); }
static psg_var gelu(psg_tape *t, const psg_var *in) { return psg_gelu(t, in[0], 0); }
static psg_var gelu_tanh(psg_tape *t, const psg_var *in) { return psg_gelu(t, in[0], 1); }
static psg_var scale(psg_tape *t, const psg_var *in) { return psg_scale(t, in[0], -1.75); }
static psg_var add(psg_tape *t, const psg_var *in) { return psg_add(t, in[0], in[1]); }
static psg_var mul(psg_tape *t, const psg_var *in) { return psg_mul(t, in[0], in[1]); }
static psg_var softmax_last(psg_tape *t, const psg_var *in) { return psg_softmax(t, in[0], -1); }
static psg_var softmax_1(psg_tape *t, const psg_var *in) { return psg_softmax(t, in[0], 1); }
static psg_var reshape(psg_tape *t, const psg_var *in) { return psg_reshape(t, in[0], 4, (int64_t[]){ 3, 2, -1, 2 }); }
static psg_var flatten(psg_tape *t, const psg_var *in) { return psg_flatten(t, in[0], 1, -1); }
static psg_var transpose(psg_tape *t, const psg_var *in) { return psg_transpose(t, in[0], -1, 1); }
static psg_var mean_13(psg_tape *t, const psg_var *in) { return psg_mean(t, in[0], 2, (int[]){ -1, 1 }, 1); }
static psg_var mean_2(psg_tape *t, const psg_var *in) { return psg_mean(t, in[0], 1, (int[]){ 2 }, 0); }
static psg_var mean_0(psg_tape *t, const psg_var *in) { return psg_mean(t, in[0], 1, (int[]){ 0 }, 0); }
static psg_var mean_all(psg_tape *t, const psg_var *in) { return psg_mean(t, in[0], 3, (int[]){ 0, 1, 2 }, 0); }

static psg_var ce(psg_tape *t, const psg_var *in, psg_reduction reduction, int ignore, double smoothing) {
    psg_cross_entropy_options options = { reduction, ignore, 1, smoothing, 0 };
    return psg_cross_entropy(t, in[0], in[1], &options);
}
static psg_var ce_none(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_NONE, 0, 0); }
static psg_var ce_second(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_NONE, 0, 0.2); }
static psg_var ce_mean(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_MEAN, 0, 0.1); }
static psg_var ce_ignore_sum(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_SUM, 1, 0); }
static psg_var ce_ignore_mean(psg_tape *t, const psg_var *in) { return ce(t, in, PSG_MEAN, 1, 0); }
static psg_var mse_none(psg_tape *t, const psg_var *in) { return psg_mse(t, in[0], in[1], PSG_NONE); }
static psg_var mse_sum(psg_tape *t, const psg_var *in) { return psg_mse(t, in[0], in[1], PSG_SUM); }
static psg_var mse_mean(psg_tape *t, const psg_var *in) { return psg_mse(t, in[0], in[1], PSG_MEAN); }
static psg_var bce(psg_tape *t, const psg_var *in, psg_reduction r) {
    return psg_binary_cross_entropy_with_logits(t, in[0], in[1], r);
}
static psg_var bce_none(psg_tape *t, const psg_var *in) { return bce(t, in, PSG_NONE); }
static psg_var bce_sum(psg_tape *t, const psg_var *in) { return bce(t, in, PSG_SUM); }
static psg_var bce_mean(psg_tape *t, const psg_var *in) { return bce(t, in, PSG_MEAN); }

#define ONE(op, ...) { .name = #op, op, op##_ref, 1, { GRAD }, __VA_ARGS__ }
#define X33 { 2 }, { { 3, 33 } }
static double tanh__ref(const psg_tensor *in, const int64_t *i) { return tanh_ref(in, i); }

static const op_case cases[] = {
    ONE(relu, X33), ONE(tanh_, X33), ONE(sigmoid, X33), ONE(gelu, X33), ONE(gelu_tanh, X33), ONE(scale, X33),
    ONE(relu, { 1 }, { { 1 } }), ONE(gelu, { 3 }, { { 0, 4, 2 } }), ONE(sigmoid, { 3 }, { { 2, 0, 2 } }),
    ONE(tanh_, { 3 }, { { 5, 2, 3 } }, .batch_second = 1),
    ONE(scale, { 0 }, { { 0 } }, .ordinary = 1),
    { .name = "add", add, add_ref, 2, { GRAD, GRAD }, { 3, 3 }, { { 3, 2, 5 }, { 3, 2, 5 } } },
    { .name = "add rows", add, add_ref, 2, { GRAD, CONSTANT }, { 3, 1 }, { { 3, 2, 5 }, { 5 } } },
    { .name = "add inner", add, add_ref, 2, { GRAD, GRAD }, { 3, 3 }, { { 3, 1, 5 }, { 3, 4, 1 } } },
    { .name = "add lower", add, add_ref, 2, { GRAD, GRAD }, { 2, 3 }, { { 3, 5 }, { 4, 3, 5 } }, .batch_second = 1 },
    { .name = "add constant wider", add, add_ref, 2, { GRAD, CONSTANT }, { 2, 4 }, { { 3, 1 }, { 2, 1, 3, 5 } },
      .ordinary = 1 },
    { .name = "add empty", add, add_ref, 2, { GRAD, CONSTANT }, { 2, 1 }, { { 3, 1 }, { 0 } } },
    { .name = "mul", mul, mul_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 3, 19 }, { 3, 19 } } },
    { .name = "mul rows", mul, mul_ref, 2, { GRAD, CONSTANT }, { 3, 3 }, { { 3, 2, 5 }, { 1, 2, 1 } } },
    { .name = "mul both ways", mul, mul_ref, 2, { GRAD, GRAD }, { 4, 4 }, { { 3, 1, 4, 1 }, { 3, 2, 1, 5 } } },
    { .name = "mul inner", mul, mul_ref, 2, { GRAD, GRAD }, { 3, 3 }, { { 3, 4, 1 }, { 3, 4, 7 } } },
    { .name = "mul one constant", mul, mul_ref, 2, { GRAD, CONSTANT }, { 2, 0 }, { { 3, 4 }, { 0 } } },
    { .name = "mul over batch", mul, mul_ref, 2, { GRAD, GRAD }, { 2, 3 }, { { 1, 4 }, { 3, 2, 4 } }, .ordinary = 1 },
    ONE(softmax_last, X33), ONE(softmax_last, { 4 }, { { 2, 3, 1, 5 } }), ONE(softmax_1, { 3 }, { { 3, 7, 5 } }),
    ONE(softmax_1, { 2 }, { { 4, 1 } }), ONE(softmax_last, { 2 }, { { 0, 3 } }),
    ONE(softmax_last, { 2 }, { { 3, 0 } }), ONE(softmax_last, { 3 }, { { 2, 3, 4 } }, .batch_second = 1),
    ONE(reshape, { 3 }, { { 3, 4, 5 } }), ONE(flatten, { 3 }, { { 3, 4, 5 } }),
    ONE(transpose, { 4 }, { { 2, 3, 2, 5 } }), ONE(transpose, { 5 }, { { 2, 3, 1, 2, 3 } }, .ordinary = 1),
    ONE(mean_13, { 4 }, { { 2, 3, 4, 5 } }), ONE(mean_2, { 3 }, { { 2, 3, 9 } }),
    ONE(mean_0, { 3 }, { { 4, 2, 3 } }, .batch_second = 1), ONE(mean_0, { 3 }, { { 4, 2, 3 } }, .ordinary = 1),
    ONE(mean_all, { 3 }, { { 4, 2, 3 } }), ONE(mean_all, { 3 }, { { 1, 1, 1 } }),
    { .name = "ce none", ce_none, ce_none_ref, 2, { GRAD, LABELS }, { 2, 1 }, { { 4, 33 }, { 4 } }, 33 },
    { .name = "ce one class", ce_none, ce_none_ref, 2, { GRAD, LABELS }, { 2, 1 }, { { 4, 1 }, { 4 } }, 1 },
    { .name = "ce planes", ce_none, ce_none_ref, 2, { GRAD, LABELS }, { 4, 3 }, { { 2, 5, 2, 3 }, { 2, 2, 3 } }, 5 },
    { .name = "ce second", ce_second, ce_second_ref, 2, { GRAD, LABELS }, { 3, 2 }, { { 5, 3, 2 }, { 3, 2 } }, 5,
      1, 0 },
    { .name = "ce second planes", ce_second, ce_second_ref, 2, { GRAD, LABELS }, { 4, 3 }, 
      { { 5, 3, 2, 4 }, { 2, 3, 4 } }, 5, 1, 0 },
    { .name = "ce mean", ce_mean, ce_mean_ref, 2, { GRAD, LABELS }, { 3, 2 }, { { 4, 5, 2 }, { 4, 2 } }, 5 },
    { .name = "ce ignore sum", ce_ignore_sum, ce_ignore_sum_ref, 2, { GRAD, LABELS }, { 2, 1 }, { { 9, 3 }, { 9 } },
      3 },
    { .name = "ce ignore mean", ce_ignore_mean, ce_ignore_mean_ref, 2, { GRAD, LABELS }, { 2, 1 }, { { 9, 3 }, { 9 } },
      3, 0, 1 },
    { .name = "mse none", mse_none, mse_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 3, 19 }, { 3, 19 } } },
    { .name = "mse sum", mse_sum, mse_sum_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 3, 19 }, { 3, 19 } } },
    { .name = "mse mean", mse_mean, mse_mean_ref, 2, { GRAD, INPUT_ONLY }, { 1, 1 }, { { 7 }, { 7 } } },
    { .name = "mse sum of none", mse_sum, mse_sum_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 0, 4 }, { 0, 4 } } },
    { .name = "bce none", bce_none, bce_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 3, 19 }, { 3, 19 } } },
    { .name = "bce sum", bce_sum, bce_sum_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 3, 19 }, { 3, 19 } } },
    { .name = "bce mean", bce_mean, bce_mean_ref, 2, { GRAD, CONSTANT }, { 3, 3 }, { { 3, 2, 2 }, { 3, 2, 2 } } },
    /* more than one range of work */
    ONE(relu, { 2 }, { { 5, 9001 } }), ONE(gelu, { 2 }, { { 5, 9001 } }), ONE(softmax_last, { 2 }, { { 300, 101 } }),
    ONE(softmax_1, { 3 }, { { 30, 11, 101 } }), ONE(mean_2, { 3 }, { { 40, 20, 41 } }),
    ONE(mean_all, { 3 }, { { 40, 20, 41 } }), ONE(transpose, { 4 }, { { 2, 100, 3, 90 } }),
    { .name = "add large", add, add_ref, 2, { GRAD, GRAD }, { 3, 3 }, { { 3, 1, 20000 }, { 3, 2, 20000 } } },
    { .name = "mul large", mul, mul_ref, 2, { GRAD, GRAD }, { 3, 3 }, { { 3, 700, 1 }, { 3, 1, 30 } } },
    { .name = "ce large", ce_ignore_sum, ce_ignore_sum_ref, 2, { GRAD, LABELS }, { 2, 1 }, { { 9000, 3 }, { 9000 } },
      3 },
    { .name = "mse large", mse_mean, mse_mean_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 3, 9000 }, { 3, 9000 } } },
    { .name = "bce large", bce_sum, bce_sum_ref, 2, { GRAD, GRAD }, { 2, 2 }, { { 3, 9000 }, { 3, 9000 } } },
};
enum { CASES = sizeof cases / sizeof cases[0] };

static void test_values(void **state) { (void)state, op_cases_values(cases, CASES); }
static void test_types(void **state) { (void)state, op_cases_types(cases, CASES); }
static void test_threads(void **state) { (void)state, op_cases_threads(cases, CASES); }
static void test_isolation(void **state) { (void)state, op_cases_isolation(cases, CASES); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_isolation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
