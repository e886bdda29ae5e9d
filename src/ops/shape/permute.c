/* permute, transpose: the dimensions in another order. */
#include <stdbool.h>
#include <string.h>

#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops.h"

static const char *const input_names[] = { "input" };

/* ---- both: dimension d of the output is dimension order[d] of the input ---- */

static psg_tensor permuted(const psg_tensor *x, const int *order) {
    psg_tensor view = *x;
    for (int d = 0; d < x->rank; d++) {
        view.shape[d] = x->shape[order[d]];
        view.stride[d] = x->stride[order[d]];
    }
    return view;
}

static psg_tensor restored(const psg_tensor *y, const int *order) {
    psg_tensor view = *y;
    for (int d = 0; d < y->rank; d++) {
        view.shape[order[d]] = y->shape[d];
        view.stride[order[d]] = y->stride[d];
    }
    return view;
}

static psg_status declare(psg_call *call, const int *order) {
    const psg_tensor *x = &call->input[0].value;
    psg_tensor output = permuted(x, order);
    return psg_call_output(call, x->dtype, output.rank, output.shape);
}

static psg_status forward(psg_call *call, const int *order) {
    psg_tensor from = permuted(&call->input[0].value, order);
    psg_strided_copy(call->context, &from, &call->output);
    return PSG_OK;
}

static psg_status backward(psg_call *call, const int *order) {
    if (!call->input[0].grad.data) return PSG_OK;
    psg_tensor from = restored(&call->grad_output, order);
    psg_strided_copy(call->context, &from, &call->input[0].grad);
    return PSG_OK;
}

/* ---- permute ---- */

/* Entries are dimensions as the op has them, in the caller's order; puts them in the op's. */
static void turn_order(const psg_call *call, int order[PSG_MAX_RANK]) {
    int given[PSG_MAX_RANK], rank = call->input[0].value.rank;
    memcpy(given, order, sizeof given);
    for (int d = 0; d < rank; d++) order[psg_call_dim(call, 0, rank, d)] = given[d];
}

/* The order of a call whose attributes were checked. */
static void permute_order(const psg_call *call, int order[PSG_MAX_RANK]) {
    const psg_permute_attributes *attributes = call->attributes;
    for (int d = 0; d < attributes->rank; d++) {
        order[d] = psg_operand_dim_of(call, attributes->dims[d], attributes->rank);
    }
    turn_order(call, order);
}

static psg_status permute_shape(psg_call *call) {
    const psg_permute_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    bool used[PSG_MAX_RANK] = { false };
    int order[PSG_MAX_RANK];
    if (attributes->rank != x->rank) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "dims must be %d dimensions, the rank of input, and not NULL",
                             x->rank);
    }
    for (int d = 0; d < x->rank; d++) {
        psg_status status = psg_operand_dim(call, "a dim", attributes->dims[d], x->rank, &order[d]);
        if (status) return status;
        if (used[order[d]]) {
            return psg_call_fail(call, PSG_ERR_ARGUMENT, "dim %d is given twice", attributes->dims[d]);
        }
        used[order[d]] = true;
    }
    turn_order(call, order);
    if (psg_operand_keeps_batch(call, 0) && x->rank > 0 && order[0] != 0) {
        int batch = psg_call_dim(call, 0, x->rank, 0);
        return psg_call_fail(call, PSG_ERR_BATCH, "dims[%d] is %d: the batch would leave dimension %d, where the ops "
                             "of a per-sample pass look for it", batch, attributes->dims[batch], batch);
    }
    return declare(call, order);
}

static psg_status permute_forward(psg_call *call) {
    int order[PSG_MAX_RANK];
    permute_order(call, order);
    return forward(call, order);
}

static psg_status permute_backward(psg_call *call) {
    int order[PSG_MAX_RANK];
    permute_order(call, order);
    return backward(call, order);
}

const psg_op psg_op_permute = {
    .name = "permute",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_permute_attributes),
    .shape = permute_shape,
    .forward = permute_forward,
    .backward = permute_backward,
};

psg_var psg_permute(psg_tape *tape, psg_var x, int rank, const int *dims) {
    bool given = rank >= 0 && rank <= PSG_MAX_RANK && (dims || !rank);
    psg_permute_attributes attributes = { .rank = given ? rank : -1 };
    for (int d = 0; d < attributes.rank; d++) attributes.dims[d] = dims[d];
    return psg_record(tape, &psg_op_permute, &x, 1, &attributes);
}

/* ---- transpose ---- */

static psg_status transpose_order(psg_call *call, int order[PSG_MAX_RANK]) {
    const psg_transpose_attributes *attributes = call->attributes;
    int rank = call->input[0].value.rank, dim0, dim1;
    psg_status status = psg_operand_dim(call, "dim0", attributes->dim0, rank, &dim0);
    if (!status) status = psg_operand_dim(call, "dim1", attributes->dim1, rank, &dim1);
    if (status) return status;
    for (int d = 0; d < rank; d++) order[d] = d;
    order[dim0] = dim1;
    order[dim1] = dim0;
    return PSG_OK;
}

static psg_status transpose_shape(psg_call *call) {
    int order[PSG_MAX_RANK];
    psg_status status = transpose_order(call, order);
    if (status) return status;
    if (psg_operand_keeps_batch(call, 0) && call->input[0].value.rank > 0 && order[0] != 0) {
        const psg_transpose_attributes *attributes = call->attributes;
        int batch = psg_call_dim(call, 0, call->input[0].value.rank, 0);
        return psg_call_fail(call, PSG_ERR_BATCH, "dim0 %d and dim1 %d would move the batch from dimension %d, where "
                             "the ops of a per-sample pass look for it", attributes->dim0, attributes->dim1, batch);
    }
    return declare(call, order);
}

static psg_status transpose_forward(psg_call *call) {
    int order[PSG_MAX_RANK];
    psg_status status = transpose_order(call, order);
    return status ? status : forward(call, order);
}

static psg_status transpose_backward(psg_call *call) {
    int order[PSG_MAX_RANK];
    psg_status status = transpose_order(call, order);
    return status ? status : backward(call, order);
}

const psg_op psg_op_transpose = {
    .name = "transpose",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_transpose_attributes),
    .shape = transpose_shape,
    .forward = transpose_forward,
    .backward = transpose_backward,
};

psg_var psg_transpose(psg_tape *tape, psg_var x, int dim0, int dim1) {
    psg_transpose_attributes attributes = { dim0, dim1 };
    return psg_record(tape, &psg_op_transpose, &x, 1, &attributes);
}
