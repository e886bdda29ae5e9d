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

/* (damping I + J^T J / B)^-1 v with the whole P x P matrix. */
static long double *dense_direction(const fixture *f, double damping, const psg_tensor *v) {
    int64_t total = f->total;
    long double *a = calloc((size_t)(total * total), sizeof *a), *x = malloc((size_t)total * sizeof *x);
    for (int64_t i = 0; i < total; i++) {
        a[i * total + i] = damping;
        for (int64_t n = 0; n < f->batch_size; n++) {
            const long double *g = f->dense + n * total;
            for (int64_t j = 0; j < total; j++) a[i * total + j] += g[i] * g[j] / f->batch_size;
        }
    }
    for (size_t k = 0; k < f->count; k++) {
        for (int64_t e = 0; e < f->size[k]; e++) x[f->start[k] + e] = test_get_at(&v[k], e);
    }
    solve_dense(a, x, total);
    free(a);
    return x;
}

static double norm_of_tensors(const fixture *f, const psg_tensor *v) {
    double sum = 0;
    for (size_t k = 0; k < f->count; k++) {
        for (int64_t e = 0; e < f->size[k]; e++) sum += test_get_at(&v[k], e) * test_get_at(&v[k], e);
    }
    return sqrt(sum);
}

static void natural_gradients_agree_with_a_dense_solve(void **state) {
    (void)state;
    static const double dampings[] = { 1e-2, 1, 100 };
    test_random random = { 3 };
    psg_context *context = test_context(2, NULL);
    for (int round = 0; round < 24; round++) {
        fixture f;
        psg_dtype dtype = (psg_dtype)(round % 2);
        int64_t batch = (int64_t[]){ 1, 2, 7, 40 }[round / 2 % 4];
        fixture_layer(&f, &random, dtype, batch, round % 3, 5, 6);
        answers a;
        answers_new(&a, &f, &random, dtype, PSG_OVERWRITE);
        double damping = dampings[round % 3];
        TEST_OK(context, psg_natural_gradient(context, f.pointer, f.count, damping, a.directions, a.sums));
        long double *expected = dense_direction(&f, damping, a.directions);
        double largest = 0;   /* the error of J^T (...)^-1 J v is amplified by |J|^2 / (damping B) */
        for (int64_t n = 0; n < batch; n++) largest += fixture_mass_product(&f, n, n);
        double size = norm_of_tensors(&f, a.directions) / damping;
        double tolerance = (dtype ? 1e-12 : 2e-6) * size * (1 + largest / (damping * (double)batch));
        for (size_t k = 0; k < f.count; k++) {
            for (int64_t e = 0; e < f.size[k]; e++) {
                test_near(test_get_at(&a.sums[k], e), (double)expected[f.start[k] + e], tolerance, "natural", e);
            }
        }
        free(expected);
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
    TEST_OK(context, psg_natural_gradient(context, f.pointer, f.count, 0.5, a.directions, a.sums));
    for (int64_t e = 0; e < f.size[0]; e++) {
        test_near(test_get_at(&a.sums[0], e), 2 * test_get_at(&a.directions[0], e), 1e-14, "v / damping", e);
    }
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

static void natural_gradient_refuses_bad_arguments(void **state) {
    (void)state;
    static const double dampings[] = { 0, -1, (double)NAN };
    test_random random = { 5 };
    psg_context *context = test_context(1, NULL);
    fixture f;
    fixture_layer(&f, &random, PSG_F32, 3, 3, 5, 6);
    answers a;
    answers_new(&a, &f, &random, PSG_F32, PSG_OVERWRITE);
    uint64_t before = answers_hash(&a);
    for (int k = 0; k < 3; k++) {
        psg_status status = psg_natural_gradient(context, f.pointer, f.count, dampings[k], a.directions, a.sums);
        assert_int_equal(status, PSG_ERR_ARGUMENT);
        assert_non_null(strstr(psg_context_message(context), "damping"));
    }
    assert_int_equal(psg_natural_gradient(NULL, f.pointer, 3, 1, a.directions, a.sums), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_natural_gradient(context, NULL, 3, 1, a.directions, a.sums), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, NULL, a.sums), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, a.directions, NULL), PSG_ERR_ARGUMENT);
    a.sums[1].shape[0]--;
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, a.directions, a.sums), PSG_ERR_SHAPE);
    assert_non_null(strstr(psg_context_message(context), "outs[1]"));
    a.sums[1].shape[0]++;
    f.gradient[1].batch_coupled = 1;
    assert_int_equal(psg_natural_gradient(context, f.pointer, 3, 1, a.directions, a.sums), PSG_ERR_UNSUPPORTED);
    assert_true(answers_hash(&a) == before);
    answers_free(&a);
    fixture_free(&f);
    psg_context_destroy(context);
}

/* Fails every allocation once and for good: PSG_ERR_MEMORY, outputs untouched, nothing leaked. */
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
            psg_status status = psg_natural_gradient(context, f.pointer, f.count, 1, a.directions, a.sums);
            failed = allocator.failed > 0;
            assert_int_equal(status, failed ? PSG_ERR_MEMORY : PSG_OK);
            assert_true(!failed || answers_hash(&a) == before);
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
        cmocka_unit_test(spectrum_refuses_bad_arguments),
        cmocka_unit_test(natural_gradients_agree_with_a_dense_solve),
        cmocka_unit_test(an_empty_batch_divides_by_the_damping),
        cmocka_unit_test(natural_gradient_refuses_bad_arguments),
        cmocka_unit_test(failing_allocations_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
