/* permute, transpose: the dimensions in another order. */
#include <stdbool.h>

#include "base/shapes.h"
#include "ops/shape/views.h"
#include "ops/shared/operand.h"
#include "psg/ops/shape.h"

/* Dimension d of the result is dimension order[d] of x, both as the caller counts them. */
static void reorder(const psg_call *call, psg_tensor *x, const int *order) {
    const psg_tensor given = *x;
    for (int d = 0; d < x->rank; d++) {
        int to = psg_call_dim(call, 0, x->rank, d), from = psg_call_dim(call, 0, x->rank, order[d]);
        x->shape[to] = given.shape[from];
        x->stride[to] = given.stride[from];
    }
}

/* Whether the batch, dimension *batch to the caller, would leave its place. */
static bool moves_batch(const psg_call *call, const int *order, int *batch) {
    int rank = call->input[0].value.rank;
    *batch = psg_call_dim(call, 0, rank, 0);
    return psg_operand_keeps_batch(call, 0) && rank > *batch && order[*batch] != *batch;
}

/* A dimension of the caller's, negative ones counted from the end. */
static int counted(int dim, int rank) { return dim < 0 ? dim + rank : dim; }

/* ---- permute ---- */

static psg_status permute_view(const psg_call *call, psg_tensor *x) {
    const psg_permute_attributes *attributes = call->attributes;
    int order[PSG_MAX_RANK];
    for (int d = 0; d < x->rank; d++) order[d] = counted(attributes->dims[d], x->rank);
    reorder(call, x, order);
    return PSG_OK;
}

static psg_status permute_shape(psg_call *call) {
    const psg_permute_attributes *attributes = call->attributes;
    const int rank = call->input[0].value.rank;
    bool used[PSG_MAX_RANK] = { false };
    int order[PSG_MAX_RANK] = { 0 };
    if (attributes->rank != rank) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "dims must be %d dimensions, the rank of input, and not NULL",
                             rank);
    }
    for (int d = 0, unused; d < rank; d++) {
        psg_status status = psg_operand_dim(call, "a dim", attributes->dims[d], rank, &unused);
        if (status) return status;
        order[d] = counted(attributes->dims[d], rank);
        if (used[order[d]]) {
            return psg_call_fail(call, PSG_ERR_ARGUMENT, "dim %d is given twice", attributes->dims[d]);
        }
        used[order[d]] = true;
    }
    int batch;
    psg_status status = psg_operand_carries_batch(call, 0);
    if (status || !moves_batch(call, order, &batch)) return status ? status : psg_view_output(call);
    return psg_call_fail(call, PSG_ERR_BATCH, "dims[%d] is %d: the batch would leave dimension %d, where the ops of a "
                         "per-sample pass look for it", batch, attributes->dims[batch], batch);
}

const psg_op psg_op_permute = {
    .name = "permute",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_permute_attributes),
    .shape = permute_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = permute_view,
};

psg_var psg_permute(psg_tape *tape, psg_var x, int rank, const int *dims) {
    bool given = rank >= 0 && rank <= PSG_MAX_RANK && (dims || !rank);
    psg_permute_attributes attributes = { .rank = given ? rank : -1 };
    for (int d = 0; d < attributes.rank; d++) attributes.dims[d] = dims[d];
    return psg_record(tape, &psg_op_permute, &x, 1, &attributes);
}

/* ---- transpose ---- */

static void transpose_order(const psg_call *call, int rank, int order[PSG_MAX_RANK]) {
    const psg_transpose_attributes *attributes = call->attributes;
    int dim0 = counted(attributes->dim0, rank), dim1 = counted(attributes->dim1, rank);
    for (int d = 0; d < rank; d++) order[d] = d == dim0 ? dim1 : d == dim1 ? dim0 : d;
}

static psg_status transpose_view(const psg_call *call, psg_tensor *x) {
    int order[PSG_MAX_RANK];
    transpose_order(call, x->rank, order);
    reorder(call, x, order);
    return PSG_OK;
}

static psg_status transpose_shape(psg_call *call) {
    const psg_transpose_attributes *attributes = call->attributes;
    int rank = call->input[0].value.rank, unused, order[PSG_MAX_RANK];
    psg_status status = psg_operand_dim(call, "dim0", attributes->dim0, rank, &unused);
    if (!status) status = psg_operand_dim(call, "dim1", attributes->dim1, rank, &unused);
    if (status) return status;
    int batch;
    transpose_order(call, rank, order);
    status = psg_operand_carries_batch(call, 0);
    if (status || !moves_batch(call, order, &batch)) return status ? status : psg_view_output(call);
    return psg_call_fail(call, PSG_ERR_BATCH, "dim0 %d and dim1 %d would move the batch from dimension %d, where the "
                         "ops of a per-sample pass look for it", attributes->dim0, attributes->dim1, batch);
}

const psg_op psg_op_transpose = {
    .name = "transpose",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_transpose_attributes),
    .shape = transpose_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = transpose_view,
};

psg_var psg_transpose(psg_tape *tape, psg_var x, int dim0, int dim1) {
    psg_transpose_attributes attributes = { dim0, dim1 };
    return psg_record(tape, &psg_op_transpose, &x, 1, &attributes);
}
