/* Convolutions against plain loops in double: values, input gradients, per-sample gradients, over random geometries. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conv_reference.h"

/* ---- one pass ---- */

typedef struct world {
    psg_context *context;
    psg_tape *tape;
    psg_param *weight, *bias;
    test_array x, grad_y, weight_values, bias_values;
    double *x_f64, *grad_y_f64, *weight_f64, *bias_f64;
    psg_tensor y, grad_x;
} world;

static double *values_of(const psg_tensor *t) {
    int64_t count = psg_tensor_count(t);
    double *values = calloc((size_t)(count ? count : 1), sizeof *values);
    assert_non_null(values);
    for (int64_t k = 0; k < count; k++) values[k] = test_get_at(t, k);
    return values;
}

/* The view of a (first, second, ...) array with its first two dimensions exchanged in memory. */
static test_array batched_array(test_random *random, const conv_case *c, psg_dtype dtype, const int64_t *shape,
                                bool batch_second, psg_tensor *given) {
    int64_t swapped[5] = { shape[1], shape[0] };
    for (int d = 2; d < c->spatial + 2; d++) swapped[d] = shape[d];
    test_array array = test_array_normal(random, dtype, c->spatial + 2, batch_second ? swapped : shape,
                                         TEST_CONTIGUOUS);
    *given = array.view;
    return array;
}

/* Batch first, whatever the array was. */
static psg_tensor batch_first(psg_tensor t, bool batch_second) {
    if (!batch_second) return t;
    int64_t size = t.shape[0], stride = t.stride[0];
    t.shape[0] = t.shape[1];
    t.stride[0] = t.stride[1];
    t.shape[1] = size;
    t.stride[1] = stride;
    return t;
}

static void make_world(world *w, test_random *random, const conv_case *c, psg_dtype dtype, bool batch_second,
                       unsigned threads, const char *isa) {
    int64_t x_shape[5], y_shape[5], weight_shape[5];
    psg_tensor given;
    conv_x_shape(c, x_shape);
    conv_y_shape(c, y_shape);
    conv_weight_shape(c, weight_shape);
    *w = (world){ .context = test_context(threads, isa) };
    TEST_OK(w->context, psg_tape_create(w->context, &w->tape));
    w->x = batched_array(random, c, dtype, x_shape, batch_second, &given);
    w->grad_y = batched_array(random, c, dtype, y_shape, batch_second, &given);
    w->weight_values = test_array_normal(random, dtype, c->spatial + 2, weight_shape, TEST_CONTIGUOUS);
    w->bias_values = test_array_normal(random, dtype, 1, &c->out_channels, TEST_CONTIGUOUS);
    TEST_OK(w->context, psg_param_create(w->context, "weight", &w->weight_values.view, &w->weight));
    TEST_OK(w->context, psg_param_create(w->context, "bias", &w->bias_values.view, &w->bias));
    psg_tensor x = batch_first(w->x.view, batch_second), grad_y = batch_first(w->grad_y.view, batch_second);
    w->x_f64 = values_of(&x);
    w->grad_y_f64 = values_of(&grad_y);
    w->weight_f64 = values_of(&w->weight_values.view);
    w->bias_f64 = values_of(&w->bias_values.view);
}

static void free_world(world *w) {
    psg_param_destroy(w->weight);
    psg_param_destroy(w->bias);
    psg_tape_destroy(w->tape);
    test_context_free(w->context);
    test_array_free(&w->x);
    test_array_free(&w->grad_y);
    test_array_free(&w->weight_values);
    test_array_free(&w->bias_values);
    free(w->x_f64);
    free(w->grad_y_f64);
    free(w->weight_f64);
    free(w->bias_f64);
}

static void run_pass(world *w, const conv_case *c, const psg_pass *pass) {
    TEST_OK(w->context, psg_tape_begin(w->tape, pass));
    psg_var x = psg_input_with_grad(w->tape, &w->x.view);
    psg_var y = conv_record(w->tape, c, x, psg_use(w->tape, w->weight),
                            c->with_bias ? psg_use(w->tape, w->bias) : psg_none());
    psg_status status = psg_backward_from(w->tape, y, &w->grad_y.view);
    if (status) fail_msg("%s", psg_tape_message(w->tape));
    TEST_OK(w->context, psg_value(w->tape, y, &w->y));
    TEST_OK(w->context, psg_input_grad(w->tape, x, &w->grad_x));
    w->y = batch_first(w->y, pass->batch_second);
    w->grad_x = batch_first(w->grad_x, pass->batch_second);
}

static conv_answer reference_of(const world *w, const conv_case *c) {
    return conv_reference(c, w->x_f64, w->weight_f64, c->with_bias ? w->bias_f64 : NULL, w->grad_y_f64);
}

/* ---- comparisons ---- */

/* No sum is longer than this: channels and taps, or positions. */
static double longest_sum(const conv_case *c) {
    double taps = 1, positions = 1, channels = (double)(c->in_channels + c->out_channels);
    for (int d = 0; d < CONV_AXES; d++) {
        taps *= (double)c->kernel[d];
        positions *= (double)(c->transposed ? c->in[d] : c->out[d]);
    }
    return taps * channels + positions + 4;
}

static void compare(const conv_case *c, const psg_tensor *actual, const double *expected, const double *terms,
                    int64_t count, const char *what) {
    assert_int_equal(psg_tensor_count(actual), count);
    for (int64_t k = 0; k < count; k++) {
        test_near(test_get_at(actual, k), expected[k], test_bound(actual->dtype, longest_sum(c), terms[k]), what, k);
    }
}

static void compare_gradient(const world *w, const conv_case *c, const psg_param *param, const double *expected,
                             const double *terms, const char *what) {
    const psg_tensor *value = psg_param_value(param);
    psg_gradient gradient;
    int64_t shape[PSG_MAX_RANK] = { c->batch };
    TEST_OK(w->context, psg_gradient_of(w->tape, param, &gradient));
    for (int d = 0; d < value->rank; d++) shape[d + 1] = value->shape[d];
    test_random random = { 5 };
    test_array out = test_array_new(&random, value->dtype, value->rank + 1, shape, TEST_CONTIGUOUS);
    TEST_OK(w->context, psg_grad_sample(w->context, &gradient, 1.0, PSG_OVERWRITE, &out.view));
    compare(c, &out.view, expected, terms, c->batch * psg_tensor_count(value), what);
    test_array_free(&out);
}

static void compare_values(const world *w, const conv_case *c, const conv_answer *a) {
    compare(c, &w->y, a->y, a->terms_y, a->y_count, "y");
    compare(c, &w->grad_x, a->grad_x, a->terms_grad_x, a->x_count, "grad x");
}

static void compare_all(const world *w, const conv_case *c, const conv_answer *a) {
    compare_values(w, c, a);
    compare_gradient(w, c, w->weight, a->grad_weight, a->terms_grad_weight, "grad weight");
    if (c->with_bias) compare_gradient(w, c, w->bias, a->grad_bias, a->terms_grad_bias, "grad bias");
}

static void check_case(test_random *random, const conv_case *c, psg_dtype dtype, bool batch_second, const char *isa) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = batch_second;
    world w;
    make_world(&w, random, c, dtype, batch_second, 2, isa);
    run_pass(&w, c, &pass);
    conv_answer a = reference_of(&w, c);
    compare_all(&w, c, &a);
    conv_answer_free(&a);
    free_world(&w);
}

/* ---- tests ---- */

static void random_geometries_agree_with_loops(void **state) {
    (void)state;
    const char *isas[3];
    const size_t isa_count = test_isas(isas);
    test_random random = { 11 };
    for (int k = 0; k < 400; k++) {
        conv_case c = conv_random_case(&random);
        psg_dtype dtype = test_range(&random, 0, 1) ? PSG_F32 : PSG_F64;
        bool second = test_range(&random, 0, 2) == 0;
        check_case(&random, &c, dtype, second, isas[(size_t)k % isa_count]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_geometries_agree_with_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
