#include "ops/shared/spatial.h"

#include "base/shapes.h"
#include "ops/shared/operand.h"

const int64_t psg_spatial_ones[3] = { 1, 1, 1 };

psg_status psg_spatial_count(psg_call *call, int given, int *spatial) {
    const psg_tensor *x = &call->input[0].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operands_real(call, 1);
    if (status) return status;
    if (given < 0 || given > 3) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "spatial is %d, must be 1, 2 or 3, or 0 for what the rank of "
                             "input says", given);
    }
    if (!given && (x->rank < 3 || x->rank > 5)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, must have rank 3 to 5: batch, channels and 1 to "
                             "3 spatial dimensions", psg_tensor_text(x, text));
    }
    if (given && x->rank != given + 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has shape %s, %s%dd takes rank %d: batch, channels and %d "
                             "spatial dimension%s", psg_tensor_text(x, text), call->op->name, given, given + 2, given,
                             given > 1 ? "s" : "");
    }
    *spatial = x->rank - 2;
    return psg_operand_carries_batch(call, 0);
}

/* All entries are given or none. */
static psg_status check_whole(psg_call *call, const char *name, int spatial, const int64_t *given) {
    int absent = -1, present = -1;
    for (int d = 0; d < spatial; d++) {
        if (!given[d] && absent < 0) absent = d;
        if (given[d] && present < 0) present = d;
    }
    if (absent < 0 || present < 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s[%d] is 0: give all %d entries or none (PSG_ALL(%lld))", name,
                         absent, spatial, (long long)given[present]);
}

psg_status psg_spatial_option(psg_call *call, const char *name, int spatial, const int64_t *given,
                              const int64_t *otherwise, int64_t least, int64_t *found) {
    for (int d = 0; d < spatial; d++) {
        found[d] = given[d] || !otherwise ? given[d] : otherwise[d];
        if (found[d] >= least && found[d] <= INT32_MAX) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s[%d] is %lld, must be in [%lld, 2147483647]", name, d,
                             (long long)found[d], (long long)least);
    }
    return otherwise ? check_whole(call, name, spatial, given) : PSG_OK;
}
