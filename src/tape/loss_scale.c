/* How the loss of a pass reduces the batch, and where B comes in: gradients are those of a sample's own loss. */
#include "base/shapes.h"
#include "kernels.h"
#include "tape/tape_struct.h"

/* Whether the batch was reduced to one loss here; what comes after, as a sum of two losses, has one element only. */
static bool reduces_batch(const psg_call *call) {
    bool reduced = false;
    if (psg_tensor_count(&call->output) != 1) return false;
    for (int k = 0; k < call->input_count; k++) {
        const psg_operand *operand = &call->input[k];
        reduced |= operand->role == PSG_BATCHED && psg_tensor_count(&operand->value) != 1;
    }
    return reduced;
}

static const char *reduction_name(psg_loss_reduction reduction) {
    return reduction == PSG_LOSS_MEAN ? "mean" : "sum";
}

/* The op says it, or the pass does, and all losses of the pass are of one kind. */
static psg_status find_reduction(psg_tape_node *node) {
    psg_tape *tape = node->tape;
    const psg_call *call = &node->call;
    const psg_loss_reduction said = call->reduces, declared = tape->pass.loss_reduction;
    const psg_loss_reduction reduction = said ? said : declared;
    if (!reduction) {
        return psg_tape_fail(tape, PSG_ERR_STATE, "psg_backward: %s makes one loss of the batch and does not say "
                             "whether it is a sum or a mean over the samples; declare psg_pass.loss_reduction",
                             call->op->name);
    }
    if (declared && declared != reduction) {
        return psg_tape_fail(tape, PSG_ERR_STATE, "psg_backward: psg_pass.loss_reduction declares a %s over the "
                             "samples, but %s takes the %s; leave it PSG_LOSS_FOLLOW, or make them agree",
                             reduction_name(declared), call->op->name, reduction_name(said));
    }
    if (tape->loss && tape->reduction != reduction) {
        return psg_tape_fail(tape, PSG_ERR_STATE, "psg_backward: the loss adds the %s of %s to the %s of %s; all must "
                             "reduce the samples alike", reduction_name(reduction), call->op->name,
                             reduction_name(tape->reduction), tape->loss->call.op->name);
    }
    tape->loss = node;
    tape->reduction = reduction;
    return PSG_OK;
}

/* The mean of the losses of B samples passes 1 / B of its gradient to each; of its own loss a sample has the whole, so
 * the gradient is multiplied by B where the mean was taken, and what is below has the bits of the sample alone. */
static psg_status scale_mean(psg_tape_node *node) {
    psg_call *call = &node->call;
    const double scale = (double)node->tape->rows;
    if (call->op->scales_loss) {
        call->loss_scale = scale;
        return PSG_OK;
    }
    psg_tensor *grad = &call->grad_output;
    psg_tensor scaled = psg_tape_tensor(node->tape, grad->dtype, grad->rank, grad->shape);
    if (!scaled.data) return node->tape->status;
    call->context->kernels[grad->dtype]->scale_row(1, scale, grad->data, 1, scaled.data, false);
    *grad = scaled;
    return PSG_OK;
}

/* One sample's mean is its sum, so of one nothing is asked. */
psg_status psg_tape_scale_loss(psg_tape_node *node) {
    const psg_tape *tape = node->tape;
    node->call.grad_sample_scale = tape->grad_sample_scale;
    if (tape->pass.ordinary || !tape->from_loss || tape->rows <= 1) return PSG_OK;
    if (!reduces_batch(&node->call)) return PSG_OK;
    psg_status status = find_reduction(node);
    if (status || tape->reduction != PSG_LOSS_MEAN) return status;
    return scale_mean(node);
}

/* Where B comes in: at a mean of the pass, or, when the caller took the mean and gives its gradient, at the blocks. */
void psg_tape_set_scales(psg_tape *tape, const psg_tape_var *start, const psg_tensor *grad_output) {
    const psg_loss_reduction declared = tape->pass.loss_reduction;
    bool mean = !tape->pass.ordinary && declared == PSG_LOSS_MEAN && tape->rows >= 0;
    tape->from_loss = psg_tensor_count(&start->value) == 1 && (!grad_output || !declared);
    tape->grad_sample_scale = mean && !tape->from_loss ? (double)tape->rows : 1;
}

/* All ones are the gradient of a sum. */
psg_status psg_tape_check_ones(psg_tape *tape, const psg_tape_var *from) {
    bool mean = !tape->pass.ordinary && tape->pass.loss_reduction == PSG_LOSS_MEAN;
    if (!mean || psg_tensor_count(&from->value) == 1 || tape->rows <= 1) return PSG_OK;
    return psg_tape_fail(tape, PSG_ERR_STATE, "psg_backward_from: psg_pass.loss_reduction declares a mean over the "
                         "samples, but all ones (grad_output NULL) are the gradient of a sum");
}
