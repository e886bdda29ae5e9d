/* Tensors that others lend, of drawn fields: refused, or a view whose every element lies where theirs does, which lent
 * on says the same. */
#include <string.h>

#include "fuzz.h"
#include "psg/dlpack.h"

enum { MOST_RANK = 9, ELEMENTS = 512 };

typedef struct lender {
    DLManagedTensorVersioned managed;
    int64_t shape[MOST_RANK], strides[MOST_RANK];
    double values[ELEMENTS];
    int ends;
} lender;

static void end(DLManagedTensorVersioned *self) { ((lender *)self->manager_ctx)->ends++; }

static int64_t draw_size(fuzz_bytes *bytes) {
    static const int64_t odd[] = { -1, INT64_MAX, INT64_MIN, (int64_t)1 << 32, INT64_MAX / 8, 1000 };
    return fuzz_one_in(bytes, 32) ? FUZZ_PICK(bytes, odd) : fuzz_range(bytes, 0, 3);
}

static void draw(fuzz_bytes *bytes, lender *l) {
    static const int64_t codes[] = { kDLFloat, kDLInt, kDLUInt, 3 }, bits[] = { 32, 64, 16, 8 };
    DLTensor *t = &l->managed.dl_tensor;
    const int many = fuzz_one_in(bytes, 8);
    *l = (lender){ .ends = 0 };
    l->managed = (DLManagedTensorVersioned){ .version = { fuzz_one_in(bytes, 32) ? 2 : 1, 0 }, .manager_ctx = l };
    l->managed.deleter = fuzz_one_in(bytes, 8) ? NULL : end;
    l->managed.flags = fuzz_one_in(bytes, 4) ? fuzz_byte(bytes) : 0;
    t->data = fuzz_one_in(bytes, 32) ? NULL : &l->values[ELEMENTS / 2];
    t->device.device_type = fuzz_one_in(bytes, 32) ? kDLCUDA : kDLCPU;
    t->ndim = (int32_t)fuzz_range(bytes, many ? -1 : 0, many ? MOST_RANK : 3);
    t->dtype.code = (uint8_t)codes[fuzz_one_in(bytes, 16) ? fuzz_range(bytes, 2, 3) : fuzz_range(bytes, 0, 1)];
    t->dtype.bits = (uint8_t)bits[fuzz_one_in(bytes, 16) ? fuzz_range(bytes, 2, 3) : fuzz_range(bytes, 0, 1)];
    t->dtype.lanes = fuzz_one_in(bytes, 32) ? 2 : 1;
    t->shape = fuzz_one_in(bytes, 64) ? NULL : l->shape;
    t->strides = fuzz_one_in(bytes, 4) ? NULL : l->strides;
    t->byte_offset = (uint64_t)fuzz_range(bytes, 0, 3) * (fuzz_one_in(bytes, 16) ? 4 : 8);
    for (int d = 0; d < MOST_RANK; d++) l->shape[d] = draw_size(bytes);
    for (int d = 0; d < MOST_RANK; d++)
        l->strides[d] = fuzz_one_in(bytes, 4) ? -fuzz_range(bytes, 0, 3) : draw_size(bytes);
}

static void check_view(const lender *l, const psg_tensor *view) {
    const DLTensor *t = &l->managed.dl_tensor;
    FUZZ_CHECK(view->rank == t->ndim && psg_tensor_count(view) >= 0);
    FUZZ_CHECK(psg_dtype_size(view->dtype) * 8 == t->dtype.bits);
    FUZZ_CHECK(!psg_tensor_count(view) || view->data == (char *)t->data + t->byte_offset);
    FUZZ_CHECK(t->strides || psg_tensor_is_contiguous(view) || !psg_tensor_count(view));
    for (int d = 0; d < view->rank; d++) FUZZ_CHECK(view->shape[d] == l->shape[d]);
    for (int d = 0; t->strides && d < view->rank; d++) FUZZ_CHECK(view->stride[d] == l->strides[d]);
}

static void check_lent_on(psg_context *context, const psg_tensor *view, int read_only) {
    DLManagedTensorVersioned *lent;
    psg_tensor again;
    int is_read_only;
    if (FUZZ_CALL(context, psg_to_dlpack(context, view, read_only, NULL, NULL, &lent))) return;
    FUZZ_CHECK(!FUZZ_CALL(context, psg_from_dlpack(context, lent, &is_read_only, &again)));
    FUZZ_CHECK(is_read_only == read_only && again.dtype == view->dtype && again.rank == view->rank);
    for (int d = 0; d < view->rank; d++) {
        FUZZ_CHECK(again.shape[d] == view->shape[d] && again.stride[d] == view->stride[d]);
    }
    psg_dlpack_release(lent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lender l;
    fuzz_bytes bytes = { data, size };
    psg_context *context = fuzz_context(fuzz_one_in(&bytes, 4) ? 1 : 0, 0);
    psg_tensor view;
    int read_only = 7, wants_to_write = fuzz_one_in(&bytes, 2);
    draw(&bytes, &l);
    psg_status status =
        FUZZ_CALL(context, psg_from_dlpack(context, &l.managed, wants_to_write ? NULL : &read_only, &view));
    FUZZ_CHECK(!status == (view.rank >= 0) && !l.ends);
    if (!status) {
        FUZZ_CHECK(wants_to_write ? !(l.managed.flags & 1) : read_only == (int)(l.managed.flags & 1));
        check_view(&l, &view);
        check_lent_on(context, &view, !wants_to_write && read_only);
    }
    psg_dlpack_release(&l.managed);
    FUZZ_CHECK(l.ends == (l.managed.deleter != NULL));
    fuzz_context_return(context);
    return 0;
}
