/* slice, select, flip. */
#include <stdbool.h>

#include "base/shapes.h"
#include "ops/shape/views.h"
#include "ops/shared/operand.h"
#include "psg/ops/shape.h"

/* ---- slice ---- */

/* As in Python: negative places are counted from the end, and everything is moved into [0, size]. */
static int64_t clamp_place(int64_t place, int64_t size) {
    if (place < 0) place += size;
    if (place < 0) return 0;
    return place > size ? size : place;
}

static psg_status slice_view(const psg_call *call, psg_tensor *x) {
    const psg_slice_attributes *attributes = call->attributes;
    int dim = psg_operand_dim_of(call, attributes->dim, x->rank);
    int64_t start = clamp_place(attributes->start, x->shape[dim]), stop = clamp_place(attributes->stop, x->shape[dim]);
    int64_t length = stop > start ? (stop - start - 1) / attributes->step + 1 : 0;
    if (length) x->data = psg_tensor_offset(x, start * x->stride[dim]);
    x->shape[dim] = length;
    if (length > 1) x->stride[dim] *= attributes->step;
    return PSG_OK;
}

static psg_status slice_shape(psg_call *call) {
    const psg_slice_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    int dim;
    psg_status status = psg_operand_dim(call, "dim", attributes->dim, x->rank, &dim);
    if (!status) status = psg_operand_not_batch(call, 0, "dim", dim, "a slice of it is another batch");
    if (status) return status;
    if (attributes->step < 1) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "step is %lld, must be positive", (long long)attributes->step);
    }
    return psg_view_output(call);
}

const psg_op psg_op_slice = {
    .name = "slice",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_slice_attributes),
    .shape = slice_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = slice_view,
};

psg_var psg_slice(psg_tape *tape, psg_var x, int dim, int64_t start, int64_t stop, int64_t step) {
    psg_slice_attributes attributes = { dim, start, stop, step };
    return psg_record(tape, &psg_op_slice, &x, 1, &attributes);
}

/* ---- select ---- */

static psg_status select_view(const psg_call *call, psg_tensor *x) {
    const psg_select_attributes *attributes = call->attributes;
    int dim = psg_operand_dim_of(call, attributes->dim, x->rank);
    int64_t index = attributes->index < 0 ? attributes->index + x->shape[dim] : attributes->index;
    x->data = psg_tensor_offset(x, index * x->stride[dim]);
    x->rank--;
    for (int d = dim; d < x->rank; d++) {
        x->shape[d] = x->shape[d + 1];
        x->stride[d] = x->stride[d + 1];
    }
    return PSG_OK;
}

static psg_status select_shape(psg_call *call) {
    const psg_select_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    int dim;
    psg_status status = psg_operand_dim(call, "dim", attributes->dim, x->rank, &dim);
    if (!status) status = psg_operand_not_batch(call, 0, "dim", dim, "the result would belong to one sample");
    if (status) return status;
    if (attributes->index < -x->shape[dim] || attributes->index >= x->shape[dim]) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "index is %lld, must be in [%lld, %lld) for dimension %d",
                             (long long)attributes->index, (long long)-x->shape[dim], (long long)x->shape[dim], dim);
    }
    return psg_view_output(call);
}

const psg_op psg_op_select = {
    .name = "select",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_select_attributes),
    .shape = select_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = select_view,
};

psg_var psg_select(psg_tape *tape, psg_var x, int dim, int64_t index) {
    psg_select_attributes attributes = { dim, index };
    return psg_record(tape, &psg_op_select, &x, 1, &attributes);
}

/* ---- flip ---- */

static psg_status flip_view(const psg_call *call, psg_tensor *x) {
    const psg_flip_attributes *attributes = call->attributes;
    int64_t offset = 0;
    for (int k = 0; k < attributes->count; k++) {
        int dim = psg_operand_dim_of(call, attributes->dims[k], x->rank);
        offset += (x->shape[dim] - 1) * x->stride[dim];
        x->stride[dim] = -x->stride[dim];
    }
    if (psg_tensor_count(x)) x->data = psg_tensor_offset(x, offset);
    return PSG_OK;
}

static psg_status flip_shape(psg_call *call) {
    const psg_flip_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    bool flipped[PSG_MAX_RANK] = { false };
    if (attributes->count < 0 || attributes->count > x->rank) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "count is %d, must be in [0, %d] for input of rank %d, and dims not "
                             "NULL", attributes->count, x->rank, x->rank);
    }
    for (int k = 0; k < attributes->count; k++) {
        int dim;
        psg_status status = psg_operand_dim(call, "a dim", attributes->dims[k], x->rank, &dim);
        if (!status) status = psg_operand_not_batch(call, 0, "a dim", dim, "the samples would change places");
        if (status) return status;
        if (flipped[dim]) return psg_call_fail(call, PSG_ERR_ARGUMENT, "dim %d is given twice", attributes->dims[k]);
        flipped[dim] = true;
    }
    return psg_output_like_input(call);
}

const psg_op psg_op_flip = {
    .name = "flip",
    .input_count = 1,
    .input_names = psg_view_input_names,
    .attributes_size = sizeof(psg_flip_attributes),
    .shape = flip_shape,
    .forward = psg_view_forward,
    .backward = psg_view_backward,
    .view = flip_view,
};

psg_var psg_flip(psg_tape *tape, psg_var x, int count, const int *dims) {
    bool given = count >= 0 && count <= PSG_MAX_RANK && (dims || !count);
    psg_flip_attributes attributes = { .count = given ? count : -1 };
    for (int k = 0; k < attributes.count; k++) attributes.dims[k] = dims[k];
    return psg_record(tape, &psg_op_flip, &x, 1, &attributes);
}
