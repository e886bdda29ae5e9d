/* reshape, flatten, squeeze, unsqueeze: the same elements in the same order under another shape. */
#include "base/shapes.h"
#include "ops/shape/views.h"
#include "ops/shared/operand.h"
#include "psg/ops/shape.h"

/* ---- shape ---- */

/* The sizes that the caller names, as the op has them. */
static void turn_shape(const psg_call *call, int rank, const int64_t *given, int64_t shape[PSG_MAX_RANK]) {
    for (int d = 0; d < rank; d++) shape[psg_call_dim(call, 0, rank, d)] = given[d];
}

static psg_status check_batch_kept(psg_call *call, int rank, const int64_t *shape) {
    if (!psg_operand_keeps_batch(call, 0)) return PSG_OK;
    psg_status status = psg_operand_carries_batch(call, 0);
    if (status) return status;
    const psg_tensor *x = &call->input[0].value;
    psg_tensor output = psg_tensor_of(x->dtype, NULL, rank, shape);
    if (rank > 0 && x->rank > 0 && shape[0] == x->shape[0]) return PSG_OK;
    char text[PSG_SHAPE_TEXT], wanted[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_BATCH, "%s to %s does not keep the batch as dimension 0; in a per-sample pass "
                         "it must stay a dimension of its own", psg_tensor_text(x, text),
                         psg_tensor_text(&output, wanted));
}

static psg_status declare(psg_call *call, int rank, const int64_t *shape) {
    psg_status status = check_batch_kept(call, rank, shape);
    return status ? status : psg_call_output(call, call->input[0].value.dtype, rank, shape);
}

/* The output's shape, found already. */
static psg_status view(const psg_call *call, psg_tensor *x) {
    return psg_tensor_reshape(x, call->output.rank, call->output.shape) ? PSG_OK : PSG_ERR_UNSUPPORTED;
}

/* ---- reshape ---- */

/* The product of the sizes that are given, the batch of no samples counted as 1 where both shapes have it: the other
 * dimensions of an empty batch can be told all the same. */
static int64_t known_product(psg_call *call, int rank, const int64_t *shape, int unknown, int64_t *count) {
    const psg_tensor *x = &call->input[0].value;
    psg_tensor from = *x, to = psg_tensor_of(x->dtype, NULL, rank, shape);
    to.shape[unknown] = 1;
    bool batched = call->input[0].role == PSG_BATCHED && from.rank > 0 && to.rank > 0;
    if (batched && from.shape[0] == 0 && to.shape[0] == 0) from.shape[0] = to.shape[0] = 1;
    *count = psg_tensor_count(&from);
    return psg_tensor_count(&to);
}

/* Replaces the dimension -1; *unknown is where it is, or -1. */
static psg_status infer(psg_call *call, psg_reshape_attributes *wanted) {
    int unknown = -1;
    for (int d = 0; d < wanted->rank; d++) {
        if (wanted->shape[d] < -1 || (wanted->shape[d] == -1 && unknown >= 0)) {
            return psg_call_fail(call, PSG_ERR_ARGUMENT, "shape[%d] is %lld, sizes must be >= 0, one of them may be -1",
                                 d, (long long)wanted->shape[d]);
        }
        if (wanted->shape[d] == -1) unknown = d;
    }
    if (unknown < 0) return PSG_OK;
    int64_t count, known = known_product(call, wanted->rank, wanted->shape, unknown, &count);
    if (known > 0 && count % known == 0) {
        wanted->shape[unknown] = count / known;
        return PSG_OK;
    }
    char text[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, from which shape[%d] = -1 cannot be inferred",
                         psg_tensor_text(&call->input[0].value, text), unknown);
}

static psg_status reshape_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    const psg_reshape_attributes *given = call->attributes;
    psg_reshape_attributes wanted = { .rank = given->rank };
    if (wanted.rank < 0 || wanted.rank > PSG_MAX_RANK) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "rank must be in [0, %d] and shape not NULL", PSG_MAX_RANK);
    }
    turn_shape(call, wanted.rank, given->shape, wanted.shape);
    psg_status status = infer(call, &wanted);
    if (status) return status;
    if (psg_shape_product(wanted.rank, wanted.shape) != psg_tensor_count(x)) {
        char text[PSG_SHAPE_TEXT], to[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, which does not have as many elements as %s",
                             psg_tensor_text(x, text), psg_shape_text(wanted.rank, wanted.shape, to));
    }
    return declare(call, wanted.rank, wanted.shape);
}

const psg_op psg_op_reshape = {
    .name = "reshape",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_reshape_attributes),
    .shape = reshape_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = view,
};

psg_var psg_reshape(psg_tape *tape, psg_var x, int rank, const int64_t *shape) {
    bool given = rank >= 0 && rank <= PSG_MAX_RANK && (shape || !rank);
    psg_reshape_attributes attributes = { .rank = given ? rank : -1 };
    for (int d = 0; d < attributes.rank; d++) attributes.shape[d] = shape[d];
    return psg_record(tape, &psg_op_reshape, &x, 1, &attributes);
}

/* ---- flatten ---- */

static psg_status flatten_shape(psg_call *call) {
    const psg_flatten_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    int rank = x->rank ? x->rank : 1, start, end;   /* a scalar becomes (1) */
    psg_status status = psg_operand_dim(call, "start_dim", attributes->start_dim, rank, &start);
    if (!status) status = psg_operand_dim(call, "end_dim", attributes->end_dim, rank, &end);
    if (status) return status;
    const int first = psg_call_dim(call, 0, rank, start), last = psg_call_dim(call, 0, rank, end);   /* the caller's */
    if (first > last) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "start_dim is %d, must not come after end_dim %d",
                             attributes->start_dim, attributes->end_dim);
    }
    bool second = psg_call_dim(call, 0, rank, 0) == 1;
    if (second && first != last && first <= 1) {   /* dimension 1 is among several */
        return psg_call_fail(call, PSG_ERR_BATCH, "start_dim is %d and end_dim %d: the batch, dimension 1, must stay a "
                             "dimension of its own", attributes->start_dim, attributes->end_dim);
    }
    int64_t shape[PSG_MAX_RANK] = { 1 };
    int count = 0;
    for (int d = 0; d < x->rank; d++) {
        if (d <= start || d > end) {
            shape[count++] = x->shape[d];
        } else if (!psg_size_multiply(shape[count - 1], x->shape[d], &shape[count - 1])) {
            return psg_call_fail(call, PSG_ERR_OVERFLOW, "the size of the flattened dimension is too large");
        }
    }
    return declare(call, x->rank ? count : 1, shape);
}

const psg_op psg_op_flatten = {
    .name = "flatten",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_flatten_attributes),
    .shape = flatten_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = view,
};

psg_var psg_flatten(psg_tape *tape, psg_var x, int start_dim, int end_dim) {
    psg_flatten_attributes attributes = { start_dim, end_dim };
    return psg_record(tape, &psg_op_flatten, &x, 1, &attributes);
}

/* ---- squeeze ---- */

static psg_status squeeze_shape(psg_call *call) {
    const psg_squeeze_attributes *attributes = call->attributes;
    psg_tensor x = call->input[0].value;
    int dim;
    psg_status status = psg_operand_dim(call, "dim", attributes->dim, x.rank, &dim);
    if (status) return status;
    bool batch = dim == 0 && psg_operand_keeps_batch(call, 0);   /* of one sample, too */
    if (x.shape[dim] != 1 || batch) return declare(call, x.rank, x.shape);
    for (int d = dim + 1; d < x.rank; d++) x.shape[d - 1] = x.shape[d];
    return declare(call, x.rank - 1, x.shape);
}

const psg_op psg_op_squeeze = {
    .name = "squeeze",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_squeeze_attributes),
    .shape = squeeze_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = view,
};

psg_var psg_squeeze(psg_tape *tape, psg_var x, int dim) {
    psg_squeeze_attributes attributes = { dim };
    return psg_record(tape, &psg_op_squeeze, &x, 1, &attributes);
}

/* ---- unsqueeze ---- */

static psg_status unsqueeze_shape(psg_call *call) {
    const psg_squeeze_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    int64_t shape[PSG_MAX_RANK];
    int dim;
    if (x->rank == PSG_MAX_RANK) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has rank %d, the greatest there is", x->rank);
    }
    psg_status status = psg_operand_dim(call, "dim", attributes->dim, x->rank + 1, &dim);
    if (!status) status = psg_operand_carries_batch(call, 0);
    if (status) return status;
    if (dim == 0 && psg_operand_keeps_batch(call, 0)) {
        return psg_call_fail(call, PSG_ERR_BATCH, "dim is %d, where the batch is", attributes->dim);
    }
    for (int d = 0; d <= x->rank; d++) shape[d] = d == dim ? 1 : x->shape[d - (d > dim)];
    return declare(call, x->rank + 1, shape);
}

const psg_op psg_op_unsqueeze = {
    .name = "unsqueeze",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_squeeze_attributes),
    .shape = unsqueeze_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = view,
};

psg_var psg_unsqueeze(psg_tape *tape, psg_var x, int dim) {
    psg_squeeze_attributes attributes = { dim };
    return psg_record(tape, &psg_op_unsqueeze, &x, 1, &attributes);
}
