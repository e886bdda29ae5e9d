#include "io/row_major.h"

#include "base/file.h"
#include "base/shapes.h"

/* What lies together is taken as it is, what fits the stage through it, the rest in halves. */
psg_status psg_row_major(const psg_tensor *t, char *stage, psg_take_bytes take, void *user) {
    size_t bytes = (size_t)psg_tensor_count(t) * psg_dtype_size(t->dtype);
    if (psg_tensor_is_contiguous(t)) return take(user, t->data, bytes);
    if (bytes <= PSG_ROW_MAJOR_STAGE) {
        psg_tensor gathered = psg_tensor_of(t->dtype, stage, t->rank, t->shape);
        psg_tensor_copy(t, &gathered);
        return take(user, stage, bytes);
    }
    psg_tensor first = t->shape[0] == 1 ? psg_tensor_at(t, 0) : *t, second = *t;
    if (t->shape[0] == 1) return psg_row_major(&first, stage, take, user);
    first.shape[0] = t->shape[0] / 2;
    second.shape[0] -= first.shape[0];
    second.data = psg_tensor_offset(t, first.shape[0] * t->stride[0]);
    psg_status status = psg_row_major(&first, stage, take, user);
    return status ? status : psg_row_major(&second, stage, take, user);
}

psg_status psg_write_piece(void *file, const void *bytes, size_t count) { return psg_file_write(file, bytes, count); }
