/* linear: y = x W^T + b.  Weight gradients are factored (grad_output, x), bias gradients are rows (grad_output). */
#include "base/shapes.h"
#include "blas/gemm.h"
#include "ops/shared/operand.h"
#include "psg/ops/linear.h"

enum { INPUT, WEIGHT, BIAS };

/* ---- shapes ---- */

static psg_status shape(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *w = &call->input[WEIGHT].value, *b = &call->input[BIAS].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operands_real(call, 3);
    if (!status) status = psg_operand_not_computed(call, WEIGHT);
    if (!status) status = psg_operand_not_computed(call, BIAS);
    if (status) return status;
    if (x->rank < 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE,
                             "input has no batch dimension: expected an input of at least rank 2, got rank %d",
                             x->rank);
    }
    if (w->rank != 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight must have shape (out, in), has %s", psg_tensor_text(w, text));
    }
    if (x->shape[x->rank - 1] != w->shape[1]) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight has %lld input features, input has %lld",
                             (long long)w->shape[1], (long long)x->shape[x->rank - 1]);
    }
    if (w->shape[0] > INT32_MAX || w->shape[1] > INT32_MAX) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "weight has shape %s, features must be below 2^31",
                             psg_tensor_text(w, text));
    }
    if (call->input[BIAS].role != PSG_ABSENT && (b->rank != 1 || b->shape[0] != w->shape[0])) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "bias must have shape (%lld), has %s", (long long)w->shape[0],
                             psg_tensor_text(b, text));
    }
    int64_t out[PSG_MAX_RANK];
    for (int d = 0; d < x->rank; d++) out[d] = x->shape[d];
    out[x->rank - 1] = w->shape[0];
    return psg_call_output(call, x->dtype, x->rank, out);
}

/* ---- products: all leading dimensions are rows of one matrix ---- */

static int64_t rows_of(const psg_tensor *x) { return psg_shape_product(x->rank - 1, x->shape); }

static psg_status forward(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *w = &call->input[WEIGHT].value;
    int64_t out = w->shape[0], in = w->shape[1];
    psg_gemm gemm = { .dtype = x->dtype, .transpose_b = true, .m = rows_of(x), .n = out, .k = in, .alpha = 1,
                      .a = x->data, .lda = in > 0 ? in : 1, .b = w->data, .ldb = in > 0 ? in : 1,
                      .c = call->output.data, .ldc = out > 0 ? out : 1 };
    if (call->input[BIAS].role != PSG_ABSENT) gemm.bias = call->input[BIAS].value.data;
    psg_gemm_rows(call->context, &gemm);
    return PSG_OK;
}

static void input_gradient(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *w = &call->input[WEIGHT].value;
    int64_t out = w->shape[0], in = w->shape[1];
    psg_gemm gemm = { .dtype = x->dtype, .m = rows_of(x), .n = in, .k = out, .alpha = 1, .a = call->grad_output.data,
                      .lda = out > 0 ? out : 1, .b = w->data, .ldb = in > 0 ? in : 1,
                      .c = call->input[INPUT].grad.data, .ldc = in > 0 ? in : 1 };
    psg_gemm_rows(call->context, &gemm);
}

/* ---- parameters ---- */

static psg_status backward(psg_call *call) {
    if (call->input[INPUT].grad.data) input_gradient(call);
    psg_status status = psg_call_add_factored(call, WEIGHT, &call->grad_output, &call->input[INPUT].value);
    return status ? status : psg_call_add_rows(call, BIAS, &call->grad_output);
}

static const char *const names[] = { "input", "weight", "bias" };

const psg_op psg_op_linear = {
    .name = "linear",
    .input_count = 3,
    .input_names = names,
    .optional_inputs = 1u << BIAS,
    .parameter_inputs = 1u << WEIGHT | 1u << BIAS,
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_linear(psg_tape *tape, psg_var x, psg_var weight, psg_var bias) {
    return psg_record(tape, &psg_op_linear, (psg_var[]){ x, weight, bias }, 3, NULL);
}
