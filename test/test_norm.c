/* layer_norm and group_norm against plain loops: every combination of operands, shapes, layouts; refusals; accuracy
 * under a large mean; the same bits for any number of threads. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT, WEIGHT, BIAS };
typedef enum affine { ABSENT, TRAINABLE, FROZEN, CONSTANT, AFFINE_COUNT } affine;

typedef struct norm_case {
    bool group;                /* group_norm */
    psg_dtype dtype;
    int rank;
    int64_t shape[PSG_MAX_RANK];
    int normalized;            /* layer_norm: trailing dimensions */
    int64_t groups;
    double eps, mean;
    affine mode[3];            /* of WEIGHT and BIAS */
    bool batch_second, input_grad;
    int layout;
} norm_case;

/* ---- the definition, in plain loops ----
 * Logical places: sample n, part j (a row of layer_norm, a group of group_norm), element i of it. */

typedef struct places {
    int64_t samples, parts, size, p;   /* p: elements of weight */
    int64_t inner;                     /* layer_norm: rows after the batch dimension; group_norm: positions */
    bool group, second;
} places;

static int64_t product(const int64_t *shape, int first, int end) {
    int64_t result = 1;
    for (int d = first; d < end; d++) result *= shape[d];
    return result;
}

static places places_of(const norm_case *c) {
    int batch = c->batch_second && c->rank >= 3, lead = c->rank - c->normalized;
    places l = { .samples = c->shape[batch], .group = c->group, .second = batch == 1 };
    if (c->group) {
        l.p = c->shape[1 - batch];
        l.inner = product(c->shape, 2, c->rank);
        l.parts = c->groups;
        l.size = l.p / c->groups * l.inner;
    } else {
        l.p = l.size = product(c->shape, lead, c->rank);
        l.inner = product(c->shape, batch + 1, lead);
        l.parts = l.inner * (batch ? c->shape[0] : 1);
    }
    return l;
}

/* The element's place in row-major order. */
static int64_t place(const places *l, int64_t n, int64_t j, int64_t i) {
    if (!l->group) {
        int64_t row = l->second ? (j / l->inner * l->samples + n) * l->inner + j % l->inner : n * l->parts + j;
        return row * l->size + i;
    }
    int64_t k = j * l->size + i, channel = k / l->inner;
    return (l->second ? channel * l->samples + n : n * l->p + channel) * l->inner + k % l->inner;
}

static int64_t channel_of(const places *l, int64_t j, int64_t i) {
    return l->group ? (j * l->size + i) / l->inner : i;
}

/* Each value comes with the sum of the magnitudes that it is made of. */
typedef struct reference {
    double *y, *y_terms, *gx, *gx_terms, *gw, *gw_terms, *gb, *gb_terms;
} reference;

static double *zeros(int64_t count) { return calloc((size_t)count + 1, sizeof(double)); }

static reference reference_new(const places *l) {
    int64_t x = l->samples * l->parts * l->size, w = l->samples * l->p;
    return (reference){ zeros(x), zeros(x), zeros(x), zeros(x), zeros(w), zeros(w), zeros(w), zeros(w) };
}

static void reference_free(reference *r) {
    double *all[] = { r->y, r->y_terms, r->gx, r->gx_terms, r->gw, r->gw_terms, r->gb, r->gb_terms };
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) free(all[k]);
}

static double element(const test_array *a, bool present, int64_t k, double absent) {
    return present ? test_get_at(&a->view, k) : absent;
}

/* How much an error of the variance grows in 1 / sqrt(var + eps). */
static double condition(double variance, double eps) {
    double sum = variance + eps;
    return isnan(sqrt(sum)) || variance == 0 ? 1 : fmax(1, variance / fabs(sum));
}

static void refer_part(const norm_case *c, const places *l, const test_array *in, const test_array *g, int64_t n,
                       int64_t j, reference *r) {
    double mean = 0, variance = 0, h_mean = 0, hx_mean = 0, h_size = 0, hx_size = 0, size = (double)l->size;
    for (int64_t i = 0; i < l->size; i++) mean += test_get_at(&in[INPUT].view, place(l, n, j, i)) / size;
    for (int64_t i = 0; i < l->size; i++) {
        variance += pow(test_get_at(&in[INPUT].view, place(l, n, j, i)) - mean, 2) / size;
    }
    double rstd = 1 / sqrt(variance + c->eps), worse = condition(variance, c->eps);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < l->size; i++) {
            int64_t at = place(l, n, j, i), channel = channel_of(l, j, i);
            double w = element(&in[WEIGHT], c->mode[WEIGHT], channel, 1), b = element(&in[BIAS], c->mode[BIAS], channel, 0);
            double xh = (test_get_at(&in[INPUT].view, at) - mean) * rstd, xh_size = (fabs(xh) + fabs(rstd) * sqrt(variance)) * worse;
            double go = test_get_at(&g->view, at), h = go * w;
            if (pass == 0) {
                h_mean += h / size;
                hx_mean += h * xh / size;
                h_size += fabs(h) / size;
                hx_size += fabs(h) * xh_size / size;
                r->y[at] = xh * w + b;
                r->y_terms[at] = xh_size * fabs(w) + fabs(b);
                int64_t k = n * l->p + channel;
                r->gw[k] += go * xh;
                r->gw_terms[k] += fabs(go) * xh_size;
                r->gb[k] += go;
                r->gb_terms[k] += fabs(go);
            } else {
                r->gx[at] = rstd * (h - h_mean - xh * hx_mean);
                r->gx_terms[at] = fabs(rstd) * worse * (fabs(h) + h_size + xh_size * hx_size);
            }
        }
    }
}

static reference refer(const norm_case *c, const places *l, const test_array *in, const test_array *g) {
    reference r = reference_new(l);
    for (int64_t n = 0; n < l->samples; n++) {
        for (int64_t j = 0; j < l->parts && l->size; j++) refer_part(c, l, in, g, n, j, &r);
    }
    return r;
}

/* ---- one application on a tape ---- */

typedef struct run {
    psg_tape *tape;
    psg_param *param[3];
    psg_var x, y;
} run;

static psg_var operand(psg_context *context, run *r, const norm_case *c, const test_array *in, int k) {
    if (c->mode[k] == ABSENT) return psg_none();
    if (c->mode[k] == CONSTANT) return psg_constant(r->tape, &in[k].view);
    TEST_OK(context, psg_param_create(context, k == WEIGHT ? "w" : "b", &in[k].view, &r->param[k]));
    psg_param_set_trainable(r->param[k], c->mode[k] == TRAINABLE);
    return psg_use(r->tape, r->param[k]);
}

static run record(psg_context *context, const norm_case *c, const test_array *in) {
    run r = { 0 };
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    TEST_OK(context, psg_tape_create(context, &r.tape));
    TEST_OK(context, psg_tape_begin(r.tape, &pass));
    r.x = c->input_grad ? psg_input_with_grad(r.tape, &in[INPUT].view) : psg_input(r.tape, &in[INPUT].view);
    psg_var w = operand(context, &r, c, in, WEIGHT), b = operand(context, &r, c, in, BIAS);
    if (c->group) r.y = psg_group_norm(r.tape, r.x, c->groups, w, b, c->eps);
    else r.y = psg_layer_norm(r.tape, r.x, c->normalized, c->shape + c->rank - c->normalized, w, b, c->eps);
    return r;
}

static void run_free(run *r) {
    psg_tape_destroy(r->tape);
    for (int k = WEIGHT; k <= BIAS; k++) psg_param_destroy(r->param[k]);
}

static void compare(const psg_tensor *actual, const double *expected, const double *terms, double k, const char *what) {
    for (int64_t i = 0; i < psg_tensor_count(actual); i++) {
        test_near(test_get_at(actual, i), expected[i], test_bound(actual->dtype, k, terms[i]), what, i);
    }
}

static void compare_grad_sample(psg_context *context, const run *r, int k, const places *l, const double *expected,
                                const double *terms, double length) {
    psg_gradient gradient;
    if (!r->param[k]) return;
    if (!psg_param_is_trainable(r->param[k])) {
        assert_int_equal(psg_gradient_of(r->tape, r->param[k], &gradient), PSG_ERR_STATE);
        return;
    }
    TEST_OK(context, psg_gradient_of(r->tape, r->param[k], &gradient));
    const psg_tensor *value = psg_param_value(r->param[k]);
    int64_t shape[PSG_MAX_RANK] = { l->samples };
    for (int d = 0; d < value->rank; d++) shape[d + 1] = value->shape[d];
    test_random random = { 5 };
    test_array out = test_array_new(&random, value->dtype, value->rank + 1, shape, TEST_CONTIGUOUS);
    TEST_OK(context, psg_grad_sample(context, &gradient, 1, PSG_OVERWRITE, &out.view));
    compare(&out.view, expected, terms, length, k == WEIGHT ? "grad_weight" : "grad_bias");
    test_array_free(&out);
}

static void case_arrays(const norm_case *c, test_random *random, test_array in[3], test_array *g) {
    const int64_t *affine_shape = c->shape + (c->group ? 1 - (c->batch_second && c->rank >= 3) : c->rank - c->normalized);
    int affine_rank = c->group ? 1 : c->normalized;
    in[INPUT] = test_array_normal(random, c->dtype, c->rank, c->shape, c->layout);
    for (int64_t i = 0; i < psg_tensor_count(&in[INPUT].view); i++) {
        test_set_at(&in[INPUT].view, i, test_get_at(&in[INPUT].view, i) + c->mean);
    }
    for (int k = WEIGHT; k <= BIAS; k++) {
        in[k] = test_array_normal(random, c->dtype, affine_rank, affine_shape, TEST_CONTIGUOUS);
    }
    *g = test_array_normal(random, c->dtype, c->rank, c->shape, c->layout);
}

static void check_case(psg_context *context, const norm_case *c, test_random *random) {
    const double small = 32;   /* sums in strips, then a few operations: see kernels/norm.c */
    test_array in[3], g;
    case_arrays(c, random, in, &g);
    const places l = places_of(c);
    run r = record(context, c, in);
    psg_tensor y, gx;
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    TEST_OK(context, psg_backward_from(r.tape, r.y, &g.view));
    reference expected = refer(c, &l, in, &g);
    compare(&y, expected.y, expected.y_terms, small, "y");
    if (c->input_grad) {
        TEST_OK(context, psg_input_grad(r.tape, r.x, &gx));
        compare(&gx, expected.gx, expected.gx_terms, 2 * small, "grad_input");
    }
    double length = (double)(c->group ? 1 : l.parts);
    compare_grad_sample(context, &r, WEIGHT, &l, expected.gw, expected.gw_terms, length + small);
    compare_grad_sample(context, &r, BIAS, &l, expected.gb, expected.gb_terms, length + small);
    reference_free(&expected);
    run_free(&r);
    for (int k = 0; k < 3; k++) test_array_free(&in[k]);
    test_array_free(&g);
}

/* ---- random cases ---- */

static const int64_t sizes[] = { 1, 2, 3, 4, 5, 7, 8 };
static const int64_t tails[] = { 0, 1, 2, 5, 8, 15, 16, 17, 31, 33, 64, 100, 257, 530 };

static norm_case draw_case(test_random *random, bool group) {
    norm_case c = { .group = group, .rank = (int)test_range(random, 2, 5) };
    for (int d = 0; d < c.rank; d++) c.shape[d] = test_range(random, 0, 30) ? TEST_PICK(random, sizes) : 0;
    c.batch_second = test_range(random, 0, 1);
    bool second = c.batch_second && c.rank >= 3;
    c.normalized = (int)test_range(random, 1, c.rank - 1 - second > 3 ? 3 : c.rank - 1 - second);
    if (group || c.rank - c.normalized > second) c.shape[c.rank - 1] = TEST_PICK(random, tails);
    c.groups = test_range(random, 1, 4);
    if (group) c.shape[1 - second] = c.groups * test_range(random, 0, c.rank == 2 ? 40 : 5);
    for (int k = WEIGHT; k <= BIAS; k++) c.mode[k] = (affine)test_range(random, 0, AFFINE_COUNT - 1);
    c.input_grad = test_range(random, 0, 1);
    c.layout = test_range(random, 0, 1) ? TEST_ANY : TEST_CONTIGUOUS;
    c.eps = (double[]){ 1e-5, 0.5, -0.5, 1e-12 }[test_range(random, 0, 3)];
    c.mean = (double[]){ 0, 0, 3, -40 }[test_range(random, 0, 3)];
    return c;
}

/* A negative eps may bring var + eps near 0, where every digit of the result is noise: left to shapes chosen by hand. */
static bool is_decided(const norm_case *c) {
    places l = places_of(c);
    return l.size > 1 ? c->eps > 0 : true;
}

static void random_cases(psg_dtype dtype, int rounds, bool group) {
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        psg_context *context = test_context(2, isas[k]);
        test_random random = { 77 };
        for (int round = 0; round < rounds; round++) {
            norm_case c = draw_case(&random, group);
            c.dtype = dtype;
            if (!is_decided(&c)) c.eps = 1e-3;
            check_case(context, &c, &random);
        }
        test_context_free(context);
    }
}

static void layer_norm_f64(void **state) { (void)state; random_cases(PSG_F64, 600, false); }
static void layer_norm_f32(void **state) { (void)state; random_cases(PSG_F32, 300, false); }
static void group_norm_f64(void **state) { (void)state; random_cases(PSG_F64, 600, true); }
static void group_norm_f32(void **state) { (void)state; random_cases(PSG_F32, 300, true); }

/* Every weight x bias x input gradient x batch dimension, at one shape with several rows and tails. */
static void every_combination(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    test_random random = { 3 };
    for (int code = 0; code < AFFINE_COUNT * AFFINE_COUNT * 8; code++) {
        norm_case c = { .group = code & 1, .dtype = PSG_F64, .rank = 4, .shape = { 4, 6, 3, 19 }, .normalized = 1,
                        .groups = 2, .eps = 1e-5, .batch_second = code >> 1 & 1, .input_grad = code >> 2 & 1 };
        c.mode[WEIGHT] = (affine)((code >> 3) % AFFINE_COUNT);
        c.mode[BIAS] = (affine)((code >> 3) / AFFINE_COUNT);
        if (c.group && c.batch_second) c.shape[0] = 4;
        check_case(context, &c, &random);
    }
    test_context_free(context);
}

/* Shapes that PyTorch tests, a negative eps and one value a channel among them; group_norm: .groups > 0. */
static void shapes_of_pytorch(void **state) {
    (void)state;
    static const norm_case list[] = {
        { .rank = 3, .shape = { 2, 2, 3 }, .normalized = 2, .eps = -0.5 },
        { .rank = 2, .shape = { 1, 2 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 3, .shape = { 4, 5, 5 }, .normalized = 1, .eps = 1e-3 },
        { .rank = 4, .shape = { 4, 2, 2, 5 }, .normalized = 3, .eps = 1e-3 },
        { .rank = 4, .shape = { 4, 56, 56, 56 }, .normalized = 3, .eps = 1e-5 },
        { .rank = 2, .shape = { 0, 5 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 3, .shape = { 1, 6, 3 }, .groups = 2, .eps = 0.5 },
        { .rank = 3, .shape = { 2, 6, 3 }, .groups = 2, .eps = -0.5 },
        { .rank = 2, .shape = { 1, 2 }, .groups = 1, .eps = 1e-5 },
        { .rank = 2, .shape = { 0, 2 }, .groups = 1, .eps = 1e-5 },
        { .rank = 3, .shape = { 4, 6, 5 }, .groups = 3, .eps = 1e-3 },
        { .rank = 2, .shape = { 4, 12 }, .groups = 3, .eps = 1e-3 },
        { .rank = 2, .shape = { 150, 6 }, .groups = 1, .eps = 1e-3 },
        { .rank = 4, .shape = { 4, 6, 28, 28 }, .groups = 3, .eps = 1e-3 },
        { .rank = 3, .shape = { 4, 5, 5 }, .groups = 5, .eps = 1e-3 },
        { .rank = 4, .shape = { 2, 51, 28, 28 }, .groups = 3, .eps = 1e-5 },
        { .rank = 4, .shape = { 4, 3, 2, 3 }, .groups = 1, .eps = 1e-5 },
        { .rank = 2, .shape = { 1, 1 }, .groups = 1, .eps = 1e-5 },
        { .rank = 2, .shape = { 3, 6 }, .groups = 6, .eps = 1e-5 },
        { .rank = 3, .shape = { 3, 6, 0 }, .groups = 2, .eps = 1e-5 },
    };
    psg_context *context = test_context(2, NULL);
    test_random random = { 9 };
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
            norm_case c = list[k];
            c.group = c.groups > 0;
            c.dtype = (psg_dtype)dtype;
            c.mode[WEIGHT] = c.mode[BIAS] = TRAINABLE;
            c.input_grad = true;
            check_case(context, &c, &random);
        }
    }
    test_context_free(context);
}

/* Large enough for streaming stores, rows off the cache lines and on them, and few samples cut into parts. */
static void large_cases(void **state) {
    (void)state;
    static const norm_case list[] = {
        { .rank = 3, .shape = { 3, 1500, 1024 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 3, .shape = { 700, 4, 1001 }, .normalized = 1, .eps = 1e-5, .batch_second = true },
        { .rank = 2, .shape = { 2, 100003 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 4, .shape = { 12, 16, 128, 128 }, .groups = 4, .eps = 1e-5 },
        { .rank = 3, .shape = { 12, 16, 16385 }, .groups = 4, .eps = 1e-5, .batch_second = true },
    };
    psg_context *context = test_context(2, NULL);
    test_random random = { 11 };
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        norm_case c = list[k];
        c.group = c.groups > 0;
        c.mode[WEIGHT] = c.mode[BIAS] = TRAINABLE;
        c.input_grad = true;
        c.mean = 10;
        check_case(context, &c, &random);
    }
    test_context_free(context);
}

/* ---- accuracy ---- */

/* 1 / sqrt(var) is read from y = (x - mean) rstd: the variance must be right to 1e-5, and so must y. */
static void large_means_cost_no_digits(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int group = 0; group < 2; group++) {
        for (int k = 0; k < 4; k++) {
            test_random random = { 21 };
            norm_case c = { .group = group, .rank = 3, .shape = { 8, 4, 768 }, .normalized = 1, .groups = 2,
                            .mean = (double[]){ 1e2, 1e3, 1e4, 1e6 }[k], .mode = { 0, TRAINABLE, ABSENT }, .input_grad = true };
            test_array in[3], g;
            case_arrays(&c, &random, in, &g);
            if (k == 2) test_set_at(&in[INPUT].view, 0, 1.3e4);   /* the first element far off */
            places l = places_of(&c);
            run r = record(context, &c, in);
            reference expected = refer(&c, &l, in, &g);
            psg_tensor y;
            TEST_OK(context, psg_value(r.tape, r.y, &y));
            for (int64_t i = 0; i < psg_tensor_count(&y); i++) {
                double w = test_get_at(&in[WEIGHT].view, group ? i / 768 % 4 : i % 768);
                test_near(test_get_at(&y, i), expected.y[i], 2e-6 * fabs(w) * (fabs(expected.y[i] / w) + 1), "y", i);
            }
            reference_free(&expected);
            run_free(&r);
            for (int j = 0; j < 3; j++) test_array_free(&in[j]);
            test_array_free(&g);
        }
    }
    test_context_free(context);
}

/* Equal elements: variance 0 exactly, so y is the bias and eps 0 gives NaN. */
static void equal_elements(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        for (int zero = 0; zero < 2; zero++) {
            test_random random = { 4 };
            norm_case c = { .dtype = (psg_dtype)dtype, .rank = 2, .shape = { 3, 771 }, .normalized = 1,
                            .eps = zero ? 0 : 1e-30, .mode = { 0, ABSENT, TRAINABLE } };
            test_array in[3], g;
            case_arrays(&c, &random, in, &g);
            test_fill_value(&in[INPUT].view, 16777.1);
            run r = record(context, &c, in);
            psg_tensor y;
            TEST_OK(context, psg_value(r.tape, r.y, &y));
            for (int64_t i = 0; i < psg_tensor_count(&y); i++) {
                test_near(test_get_at(&y, i), zero ? NAN : test_get_at(&in[BIAS].view, i % 771), 0, "y", i);
            }
            run_free(&r);
            for (int j = 0; j < 3; j++) test_array_free(&in[j]);
            test_array_free(&g);
        }
    }
    test_context_free(context);
}

/* A NaN or an Inf in one row makes that row NaN and no other. */
static void nonfinite_rows_stay_alone(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 6 };
    norm_case c = { .rank = 3, .shape = { 3, 2, 40 }, .normalized = 1, .eps = 1e-5 };
    test_array in[3], g;
    case_arrays(&c, &random, in, &g);
    test_set_at(&in[INPUT].view, 1 * 40 + 39, NAN);
    test_set_at(&in[INPUT].view, 4 * 40, INFINITY);
    run r = record(context, &c, in);
    psg_tensor y;
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    for (int64_t i = 0; i < psg_tensor_count(&y); i++) {
        assert_int_equal(isnan(test_get_at(&y, i)) != 0, i / 40 == 1 || i / 40 == 4);
    }
    run_free(&r);
    for (int j = 0; j < 3; j++) test_array_free(&in[j]);
    test_array_free(&g);
    test_context_free(context);
}

/* ---- laws ---- */

typedef struct outcome {
    int64_t bytes;
    unsigned char *data;
} outcome;

static void append(outcome *o, const psg_tensor *t) {
    int64_t bytes = psg_tensor_count(t) * (int64_t)psg_dtype_size(t->dtype);
    o->data = realloc(o->data, (size_t)(o->bytes + bytes));
    memcpy(o->data + o->bytes, t->data, (size_t)bytes);
    o->bytes += bytes;
}

static outcome outcome_of(const norm_case *c, unsigned threads) {
    psg_context *context = test_context(threads, NULL);
    test_random random = { 8 };
    test_array in[3], g;
    case_arrays(c, &random, in, &g);
    run r = record(context, c, in);
    outcome o = { 0 };
    psg_tensor t;
    TEST_OK(context, psg_backward_from(r.tape, r.y, &g.view));
    TEST_OK(context, psg_value(r.tape, r.y, &t));
    append(&o, &t);
    TEST_OK(context, psg_input_grad(r.tape, r.x, &t));
    append(&o, &t);
    for (int k = WEIGHT; k <= BIAS; k++) {
        psg_gradient gradient;
        TEST_OK(context, psg_gradient_of(r.tape, r.param[k], &gradient));
        for (size_t b = 0; b < gradient.block_count; b++) append(&o, &gradient.blocks[b].backprop);
    }
    run_free(&r);
    for (int j = 0; j < 3; j++) test_array_free(&in[j]);
    test_array_free(&g);
    test_context_free(context);
    return o;
}

static void same_bits_for_any_threads(void **state) {
    (void)state;
    static const norm_case list[] = {
        { .rank = 3, .shape = { 3, 701, 96 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 3, .shape = { 70, 90, 33 }, .normalized = 1, .eps = 1e-5, .batch_second = true },
        { .rank = 2, .shape = { 3000, 40 }, .normalized = 1, .eps = 1e-5 },
        { .rank = 4, .shape = { 20, 24, 15, 15 }, .groups = 4, .eps = 1e-5 },
        { .rank = 2, .shape = { 900, 64 }, .groups = 4, .eps = 1e-5 },
    };
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        norm_case c = list[k];
        c.group = c.groups > 0;
        c.mode[WEIGHT] = c.mode[BIAS] = TRAINABLE;
        c.input_grad = true;
        outcome one = outcome_of(&c, 1);
        for (unsigned threads = 2; threads <= 3; threads++) {
            outcome more = outcome_of(&c, threads);
            assert_int_equal(one.bytes, more.bytes);
            assert_memory_equal(one.data, more.data, (size_t)one.bytes);
            free(more.data);
        }
        free(one.data);
    }
}

static psg_operand shaped(psg_role role, int rank, const int64_t *shape) {
    return (psg_operand){ .role = role, .value = psg_tensor_of(PSG_F64, NULL, rank, shape) };
}

static void op_check_accepts_them(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    psg_operand layer[3] = { shaped(PSG_BATCHED, 4, (int64_t[]){ 3, 2, 2, 5 }),
                             shaped(PSG_PARAMETER, 2, (int64_t[]){ 2, 5 }), shaped(PSG_PARAMETER, 2, (int64_t[]){ 2, 5 }) };
    psg_layer_norm_attributes layer_attributes = { 2, { 2, 5 }, 1e-5 };
    TEST_OK(context, psg_op_check(context, psg_op_find(context, "layer_norm"), layer, &layer_attributes));
    psg_operand group[3] = { shaped(PSG_BATCHED, 3, (int64_t[]){ 3, 6, 4 }), shaped(PSG_PARAMETER, 1, (int64_t[]){ 6 }),
                             shaped(PSG_PARAMETER, 1, (int64_t[]){ 6 }) };
    psg_group_norm_attributes group_attributes = { 3, 1e-5 };
    TEST_OK(context, psg_op_check(context, psg_op_find(context, "group_norm"), group, &group_attributes));
    test_context_free(context);
}

/* An ordinary pass may normalize over the batch; its summed gradients are those of the definition for one sample. */
static void ordinary_pass_over_the_batch(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 2 };
    norm_case c = { .dtype = PSG_F64, .rank = 3, .shape = { 1, 4, 5 }, .normalized = 2, .eps = 1e-5,
                    .mode = { 0, TRAINABLE, TRAINABLE } };
    test_array in[3], g;
    case_arrays(&c, &random, in, &g);
    places l = places_of(&c);
    reference expected = refer(&c, &l, in, &g);
    psg_tensor x = psg_tensor_of(PSG_F64, in[INPUT].view.data, 2, c.shape + 1);
    psg_tensor go = psg_tensor_of(PSG_F64, g.view.data, 2, c.shape + 1);
    psg_pass pass = PSG_PASS_INIT;
    pass.ordinary = 1;
    run r = { 0 };
    TEST_OK(context, psg_tape_create(context, &r.tape));
    TEST_OK(context, psg_tape_begin(r.tape, &pass));
    psg_var input = psg_input(r.tape, &x), w = operand(context, &r, &c, in, WEIGHT), b = operand(context, &r, &c, in, BIAS);
    psg_var y = psg_layer_norm(r.tape, input, 2, c.shape + 1, w, b, c.eps);
    TEST_OK(context, psg_backward_from(r.tape, y, &go));
    for (int k = WEIGHT; k <= BIAS; k++) {
        psg_gradient gradient;
        const psg_gradient *list = &gradient;
        double sum[20];
        psg_tensor out = psg_tensor_of(PSG_F64, sum, 2, c.shape + 1);
        TEST_OK(context, psg_gradient_of(r.tape, r.param[k], &gradient));
        TEST_OK(context, psg_weighted_sum(context, &list, 1, NULL, PSG_OVERWRITE, &out));
        compare(&out, k == WEIGHT ? expected.gw : expected.gb, k == WEIGHT ? expected.gw_terms : expected.gb_terms, 9, "sum");
    }
    reference_free(&expected);
    run_free(&r);
    for (int j = 0; j < 3; j++) test_array_free(&in[j]);
    test_array_free(&g);
    test_context_free(context);
}

/* ---- refusals ---- */

typedef struct refusal {
    bool group, second;
    int rank;
    int64_t shape[3];
    int normalized_rank;
    int64_t normalized[2], groups;
    int weight_rank, bias_rank;   /* 0: absent */
    int64_t weight[2], bias[2];
    psg_status status;
    const char *part;             /* of the message */
} refusal;

static const refusal refusals[] = {
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 2, .normalized = { 4, 5 }, .status = PSG_ERR_UNSUPPORTED,
      .part = "layer_norm: normalized_shape (4, 5) includes the batch dimension 0" },
    { .second = true, .rank = 3, .shape = { 2, 4, 5 }, .normalized_rank = 2, .normalized = { 4, 5 },
      .status = PSG_ERR_UNSUPPORTED, .part = "includes the batch dimension 1" },
    { .rank = 1, .shape = { 5 }, .normalized_rank = 2, .normalized = { 1, 5 }, .status = PSG_ERR_SHAPE,
      .part = "normalized_shape is (1, 5), must equal the last dimensions of input, which has shape (5)" },
    { .rank = 3, .shape = { 4, 5, 6 }, .normalized_rank = 1, .normalized = { 5 }, .status = PSG_ERR_SHAPE,
      .part = "normalized_shape is (5), must equal the last dimensions of input, which has shape (4, 5, 6)" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 0, .status = PSG_ERR_ARGUMENT, .part = "normalized_shape has rank 0" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 9, .status = PSG_ERR_ARGUMENT, .part = "normalized_shape has rank 9" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = -1, .status = PSG_ERR_ARGUMENT, .part = "normalized_shape has rank -1" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 1, .normalized = { 5 }, .weight_rank = 1, .weight = { 4 },
      .status = PSG_ERR_SHAPE, .part = "layer_norm: weight has shape (4), must have the normalized_shape, (5)" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 1, .normalized = { 5 }, .bias_rank = 2, .bias = { 1, 5 },
      .status = PSG_ERR_SHAPE, .part = "layer_norm: bias has shape (1, 5), must have the normalized_shape, (5)" },
    { .group = true, .rank = 1, .shape = { 6 }, .groups = 2, .status = PSG_ERR_SHAPE, .part = "group_norm: input has shape (6)" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = 4, .status = PSG_ERR_SHAPE,
      .part = "num_groups is 4, must divide the 6 channels of input of shape (4, 6)" },
    { .group = true, .second = true, .rank = 3, .shape = { 6, 4, 5 }, .groups = 4, .status = PSG_ERR_SHAPE,
      .part = "must divide the 6 channels" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = 0, .status = PSG_ERR_ARGUMENT, .part = "num_groups is 0" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = -2, .status = PSG_ERR_ARGUMENT, .part = "num_groups is -2" },
    { .group = true, .rank = 3, .shape = { 4, 6, 5 }, .groups = 2, .weight_rank = 1, .weight = { 5 }, .status = PSG_ERR_SHAPE,
      .part = "group_norm: weight has shape (5), must have one element a channel, (6)" },
    { .group = true, .rank = 3, .shape = { 4, 6, 5 }, .groups = 2, .bias_rank = 2, .bias = { 6, 1 }, .status = PSG_ERR_SHAPE,
      .part = "group_norm: bias has shape (6, 1)" },
};

static void expect(psg_tape *tape, psg_status status, const char *part) {
    if (psg_tape_status(tape) == status && strstr(psg_tape_message(tape), part)) return;
    fail_msg("%s: \"%s\", expected %s: \"%s\"", psg_status_name(psg_tape_status(tape)), psg_tape_message(tape),
             psg_status_name(status), part);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    float zero[200] = { 0 };
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        const refusal *e = &refusals[k];
        psg_pass pass = PSG_PASS_INIT;
        pass.batch_second = e->second;
        TEST_OK(context, psg_tape_begin(tape, &pass));
        psg_tensor x = psg_tensor_of(PSG_F32, zero, e->rank, e->shape);
        psg_tensor weight = psg_tensor_of(PSG_F32, zero, e->weight_rank, e->weight);
        psg_tensor bias = psg_tensor_of(PSG_F32, zero, e->bias_rank, e->bias);
        psg_var input = psg_input(tape, &x), w = e->weight_rank ? psg_constant(tape, &weight) : psg_none();
        psg_var b = e->bias_rank ? psg_constant(tape, &bias) : psg_none();
        int64_t normalized[9] = { e->normalized[0], e->normalized[1] };
        if (e->group) psg_group_norm(tape, input, e->groups, w, b, 1e-5);
        else psg_layer_norm(tape, input, e->normalized_rank, normalized, w, b, 1e-5);
        expect(tape, e->status, e->part);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void wrong_operands_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    double doubles[8] = { 0 };
    int64_t integers[8] = { 0 };
    float floats[8] = { 0 };
    psg_tensor x = psg_f32_2d(floats, 2, 4), w64 = psg_tensor_of(PSG_F64, doubles, 1, (int64_t[]){ 4 });
    psg_tensor ids = psg_tensor_of(PSG_I64, integers, 2, (int64_t[]){ 2, 4 }), w2 = psg_f32_1d(floats, 2);

    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, (int64_t[]){ 4 }, psg_constant(tape, &w64), psg_none(), 1e-5);
    expect(tape, PSG_ERR_DTYPE, "layer_norm: ");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_group_norm(tape, psg_input(tape, &ids), 2, psg_none(), psg_none(), 1e-5);
    expect(tape, PSG_ERR_DTYPE, "group_norm: input is i64, must be f32 or f64");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, (int64_t[]){ 4 }, psg_none(), psg_input(tape, &w2), 1e-5);
    expect(tape, PSG_ERR_UNSUPPORTED, "layer_norm: bias is computed from an input of the pass");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, NULL, psg_none(), psg_none(), 1e-5);
    expect(tape, PSG_ERR_ARGUMENT, "normalized_shape has rank 0");
    psg_tape_destroy(tape);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination),
        cmocka_unit_test(layer_norm_f64),
        cmocka_unit_test(layer_norm_f32),
        cmocka_unit_test(group_norm_f64),
        cmocka_unit_test(group_norm_f32),
        cmocka_unit_test(shapes_of_pytorch),
        cmocka_unit_test(large_cases),
        cmocka_unit_test(large_means_cost_no_digits),
        cmocka_unit_test(equal_elements),
        cmocka_unit_test(nonfinite_rows_stay_alone),
        cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(op_check_accepts_them),
        cmocka_unit_test(ordinary_pass_over_the_batch),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(wrong_operands_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
