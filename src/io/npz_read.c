#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "io/npy_set.h"
#include "io/zip_directory.h"

/* What numpy puts behind the name of an array. */
static const char suffix[] = ".npy";

static psg_status take_member(const psg_reading *r, const psg_zip_member *m, psg_npy_array *array) {
    const size_t length = strlen(m->name), tail = sizeof suffix - 1;
    if (length < tail || strcmp(m->name + length - tail, suffix)) {
        return psg_fail_format(r->source.context, r->source.function, r->source.path,
                               "byte %lld: member \"%.100s\": its name does not end with %s", (long long)m->place,
                               m->name, suffix);
    }
    m->name[length - tail] = 0;
    *array = (psg_npy_array){ .name = m->name, .extent = m->extent };
    return PSG_OK;
}

static psg_status read_archive(const psg_reading *r, psg_arena *scratch, psg_file_access access, int64_t most) {
    psg_zip_member *members;
    size_t count;
    psg_status status = psg_zip_directory_read(r, scratch, &members, &count);
    if (status) return status;
    psg_npy_array *arrays = psg_arena_take(scratch, count * sizeof *arrays);
    if (!arrays) return psg_fail_memory(r->source.context, r->source.function, count * sizeof *arrays);
    for (size_t k = 0; k < count && !status; k++) status = take_member(r, &members[k], &arrays[k]);
    return status ? status : psg_npy_set_read(r, arrays, count, access, most);
}

psg_status psg_npz_read(psg_context *context, const char *path, psg_file_access access, int64_t max_bytes,
                        psg_tensors **tensors) {
    PSG_DEFAULT_FLOATS;
    const psg_source source = { context, "psg_npz_read", path };
    psg_reading r;
    psg_arena scratch;
    psg_status status = psg_reading_check(&source, access, tensors);
    if (status) return status;
    if (max_bytes < 0) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_bytes %lld is negative", source.function,
                        (long long)max_bytes);
    }
    psg_arena_init(&scratch, context);
    status = psg_reading_begin(&source, &r);
    if (!status) status = read_archive(&r, &scratch, access, max_bytes ? max_bytes : INT64_MAX);
    psg_arena_release(&scratch);
    return psg_reading_end(&r, status, tensors);
}
