#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "base/shapes.h"
#include "io/npy_header.h"
#include "io/row_major.h"

static psg_status write_file(psg_context *context, const psg_source *to, const psg_tensor *tensor, char *stage) {
    char header[PSG_NPY_MOST_WRITTEN];
    psg_file file;
    psg_status status = psg_file_begin(context, to->function, to->path, &file);
    if (status) return status;
    status = psg_file_write(&file, header, psg_npy_header_put(tensor, header));
    if (!status) psg_row_major(tensor, stage, psg_write_piece, &file);
    return psg_file_commit(&file);
}

psg_status psg_npy_write(psg_context *context, const char *path, const psg_tensor *tensor) {
    PSG_DEFAULT_FLOATS;
    const psg_source to = { context, "psg_npy_write", path };
    char fault[PSG_FAULT_TEXT];
    if (!context) return PSG_ERR_ARGUMENT;
    if (!path) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: path is NULL", to.function);
    if (!tensor) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: tensor is NULL", to.function);
    if (!psg_tensor_is_valid(tensor)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: tensor is %s", to.function, psg_tensor_fault(tensor, fault));
    }
    char *stage = psg_alloc(context, PSG_ROW_MAJOR_STAGE);
    if (!stage) return psg_fail_memory(context, to.function, PSG_ROW_MAJOR_STAGE);
    psg_status status = write_file(context, &to, tensor, stage);
    psg_free(context, stage);
    return status;
}
