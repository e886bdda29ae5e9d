/* Optimizers against plain loops in double, and against PyTorch. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- PyTorch's numbers ----
 * torch 2.13, float64, three steps t = 0, 1, 2 from w = (1, -2, 0.5) with gradients (0.3 (t + 1), -1.5, 0.02 t - 0.01):
 * torch.optim.SGD(p, lr=0.1, ...), torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.05), AdamW
 * likewise. */

typedef struct golden {
    bool adam;
    psg_sgd_options sgd;
    psg_adam_options adam_options;
    double w[3];
} golden;

static const golden goldens[] = {
    { false, { 0.1, 0, 0, 0, 0, { 0 } }, PSG_ADAM_OPTIONS_INIT, { 0.81999999999999995, -1.5500000000000003, 0.497 } },
    { false, { 0.1, 0.9, 0.25, 0.05, 0, { 0 } }, PSG_ADAM_OPTIONS_INIT,
      { 0.74195607031249999, -1.22112775, 0.48685369765624997 } },
    { false, { 0.1, 0.9, 0, 0.05, 1, { 0 } }, PSG_ADAM_OPTIONS_INIT,
      { 0.52595439837500002, -0.723258964, 0.47504665278749997 } },
    { true, PSG_SGD_OPTIONS_INIT, { 0.1, 0.8, 0.95, 1e-6, 0.05, 0, { 0 } },
      { 0.70299722624238059, -1.7000495507672224, 0.20441801805882759 } },
    { true, PSG_SGD_OPTIONS_INIT, { 0.1, 0.8, 0.95, 1e-6, 0.05, 1, { 0 } },
      { 0.69094359402599481, -1.6716474490015338, 0.51408249216119062 } },
};

static psg_optimizer *create(psg_context *context, const golden *g, const psg_tensor *values, size_t count) {
    psg_optimizer *optimizer;
    if (g->adam) TEST_OK(context, psg_adam_create(context, &g->adam_options, values, count, &optimizer));
    else TEST_OK(context, psg_sgd_create(context, &g->sgd, values, count, &optimizer));
    return optimizer;
}

static void updates_are_pytorchs(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < COUNT(goldens); k++) {
        double w[3] = { 1, -2, 0.5 }, g[3];
        const int64_t shape[] = { 3 };
        psg_tensor value = psg_tensor_of(PSG_F64, w, 1, shape), gradient = psg_tensor_of(PSG_F64, g, 1, shape);
        psg_optimizer *optimizer = create(context, &goldens[k], &value, 1);
        for (int t = 0; t < 3; t++) {
            g[0] = 0.3 * (t + 1);
            g[1] = -1.5;
            g[2] = 0.02 * t - 0.01;
            TEST_OK(context, psg_optimizer_step(optimizer, &gradient, 1));
        }
        for (int i = 0; i < 3; i++) test_near(w[i], goldens[k].w[i], 1e-14, "PyTorch", (int64_t)k * 3 + i);
        psg_optimizer_destroy(optimizer);
    }
    test_context_free(context);
}

/* ---- plain loops ---- */

static void sgd_loop(const psg_sgd_options *o, int t, size_t n, double *w, const double *g, double *v) {
    for (size_t i = 0; i < n; i++) {
        double d = g[i] + o->weight_decay * w[i];
        if (o->momentum != 0) {
            v[i] = t == 1 ? d : o->momentum * v[i] + (1 - o->dampening) * d;
            d = o->nesterov ? d + o->momentum * v[i] : v[i];
        }
        w[i] -= o->lr * d;
    }
}

static void adam_loop(const psg_adam_options *o, int t, size_t n, double *w, const double *g, double *m, double *v) {
    for (size_t i = 0; i < n; i++) {
        double d = o->decoupled ? g[i] : g[i] + o->weight_decay * w[i];
        if (o->decoupled) w[i] *= 1 - o->lr * o->weight_decay;
        m[i] = o->beta1 * m[i] + (1 - o->beta1) * d;
        v[i] = o->beta2 * v[i] + (1 - o->beta2) * d * d;
        double m_hat = m[i] / (1 - pow(o->beta1, t)), v_hat = v[i] / (1 - pow(o->beta2, t));
        w[i] -= o->lr * m_hat / (sqrt(v_hat) + o->eps);
    }
}

typedef struct model {
    size_t count;
    test_array value[4], gradient[4];
    psg_tensor values[4], gradients[4];
    double *w[4], *g[4], *m[4], *v[4];     /* the plain loops' */
} model;

static const int64_t sizes[] = { 1, 0, 37, 40000 };   /* one, none, a tail, more than a chunk */

static double *zeros(size_t n) {
    double *x = calloc(n ? n : 1, sizeof *x);
    assert_non_null(x);
    return x;
}

static model new_model(psg_dtype dtype) {
    test_random random = { 3 };
    model made = { .count = COUNT(sizes) };
    for (size_t k = 0; k < made.count; k++) {
        made.value[k] = test_array_normal(&random, dtype, 1, &sizes[k], TEST_CONTIGUOUS);
        made.gradient[k] = test_array_new(&random, dtype, 1, &sizes[k], TEST_CONTIGUOUS);
        made.values[k] = made.value[k].view;
        made.gradients[k] = made.gradient[k].view;
        double **arrays[] = { &made.w[k], &made.g[k], &made.m[k], &made.v[k] };
        for (int a = 0; a < 4; a++) *arrays[a] = zeros((size_t)sizes[k]);
        for (int64_t i = 0; i < sizes[k]; i++) made.w[k][i] = test_get_at(&made.values[k], i);
    }
    return made;
}

static void free_model(model *m) {
    for (size_t k = 0; k < m->count; k++) {
        test_array_free(&m->value[k]);
        test_array_free(&m->gradient[k]);
        free(m->w[k]), free(m->g[k]), free(m->m[k]), free(m->v[k]);
    }
}

static void new_gradients(model *m, test_random *random, double scale) {
    for (size_t k = 0; k < m->count; k++) {
        test_fill_normal(random, &m->gradients[k], scale);
        for (int64_t i = 0; i < sizes[k]; i++) m->g[k][i] = test_get_at(&m->gradients[k], i);
    }
}

static void loop_step(model *m, const golden *g, int t) {
    for (size_t k = 0; k < m->count; k++) {
        size_t n = (size_t)sizes[k];
        if (g->adam) adam_loop(&g->adam_options, t, n, m->w[k], m->g[k], m->m[k], m->v[k]);
        else sgd_loop(&g->sgd, t, n, m->w[k], m->g[k], m->v[k]);
    }
}

/* 20 steps; each rounds w and the state by a few u, and a step of Adam is at most a few lr. */
static void check_against_loops(psg_context *context, psg_dtype dtype, const golden *g, double scale) {
    test_random random = { 8 };
    model m = new_model(dtype);
    psg_optimizer *optimizer = create(context, g, m.values, m.count);
    for (int t = 1; t <= 20; t++) {
        new_gradients(&m, &random, scale);
        TEST_OK(context, psg_optimizer_step(optimizer, m.gradients, m.count));
        loop_step(&m, g, t);
    }
    const double u = dtype == PSG_F64 ? DBL_EPSILON : FLT_EPSILON;
    for (size_t k = 0; k < m.count; k++) {
        for (int64_t i = 0; i < sizes[k]; i++) {
            test_near(test_get_at(&m.values[k], i), m.w[k][i], 60 * u * (1 + fabs(m.w[k][i])), "value", i);
        }
    }
    psg_optimizer_destroy(optimizer);
    free_model(&m);
}

static void updates_are_those_of_plain_loops(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t isa = 0; isa < count; isa++) {
        psg_context *context = test_context(2, isas[isa]);
        for (size_t k = 0; k < COUNT(goldens); k++) {
            check_against_loops(context, PSG_F32, &goldens[k], 0.1);
            check_against_loops(context, PSG_F64, &goldens[k], 0.1);
        }
        test_context_free(context);
    }
}

/* ---- Adam beyond the range of squares ---- */

static const golden without_eps = { true, PSG_SGD_OPTIONS_INIT, { 0.1, 0.8, 0.95, 0, 0, 0, { 0 } }, { 0 } };

/* The moments of a constant gradient g are g and g^2 in every step: w falls by lr g / (|g| + eps). */
static void check_constant_gradient(psg_context *context, psg_dtype dtype, double g, double eps) {
    enum { STEPS = 30, ELEMENTS = 19 };
    const int64_t count = ELEMENTS;
    double w[ELEMENTS] = { 0 }, gradients[ELEMENTS];
    psg_tensor value = psg_tensor_of(dtype, w, 1, &count), gradient = psg_tensor_of(dtype, gradients, 1, &count);
    psg_adam_options options = { 0.125, 0.9, 0.999, eps, 0, 0, { 0 } };
    psg_optimizer *optimizer;
    test_fill_value(&gradient, g);
    const double read = test_get_at(&gradient, 0), fallen = -STEPS * 0.125 * read / (fabs(read) + eps);
    TEST_OK(context, psg_adam_create(context, &options, &value, 1, &optimizer));
    for (int t = 0; t < STEPS; t++) TEST_OK(context, psg_optimizer_step(optimizer, &gradient, 1));
    for (int64_t i = 0; i < count; i++) {
        test_near(test_get_at(&value, i), fallen, (dtype == PSG_F64 ? 1e-12 : 1e-4) * fabs(fallen), "w", i);
    }
    psg_optimizer_destroy(optimizer);
}

static void extreme_gradients_stay_in_range(void **state) {
    (void)state;
    static const double magnitudes[2][8] = { { 1e25, -1e25, 3.4e38, 1e19, 1e-19, -1e-25, 1e-37, 1 },
                                           { 1e200, -1e200, 1.7e308, 1e154, 1e-154, -1e-200, 1e-307, 1 } };
    static const double epsilons[] = { 1e-8, 0, 1e-30 };
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t isa = 0; isa < count; isa++) {
        psg_context *context = test_context(1, isas[isa]);
        for (int k = 0; k < 2 * 8 * 3; k++) {
            check_constant_gradient(context, k % 2 ? PSG_F64 : PSG_F32, magnitudes[k % 2][k / 6], epsilons[k / 2 % 3]);
        }
        for (int k = 0; k < 4; k++) {
            check_against_loops(context, PSG_F32, &without_eps, (double[]){ 1e25, 1e37, 1e-25, 1e-30 }[k]);
        }
        check_against_loops(context, PSG_F32, &goldens[4], 1e25);
        test_context_free(context);
    }
}

/* An element's bits do not depend on what its neighbours need. */
static void extreme_neighbours_change_nothing(void **state) {
    (void)state;
    enum { ELEMENTS = 83 };
    const int64_t count = ELEMENTS;
    psg_context *context = test_context(1, NULL);
    float w[2][ELEMENTS], g[ELEMENTS];
    for (int run = 0; run < 2; run++) {
        test_random random = { 5 };
        psg_tensor value = psg_tensor_of(PSG_F32, w[run], 1, &count), gradient = psg_tensor_of(PSG_F32, g, 1, &count);
        psg_optimizer *optimizer;
        test_fill_value(&value, 1);
        TEST_OK(context, psg_adam_create(context, NULL, &value, 1, &optimizer));
        for (int t = 0; t < 5; t++) {
            test_fill_normal(&random, &gradient, (double[]){ 1e-3, 1e-12, 1e-21, 1e-30, 1e3 }[t]);
            for (int64_t i = 0; run && i < count; i += 7) g[i] = 1e30f;
            TEST_OK(context, psg_optimizer_step(optimizer, &gradient, 1));
        }
        psg_optimizer_destroy(optimizer);
    }
    for (int64_t i = 0; i < count; i++) assert_true((w[0][i] == w[1][i]) == (i % 7 != 0));
    test_context_free(context);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(goldens); k++) {
        model m[2];
        for (unsigned j = 0; j < 2; j++) {
            test_random random = { 4 };
            psg_context *context = test_context(j ? 5 : 1, NULL);
            m[j] = new_model(PSG_F32);
            psg_optimizer *optimizer = create(context, &goldens[k], m[j].values, m[j].count);
            for (int t = 0; t < 3; t++) {
                new_gradients(&m[j], &random, 0.1);
                TEST_OK(context, psg_optimizer_step(optimizer, m[j].gradients, m[j].count));
            }
            psg_optimizer_destroy(optimizer);
            test_context_free(context);
        }
        for (size_t p = 0; p < m[0].count; p++) assert_true(test_same_bits(&m[0].values[p], &m[1].values[p]));
        free_model(&m[0]), free_model(&m[1]);
    }
}

/* ---- the rest of the contract ---- */

static void zeros_are_pytorchs_defaults(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    float w[1] = { 1 }, g[1] = { 2 };
    double d[1] = { 1 }, e[1] = { 2 };
    const int64_t one[] = { 1 };
    psg_tensor values[] = { psg_tensor_of(PSG_F32, w, 1, one), psg_tensor_of(PSG_F64, d, 0, NULL) };
    psg_tensor gradients[] = { psg_tensor_of(PSG_F32, g, 1, one), psg_tensor_of(PSG_F64, e, 0, NULL) };
    psg_optimizer *optimizer;
    TEST_OK(context, psg_sgd_create(context, NULL, values, 2, &optimizer));
    TEST_OK(context, psg_optimizer_step(optimizer, gradients, 2));
    test_near(d[0], 0.998, 1e-16, "default lr", 0);
    test_near(w[0], 0.998, 1e-7, "default lr, f32", 0);
    TEST_OK(context, psg_optimizer_set_lr(optimizer, 0.25));
    uint64_t allocations = psg_context_allocations(context);
    TEST_OK(context, psg_optimizer_step(optimizer, gradients, 2));
    assert_int_equal(psg_context_allocations(context), allocations);
    test_near(d[0], 0.498, 1e-15, "new lr", 0);
    assert_int_equal(psg_optimizer_set_lr(optimizer, -1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_set_lr(optimizer, NAN), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_set_lr(NULL, 1), PSG_ERR_ARGUMENT);
    psg_optimizer_destroy(optimizer);
    TEST_OK(context, psg_adam_create(context, NULL, values, 2, &optimizer));
    d[0] = 1;
    TEST_OK(context, psg_optimizer_step(optimizer, gradients, 2));
    test_near(d[0], 1 - 1e-3 * 2 / (2 + 1e-8), 1e-15, "Adam's first step", 0);
    psg_optimizer_destroy(optimizer);
    psg_optimizer_destroy(NULL);
    test_context_free(context);
}

static void wrong_options_are_refused(void **state) {
    (void)state;
    const psg_sgd_options sgd[] = {
        { -1, 0, 0, 0, 0, { 0 } },    { NAN, 0, 0, 0, 0, { 0 } },    { INFINITY, 0, 0, 0, 0, { 0 } }, { 1, -0.1, 0, 0, 0, { 0 } },
        { 1, NAN, 0, 0, 0, { 0 } },   { 1, 0, NAN, 0, 0, { 0 } },    { 1, 0, INFINITY, 0, 0, { 0 } }, { 1, 0, 0, -1, 0, { 0 } },
        { 1, 0, 0, NAN, 0, { 0 } },   { 1, 0, 0, 0, 1, { 0 } },      { 1, 0.9, 0.1, 0, 1, { 0 } },
    };
    const psg_adam_options adam[] = {
        { -1, 0.9, 0.999, 1e-8, 0, 0, { 0 } }, { NAN, 0.9, 0.999, 1e-8, 0, 0, { 0 } }, { 1, 1, 0.999, 1e-8, 0, 0, { 0 } },
        { 1, -0.1, 0.999, 1e-8, 0, 0, { 0 } }, { 1, 0.9, 1, 1e-8, 0, 0, { 0 } },       { 1, 0.9, NAN, 1e-8, 0, 0, { 0 } },
        { 1, 0.9, 0.999, -1, 0, 0, { 0 } },    { 1, 0.9, 0.999, NAN, 0, 0, { 0 } },    { 1, 0.9, 0.999, 1e-8, -1, 0, { 0 } },
        { 1, 0.9, 0.999, 1e-8, INFINITY, 1, { 0 } }, { .lr = 1 },   /* not the defaults: 0 / 0 where a gradient is 0 */
    };
    psg_context *context = test_context(1, NULL);
    double w = 1;
    psg_tensor value = psg_tensor_of(PSG_F64, &w, 0, NULL);
    psg_optimizer *optimizer;
    for (size_t k = 0; k < COUNT(sgd); k++) {
        assert_int_equal(psg_sgd_create(context, &sgd[k], &value, 1, &optimizer), PSG_ERR_ARGUMENT);
        assert_non_null(strstr(psg_context_message(context), "psg_sgd_create: "));
    }
    for (size_t k = 0; k < COUNT(adam); k++) {
        assert_int_equal(psg_adam_create(context, &adam[k], &value, 1, &optimizer), PSG_ERR_ARGUMENT);
        assert_non_null(strstr(psg_context_message(context), "must be "));
    }
    test_context_free(context);
}

static void wrong_tensors_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    double w[4] = { 1, 1, 1, 1 }, g[4] = { 2, 2, 2, 2 };
    const int64_t two[] = { 2 }, three[] = { 3 }, strides[] = { 2 };
    psg_tensor value = psg_tensor_of(PSG_F64, w, 1, two), gradient = psg_tensor_of(PSG_F64, g, 1, two);
    psg_tensor strided = psg_tensor_strided(PSG_F64, w, 1, two, strides), none = psg_tensor_of(PSG_F64, NULL, 1, two);
    psg_tensor integers = psg_tensor_of(PSG_I64, w, 1, two), floats = psg_tensor_of(PSG_F32, g, 1, two);
    psg_tensor longer = psg_tensor_of(PSG_F64, g, 1, three), no_rank = psg_tensor_of(PSG_F64, w, 99, two);
    psg_optimizer *optimizer;
    assert_int_equal(psg_sgd_create(NULL, NULL, &value, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(NULL, NULL, &value, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, &value, 1, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, NULL, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, &value, 0, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, &value, SIZE_MAX, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, &strided, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, &none, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, &no_rank, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_adam_create(context, NULL, &integers, 1, &optimizer), PSG_ERR_DTYPE);
    TEST_OK(context, psg_adam_create(context, NULL, &value, 1, &optimizer));
    assert_int_equal(psg_optimizer_step(optimizer, NULL, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_step(optimizer, &gradient, 2), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_step(optimizer, &none, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_step(optimizer, &floats, 1), PSG_ERR_DTYPE);
    assert_int_equal(psg_optimizer_step(optimizer, &longer, 1), PSG_ERR_SHAPE);
    assert_int_equal(psg_optimizer_step(NULL, &gradient, 1), PSG_ERR_ARGUMENT);
    assert_true(w[0] == 1 && w[1] == 1);
    psg_optimizer_destroy(optimizer);
    test_context_free(context);
}

static void without_memory_nothing_is_lost(void **state) {
    (void)state;
    double w[3] = { 1, 2, 3 };
    const int64_t three[] = { 3 };
    psg_tensor values[] = { psg_tensor_of(PSG_F64, w, 1, three), psg_tensor_of(PSG_F64, w, 0, NULL) };
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    size_t blocks = allocator.live_blocks;
    psg_status status = PSG_ERR_MEMORY;
    for (uint64_t n = 1; status; n++) {
        psg_optimizer *optimizer = NULL;
        test_allocator_arm(&allocator, n, n % 2);
        status = psg_adam_create(context, NULL, values, 2, &optimizer);
        assert_true(status == PSG_OK ? n == 9 : status == PSG_ERR_MEMORY && !optimizer);
        psg_optimizer_destroy(optimizer);
        assert_int_equal(allocator.live_blocks, blocks);
    }
    test_context_free(context);
    assert_int_equal(allocator.mistakes, 0);
}

/* ---- state ---- */

/* Steps t, t + 1, ... before `end` of two values; bits are compared. */
static void walk(psg_context *context, psg_optimizer *optimizer, const psg_tensor *values, int t, int end) {
    double g[5];
    for (; t < end; t++) {
        for (int i = 0; i < 5; i++) g[i] = 0.3 * (t + 1) - 0.17 * i;
        psg_tensor gradient[2] = { values[0], values[1] };
        gradient[0].data = g;
        gradient[1].data = g + 3;
        TEST_OK(context, psg_optimizer_step(optimizer, gradient, 2));
    }
}

static void a_state_goes_on_where_it_was_taken(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const int64_t shapes[2][1] = { { 3 }, { 2 } };
    for (size_t k = 0; k < COUNT(goldens); k++) {
        double w[5] = { 1, -2, 0.5, 4, -3 }, other[5];
        psg_tensor values[2] = { psg_tensor_of(PSG_F64, w, 1, shapes[0]), psg_tensor_of(PSG_F64, w + 3, 1, shapes[1]) };
        psg_tensor copies[2] = { psg_tensor_of(PSG_F64, other, 1, shapes[0]),
                                 psg_tensor_of(PSG_F64, other + 3, 1, shapes[1]) };
        psg_optimizer *whole = create(context, &goldens[k], values, 2);
        psg_optimizer *second = create(context, &goldens[k], copies, 2);
        const size_t arrays = psg_optimizer_state_count(whole);
        psg_named named;
        psg_tensor states[4];
        walk(context, whole, values, 0, 3);
        memcpy(other, w, sizeof w);
        for (size_t s = 0; s < 2 * arrays; s++) {
            TEST_OK(context, psg_optimizer_state(whole, s / arrays, s % arrays, &named));
            states[s] = named.tensor;
            assert_int_equal(psg_tensor_count(&named.tensor), 3 - (int64_t)(s / arrays));
        }
        TEST_OK(context, psg_optimizer_set_state(second, psg_optimizer_steps(whole), states, 2 * arrays));
        walk(context, whole, values, 3, 6);
        walk(context, second, copies, 3, 6);
        assert_memory_equal(w, other, sizeof w);
        assert_int_equal(psg_optimizer_steps(second), 6);
        psg_optimizer_destroy(second);
        psg_optimizer_destroy(whole);
    }
    test_context_free(context);
}

static void wrong_states_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_adam_options options = PSG_ADAM_OPTIONS_INIT;
    double w[3] = { 0 }, m[6] = { 1, 2, 3, 4, 5, 6 };
    const int64_t shape[1] = { 3 };
    psg_tensor value = psg_tensor_of(PSG_F64, w, 1, shape);
    psg_optimizer *optimizer;
    psg_named named;
    TEST_OK(context, psg_adam_create(context, &options, &value, 1, &optimizer));
    psg_tensor states[2] = { psg_tensor_of(PSG_F64, m, 1, shape), psg_tensor_of(PSG_F64, m + 3, 1, shape) };
    assert_int_equal(psg_optimizer_set_state(NULL, 1, states, 2), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_set_state(optimizer, 1, NULL, 2), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_set_state(optimizer, 1, states, 1), PSG_ERR_ARGUMENT);
    states[1].dtype = PSG_F32;
    assert_int_equal(psg_optimizer_set_state(optimizer, 1, states, 2), PSG_ERR_DTYPE);
    states[1].dtype = PSG_F64;
    states[1].shape[0] = 2;
    assert_int_equal(psg_optimizer_set_state(optimizer, 1, states, 2), PSG_ERR_SHAPE);
    TEST_OK(context, psg_optimizer_state(optimizer, 0, 0, &named));
    assert_string_equal(named.name, "exp_avg");
    assert_true(((double *)named.tensor.data)[0] == 0);   /* states[0] was not copied before states[1] failed */
    assert_int_equal(psg_optimizer_steps(optimizer), 0);
    assert_int_equal(psg_optimizer_state(NULL, 0, 0, &named), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_state(optimizer, 0, 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_state(optimizer, 1, 0, &named), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_optimizer_state(optimizer, 0, 2, &named), PSG_ERR_ARGUMENT);
    assert_true(psg_optimizer_lr(NULL) == 0 && psg_optimizer_lr(optimizer) == options.lr);
    assert_true(psg_optimizer_steps(NULL) == 0 && psg_optimizer_state_count(NULL) == 0);
    psg_optimizer_destroy(optimizer);
    test_context_free(context);
}

/* A struct that nobody filled does not train with a rate of 0. */
static void zeroed_options_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_sgd_options sgd = { 0 };
    const psg_adam_options adam = { 0 };
    float w[1] = { 1 };
    const psg_tensor value = psg_f32_1d(w, 1);
    psg_optimizer *optimizer;
    assert_int_equal(psg_sgd_create(context, &sgd, &value, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(context), "lr is 0, must be above 0 (the options' INIT macro"));
    assert_int_equal(psg_adam_create(context, &adam, &value, 1, &optimizer), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(context), "psg_adam_create: lr is 0"));
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_are_pytorchs),
        cmocka_unit_test(updates_are_those_of_plain_loops),
        cmocka_unit_test(extreme_gradients_stay_in_range),
        cmocka_unit_test(extreme_neighbours_change_nothing),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(zeros_are_pytorchs_defaults),
        cmocka_unit_test(zeroed_options_are_refused),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(without_memory_nothing_is_lost),
        cmocka_unit_test(a_state_goes_on_where_it_was_taken),
        cmocka_unit_test(wrong_states_are_refused),
    };
    return cmocka_run_group_tests_name("optim", tests, NULL, NULL);
}
