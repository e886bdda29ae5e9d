/* Sets of parameters: first values, lists, and what is refused. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static psg_params *new_set(psg_context *context, psg_dtype dtype) {
    psg_params *params;
    TEST_OK(context, psg_params_create(context, dtype, &params));
    return params;
}

static const double *values_of(psg_param *param) { return psg_param_value(param)->data; }

/* ---- first values ---- */

enum { ROWS = 60, COLUMNS = 50, KERNEL = 9, COUNT = ROWS * COLUMNS * KERNEL };

/* Of COUNT independent draws with mean 0 and variance v, the mean of x^2 has deviation v sqrt((kurtosis - 1) /
 * COUNT). */
static void check_moments(const double *x, double variance, double kurtosis) {
    double sum = 0, square = 0, product = 0;
    for (int i = 0; i < COUNT; i++) {
        sum += x[i];
        square += x[i] * x[i];
        product += i ? x[i] * x[i - 1] : 0;
    }
    assert_true(fabs(sum) <= 5 * sqrt(COUNT * variance));
    assert_true(fabs(square / COUNT - variance) <= 5 * variance * sqrt((kurtosis - 1) / COUNT));
    assert_true(fabs(product) <= 5 * sqrt(COUNT) * variance);
}

/* Within the bound, and to a thousandth of it. */
static void check_uniform(const double *x, double bound) {
    double least = 0, most = 0;
    for (int i = 0; i < COUNT; i++) {
        least = fmin(least, x[i]);
        most = fmax(most, x[i]);
    }
    assert_true(least >= -bound && most <= bound);
    assert_true(least < -0.999 * bound && most > 0.999 * bound);
    check_moments(x, bound * bound / 3, 1.8);
}

static void first_values_have_their_law(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_params *params = new_set(context, PSG_F64);
    psg_param *uniform = psg_params_add(params, "uniform", psg_init_uniform(0.25), PSG_SHAPE(ROWS, COLUMNS, 3, 3));
    psg_param *normal = psg_params_add(params, "normal", psg_init_normal(3), PSG_SHAPE(ROWS, COLUMNS, 3, 3));
    psg_param *linear = psg_params_add(params, "linear", psg_init_linear(), PSG_SHAPE(ROWS, COLUMNS, 3, 3));
    psg_param *xavier = psg_params_add(params, "xavier", psg_init_xavier(), PSG_SHAPE(ROWS, COLUMNS, 3, 3));
    psg_param *kaiming = psg_params_add(params, "kaiming", psg_init_kaiming(), PSG_SHAPE(ROWS, COLUMNS, 3, 3));
    psg_param *constant = psg_params_add(params, "constant", psg_init_constant(-2.5), PSG_SHAPE(7));
    psg_param *scalar = psg_params_add(params, "scalar", psg_init_linear(), 0, NULL);
    TEST_OK(context, psg_params_initialize(params, 11));
    check_uniform(values_of(uniform), 0.25);
    check_moments(values_of(normal), 9, 3);
    check_uniform(values_of(linear), 1 / sqrt(COLUMNS * KERNEL));
    check_uniform(values_of(xavier), sqrt(6.0 / ((ROWS + COLUMNS) * KERNEL)));
    check_moments(values_of(kaiming), 2.0 / (COLUMNS * KERNEL), 3);
    for (int i = 0; i < 7; i++) assert_true(values_of(constant)[i] == -2.5);
    assert_true(fabs(values_of(scalar)[0]) < 1);
    psg_params_destroy(params);
    test_context_free(context);
}

/* A function of seed and name: not of the other parameters, nor, but for rounding, of the type. */
static void first_values_are_each_their_own(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_params *a = new_set(context, PSG_F64), *b = new_set(context, PSG_F32);
    psg_param *first = psg_params_add(a, "w", psg_init_normal(1), PSG_SHAPE(30, 41));
    psg_params_add(b, "another", psg_init_normal(1), PSG_SHAPE(5));
    psg_param *second = psg_params_add(b, "w", psg_init_normal(1), PSG_SHAPE(41, 30));
    TEST_OK(context, psg_params_initialize(a, 5));
    TEST_OK(context, psg_params_initialize(b, 5));
    const float *f32 = psg_param_value(second)->data;
    for (int i = 0; i < 30 * 41; i++) assert_true(f32[i] == (float)values_of(first)[i]);
    assert_true(f32[0] != ((const float *)psg_params_flat(b).data)[0]);   /* another name */
    const double before = values_of(first)[0];
    TEST_OK(context, psg_params_initialize(a, 6));                         /* another seed, the same memory */
    assert_true(values_of(first)[0] != before);
    psg_params_destroy(a);
    psg_params_destroy(b);
    test_context_free(context);
}

/* ---- as others take it ---- */

static void lists_are_in_order_and_by_what_is_trained(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_params *params = new_set(context, PSG_F32);
    psg_param *p[20];
    char name[20][8];
    for (int k = 0; k < 20; k++) {
        snprintf(name[k], sizeof name[k], "p%d", k);
        p[k] = psg_params_add(params, name[k], psg_init_constant(k), PSG_SHAPE(k % 3, 2));
        psg_param_set_trainable(p[k], k % 4 != 1);
    }
    assert_int_equal(psg_params_all(params).count, 0);
    assert_int_equal(psg_params_flat(params).rank, -1);
    TEST_OK(context, psg_params_initialize(params, 0));
    const psg_tensor flat = psg_params_flat(params);
    const psg_param_list all = psg_params_all(params), trained = psg_params_trainable(params);
    assert_int_equal(all.count, 20);
    assert_int_equal(trained.count, 15);
    int64_t place = 0;
    for (size_t k = 0, t = 0; k < 20; k++) {
        assert_ptr_equal(all.params[k], p[k]);
        assert_ptr_equal(psg_params_find(params, name[k]), p[k]);
        assert_string_equal(all.named[k].name, name[k]);
        assert_int_equal(all.counts[k], 2 * (k % 3));
        assert_ptr_equal(all.values[k].data, (float *)flat.data + place);
        for (int64_t i = 0; i < all.counts[k]; i++) assert_true(((float *)flat.data)[place++] == (float)k);
        if (k % 4 == 1) continue;
        assert_ptr_equal(trained.params[t], p[k]);
        assert_string_equal(trained.named[t].name, name[k]);
        assert_int_equal(trained.counts[t], all.counts[k]);
        assert_ptr_equal(trained.values[t++].data, all.values[k].data);
    }
    assert_int_equal(flat.shape[0], place);
    assert_null(psg_params_find(params, "p20"));
    psg_params_destroy(params);
    test_context_free(context);
}

static void gradients_are_those_of_the_trained(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_params *params = new_set(context, PSG_F32);
    psg_param *weight = psg_params_add(params, "weight", psg_init_linear(), PSG_SHAPE(3, 2));
    psg_param *frozen = psg_params_add(params, "frozen", psg_init_constant(2), PSG_SHAPE(3));
    psg_param *gain = psg_params_add(params, "gain", psg_init_constant(0.5), PSG_SHAPE(3));
    const psg_gradient *const *set;
    const float images[4] = { 1, 2, 3, 4 };
    const int64_t labels[2] = { 0, 2 };
    const psg_tensor x = psg_f32_2d(images, 2, 2), y = psg_i64_1d(labels, 2);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    test_fails(context, psg_params_gradients(params, tape, &set), PSG_ERR_STATE, "before psg_params_initialize");
    TEST_OK(context, psg_params_initialize(params, 0));
    psg_param_set_trainable(frozen, 0);
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_var scores = psg_linear(tape, psg_input(tape, &x), psg_use(tape, weight), psg_use(tape, frozen));
    scores = psg_mul(tape, scores, psg_use(tape, gain));
    TEST_OK(context, psg_backward(tape, psg_cross_entropy(tape, scores, psg_input(tape, &y), NULL)));
    TEST_OK(context, psg_params_gradients(params, tape, &set));
    psg_gradient expected[2];
    TEST_OK(context, psg_gradient_of(tape, weight, &expected[0]));
    TEST_OK(context, psg_gradient_of(tape, gain, &expected[1]));
    const psg_gradient *const pair[2] = { &expected[0], &expected[1] };
    double norms[2], expected_norms[2];
    TEST_OK(context, psg_sqnorm(context, set, 2, norms, NULL, NULL));
    TEST_OK(context, psg_sqnorm(context, pair, 2, expected_norms, NULL, NULL));
    assert_memory_equal(norms, expected_norms, sizeof norms);
    assert_string_equal(set[0]->name, "weight");
    assert_string_equal(set[1]->name, "gain");
    psg_param_set_trainable(gain, 0);          /* one less than before: no gradient of an earlier pass is left */
    TEST_OK(context, psg_params_gradients(params, tape, &set));
    assert_non_null(set[0]);
    assert_null(set[1]);
    psg_tape_destroy(tape);
    psg_params_destroy(params);
    test_context_free(context);
}

/* ---- what is refused ---- */

static void wrong_parameters_are_refused(void **state) {
    (void)state;
    const int64_t shape[PSG_MAX_RANK] = { 2, 3, 1, 1, 1, 1, 1, 1 }, negative[1] = { -1 };
    const int64_t huge[2] = { (int64_t)1 << 40, (int64_t)1 << 40 };
    const psg_init good = psg_init_constant(0);
    const struct {
        const char *name;
        psg_init init;
        int rank;
        const int64_t *shape;
        psg_status status;
        const char *words;
    } cases[] = {
        { NULL, good, 1, shape, PSG_ERR_ARGUMENT, "name is NULL" },
        { "there", good, 1, shape, PSG_ERR_ARGUMENT, "there is there already" },
        { "w", good, -1, shape, PSG_ERR_SHAPE, "w: shape is NULL, or rank is outside [0, 7]" },
        { "w", good, PSG_MAX_RANK, shape, PSG_ERR_SHAPE, "w: shape is NULL, or rank is outside [0, 7]" },
        { "w", good, 2, NULL, PSG_ERR_SHAPE, "w: shape is NULL, or rank is outside [0, 7]" },
        { "w", good, 1, negative, PSG_ERR_SHAPE, "w: shape is (-1), must have no negative size" },
        { "w", good, 2, huge, PSG_ERR_OVERFLOW, "the set does not fit memory" },
        { "w", psg_init_constant(NAN), 1, shape, PSG_ERR_ARGUMENT, "w: init's value is not finite" },
        { "w", psg_init_uniform(-1), 1, shape, PSG_ERR_ARGUMENT, "w: init's value is negative" },
        { "w", { (psg_init_kind)77, 0 }, 1, shape, PSG_ERR_ARGUMENT, "w: init is no psg_init_kind" },
    };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        psg_params *params = new_set(context, PSG_F32);
        assert_non_null(psg_params_add(params, "there", good, 1, shape));
        assert_null(psg_params_add(params, cases[k].name, cases[k].init, cases[k].rank, cases[k].shape));
        assert_null(psg_params_add(params, "later", good, 1, shape));
        test_fails(context, psg_params_initialize(params, 1), cases[k].status, cases[k].words);
        assert_int_equal(psg_params_all(params).count, 0);
        psg_params_destroy(params);
    }
    test_context_free(context);
}

/* What takes the arrays of a set says what the set lacks. */
static void arrays_come_with_the_memory(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_params *params = new_set(context, PSG_F32);
    assert_non_null(psg_params_add(params, "weight", psg_init_constant(1), PSG_SHAPE(2)));
    const psg_param_list all = psg_params_trainable(params);
    psg_sgd_options step = PSG_SGD_OPTIONS_INIT;
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    psg_optimizer *sgd;
    psg_generator *generator;
    psg_dp *dp;
    step.lr = 1, options.records = 9, options.sample_rate = 0.5, options.noise_multiplier = 1;
    TEST_OK(context, psg_generator_create(context, &generator));
    test_fails(context, psg_sgd_create(context, &step, all.values, all.count, &sgd), PSG_ERR_ARGUMENT,
               "a psg_params has its values after psg_params_initialize");
    test_fails(context, psg_dp_create(context, generator, &options, all.counts, all.count, &dp), PSG_ERR_ARGUMENT,
               "a psg_params has its counts after psg_params_initialize");
    psg_generator_destroy(generator);
    psg_params_destroy(params);
    test_context_free(context);
}

static void order_of_calls_is_kept(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_params *params = new_set(context, PSG_F32), *none;
    psg_param *early = psg_params_add(params, "early", psg_init_constant(1), PSG_SHAPE(2));
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_use(tape, early);
    assert_int_equal(psg_tape_status(tape), PSG_ERR_STATE);
    assert_non_null(strstr(psg_tape_message(tape), "\"early\" has no memory before psg_params_initialize"));
    TEST_OK(context, psg_params_initialize(params, 0));
    assert_null(psg_params_add(params, "late", psg_init_constant(1), PSG_SHAPE(2)));
    assert_non_null(strstr(psg_context_message(context), "late: psg_params_initialize has taken the memory"));
    test_fails(context, psg_params_create(context, PSG_I64, &none), PSG_ERR_DTYPE, "dtype is i64");
    assert_null(none);
    none = new_set(context, PSG_F64);
    TEST_OK(context, psg_params_initialize(none, 0));
    assert_int_equal(psg_params_all(none).count, 0);
    assert_int_equal(psg_params_flat(none).shape[0], 0);
    psg_tape_destroy(tape);
    psg_params_destroy(params);
    psg_params_destroy(none);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_values_have_their_law),
        cmocka_unit_test(first_values_are_each_their_own),
        cmocka_unit_test(lists_are_in_order_and_by_what_is_trained),
        cmocka_unit_test(gradients_are_those_of_the_trained),
        cmocka_unit_test(wrong_parameters_are_refused),
        cmocka_unit_test(arrays_come_with_the_memory),
        cmocka_unit_test(order_of_calls_is_kept),
    };
    return cmocka_run_group_tests_name("params", tests, NULL, NULL);
}
