/* Spectra of known matrices, the effective rank, natural gradients against a dense solve. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- spectra ---- */

/* A = Q diag(values) Q^T, Q the reflection I - 2 u u^T of a random unit vector u. */
static double *matrix_with(test_random *random, const double *values, int64_t n) {
    double *u = malloc((size_t)n * sizeof *u), *q = malloc((size_t)(n * n) * sizeof *q), norm = 0;
    double *a = calloc((size_t)(n * n), sizeof *a);
    for (int64_t i = 0; i < n; i++) {
        u[i] = test_normal(random);
        norm += u[i] * u[i];
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) q[i * n + j] = (i == j) - 2 * u[i] * u[j] / norm;
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            for (int64_t k = 0; k < n; k++) a[i * n + j] += q[i * n + k] * values[k] * q[j * n + k];
        }
    }
    free(u);
    free(q);
    return a;
}

static void check_vectors(const double *a, const double *values, const double *vectors, int64_t n, double scale) {
    for (int64_t k = 0; k < n; k++) {
        for (int64_t i = 0; i < n; i++) {   /* A v = lambda v */
            double product = 0;
            for (int64_t j = 0; j < n; j++) product += a[i * n + j] * vectors[k * n + j];
            test_near(product, values[k] * vectors[k * n + i], 1e-11 * scale, "A v", i);
        }
        for (int64_t m = 0; m <= k; m++) {   /* orthonormal */
            double product = 0;
            for (int64_t j = 0; j < n; j++) product += vectors[k * n + j] * vectors[m * n + j];
            test_near(product, k == m, 1e-12, "v v", m);
        }
    }
}

static void spectra_of_known_matrices(void **state) {
    (void)state;
    static const int64_t sizes[] = { 0, 1, 2, 3, 5, 17, 64 };
    test_random random = { 1 };
    psg_context *context = test_context(2, NULL);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s];
        double values[64], found[65], vectors[64 * 64 + 1];
        for (int64_t k = 0; k < n; k++) values[k] = k % 3 ? (double)(n - k) : n - k + 0.5;
        double *a = matrix_with(&random, values, n), *copy = malloc((size_t)(n * n + 1) * sizeof *copy);
        memcpy(copy, a, (size_t)(n * n) * sizeof *copy);
        found[n] = vectors[n * n] = 7;
        TEST_OK(context, psg_gram_spectrum(context, a, n, found, vectors));
        assert_true(found[n] == 7 && vectors[n * n] == 7);
        for (int64_t k = 0; k < n; k++) {
            test_near(found[k], values[k], 1e-12 * (double)(n + 1), "eigenvalue", k);
            assert_true(!k || found[k - 1] >= found[k]);
        }
        check_vectors(a, found, vectors, n, (double)(n + 1));
        assert_memory_equal(a, copy, (size_t)(n * n) * sizeof *copy);
        TEST_OK(context, psg_gram_spectrum(context, a, n, vectors, NULL));
        for (int64_t k = 0; k < n; k++) test_near(vectors[k], found[k], 1e-12 * (double)(n + 1), "values alone", k);
        free(a);
        free(copy);
    }
    psg_context_destroy(context);
}

/* A singular matrix: rounding below zero is set to zero. */
static void rounded_eigenvalues_are_not_negative(void **state) {
    (void)state;
    test_random random = { 2 };
    psg_context *context = test_context(1, NULL);
    for (int round = 0; round < 20; round++) {
        fixture f;
        fixture_single(&f, &random, PSG_F64, FIXTURE_WHOLE, 12, 1, 2, 2, TEST_CONTIGUOUS);   /* rank at most 4 */
        double gram[144], values[12];
        TEST_OK(context, psg_gram(context, f.pointer, 1, gram));
        TEST_OK(context, psg_gram_spectrum(context, gram, 12, values, NULL));
        for (int k = 0; k < 12; k++) assert_true(values[k] >= 0 && (k < 4 || values[k] <= 1e-12 * values[0]));
        assert_true(psg_effective_rank(values, 12) <= 4 + 1e-9);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void effective_rank_counts_directions(void **state) {
    (void)state;
    double parallel[] = { 5, 0, 0, 0 }, equal[] = { 3, 3, 3, 3 }, zero[] = { 0, 0 }, two[] = { 4, 4, 0 };
    assert_true(fabs(psg_effective_rank(parallel, 4) - 1) < 1e-15);
    assert_true(fabs(psg_effective_rank(equal, 4) - 4) < 1e-15);
    assert_true(fabs(psg_effective_rank(two, 3) - 2) < 1e-15);
    assert_true(psg_effective_rank(zero, 2) == 0);
    assert_true(psg_effective_rank(zero, 0) == 0);
    assert_true(psg_effective_rank(NULL, 0) == 0);
}

static void effective_rank_does_not_depend_on_the_scale(void **state) {
    (void)state;
    static const double scales[] = { 5e-324, 1e-310, 1e-200, 1e-160, 1, 1e160, 1e200, 8.9e307 };
    for (size_t k = 0; k < sizeof scales / sizeof scales[0]; k++) {
        double two[] = { scales[k], scales[k] }, one[] = { scales[k], 0 };
        assert_true(psg_effective_rank(two, 2) == 2);
        assert_true(psg_effective_rank(two, 1) == 1);
        assert_true(psg_effective_rank(one, 2) == 1);
    }
    double wide[] = { 1e200, 1e-200 }, bad[] = { 1, NAN }, infinite[] = { INFINITY, 1 };
    assert_true(psg_effective_rank(wide, 2) == 1);
    assert_true(isnan(psg_effective_rank(bad, 2)) && isnan(psg_effective_rank(infinite, 2)));
}

static void spectrum_refuses_bad_arguments(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    double a[4] = { 1, 0, 0, 1 }, values[2] = { 7, 7 };
    assert_int_equal(psg_gram_spectrum(NULL, a, 2, values, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gram_spectrum(context, NULL, 2, values, NULL), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(context), "gram_spectrum"));
    assert_int_equal(psg_gram_spectrum(context, a, 2, NULL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gram_spectrum(context, a, -1, values, NULL), PSG_ERR_ARGUMENT);
    assert_true(psg_gram_spectrum(context, a, INT64_MAX, values, NULL) != PSG_OK);
    a[0] = NAN;
    psg_status status = psg_gram_spectrum(context, a, 2, values, NULL);
    assert_true(status == PSG_ERR_NONFINITE || status == PSG_ERR_NUMERIC);
    assert_true(values[0] == 7 && values[1] == 7);
    psg_context_destroy(context);
}

/* ---- natural gradients ---- */

/* x = A^-1 b by Gaussian elimination with pivots; A (n x n) and b are overwritten. */
static void solve_dense(long double *a, long double *b, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        int64_t pivot = k;
        for (int64_t i = k; i < n; i++) if (fabsl(a[i * n + k]) > fabsl(a[pivot * n + k])) pivot = i;
        for (int64_t j = 0; j < n; j++) {
            long double swap = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = swap;
        }
        long double swap = b[k];
        b[k] = b[pivot];
        b[pivot] = swap;
        for (int64_t i = k + 1; i < n; i++) {
            long double factor = a[i * n + k] / a[k * n + k];
            for (int64_t j = k; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    }
    for (int64_t k = n; k-- > 0;) {
        for (int64_t j = k + 1; j < n; j++) b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
}

/* (damping I + J^T J / B)^-1 v with the whole P x P matrix; v becomes the result. */
static void dense_direction(const fixture *f, double damping, long double *v) {
    int64_t total = f->total;
    long double *a = calloc((size_t)(total * total), sizeof *a);
    for (int64_t i = 0; i < total; i++) {
        a[i * total + i] = damping;
        for (int64_t n = 0; n < f->batch_size; n++) {
            const long double *g = f->dense + n * total;
            for (int64_t j = 0; j < total; j++) a[i * total + j] += g[i] * g[j] / f->batch_size;
        }
    }
    solve_dense(a, v, total);
    free(a);
}

static long double norm_of(const long double *x, int64_t count) {
    long double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i] * x[i];
    return sqrtl(sum);
}

/* tr F / damping. */
static double amplification(const fixture *f, double damping) {
    long double norm = norm_of(f->dense, f->batch_size * f->total);
    return (double)(norm * norm / (f->batch_size * (long double)damping));
}

static long double *elements_of(const fixture *f, const psg_tensor *tensors) {
    long double *x = malloc((size_t)f->total * sizeof *x + 1);
    for (size_t k = 0; k < f->count; k++) {
        for (int64_t e = 0; e < f->size[k]; e++) x[f->start[k] + e] = test_get_at(&tensors[k], e);
    }
    return x;
}

static void set_elements(const fixture *f, const long double *x, const psg_tensor *tensors) {
    for (size_t k = 0; k < f->count; k++) {
        for (int64_t e = 0; e < f->size[k]; e++) test_set_at(&tensors[k], e, (double)x[f->start[k] + e]);
    }
}

/* ||found - expected|| <= error ||expected||, and what outs of their type lose. */
static void check_direction(const fixture *f, const psg_tensor *outs, const long double *expected, double error) {
    long double *found = elements_of(f, outs), size = norm_of(expected, f->total);
    for (int64_t i = 0; i < f->total; i++) found[i] -= expected[i];
    double bound = error + (outs[0].dtype == PSG_F64 ? 0x1p-53 : 0x1p-24);
    double distance = (double)(norm_of(found, f->total) / (size > 0 ? size : 1));
    if (!(error <= 0.01) || distance > bound) fail_msg("error %g, estimate %g, size %g", distance, error, (double)size);
    free(found);
}

/* ---- v that is given ---- */

typedef enum place { ANYWHERE, IN_SPAN, ORTHOGONAL, PLACES } place;

/* v += sum_n weights[n] g_n. */
static void add_combination(const fixture *f, const double *weights, long double *v) {
    for (int64_t n = 0; n < f->batch_size; n++) {
        for (int64_t i = 0; i < f->total; i++) v[i] += weights[n] * f->dense[n * f->total + i];
    }
}

/* Solving with a tiny damping divides by it what is orthogonal to the span. */
static void make_orthogonal(const fixture *f, long double *v) {
    dense_direction(f, 1e-12, v);
    for (int64_t i = 0; i < f->total; i++) v[i] *= 1e-12L;
}

static void place_v(const fixture *f, test_random *random, place where, const psg_tensor *v) {
    long double *x = elements_of(f, v);
    double *weights = malloc((size_t)f->batch_size * sizeof *weights + 1);
    for (int64_t n = 0; n < f->batch_size; n++) weights[n] = test_normal(random);
    if (where == IN_SPAN) {
        memset(x, 0, (size_t)f->total * sizeof *x);
        add_combination(f, weights, x);
    }
    if (where == ORTHOGONAL) make_orthogonal(f, x);
    set_elements(f, x, v);
    free(weights);
    free(x);
}

/* The estimate is 4 * 2^-52 (|v| / (damping |x|) + 1 + tr F / damping), where |v| <= (damping + tr F) |x|, and the
 * residual: sums of B and P terms, each rounded, of that size. */
static void check_given(psg_context *context, const fixture *f, answers *a, double damping) {
    double terms = 2.0 * (double)(f->batch_size + f->total), error = -1;
    double expected_error = (8 + terms) * 0x1p-52 * (1 + amplification(f, damping));
    uint64_t before = answers_hash(a);
    psg_status status = psg_natural_gradient(context, f->pointer, f->count, damping, a->directions, a->sums, &error);
    assert_true(error >= 0 && error <= expected_error);
    if (status) {
        assert_int_equal(status, PSG_ERR_NUMERIC);
        assert_true(error > 0.01 && answers_hash(a) == before);
        return;
    }
    long double *expected = elements_of(f, a->directions);
    dense_direction(f, damping, expected);
    check_direction(f, a->sums, expected, error);
    free(expected);
}

static const double dampings[] = { 1e-12, 1e-9, 1e-6, 1e-5, 1e-3, 1, 1e3 };

enum { DAMPINGS = sizeof dampings / sizeof dampings[0] };

static void natural_gradients_agree_with_a_dense_solve(void **state) {
    (void)state;
    test_random random = { 3 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < 2 * 4 * 3 * PLACES; round++) {
        fixture f;
        answers a;
        psg_dtype dtype = (psg_dtype)(round % 2), out = round % 3 ? PSG_F64 : dtype;
        fixture_layer(&f, &random, dtype, (int64_t[]){ 1, 2, 7, 40 }[round / 2 % 4], round % 3, 5, 6);
        answers_new(&a, &f, &random, out, PSG_OVERWRITE);
        place_v(&f, &random, (place)(round / 8 % PLACES), a.directions);
        for (int k = 0; k < DAMPINGS; k++) check_given(context, &f, &a, dampings[k]);
        answers_free(&a);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* Every form, arrays of any strides and arrays that samples share. */
static void natural_gradients_of_every_form(void **state) {
    (void)state;
    static const int layouts[] = { TEST_CONTIGUOUS, TEST_PERMUTED, TEST_PADDED | TEST_NEGATIVE, TEST_SHARED_BATCH };
    static const psg_window window = { .spatial = 2, .kernel = { 2, 3 }, .stride = { 1, 2 }, .dilation = { 1, 1 },
                                       .padding = { 1, 0 }, .output = { 4, 2 } };
    test_random random = { 8 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < 5 * 4 * 2; round++) {
        fixture f;
        answers a;
        psg_dtype dtype = (psg_dtype)(round / 20);
        int layout = layouts[round % 4], kind = round / 4 % 5;
        if (kind < 4) fixture_single(&f, &random, dtype, (fixture_kind)kind, 6, round % 3 + 1, 4, 5, layout);
        else fixture_unfolded(&f, &random, dtype, 6, 3, &window, (int64_t[]){ 2, 3, 5, 1 }, layout);
        answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
        for (int k = 0; k < DAMPINGS; k++) check_given(context, &f, &a, dampings[k]);
        answers_free(&a);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* Two equal samples: F = g g^T, and v = g is its eigenvector of value |g|^2. */
static void equal_samples_keep_their_digits(void **state) {
    (void)state;
    float rows[] = { 3, 4, 3, 4 }, direction[] = { 3, 4 }, out[2];
    double wide[2], error;
    psg_tensor view = psg_f32_2d(rows, 2, 2), v = psg_f32_1d(direction, 2), outs = psg_f32_1d(out, 2);
    psg_tensor wide_outs = psg_tensor_of(PSG_F64, wide, 1, v.shape);
    psg_block block = psg_rows(&view);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, v.shape);
    const psg_gradient *set[] = { &gradient };
    psg_context *context = test_context(1, NULL);
    TEST_OK(context, psg_natural_gradient(context, set, 1, 1e-6, &v, &outs, &error));
    assert_true(error < 1e-6 && fabs(out[0] - 0.12) < 2e-8 && fabs(out[1] - 0.16) < 2e-8);
    for (int k = 0; k < DAMPINGS; k++) {
        double expected = 1 / (25 + dampings[k]);
        TEST_OK(context, psg_natural_gradient_of_sum(context, set, 1, dampings[k], NULL, &wide_outs, &error));
        assert_true(error < 1e-8 && fabs(wide[0] / 3 - expected) <= error * expected);
        assert_true(fabs(wide[1] / 4 - expected) <= error * expected);
    }
    psg_context_destroy(context);
}

/* A linear layer 20 -> 10, 32 samples, v their mean gradient in f32. */
static void the_mean_gradient_of_a_layer(void **state) {
    (void)state;
    test_random random = { 9 };
    fixture f;
    answers a;
    psg_context *context = test_context(2, NULL);
    fixture_single(&f, &random, PSG_F32, FIXTURE_WHOLE, 32, 1, 10, 20, TEST_CONTIGUOUS);
    answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
    TEST_OK(context, psg_weighted_sum(context, f.pointer, f.count, NULL, PSG_OVERWRITE, a.directions));
    double error;
    TEST_OK(context, psg_natural_gradient(context, f.pointer, f.count, 1e-5, a.directions, a.sums, &error));
    assert_true(error < 1e-6);
    check_given(context, &f, &a, 1e-5);
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* Positions that cancel to 2^-30 of their size: products with J are rounded far above what ||J|| tells, which the
 * estimate must learn from the residual. */
static void cancelling_positions_show_in_the_estimate(void **state) {
    (void)state;
    test_random random = { 14 };
    psg_context *context = test_context(1, NULL);
    for (int round = 0; round < 50; round++) {
        fixture f;
        answers a;
        fixture_single(&f, &random, PSG_F64, FIXTURE_ROWS, 4, 2, 6, 1, TEST_CONTIGUOUS);
        psg_tensor *g = &f.block[0][0].backprop;
        for (int64_t k = 0; k < 4 * 6; k++) {
            int64_t first = k / 6 * 12 + k % 6;
            double large = 0x1p30 * test_normal(&random);
            test_set_at(g, first, large);
            test_set_at(g, first + 6, test_normal(&random) - large);
        }
        fixture_refresh(&f);
        answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
        double error;
        TEST_OK(context, psg_natural_gradient(context, f.pointer, 1, 0.01, a.directions, a.sums, &error));
        long double *expected = elements_of(&f, a.directions);
        dense_direction(&f, 0.01, expected);
        check_direction(&f, a.sums, expected, error);
        free(expected);
        answers_free(&a);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* ---- v that is a weighted sum ---- */

/* J^T (damping I + J J^T / B)^-1 weights.  At small dampings it keeps digits that
 * dense_direction, of condition tr F / damping, has lost. */
static long double *direction_of_sum(const fixture *f, double damping, const double *weights) {
    int64_t batch = f->batch_size, total = f->total;
    long double *a = malloc((size_t)(batch * batch) * sizeof *a), *z = malloc((size_t)batch * sizeof *z);
    long double *x = calloc((size_t)total, sizeof *x);
    for (int64_t n = 0; n < batch; n++) {
        z[n] = weights[n];
        for (int64_t m = 0; m < batch; m++) {
            long double sum = 0;
            for (int64_t i = 0; i < total; i++) sum += f->dense[n * total + i] * f->dense[m * total + i];
            a[n * batch + m] = sum / batch + (n == m ? (long double)damping : 0);
        }
    }
    solve_dense(a, z, batch);
    for (int64_t n = 0; n < batch; n++) {
        for (int64_t i = 0; i < total; i++) x[i] += z[n] * f->dense[n * total + i];
    }
    free(a);
    free(z);
    return x;
}

static long double *dense_direction_of_sum(const fixture *f, double damping, const double *weights) {
    long double *x = calloc((size_t)f->total, sizeof *x);
    add_combination(f, weights, x);
    dense_direction(f, damping, x);
    return x;
}

static void check_sum(psg_context *context, const fixture *f, answers *a, const double *weights, double damping) {
    double error = -1, mean[40];
    TEST_OK(context, psg_natural_gradient_of_sum(context, f->pointer, f->count, damping, weights, a->sums, &error));
    for (int64_t n = 0; n < f->batch_size; n++) mean[n] = weights ? weights[n] : 1.0 / (double)f->batch_size;
    long double *expected =
        damping < 1e-6 ? direction_of_sum(f, damping, mean) : dense_direction_of_sum(f, damping, mean);
    check_direction(f, a->sums, expected, error);
    free(expected);
}

static void natural_gradients_of_sums_agree_with_a_dense_solve(void **state) {
    (void)state;
    test_random random = { 10 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < 24; round++) {
        fixture f;
        answers a;
        psg_dtype dtype = (psg_dtype)(round % 2), out = round % 3 ? PSG_F64 : dtype;
        fixture_layer(&f, &random, dtype, (int64_t[]){ 1, 2, 7, 40 }[round / 2 % 4], round % 3, 5, 6);
        answers_new(&a, &f, &random, out, PSG_OVERWRITE);
        for (int k = 0; k < DAMPINGS; k++) {
            check_sum(context, &f, &a, NULL, dampings[k]);
            check_sum(context, &f, &a, a.weights, dampings[k]);
        }
        answers_free(&a);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* ---- limits ---- */

static void zero_gradients_divide_by_the_damping(void **state) {
    (void)state;
    float rows[3 * 4] = { 0 };
    double direction[] = { 1, -3, 0x1p-60, 0x1p100 }, out[4], error;
    psg_tensor view = psg_f32_2d(rows, 3, 4), v = psg_tensor_of(PSG_F64, direction, 1, (int64_t[]){ 4 });
    psg_tensor outs = psg_tensor_of(PSG_F64, out, 1, v.shape);
    psg_block block = psg_rows(&view);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, v.shape);
    const psg_gradient *set[] = { &gradient };
    psg_context *context = test_context(1, NULL);
    TEST_OK(context, psg_natural_gradient(context, set, 1, 0x1p-40, &v, &outs, &error));
    for (int k = 0; k < 4; k++) assert_true(out[k] == direction[k] * 0x1p40);
    TEST_OK(context, psg_natural_gradient_of_sum(context, set, 1, 0x1p-40, NULL, &outs, &error));
    for (int k = 0; k < 4; k++) assert_true(out[k] == 0);
    assert_true(error == 0);
    psg_context_destroy(context);
}

/* A parameter that no sample reached has no blocks. */
static void unreached_parameters_have_their_share(void **state) {
    (void)state;
    float rows[] = { 3, 4, 3, 4 }, direction[] = { 3, 4 };
    double other[] = { 5 }, out[2], other_out[1];
    psg_tensor view = psg_f32_2d(rows, 2, 2);
    psg_tensor v[] = { psg_f32_1d(direction, 2), psg_tensor_of(PSG_F64, other, 1, (int64_t[]){ 1 }) };
    psg_tensor outs[] = { psg_tensor_of(PSG_F64, out, 1, v[0].shape),
                          psg_tensor_of(PSG_F64, other_out, 1, v[1].shape) };
    psg_block block = psg_rows(&view);
    psg_gradient reached = psg_gradient_of_blocks(&block, 1, 1, v[0].shape);
    psg_gradient unreached = psg_gradient_of_blocks(NULL, 0, 1, v[1].shape);
    unreached.batch_size = 2;
    const psg_gradient *set[] = { &reached, &unreached };
    psg_context *context = test_context(1, NULL);
    TEST_OK(context, psg_natural_gradient(context, set, 2, 0x1p-4, v, outs, NULL));
    assert_true(fabs(out[0] - 3 / 25.0625) < 1e-13 && fabs(out[1] - 4 / 25.0625) < 1e-13 && other_out[0] == 80);
    psg_context_destroy(context);
}

/* v times a power of two gives the result times it, bit for bit; and outs may be v. */
static void the_scale_of_v_does_not_matter(void **state) {
    (void)state;
    static const int exponents[] = { -900, -40, 7, 900 };
    test_random random = { 11 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    answers a;
    fixture_single(&f, &random, PSG_F64, FIXTURE_WHOLE, 4, 2, 3, 5, TEST_CONTIGUOUS);
    answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
    TEST_OK(context, psg_natural_gradient(context, f.pointer, 1, 0.1, a.directions, a.sums, NULL));
    const double *expected = a.sums[0].data;
    double v[15];
    psg_tensor both = psg_tensor_of(PSG_F64, v, a.sums[0].rank, a.sums[0].shape);
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < 15; i++) v[i] = ldexp(((const double *)a.directions[0].data)[i], exponents[k]);
        TEST_OK(context, psg_natural_gradient(context, f.pointer, 1, 0.1, &both, &both, NULL));
        for (int i = 0; i < 15; i++) assert_true(v[i] == ldexp(expected[i], exponents[k]));
    }
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* A sum that cancels, and a system that is singular in double. */
static void sums_without_digits_are_refused(void **state) {
    (void)state;
    float rows[] = { 3, 4, 3, 4 };
    double out[] = { 7, 7 }, error = 0, opposite[] = { 1, -1 };
    psg_tensor view = psg_f32_2d(rows, 2, 2), outs = psg_tensor_of(PSG_F64, out, 1, (int64_t[]){ 2 });
    psg_block block = psg_rows(&view);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, outs.shape);
    const psg_gradient *set[] = { &gradient };
    psg_context *context = test_context(1, NULL);
    psg_status status = psg_natural_gradient_of_sum(context, set, 1, 1, opposite, &outs, &error);
    assert_true(status == PSG_ERR_NUMERIC && error > 0.01);
    error = 0;
    status = psg_natural_gradient_of_sum(context, set, 1, 1e-20, NULL, &outs, &error);
    assert_true(status == PSG_ERR_NUMERIC && error > 0.01);
    assert_non_null(strstr(psg_context_message(context), "not positive definite"));
    assert_true(out[0] == 7 && out[1] == 7);
    psg_context_destroy(context);
}

/* What has no digits, or no place in outs, is refused. */
static void what_cannot_be_answered_is_refused(void **state) {
    (void)state;
    test_random random = { 12 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    answers a;
    fixture_single(&f, &random, PSG_F32, FIXTURE_WHOLE, 4, 1, 3, 5, TEST_CONTIGUOUS);
    answers_new(&a, &f, &random, PSG_F32, PSG_OVERWRITE);
    uint64_t before = answers_hash(&a);
    double error = 0;
    psg_status status = psg_natural_gradient(context, f.pointer, 1, 1e-16, a.directions, a.sums, &error);
    assert_int_equal(status, PSG_ERR_NUMERIC);
    assert_true(error > 0.01 && strstr(psg_context_message(context), "drowns in rounding"));
    float huge[15], out[15];
    for (int i = 0; i < 15; i++) huge[i] = 3e38f;
    psg_tensor v = psg_f32_2d(huge, 3, 5), outs = psg_f32_2d(out, 3, 5);
    memset(out, 7, sizeof out);
    assert_int_equal(psg_natural_gradient(context, f.pointer, 1, 0.01, &v, &outs, NULL), PSG_ERR_NUMERIC);
    assert_non_null(strstr(psg_context_message(context), "leaves the range of outs"));
    for (size_t i = 0; i < sizeof out; i++) assert_int_equal(((unsigned char *)out)[i], 7);
    assert_true(answers_hash(&a) == before);
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

static void nan_and_inf_are_refused(void **state) {
    (void)state;
    static const double bad[] = { (double)NAN, (double)INFINITY };
    test_random random = { 13 };
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < 2; k++) {
        fixture f;
        answers a;
        fixture_single(&f, &random, PSG_F32, FIXTURE_WHOLE, 4, 1, 3, 5, TEST_CONTIGUOUS);
        answers_new(&a, &f, &random, PSG_F32, PSG_OVERWRITE);
        double weights[] = { 1, 1, bad[k], 1 }, kept = test_get_at(&a.directions[0], 7);
        psg_status status = psg_natural_gradient_of_sum(context, f.pointer, 1, 1, weights, a.sums, NULL);
        assert_int_equal(status, PSG_ERR_NONFINITE);
        assert_non_null(strstr(psg_context_message(context), "weights[2]"));
        test_set_at(&a.directions[0], 7, bad[k]);
        status = psg_natural_gradient(context, f.pointer, 1, 1, a.directions, a.sums, NULL);
        assert_int_equal(status, PSG_ERR_NONFINITE);
        test_set_at(&a.directions[0], 7, kept);
        test_set_at(&f.block[0][0].backprop, 4, bad[k]);
        status = psg_natural_gradient(context, f.pointer, 1, 1, a.directions, a.sums, NULL);
        assert_int_equal(status, PSG_ERR_NONFINITE);
        assert_non_null(strstr(psg_context_message(context), "sample 1"));
        assert_true(isnan(test_get_at(&a.sums[0], 0)));
        answers_free(&a);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* Without samples F is zero: v / damping. */
static void an_empty_batch_divides_by_the_damping(void **state) {
    (void)state;
    test_random random = { 4 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    fixture_layer(&f, &random, PSG_F64, 0, 3, 5, 6);
    answers a;
    answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
    TEST_OK(context, psg_natural_gradient(context, f.pointer, f.count, 0.5, a.directions, a.sums, NULL));
    for (int64_t e = 0; e < f.size[0]; e++) {
        test_near(test_get_at(&a.sums[0], e), 2 * test_get_at(&a.directions[0], e), 1e-14, "v / damping", e);
    }
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

static void natural_gradient_refuses_bad_arguments(void **state) {
    (void)state;
    static const double refused[] = { 0, -1, (double)NAN, (double)INFINITY };
    test_random random = { 5 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    fixture_layer(&f, &random, PSG_F32, 3, 3, 5, 6);
    answers a;
    answers_new(&a, &f, &random, PSG_F32, PSG_OVERWRITE);
    uint64_t before = answers_hash(&a);
    for (int k = 0; k < 4; k++) {
        psg_status status = psg_natural_gradient(context, f.pointer, f.count, refused[k], a.directions, a.sums, NULL);
        assert_int_equal(status, PSG_ERR_ARGUMENT);
        assert_non_null(strstr(psg_context_message(context), "damping"));
    }
    assert_int_equal(psg_natural_gradient(NULL, f.pointer, 3, 1, a.directions, a.sums, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_natural_gradient(context, NULL, 3, 1, a.directions, a.sums, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, NULL, a.sums, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, a.directions, NULL, NULL), PSG_ERR_ARGUMENT);
    a.sums[1].shape[0]--;
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, a.directions, a.sums, NULL), PSG_ERR_SHAPE);
    assert_non_null(strstr(psg_context_message(context), "outs[1]"));
    a.sums[1].shape[0]++;
    a.directions[0].dtype = PSG_I64;
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, a.directions, a.sums, NULL), PSG_ERR_DTYPE);
    assert_non_null(strstr(psg_context_message(context), "psg_natural_gradient: v[0] is i64, must be f32 or f64"));
    a.directions[0].dtype = PSG_F32;
    f.gradient[2].shape[0]--;
    assert_int_equal(psg_natural_gradient_of_sum(context, f.pointer, 3, 1, NULL, a.sums, NULL), PSG_ERR_SHAPE);
    assert_non_null(strstr(psg_context_message(context), "psg_natural_gradient_of_sum: "));
    f.gradient[2].shape[0]++;
    f.gradient[1].batch_coupled = 1;
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, a.directions, a.sums, NULL), PSG_ERR_UNSUPPORTED);
    assert_true(answers_hash(&a) == before);
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* Fails every allocation once and for good: PSG_ERR_MEMORY, outputs untouched, nothing leaked; what is only for the
 * next question may be missing. */
static void failing_allocations_lose_nothing(void **state) {
    (void)state;
    test_random random = { 6 };
    fixture f;
    fixture_layer(&f, &random, PSG_F32, 9, 3, 5, 6);
    for (int forever = 0; forever < 2; forever++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            test_allocator allocator = { 0 };
            psg_context *context = test_context_with(&allocator, 2, NULL, 0);
            answers a;
            answers_new(&a, &f, &random, PSG_F32, PSG_OVERWRITE);
            uint64_t before = answers_hash(&a);
            test_allocator_arm(&allocator, n, forever);
            psg_status status = psg_natural_gradient(context, f.pointer, f.count, 1, a.directions, a.sums, NULL);
            failed = allocator.failed > 0;
            assert_true(status == PSG_OK || (failed && status == PSG_ERR_MEMORY));
            assert_true((status == PSG_OK) == (answers_hash(&a) != before));
            double values[81], gram[81] = { 0 };
            status = psg_gram_spectrum(context, gram, 9, values, NULL);
            assert_true(status == PSG_OK || (allocator.failed && status == PSG_ERR_MEMORY));
            answers_free(&a);
            psg_context_destroy(context);
            assert_int_equal(allocator.live_bytes + allocator.mistakes, 0);
        }
    }
    fixture_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spectra_of_known_matrices),
        cmocka_unit_test(rounded_eigenvalues_are_not_negative),
        cmocka_unit_test(effective_rank_counts_directions),
        cmocka_unit_test(effective_rank_does_not_depend_on_the_scale),
        cmocka_unit_test(spectrum_refuses_bad_arguments),
        cmocka_unit_test(natural_gradients_agree_with_a_dense_solve),
        cmocka_unit_test(natural_gradients_of_every_form),
        cmocka_unit_test(equal_samples_keep_their_digits),
        cmocka_unit_test(the_mean_gradient_of_a_layer),
        cmocka_unit_test(cancelling_positions_show_in_the_estimate),
        cmocka_unit_test(natural_gradients_of_sums_agree_with_a_dense_solve),
        cmocka_unit_test(zero_gradients_divide_by_the_damping),
        cmocka_unit_test(unreached_parameters_have_their_share),
        cmocka_unit_test(the_scale_of_v_does_not_matter),
        cmocka_unit_test(sums_without_digits_are_refused),
        cmocka_unit_test(what_cannot_be_answered_is_refused),
        cmocka_unit_test(nan_and_inf_are_refused),
        cmocka_unit_test(an_empty_batch_divides_by_the_damping),
        cmocka_unit_test(natural_gradient_refuses_bad_arguments),
        cmocka_unit_test(failing_allocations_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
