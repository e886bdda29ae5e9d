/* Ops by name: the built-in ones of op_list.h, then those a user registered. */
#include <string.h>

#include "base/context.h"
#include "base/memory.h"
#include "psg/ops.h"
#include "tape/tape_struct.h"

#define OP(name) extern const psg_op psg_op_##name;
#include "ops/op_list.h"
#undef OP

static const psg_op *const built_in[] = {
#define OP(name) &psg_op_##name,
#include "ops/op_list.h"
#undef OP
};

static const size_t built_in_count = sizeof built_in / sizeof built_in[0];

const psg_op *psg_op_at(const psg_context *context, size_t k) {
    if (k < built_in_count) return built_in[k];
    k -= built_in_count;
    return k < context->user_op_count ? context->user_ops[k] : NULL;
}

const psg_op *psg_op_find(const psg_context *context, const char *name) {
    const psg_op *op = NULL;
    for (size_t k = 0; name && (op = psg_op_at(context, k)); k++) {
        if (!strcmp(op->name, name)) break;
    }
    return op;
}

psg_status psg_op_register(psg_context *context, const psg_op *op) {
    if (!context) return PSG_ERR_ARGUMENT;
    const char *defect = psg_op_defect(op);
    if (defect) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_op_register: %s", defect);
    if (psg_op_find(context, op->name)) {
        return psg_fail(context, PSG_ERR_STATE, "psg_op_register: the name \"%s\" is taken", op->name);
    }
    size_t bytes = (context->user_op_count + 1) * sizeof(const psg_op *);
    const psg_op **grown = psg_alloc(context, bytes);
    if (!grown) return psg_fail_memory(context, "psg_op_register", bytes);
    if (context->user_op_count) memcpy(grown, context->user_ops, bytes - sizeof *grown);
    grown[context->user_op_count++] = op;
    psg_free(context, context->user_ops);
    context->user_ops = grown;
    return PSG_OK;
}

psg_var psg_apply(psg_tape *tape, const char *name, const psg_var *inputs, int input_count, const void *attributes) {
    if (!psg_tape_alive(tape, "psg_apply")) return psg_tape_no_var();
    const psg_op *op = psg_op_find(psg_tape_context(tape), name);
    if (op) return psg_record(tape, op, inputs, input_count, attributes);
    if (!name) psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_apply: name is NULL, must be that of an op");
    else psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_apply: there is no op \"%s\"", name);
    return psg_tape_no_var();
}
