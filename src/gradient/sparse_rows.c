#include "gradient/sparse_rows.h"

#include <math.h>
#include <string.h>

/* ---- sorting: insertion in short runs, then merges ---- */

static void insert_run(psg_entry *entries, int64_t count) {
    for (int64_t i = 1; i < count; i++) {
        psg_entry moved = entries[i];
        int64_t k = i;
        for (; k > 0 && entries[k - 1].row > moved.row; k--) entries[k] = entries[k - 1];
        entries[k] = moved;
    }
}

static void merge(const psg_entry *left, int64_t left_count, const psg_entry *right, int64_t right_count,
                  psg_entry *out) {
    const psg_entry *left_end = left + left_count, *right_end = right + right_count;
    while (left < left_end && right < right_end) {
        bool take_right = right->row < left->row;
        *out++ = take_right ? *right : *left;
        right += take_right;
        left += !take_right;
    }
    memcpy(out, left, (size_t)(left_end - left) * sizeof *out);
    memcpy(out + (left_end - left), right, (size_t)(right_end - right) * sizeof *out);
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Stable, and entries come in ascending `at`. */
void psg_sort_entries(psg_entry *entries, psg_entry *spare, int64_t count) {
    const int64_t run = 8;
    psg_entry *from = entries, *to = spare;
    for (int64_t i = 0; i < count; i += run) insert_run(entries + i, smaller(run, count - i));
    for (int64_t width = run; width < count; width *= 2) {
        for (int64_t i = 0; i < count; i += 2 * width) {
            int64_t left = smaller(width, count - i), right = smaller(width, count - i - left);
            merge(from + i, left, from + i + left, right, to + i);
        }
        psg_entry *swap = from;
        from = to;
        to = swap;
    }
    if (from != entries) memcpy(entries, from, (size_t)count * sizeof *entries);
}

int64_t psg_sparse_entries(const psg_piece *p, int64_t n, psg_entry *entries) {
    int64_t count = 0;
    for (int64_t t = 0; t < p->positions; t++) {
        int64_t id = psg_id_at(&p->ids, n, t);
        if (id >= 0) entries[count++] = (psg_entry){ id, t };
    }
    psg_sort_entries(entries, entries + p->positions, count);
    return count;
}

int64_t psg_run_end(const psg_entry *entries, int64_t first, int64_t count) {
    int64_t end = first + 1;
    while (end < count && entries[end].row == entries[first].row) end++;
    return end;
}

void psg_add_sparse_row(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, int64_t t, int64_t first,
                        int64_t count, double weight, double *sums) {
    const void *row = psg_elements(psg_row(&p->g, p->dtype, n, t), p->dtype, first * p->g.step);
    if (p->g.step == 1) {
        kernels->add_to_f64((size_t)count, weight, row, sums);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        kernels->add_to_f64(1, weight, psg_elements(row, p->dtype, i * p->g.step), sums + i);
    }
}

/* ---- the norm ---- */

typedef struct row_run {
    const psg_piece *piece;
    const psg_kernel_table *kernels, *doubles;
    int64_t n;
    const psg_entry *entry;   /* of one row */
    int64_t count;
} row_run;

static double square_of_run(const row_run *r, double *sums, double *lengths) {
    const int64_t room = (int64_t)(PSG_TILE_BYTES / sizeof(double));
    double square = 0;
    for (int64_t first = 0; first < r->piece->g.columns; first += room) {
        int64_t count = smaller(room, r->piece->g.columns - first);
        memset(sums, 0, (size_t)count * sizeof *sums);
        for (int64_t k = 0; k < r->count; k++) {
            psg_add_sparse_row(r->kernels, r->piece, r->n, r->entry[k].at, first, count, 1.0, sums);
        }
        square += r->doubles->dot((size_t)count, sums, sums);
    }
    for (int64_t k = 0; r->count > 1 && k < r->count; k++) {
        const void *row = psg_row(&r->piece->g, r->piece->dtype, r->n, r->entry[k].at);
        double own = 0;
        for (int64_t i = 0; r->piece->g.step != 1 && i < r->piece->g.columns; i++) {
            own += r->kernels->sum_squares_bound(1, psg_elements(row, r->piece->dtype, i * r->piece->g.step));
        }
        if (r->piece->g.step == 1) own = r->kernels->sum_squares_bound((size_t)r->piece->g.columns, row);
        *lengths += sqrt(own);
    }
    return square;
}

double psg_sparse_square(psg_context *context, const psg_piece *p, int64_t n, double *lengths, void *workspace) {
    psg_entry *entries = workspace;
    double *sums = psg_tile_memory(workspace), square = 0;
    int64_t count = psg_sparse_entries(p, n, entries);
    row_run r = { .piece = p, .kernels = context->kernels[p->dtype], .doubles = context->kernels[PSG_F64], .n = n };
    for (int64_t first = 0; first < count; first += r.count) {
        r.entry = entries + first;
        r.count = psg_run_end(entries, first, count) - first;
        if (r.count == 1 && p->g.step == 1) {
            const void *row = psg_row(&p->g, p->dtype, n, r.entry->at);
            square += r.kernels->dot((size_t)p->g.columns, row, row);
        } else {
            square += square_of_run(&r, sums, lengths);
        }
    }
    return square;
}

/* ---- all blocks ---- */

int64_t psg_sparse_width(const psg_gradient *gradient) {
    int64_t width = 1;
    for (int d = 1; d < gradient->rank; d++) width *= gradient->shape[d];
    return width;
}

bool psg_is_row_sparse(const psg_gradient *gradient) {
    int64_t width = psg_sparse_width(gradient);
    if (gradient->rank < 1) return false;
    for (size_t k = 0; k < gradient->block_count; k++) {
        const psg_block *b = &gradient->blocks[k];
        if (b->form != PSG_SPARSE_ROWS) return false;
        if (!width) continue;
        int64_t column = b->offset % width, p = b->backprop.shape[b->backprop.rank - 1];
        if (b->row_stride % width || column + p > width) return false;
    }
    return true;
}

static int64_t positions_of(const psg_block *b) { return b->ids.shape[1]; }

/* `at` counts the positions of all blocks, one block after another. */
static int64_t all_entries(const psg_gradient *gradient, int64_t n, int64_t width, psg_entry *entries) {
    int64_t count = 0, before = 0;
    for (size_t k = 0; k < gradient->block_count; k++) {
        const psg_block *b = &gradient->blocks[k];
        psg_ids ids = psg_ids_of(b);
        for (int64_t t = 0; t < positions_of(b); t++) {
            int64_t id = psg_id_at(&ids, n, t);
            if (id >= 0) entries[count++] = (psg_entry){ (b->offset + id * b->row_stride) / width, before + t };
        }
        before += positions_of(b);
    }
    psg_sort_entries(entries, entries + before, count);
    return count;
}

/* Adds the row of one entry where it lies within columns [first, first + count). */
static void add_entry(const psg_kernel_table *kernels, const psg_gradient *gradient, int64_t n, int64_t at,
                      int64_t width, int64_t first, int64_t count, double *sums) {
    size_t k = 0;
    for (; at >= positions_of(&gradient->blocks[k]); k++) at -= positions_of(&gradient->blocks[k]);
    psg_piece p = psg_piece_of(gradient, k);
    int64_t column = p.offset % width, from = first > column ? first : column;
    int64_t to = smaller(first + count, column + p.g.columns);
    if (from >= to) return;
    psg_add_sparse_row(kernels, &p, n, at, from - column, to - from, p.scale, sums + (from - first));
}

int64_t psg_collect_rows(psg_context *context, const psg_gradient *gradient, int64_t n, double scale, int64_t *ids,
                         void *rows, psg_entry *entries, void *workspace) {
    const int64_t width = psg_sparse_width(gradient), room = (int64_t)(PSG_TILE_BYTES / sizeof(double));
    const psg_kernel_table *kernels = context->kernels[gradient->dtype];
    double *sums = psg_tile_memory(workspace);
    int64_t count = width ? all_entries(gradient, n, width, entries) : 0, found = 0;
    for (int64_t run = 0, end; run < count; run = end, found++) {
        end = psg_run_end(entries, run, count);
        ids[found] = entries[run].row;
        for (int64_t first = 0; first < width; first += room) {
            int64_t part = smaller(room, width - first);
            memset(sums, 0, (size_t)part * sizeof *sums);
            for (int64_t k = run; k < end; k++) {
                add_entry(kernels, gradient, n, entries[k].at, width, first, part, sums);
            }
            kernels->from_f64((size_t)part, scale, sums,
                              psg_elements_mutable(rows, gradient->dtype, found * width + first), false);
        }
    }
    return found;
}
