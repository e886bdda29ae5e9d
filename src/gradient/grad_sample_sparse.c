/* grad_sample_sparse: the rows that a sample touches, instead of the whole table. */
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/shape.h"
#include "gradient/sparse_rows.h"

static const char *const function = "psg_grad_sample_sparse";

typedef struct collect_job {
    psg_context *context;
    const psg_gradient *gradient;
    const psg_piece *pieces;   /* one a block */
    double scale;
    int64_t positions, width;
    int64_t *ids, *counts;
    void *rows;
    psg_entry *entries;        /* 2 T a worker */
} collect_job;

/* ---- blocks inside the rows of a parameter (V, *D) ---- */

static int64_t width_of(const psg_gradient *gradient) {
    int64_t width = 1;
    for (int d = 1; d < gradient->rank; d++) width *= gradient->shape[d];
    return width;
}

static bool is_row_sparse(const psg_gradient *gradient) {
    int64_t width = width_of(gradient);
    if (gradient->rank < 1) return false;
    for (size_t k = 0; k < gradient->block_count && width; k++) {
        const psg_block *b = &gradient->blocks[k];
        if (b->row_stride % width || b->offset % width + psg_features_of(&b->backprop) > width) return false;
    }
    return true;
}

/* ---- one sample ---- */

static int64_t find_entries(const collect_job *j, int64_t n, psg_entry *entries) {
    int64_t count = 0;
    for (size_t k = 0; k < j->gradient->block_count && j->width; k++) {
        const psg_piece *p = &j->pieces[k];
        int64_t live = psg_live_positions(p, n);
        for (int64_t t = 0; t < live; t++) {
            int64_t id = psg_id_at(&p->ids, n, t), row = (p->place.offset + id * p->place.stride) / j->width;
            if (id >= 0) entries[count++] = (psg_entry){ row, (uint32_t)k, (uint32_t)t };
        }
    }
    psg_sort_entries(entries, entries + j->positions, count);
    return count;
}

/* Adds the row of one entry where it lies within columns [first, first + count). */
static void add_entry(const collect_job *j, int64_t n, const psg_entry *entry, int64_t first, int64_t count,
                      double *sums) {
    const psg_piece *p = &j->pieces[entry->block];
    int64_t column = p->place.offset % j->width, from = psg_most(first, column);
    int64_t to = psg_least(first + count, column + p->g.columns);
    if (from >= to) return;
    const void *row = psg_elements(psg_row(&p->g, p->dtype, n, entry->t), p->dtype, (from - column) * p->g.step);
    psg_add_strided(j->context->kernels[p->dtype], p->dtype, p->scale, row, p->g.step, to - from, sums + (from - first));
}

static void collect_row(const collect_job *j, int64_t n, const psg_entry *entries, int64_t count, void *row,
                        double *sums) {
    const int64_t room = (int64_t)(PSG_TILE_BYTES / sizeof(double));
    for (int64_t first = 0; first < j->width; first += room) {
        int64_t some = psg_least(room, j->width - first);
        memset(sums, 0, (size_t)some * sizeof *sums);
        for (int64_t k = 0; k < count; k++) add_entry(j, n, &entries[k], first, some, sums);
        j->context->kernels[j->gradient->dtype]->from_f64((size_t)some, j->scale, sums,
                                                          psg_elements_mutable(row, j->gradient->dtype, first), false);
    }
}

static void run_sample(void *argument, size_t n, unsigned slot) {
    const collect_job *j = argument;
    psg_entry *entries = j->entries + 2 * j->positions * (int64_t)slot;
    int64_t *ids = j->ids + (int64_t)n * j->positions, found = 0, count = find_entries(j, (int64_t)n, entries);
    for (int64_t first = 0, end; first < count; first = end, found++) {
        end = psg_run_end(entries, first, count);
        void *row = psg_elements_mutable(j->rows, j->gradient->dtype, ((int64_t)n * j->positions + found) * j->width);
        ids[found] = entries[first].row;
        collect_row(j, (int64_t)n, entries + first, end - first, row, psg_tile_memory(j->context->workspace[slot]));
    }
    j->counts[n] = found;
    for (; found < j->positions; found++) ids[found] = -1;
}

/* ---- the question ---- */

static psg_status check_output(psg_context *context, const char *name, const psg_tensor *out, psg_dtype dtype, int rank,
                               const int64_t *shape) {
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(out) || !psg_shape_equal(out->rank, out->shape, rank, shape) ||
        !psg_tensor_is_contiguous(out)) {
        bool readable = out && out->rank >= 0 && out->rank <= PSG_MAX_RANK;
        return psg_fail(context, PSG_ERR_SHAPE, "%s: %s must be contiguous of shape %s, is %s", function, name,
                        psg_shape_text(rank, shape, want), readable ? psg_tensor_text(out, have) : "no valid view");
    }
    if (out->dtype != dtype) {
        return psg_fail(context, PSG_ERR_DTYPE, "%s: %s is %s, must be %s", function, name,
                        psg_dtype_name(out->dtype), psg_dtype_name(dtype));
    }
    return PSG_OK;
}

static psg_status check_outputs(const collect_job *j, const psg_tensor *ids, const psg_tensor *rows) {
    int64_t shape[3] = { j->gradient->batch_size, j->positions, j->width };
    psg_status status = check_output(j->context, "ids", ids, PSG_I64, 2, shape);
    if (!status) status = check_output(j->context, "rows", rows, j->gradient->dtype, 3, shape);
    if (!status && !j->counts) return psg_fail(j->context, PSG_ERR_ARGUMENT, "%s: counts is NULL", function);
    return status;
}

static psg_status check_blocks(psg_context *context, const psg_gradient *gradient) {
    for (size_t k = 0; k < gradient->block_count; k++) {
        const psg_room *room = psg_room_of(gradient->blocks[k].form);
        if (room == &psg_sparse_room) continue;
        return psg_fail(context, PSG_ERR_UNSUPPORTED, "%s: block %zu is %s, must be sparse rows like every block; "
                        "psg_grad_sample takes all forms", function, k, room->name);
    }
    if (is_row_sparse(gradient)) return PSG_OK;
    return psg_fail(context, PSG_ERR_UNSUPPORTED, "%s: every block must be sparse rows inside the rows of a parameter "
                    "of shape (V, *D)", function);
}

static psg_status take_memory(collect_job *j) {
    size_t pieces = j->gradient->block_count * sizeof(psg_piece);
    size_t entries = (size_t)j->positions * 2 * sizeof(psg_entry) * j->context->threads;
    psg_piece *views = psg_arena_reset(&j->context->question) ? NULL : psg_arena_take(&j->context->question, pieces);
    j->entries = psg_arena_take(&j->context->question, entries);
    if (!views || !j->entries) return psg_fail_memory(j->context, function, pieces + entries);
    for (size_t k = 0; k < j->gradient->block_count; k++) {
        views[k] = psg_piece_of(j->gradient, &j->gradient->blocks[k]);
    }
    j->pieces = views;
    return PSG_OK;
}

psg_status psg_grad_sample_sparse(psg_context *context, const psg_gradient *gradient, double scale,
                                  const psg_tensor *ids, const psg_tensor *rows, int64_t *counts) {
    psg_status status = psg_check_questions(context, function, &gradient, 1);
    if (!status) status = check_blocks(context, gradient);
    if (status) return status;
    collect_job j = { .context = context, .gradient = gradient, .scale = scale,
                      .positions = psg_gradient_positions(gradient), .width = width_of(gradient), .counts = counts };
    status = check_outputs(&j, ids, rows);
    if (!status) status = take_memory(&j);
    if (status) return status;
    j.ids = ids->data;
    j.rows = rows->data;
    psg_parallel(context, (size_t)gradient->batch_size, run_sample, &j);
    psg_arena_reset(&context->question);
    return PSG_OK;
}
