#include "small_pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void small_open_on(small_pass *f, unsigned threads, const char *isa) {
    *f = (small_pass){ .random = { 3 } };
    f->context = test_context_with(&f->allocator, threads, isa, 0);
    TEST_OK(f->context, psg_tape_create(f->context, &f->tape));
}

void small_open(small_pass *f) { small_open_on(f, 2, NULL); }

void small_close(small_pass *f) {
    psg_tape_destroy(f->tape);
    for (int k = 0; k < f->params; k++) psg_param_destroy(f->param[k]);
    for (int k = 0; k < f->arrays; k++) free(f->memory[k]);
    test_context_free(f->context);
}

psg_tensor small_zeros(small_pass *f, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_tensor t = psg_tensor_of(dtype, NULL, rank, shape);
    f->memory[f->arrays] = t.data = calloc((size_t)psg_tensor_count(&t) + 1, 8);
    assert_true(f->arrays++ < 64 && t.data);
    return t;
}

psg_tensor small_normal(small_pass *f, int rank, const int64_t *shape) {
    psg_tensor t = small_zeros(f, PSG_F64, rank, shape);
    test_fill_normal(&f->random, &t, 1.0);
    return t;
}

psg_tensor small_integers(small_pass *f, const int64_t *values, int rank, const int64_t *shape) {
    psg_tensor t = small_zeros(f, PSG_I64, rank, shape);
    for (int64_t k = 0; k < psg_tensor_count(&t); k++) test_set_at(&t, k, (double)values[k]);
    return t;
}

psg_param *small_parameter(small_pass *f, const char *name, int rank, const int64_t *shape) {
    psg_tensor value = small_normal(f, rank, shape);
    TEST_OK(f->context, psg_param_create(f->context, name, &value, &f->param[f->params]));
    return f->param[f->params++];
}

void small_begin(small_pass *f, psg_pass pass) { TEST_OK(f->context, psg_tape_begin(f->tape, &pass)); }

void small_backward(small_pass *f, psg_var output, const psg_tensor *grad_output) {
    psg_status status = psg_backward_from(f->tape, output, grad_output);
    if (status) fail_msg("%s", psg_tape_message(f->tape));
}

psg_gradient small_gradient_of(small_pass *f, const psg_param *param) {
    psg_gradient gradient;
    TEST_OK(f->context, psg_gradient_of(f->tape, param, &gradient));
    return gradient;
}

const double *small_grad_sample(small_pass *f, const psg_param *param) {
    psg_gradient gradient = small_gradient_of(f, param);
    int64_t shape[PSG_MAX_RANK] = { gradient.batch_size };
    memcpy(shape + 1, gradient.shape, (size_t)gradient.rank * sizeof *shape);
    psg_tensor out = small_zeros(f, PSG_F64, gradient.rank + 1, shape);
    TEST_OK(f->context, psg_grad_sample(f->context, &gradient, 1.0, PSG_OVERWRITE, &out));
    return out.data;
}

void small_squared_norms(small_pass *f, const psg_param *param, double *sqnorm) {
    psg_gradient gradient = small_gradient_of(f, param);
    const psg_gradient *set[] = { &gradient };
    TEST_OK(f->context, psg_sqnorm(f->context, set, 1, sqnorm, NULL, NULL));
}

void small_check_contribution(small_pass *f, const psg_param *param) {
    psg_gradient gradient = small_gradient_of(f, param);
    const psg_gradient *set[] = { &gradient };
    psg_clip clip = { .max_grad_norm = 0.01 };
    psg_tensor sum = small_zeros(f, PSG_F64, gradient.rank, gradient.shape);
    double weights[64] = { 0 }, factors[64], square;
    TEST_OK(f->context, psg_clipped_sum(f->context, set, 1, &clip, PSG_OVERWRITE, &sum, NULL, factors, NULL));
    for (int64_t n = 0; n < gradient.batch_size; n++) {
        const double *grad = small_grad_sample(f, param);
        int64_t row = psg_tensor_count(&sum);
        square = 0;
        for (int64_t i = 0; i < row; i++) square += grad[n * row + i] * grad[n * row + i];
        weights[n] = factors[n] * sqrt(square);
        assert_true(weights[n] <= clip.max_grad_norm && weights[n] > 0.97 * clip.max_grad_norm);
    }
}
