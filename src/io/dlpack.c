#include "psg/dlpack.h"

#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "psg/io.h"

/* ---- to others ---- */

typedef struct export {
    DLManagedTensorVersioned managed;
    int64_t shape[PSG_MAX_RANK], stride[PSG_MAX_RANK];
    psg_context *context;
    psg_owner *owner;              /* of the library's memory; NULL: the caller's */
    psg_release release;
    void *user;
} export;

static void end_export(DLManagedTensorVersioned *self) {
    export *e = self->manager_ctx;
    if (e->release) e->release(e->user);
    psg_let_go(e->owner);
    psg_free_object(e->context, e);
}

static DLDataType stored_type(psg_dtype dtype) {
    const bool is_real = psg_dtype_is_real(dtype);
    return (DLDataType){ is_real ? kDLFloat : kDLInt, (uint8_t)(8 * psg_dtype_size(dtype)), 1 };
}

static void fill(export *e, const psg_tensor *tensor, int read_only) {
    memcpy(e->shape, tensor->shape, sizeof e->shape);
    memcpy(e->stride, tensor->stride, sizeof e->stride);
    e->managed = (DLManagedTensorVersioned){
        .version = { DLPACK_MAJOR_VERSION, 0 },
        .manager_ctx = e,
        .deleter = end_export,
        .flags = read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0,
        .dl_tensor = { tensor->data, { kDLCPU, 0 }, tensor->rank, stored_type(tensor->dtype), e->shape, e->stride, 0 },
    };
}

psg_status psg_to_dlpack(psg_context *context, const psg_tensor *tensor, int read_only, psg_release release, void *user,
                         DLManagedTensorVersioned **managed) {
    static const char function[] = "psg_to_dlpack";
    if (managed) *managed = NULL;
    if (!context || !managed) return psg_fail_null(context, function, "managed");
    if (!psg_tensor_is_valid(tensor)) {
        char fault[PSG_FAULT_TEXT];
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: tensor is %s", function, psg_tensor_fault(tensor, fault));
    }
    export *e = psg_new_object(context, sizeof *e);
    if (!e) return psg_fail_memory(context, function, sizeof *e);
    *e = (export){ .context = context, .owner = psg_owner_of(context, tensor->data), .release = release, .user = user };
    psg_hold(e->owner);
    fill(e, tensor, read_only);
    *managed = &e->managed;
    return PSG_OK;
}

/* ---- from others ---- */

#define FROM "psg_from_dlpack: "

static psg_status read_type(psg_context *context, DLDataType type, psg_dtype *dtype) {
    for (*dtype = PSG_F32; *dtype <= PSG_I64; (*dtype)++) {
        const DLDataType ours = stored_type(*dtype);
        if (type.code == ours.code && type.bits == ours.bits && type.lanes == ours.lanes) return PSG_OK;
    }
    return psg_fail(context, PSG_ERR_DTYPE, FROM "type of code %d, %d bits, %d lanes, must be f32, f64, i32 or i64",
                    type.code, type.bits, type.lanes);
}

/* Whether the offsets of all elements fit 63 bits of bytes. */
static bool reaches(const psg_tensor *view) {
    int64_t low = 0, high = 0, step;
    for (int d = 0; d < view->rank; d++) {
        if (__builtin_mul_overflow(view->shape[d] - 1, view->stride[d], &step)) return false;
        if (__builtin_add_overflow(step < 0 ? low : high, step, step < 0 ? &low : &high)) return false;
    }
    const int64_t most = INT64_MAX / (int64_t)psg_dtype_size(view->dtype);
    return low >= -most && high <= most;
}

static psg_status read_shape(psg_context *context, const DLTensor *from, psg_tensor *view) {
    char shape[PSG_SHAPE_TEXT];
    if (from->ndim < 0 || from->ndim > PSG_MAX_RANK) {
        return psg_fail(context, PSG_ERR_SHAPE, FROM "rank %d, must be between 0 and %d", (int)from->ndim,
                        PSG_MAX_RANK);
    }
    if (from->ndim && !from->shape) return psg_fail(context, PSG_ERR_SHAPE, FROM "shape is NULL");
    *view = psg_tensor_of(view->dtype, view->data, from->ndim, from->shape);
    if (!psg_tensor_fits(view)) {
        return psg_fail(context, PSG_ERR_SHAPE, FROM "shape %s is negative or too large", psg_tensor_text(view, shape));
    }
    for (int d = 0; from->strides && d < from->ndim; d++) view->stride[d] = from->strides[d];
    if (!psg_tensor_count(view) || reaches(view)) return PSG_OK;
    return psg_fail(context, PSG_ERR_SHAPE, FROM "strides reach over more than 63 bits of bytes");
}

static psg_status read_data(psg_context *context, const DLTensor *from, psg_tensor *view) {
    const uintptr_t data = (uintptr_t)from->data, size = psg_dtype_size(view->dtype);
    if (!psg_tensor_count(view)) return PSG_OK;
    if (!from->data) return psg_fail(context, PSG_ERR_ARGUMENT, FROM "data is NULL");
    if (from->byte_offset > UINTPTR_MAX - data) {
        return psg_fail(context, PSG_ERR_ARGUMENT, FROM "byte_offset %llu is too large",
                        (unsigned long long)from->byte_offset);
    }
    view->data = (char *)from->data + from->byte_offset;
    if ((data + from->byte_offset) % size == 0) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, FROM "data is not aligned to the %zu bytes of %s", (size_t)size,
                    psg_dtype_name(view->dtype));
}

static psg_status read_managed(psg_context *context, const DLManagedTensorVersioned *managed, psg_tensor *view) {
    const DLTensor *from = &managed->dl_tensor;
    if (managed->version.major != DLPACK_MAJOR_VERSION) {
        return psg_fail(context, PSG_ERR_UNSUPPORTED, FROM "version %u.%u, must be 1", (unsigned)managed->version.major,
                        (unsigned)managed->version.minor);
    }
    if (from->device.device_type != kDLCPU) {
        return psg_fail(context, PSG_ERR_UNSUPPORTED, FROM "device type %d, must be %d, the CPU",
                        (int)from->device.device_type, (int)kDLCPU);
    }
    PSG_TRY(read_type(context, from->dtype, &view->dtype));
    PSG_TRY(read_shape(context, from, view));
    return read_data(context, from, view);
}

psg_status psg_from_dlpack(psg_context *context, const DLManagedTensorVersioned *managed, int *read_only,
                           psg_tensor *tensor) {
    const psg_tensor none = psg_tensor_of(PSG_F32, NULL, -1, NULL);
    if (tensor) *tensor = none;
    if (read_only) *read_only = 0;
    if (!context || !tensor) return psg_fail_null(context, "psg_from_dlpack", "tensor");
    if (!managed) return psg_fail(context, PSG_ERR_ARGUMENT, FROM "managed is NULL");
    psg_tensor view = none;
    PSG_TRY(read_managed(context, managed, &view));
    const int is_read_only = (managed->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
    if (is_read_only && !read_only) {
        return psg_fail(context, PSG_ERR_ARGUMENT, FROM "the tensor is read-only, and read_only is NULL");
    }
    if (read_only) *read_only = is_read_only;
    *tensor = view;
    return PSG_OK;
}

void psg_dlpack_release(DLManagedTensorVersioned *managed) {
    if (managed && managed->deleter) managed->deleter(managed);
}
