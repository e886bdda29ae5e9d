/* Recording: leaves of the pass, and the application of an op with every check that can be made before it runs. */
#include <stdio.h>
#include <string.h>

#include "base/floats.h"
#include "base/reserved.h"
#include "base/shapes.h"
#include "tape/tape_struct.h"

/* ---- leaves ---- */

/* Sets the value, with the batch in front, as the tape may keep it. */
static bool take_value(psg_tape *tape, const char *function, const psg_tensor *given, psg_tape_var *var) {
    if (!psg_tensor_is_valid(given)) {
        char fault[PSG_FAULT_TEXT];
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: value is %s", function, psg_tensor_fault(given, fault));
        return false;
    }
    psg_tensor turned = psg_tape_turned(given, var->batch_second);
    var->value = psg_tape_contiguous(tape, &turned);
    if (psg_tensor_is_contiguous(given)) {
        var->outside[0] = psg_tensor_of(given->dtype, given->data, given->rank, given->shape);
    }
    return !tape->status;
}

/* B is the pass's, or that of the first input, with which the others must agree. */
static psg_status infer_batch(psg_tape *tape, const psg_tensor *value) {
    psg_pass *pass = &tape->pass;
    if (pass->ordinary || pass->has_batch_size) return PSG_OK;
    if (!value->rank) {
        return psg_tape_fail(tape, PSG_ERR_BATCH, "psg_input: value is a scalar, which has no batch dimension; give "
                             "psg_pass.batch_size, or make it a psg_constant");
    }
    int64_t size = value->shape[0];
    if (size % psg_tape_views(tape)) {
        return psg_tape_fail(tape, PSG_ERR_BATCH, "psg_input: found an input of %lld rows, which psg_pass.views %lld "
                             "does not divide", (long long)size, (long long)psg_tape_views(tape));
    }
    bool first = tape->rows < 0;
    if (first) tape->rows = pass->batch_size = size;
    if (size == tape->rows) return first ? psg_tape_resume(tape) : PSG_OK;
    return psg_tape_fail(tape, PSG_ERR_BATCH, "psg_input: found an input with batch size %lld and one with batch size "
                         "%lld, must all have a row for each sample; give psg_pass.batch_size, or make what carries no batch a "
                         "psg_constant",
                         (long long)tape->rows, (long long)size);
}

static psg_var add_input(psg_tape *tape, const char *function, const psg_tensor *value, bool wants_grad) {
    if (!psg_tape_alive(tape, function)) return psg_tape_no_var();
    psg_tape_var var = { .role = PSG_BATCHED, .wants_grad = wants_grad, .batch_second = tape->pass.batch_second };
    if (!take_value(tape, function, value, &var)) return psg_tape_no_var();
    if (wants_grad && !psg_dtype_is_real(value->dtype)) {
        psg_tape_fail(tape, PSG_ERR_DTYPE, "%s: value is %s, only f32 and f64 have gradients", function,
                      psg_dtype_name(value->dtype));
        return psg_tape_no_var();
    }
    return infer_batch(tape, &var.value) ? psg_tape_no_var() : psg_tape_push(tape, &var);
}

psg_var psg_input(psg_tape *tape, const psg_tensor *value) { return add_input(tape, "psg_input", value, false); }

psg_var psg_input_with_grad(psg_tape *tape, const psg_tensor *value) {
    return add_input(tape, "psg_input_with_grad", value, true);
}

psg_var psg_constant(psg_tape *tape, const psg_tensor *value) {
    psg_tape_var var = { .role = PSG_CONSTANT };
    if (!psg_tape_alive(tape, "psg_constant")) return psg_tape_no_var();
    return take_value(tape, "psg_constant", value, &var) ? psg_tape_push(tape, &var) : psg_tape_no_var();
}

/* ---- parameters ---- */

bool psg_tape_add_use(psg_tape *tape, const psg_tape_use *use) {
    void *table = tape->uses;
    if (!psg_tape_grow(tape, &table, tape->use_count, &tape->use_capacity, sizeof *use)) return false;
    tape->uses = table;
    tape->uses[tape->use_count++] = *use;
    if (use->param) psg_hold(use->param->owner);
    return true;
}

static size_t find_use(const psg_tape *tape, const psg_param *param) {
    size_t k = 0;
    while (k < tape->use_count && tape->uses[k].param != param) k++;
    return k;
}

/* A pass learns of its parameters here, so a grad_sample left from an earlier pass is refused here, before backward. */
static psg_status check_cleared(psg_tape *tape, const psg_param *param) {
    if (!param->has_grad_sample || tape->pass.accumulate || tape->pass.ordinary) return PSG_OK;
    return psg_tape_fail(tape, PSG_ERR_STATE, "psg_use: the grad_sample of parameter \"%s\" is set by an earlier pass; "
                         "clear it (psg_param_clear_grad_sample) or set psg_pass.accumulate", param->name);
}

psg_var psg_use(psg_tape *tape, psg_param *param) {
    if (!psg_tape_alive(tape, "psg_use")) return psg_tape_no_var();
    if (!param) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_use: param is NULL");
        return psg_tape_no_var();
    }
    if (!param->value.data && psg_tensor_count(&param->value)) {
        psg_tape_fail(tape, PSG_ERR_STATE, "psg_use: parameter \"%s\" has no memory before psg_params_initialize",
                      param->name);
        return psg_tape_no_var();
    }
    size_t k = find_use(tape, param);
    psg_tape_use use = { .param = param, .name = param->name, .value = param->value };
    if (k == tape->use_count && (check_cleared(tape, param) || !psg_tape_add_use(tape, &use))) return psg_tape_no_var();
    tape->uses[k].trainable |= param->trainable;
    psg_tape_var var = { .role = PSG_PARAMETER, .wants_grad = param->trainable, .value = param->value, .use = k };
    return psg_tape_push(tape, &var);
}

/* ---- ops: the checks ---- */

static bool reserved_lie_inside(const psg_op *op) {
    const size_t bytes = PSG_RESERVED_WORDS * sizeof(uint64_t);
    return op->attributes_size >= bytes && op->reserved_at <= op->attributes_size - bytes;
}

const char *psg_op_defect(const psg_op *op) {
    if (!op) return "op is NULL";
    if (!op->name || !*op->name) return "op->name is missing";
    if (op->input_count < 0 || op->input_count > PSG_MAX_INPUTS) return "op->input_count is outside [0, 16]";
    if (!op->shape) return "op->shape is missing";
    if (!op->forward) return "op->forward is missing";
    if (!op->backward) return "op->backward is missing";
    if (psg_reserved_is_set(op->reserved)) return "op" PSG_RESERVED_TEXT;
    if (op->reserved_at && !reserved_lie_inside(op)) return "op->reserved_at leaves no room in op->attributes_size";
    if (op->view && (op->input_count != 1 || op->derives || op->repeats_over_batch)) {
        return "op->view stands beside other inputs, op->derives or op->repeats_over_batch";
    }
    if (op->derives && (op->couples_batch || op->repeats_over_batch || op->scales_loss || !op->parameter_inputs)) {
        return "op->derives stands beside a word about batches, or without op->parameter_inputs";
    }
    return NULL;
}

const char *psg_op_operand_name(const psg_op *op, int k) {
    static const char *const numbered[PSG_MAX_INPUTS] = { "input 0", "input 1", "input 2", "input 3",
                                                          "input 4", "input 5", "input 6", "input 7",
                                                          "input 8", "input 9", "input 10", "input 11",
                                                          "input 12", "input 13", "input 14", "input 15" };
    return op->input_names && op->input_names[k] ? op->input_names[k] : numbered[k];
}

/* A parameter where the op has no gradient for one: a frozen one is a constant, a trainable one an error. */
static psg_status check_parameter(psg_tape_node *node, int k, const psg_tape_var *var) {
    psg_operand *operand = &node->call.input[k];
    bool part = node->call.op->view && k == 0 && operand->wants_grad;   /* of a frozen one it is a constant */
    if (node->call.op->parameter_inputs >> k & 1u || part) return PSG_OK;
    if (operand->wants_grad) {
        return psg_call_fail(&node->call, PSG_ERR_UNSUPPORTED, "%s is the trainable parameter \"%s\", but this op has "
                             "no gradient for a parameter there", psg_op_operand_name(node->call.op, k),
                             node->tape->uses[var->use].name);
    }
    operand->role = PSG_CONSTANT;
    return PSG_OK;
}

static psg_status resolve(psg_tape_node *node, int k, psg_var given) {
    const psg_op *op = node->call.op;
    if (!given.id) {
        if (op->optional_inputs >> k & 1u) return PSG_OK;
        return psg_call_fail(&node->call, PSG_ERR_ARGUMENT, "%s is absent, but required", psg_op_operand_name(op, k));
    }
    const psg_tape_var *var = psg_tape_var_of(node->tape, given);
    if (!var) {
        return psg_call_fail(&node->call, PSG_ERR_ARGUMENT, "%s is no var of this pass", psg_op_operand_name(op, k));
    }
    node->input[k] = (size_t)(var - node->tape->vars);
    psg_operand operand = { .role = var->role, .value = var->value, .wants_grad = var->wants_grad };
    operand.is_derived = var->role == PSG_PARAMETER && !node->tape->uses[var->use].param;
    operand.batch_second = var->batch_second;
    operand.name = psg_tape_parameter_name(node->tape, var);
    operand.value.data = NULL;
    node->call.input[k] = operand;
    return var->role == PSG_PARAMETER ? check_parameter(node, k, var) : PSG_OK;
}

static psg_status check_dtypes(psg_tape_node *node) {
    const psg_call *call = &node->call;
    int first = -1;
    for (int k = 0; k < call->input_count; k++) {
        const psg_operand *operand = &call->input[k];
        if (!operand->role || !psg_dtype_is_real(operand->value.dtype)) continue;
        if (first < 0) first = k;
        psg_dtype dtype = call->input[first].value.dtype;
        if (operand->value.dtype != dtype) {
            return psg_call_fail(&node->call, PSG_ERR_DTYPE, "%s is %s, but %s is %s", psg_op_operand_name(call->op, k),
                                 psg_dtype_name(operand->value.dtype), psg_op_operand_name(call->op, first),
                                 psg_dtype_name(dtype));
        }
    }
    return PSG_OK;
}

/* The first input of an op with trainable parameters that is no parameter itself carries the batch. */
static psg_status check_batch(psg_tape_node *node) {
    psg_call *call = &node->call;
    int k = 0;
    while (k < call->input_count - 1 && call->input[k].role == PSG_PARAMETER) k++;
    const psg_operand *first = &call->input[k];
    const char *name = psg_op_operand_name(call->op, k);
    if (first->role != PSG_BATCHED) {
        return psg_call_fail(call, PSG_ERR_BATCH, "%s carries no batch, but a parameter's per-sample gradient needs "
                             "one", name);
    }
    if (!first->value.rank) {
        return psg_call_fail(call, PSG_ERR_BATCH, "%s is a scalar, but must have a batch dimension", name);
    }
    int64_t size = first->value.shape[0];
    if (size == call->pass->batch_size) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "%s has batch size %lld, the pass has batch size %lld", name,
                         (long long)size, (long long)call->pass->batch_size);
}

/* An effective weight is a parameter as long as one of its operands is. */
static psg_status classify_derived(psg_tape_node *node, psg_tape_var *output) {
    psg_call *call = &node->call;
    for (int k = 0; k < call->input_count; k++) {
        const psg_operand *operand = &call->input[k];
        if (operand->role == PSG_BATCHED || operand->is_derived) {
            return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s is %s, must be a parameter or a constant",
                                 psg_op_operand_name(call->op, k), operand->role == PSG_BATCHED ? "computed from the batch"
                                 : node->tape->uses[node->tape->vars[node->input[k]].use].is_part
                                 ? "a part of a parameter" : "a derived weight itself");
        }
        if (operand->role == PSG_PARAMETER) output->role = PSG_PARAMETER;
        output->wants_grad |= operand->wants_grad != 0;
    }
    return PSG_OK;
}

/* What the operands together mean for the output, and whether the pass allows it. */
static psg_status classify(psg_tape_node *node, psg_tape_var *output) {
    psg_call *call = &node->call;
    if (call->op->derives) return classify_derived(node, output);
    bool batched = false, trainable = false, second = false;
    for (int k = 0; k < call->input_count; k++) {
        const psg_operand *operand = &call->input[k];
        batched |= operand->role == PSG_BATCHED;
        second |= operand->batch_second != 0;
        trainable |= operand->role == PSG_PARAMETER && operand->wants_grad;
        output->wants_grad |= operand->wants_grad != 0;
    }
    bool repeats = call->op->repeats_over_batch && !call->pass->ordinary;
    output->role = batched || trainable || repeats ? PSG_BATCHED : PSG_CONSTANT;
    output->batch_second = second || (call->op->repeats_over_batch && call->pass->batch_second);
    if (call->pass->ordinary) return PSG_OK;
    if (call->op->couples_batch) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "mixes the samples of a batch, so there are no per-sample "
                             "gradients; only an ordinary pass (psg_pass.ordinary) may use it");
    }
    if (repeats) return PSG_OK;
    if (trainable && !batched) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "has trainable parameters but no batched input, so its output "
                             "belongs to no sample");
    }
    return trainable ? check_batch(node) : PSG_OK;
}

/* ---- ops: the application ---- */

static bool copy_attributes(psg_tape_node *node, const void *attributes) {
    size_t size = node->call.op->attributes_size;
    if (!size) return true;
    void *copy = psg_tape_take(node->tape, size);
    if (!copy) return false;
    if (attributes) memcpy(copy, attributes, size);
    else memset(copy, 0, size);
    node->call.attributes = copy;
    return true;
}

static psg_tape_node *new_node(psg_tape *tape, const psg_op *op, const void *attributes) {
    psg_tape_node *node = psg_tape_take(tape, sizeof *node);
    size_t bytes = (size_t)op->input_count * sizeof(psg_operand);
    psg_operand *input = psg_tape_take(tape, bytes);
    if (!node || !input) return NULL;
    memset(input, 0, bytes);
    *node = (psg_tape_node){ .tape = tape, .previous = tape->last };
    node->call = (psg_call){
        .context = tape->context,
        .op = op,
        .input_count = op->input_count,
        .input = input,
        .pass = &tape->pass,
        .grad_sample_scale = 1,
        .loss_scale = 1,
        .internal = node,
    };
    return copy_attributes(node, attributes) ? node : NULL;
}

static psg_status check_reserved(psg_tape_node *node) {
    psg_call *call = &node->call;
    uint64_t reserved[PSG_RESERVED_WORDS];
    if (!call->op->reserved_at) return PSG_OK;
    memcpy(reserved, (const char *)call->attributes + call->op->reserved_at, sizeof reserved);
    if (!psg_reserved_is_set(reserved)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "options" PSG_RESERVED_TEXT);
}

/* An op's function may fail with a message or without. */
static psg_status after_function(psg_tape_node *node, psg_status status, const char *function) {
    if (!status) return node->tape->status;
    return psg_call_fail(&node->call, status, "%s failed with %s", function, psg_status_name(status));
}

static psg_status compute(psg_tape_node *node, psg_tape_var *output) {
    psg_call *call = &node->call;
    call->output.rank = -1;
    psg_status status = after_function(node, call->op->shape(call), "shape");
    if (status) return status;
    if (call->output.rank < 0) return psg_call_fail(call, PSG_ERR_ARGUMENT, "shape declared no output");
    call->output = psg_tape_tensor(node->tape, call->output.dtype, call->output.rank, call->output.shape);
    if (!call->output.data) return node->tape->status;
    for (int k = 0; k < call->input_count; k++) {
        if (call->input[k].role) call->input[k].value.data = node->tape->vars[node->input[k]].value.data;
    }
    output->value = call->output;
    output->wants_grad &= psg_dtype_is_real(call->output.dtype);
    double start = psg_tape_start(node->tape);
    status = after_function(node, call->op->forward(call), "forward");
    if (!status) status = psg_tape_check_draws(node);
    if (!status) psg_tape_tell(node, false, start);
    return status;
}

static psg_status apply(psg_tape_node *node, const psg_var *inputs, int input_count, psg_tape_var *output) {
    psg_status status = PSG_OK;
    for (int k = 0; k < node->call.input_count && !status; k++) {
        status = resolve(node, k, k < input_count ? inputs[k] : psg_none());
    }
    if (!status) status = check_reserved(node);
    if (!status) status = check_dtypes(node);
    if (status) return status;
    if (node->call.op->view && node->call.input[0].role == PSG_PARAMETER) return psg_tape_add_part(node, output);
    status = classify(node, output);
    return status ? status : compute(node, output);
}

/* 'weight_norm of "v"' */
static const char *derived_name(psg_tape_node *node) {
    const psg_call *call = &node->call;
    int k = 0;
    while (call->input[k].role != PSG_PARAMETER) k++;
    const char *of = node->tape->uses[node->tape->vars[node->input[k]].use].name;
    size_t size = strlen(call->op->name) + strlen(of) + sizeof " of ";
    char *name = psg_tape_take(node->tape, size);
    if (name) snprintf(name, size, "%s of %s", call->op->name, of);
    return name;
}

static bool use_derived(psg_tape_node *node, psg_tape_var *output) {
    if (output->role != PSG_PARAMETER || node->call.op->view) return true;
    psg_tape_use use = { .name = derived_name(node), .value = output->value, .trainable = output->wants_grad };
    output->use = node->tape->use_count;
    return use.name && psg_tape_add_use(node->tape, &use);
}

psg_status psg_tape_apply(psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count,
                          const void *attributes, size_t place, uint64_t key, psg_tape_var *output) {
    psg_tape_node *node = new_node(tape, op, attributes);
    *output = (psg_tape_var){ .role = PSG_CONSTANT };
    if (node) node->call.stream_key = key;
    if (!node || apply(node, inputs, input_count, output) || !use_derived(node, output)) return tape->status;
    if (output->role == PSG_PARAMETER && op->view) return PSG_OK;   /* a place, no computation */
    node->output = place;
    tape->last = node;
    return PSG_OK;
}

psg_var psg_record(psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count, const void *attributes) {
    PSG_DEFAULT_FLOATS;
    if (!psg_tape_alive(tape, "psg_record")) return psg_tape_no_var();
    const char *defect = psg_op_defect(op);
    if (defect) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_record: %s", defect);
        return psg_tape_no_var();
    }
    if (input_count < 0 || input_count > op->input_count || (input_count && !inputs)) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: %d inputs given, at most %d may be", op->name, input_count,
                      op->input_count);
        return psg_tape_no_var();
    }
    if (psg_tape_must_wait(tape, op, inputs, input_count)) {
        return psg_tape_wait(tape, op, inputs, input_count, attributes);
    }
    psg_tape_var output;
    const size_t place = tape->var_count;
    if (psg_tape_apply(tape, op, inputs, input_count, attributes, place, tape->node_count, &output)) {
        return psg_tape_no_var();
    }
    tape->node_count += output.role != PSG_PARAMETER || !op->view;
    return psg_tape_push(tape, &output);
}
