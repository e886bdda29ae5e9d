/* The blocks that an op's backward adds to its parameters' gradients. */
#include "base/shapes.h"
#include "gradient/piece.h"
#include "tape/tape_struct.h"

/* Dimensions [first, last] as one; the view is copied when no strides can say so. */
static psg_status merge_dimensions(psg_tape *tape, psg_tensor *view, int first, int last) {
    if (psg_tensor_merge(view, first, last)) return PSG_OK;
    psg_tensor copy = psg_tape_tensor(tape, view->dtype, view->rank, view->shape);
    if (!copy.data) return tape->status;
    psg_tensor_copy(view, &copy);
    *view = copy;
    psg_tensor_merge(view, first, last);
    return PSG_OK;
}

/* (B, *, features) as (B, T, features), with features the last `kept` dimensions.  In an ordinary pass nobody knows
 * whether dimension 0 is the batch: all positions of all samples become those of one sample, (1, T, features). */
static psg_status merge_view(psg_call *call, const psg_tape_use *use, psg_tensor *view, int kept) {
    psg_tape_node *node = call->internal;
    if (view->rank < 1 + kept || view->rank > PSG_MAX_RANK) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "a block of parameter \"%s\" has a view of rank %d", use->name,
                             view->rank);
    }
    psg_status status = merge_dimensions(node->tape, view, !call->pass->ordinary ? 1 : 0, view->rank - 1 - kept);
    if (!status && call->pass->ordinary) psg_tensor_merge(view, 0, -1);   /* a new dimension of size 1 */
    return status;
}

static bool reads_activation(const psg_block *block) {
    return block->form == PSG_FACTORED || block->form == PSG_ROWS_PRODUCT || block->form == PSG_UNFOLDED;
}

/* Windows belong to an image, so the batch is dimension 0 in every pass. */
static psg_status merge_views(psg_call *call, const psg_tape_use *use, psg_block *block) {
    psg_tape_node *node = call->internal;
    bool windows = block->form == PSG_UNFOLDED && block->backprop.rank >= 2 && block->backprop.rank <= PSG_MAX_RANK;
    if (windows) return merge_dimensions(node->tape, &block->backprop, 1, block->backprop.rank - 2);
    psg_status status = merge_view(call, use, &block->backprop, block->form == PSG_UNFOLDED ? 2 : 1);
    bool two = reads_activation(block) && block->form != PSG_UNFOLDED;
    if (!status && two) status = merge_view(call, use, &block->activation, 1);
    if (!status && block->form == PSG_SPARSE_ROWS) status = merge_view(call, use, &block->ids, 0);
    return status;
}

psg_tape_use *psg_tape_use_of(psg_call *call, int k, psg_status *status) {
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

psg_status psg_tape_push_block(psg_tape *tape, psg_tape_use *use, const psg_block *block, double scale) {
    void *table = use->blocks;
    if (!psg_tape_grow(tape, &table, use->block_count, &use->block_capacity, sizeof *block)) return tape->status;
    use->blocks = table;
    use->blocks[use->block_count] = *block;
    use->blocks[use->block_count++].scale *= scale;
    return PSG_OK;
}

/* The checks of psg/gradient.h are made where the block is added. */
psg_status psg_tape_append(psg_call *call, psg_tape_use *use, const psg_block *block, double scale) {
    psg_tape *tape = ((psg_tape_node *)call->internal)->tape;
    psg_gradient gradient = psg_tape_gradient(tape, use);
    gradient.pass = 0;   /* as of raw arrays: the rectangle must be one of the parameter's shape */
    psg_set set = { call->context, call->op->name, (const psg_gradient *[]){ &gradient }, 1 };
    gradient.blocks = block;
    gradient.block_count = 1;
    psg_status status = psg_check_set(&set, true);
    if (status) return psg_tape_adopt(tape, status);
    if (use->is_part) return psg_tape_append_part(call, use, block, scale);
    return psg_tape_push_block(tape, use, block, scale);
}

/* ---- views ---- */

/* View k of every record: every K-th row. */
static psg_tensor view_of(const psg_tensor *rows, int64_t views, int64_t k) {
    psg_tensor view = *rows;
    view.data = psg_tensor_offset(rows, k * rows->stride[0]);
    view.shape[0] /= views;
    view.stride[0] *= views;
    return view;
}

/* Else the check of the block tells what is wrong with it. */
static bool has_rows(const psg_block *block, int64_t rows) {
    if (reads_activation(block) && block->activation.shape[0] != rows) return false;
    if (block->form == PSG_SPARSE_ROWS && block->ids.shape[0] != rows) return false;
    return block->backprop.shape[0] == rows;
}

/* A record's gradient is the mean over its views: a block a view.  (Views that were positions of one block would move
 * the positions of a padded one.) */
static psg_status append_views(psg_call *call, psg_tape_use *use, const psg_block *rows) {
    const psg_tape *tape = ((psg_tape_node *)call->internal)->tape;
    const int64_t views = psg_tape_views(tape);
    const double scale = call->grad_sample_scale / (double)views;
    psg_status status = PSG_OK;
    if (views == 1 || !has_rows(rows, tape->rows)) return psg_tape_append(call, use, rows, scale);
    for (int64_t k = 0; k < views && !status; k++) {
        psg_block block = *rows;
        block.backprop = view_of(&rows->backprop, views, k);
        if (reads_activation(rows)) block.activation = view_of(&rows->activation, views, k);
        if (rows->form == PSG_SPARSE_ROWS) block.ids = view_of(&rows->ids, views, k);
        status = psg_tape_append(call, use, &block, scale);
    }
    return status;
}

psg_status psg_call_add_block(psg_call *call, int k, const psg_block *given) {
    psg_status status;
    if (!call) return PSG_ERR_ARGUMENT;
    if (!given) return psg_call_fail(call, PSG_ERR_ARGUMENT, "adds a block that is NULL");
    psg_block block = *given;
    psg_tape_use *use = psg_tape_use_of(call, k, &status);
    if (!use) return status;
    if (call->op->derives) return psg_call_fail(call, PSG_ERR_ARGUMENT, "adds a block, must call psg_call_derive");
    if (block.form == PSG_DERIVED) return psg_call_fail(call, PSG_ERR_ARGUMENT, "adds a block of form %d", PSG_DERIVED);
    status = merge_views(call, use, &block);
    return status ? status : append_views(call, use, &block);
}

psg_status psg_call_add_factored(psg_call *call, int k, const psg_tensor *backprop, const psg_tensor *activation) {
    return psg_call_add_block(call, k, (psg_block[]){ psg_factored(backprop, activation) });
}

psg_status psg_call_add_rows(psg_call *call, int k, const psg_tensor *backprop) {
    return psg_call_add_block(call, k, (psg_block[]){ psg_rows(backprop) });
}

psg_status psg_call_add_sparse_rows(psg_call *call, int k, const psg_tensor *backprop, const psg_tensor *ids) {
    return psg_call_add_block(call, k, (psg_block[]){ psg_sparse_rows(backprop, ids) });
}
