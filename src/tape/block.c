/* The blocks that an op's backward adds to its parameters' gradients. */
#include "base/shape.h"
#include "gradient/check.h"
#include "tape/tape.h"

/* ---- views ---- */

/* Dimensions [first, last] as one; the view is copied when no strides can say so. */
static bool merge_dimensions(psg_tape *tape, psg_tensor *view, int first, int last) {
    if (psg_tensor_merge(view, first, last)) return true;
    psg_tensor copy = psg_tape_tensor(tape, view->dtype, view->rank, view->shape);
    if (!copy.data) return false;
    psg_tensor_copy(view, &copy);
    *view = copy;
    return psg_tensor_merge(view, first, last);
}

static psg_status check_batch(psg_call *call, const psg_tensor *given, const psg_tape_use *use) {
    if (!call->per_sample || given->shape[0] == call->batch_size) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "a block of parameter \"%s\" has batch size %lld, the pass has %lld",
                         use->name, (long long)given->shape[0], (long long)call->batch_size);
}

/* (B, *, features) as (B, T, features), with features the last `kept` dimensions.  In an ordinary pass nobody knows
 * whether dimension 0 is the batch: all positions of all samples become those of one sample, (1, T, features). */
static psg_status merge_view(psg_call *call, psg_tensor *view, int kept) {
    psg_tape_node *node = call->internal;
    if (!merge_dimensions(node->tape, view, call->per_sample ? 1 : 0, view->rank - 1 - kept)) return node->tape->status;
    if (!call->per_sample) psg_tensor_merge(view, 0, -1);   /* a new dimension of size 1 */
    return PSG_OK;
}

static psg_status block_view(psg_call *call, const psg_tensor *given, const psg_tape_use *use, psg_tensor *view) {
    *view = *given;
    if (given->rank < 2 || given->dtype != use->value.dtype) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "a block of parameter \"%s\" has rank %d and type %s, must be of "
                             "rank >= 2 and %s", use->name, given->rank, psg_dtype_name(given->dtype),
                             psg_dtype_name(use->value.dtype));
    }
    psg_status status = check_batch(call, given, use);
    return status ? status : merge_view(call, view, 1);
}

static psg_status ids_view(psg_call *call, const psg_tensor *given, const psg_tape_use *use, psg_tensor *view) {
    *view = *given;
    if (given->rank < 1 || (given->dtype != PSG_I32 && given->dtype != PSG_I64)) {
        return psg_call_fail(call, PSG_ERR_DTYPE, "the ids of a block of parameter \"%s\" have rank %d and type %s, "
                             "must be of rank >= 1 and i32 or i64", use->name, given->rank,
                             psg_dtype_name(given->dtype));
    }
    psg_status status = check_batch(call, given, use);
    return status ? status : merge_view(call, view, 0);
}

/* ---- the list of a parameter ---- */

/* The use of parameter input k; NULL when it wants no blocks or *status is an error. */
static psg_tape_use *use_of(psg_call *call, int k, psg_status *status) {
    psg_tape_node *node = call->internal;
    *status = PSG_OK;
    if (k < 0 || k >= call->input_count || !node->in_backward) {
        *status = psg_call_fail(call, PSG_ERR_ARGUMENT, "a block was added outside backward or for input %d", k);
        return NULL;
    }
    const psg_operand *operand = &call->input[k];
    if (operand->role != PSG_PARAMETER || !operand->wants_grad) return NULL;
    return &node->tape->uses[node->tape->vars[node->input[k]].use];
}

/* The checks of psg/gradient.h, made where the block is added. */
static psg_status check(psg_call *call, const psg_tape_use *use, const psg_block *block) {
    psg_tape_node *node = call->internal;
    const psg_tensor *value = &use->value;
    psg_gradient gradient = psg_gradient_of_blocks(block, 1, value->rank, value->shape);
    const psg_gradient *set = &gradient;
    gradient.name = use->name;
    gradient.dtype = value->dtype;
    psg_status status = psg_check_set(call->context, call->op->name, &set, 1);
    return status ? psg_tape_adopt(node->tape, status) : PSG_OK;
}

static psg_status append_times(psg_call *call, psg_tape_use *use, const psg_block *block, double scale) {
    psg_tape_node *node = call->internal;
    psg_status status = check(call, use, block);
    if (status) return status;
    void *table = use->blocks;
    if (!psg_tape_grow(node->tape, &table, use->block_count, &use->block_capacity, sizeof *block)) {
        return node->tape->status;
    }
    use->blocks = table;
    use->blocks[use->block_count] = *block;
    use->blocks[use->block_count++].scale *= scale;
    return PSG_OK;
}

static psg_status append(psg_call *call, psg_tape_use *use, const psg_block *block) {
    return append_times(call, use, block, call->grad_sample_scale);
}

/* ---- windows of an image ---- */

/* An ordinary pass keeps the sum over all samples, whose windows are not those of one image: a p x d array, which is a
 * rectangle of the parameter: rows when it is contiguous there, else one sparse row for each of its own rows. */
static psg_status append_rectangle(psg_call *call, psg_tape_use *use, const psg_block *from, psg_tensor array) {
    psg_tape_node *node = call->internal;
    int64_t p = array.shape[1], d = array.shape[2];
    psg_block block;
    if (p <= 1 || from->row_stride == d) {
        psg_tensor_merge(&array, 1, 2);
        block = psg_rows(&array);
    } else {
        psg_tensor ids = psg_tape_tensor(node->tape, PSG_I64, 2, (int64_t[]){ 1, p });
        if (!ids.data) return node->tape->status;
        for (int64_t i = 0; i < p; i++) ((int64_t *)ids.data)[i] = i;
        block = psg_sparse_rows(&array, &ids);
        block.row_stride = from->row_stride;
    }
    block.scale = from->scale;
    block.offset = from->offset;
    return append(call, use, &block);
}

static psg_status append_sum(psg_call *call, psg_tape_use *use, const psg_block *from, int64_t p, int64_t d) {
    psg_tape_node *node = call->internal;
    psg_tensor array = psg_tape_tensor(node->tape, from->backprop.dtype, 3, (int64_t[]){ 1, p, d });
    if (!array.data) return node->tape->status;
    psg_block block = *from;
    block.scale = 1;
    block.offset = 0;
    block.row_stride = d;
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, array.shape + 1);
    const psg_gradient *set = &gradient;
    psg_tensor sum = psg_tensor_of(array.dtype, array.data, 2, array.shape + 1);
    psg_status status = psg_weighted_sum(call->context, &set, 1, NULL, PSG_OVERWRITE, &sum);
    return status ? psg_tape_adopt(node->tape, status) : append_rectangle(call, use, from, array);
}

static psg_status add_unfolded(psg_call *call, psg_tape_use *use, const psg_block *given) {
    psg_block block = *given;
    const psg_tensor *image = &block.activation;
    psg_tape_node *node = call->internal;
    int spatial = block.window.spatial;
    psg_status status = check_batch(call, image, use);
    if (!status) status = check_batch(call, &block.backprop, use);
    if (status) return status;
    if (block.backprop.rank < 2 || spatial < 1 || spatial > 3 || image->rank != spatial + 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "an unfolded block of parameter \"%s\" has a backprop of rank %d, an "
                             "image of rank %d and %d spatial dimensions", use->name, block.backprop.rank,
                             image->rank, spatial);
    }
    if (!merge_dimensions(node->tape, &block.backprop, 1, block.backprop.rank - 2)) return node->tape->status;
    int64_t d = psg_unfolded(&block.backprop, image, &block.window).row_stride;
    if (!call->per_sample) return append_sum(call, use, &block, block.backprop.shape[2], d);
    return append(call, use, &block);
}

/* ---- for backward ---- */

static psg_status add_factored(psg_call *call, psg_tape_use *use, psg_block block) {
    psg_status status = block_view(call, &block.backprop, use, &block.backprop);
    if (!status) status = block_view(call, &block.activation, use, &block.activation);
    return status ? status : append(call, use, &block);
}

static psg_status add_rows(psg_call *call, psg_tape_use *use, psg_block block) {
    psg_status status = block_view(call, &block.backprop, use, &block.backprop);
    return status ? status : append(call, use, &block);
}

static psg_status add_sparse_rows(psg_call *call, psg_tape_use *use, psg_block block) {
    psg_status status = block_view(call, &block.backprop, use, &block.backprop);
    if (!status) status = ids_view(call, &block.ids, use, &block.ids);
    return status ? status : append(call, use, &block);
}

psg_status psg_call_add_block(psg_call *call, int k, const psg_block *block) {
    psg_status status;
    psg_tape_use *use = use_of(call, k, &status);
    if (!use) return status;
    if (call->op->derives) return psg_call_fail(call, PSG_ERR_ARGUMENT, "adds a block, must call psg_call_derive");
    switch (block->form) {
    case PSG_FACTORED:
    case PSG_ROWS_PRODUCT: return add_factored(call, use, *block);
    case PSG_ROWS: return add_rows(call, use, *block);
    case PSG_SPARSE_ROWS: return add_sparse_rows(call, use, *block);
    case PSG_UNFOLDED: return add_unfolded(call, use, block);
    case PSG_DERIVED: break;
    }
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "a block of parameter \"%s\" has form %d, must be one of psg_form",
                         use->name, (int)block->form);
}

psg_status psg_call_add_factored(psg_call *call, int k, const psg_tensor *backprop, const psg_tensor *activation) {
    psg_block block = psg_factored(backprop, activation);
    return psg_call_add_block(call, k, &block);
}

psg_status psg_call_add_rows(psg_call *call, int k, const psg_tensor *backprop) {
    psg_block block = psg_rows(backprop);
    return psg_call_add_block(call, k, &block);
}

psg_status psg_call_add_sparse_rows(psg_call *call, int k, const psg_tensor *backprop, const psg_tensor *ids) {
    psg_block block = psg_sparse_rows(backprop, ids);
    return psg_call_add_block(call, k, &block);
}

/* ---- effective weights ---- */

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
    psg_tape_node *node = call->internal;
    psg_tape *tape = node->tape;
    psg_tape_use *use = use_of(call, k, &status);
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
    return append_times(call, use, &block, 1);
}
