/* The walk back over the tape, once a pass. */
#include "base/floats.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "kernels.h"
#include "tape/tape_struct.h"

/* ---- the gradient of a var that several operands share ---- */

enum { ADD_ELEMENTS = 1 << 16 };

typedef struct add_job {
    const psg_kernel_table *kernels;
    const psg_tensor *from, *to;
    size_t count;
} add_job;

static void add_part(void *argument, size_t index, unsigned slot) {
    const add_job *job = argument;
    size_t start = index * ADD_ELEMENTS, rest = job->count - start;
    (void)slot;
    job->kernels->scale_row(rest < ADD_ELEMENTS ? rest : ADD_ELEMENTS, 1.0,
                            psg_tensor_offset(job->from, (int64_t)start), 1,
                            psg_tensor_offset(job->to, (int64_t)start), true);
}

static void add_gradient(psg_context *context, const psg_tensor *from, const psg_tensor *to) {
    add_job job = { context->kernels[to->dtype], from, to, (size_t)psg_tensor_count(to) };
    psg_parallel(context, (job.count + ADD_ELEMENTS - 1) / ADD_ELEMENTS, add_part, &job);
}

/* Memory like var's, from operand k's scratch. */
static psg_tensor scratch_tensor(psg_tape *tape, int k, const psg_tensor *like) {
    psg_tape_scratch *scratch = &tape->scratch[k];
    psg_tensor tensor = *like;
    size_t bytes = (size_t)psg_tensor_count(like) * psg_dtype_size(like->dtype);
    if (!scratch->data || scratch->bytes < bytes) {
        scratch->data = psg_tape_take(tape, bytes);
        scratch->bytes = bytes;
    }
    tensor.data = scratch->data;
    return tensor;
}

/* ---- one node ---- */

/* Where the gradient of operand k goes: the var's own tensor for the first consumer, scratch for the others. */
static psg_status prepare_operand(psg_tape_node *node, int k) {
    psg_tape *tape = node->tape;
    psg_operand *operand = &node->call.input[k];
    if (!operand->wants_grad) return PSG_OK;
    psg_tape_var *var = &tape->vars[node->input[k]];
    if (operand->role == PSG_PARAMETER) {
        psg_tape_use *use = &tape->uses[var->use];
        use->reached = true;
        if (use->is_part) tape->uses[use->whole].reached = true;
        return PSG_OK;
    }
    if (var->grad.data) {
        operand->grad = scratch_tensor(tape, k, &var->value);
    } else {
        var->grad = psg_tape_tensor(tape, var->value.dtype, var->value.rank, var->value.shape);
        operand->grad = var->grad;
    }
    return tape->status;
}

static void finish_operand(psg_tape_node *node, int k) {
    const psg_operand *operand = &node->call.input[k];
    const psg_tape_var *var = &node->tape->vars[node->input[k]];
    if (operand->grad.data && operand->grad.data != var->grad.data) {
        add_gradient(node->tape->context, &operand->grad, &var->grad);
    }
}

/* Whether an op that derives said how, for every trainable parameter. */
static psg_status check_derived(psg_tape_node *node) {
    psg_call *call = &node->call;
    for (int k = 0; k < call->input_count && call->op->derives; k++) {
        if (!call->input[k].wants_grad || node->derived >> k & 1u) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "backward did not call psg_call_derive for %s",
                             psg_op_operand_name(call->op, k));
    }
    return PSG_OK;
}

static psg_status run_backward(psg_tape_node *node) {
    psg_call *call = &node->call;
    psg_status status = PSG_OK;
    for (int k = 0; k < call->input_count && !status; k++) status = prepare_operand(node, k);
    if (status) return status;
    double start = psg_tape_start(node->tape);
    node->in_backward = true;
    status = call->op->backward(call);
    node->in_backward = false;
    if (status) psg_call_fail(call, status, "backward failed with %s", psg_status_name(status));
    if (node->tape->status) return node->tape->status;
    status = psg_tape_check_draws(node);
    if (!status) status = check_derived(node);
    if (status) return status;
    for (int k = 0; k < call->input_count; k++) finish_operand(node, k);
    psg_tape_tell(node, true, start);
    return PSG_OK;
}

/* All ops that use the effective weight come after it, so its blocks are all there. */
static psg_status walk_derivation(psg_tape_node *node, const psg_tape_use *use) {
    return use->trainable && use->reached ? run_backward(node) : PSG_OK;
}

static psg_status walk_node(psg_tape_node *node) {
    const psg_tape_var *output = &node->tape->vars[node->output];
    if (output->role == PSG_PARAMETER) return walk_derivation(node, &node->tape->uses[output->use]);
    if (!output->wants_grad || !output->grad.data) return PSG_OK;
    node->call.grad_output = output->grad;
    psg_status status = psg_tape_scale_loss(node);
    return status ? status : run_backward(node);
}

/* ---- attached grad_sample arrays ---- */

static bool writes_grad_sample(const psg_tape *tape, const psg_tape_use *use) {
    return use->trainable && use->param && use->param->attached && !tape->pass.ordinary;
}

static psg_status check_attached(psg_tape *tape) {
    const int64_t samples = psg_tape_samples(tape);
    for (size_t k = 0; k < tape->use_count; k++) {
        const psg_param *param = tape->uses[k].param;
        if (!writes_grad_sample(tape, &tape->uses[k]) || param->grad_sample.shape[0] == samples) continue;
        return psg_tape_fail(tape, PSG_ERR_SHAPE, "psg_backward: the grad_sample attached to parameter \"%s\" has room "
                             "for %lld samples, the batch size is %lld", param->name,
                             (long long)param->grad_sample.shape[0], (long long)samples);
    }
    return PSG_OK;
}

static psg_status write_attached(psg_tape *tape) {
    for (size_t k = 0; k < tape->use_count; k++) {
        const psg_tape_use *use = &tape->uses[k];
        if (!use->reached || !writes_grad_sample(tape, use)) continue;
        psg_gradient gradient = psg_tape_gradient(tape, use);
        psg_write write = tape->pass.accumulate ? PSG_ACCUMULATE : PSG_OVERWRITE;
        psg_status status = psg_grad_sample(tape->context, &gradient, 1.0, write, &use->param->grad_sample);
        if (status) return psg_tape_adopt(tape, status);
        use->param->has_grad_sample = true;
    }
    return PSG_OK;
}

/* ---- the walk ---- */

static psg_tape_var *check_start(psg_tape *tape, const char *function, psg_var from) {
    if (!psg_tape_alive(tape, function)) return NULL;
    psg_tape_var *var = psg_tape_var_of(tape, from);
    if (!var || var->role == PSG_PARAMETER) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: var is no input or output of this pass", function);
    } else if (var->waits) {
        psg_tape_fail_waiting(tape);
    } else if (tape->walked) {
        psg_tape_fail(tape, PSG_ERR_STATE, "%s: this pass has been walked back already", function);
    } else if (!psg_dtype_is_real(var->value.dtype)) {
        psg_tape_fail(tape, PSG_ERR_DTYPE, "%s: var is %s, only f32 and f64 have gradients", function,
                      psg_dtype_name(var->value.dtype));
    }
    return tape->status ? NULL : var;
}

/* All ones. */
static psg_status seed_ones(psg_tape *tape, psg_tape_var *var) {
    double one = 1.0;
    int64_t unit;
    psg_tensor ones = psg_tensor_of(var->value.dtype, &unit, var->value.rank, var->value.shape);
    for (int d = 0; d < ones.rank; d++) ones.stride[d] = 0;
    tape->context->kernels[ones.dtype]->from_f64(1, 1.0, &one, &unit, false);
    var->grad = psg_tape_tensor(tape, ones.dtype, ones.rank, ones.shape);
    if (var->grad.data) psg_tensor_copy(&ones, &var->grad);
    return tape->status;
}

/* The walk only reads the caller's array: what consumes the start comes after it on the tape and is not reached. */
static psg_status seed(psg_tape *tape, psg_tape_var *var, const psg_tensor *grad_output) {
    if (!grad_output) return seed_ones(tape, var);
    psg_tensor turned = psg_tape_turned(grad_output, var->batch_second);
    var->grad = turned.data ? psg_tape_contiguous(tape, &turned)
                            : psg_tape_tensor(tape, turned.dtype, turned.rank, turned.shape);
    return tape->status;
}

static psg_status walk(psg_tape *tape, psg_tape_var *start, const psg_tensor *grad_output) {
    psg_status status = check_attached(tape);
    psg_tape_set_scales(tape, start, grad_output);
    if (!status) status = seed(tape, start, grad_output);
    tape->walked = true;
    for (psg_tape_node *node = tape->last; node && !status; node = node->previous) status = walk_node(node);
    return status ? status : write_attached(tape);
}

psg_status psg_backward(psg_tape *tape, psg_var loss) {
    PSG_DEFAULT_FLOATS;
    psg_tape_var *var = check_start(tape, "psg_backward", loss);
    if (!var) return psg_tape_status(tape);
    if (psg_tensor_count(&var->value) != 1) {
        char text[PSG_SHAPE_TEXT];
        return psg_tape_fail(tape, PSG_ERR_SHAPE, "psg_backward: loss has shape %s, must have one element; see "
                             "psg_backward_from", psg_tensor_text(&var->value, text));
    }
    return walk(tape, var, NULL);
}

psg_status psg_backward_from(psg_tape *tape, psg_var from, const psg_tensor *grad_output) {
    PSG_DEFAULT_FLOATS;
    psg_tape_var *var = check_start(tape, "psg_backward_from", from);
    if (!var) return psg_tape_status(tape);
    if (!grad_output) return psg_tape_check_ones(tape, var) ? psg_tape_status(tape) : walk(tape, var, NULL);
    char text[PSG_SHAPE_TEXT], given[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(grad_output)) {
        char fault[PSG_FAULT_TEXT];
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_backward_from: grad_output is %s",
                             psg_tensor_fault(grad_output, fault));
    }
    if (grad_output->dtype != var->value.dtype) {
        return psg_tape_fail(tape, PSG_ERR_DTYPE, "psg_backward_from: grad_output is %s, var is %s",
                             psg_dtype_name(grad_output->dtype), psg_dtype_name(var->value.dtype));
    }
    psg_tensor expected = psg_tape_turned(&var->value, var->batch_second);
    if (!psg_shape_equal(grad_output->rank, grad_output->shape, expected.rank, expected.shape)) {
        return psg_tape_fail(tape, PSG_ERR_SHAPE, "psg_backward_from: grad_output has shape %s, var has %s",
                             psg_tensor_text(grad_output, given), psg_tensor_text(&expected, text));
    }
    return walk(tape, var, grad_output);
}

/* ---- afterwards ---- */

int64_t psg_tape_samples(const psg_tape *tape) {
    if (tape->pass.ordinary) return 1;
    return tape->rows < 0 ? 0 : tape->rows / psg_tape_views(tape);
}

psg_gradient psg_tape_gradient(const psg_tape *tape, const psg_tape_use *use) {
    const psg_tensor *value = &use->value;
    psg_gradient gradient = {
        .dtype = value->dtype,
        .batch_size = psg_tape_samples(tape),
        .rank = value->rank,
        .blocks = use->blocks,
        .block_count = use->block_count,
        .batch_coupled = tape->pass.ordinary != 0,
        .name = use->name,
        .pass = tape->live.number,
        .batch = tape->pass.batch ? *tape->pass.batch : (psg_batch){ .owner = 0 },
        .bad = tape->bad,
    };
    for (int d = 0; d < value->rank; d++) gradient.shape[d] = value->shape[d];
    return gradient;
}

static uint32_t reached_parameters(const psg_tape *tape) {
    uint32_t count = 0;
    for (size_t k = 0; k < tape->use_count; k++) count += tape->uses[k].param && tape->uses[k].reached;
    return count;
}

psg_status psg_gradient_of(const psg_tape *tape, const psg_param *param, psg_gradient *gradient) {
    PSG_DEFAULT_FLOATS;
    if (!tape) return PSG_ERR_ARGUMENT;
    if (!param || !gradient) {
        return psg_fail(tape->context, PSG_ERR_ARGUMENT, "psg_gradient_of: %s is NULL", param ? "gradient" : "param");
    }
    size_t k = 0;
    while (k < tape->use_count && tape->uses[k].param != param) k++;
    psg_tape_use unused = { .name = param->name, .value = param->value };
    const psg_tape_use *use = k < tape->use_count ? &tape->uses[k] : &unused;
    bool known = !tape->status && tape->walked && use->reached;
    *gradient = psg_tape_gradient(tape, known ? use : &unused);
    gradient->pass_parameters = known ? reached_parameters(tape) : 0;
    if (known || tape->status) return psg_tape_say_again(tape);
    const char *reason = !tape->walked ? "psg_backward has not run" : use == &unused ? "it was not used in this pass"
                         : !use->trainable ? "it is frozen" : "the loss does not depend on it";
    return psg_fail(tape->context, PSG_ERR_STATE, "psg_gradient_of: parameter \"%s\" has no gradient: %s", param->name,
                    reason);
}

psg_status psg_gradients_of(const psg_tape *tape, psg_param *const *params, size_t count, psg_gradient *gradients,
                            const psg_gradient **set) {
    if (!tape) return PSG_ERR_ARGUMENT;
    if (count && (!params || !gradients || !set)) {
        return psg_fail_null(tape->context, "psg_gradients_of", !params ? "params" : !gradients ? "gradients" : "set");
    }
    psg_status status = PSG_OK;
    for (size_t k = 0; !status && k < count; k++) {
        if (!params[k]) {
            return psg_fail(tape->context, PSG_ERR_ARGUMENT, "psg_gradients_of: params[%zu] is NULL, must not be", k);
        }
        status = psg_gradient_of(tape, params[k], &gradients[k]);
        set[k] = &gradients[k];
    }
    return status;
}
