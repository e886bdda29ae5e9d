#include "io/npy_values.h"

#include <string.h>

#include "base/shapes.h"

enum { CHUNK = PSG_NPY_STAGE / 2 / 8 };   /* elements; half of the stage is for what they become */

/* ---- the first index runs fastest in the file, the last one in memory ---- */

typedef struct walk {
    psg_tensor view;
    int64_t index[PSG_MAX_RANK];
    char *at;                      /* of the element at index */
} walk;

static void advance(walk *w, int64_t size) {
    for (int d = 0; d < w->view.rank; d++) {
        w->at += w->view.stride[d] * size;
        if (++w->index[d] < w->view.shape[d]) return;
        w->at -= w->view.stride[d] * size * w->view.shape[d];
        w->index[d] = 0;
    }
}

static void scatter(walk *w, const char *elements, size_t count) {
    const size_t size = psg_dtype_size(w->view.dtype);
    for (size_t k = 0; k < count; k++) {
        memcpy(w->at, elements + k * size, size);
        advance(w, (int64_t)size);
    }
}

/* ---- chunks ---- */

static psg_status check_bools(const psg_extent_stream *s, const unsigned char *bytes, size_t count) {
    for (size_t k = 0; k < count; k++) {
        if (bytes[k] <= 1) continue;
        return psg_extent_refuse(s->reading, s->extent, s->given - (int64_t)(count - k),
                                 "a truth value is %u, only 0 and 1 may be", bytes[k]);
    }
    return PSG_OK;
}

/* row_major NULL: to where w is. */
static psg_status read_chunk(psg_extent_stream *s, const psg_npy_header *h, char *stage, size_t count, char *row_major,
                             walk *w) {
    char *widened = row_major ? row_major : stage + PSG_NPY_STAGE / 2;
    psg_status status = psg_extent_read(s, stage, count * h->type->size);
    if (!status && psg_npy_type_is_bool(h->type)) status = check_bools(s, (unsigned char *)stage, count);
    if (status) return status;
    if (h->type->widen) h->type->widen(stage, widened, count);
    if (!row_major) scatter(w, h->type->widen ? widened : stage, count);
    return PSG_OK;
}

psg_status psg_npy_values_read(psg_extent_stream *s, const psg_npy_header *h, char *stage, void *memory) {
    walk w = { .view = psg_npy_view(h, memory), .at = memory };
    size_t left = (size_t)psg_tensor_count(&w.view);
    if (!h->type->widen && !h->is_fortran) return psg_extent_read(s, memory, left * h->type->size);
    psg_status status = PSG_OK;
    for (char *next = memory; left && !status;) {
        const size_t count = left < CHUNK ? left : CHUNK;
        status = read_chunk(s, h, stage, count, h->is_fortran ? NULL : next, &w);
        next += count * psg_dtype_size(h->type->dtype);
        left -= count;
    }
    return status;
}
