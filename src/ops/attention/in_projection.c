/* in_projection: linear with some rows of a larger weight and bias, such as the fused projections of attention. */
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "blas/gemm.h"
#include "gradient/piece.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "psg/ops/attention.h"

enum { INPUT, WEIGHT, BIAS };

typedef psg_in_projection_attributes options;

/* ---- shape ---- */

static psg_status check_rows(psg_call *call, int k, int64_t first) {
    const options *o = call->attributes;
    int64_t rows = call->input[k].value.shape[0];
    if (first >= 0 && o->features >= 1 && first <= rows && o->features <= rows - first) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%lld rows from %lld on are asked of %s, which has %lld",
                         (long long)o->features, (long long)first, call->op->input_names[k], (long long)rows);
}

static psg_status check_operands(psg_call *call) {
    const psg_tensor *x = &call->input[INPUT].value, *w = &call->input[WEIGHT].value, *b = &call->input[BIAS].value;
    char text[PSG_SHAPE_TEXT];
    if (x->rank != 3) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must be (N, length, size)",
                             psg_tensor_text(x, text));
    }
    if (w->rank != 2 || w->shape[1] != x->shape[2]) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight has shape %s, must be (out, %lld): input has %lld features",
                             psg_tensor_text(w, text), (long long)x->shape[2], (long long)x->shape[2]);
    }
    if (w->shape[0] > INT32_MAX || w->shape[1] > INT32_MAX) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "weight has shape %s, features must be below 2^31",
                             psg_tensor_text(w, text));
    }
    if (call->input[BIAS].role == PSG_ABSENT || b->rank == 1) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "bias has shape %s, must be (out)", psg_tensor_text(b, text));
}

static psg_status shape(psg_call *call) {
    const options *o = call->attributes;
    const psg_tensor *x = &call->input[INPUT].value;
    psg_status status = psg_operands_real(call, 3);
    if (!status) status = psg_operand_not_computed(call, WEIGHT);
    if (!status) status = psg_operand_not_computed(call, BIAS);
    if (!status) status = check_operands(call);
    if (!status) status = check_rows(call, WEIGHT, o->weight_row);
    if (!status && call->input[BIAS].role != PSG_ABSENT) status = check_rows(call, BIAS, o->bias_row);
    if (!status) status = psg_operand_carries_batch(call, INPUT);
    int64_t out[3] = { x->shape[0], x->shape[1], o->features };
    return status ? status : psg_call_output(call, x->dtype, 3, out);
}

/* ---- products ---- */

static int64_t at_least_one(int64_t size) { return size > 0 ? size : 1; }

static psg_gemm product_of(psg_call *call) {
    const options *o = call->attributes;
    const psg_tensor *x = &call->input[INPUT].value, *w = &call->input[WEIGHT].value;
    return (psg_gemm){ .dtype = x->dtype, .m = x->shape[0] * x->shape[1], .alpha = 1,
                       .b = psg_tensor_offset(w, o->weight_row * w->shape[1]), .ldb = at_least_one(w->shape[1]) };
}

static psg_status forward(psg_call *call) {
    const options *o = call->attributes;
    if (!psg_tensor_count(&call->output)) return PSG_OK;
    psg_gemm gemm = product_of(call);
    gemm.transpose_b = true;
    gemm.n = o->features;
    gemm.k = call->input[INPUT].value.shape[2];
    gemm.a = call->input[INPUT].value.data;
    gemm.lda = at_least_one(gemm.k);
    gemm.c = call->output.data;
    gemm.ldc = at_least_one(gemm.n);
    if (call->input[BIAS].role != PSG_ABSENT) gemm.bias = psg_tensor_offset(&call->input[BIAS].value, o->bias_row);
    psg_gemm_rows(call->context, &gemm);
    return PSG_OK;
}

static void input_gradient(psg_call *call) {
    const options *o = call->attributes;
    psg_gemm gemm = product_of(call);
    gemm.n = call->input[INPUT].value.shape[2];
    gemm.k = o->features;
    gemm.a = call->grad_output.data;
    gemm.lda = at_least_one(gemm.k);
    gemm.c = call->input[INPUT].grad.data;
    gemm.ldc = at_least_one(gemm.n);
    psg_gemm_rows(call->context, &gemm);
}

/* ---- parameters ----
 * A position without gradient, such as a key that every query's mask hides, is not read: 0 times its NaN would be the
 * whole sample's.  A sample that is finite stays as it is, whatever the others hold. */

static bool is_finite(const psg_call *call, const psg_tensor *x, int64_t n, int64_t count) {
    int64_t elements = x->shape[1] * x->shape[2];
    const void *from = psg_tensor_offset(x, n * elements);
    return isfinite(call->context->kernels[x->dtype]->dot((size_t)(count * elements), from, from));
}

static void clear_hidden(const psg_tensor *g, int64_t n, const psg_tensor *x) {
    for (int64_t t = n * x->shape[1]; t < (n + 1) * x->shape[1]; t++) {
        bool is_hidden = psg_is_zero_row(g->dtype, psg_tensor_offset(g, t * g->shape[2]), 1, g->shape[2]);
        size_t bytes = (size_t)x->shape[2] * psg_dtype_size(x->dtype);
        if (is_hidden) memset(psg_tensor_offset(x, t * x->shape[2]), 0, bytes);
    }
}

static psg_status without_hidden(psg_call *call, psg_tensor *x) {
    size_t bytes = (size_t)psg_tensor_count(x) * psg_dtype_size(x->dtype);
    void *copy = psg_call_keep(call, bytes);
    if (!copy) return PSG_ERR_MEMORY;
    x->data = memcpy(copy, x->data, bytes);
    for (int64_t n = 0; n < x->shape[0]; n++) {
        if (!is_finite(call, x, n, 1)) clear_hidden(&call->grad_output, n, x);
    }
    return PSG_OK;
}

static psg_status add_weight(psg_call *call) {
    const options *o = call->attributes;
    psg_tensor x = call->input[INPUT].value;
    psg_status status = is_finite(call, &x, 0, x.shape[0]) ? PSG_OK : without_hidden(call, &x);
    psg_block weight = psg_factored(&call->grad_output, &x);
    weight.offset = o->weight_row * x.shape[2];
    return status ? status : psg_call_add_block(call, WEIGHT, &weight);
}

static psg_status backward(psg_call *call) {
    const options *o = call->attributes;
    const psg_tensor *g = &call->grad_output;
    if (psg_tensor_count(&call->input[INPUT].grad) && call->input[INPUT].grad.data) input_gradient(call);
    psg_block bias = psg_rows(g);
    bias.offset = o->bias_row;
    psg_status status = call->input[WEIGHT].wants_grad ? add_weight(call) : PSG_OK;
    if (!status && call->input[BIAS].wants_grad) status = psg_call_add_block(call, BIAS, &bias);
    return status;
}

static const char *const names[] = { "input", "weight", "bias" };

const psg_op psg_op_in_projection = {
    .name = "in_projection",
    .input_count = 3,
    .input_names = names,
    .optional_inputs = 1u << BIAS,
    .parameter_inputs = 1u << WEIGHT | 1u << BIAS,
    .attributes_size = sizeof(options),
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_in_projection(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                          const psg_in_projection_attributes *rows) {
    return psg_record(tape, &psg_op_in_projection, (psg_var[]){ x, weight, bias }, 3, rows);
}
