#include "ops/norm/norm_common.h"

#include "base/shapes.h"
#include "ops/shared/operand.h"

/* Outputs above this leave the cache before they are read again. */
static const int64_t stream_bytes = INT64_C(8) << 20;
static const int64_t cache_line = 64;

const char *const psg_norm_input_names[PSG_NORM_INPUTS] = { "input", "weight", "bias" };

psg_status psg_norm_check_operands(psg_call *call) {
    psg_status status = psg_operands_real(call, call->input_count);
    for (int k = PSG_NORM_WEIGHT; k < call->input_count && !status; k++) {
        if (call->input[k].role != PSG_BATCHED) continue;
        status = psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s is computed from an input of the pass, must be a "
                               "parameter or a constant", psg_norm_input_names[k]);
    }
    return status ? status : psg_operand_carries_batch(call, PSG_NORM_INPUT);
}

psg_status psg_norm_check_affine(psg_call *call, int rank, const int64_t *shape, const char *rule) {
    for (int k = PSG_NORM_WEIGHT; k < call->input_count; k++) {
        const psg_tensor *value = &call->input[k].value;
        if (!call->input[k].role || psg_shape_equal(value->rank, value->shape, rank, shape)) continue;
        char text[PSG_SHAPE_TEXT], expected[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, must have %s, %s", psg_norm_input_names[k],
                             psg_tensor_text(value, text), rule, psg_shape_text(rank, shape, expected));
    }
    return PSG_OK;
}

void *psg_norm_data(const psg_call *call, int k, int64_t elements) {
    return k < call->input_count ? psg_tensor_offset(&call->input[k].value, elements) : NULL;
}

bool psg_norm_wants(const psg_call *call, int k) { return k < call->input_count && call->input[k].wants_grad; }

psg_status psg_norm_keep(psg_call *call, int64_t count, size_t size, void **memory) {
    size_t bytes;
    if (!psg_size_bytes(count, size, &bytes)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "%lld elements do not fit the memory", (long long)count);
    }
    *memory = psg_call_keep(call, bytes);
    return *memory ? PSG_OK : PSG_ERR_MEMORY;
}

psg_status psg_norm_keep_stats(psg_call *call, int64_t count, psg_norm_stats **stats) {
    bool wanted = false;
    for (int k = 0; k < call->input_count; k++) wanted |= call->input[k].wants_grad != 0;
    void *memory = NULL;
    psg_status status = wanted ? psg_norm_keep(call, count, sizeof **stats, &memory) : PSG_OK;
    *stats = memory;
    return status;
}

bool psg_norm_streams(const psg_call *call, int64_t line) {
    const int64_t size = (int64_t)psg_dtype_size(call->output.dtype);
    return psg_tensor_count(&call->output) > stream_bytes / size && line % (cache_line / size) == 0;
}

psg_status psg_norm_add_rows(psg_call *call, int k, void *memory, int64_t samples, int64_t parts, int64_t count) {
    psg_tensor rows = psg_tensor_of(call->output.dtype, memory, 3, (int64_t[]){ samples, parts, count });
    return psg_call_add_rows(call, k, &rows);
}

/* ---- inputs (N, C, *) ---- */

psg_status psg_norm_check_channels(psg_call *call) {
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_norm_check_operands(call);
    if (status) return status;
    if (x->rank < 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must have a batch and a channel dimension",
                             psg_tensor_text(x, text));
    }
    return psg_norm_check_affine(call, 1, &x->shape[1], "one element a channel");
}

psg_norm_layout psg_norm_layout_of(const psg_call *call) {
    const psg_tensor *x = &call->input[PSG_NORM_INPUT].value;
    return (psg_norm_layout){ x->shape[0], x->shape[1],
                              psg_tensor_count(x) ? psg_shape_product(x->rank - 2, x->shape + 2) : 0 };
}
