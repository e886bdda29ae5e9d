/* Where values enter and leave a pass.  Inside, the batch is dimension 0; in a batch_second pass the caller has it as
 * dimension 1 of what is of rank 3 and more. */
#include "base/shapes.h"
#include "tape/tape_struct.h"

psg_tensor psg_tape_turned(const psg_tensor *tensor, bool batch_second) {
    return batch_second && tensor->rank >= 3 ? psg_tensor_swap(tensor, 0, 1) : *tensor;
}

psg_tensor psg_tape_contiguous(psg_tape *tape, const psg_tensor *tensor) {
    psg_tensor own = psg_tensor_of(tensor->dtype, tensor->data, tensor->rank, tensor->shape);
    if (psg_tensor_is_contiguous(tensor)) return own;
    own = psg_tape_tensor(tape, tensor->dtype, tensor->rank, tensor->shape);
    if (own.data) psg_tensor_copy(tensor, &own);
    return own;
}

int psg_call_dim(const psg_call *call, int k, int rank, int dim) {
    return call && k >= 0 && k < call->input_count && call->input[k].batch_second && rank >= 3 && dim < 2 ? 1 - dim : dim;
}

/* ---- leaving ---- */

/* *shown = inside as the caller has it; a copy is made once and kept in *outside. */
static psg_status show(psg_tape *tape, bool batch_second, const psg_tensor *inside, psg_tensor *outside,
                       psg_tensor *shown) {
    if (!outside->data) {
        psg_tensor turned = psg_tape_turned(inside, batch_second);
        *outside = inside->data ? psg_tape_contiguous(tape, &turned) : turned;
    }
    *shown = *outside;
    return tape->status;
}

psg_status psg_value(psg_tape *tape, psg_var var, psg_tensor *value) {
    if (!tape) return PSG_ERR_ARGUMENT;
    if (!value) return psg_fail_null(tape->context, "psg_value", "value");
    if (psg_tape_say_again(tape)) return tape->status;
    psg_tape_var *state = psg_tape_var_of(tape, var);
    if (!state) return psg_fail(tape->context, PSG_ERR_ARGUMENT, "psg_value: var is none of this pass");
    if (state->waits) return psg_tape_fail_waiting(tape);
    return show(tape, state->batch_second, &state->value, &state->outside[0], value);
}

psg_status psg_value_shape(psg_tape *tape, psg_var var, psg_tensor *value) {
    if (!tape) return PSG_ERR_ARGUMENT;
    if (!value) return psg_fail_null(tape->context, "psg_value_shape", "value");
    if (psg_tape_say_again(tape)) return tape->status;
    const psg_tape_var *state = psg_tape_var_of(tape, var);
    if (!state) return psg_fail(tape->context, PSG_ERR_ARGUMENT, "psg_value_shape: var is none of this pass");
    if (state->waits) return psg_tape_fail_waiting(tape);
    psg_tensor turned = psg_tape_turned(&state->value, state->batch_second);
    *value = psg_tensor_of(turned.dtype, NULL, turned.rank, turned.shape);
    return PSG_OK;
}

psg_status psg_input_grad(psg_tape *tape, psg_var var, psg_tensor *grad) {
    if (!tape) return PSG_ERR_ARGUMENT;
    if (!grad) return psg_fail_null(tape->context, "psg_input_grad", "grad");
    if (psg_tape_say_again(tape)) return tape->status;
    psg_tape_var *state = psg_tape_var_of(tape, var);
    if (!state) return psg_fail(tape->context, PSG_ERR_ARGUMENT, "psg_input_grad: var is none of this pass");
    if (!state->grad.data) {
        return psg_fail(tape->context, PSG_ERR_STATE, "psg_input_grad: var has no gradient: %s", !tape->walked
                        ? "psg_backward has not run" : "it was not asked for, or the loss does not depend on it");
    }
    return show(tape, state->batch_second, &state->grad, &state->outside[1], grad);
}
