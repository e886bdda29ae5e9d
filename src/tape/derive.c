/* Effective weights: what an op that derives says of its parameters' gradients. */
#include "base/shapes.h"
#include "tape/tape_struct.h"

static psg_status check_derivation(psg_call *call, const psg_tape_use *effective, const psg_tape_use *use,
                                   const psg_derivation *d) {
    int64_t elements, pulled;
    if (!d) return psg_call_fail(call, PSG_ERR_ARGUMENT, "the derivation is NULL");
    bool fits = d->rows >= 0 && d->columns >= 0 && d->width >= 0 && psg_size_multiply(d->rows, d->columns, &elements) &&
                psg_size_multiply(d->rows, d->width, &pulled) && elements == psg_tensor_count(&effective->value) &&
                pulled == psg_tensor_count(&use->value);
    if (fits) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "a derivation has %lld rows of %lld and %lld elements, the effective "
                         "weight has %lld elements and parameter \"%s\" %lld", (long long)d->rows,
                         (long long)d->columns, (long long)d->width, (long long)psg_tensor_count(&effective->value),
                         use->name, (long long)psg_tensor_count(&use->value));
}

/* The effective weight's blocks have the walk's scale already. */
psg_status psg_call_derive(psg_call *call, int k, const psg_derivation *derivation) {
    psg_status status;
    if (!call) return PSG_ERR_ARGUMENT;
    psg_tape_node *node = call->internal;
    psg_tape *tape = node->tape;
    psg_tape_use *use = psg_tape_use_of(call, k, &status);
    if (!use) return status;
    if (!call->op->derives) return psg_call_fail(call, PSG_ERR_ARGUMENT, "calls psg_call_derive, but does not derive");
    const psg_tape_use *effective = &tape->uses[tape->vars[node->output].use];
    psg_derivation *own = psg_tape_take(tape, sizeof *own);
    if (!own || check_derivation(call, effective, use, derivation)) return tape->status;
    *own = *derivation;
    own->blocks = effective->blocks;
    own->block_count = effective->block_count;
    node->derived |= 1u << k;
    psg_block block = psg_derived(own, use->value.dtype, psg_tape_samples(tape));
    return psg_tape_append(call, use, &block, 1);
}
