/* A private training step takes no memory once its batches have been as large as they get. */
#include "dp_batch.h"

#include <math.h>

enum { LARGEST = 160, POSITIONS = 5, IN = 12, HIDDEN = 24, CLASSES = 7, PARAMS = 6, WARM = 2,
       STEPS = 12 };

typedef struct trainer {
    psg_context *context;
    psg_tape *tape;
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *sgd;
    test_array value[PARAMS], release[PARAMS];
    psg_tensor releases[PARAMS];
    psg_param *param[PARAMS];
} trainer;

static const int64_t shapes[PARAMS][2] = { { HIDDEN, IN }, { HIDDEN }, { HIDDEN }, { HIDDEN }, { CLASSES, HIDDEN },
                                           { CLASSES } };
static const int ranks[PARAMS] = { 2, 1, 1, 1, 2, 1 };

static void open_params(trainer *t, test_random *random, psg_dtype dtype, int64_t counts[PARAMS]) {
    for (int k = 0; k < PARAMS; k++) {
        t->value[k] = test_array_normal(random, dtype, ranks[k], shapes[k], TEST_CONTIGUOUS);
        t->release[k] = test_array_normal(random, dtype, ranks[k], shapes[k], TEST_CONTIGUOUS);
        t->releases[k] = t->release[k].view;
        counts[k] = psg_tensor_count(&t->value[k].view);
        TEST_OK(t->context, psg_param_create(t->context, "p", &t->value[k].view, &t->param[k]));
    }
}

static trainer trainer_open(test_random *random, psg_dtype dtype, unsigned threads) {
    trainer t = { .context = test_context(threads, NULL) };
    const unsigned char seed[32] = { 3 };
    psg_dp_options options = dp_external(1, 1, 100, LARGEST);
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    sgd.momentum = 0.9;
    psg_tensor values[PARAMS];
    int64_t counts[PARAMS];
    open_params(&t, random, dtype, counts);
    for (int k = 0; k < PARAMS; k++) values[k] = t.value[k].view;
    TEST_OK(t.context, psg_tape_create(t.context, &t.tape));
    TEST_OK(t.context, psg_generator_create_seeded(t.context, seed, &t.generator));
    TEST_OK(t.context, psg_dp_create(t.context, t.generator, &options, counts, PARAMS, &t.dp));
    TEST_OK(t.context, psg_sgd_create(t.context, &sgd, values, PARAMS, &t.sgd));
    return t;
}

static void trainer_close(trainer *t) {
    psg_optimizer_destroy(t->sgd);
    psg_dp_destroy(t->dp);
    psg_generator_destroy(t->generator);
    psg_tape_destroy(t->tape);
    for (int k = 0; k < PARAMS; k++) {
        psg_param_destroy(t->param[k]);
        test_array_free(&t->value[k]);
        test_array_free(&t->release[k]);
    }
    test_context_free(t->context);
}

/* linear, layer_norm, relu, linear over POSITIONS positions (0: none), cross entropy. */
static psg_var loss_of(trainer *t, const psg_tensor *x, const psg_tensor *labels) {
    psg_var p[PARAMS], target = psg_constant(t->tape, labels);
    for (int k = 0; k < PARAMS; k++) p[k] = psg_use(t->tape, t->param[k]);
    psg_var h = psg_linear(t->tape, psg_input(t->tape, x), p[0], p[1]);
    h = psg_relu(t->tape, psg_layer_norm(t->tape, h, 1, (int64_t[]){ HIDDEN }, p[2], p[3], 1e-5));
    psg_var y = psg_linear(t->tape, h, p[4], p[5]);
    if (x->rank == 3) y = psg_mean(t->tape, y, 1, (int[]){ 1 }, 0);
    const psg_cross_entropy_options options = { .reduction = PSG_SUM };
    return psg_cross_entropy(t->tape, y, target, &options);
}

static void accumulate(trainer *t, const psg_tensor *x, const psg_tensor *labels, const psg_batch *batch) {
    psg_gradient gradient[PARAMS];
    const psg_gradient *set[PARAMS];
    TEST_OK(t->context, psg_tape_begin(t->tape, NULL));
    psg_var loss = loss_of(t, x, labels);
    TEST_OK(t->context, psg_backward(t->tape, loss));
    for (int k = 0; k < PARAMS; k++) {
        TEST_OK(t->context, psg_gradient_of(t->tape, t->param[k], &gradient[k]));
        set[k] = &gradient[k];
    }
    psg_clip_report report;
    TEST_OK(t->context, psg_dp_accumulate(t->dp, batch, set, PARAMS, &report));
}

/* The first WARM batches are the largest; one of the others is empty. */
static int64_t size_of(test_random *random, int step) {
    return step < WARM ? LARGEST : step == WARM + 3 ? 0 : test_range(random, 60, LARGEST - 1);
}

static void step_on(trainer *t, test_array *x, test_array *labels, int64_t count) {
    psg_tensor part = x->view, targets = labels->view;
    psg_batch batch = dp_take(t->context, t->dp, 0, count);
    part.shape[0] = targets.shape[0] = count;
    accumulate(t, &part, &targets, &batch);
    TEST_OK(t->context, psg_dp_release(t->dp, t->releases, PARAMS));
    TEST_OK(t->context, psg_optimizer_step(t->sgd, t->releases, PARAMS));
}

static void check_steady(psg_dtype dtype, unsigned threads, int rank) {
    test_random random = { 5 };
    trainer t = trainer_open(&random, dtype, threads);
    const int64_t shape[3] = { LARGEST, rank == 3 ? POSITIONS : IN, IN };
    test_array x = test_array_normal(&random, dtype, rank, shape, TEST_CONTIGUOUS);
    test_array labels = test_array_new(&random, PSG_I64, 1, (int64_t[]){ LARGEST }, TEST_CONTIGUOUS);
    test_fill_integers(&random, &labels.view, 0, CLASSES - 1);
    uint64_t allocations = 0;
    size_t bytes = 0;
    for (int step = 0; step < STEPS; step++) {
        step_on(&t, &x, &labels, size_of(&random, step));
        if (step + 1 == WARM) {
            allocations = psg_context_allocations(t.context);
            bytes = psg_context_live_bytes(t.context);
        }
        if (step < WARM) continue;
        assert_int_equal(psg_context_allocations(t.context), allocations);
        assert_int_equal(psg_context_live_bytes(t.context), bytes);
    }
    assert_int_equal(psg_dp_step(t.dp), STEPS);
    for (int64_t i = 0; i < HIDDEN * IN; i++) assert_true(isfinite(test_get_at(&t.value[0].view, i)));
    trainer_close(&t);
    test_array_free(&x);
    test_array_free(&labels);
}

static void a_steady_step_allocates_nothing(void **state) {
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        check_steady(PSG_F32, threads, 2);
        check_steady(PSG_F32, threads, 3);
        check_steady(PSG_F64, threads, 3);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
