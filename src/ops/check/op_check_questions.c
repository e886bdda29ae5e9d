/* psg_op_check: the answers to every question, against sums over the materialised gradients. */
#include <math.h>

#include "base/shapes.h"
#include "ops/check/op_check.h"

/* The parameters that have gradients, in the order of the op's inputs. */
typedef struct parameters {
    size_t count;
    int64_t elements[PSG_MAX_INPUTS];
    const double *grad_sample[PSG_MAX_INPUTS];   /* (B, elements) */
    psg_gradient gradient[PSG_MAX_INPUTS];
    const psg_gradient *pointer[PSG_MAX_INPUTS];
    psg_tensor out[PSG_MAX_INPUTS];              /* of the parameter's shape: answers, directions */
    double *expected[PSG_MAX_INPUTS];
} parameters;

static psg_status collect(psg_op_checker *check, parameters *p) {
    for (int k = 0; k < check->op->input_count; k++) {
        if (check->role[k] != PSG_PARAMETER) continue;
        size_t m = p->count++;
        psg_status status = psg_gradient_of(check->tape, check->param[k], &p->gradient[m]);
        if (status) return status;
        p->pointer[m] = &p->gradient[m];
        p->elements[m] = psg_tensor_count(&check->input[k]);
        p->grad_sample[m] = check->results.grad[k];
        p->out[m] = check->input[k];
        p->out[m].data = psg_op_check_doubles(check, p->elements[m]);
        p->expected[m] = psg_op_check_doubles(check, p->elements[m]);
        if (!p->out[m].data || !p->expected[m]) return PSG_ERR_MEMORY;
    }
    return PSG_OK;
}

static double inner_product(const parameters *p, int64_t a, int64_t b) {
    double sum = 0;
    for (size_t m = 0; m < p->count; m++) {
        const double *x = p->grad_sample[m] + a * p->elements[m], *y = p->grad_sample[m] + b * p->elements[m];
        for (int64_t i = 0; i < p->elements[m]; i++) sum += x[i] * y[i];
    }
    return sum;
}

static psg_status compare(psg_op_checker *check, psg_question question, int64_t element, double got, double expected,
                          double scale) {
    if (fabs(got - expected) <= 1e-10 * scale) return PSG_OK;
    return psg_op_check_fail(check, "the answer to %s at element %lld is %.9g, from the materialised gradients %.9g",
                             psg_question_name(question), (long long)element, got, expected);
}

/* out against expected, for answers of the parameters' shapes. */
static psg_status compare_outs(psg_op_checker *check, const parameters *p, psg_question question) {
    psg_status status = PSG_OK;
    for (size_t m = 0; m < p->count; m++) {
        const double *got = p->out[m].data, *expected = p->expected[m];
        for (int64_t i = 0; i < p->elements[m] && !status; i++) {
            status = compare(check, question, i, got[i], expected[i], 1 + fabs(expected[i]));
        }
    }
    return status;
}

/* expected = sum_n weights[n] grad[n], or the sum of squares for weights NULL. */
static void sum_samples(const psg_op_checker *check, parameters *p, const double *weights) {
    for (size_t m = 0; m < p->count; m++) {
        for (int64_t i = 0; i < p->elements[m]; i++) {
            double sum = 0;
            for (int64_t n = 0; n < check->batch_size; n++) {
                double g = p->grad_sample[m][n * p->elements[m] + i];
                sum += (weights ? weights[n] : g) * g;
            }
            p->expected[m][i] = sum;
        }
    }
}

static psg_status check_sqnorm(psg_op_checker *check, parameters *p, double *answer, double *upper) {
    psg_status status = psg_sqnorm(check->context, p->pointer, p->count, answer, upper, NULL);
    for (int64_t n = 0; n < check->batch_size && !status; n++) {
        double expected = inner_product(p, n, n);
        status = compare(check, PSG_ASK_SQNORM, n, answer[n], expected, expected);
        if (!status && !(upper[n] >= expected * (1 - 1e-12))) {
            status = psg_op_check_fail(check, "the upper bound of sqnorm for sample %lld is %.17g, below %.17g",
                                       (long long)n, upper[n], expected);
        }
    }
    return status;
}

static psg_status check_gram(psg_op_checker *check, parameters *p) {
    int64_t batch = check->batch_size;
    double *gram = psg_op_check_doubles(check, batch * batch);
    if (!gram) return PSG_ERR_MEMORY;
    psg_status status = psg_gram(check->context, p->pointer, p->count, gram);
    for (int64_t i = 0; i < batch * batch && !status; i++) {
        double scale = sqrt(inner_product(p, i / batch, i / batch) * inner_product(p, i % batch, i % batch));
        status = compare(check, PSG_ASK_GRAM, i, gram[i], inner_product(p, i / batch, i % batch), scale);
    }
    return status;
}

static psg_status check_dot(psg_op_checker *check, parameters *p, double *answer) {
    for (size_t m = 0; m < p->count; m++) {
        for (int64_t i = 0; i < p->elements[m]; i++) ((double *)p->out[m].data)[i] = psg_op_check_draw(check);
    }
    psg_status status = psg_dot(check->context, p->pointer, p->count, p->out, answer);
    for (int64_t n = 0; n < check->batch_size && !status; n++) {
        double sum = 0, size = 0;
        for (size_t m = 0; m < p->count; m++) {
            const double *direction = p->out[m].data, *g = p->grad_sample[m] + n * p->elements[m];
            for (int64_t i = 0; i < p->elements[m]; i++) {
                sum += g[i] * direction[i];
                size += fabs(g[i] * direction[i]);
            }
        }
        status = compare(check, PSG_ASK_DOT, n, answer[n], sum, 1 + size);
    }
    return status;
}

static psg_status check_weighted_sum(psg_op_checker *check, parameters *p, double *weights) {
    for (int64_t n = 0; n < check->batch_size; n++) weights[n] = psg_op_check_draw(check);
    psg_status status = psg_weighted_sum(check->context, p->pointer, p->count, weights, PSG_OVERWRITE, p->out);
    sum_samples(check, p, weights);
    return status ? status : compare_outs(check, p, PSG_ASK_WEIGHTED_SUM);
}

static psg_status check_sum_of_squares(psg_op_checker *check, parameters *p) {
    psg_status status = psg_sum_of_squares(check->context, p->pointer, p->count, PSG_OVERWRITE, p->out);
    sum_samples(check, p, NULL);
    return status ? status : compare_outs(check, p, PSG_ASK_SUM_OF_SQUARES);
}

/* Clips at the norm of sample 0 less a little: some samples are clipped, some perhaps not. */
static psg_status check_clipped_sum(psg_op_checker *check, parameters *p, double *factors) {
    double limit = check->batch_size ? 0.9 * sqrt(inner_product(p, 0, 0)) : 1.0;
    psg_clip clip = PSG_CLIP_INIT;
    if (limit > 0) clip.max_grad_norm = limit;
    psg_status status = psg_clipped_sum(check->context, p->pointer, p->count, &clip, PSG_OVERWRITE, p->out, NULL,
                                        factors, NULL);
    if (status) return status;
    for (int64_t n = 0; n < check->batch_size; n++) {
        double norm = sqrt(inner_product(p, n, n));
        if (factors[n] * norm <= clip.max_grad_norm && factors[n] <= 1) continue;
        return psg_op_check_fail(check, "clipped_sum gives sample %lld of norm %.9g the factor %.9g, above "
                                 "max_grad_norm %.9g", (long long)n, norm, factors[n], clip.max_grad_norm);
    }
    sum_samples(check, p, factors);
    return compare_outs(check, p, PSG_ASK_CLIPPED_SUM);
}

psg_status psg_op_check_questions(psg_op_checker *check) {
    parameters p = { .count = 0 };
    psg_status status = collect(check, &p);
    if (status || !p.count) return status;
    double *answer = psg_op_check_doubles(check, check->batch_size);
    double *upper = psg_op_check_doubles(check, check->batch_size);
    if (!answer || !upper) return PSG_ERR_MEMORY;
    status = check_sqnorm(check, &p, answer, upper);
    if (!status) status = check_gram(check, &p);
    if (!status) status = check_dot(check, &p, answer);
    if (!status) status = check_weighted_sum(check, &p, answer);
    if (!status) status = check_sum_of_squares(check, &p);
    return status ? status : check_clipped_sum(check, &p, answer);
}
