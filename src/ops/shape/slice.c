/* slice, select, flip: some elements of the input, as a view says. */
#include <stdbool.h>

#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops.h"

static const char *const input_names[] = { "input" };

/* ---- all three: the output is a copy of view(input) ---- */

/* The view of a tensor of the input's shape, whose data may be NULL.  The arguments were checked. */
typedef psg_tensor (*view_function)(const psg_call *call, const psg_tensor *tensor);

static psg_status forward(psg_call *call, view_function view) {
    psg_tensor from = view(call, &call->input[0].value);
    psg_strided_copy(call->context, &from, &call->output);
    return PSG_OK;
}

/* What the view leaves out has gradient 0. */
static psg_status backward(psg_call *call, view_function view) {
    const psg_tensor *grad = &call->input[0].grad;
    if (!grad->data) return PSG_OK;
    psg_tensor to = view(call, grad), from = call->grad_output;
    if (psg_tensor_count(&from) != psg_tensor_count(grad)) psg_fill_zero(call->context, grad);
    psg_strided_copy(call->context, &from, &to);
    return PSG_OK;
}

/* ---- slice ---- */

/* As in Python: negative places are counted from the end, and everything is moved into [0, size]. */
static int64_t clamp_place(int64_t place, int64_t size) {
    if (place < 0) place += size;
    if (place < 0) return 0;
    return place > size ? size : place;
}

static psg_tensor slice_view(const psg_call *call, const psg_tensor *tensor) {
    const psg_slice_attributes *attributes = call->attributes;
    psg_tensor view = *tensor;
    int dim = psg_operand_dim_of(call, attributes->dim, tensor->rank);
    int64_t start = clamp_place(attributes->start, tensor->shape[dim]);
    int64_t stop = clamp_place(attributes->stop, tensor->shape[dim]);
    int64_t length = stop > start ? (stop - start - 1) / attributes->step + 1 : 0;
    if (length) view.data = psg_tensor_offset(tensor, start * tensor->stride[dim]);
    view.shape[dim] = length;
    if (length > 1) view.stride[dim] *= attributes->step;
    return view;
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
    psg_tensor view = slice_view(call, x);
    return psg_call_output(call, x->dtype, view.rank, view.shape);
}

static psg_status slice_forward(psg_call *call) { return forward(call, slice_view); }
static psg_status slice_backward(psg_call *call) { return backward(call, slice_view); }

const psg_op psg_op_slice = {
    .name = "slice",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_slice_attributes),
    .shape = slice_shape,
    .forward = slice_forward,
    .backward = slice_backward,
};

psg_var psg_slice(psg_tape *tape, psg_var x, int dim, int64_t start, int64_t stop, int64_t step) {
    psg_slice_attributes attributes = { dim, start, stop, step };
    return psg_record(tape, &psg_op_slice, &x, 1, &attributes);
}

/* ---- select ---- */

static psg_tensor select_view(const psg_call *call, const psg_tensor *tensor) {
    const psg_select_attributes *attributes = call->attributes;
    psg_tensor view = *tensor;
    int dim = psg_operand_dim_of(call, attributes->dim, tensor->rank);
    int64_t index = attributes->index < 0 ? attributes->index + tensor->shape[dim] : attributes->index;
    view.data = psg_tensor_offset(tensor, index * tensor->stride[dim]);
    view.rank--;
    for (int d = dim; d < view.rank; d++) {
        view.shape[d] = tensor->shape[d + 1];
        view.stride[d] = tensor->stride[d + 1];
    }
    return view;
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
    psg_tensor view = select_view(call, x);
    return psg_call_output(call, x->dtype, view.rank, view.shape);
}

static psg_status select_forward(psg_call *call) { return forward(call, select_view); }
static psg_status select_backward(psg_call *call) { return backward(call, select_view); }

const psg_op psg_op_select = {
    .name = "select",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_select_attributes),
    .shape = select_shape,
    .forward = select_forward,
    .backward = select_backward,
};

psg_var psg_select(psg_tape *tape, psg_var x, int dim, int64_t index) {
    psg_select_attributes attributes = { dim, index };
    return psg_record(tape, &psg_op_select, &x, 1, &attributes);
}

/* ---- flip ---- */

static psg_tensor flip_view(const psg_call *call, const psg_tensor *tensor) {
    const psg_flip_attributes *attributes = call->attributes;
    psg_tensor view = *tensor;
    int64_t offset = 0;
    for (int k = 0; k < attributes->count; k++) {
        int dim = psg_operand_dim_of(call, attributes->dims[k], tensor->rank);
        offset += (tensor->shape[dim] - 1) * tensor->stride[dim];
        view.stride[dim] = -tensor->stride[dim];
    }
    if (psg_tensor_count(tensor)) view.data = psg_tensor_offset(tensor, offset);
    return view;
}

static psg_status flip_shape(psg_call *call) {
    const psg_flip_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    bool flipped[PSG_MAX_RANK] = { false };
    if (attributes->count < 0 || attributes->count > x->rank) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "count must be in [0, %d] for input of rank %d, and dims not NULL",
                             x->rank, x->rank);
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

static psg_status flip_forward(psg_call *call) { return forward(call, flip_view); }
static psg_status flip_backward(psg_call *call) { return backward(call, flip_view); }

const psg_op psg_op_flip = {
    .name = "flip",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_flip_attributes),
    .shape = flip_shape,
    .forward = flip_forward,
    .backward = flip_backward,
};

psg_var psg_flip(psg_tape *tape, psg_var x, int count, const int *dims) {
    bool given = count >= 0 && count <= PSG_MAX_RANK && (dims || !count);
    psg_flip_attributes attributes = { .count = given ? count : -1 };
    for (int k = 0; k < attributes.count; k++) attributes.dims[k] = dims[k];
    return psg_record(tape, &psg_op_flip, &x, 1, &attributes);
}
