#include "ops/embedding/bags.h"

#include <string.h>

#include "base/shapes.h"

/* Where the bags of flat ids start, with the end of the last. */
static psg_status read_offsets(psg_call *call, int64_t *start) {
    const psg_tensor *offsets = &call->input[PSG_BAG_OFFSETS].value;
    int64_t count = call->output.shape[0], ids = call->input[PSG_LOOKUP_IDS].value.shape[0];
    start[count] = ids;
    for (int64_t n = 0; n < offsets->shape[0]; n++) {
        int64_t low = n == count ? ids : n ? start[n - 1] : 0, high = n ? ids : 0;
        int64_t offset = psg_lookup_id(offsets, n);
        start[n] = offset;
        if (offset >= low && offset <= high) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT,
                             "offsets[%lld] is %lld, must be in [%lld, %lld]: they start at 0 "
                             "and ascend to at most the number of ids, which include_last_offset adds",
                             (long long)n, (long long)offset, (long long)low, (long long)high);
    }
    return PSG_OK;
}

psg_status psg_bags_start(psg_call *call, const int64_t **start) {
    *start = NULL;
    if (call->input[PSG_BAG_OFFSETS].role == PSG_ABSENT) return PSG_OK;
    int64_t *places = psg_call_keep(call, (size_t)(call->output.shape[0] + 1) * sizeof *places);
    *start = places;
    return places ? read_offsets(call, places) : PSG_ERR_MEMORY;
}

/* The bags as rows of (N, T), T the longest one's length. */
static psg_status pad_bags(psg_call *call, const psg_tensor *flat, const int64_t *start, psg_bags *b) {
    int64_t count = call->output.shape[0], longest = 0, elements;
    b->start = start;
    for (int64_t n = 0; n < count; n++) {
        if (start[n + 1] - start[n] > longest) longest = start[n + 1] - start[n];
    }
    b->ids = psg_tensor_of(flat->dtype, NULL, 2, (int64_t[]){ count, longest });
    size_t bytes, size = psg_dtype_size(flat->dtype);
    if (!psg_size_multiply(count, longest, &elements) || !psg_size_bytes(elements, size, &bytes)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "%lld bags of up to %lld ids are too many", (long long)count,
                             (long long)longest);
    }
    b->ids.data = psg_call_keep(call, bytes);
    if (!b->ids.data) return PSG_ERR_MEMORY;
    memset(b->ids.data, 0xff, bytes);
    for (int64_t n = 0; n < count; n++) {
        if (start[n + 1] > start[n]) {
            memcpy(psg_tensor_offset(&b->ids, n * longest), psg_tensor_offset(flat, start[n]),
                   (size_t)(start[n + 1] - start[n]) * size);
        }
    }
    return PSG_OK;
}

psg_status psg_bags_collect(psg_call *call, const psg_lookup_options *options, const int64_t *start, bool winners,
                            psg_bags *b) {
    psg_tensor found;
    psg_status status = psg_lookup_without_padding(call, options, &call->input[PSG_LOOKUP_IDS].value, &found);
    if (status) return status;
    *b = (psg_bags){ .ids = found };
    if (start) status = pad_bags(call, &found, start, b);
    if (status || !winners) return status;
    if (b->ids.shape[1] > INT32_MAX) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "a bag of %lld ids is too long for PSG_BAG_MAX",
                             (long long)b->ids.shape[1]);
    }
    psg_dtype wide = call->output.dtype == PSG_F64 ? PSG_I64 : PSG_I32;
    b->winner = psg_tensor_of(wide, NULL, 2, call->output.shape);
    b->winner.data = psg_call_keep(call, (size_t)psg_tensor_count(&b->winner) * psg_dtype_size(wide));
    return b->winner.data ? PSG_OK : PSG_ERR_MEMORY;
}

int64_t psg_bag_start(const psg_bags *b, int64_t n) { return b->start ? b->start[n] : n * b->ids.shape[1]; }

/* Ids that are rows. */
static int64_t length_of(const psg_bags *b, int64_t n) {
    int64_t length = 0, most = b->ids.shape[1];
    for (int64_t t = 0; t < most; t++) length += psg_lookup_id(&b->ids, n * most + t) >= 0;
    return length;
}

double psg_bag_mean_factor(const psg_bags *b, int64_t n) {
    int64_t length = length_of(b, n);
    return length ? 1 / (double)length : 0;
}
