/* cat, stack: inputs one behind the other along a dimension. */
#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops/shape.h"

/* ---- shape ---- */

static int dim_of(const psg_call *call) {
    const psg_cat_attributes *attributes = call->attributes;
    return psg_operand_dim_of(call, attributes->dim, call->input[0].value.rank);
}

static psg_status check_input(psg_call *call, int k, int dim) {
    const psg_tensor *first = &call->input[0].value, *x = &call->input[k].value;
    psg_tensor like = *x;
    psg_status status = psg_operand_beside_batch(call, k);
    if (status) return status;
    if (x->dtype != first->dtype) {
        return psg_call_fail(call, PSG_ERR_DTYPE, "input %d is %s, input 0 is %s", k, psg_dtype_name(x->dtype),
                             psg_dtype_name(first->dtype));
    }
    if (x->rank == first->rank) like.shape[dim] = first->shape[dim];
    if (!psg_shape_equal(like.rank, like.shape, first->rank, first->shape)) {
        char text[PSG_SHAPE_TEXT], expected[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "input %d has shape %s, input 0 %s; they must be equal but for "
                             "dimension %d", k, psg_tensor_text(x, text), psg_tensor_text(first, expected), dim);
    }
    return psg_operand_not_batch(call, k, "dim", dim, "the samples of two batches are not those of one");
}

static psg_status cat_shape(psg_call *call) {
    const psg_cat_attributes *attributes = call->attributes;
    psg_tensor output = call->input[0].value;
    int dim;
    psg_status status = psg_operand_dim(call, "dim", attributes->dim, output.rank, &dim);
    if (status) return status;
    output.shape[dim] = 0;
    for (int k = 0; k < call->input_count; k++) {
        if (call->input[k].role == PSG_ABSENT) continue;
        status = check_input(call, k, dim);
        if (status) return status;
        if (__builtin_add_overflow(output.shape[dim], call->input[k].value.shape[dim], &output.shape[dim])) {
            return psg_call_fail(call, PSG_ERR_OVERFLOW, "the sizes along dimension %d do not add up in 64 bits", dim);
        }
    }
    return psg_call_output(call, output.dtype, output.rank, output.shape);
}

/* ---- forward and backward ---- */

/* The part of whole that starts at `start` along dim and has the shape of part. */
static psg_tensor window(const psg_tensor *whole, const psg_tensor *part, int dim, int64_t start) {
    psg_tensor view = *whole;
    view.shape[dim] = part->shape[dim];
    if (part->shape[dim]) view.data = psg_tensor_offset(whole, start * whole->stride[dim]);
    return view;
}

static psg_status cat_forward(psg_call *call) {
    int dim = dim_of(call);
    int64_t start = 0;
    for (int k = 0; k < call->input_count; k++) {
        if (call->input[k].role == PSG_ABSENT) continue;
        const psg_tensor *part = &call->input[k].value;
        psg_tensor to = window(&call->output, part, dim, start);
        psg_strided_copy(call->context, part, &to);
        start += part->shape[dim];
    }
    return PSG_OK;
}

static psg_status cat_backward(psg_call *call) {
    int dim = dim_of(call);
    int64_t start = 0;
    for (int k = 0; k < call->input_count; k++) {
        const psg_operand *part = &call->input[k];
        if (part->role == PSG_ABSENT) continue;
        psg_tensor from = window(&call->grad_output, &part->value, dim, start);
        if (part->grad.data) psg_strided_copy(call->context, &from, &part->grad);
        start += part->value.shape[dim];
    }
    return PSG_OK;
}

static const char *const input_names[PSG_MAX_INPUTS] = {
    "input 0", "input 1", "input 2", "input 3", "input 4", "input 5", "input 6", "input 7",
    "input 8", "input 9", "input 10", "input 11", "input 12", "input 13", "input 14", "input 15",
};

const psg_op psg_op_cat = {
    .name = "cat",
    .input_count = PSG_MAX_INPUTS,
    .input_names = input_names,
    .optional_inputs = (1u << PSG_MAX_INPUTS) - 2,
    .attributes_size = sizeof(psg_cat_attributes),
    .shape = cat_shape,
    .forward = cat_forward,
    .backward = cat_backward,
};

/* ---- fronts: more inputs than an op may have go into a tree of calls ---- */

typedef struct tree {
    psg_tape *tape;
    const psg_var *inputs;
    int dim;
    int stacks;      /* each input gets a dimension of size 1 first */
} tree;

static psg_var part_of(const tree *t, int begin, int count) {
    psg_var parts[PSG_MAX_INPUTS];
    psg_cat_attributes attributes = { t->dim };
    int parts_count = count < PSG_MAX_INPUTS ? count : PSG_MAX_INPUTS, each = count / parts_count;
    if (count == 1) return t->stacks ? psg_unsqueeze(t->tape, t->inputs[begin], t->dim) : t->inputs[begin];
    for (int k = 0, rest = count % parts_count; k < parts_count; k++) {
        int length = each + (k < rest);
        parts[k] = part_of(t, begin, length);
        begin += length;
    }
    return psg_record(t->tape, &psg_op_cat, parts, parts_count, &attributes);
}

static psg_var join(psg_tape *tape, const psg_var *inputs, int count, int dim, int stacks) {
    psg_cat_attributes attributes = { dim };
    tree t = { tape, inputs, dim, stacks };
    if (count < 1 || !inputs) return psg_record(tape, &psg_op_cat, NULL, 0, &attributes);   /* input 0 is absent */
    if (count > 1) return part_of(&t, 0, count);
    psg_var one = part_of(&t, 0, 1);
    return psg_record(tape, &psg_op_cat, &one, 1, &attributes);
}

psg_var psg_cat(psg_tape *tape, const psg_var *inputs, int count, int dim) { return join(tape, inputs, count, dim, 0); }

psg_var psg_stack(psg_tape *tape, const psg_var *inputs, int count, int dim) {
    return join(tape, inputs, count, dim, 1);
}
