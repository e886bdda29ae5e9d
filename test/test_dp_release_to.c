/* A release that goes to the optimizer at once: the bits of a release and a step. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dp_batch.h"

/* More than two chunks of either loop and a rest; one element, of the other real type; nothing. */
enum { B = 3, PARAMS = 3, STEPS = 3, MOST = 40001 };

static const int64_t counts[PARAMS] = { MOST, 1, 0 };

typedef psg_status (*make_optimizer)(psg_context *, const psg_tensor *values, psg_optimizer **);

static psg_status make_sgd(psg_context *context, const psg_tensor *values, psg_optimizer **optimizer) {
    psg_sgd_options options = PSG_SGD_OPTIONS_INIT;
    options.momentum = 0.9;
    options.dampening = 0.25;
    options.weight_decay = 0.01;
    return psg_sgd_create(context, &options, values, PARAMS, optimizer);
}

static psg_status make_plain_sgd(psg_context *context, const psg_tensor *values, psg_optimizer **optimizer) {
    return psg_sgd_create(context, NULL, values, PARAMS, optimizer);
}

static psg_status make_adamw(psg_context *context, const psg_tensor *values, psg_optimizer **optimizer) {
    psg_adam_options options = PSG_ADAM_OPTIONS_INIT;
    options.decoupled = 1;
    options.weight_decay = 0.1;
    return psg_adam_create(context, &options, values, PARAMS, optimizer);
}

typedef struct run {
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *optimizer;
    psg_tensor value[PARAMS], update[PARAMS];
    double memory[2 * PARAMS][MOST];
} run;

static psg_dtype other_type(psg_dtype dtype) { return dtype == PSG_F32 ? PSG_F64 : PSG_F32; }

static run *open_run(psg_dtype dtype, make_optimizer make) {
    const unsigned char seed[32] = { 5 };
    psg_dp_options options = dp_external(1, 1, 2.5, 16);
    test_random random = { 11 };
    run *r = calloc(1, sizeof *r);
    r->context = test_context(2, NULL);
    for (int k = 0; k < PARAMS; k++) {
        const psg_dtype type = k == 1 ? other_type(dtype) : dtype;
        r->value[k] = psg_tensor_of(type, r->memory[k], 1, &counts[k]);
        r->update[k] = psg_tensor_of(type, r->memory[PARAMS + k], 1, &counts[k]);
        test_fill_normal(&random, &r->value[k], 1.0);
    }
    TEST_OK(r->context, psg_generator_create_seeded(r->context, seed, &r->generator));
    TEST_OK(r->context, psg_dp_create(r->context, r->generator, &options, counts, PARAMS, &r->dp));
    TEST_OK(r->context, make(r->context, r->value, &r->optimizer));
    return r;
}

static void close_run(run *r) {
    psg_optimizer_destroy(r->optimizer);
    psg_dp_destroy(r->dp);
    psg_generator_destroy(r->generator);
    test_context_free(r->context);
    free(r);
}

/* Rows of a random batch, the same for every run that has come as far. */
static void accumulate(run *r, int step) {
    test_random random = { 100 + (uint64_t)step };
    test_array rows[PARAMS];
    psg_block block[PARAMS];
    psg_gradient gradient[PARAMS];
    const psg_gradient *set[PARAMS];
    for (int k = 0; k < PARAMS; k++) {
        rows[k] = test_array_normal(&random, r->value[0].dtype, 2, (int64_t[]){ B, counts[k] }, TEST_CONTIGUOUS);
        block[k] = psg_rows(&rows[k].view);
        gradient[k] = psg_gradient_of_blocks(&block[k], 1, 1, &counts[k]);
        set[k] = &gradient[k];
    }
    psg_batch batch = dp_take(r->context, r->dp, 0, B);
    TEST_OK(r->context, psg_dp_accumulate(r->dp, &batch, set, PARAMS, NULL));
    for (int k = 0; k < PARAMS; k++) test_array_free(&rows[k]);
}

static void assert_same_values(const run *one, const run *two) {
    for (int k = 0; k < PARAMS; k++) {
        assert_memory_equal(one->memory[k], two->memory[k], (size_t)counts[k] * psg_dtype_size(one->value[k].dtype));
    }
}

static void step_in_one_pass(run *r, int step) {
    accumulate(r, step);
    TEST_OK(r->context, psg_dp_release_to(r->dp, r->optimizer));
}

static void step_in_two(run *r, int step) {
    accumulate(r, step);
    TEST_OK(r->context, psg_dp_release(r->dp, r->update, PARAMS));
    TEST_OK(r->context, psg_optimizer_step(r->optimizer, r->update, PARAMS));
}

static void compare_with_two_passes(psg_dtype dtype, make_optimizer make) {
    run *one = open_run(dtype, make), *two = open_run(dtype, make);
    for (int step = 0; step < STEPS; step++) {
        step_in_one_pass(one, step);
        step_in_two(two, step);
        assert_same_values(one, two);
    }
    close_run(one);
    close_run(two);
}

static void a_release_and_a_step_have_its_bits(void **state) {
    (void)state;
    const make_optimizer makers[] = { make_sgd, make_plain_sgd, make_adamw };
    for (size_t k = 0; k < sizeof makers / sizeof *makers; k++) {
        compare_with_two_passes(PSG_F32, makers[k]);
        compare_with_two_passes(PSG_F64, makers[k]);
    }
}

/* Without momentum and decay nothing but noise moves a value. */
static void an_empty_batch_is_noise(void **state) {
    (void)state;
    run *r = open_run(PSG_F64, make_plain_sgd);
    double before = test_get_at(&r->value[0], MOST - 1);
    TEST_OK(r->context, psg_dp_release_to(r->dp, r->optimizer));
    assert_true(test_get_at(&r->value[0], MOST - 1) != before);
    close_run(r);
}

static psg_status failing_hook(void *user, int64_t *sums, size_t count) {
    (void)user;
    (void)count;
    sums[0] = 1000000;
    return PSG_ERR_STATE;
}

/* The step is over: the next one has none of its sums, and the optimizer, whose first step differs from its others, has
 * not begun. */
static void a_failed_hook_moves_nothing(void **state) {
    (void)state;
    run *one = open_run(PSG_F64, make_sgd), *two = open_run(PSG_F64, make_sgd);
    accumulate(one, 0);
    accumulate(two, 0);
    psg_dp_set_reduce(one->dp, failing_hook, NULL);
    psg_dp_set_reduce(two->dp, failing_hook, NULL);
    assert_int_equal(psg_dp_release_to(one->dp, one->optimizer), PSG_ERR_STATE);
    assert_non_null(strstr(psg_context_message(one->context), "psg_dp_release_to: the reduce hook"));
    assert_int_equal(psg_dp_release(two->dp, two->update, PARAMS), PSG_ERR_STATE);
    assert_same_values(one, two);
    psg_dp_set_reduce(one->dp, NULL, NULL);
    psg_dp_set_reduce(two->dp, NULL, NULL);
    step_in_one_pass(one, 1);
    step_in_two(two, 1);
    assert_same_values(one, two);
    close_run(one);
    close_run(two);
}

/* Nothing is spent, and what was accumulated is there for the release that follows. */
static void optimizers_that_do_not_fit_are_refused(void **state) {
    (void)state;
    run *r = open_run(PSG_F32, make_sgd), *two = open_run(PSG_F32, make_sgd);
    float few[4] = { 0 };
    psg_tensor wrong[PARAMS] = { psg_f32_1d(few, 4), psg_f32_1d(few, 1), psg_f32_1d(few, 0) };
    psg_optimizer *short_of_one, *other_shape;
    TEST_OK(r->context, psg_sgd_create(r->context, NULL, r->value, PARAMS - 1, &short_of_one));
    TEST_OK(r->context, psg_sgd_create(r->context, NULL, wrong, PARAMS, &other_shape));
    accumulate(r, 0);
    assert_int_equal(psg_dp_release_to(NULL, r->optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_release_to(r->dp, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_release_to(r->dp, short_of_one), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(r->context), "has 2 values, must have 3"));
    assert_int_equal(psg_dp_release_to(r->dp, other_shape), PSG_ERR_SHAPE);
    assert_non_null(strstr(psg_context_message(r->context), "must have 40001 elements"));
    assert_int_equal(psg_dp_step(r->dp), 0);
    TEST_OK(r->context, psg_dp_release_to(r->dp, r->optimizer));
    assert_int_equal(psg_dp_step(r->dp), 1);
    step_in_two(two, 0);
    assert_same_values(r, two);
    psg_optimizer_destroy(short_of_one);
    psg_optimizer_destroy(other_shape);
    close_run(r);
    close_run(two);
}

/* The parent's next release would draw the same noise. */
static void a_child_is_refused(void **state) {
    (void)state;
    run *r = open_run(PSG_F32, make_plain_sgd);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        float before = *(float *)r->value[0].data;
        psg_status status = psg_dp_release_to(r->dp, r->optimizer);
        _exit(status == PSG_ERR_FORKED && *(float *)r->value[0].data == before && psg_dp_step(r->dp) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close_run(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_release_and_a_step_have_its_bits),
        cmocka_unit_test(an_empty_batch_is_noise),
        cmocka_unit_test(a_failed_hook_moves_nothing),
        cmocka_unit_test(optimizers_that_do_not_fit_are_refused),
        cmocka_unit_test(a_child_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
