#include "gradient/range.h"

#include "gradient/factored.h"

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void add_rows_range(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, double scale, int64_t first,
                           int64_t last, void *out) {
    int64_t from = larger(first, p->offset), to = smaller(last, p->offset + p->g.columns);
    if (from >= to) return;
    void *target = psg_elements_mutable(out, p->dtype, from - first);
    for (int64_t t = 0; t < p->positions; t++) {
        const void *row = psg_elements(psg_row(&p->g, p->dtype, n, t), p->dtype, (from - p->offset) * p->g.step);
        kernels->scale_row((size_t)(to - from), scale, row, p->g.step, target, true);
    }
}

/* Duplicates of a row are added in the order of their positions. */
static void add_sparse_range(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, double scale,
                             int64_t first, int64_t last, void *out) {
    for (int64_t t = 0; t < p->positions; t++) {
        int64_t id = psg_id_at(&p->ids, n, t), start = p->offset + id * p->row_stride;
        int64_t from = larger(first, start), to = smaller(last, start + p->g.columns);
        if (id < 0 || from >= to) continue;
        const void *row = psg_elements(psg_row(&p->g, p->dtype, n, t), p->dtype, (from - start) * p->g.step);
        kernels->scale_row((size_t)(to - from), scale, row, p->g.step,
                           psg_elements_mutable(out, p->dtype, from - first), true);
    }
}

/* The columns of row i that lie in [first, last). */
static psg_rectangle part_of_row(const psg_piece *p, int64_t i, int64_t first, int64_t last) {
    int64_t start = p->offset + i * p->row_stride;
    int64_t from = larger(first - start, 0), to = smaller(last - start, p->a.columns);
    return (psg_rectangle){ i, 1, from, larger(to - from, 0) };
}

/* Whole rows are taken together; a range may begin and end inside a row. */
static void add_factored_range(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, double scale,
                               int64_t first, int64_t last, void *out, void *workspace) {
    int64_t stride = larger(p->row_stride, 1);
    int64_t i = larger((first - p->offset) / stride, 0);
    while (i < p->g.columns && p->offset + i * p->row_stride < last) {
        psg_rectangle at = part_of_row(p, i, first, last);
        if (at.columns == p->a.columns) {
            int64_t rows = (last - p->offset - p->a.columns - i * p->row_stride) / stride + 1;
            at.rows = smaller(rows, p->g.columns - i);
        }
        int64_t position = p->offset + i * p->row_stride + at.column - first;
        if (at.columns) {
            psg_store_rectangle(kernels, p, n, &at, scale, psg_elements_mutable(out, p->dtype, position),
                                p->row_stride, true, false, workspace);
        }
        i += at.rows;
    }
}

void psg_add_piece_range(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n, double scale,
                         int64_t first, int64_t last, void *out, void *workspace) {
    scale *= piece->scale;
    switch (piece->form) {
    case PSG_ROWS: add_rows_range(kernels, piece, n, scale, first, last, out); break;
    case PSG_SPARSE_ROWS: add_sparse_range(kernels, piece, n, scale, first, last, out); break;
    default: add_factored_range(kernels, piece, n, scale, first, last, out, workspace);
    }
}

void psg_add_range(psg_context *context, const psg_gradient *gradient, int64_t n, double scale, int64_t first,
                   int64_t last, void *out, void *workspace) {
    for (size_t k = 0; k < gradient->block_count; k++) {
        psg_piece piece = psg_piece_of(gradient, k);
        psg_add_piece_range(context->kernels[gradient->dtype], &piece, n, scale, first, last, out, workspace);
    }
}
