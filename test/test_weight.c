/* Effective weights, weight_standardize and weight_norm, at any magnitude: values and gradients against the explicit
 * Jacobian in long double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

/* ---- what is derived, and the plain formulas ---- */

typedef enum form { ADDS_EPS, FAN_IN, NORM, NORM_COLUMNS, FORMS } form;

typedef struct weight {
    form form;
    double eps;
    int64_t rows, columns;     /* of the derivation */
    psg_tensor w, gain;
} weight;

static psg_var derive(psg_tape *tape, const weight *d, psg_var w, psg_var gain) {
    psg_weight_standardize_options standardize = { d->form == FAN_IN, 1, d->eps, { 0 } };
    psg_weight_norm_options norm = { .dim = d->form == NORM_COLUMNS };
    if (d->form < NORM) return psg_weight_standardize(tape, w, gain, &standardize);
    return psg_weight_norm(tape, w, gain, &norm);
}

/* Element k of row i of a tensor of the weight's shape. */
static int64_t place(const weight *d, int64_t i, int64_t k) {
    if (d->form != NORM_COLUMNS) return i * d->columns + k;
    int64_t inner = 1;
    for (int r = 2; r < d->w.rank; r++) inner *= d->w.shape[r];
    return (k / inner * d->rows + i) * inner + k % inner;
}

typedef struct row {
    long double *w;            /* less its mean where that is taken */
    long double s, c;          /* E = gain w / s, dE_j/dw_k = gain ([j = k] - mean - c w_j w_k / s^2) / s */
    long double gain;
} row;

static row row_of(const weight *d, int64_t i) {
    int64_t n = d->columns;
    row r = { calloc((size_t)n + 1, sizeof *r.w), 0, 1, test_get_at(&d->gain, i) };
    long double mean = 0, square = 0;
    for (int64_t k = 0; k < n; k++) mean += (r.w[k] = test_get_at(&d->w, place(d, i, k))) / n;
    for (int64_t k = 0; k < n && d->form < NORM; k++) r.w[k] -= mean;
    bool equal = true;
    for (int64_t k = 1; k < n; k++) equal = equal && r.w[k] == r.w[0];
    for (int64_t k = 0; k < n && d->form < NORM && equal; k++) r.w[k] = 0;
    for (int64_t k = 0; k < n; k++) square += r.w[k] * r.w[k];
    r.s = sqrtl(d->form == ADDS_EPS ? square / n + d->eps : fmaxl(square, d->eps));
    if (d->form == ADDS_EPS) r.c = 1.0L / n;
    if (d->form != ADDS_EPS && square <= d->eps) r.c = 0;
    return r;
}

/* J^T e of row i; returns |J| |e| or more. */
static long double pull(const weight *d, int64_t i, const long double *e, long double *pulled,
                        long double *pulled_gain) {
    row r = row_of(d, i);
    int64_t n = d->columns;
    long double length = 0;
    *pulled_gain = 0;
    for (int64_t k = 0; k < n; k++) length += e[k] * e[k];
    for (int64_t k = 0; k < n; k++) {
        pulled[k] = 0;
        if (r.s > 0) *pulled_gain += r.w[k] / r.s * e[k];
        for (int64_t j = 0; j < n && r.s > 0; j++) {
            long double slope = (j == k) - (d->form < NORM ? 1.0L / n : 0) - r.c * (r.w[j] / r.s) * (r.w[k] / r.s);
            pulled[k] += r.gain / r.s * slope * e[j];
        }
    }
    free(r.w);
    return r.s > 0 ? fabsl(r.gain) / r.s * sqrtl(length) : 0;
}

/* ---- a pass of linear ---- */

enum { B = 3, P = 5, D = 7, MEMORY = 4096 };

typedef struct scene {
    psg_context *context;
    psg_tape *tape;
    psg_param *w, *gain;
    weight d;
    psg_tensor x, g;
    double memory[MEMORY];
    int64_t used;
    test_random random;
} scene;

static psg_tensor tensor(scene *s, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_tensor t = psg_tensor_of(dtype, s->memory + s->used, rank, shape);
    s->used += psg_tensor_count(&t);
    assert_true(s->used <= MEMORY);
    return t;
}

static psg_tensor normal(scene *s, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_tensor t = tensor(s, dtype, rank, shape);
    test_fill_normal(&s->random, &t, 1.0);
    return t;
}

static void open(scene *s, psg_dtype dtype, form form, double eps, int rank, const int64_t *shape) {
    memset(s, 0, sizeof *s);
    s->random.state = 31;
    s->context = test_context(2, NULL);
    TEST_OK(s->context, psg_tape_create(s->context, &s->tape));
    int64_t rows = form == NORM_COLUMNS ? shape[1] : shape[0];
    s->d = (weight){ .form = form, .eps = form < NORM ? eps : 0, .rows = rows, .w = normal(s, dtype, rank, shape) };
    s->d.columns = psg_tensor_count(&s->d.w) / rows;
    s->d.gain = normal(s, dtype, 1, &rows);
    TEST_OK(s->context, psg_param_create(s->context, "w", &s->d.w, &s->w));
    TEST_OK(s->context, psg_param_create(s->context, "gain", &s->d.gain, &s->gain));
}

static void close(scene *s) {
    psg_tape_destroy(s->tape);
    psg_param_destroy(s->w);
    psg_param_destroy(s->gain);
    test_context_free(s->context);
}

static psg_var effective(scene *s) {
    return derive(s->tape, &s->d, psg_use(s->tape, s->w), psg_use(s->tape, s->gain));
}

static void backward(scene *s, psg_var y, const psg_tensor *g) {
    if (psg_backward_from(s->tape, y, g)) fail_msg("%s", psg_tape_message(s->tape));
}

/* grad_samples (B, *shape) of a parameter in the scene's memory. */
static psg_tensor grad_sample(scene *s, const psg_param *param) {
    psg_gradient gradient;
    int64_t shape[PSG_MAX_RANK];
    TEST_OK(s->context, psg_gradient_of(s->tape, param, &gradient));
    shape[0] = gradient.batch_size;
    memcpy(shape + 1, gradient.shape, (size_t)gradient.rank * sizeof *shape);
    psg_tensor out = tensor(s, gradient.dtype, gradient.rank + 1, shape);
    TEST_OK(s->context, psg_grad_sample(s->context, &gradient, 1.0, PSG_OVERWRITE, &out));
    return out;
}

/* ---- values and gradients at any magnitude ---- */

typedef enum content { ORDINARY, LARGE, SMALL, OFFSET, ZEROS, EQUAL, ONE_LARGE, CONTENTS } content;

static void fill(scene *s, content content, psg_dtype dtype) {
    double large = dtype == PSG_F64 ? 1e200 : 1e30;
    for (int64_t k = 0; k < psg_tensor_count(&s->d.w); k++) {
        double value = test_get_at(&s->d.w, k);
        if (content == LARGE) value *= large;
        if (content == SMALL) value /= large;
        if (content == OFFSET) value = 1 + value * 0x1p-12;
        if (content == ZEROS && k / D % 2) value = 0;
        if (content == EQUAL) value = test_get_at(&s->d.w, k / D * D);
        if (content == ONE_LARGE && k % D == 3) value *= large;
        test_set_at(&s->d.w, k, value);
    }
}

static void check_values(const scene *s, const psg_tensor *e, double u) {
    for (int64_t i = 0; i < s->d.rows; i++) {
        row r = row_of(&s->d, i);
        long double most = 0;
        for (int64_t k = 0; k < s->d.columns; k++) if (r.s > 0) most = fmaxl(most, fabsl(r.gain * r.w[k] / r.s));
        for (int64_t k = 0; k < s->d.columns; k++) {
            long double expected = r.s > 0 ? r.gain * r.w[k] / r.s : 0;
            test_near(test_get_at(e, place(&s->d, i, k)), (double)expected, 4 * u * (double)most, "E", i);
        }
        free(r.w);
    }
}

/* Row i of sample n of linear's gradient of E. */
static void effective_gradient(const scene *s, int64_t n, int64_t i, long double *e) {
    for (int64_t k = 0; k < s->d.columns; k++) {
        int64_t at = place(&s->d, i, k);
        e[k] = (long double)test_get_at(&s->g, n * P + at / D) * test_get_at(&s->x, n * D + at % D);
    }
}

static void check_bound(scene *s, int64_t n, long double square) {
    psg_gradient gradient[2];
    const psg_gradient *set[2] = { &gradient[0], &gradient[1] };
    double sqnorm[B], upper[B];
    TEST_OK(s->context, psg_gradient_of(s->tape, s->w, &gradient[0]));
    TEST_OK(s->context, psg_gradient_of(s->tape, s->gain, &gradient[1]));
    TEST_OK(s->context, psg_sqnorm(s->context, set, 2, sqnorm, upper, NULL));
    if (!(upper[n] >= square * (1 - 1e-15L))) fail_msg("upper %.17g below %.17Lg", upper[n], square);
}

/* One rounding to the real type of each product, of the pulled element, of u where that is f64. */
static void check_gradients(scene *s, double u) {
    psg_tensor w = grad_sample(s, s->w), gain = grad_sample(s, s->gain);
    for (int64_t n = 0; n < B; n++) {
        long double square = 0;
        for (int64_t i = 0; i < s->d.rows; i++) {
            long double e[P * D], pulled[P * D], of_gain, terms, length = 0;
            effective_gradient(s, n, i, e);
            terms = pull(&s->d, i, e, pulled, &of_gain);
            for (int64_t k = 0; k < s->d.columns; k++) {
                square += pulled[k] * pulled[k];
                length += e[k] * e[k];
                test_near(test_get_at(&w, n * P * D + place(&s->d, i, k)), (double)pulled[k], 12 * u * (double)terms,
                          "gradient", k);
            }
            square += of_gain * of_gain;
            length = sqrtl(length * (long double)s->d.columns);
            test_near(test_get_at(&gain, n * s->d.rows + i), (double)of_gain, 12 * u * (double)length, "gain", i);
        }
        check_bound(s, n, square);
    }
}

static void linear_pass(scene *s) {
    TEST_OK(s->context, psg_tape_begin(s->tape, NULL));
    psg_var e = effective(s), y = psg_linear(s->tape, psg_input(s->tape, &s->x), e, psg_none());
    psg_tensor value;
    if (psg_value(s->tape, e, &value)) fail_msg("%s", psg_tape_message(s->tape));
    check_values(s, &value, s->d.w.dtype == PSG_F32 ? 0x1p-24 : 0x1p-52);
    backward(s, y, &s->g);
}

/* Activations that are nearly alike: standardized weights get next to nothing of them. */
static void fill_activations(scene *s, psg_dtype dtype, bool alike) {
    s->x = normal(s, dtype, 2, (int64_t[]){ B, D });
    s->g = normal(s, dtype, 2, (int64_t[]){ B, P });
    for (int64_t k = 0; k < B * D && alike; k++) test_set_at(&s->x, k, 1 + 0x1p-20 * test_get_at(&s->x, k));
}

static void formulas_hold_at_any_magnitude(void **state) {
    (void)state;
    for (int k = 0; k < 2 * FORMS * CONTENTS * 2 * 2; k++) {
        scene s;
        psg_dtype dtype = (psg_dtype)(k % 2);
        double eps = k / 2 % 2 ? 1e-6 : 0;
        form form = (enum form)(k / 4 % FORMS);
        open(&s, dtype, form, eps, 2, (int64_t[]){ P, D });
        fill(&s, (content)(k / 4 / FORMS % CONTENTS), dtype);
        fill_activations(&s, dtype, k / 4 / FORMS / CONTENTS);
        linear_pass(&s);
        check_gradients(&s, dtype == PSG_F32 ? 0x1p-24 : 0x1p-52);
        close(&s);
    }
}

/* ---- memory ---- */

static void ask_all(scene *s) {
    psg_gradient gradient[2];
    const psg_gradient *set[2] = { &gradient[0], &gradient[1] };
    double sums[P * D + P], dots[B], gram[B * B];
    psg_tensor outs[2] = { psg_tensor_of(PSG_F64, sums, 2, s->d.w.shape),
                           psg_tensor_of(PSG_F64, sums + P * D, 1, s->d.gain.shape) };
    psg_tensor directions[2] = { s->d.w, s->d.gain };
    psg_clip clip = PSG_CLIP_INIT;
    TEST_OK(s->context, psg_gradient_of(s->tape, s->w, &gradient[0]));
    TEST_OK(s->context, psg_gradient_of(s->tape, s->gain, &gradient[1]));
    TEST_OK(s->context, psg_sqnorm(s->context, set, 2, dots, dots, NULL));
    TEST_OK(s->context, psg_clipped_sum(s->context, set, 2, &clip, PSG_OVERWRITE, outs, NULL, NULL, NULL));
    TEST_OK(s->context, psg_weighted_sum(s->context, set, 2, NULL, PSG_OVERWRITE, outs));
    TEST_OK(s->context, psg_sum_of_squares(s->context, set, 2, PSG_OVERWRITE, outs));
    TEST_OK(s->context, psg_dot(s->context, set, 2, directions, dots));
    TEST_OK(s->context, psg_gram(s->context, set, 2, gram));
}

static void later_passes_allocate_nothing(void **state) {
    (void)state;
    scene s;
    uint64_t before = 0;
    open(&s, PSG_F64, ADDS_EPS, 1e-6, 2, (int64_t[]){ P, D });
    fill_activations(&s, PSG_F64, false);
    for (int pass = 0; pass < 4; pass++) {
        if (pass == 2) before = psg_context_allocations(s.context);
        linear_pass(&s);
        ask_all(&s);
    }
    assert_true(psg_context_allocations(s.context) == before);
    close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formulas_hold_at_any_magnitude),
        cmocka_unit_test(later_passes_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
