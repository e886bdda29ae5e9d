/* What an op's functions may do with their call. */
#include <endian.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/shape.h"
#include "tape/tape.h"

psg_status psg_call_fail(psg_call *call, psg_status status, const char *format, ...) {
    psg_tape_node *node = call->internal;
    char text[PSG_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    psg_tape_fail(node->tape, status, "%s: %s", call->op->name, text);
    return status;
}

psg_status psg_call_output(psg_call *call, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_tensor output = psg_tensor_of(dtype, NULL, rank, shape);
    char text[PSG_SHAPE_TEXT];
    if (output.rank < 0 || !psg_dtype_size(dtype)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "an output of rank %d and type %s cannot be", rank,
                             psg_dtype_name(dtype));
    }
    for (int d = 0; d < rank; d++) {
        if (shape[d] < 0) {
            return psg_call_fail(call, PSG_ERR_SHAPE, "the output shape would be %s", psg_tensor_text(&output, text));
        }
    }
    if (psg_tensor_count(&output) < 0) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "the output shape %s is too large",
                             psg_tensor_text(&output, text));
    }
    call->output = output;
    return PSG_OK;
}

void *psg_call_keep(psg_call *call, size_t bytes) {
    psg_tape_node *node = call->internal;
    void *memory = psg_tape_take(node->tape, bytes);
    if (!node->in_backward) call->kept = memory;
    return memory;
}

int psg_call_batch_dim(const psg_call *call, const psg_tensor *tensor) {
    return psg_pass_batch_dim(call->batch_first, tensor->rank);
}

/* ---- blocks ---- */

/* (first dimensions, *, p) as one view whose positions are one dimension; copied when no strides can say so. */
static bool merge_positions(psg_tape *tape, psg_tensor *view, int first) {
    if (psg_tensor_merge(view, first, view->rank - 2)) return true;
    psg_tensor copy = psg_tape_tensor(tape, view->dtype, view->rank, view->shape);
    if (!copy.data) return false;
    psg_tensor_copy(view, &copy);
    *view = copy;
    return psg_tensor_merge(view, first, view->rank - 2);
}

/* The (B, T, p) view of a block.  In an ordinary pass nobody knows whether dimension 0 is the batch: all positions of
 * all samples become those of one sample, (1, T, p). */
static psg_status block_view(psg_call *call, const psg_tensor *given, const psg_param *param, psg_tensor *view) {
    psg_tape_node *node = call->internal;
    *view = *given;
    if (given->rank < 2 || given->dtype != param->value.dtype) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "a block of parameter \"%s\" has rank %d and type %s, must be of "
                             "rank >= 2 and %s", param->name, given->rank, psg_dtype_name(given->dtype),
                             psg_dtype_name(param->value.dtype));
    }
    if (call->per_sample && given->shape[0] != call->batch_size) {
        return psg_call_fail(call, PSG_ERR_BATCH, "a block of parameter \"%s\" has batch size %lld, the pass has %lld",
                             param->name, (long long)given->shape[0], (long long)call->batch_size);
    }
    if (!merge_positions(node->tape, view, call->per_sample ? 1 : 0)) return node->tape->status;
    if (!call->per_sample) psg_tensor_merge(view, 0, -1);   /* a new dimension of size 1 */
    return PSG_OK;
}

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

static psg_status append(psg_call *call, psg_tape_use *use, psg_block block) {
    psg_tape_node *node = call->internal;
    void *table = use->blocks;
    if (!psg_tape_grow(node->tape, &table, use->block_count, &use->block_capacity, sizeof block)) {
        return node->tape->status;
    }
    block.scale *= call->grad_sample_scale;
    use->blocks = table;
    use->blocks[use->block_count++] = block;
    return PSG_OK;
}

psg_status psg_call_add_factored(psg_call *call, int k, const psg_tensor *backprop, const psg_tensor *activation) {
    psg_status status;
    psg_tape_use *use = use_of(call, k, &status);
    if (!use) return status;
    psg_tensor g, a;
    status = block_view(call, backprop, use->param, &g);
    if (!status) status = block_view(call, activation, use->param, &a);
    if (status) return status;
    if (g.shape[1] != a.shape[1]) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "a block of parameter \"%s\" has %lld and %lld positions",
                             use->param->name, (long long)g.shape[1], (long long)a.shape[1]);
    }
    return append(call, use, psg_factored(&g, &a));
}

psg_status psg_call_add_rows(psg_call *call, int k, const psg_tensor *backprop) {
    psg_status status;
    psg_tape_use *use = use_of(call, k, &status);
    if (!use) return status;
    psg_tensor g;
    status = block_view(call, backprop, use->param, &g);
    return status ? status : append(call, use, psg_rows(&g));
}

/* ---- randomness ---- */

/* ChaCha20 (RFC 8439) under the key (dropout_seed, place of the op), with the sample's identity as the nonce: every
 * sample of every call has a stream of its own, wherever and in whatever company it is computed. */
void psg_call_random(const psg_call *call, int64_t sample, uint64_t *words, size_t count) {
    const psg_tape_node *node = call->internal;
    uint64_t identity = htole64((uint64_t)(call->sample_ids ? call->sample_ids[sample] : sample));
    uint64_t key_words[4] = { htole64(node->tape->pass.dropout_seed), htole64(call->stream_key) };
    unsigned char key[crypto_stream_chacha20_ietf_KEYBYTES] = { 0 };
    unsigned char nonce[crypto_stream_chacha20_ietf_NONCEBYTES] = { 0 };
    memcpy(key, key_words, sizeof key_words);
    memcpy(nonce, &identity, sizeof identity);
    crypto_stream_chacha20_ietf((unsigned char *)words, count * sizeof *words, nonce, key);
    for (size_t i = 0; i < count; i++) words[i] = le64toh(words[i]);
}
