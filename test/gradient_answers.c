#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

static double *doubles(int64_t count) {
    double *values = malloc((size_t)(count + 1) * sizeof *values);
    for (int64_t k = 0; k <= count; k++) values[k] = NAN;   /* one more: a guard */
    return values;
}

static void new_tensors(answers *a, const fixture *f, test_random *random, size_t k, psg_dtype sum_dtype,
                        psg_write write) {
    const psg_gradient *gradient = &f->gradient[k];
    int64_t shape[PSG_MAX_RANK] = { f->batch_size };
    for (int d = 0; d < gradient->rank; d++) shape[d + 1] = gradient->shape[d];
    a->out[k] = test_array_new(random, f->dtype, gradient->rank + 1, shape, TEST_ANY);
    a->sum[k] = test_array_new(random, sum_dtype, gradient->rank, gradient->shape, TEST_CONTIGUOUS);
    a->direction[k] = test_array_normal(random, f->dtype, gradient->rank, gradient->shape, TEST_CONTIGUOUS);
    if (write == PSG_ACCUMULATE) {
        test_fill_normal(random, &a->out[k].view, 1.0);
        test_fill_normal(random, &a->sum[k].view, 1.0);
    }
    a->sums[k] = a->sum[k].view;
    a->directions[k] = a->direction[k].view;
}

void answers_new(answers *a, const fixture *f, test_random *random, psg_dtype sum_dtype, psg_write write) {
    *a = (answers){ .count = f->count, .batch_size = f->batch_size, .scale = 1.0, .fallbacks = -1 };
    for (size_t k = 0; k < f->count; k++) new_tensors(a, f, random, k, sum_dtype, write);
    double **arrays[] = { &a->weights, &a->sqnorm, &a->upper, &a->norms, &a->factors, &a->dots };
    for (size_t k = 0; k < sizeof arrays / sizeof arrays[0]; k++) *arrays[k] = doubles(f->batch_size);
    a->gram = doubles(f->batch_size * f->batch_size);
    for (int64_t n = 0; n < f->batch_size; n++) a->weights[n] = test_normal(random);
    a->clip = (psg_clip){ .max_grad_norm = 1.0, .max_batch_size = 4096 };
}

void answers_free(answers *a) {
    for (size_t k = 0; k < a->count; k++) {
        test_array_free(&a->out[k]);
        test_array_free(&a->sum[k]);
        test_array_free(&a->direction[k]);
    }
    double *arrays[] = { a->weights, a->sqnorm, a->upper, a->norms, a->factors, a->dots };
    for (size_t k = 0; k < sizeof arrays / sizeof arrays[0]; k++) {
        assert_true(isnan(arrays[k][a->batch_size]));
        free(arrays[k]);
    }
    assert_true(isnan(a->gram[a->batch_size * a->batch_size]));
    free(a->gram);
}

psg_status answers_ask(answers *a, psg_context *context, const fixture *f, psg_question question, psg_write write) {
    const psg_gradient *const *set = f->pointer;
    psg_status status = PSG_OK;
    switch (question) {
    case PSG_ASK_GRAD_SAMPLE:
        for (size_t k = 0; k < f->count && !status; k++) {
            status = psg_grad_sample(context, &f->gradient[k], a->scale, write, &a->out[k].view);
        }
        return status;
    case PSG_ASK_SQNORM: return psg_sqnorm(context, set, f->count, a->sqnorm, a->upper, &a->fallbacks);
    case PSG_ASK_WEIGHTED_SUM: return psg_weighted_sum(context, set, f->count, a->weights, write, a->sums);
    case PSG_ASK_CLIPPED_SUM:
        return psg_clipped_sum(context, set, f->count, &a->clip, write, a->sums, a->norms, a->factors, &a->report);
    case PSG_ASK_DOT: return psg_dot(context, set, f->count, a->directions, a->dots);
    case PSG_ASK_GRAM: return psg_gram(context, set, f->count, a->gram);
    case PSG_ASK_SUM_OF_SQUARES: return psg_sum_of_squares(context, set, f->count, write, a->sums);
    default: fail_msg("no such question");
    }
    return status;
}

answers answers_of(psg_context *context, const fixture *f, psg_question question) {
    test_random random = { 99 };
    answers a;
    answers_new(&a, f, &random, PSG_F64, PSG_OVERWRITE);
    test_status(context, answers_ask(&a, context, f, question, PSG_OVERWRITE), PSG_OK, psg_question_name(question));
    return a;
}

static uint64_t hash_bytes(uint64_t hash, const void *memory, size_t bytes) {
    const unsigned char *byte = memory;
    for (size_t k = 0; k < bytes; k++) hash = (hash ^ byte[k]) * 0x100000001B3u;
    return hash;
}

static uint64_t hash_array(uint64_t hash, const test_array *array) {
    return hash_bytes(hash, array->memory, (size_t)array->elements * array->element_size);
}

uint64_t answers_hash(const answers *a) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t k = 0; k < a->count; k++) hash = hash_array(hash_array(hash, &a->out[k]), &a->sum[k]);
    const double *arrays[] = { a->sqnorm, a->upper, a->norms, a->factors, a->dots };
    for (size_t k = 0; k < sizeof arrays / sizeof arrays[0]; k++) {
        hash = hash_bytes(hash, arrays[k], (size_t)a->batch_size * sizeof(double));
    }
    hash = hash_bytes(hash, a->gram, (size_t)(a->batch_size * a->batch_size) * sizeof(double));
    hash = hash_bytes(hash, &a->fallbacks, sizeof a->fallbacks);
    return hash_bytes(hash, &a->report, sizeof a->report);
}

/* ---- comparison with the materialised values ----
 *
 * Bounds are test_bound(dtype, k, sum |terms|): for f64 1e-10 of the terms, for f32 gamma_k of them, k the number of
 * f32 additions that one term can pass through plus 8 for the products, the scale and the rounding of the result. */

static const char *label(psg_question question) { return psg_question_name(question); }

static void check_grad_sample(const fixture *f, const answers *a, const double *before) {
    double k_terms = f->positions + FIXTURE_BLOCKS + 8;
    for (size_t k = 0; k < f->count; k++) {
        for (int64_t n = 0; n < f->batch_size; n++) {
            for (int64_t e = 0; e < f->size[k]; e++) {
                int64_t at = n * f->total + f->start[k] + e;
                double expected = (double)(a->scale * f->dense[at] + before[at]);
                double terms = fabs(a->scale) * f->terms[at] + fabs(before[at]);
                test_near(test_get_at(&a->out[k].view, n * f->size[k] + e), expected,
                          test_bound(f->dtype, k_terms, terms), label(PSG_ASK_GRAD_SAMPLE), at);
            }
        }
    }
}

static void check_sqnorm(const fixture *f, const answers *a) {
    for (int64_t n = 0; n < f->batch_size; n++) {
        double expected = (double)fixture_sqnorm(f, n);
        double terms = fixture_mass_product(f, n, n);
        test_near(a->sqnorm[n], expected, test_bound(f->dtype, f->features + f->positions + 8, terms),
                  label(PSG_ASK_SQNORM), n);
        if (!((long double)a->upper[n] >= fixture_sqnorm(f, n)) || a->upper[n] < a->sqnorm[n]) {
            fail_msg("upper[%lld] %.17g is below %.17g", (long long)n, a->upper[n], expected);
        }
    }
    assert_true(a->fallbacks >= 0 && a->fallbacks <= f->batch_size);
}

/* sum_n w_n g_n: f32 sums pass through B T additions, PSG_F64 ones through at most 64 in f32. */
static void check_sum(const fixture *f, const answers *a, const double *weights, const double *before,
                      psg_question question) {
    for (size_t k = 0; k < f->count; k++) {
        double rows = f->positions * (double)f->batch_size;
        double k_terms = a->sums[k].dtype == PSG_F64 ? fmin(rows, 64) + 8 : rows + FIXTURE_BLOCKS + 8;
        for (int64_t e = 0; e < f->size[k]; e++) {
            long double expected = before[f->start[k] + e];
            double terms = fabs(before[f->start[k] + e]);
            for (int64_t n = 0; n < f->batch_size; n++) {
                int64_t at = n * f->total + f->start[k] + e;
                expected += weights[n] * f->dense[at];
                terms += fabs(weights[n]) * f->terms[at];
            }
            test_near(test_get_at(&a->sums[k], e), (double)expected, test_bound(f->dtype, k_terms, terms),
                      label(question), f->start[k] + e);
        }
    }
}

static double margin_of(const psg_clip *clip) {
    double samples = (double)(clip->max_batch_size ? clip->max_batch_size : PSG_DEFAULT_MAX_BATCH_SIZE);
    return 2 * test_gamma(PSG_F64, samples + 8) * samples + 0x1p-40;
}

static void check_clipped_sum(const fixture *f, const answers *a, const double *before) {
    double limit = a->clip.max_grad_norm * (1 - margin_of(&a->clip)), largest = 0;
    int64_t clipped = 0;
    for (int64_t n = 0; n < f->batch_size; n++) {
        double norm = (double)sqrtl(fixture_sqnorm(f, n));
        if (!(a->norms[n] >= norm)) fail_msg("norm %.17g is below %.17g", a->norms[n], norm);
        double expected = a->norms[n] > limit ? limit / a->norms[n] : 1.0;
        test_near(a->factors[n], expected, 1e-12, "factor", n);
        assert_true(a->factors[n] <= 1.0 && a->factors[n] * norm <= a->clip.max_grad_norm);
        clipped += a->factors[n] < 1.0 - margin_of(&a->clip);
        largest = fmax(largest, a->norms[n]);
    }
    check_sum(f, a, a->factors, before, PSG_ASK_CLIPPED_SUM);
    assert_int_equal(a->report.removed, 0);
    assert_true(a->report.clipped == clipped);
    assert_true(a->report.fallbacks >= 0 && a->report.fallbacks <= f->batch_size);
    assert_true(a->report.max_norm <= largest * (1 + 1e-12) && a->report.max_norm >= 0.9 * largest);
    assert_true(a->report.mean_norm <= a->report.max_norm * (1 + 1e-12) && a->report.mean_norm >= 0);
}

static void check_dot(const fixture *f, const answers *a) {
    for (int64_t n = 0; n < f->batch_size; n++) {
        long double expected = 0;
        double terms = 0;
        for (size_t k = 0; k < f->count; k++) {
            for (int64_t e = 0; e < f->size[k]; e++) {
                double v = test_get_at(&a->directions[k], e);
                expected += v * f->dense[n * f->total + f->start[k] + e];
                terms += fabs(v) * f->terms[n * f->total + f->start[k] + e];
            }
        }
        test_near(a->dots[n], (double)expected, test_bound(f->dtype, f->features + f->positions + 8, terms),
                  label(PSG_ASK_DOT), n);
    }
}

static void check_gram(const fixture *f, const answers *a) {
    for (int64_t n = 0; n < f->batch_size; n++) {
        for (int64_t m = 0; m <= n; m++) {
            long double expected = 0;
            const long double *left = f->dense + n * f->total, *right = f->dense + m * f->total;
            for (int64_t e = 0; e < f->total; e++) expected += left[e] * right[e];
            double terms = fixture_mass_product(f, n, m);
            test_near(a->gram[n * f->batch_size + m], (double)expected,
                      test_bound(f->dtype, f->features + f->positions + 8, terms), label(PSG_ASK_GRAM), n);
            assert_true(a->gram[n * f->batch_size + m] == a->gram[m * f->batch_size + n]);
        }
    }
}

static void check_sum_of_squares(const fixture *f, const answers *a, const double *before) {
    double k_terms = 2 * (f->positions + FIXTURE_BLOCKS + 8) + (double)f->batch_size;
    for (size_t k = 0; k < f->count; k++) {
        for (int64_t e = 0; e < f->size[k]; e++) {
            long double expected = before[f->start[k] + e];
            double terms = fabs(before[f->start[k] + e]);
            for (int64_t n = 0; n < f->batch_size; n++) {
                int64_t at = n * f->total + f->start[k] + e;
                expected += f->dense[at] * f->dense[at];
                terms += f->terms[at] * f->terms[at];
            }
            test_near(test_get_at(&a->sums[k], e), (double)expected, test_bound(f->dtype, k_terms, terms),
                      label(PSG_ASK_SUM_OF_SQUARES), f->start[k] + e);
        }
    }
}

/* What stood in the outputs before an accumulating question; zeros otherwise. */
static double *values_before(const fixture *f, const answers *a, bool samples, psg_write write) {
    int64_t rows = samples ? f->batch_size : 1;
    double *before = calloc((size_t)(rows * f->total) + 1, sizeof *before);
    for (size_t k = 0; k < f->count && write == PSG_ACCUMULATE; k++) {
        for (int64_t e = 0; e < rows * f->size[k]; e++) {
            const psg_tensor *tensor = samples ? &a->out[k].view : &a->sums[k];
            before[e / f->size[k] * f->total + f->start[k] + e % f->size[k]] = test_get_at(tensor, e);
        }
    }
    return before;
}

static void draw_clip(const fixture *f, answers *a, psg_write write, test_random *random) {
    static const double relative[] = { 0.01, 0.5, 1.0, 1.0, 100.0 };
    double norm = f->batch_size ? (double)sqrtl(fixture_sqnorm(f, 0)) : 1.0;
    a->clip.max_grad_norm = (norm > 0 ? norm : 1.0) * relative[test_range(random, 0, 4)];
    if (!test_range(random, 0, 4)) a->clip.max_grad_norm = INFINITY;
    if (write == PSG_ACCUMULATE || test_range(random, 0, 1)) a->clip.max_batch_size = 1000;
    else a->clip.max_batch_size = 0;
}

void check_question(psg_context *context, const fixture *f, test_random *random, psg_question question) {
    psg_write write = (psg_write)test_range(random, 0, 1);
    answers a;
    answers_new(&a, f, random, test_range(random, 0, 1) ? PSG_F64 : f->dtype, write);
    a.scale = test_range(random, 0, 1) ? 1.0 : -7.0;
    draw_clip(f, &a, write, random);
    double *before = values_before(f, &a, question == PSG_ASK_GRAD_SAMPLE, write);
    test_status(context, answers_ask(&a, context, f, question, write), PSG_OK, label(question));
    switch (question) {
    case PSG_ASK_GRAD_SAMPLE: check_grad_sample(f, &a, before); break;
    case PSG_ASK_SQNORM: check_sqnorm(f, &a); break;
    case PSG_ASK_WEIGHTED_SUM: check_sum(f, &a, a.weights, before, question); break;
    case PSG_ASK_CLIPPED_SUM: check_clipped_sum(f, &a, before); break;
    case PSG_ASK_DOT: check_dot(f, &a); break;
    case PSG_ASK_GRAM: check_gram(f, &a); break;
    case PSG_ASK_SUM_OF_SQUARES: check_sum_of_squares(f, &a, before); break;
    default: fail_msg("no such question");
    }
    free(before);
    answers_free(&a);
}

void check_all_questions(psg_context *context, const fixture *f, test_random *random) {
    for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
        check_question(context, f, random, (psg_question)question);
    }
}

void check_routes(const fixture *f, test_random *random) {
    static const char *const routes[] = { "identity", "gram", "tiles", "keep", "recompute" };
    psg_context *context = test_context_with(NULL, 2, NULL, (size_t)64 << 20);
    for (size_t k = 0; k < sizeof routes / sizeof routes[0]; k++) {
        TEST_OK(context, psg_context_force_route(context, routes[k]));
        check_all_questions(context, f, random);
    }
    psg_context_destroy(context);
}

void check_threads(const fixture *f) {
    static const unsigned threads[] = { 1, 2, 7 };
    for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
        uint64_t hash[3];
        for (int k = 0; k < 3; k++) {
            psg_context *context = test_context(threads[k], NULL);
            answers a = answers_of(context, f, (psg_question)question);
            hash[k] = answers_hash(&a);
            answers_free(&a);
            psg_context_destroy(context);
        }
        assert_true(hash[0] == hash[1] && hash[0] == hash[2]);
    }
}

void check_refusals(psg_context *context, const fixture *f, test_random *random, psg_status status, const char *word) {
    for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
        answers a;
        answers_new(&a, f, random, PSG_F64, PSG_OVERWRITE);
        uint64_t before = answers_hash(&a);
        test_status(context, answers_ask(&a, context, f, (psg_question)question, PSG_OVERWRITE), status, word);
        if (!strstr(psg_context_message(context), word)) fail_msg("%s", psg_context_message(context));
        assert_true(before == answers_hash(&a));
        answers_free(&a);
    }
}
