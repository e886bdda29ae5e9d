#include "base/floats.h"
#include "io/npy_set.h"

psg_status psg_npy_read(psg_context *context, const char *path, psg_file_access access, psg_tensors **tensors) {
    PSG_DEFAULT_FLOATS;
    const psg_source source = { context, "psg_npy_read", path };
    psg_reading r;
    psg_status status = psg_reading_check(&source, access, tensors);
    if (status) return status;
    status = psg_reading_begin(&source, &r);
    psg_npy_array array = { .name = "", .extent = { .held = r.bytes, .size = r.bytes } };
    if (!status) status = psg_npy_set_read(&r, &array, 1, access, INT64_MAX);
    return psg_reading_end(&r, status, tensors);
}
