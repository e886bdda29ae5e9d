/* Replays the values that test/golden/make_golden.py took from PyTorch: whole passes, in f64 and f32, with the batch of
 * a sum and of a mean.  Ops have theirs in test/golden/cases. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PSG_GOLDEN_DIR
#define PSG_GOLDEN_DIR "test/golden"
#endif

/* ---- files ---- */

enum { NAME = 64, NUMBERS = 8, TENSORS = 48 };

typedef struct golden {
    char name[NAME], op[NAME];
    int number_count, tensor_count;
    struct { char name[NAME]; double value; } number[NUMBERS];
    struct { char name[NAME]; psg_tensor value; } tensor[TENSORS];   /* f64 or i64 */
} golden;

static void read_values(FILE *file, const psg_tensor *tensor) {
    int64_t count = psg_tensor_count(tensor);
    for (int64_t k = 0; k < count; k++) {
        double value;
        assert_int_equal(fscanf(file, "%lf", &value), 1);
        test_set_at(tensor, k, value);
    }
}

static void read_tensor(FILE *file, golden *g) {
    char kind[8];
    int rank;
    int64_t shape[PSG_MAX_RANK];
    int k = g->tensor_count++;
    assert_true(k < TENSORS);
    assert_int_equal(fscanf(file, "%63s %7s %d", g->tensor[k].name, kind, &rank), 3);
    for (int d = 0; d < rank; d++) {
        long long size;
        assert_int_equal(fscanf(file, "%lld", &size), 1);
        shape[d] = size;
    }
    psg_tensor *value = &g->tensor[k].value;
    *value = psg_tensor_of(strcmp(kind, "i64") ? PSG_F64 : PSG_I64, NULL, rank, shape);
    value->data = malloc((size_t)psg_tensor_count(value) * 8 + 8);
    read_values(file, value);
}

static void free_golden(golden *g) {
    for (int k = 0; k < g->tensor_count; k++) free(g->tensor[k].value.data);
}

/* The next case; false at the end of the file. */
static bool read_golden(FILE *file, golden *g) {
    char word[NAME];
    *g = (golden){ 0 };
    if (fscanf(file, "%63s", word) != 1) return false;
    assert_string_equal(word, "case");
    assert_int_equal(fscanf(file, "%63s %63s", g->name, g->op), 2);
    for (;;) {
        assert_int_equal(fscanf(file, "%63s", word), 1);
        if (!strcmp(word, "end")) return true;
        if (!strcmp(word, "tensor")) {
            read_tensor(file, g);
        } else {
            assert_string_equal(word, "number");
            int k = g->number_count++;
            assert_true(k < NUMBERS);
            assert_int_equal(fscanf(file, "%63s %lf", g->number[k].name, &g->number[k].value), 2);
        }
    }
}

static const psg_tensor *find(const golden *g, const char *name) {
    for (int k = 0; k < g->tensor_count; k++) {
        if (!strcmp(g->tensor[k].name, name)) return &g->tensor[k].value;
    }
    return NULL;
}

static double number(const golden *g, const char *name) {
    for (int k = 0; k < g->number_count; k++) {
        if (!strcmp(g->number[k].name, name)) return g->number[k].value;
    }
    fail_msg("%s has no number %s", g->name, name);
    return 0;
}

static int integer(const golden *g, const char *name) { return (int)number(g, name); }

/* ---- one replay ---- */

enum { PARAMS = 8 };

typedef struct replay {
    psg_context *context;
    psg_tape *tape;
    const golden *g;
    psg_dtype dtype;
    psg_param *param[PARAMS];
    int param_count;
    void *memory[32];
    int memory_count;
    psg_var x, y;
} replay;

/* A golden tensor in the replay's real type (integers as they are). */
static psg_tensor converted(replay *r, const psg_tensor *from) {
    if (from->dtype == PSG_I64) return *from;
    void *data = malloc((size_t)psg_tensor_count(from) * 8 + 8);
    r->memory[r->memory_count++] = data;
    psg_tensor to = psg_tensor_of(r->dtype, data, from->rank, from->shape);
    for (int64_t k = 0; k < psg_tensor_count(from); k++) test_set_at(&to, k, test_get_at(from, k));
    return to;
}

static psg_var input(replay *r, const char *name) {
    psg_tensor value = converted(r, find(r->g, name));
    return value.dtype == PSG_I64 ? psg_input(r->tape, &value) : psg_input_with_grad(r->tape, &value);
}

/* A parameter; psg_none() when the case has none of that name. */
static psg_var param(replay *r, const char *name) {
    const psg_tensor *stored = find(r->g, name);
    if (!stored) return psg_none();
    for (int k = 0; k < r->param_count; k++) {
        if (!strcmp(psg_param_name(r->param[k]), name)) return psg_use(r->tape, r->param[k]);
    }
    psg_tensor value = converted(r, stored);
    psg_param **made = &r->param[r->param_count++];
    TEST_OK(r->context, psg_param_create(r->context, name, &value, made));
    return psg_use(r->tape, *made);
}

static void open_replay(replay *r, const golden *g, psg_dtype dtype, psg_loss_reduction reduction) {
    *r = (replay){ .context = test_context(2, NULL), .g = g, .dtype = dtype };
    TEST_OK(r->context, psg_tape_create(r->context, &r->tape));
    psg_pass pass = PSG_PASS_INIT;
    pass.loss_reduction = reduction;
    TEST_OK(r->context, psg_tape_begin(r->tape, &pass));
}

static void close_replay(replay *r) {
    psg_tape_destroy(r->tape);
    for (int k = 0; k < r->param_count; k++) psg_param_destroy(r->param[k]);
    psg_context_destroy(r->context);
    for (int k = 0; k < r->memory_count; k++) free(r->memory[k]);
}

static double largest_of(const psg_tensor *tensor) {
    double largest = 0;
    for (int64_t k = 0; k < psg_tensor_count(tensor); k++) largest = fmax(largest, fabs(test_get_at(tensor, k)));
    return largest;
}

/* What rounding is measured by: the largest value, or a twentieth of the output gradient.  Where a norm's input
 * gradient cancels altogether (over one or two elements), its terms count, which are up to 1 / sqrt(eps) larger. */
static double size_of_terms(const golden *g, double largest) {
    const psg_tensor *grad_output = find(g, "grad_output");
    double from_output = grad_output ? 0.05 * largest_of(grad_output) : 1e-3;
    bool cancels = strstr(g->op, "_norm") && largest < 1e-3 * from_output && number(g, "eps") > 0;
    return fmax(largest, cancels ? from_output / sqrt(number(g, "eps")) : from_output);
}

/* The tolerance is 1e-10 (f64) or 2e-5 (f32: some hundred roundings) of the size of the terms. */
static void compare(const replay *r, const psg_tensor *actual, const psg_tensor *expected, double factor,
                    const char *what) {
    char label[3 * NAME];
    snprintf(label, sizeof label, "%s %s: %s", r->g->name, psg_dtype_name(r->dtype), what);
    int64_t count = psg_tensor_count(expected);
    if (count != psg_tensor_count(actual) || actual->rank != expected->rank) fail_msg("%s: another shape", label);
    for (int d = 0; d < actual->rank; d++) {
        if (actual->shape[d] != expected->shape[d]) fail_msg("%s: another shape", label);
    }
    double size = size_of_terms(r->g, fabs(factor) * largest_of(expected));
    double tolerance = (r->dtype == PSG_F64 ? 1e-10 : 2e-5) * size;
    for (int64_t k = 0; k < count; k++) {
        test_near(test_get_at(actual, k), factor * test_get_at(expected, k), tolerance, label, k);
    }
}

static void compare_input_grad(replay *r, psg_var var, double factor, const char *name) {
    char key[NAME + 8];
    snprintf(key, sizeof key, "grad_%s", name);
    psg_tensor grad;
    test_status(r->context, psg_input_grad(r->tape, var, &grad), PSG_OK, r->g->name);
    compare(r, &grad, find(r->g, key), factor, key);
}

static psg_gradient gradient_of(replay *r, int k) {
    psg_gradient gradient;
    test_status(r->context, psg_gradient_of(r->tape, r->param[k], &gradient), PSG_OK, r->g->name);
    return gradient;
}

static void compare_samples(replay *r, int k, double factor) {
    char key[NAME + 8];
    snprintf(key, sizeof key, "sample_%s", psg_param_name(r->param[k]));
    const psg_tensor *expected = find(r->g, key);
    assert_non_null(expected);
    psg_gradient gradient = gradient_of(r, k);
    psg_tensor out = converted(r, expected);
    test_fill_value(&out, NAN);
    TEST_OK(r->context, psg_grad_sample(r->context, &gradient, 1.0, PSG_OVERWRITE, &out));
    compare(r, &out, expected, factor, key);
}

static int replay_file(const char *name, void (*one)(const golden *, psg_dtype, psg_loss_reduction)) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", PSG_GOLDEN_DIR, name);
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s cannot be read", path);
    golden *g = malloc(sizeof *g);
    int cases = 0;
    for (; read_golden(file, g); cases++) {
        for (int k = 0; k < 4; k++) one(g, (psg_dtype)(k % 2), k / 2 ? PSG_LOSS_MEAN : PSG_LOSS_SUM);
        free_golden(g);
    }
    free(g);
    fclose(file);
    return cases;
}

/* ---- whole passes ---- */

static psg_var mlp(replay *r, psg_var x) {
    psg_tape *t = r->tape;
    psg_var h = psg_gelu(t, psg_linear(t, x, param(r, "w1"), param(r, "b1")), 0);
    h = psg_layer_norm(t, h, 1, (int64_t[]){ 6 }, param(r, "gain"), param(r, "shift"), 1e-5);
    return psg_linear(t, h, param(r, "w2"), param(r, "b2"));
}

/* One weight and one bias used twice. */
static psg_var tied(replay *r, psg_var x) {
    psg_tape *t = r->tape;
    psg_var h = psg_tanh(t, psg_linear(t, x, param(r, "w"), param(r, "b")));
    h = psg_linear(t, h, param(r, "w"), param(r, "b"));
    h = psg_group_norm(t, h, 1, param(r, "gain"), param(r, "shift"), 1e-5);
    h = psg_linear(t, h, param(r, "head"), psg_none());
    return psg_mean(t, h, 1, (int[]){ 1 }, 0);
}

static void compare_doubles(const replay *r, const double *actual, const char *name) {
    const psg_tensor *expected = find(r->g, name);
    psg_tensor view = psg_tensor_of(PSG_F64, (void *)(uintptr_t)actual, expected->rank, expected->shape);
    compare(r, &view, expected, 1.0, name);
}

/* "weighted_w1", ... in PSG_F64. */
static void new_sums(replay *r, const char *prefix, psg_tensor *sums, const psg_tensor **expected) {
    for (int k = 0; k < r->param_count; k++) {
        char key[2 * NAME];
        snprintf(key, sizeof key, "%s_%s", prefix, psg_param_name(r->param[k]));
        expected[k] = find(r->g, key);
        assert_non_null(expected[k]);
        r->memory[r->memory_count] = malloc((size_t)psg_tensor_count(expected[k]) * 8);
        sums[k] = psg_tensor_of(PSG_F64, r->memory[r->memory_count++], expected[k]->rank, expected[k]->shape);
    }
}

static void compare_sums(const replay *r, const psg_tensor *sums, const psg_tensor *const *expected,
                         const char *what) {
    for (int k = 0; k < r->param_count; k++) compare(r, &sums[k], expected[k], 1.0, what);
}

static void compare_questions(replay *r) {
    psg_gradient gradient[PARAMS];
    const psg_gradient *set[PARAMS];
    size_t count = (size_t)r->param_count;
    for (size_t k = 0; k < count; k++) {
        gradient[k] = gradient_of(r, (int)k);
        set[k] = &gradient[k];
    }
    psg_context *context = r->context;
    double sqnorm[8], gram[64], factors[8];
    psg_tensor sums[PARAMS];
    const psg_tensor *expected[PARAMS];
    TEST_OK(context, psg_sqnorm(context, set, count, sqnorm, NULL, NULL));
    compare_doubles(r, sqnorm, "sqnorm");
    TEST_OK(context, psg_gram(context, set, count, gram));
    compare_doubles(r, gram, "gram");
    new_sums(r, "weighted", sums, expected);
    TEST_OK(context, psg_weighted_sum(context, set, count, find(r->g, "weights")->data, PSG_OVERWRITE, sums));
    compare_sums(r, sums, expected, "weighted");
    new_sums(r, "squares", sums, expected);
    TEST_OK(context, psg_sum_of_squares(context, set, count, PSG_OVERWRITE, sums));
    compare_sums(r, sums, expected, "squares");
    psg_clip clip = { .max_grad_norm = number(r->g, "max_grad_norm") };
    TEST_OK(context, psg_clipped_sum(context, set, count, &clip, PSG_OVERWRITE, sums, NULL, factors, NULL));
    for (int64_t n = 0; n < find(r->g, "x")->shape[0]; n++) {   /* within the margin of the exact factors */
        double exact = test_get_at(find(r->g, "factors"), n);
        assert_true(factors[n] <= exact * (1 + 1e-5) && factors[n] >= exact * (1 - 2e-4));
    }
}

static void replay_model(const golden *g, psg_dtype dtype, psg_loss_reduction reduction) {
    psg_loss_reduction stored = integer(g, "reduction") == PSG_MEAN ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    if (reduction != stored) return;   /* the pass declares what the loss does */
    replay r;
    open_replay(&r, g, dtype, reduction);
    r.x = input(&r, "x");
    psg_var logits = !strcmp(g->op, "mlp") ? mlp(&r, r.x) : tied(&r, r.x);
    psg_cross_entropy_options options = PSG_CROSS_ENTROPY_OPTIONS_INIT;
    options.reduction = (psg_reduction)integer(g, "reduction");
    psg_var loss = psg_cross_entropy(r.tape, logits, input(&r, "target"), &options);
    if (psg_backward(r.tape, loss)) fail_msg("%s: %s", g->name, psg_tape_message(r.tape));
    psg_tensor value;
    TEST_OK(r.context, psg_value(r.tape, loss, &value));
    compare(&r, &value, find(g, "value"), 1.0, "loss");
    double batch = (double)find(g, "x")->shape[0];   /* PyTorch's is of the mean, ours of each sample's own loss */
    compare_input_grad(&r, r.x, reduction == PSG_LOSS_MEAN ? batch : 1.0, "x");
    for (int k = 0; k < r.param_count; k++) compare_samples(&r, k, 1.0);
    compare_questions(&r);
    close_replay(&r);
}

static void models_agree_with_pytorch(void **state) {
    (void)state;
    assert_int_equal(replay_file("models.txt", replay_model), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_agree_with_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
