#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_checks.h"

enum { PARAMETERS = 32 };

typedef struct questions {
    const case_line *line;
    psg_context *context;
    case_results results;
    int64_t batch;
    size_t count;
    int operand[PARAMETERS];
    psg_gradient gradient[PARAMETERS];
    const psg_gradient *set[PARAMETERS];
    psg_tensor out[PARAMETERS]; /* f64, of the parameters' shapes */
    double *weights;
} questions;

static void *memory(size_t count) {
    void *made = calloc(count + 1, sizeof(double));
    assert_non_null(made);
    return made;
}

static void check(questions *q, psg_status status, const char *what) {
    if (status) fail_msg("%s: %s", case_label_of(q->line, what).text, psg_context_message(q->context));
}

static const double *row(const questions *q, size_t k, int64_t n) {
    const case_tensor *grad = &q->results.grad[q->operand[k]];
    return grad->data + n * grad->row;
}

static int64_t length(const questions *q, size_t k) { return q->results.grad[q->operand[k]].row; }

static double inner_product(const questions *q, int64_t n, int64_t m) {
    double sum = 0;
    for (size_t k = 0; k < q->count; k++) {
        for (int64_t i = 0; i < length(q, k); i++) sum += row(q, k, n)[i] * row(q, k, m)[i];
    }
    return sum;
}

static void near(const questions *q, double actual, double expected, double terms, const char *what, int64_t at) {
    test_near(actual, expected, 1e-10 * fmax(1, terms), case_label_of(q->line, what).text, at);
}

static void check_norms(questions *q) {
    double *sqnorm = memory((size_t)q->batch), *upper = memory((size_t)q->batch);
    double *gram = memory((size_t)(q->batch * q->batch));
    check(q, psg_sqnorm(q->context, q->set, q->count, sqnorm, upper, NULL), "sqnorm");
    check(q, psg_gram(q->context, q->set, q->count, gram), "gram");
    for (int64_t n = 0; n < q->batch; n++) {
        double exact = inner_product(q, n, n);
        near(q, sqnorm[n], exact, exact, "sqnorm", n);
        if (upper[n] < exact * (1 - 1e-14)) fail_msg("%s", case_label_of(q->line, "upper is below the norm").text);
        for (int64_t m = 0; m < q->batch; m++) {
            near(q, gram[n * q->batch + m], inner_product(q, n, m), sqrt(exact * inner_product(q, m, m)), "gram",
                 n * q->batch + m);
        }
    }
    free(sqnorm);
    free(upper);
    free(gram);
}

/* <grad[n], direction> with the gradient of sample 0 as direction. */
static void check_dot(questions *q) {
    double *dots = memory((size_t)q->batch);
    psg_tensor direction[PARAMETERS];
    for (size_t k = 0; k < q->count; k++) {
        const psg_tensor *out = &q->out[k];
        direction[k] = psg_tensor_of(PSG_F64, (void *)(uintptr_t)row(q, k, 0), out->rank, out->shape);
    }
    check(q, psg_dot(q->context, q->set, q->count, direction, dots), "dot");
    for (int64_t n = 0; n < q->batch; n++) {
        near(q, dots[n], inner_product(q, n, 0), sqrt(inner_product(q, n, n) * inner_product(q, 0, 0)), "dot", n);
    }
    free(dots);
}

/* weights NULL: squares. */
static void compare_sums(questions *q, const double *weights, int ones, const char *what) {
    for (size_t k = 0; k < q->count; k++) {
        for (int64_t i = 0; i < length(q, k); i++) {
            double sum = 0, terms = 0;
            for (int64_t n = 0; n < q->batch; n++) {
                double value = row(q, k, n)[i], term = weights ? weights[n] * value : ones ? value : value * value;
                sum += term;
                terms += fabs(term);
            }
            near(q, ((const double *)q->out[k].data)[i], sum, terms, what, i);
        }
    }
}

static void check_sums(questions *q) {
    check(q, psg_weighted_sum(q->context, q->set, q->count, NULL, PSG_OVERWRITE, q->out), "sum");
    compare_sums(q, NULL, 1, "sum");
    check(q, psg_weighted_sum(q->context, q->set, q->count, q->weights, PSG_OVERWRITE, q->out), "weighted_sum");
    compare_sums(q, q->weights, 0, "weighted_sum");
    check(q, psg_sum_of_squares(q->context, q->set, q->count, PSG_OVERWRITE, q->out), "sum_of_squares");
    compare_sums(q, NULL, 0, "sum_of_squares");
}

static void check_clipped(questions *q) {
    double *factors = memory((size_t)q->batch), limit = q->batch ? 0.9 * sqrt(inner_product(q, 0, 0)) : 1;
    psg_clip clip = { .max_grad_norm = limit > 0 ? limit : 1 };
    check(q, psg_clipped_sum(q->context, q->set, q->count, &clip, PSG_OVERWRITE, q->out, NULL, factors, NULL),
          "clipped_sum");
    for (int64_t n = 0; n < q->batch; n++) {
        double norm = sqrt(inner_product(q, n, n)), exact = fmin(1, norm > 0 ? clip.max_grad_norm / norm : 1);
        if (factors[n] > exact * (1 + 1e-14) || factors[n] < exact * (1 - 0.02)) {
            fail_msg("%s: sample %lld of norm %g has the factor %g, not %g", case_label_of(q->line, "clipped_sum").text,
                     (long long)n, norm, factors[n], exact);
        }
    }
    compare_sums(q, factors, 0, "clipped_sum");
    free(factors);
}

/* out[n] = scale grad[n] added to what is there, through a strided array. */
static void check_grad_sample(questions *q, test_random *random) {
    for (size_t k = 0; k < q->count; k++) {
        int64_t shape[PSG_MAX_RANK] = { q->batch };
        int rank = q->out[k].rank + 1;
        if (rank > PSG_MAX_RANK) continue;
        memcpy(shape + 1, q->out[k].shape, (size_t)(rank - 1) * sizeof *shape);
        test_array out = test_array_new(random, PSG_F64, rank, shape, TEST_ANY);
        test_fill_value(&out.view, 0.5);
        check(q, psg_grad_sample(q->context, &q->gradient[k], -2.0, PSG_ACCUMULATE, &out.view), "grad_sample");
        for (int64_t i = 0; i < psg_tensor_count(&out.view); i++) {
            double grad = row(q, k, 0)[i];
            near(q, test_get_at(&out.view, i), 0.5 - 2 * grad, fabs(grad), "grad_sample, accumulated", i);
        }
        test_array_free(&out);
    }
}

static void collect(questions *q, const case_run *run) {
    for (int k = 0; k < CASE_OPERANDS && q->count < PARAMETERS; k++) {
        if (!run->param[k] || !q->results.grad[k].wanted) continue;
        const psg_tensor *value = psg_param_value(run->param[k]);
        psg_status reached = psg_gradient_of(run->tape, run->param[k], &q->gradient[q->count]);
        if (reached != PSG_ERR_STATE) check(q, reached, "psg_gradient_of");
        q->operand[q->count] = k;
        q->set[q->count] = &q->gradient[q->count];
        q->out[q->count] = psg_tensor_of(PSG_F64, memory((size_t)psg_tensor_count(value)), value->rank, value->shape);
        q->batch = q->gradient[q->count++].batch_size;
    }
}

void case_check_questions(psg_context *context, const case_line *line) {
    static const case_way way = { .real = PSG_F64 };
    questions q = { .line = line, .context = context };
    case_run run;
    test_random random = { 5 };
    if (case_flag(line, "ordinary")) return;
    check(&q, case_run_open(&run, context, line, PSG_F64, 0, -1), "case_run_open");
    psg_pass pass = case_run_pass(&run);
    check(&q, case_run_forward(&run, &pass), "forward");
    case_take_run(&run, &way, &q.results);
    collect(&q, &run);
    q.weights = memory((size_t)q.batch);
    for (int64_t n = 0; n < q.batch; n++) q.weights[n] = n == 1 ? 0 : test_normal(&random);
    if (q.count) {
        check_norms(&q);
        if (q.batch) check_dot(&q);
        check_sums(&q);
        check_clipped(&q);
        check_grad_sample(&q, &random);
    }
    for (size_t k = 0; k < q.count; k++) free(q.out[k].data);
    free(q.weights);
    case_results_free(&q.results);
    case_run_close(&run);
}
