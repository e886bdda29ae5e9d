#include "toy_ops.h"

#include <string.h>

#include "support.h"

/* ---- scale: rows ---- */

static const char *const scale_names[] = { "input", "weight", "bias" };

static psg_status scale_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *w = &call->input[1].value;
    if (x->rank < 1 || w->rank != 1 || x->shape[x->rank - 1] != w->shape[0]) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight has %lld features, input has %lld",
                             (long long)(w->rank == 1 ? w->shape[0] : -1),
                             (long long)(x->rank ? x->shape[x->rank - 1] : -1));
    }
    return psg_call_output(call, x->dtype, x->rank, x->shape);
}

/* Keeps a copy of its input, as ops keep statistics. */
static psg_status scale_forward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *w = &call->input[1].value, *b = &call->input[2].value;
    int64_t count = psg_tensor_count(x), d = w->shape[0];
    size_t bytes = (size_t)count * psg_dtype_size(x->dtype);
    void *copy = psg_call_keep(call, bytes);
    call->kept = copy;
    if (!copy) return PSG_ERR_MEMORY;
    if (bytes) memcpy(copy, x->data, bytes);
    for (int64_t i = 0; i < count; i++) {
        double shift = call->input[2].role ? test_get_at(b, i % d) : 0;
        test_set_at(&call->output, i, test_get_at(x, i) * test_get_at(w, i % d) + shift);
    }
    return PSG_OK;
}

static psg_status scale_backward_times(psg_call *call, double factor, int with_bias) {
    const psg_tensor *x = &call->input[0].value, *w = &call->input[1].value, *g = &call->grad_output;
    int64_t count = psg_tensor_count(x), d = w->shape[0];
    if (call->input[0].grad.data) {
        for (int64_t i = 0; i < count; i++) {
            test_set_at(&call->input[0].grad, i, test_get_at(g, i) * test_get_at(w, i % d));
        }
    }
    if (call->input[1].wants_grad) {
        psg_tensor product = *x, kept = *x;
        product.data = psg_call_keep(call, (size_t)count * psg_dtype_size(x->dtype));
        if (!product.data) return PSG_ERR_MEMORY;
        kept.data = call->kept;
        for (int64_t i = 0; i < count; i++) {
            test_set_at(&product, i, factor * test_get_at(g, i) * test_get_at(&kept, i));
        }
        psg_tensor rows = product;
        psg_status status = psg_call_add_rows(call, 1, &rows);
        if (status) return status;
    }
    psg_tensor rows = *g;
    return with_bias ? psg_call_add_rows(call, 2, &rows) : PSG_OK;
}

static psg_status scale_backward(psg_call *call) {
    return scale_backward_times(call, 1.0, call->input[2].role == PSG_PARAMETER);
}

#define SCALE_OP(label, forward_function, backward_function) { \
    .name = label, .input_count = 3, .input_names = scale_names, .optional_inputs = 4, .parameter_inputs = 6, \
    .shape = scale_shape, .forward = forward_function, .backward = backward_function }

const psg_op toy_scale = SCALE_OP("toy_scale", scale_forward, scale_backward);

/* ---- scale, with faults ---- */

static psg_status wrong_backward(psg_call *call) {
    return scale_backward_times(call, 1.01, call->input[2].role == PSG_PARAMETER);
}

static psg_status forgetful_backward(psg_call *call) { return scale_backward_times(call, 1.0, 0); }

static psg_status mixing_forward(psg_call *call) {
    psg_status status = scale_forward(call);
    const psg_tensor *x = &call->input[0].value;
    int64_t count = psg_tensor_count(x), row = count / (x->shape[0] ? x->shape[0] : 1);
    for (int64_t i = 0; i < count; i++) {
        test_set_at(&call->output, i, test_get_at(&call->output, i) + 0.125 * test_get_at(x, i % row));
    }
    return status;
}

static psg_status failing_backward(psg_call *call) {
    (void)call;
    return PSG_ERR_NUMERIC;
}

static psg_status deep_backward(psg_call *call) {
    psg_tensor rows = call->grad_output;
    rows.rank = 4 * PSG_MAX_RANK;
    return psg_call_add_rows(call, 1, &rows);
}

static psg_status oversized_shape(psg_call *call) {
    return psg_call_output(call, call->input[0].value.dtype, 2, (int64_t[]){ (int64_t)1 << 31, (int64_t)1 << 31 });
}

const psg_op toy_wrong = SCALE_OP("toy_wrong", scale_forward, wrong_backward);
const psg_op toy_mixing = SCALE_OP("toy_mixing", mixing_forward, scale_backward);
const psg_op toy_forgetful = SCALE_OP("toy_forgetful", scale_forward, forgetful_backward);
const psg_op toy_failing = SCALE_OP("toy_failing", scale_forward, failing_backward);
const psg_op toy_deep = SCALE_OP("toy_deep", scale_forward, deep_backward);
const psg_op toy_oversized = { .name = "toy_oversized", .input_count = 1, .shape = oversized_shape,
                               .forward = scale_forward, .backward = scale_backward };

/* ---- matmul: factored ---- */

static psg_status matmul_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *w = &call->input[1].value;
    if (x->rank < 2 || w->rank != 2 || x->shape[x->rank - 1] != w->shape[1]) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight and input do not fit");
    }
    int64_t shape[PSG_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    shape[x->rank - 1] = w->shape[0];
    return psg_call_output(call, x->dtype, x->rank, shape);
}

static psg_status matmul_forward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *w = &call->input[1].value;
    int64_t p = w->shape[0], d = w->shape[1], count = psg_tensor_count(&call->output);
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int64_t j = 0; j < d; j++) sum += test_get_at(x, i / p * d + j) * test_get_at(w, i % p * d + j);
        test_set_at(&call->output, i, sum);
    }
    return PSG_OK;
}

static psg_status matmul_backward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *w = &call->input[1].value, *g = &call->grad_output;
    int64_t p = w->shape[0], d = w->shape[1], count = psg_tensor_count(x);
    for (int64_t i = 0; call->input[0].grad.data && i < count; i++) {
        double sum = 0;
        for (int64_t k = 0; k < p; k++) sum += test_get_at(g, i / d * p + k) * test_get_at(w, k * d + i % d);
        test_set_at(&call->input[0].grad, i, sum);
    }
    psg_tensor backprop = *g, activation = *x;
    return psg_call_add_factored(call, 1, &backprop, &activation);
}

const psg_op toy_matmul = { .name = "toy_matmul", .input_count = 2, .input_names = scale_names, .parameter_inputs = 2,
                            .shape = matmul_shape, .forward = matmul_forward, .backward = matmul_backward };

/* ---- no parameters ---- */

static const char *const pair_names[] = { "a", "b" };

static psg_status multiply_shape(psg_call *call) {
    const psg_tensor *a = &call->input[0].value, *b = &call->input[1].value;
    if (psg_tensor_count(a) != psg_tensor_count(b)) return psg_call_fail(call, PSG_ERR_SHAPE, "a and b differ");
    if (call->input[0].role == PSG_PARAMETER || call->input[1].role == PSG_PARAMETER) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "a parameter came through");
    }
    return psg_call_output(call, a->dtype, a->rank, a->shape);
}

static psg_status multiply_forward(psg_call *call) {
    for (int64_t i = 0; i < psg_tensor_count(&call->output); i++) {
        test_set_at(&call->output, i, test_get_at(&call->input[0].value, i) * test_get_at(&call->input[1].value, i));
    }
    return PSG_OK;
}

static psg_status multiply_backward(psg_call *call) {
    const toy_multiply_attributes *attributes = call->attributes;
    if (attributes->backward_calls) ++*attributes->backward_calls;
    for (int k = 0; k < 2; k++) {
        if (!call->input[k].grad.data) continue;
        for (int64_t i = 0; i < psg_tensor_count(&call->output); i++) {
            test_set_at(&call->input[k].grad, i,
                        test_get_at(&call->grad_output, i) * test_get_at(&call->input[1 - k].value, i));
        }
    }
    return PSG_OK;
}

const psg_op toy_multiply = { .name = "toy_multiply", .input_count = 2, .input_names = pair_names,
                              .attributes_size = sizeof(toy_multiply_attributes), .shape = multiply_shape,
                              .forward = multiply_forward, .backward = multiply_backward };

static psg_status sum_shape(psg_call *call) {
    call->reduces = ((const toy_sum_attributes *)call->attributes)->mean ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    return psg_call_output(call, call->input[0].value.dtype, 0, NULL);
}

static double sum_factor(const psg_call *call) {
    const toy_sum_attributes *attributes = call->attributes;
    return attributes->mean ? 1.0 / (double)call->input[0].value.shape[0] : 1.0;
}

static psg_status sum_forward(psg_call *call) {
    double sum = 0;
    for (int64_t i = 0; i < psg_tensor_count(&call->input[0].value); i++) {
        sum += test_get_at(&call->input[0].value, i);
    }
    test_set_at(&call->output, 0, sum * sum_factor(call));
    return PSG_OK;
}

static psg_status sum_backward(psg_call *call) {
    test_fill_value(&call->input[0].grad, test_get_at(&call->grad_output, 0) * sum_factor(call));
    return PSG_OK;
}

const psg_op toy_sum = { .name = "toy_sum", .input_count = 1, .attributes_size = sizeof(toy_sum_attributes),
                         .shape = sum_shape, .forward = sum_forward, .backward = sum_backward };

static psg_status last_shape(psg_call *call) {
    return psg_call_output(call, PSG_I64, 1, call->input[0].value.shape);
}

static psg_status last_forward(psg_call *call) {
    test_fill_value(&call->output, (double)(call->input[0].value.shape[1] - 1));
    return PSG_OK;
}

static psg_status last_backward(psg_call *call) {
    return psg_call_fail(call, PSG_ERR_DTYPE, "integers have no gradient");
}

const psg_op toy_last = { .name = "toy_last", .input_count = 1, .shape = last_shape, .forward = last_forward,
                          .backward = last_backward };

static psg_status pick_shape(psg_call *call) {
    if (call->input[1].value.dtype != PSG_I64) return psg_call_fail(call, PSG_ERR_DTYPE, "index must be i64");
    return psg_call_output(call, call->input[0].value.dtype, 1, call->input[0].value.shape);
}

static psg_status pick_forward(psg_call *call) {
    int64_t d = call->input[0].value.shape[1];
    for (int64_t n = 0; n < call->output.shape[0]; n++) {
        int64_t index = (int64_t)test_get_at(&call->input[1].value, n);
        test_set_at(&call->output, n, test_get_at(&call->input[0].value, n * d + index));
    }
    return PSG_OK;
}

static psg_status pick_backward(psg_call *call) {
    int64_t d = call->input[0].value.shape[1];
    test_fill_value(&call->input[0].grad, 0.0);
    for (int64_t n = 0; n < call->output.shape[0]; n++) {
        int64_t index = (int64_t)test_get_at(&call->input[1].value, n);
        test_set_at(&call->input[0].grad, n * d + index, test_get_at(&call->grad_output, n));
    }
    return PSG_OK;
}

const psg_op toy_pick = { .name = "toy_pick", .input_count = 2, .shape = pick_shape, .forward = pick_forward,
                          .backward = pick_backward };

static psg_status same_shape(psg_call *call) {
    return psg_call_output(call, call->input[0].value.dtype, call->input[0].value.rank, call->input[0].value.shape);
}

static psg_status noise_shape(psg_call *call) {
    psg_status status = psg_call_draws(call, call->input[0].value.shape[0]);
    return status ? status : same_shape(call);
}

static psg_status noise_forward(psg_call *call) {
    int64_t d = call->input[0].value.shape[1];
    uint64_t words[8];
    for (int64_t i = 0; i < psg_tensor_count(&call->output); i++) {
        if (i % d == 0) psg_call_random(call, i / d, words, (size_t)d);
        test_set_at(&call->output, i, test_get_at(&call->input[0].value, i) + (double)(words[i % d] >> 40) * 0x1p-24);
    }
    return PSG_OK;
}

static psg_status noise_backward(psg_call *call) {
    memcpy(call->input[0].grad.data, call->grad_output.data,
           (size_t)psg_tensor_count(&call->grad_output) * psg_dtype_size(call->grad_output.dtype));
    return PSG_OK;
}

const psg_op toy_noise = { .name = "toy_noise", .input_count = 1, .shape = noise_shape, .forward = noise_forward,
                           .backward = noise_backward };

/* Its own transpose: forward and backward are one map. */
static void center(const psg_tensor *from, const psg_tensor *to) {
    int64_t batch = from->shape[0], row = psg_tensor_count(from) / batch;
    for (int64_t i = 0; i < batch * row; i++) {
        double mean = 0;
        for (int64_t n = 0; n < batch; n++) mean += test_get_at(from, n * row + i % row) / (double)batch;
        test_set_at(to, i, test_get_at(from, i) - mean);
    }
}

static psg_status center_forward(psg_call *call) {
    center(&call->input[0].value, &call->output);
    return PSG_OK;
}

static psg_status center_backward(psg_call *call) {
    center(&call->grad_output, &call->input[0].grad);
    return PSG_OK;
}

const psg_op toy_center = { .name = "toy_center", .input_count = 1, .couples_batch = 1, .shape = same_shape,
                            .forward = center_forward, .backward = center_backward };
