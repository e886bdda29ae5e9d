/* Ops that wait for the batch size.  A look-up of positions gives every sample a copy, of samples whose number may
 * not be known yet: C evaluates the arguments of psg_add(t, psg_input(...), psg_embedding(t, psg_constant(...),
 * ...)) in any order.  Such an op, and what takes its result, is recorded when the first psg_input tells. */
#include <string.h>

#include "tape/tape_struct.h"

struct psg_tape_waiting {
    const psg_op *op;
    psg_var input[PSG_MAX_INPUTS];
    int input_count;
    const void *attributes;   /* a copy, or NULL */
    size_t place;             /* of its var */
    uint64_t key;             /* its place among the calls */
    psg_tape_waiting *next;
};

bool psg_tape_must_wait(const psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count) {
    if (tape->rows >= 0 || tape->pass.ordinary) return false;
    bool batched = false, waits = false;
    for (int k = 0; k < input_count; k++) {
        const psg_tape_var *var = psg_tape_var_of(tape, inputs[k]);
        batched |= var && var->role == PSG_BATCHED;
        waits |= var && var->waits;
    }
    return waits || (op->repeats_over_batch && !batched);
}

static const void *copy_of(psg_tape *tape, const psg_op *op, const void *attributes) {
    void *copy = attributes && op->attributes_size ? psg_tape_take(tape, op->attributes_size) : NULL;
    if (copy) memcpy(copy, attributes, op->attributes_size);
    return copy;
}

psg_var psg_tape_wait(psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count,
                      const void *attributes) {
    psg_tape_waiting *waiting = psg_tape_take(tape, sizeof *waiting);
    if (!waiting) return psg_tape_no_var();
    *waiting = (psg_tape_waiting){ .op = op, .input_count = input_count, .place = tape->var_count,
                                   .key = tape->node_count++,
                                   .attributes = copy_of(tape, op, attributes) };
    if (input_count) memcpy(waiting->input, inputs, (size_t)input_count * sizeof *inputs);
    psg_tape_waiting **end = &tape->waiting;
    while (*end) end = &(*end)->next;
    *end = waiting;
    const psg_tape_var var = { .role = PSG_BATCHED, .waits = true };
    return tape->status ? psg_tape_no_var() : psg_tape_push(tape, &var);
}

psg_status psg_tape_resume(psg_tape *tape) {
    for (; tape->waiting && !tape->status; tape->waiting = tape->waiting->next) {
        const psg_tape_waiting *w = tape->waiting;
        psg_tape_var output;
        if (psg_tape_apply(tape, w->op, w->input, w->input_count, w->attributes, w->place, w->key, &output)) break;
        tape->vars[w->place] = output;
    }
    return tape->status;
}

psg_status psg_tape_fail_waiting(psg_tape *tape) {
    const psg_tape_waiting *w = tape->waiting;
    const char *name = NULL;
    for (int k = 0; !name && k < w->input_count; k++) name = psg_var_name(tape, w->input[k]);
    return psg_tape_fail(tape, PSG_ERR_BATCH, "%s: gives an output a sample, but no psg_input of this pass tells the "
                         "batch size; give psg_pass.batch_size%s%s%s", w->op->name, name ? " (" : "", name ? name : "",
                         name ? ")" : "");
}
