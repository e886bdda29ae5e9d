/* Sums over samples of sparse rows.  A task owns some rows and columns of the parameter and adds every position that
 * names one of its rows, samples and positions in order, in double: straight into an output of doubles, else into a
 * tile that is rounded once. */
#include <string.h>

#include "base/parallel.h"
#include "gradient/sparse_rows.h"

typedef struct job {
    psg_context *context;
    const psg_piece *piece;
    const double *weights;
    bool squares, accumulate;
    psg_tensor out;
    int64_t rows, columns;     /* of a task */
    int64_t across;            /* tasks side by side */
} job;

/* Columns of a task: sums of duplicates are squared in an array of this. */
enum { MOST_COLUMNS = 64 };

/* What a task adds to: row v at sums + (v - first_row) * stride. */
typedef struct target {
    int64_t first_row, last_row, first, columns;
    double *sums;
    int64_t stride;
    unsigned char *touched;    /* a tile's rows that hold something; NULL: sums is the output */
} target;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static double *row_of(const target *t, int64_t id) {
    double *row = t->sums + (id - t->first_row) * t->stride;
    if (t->touched && !t->touched[id - t->first_row]) {
        t->touched[id - t->first_row] = 1;
        memset(row, 0, (size_t)t->columns * sizeof *row);
    }
    return row;
}

static bool is_mine(const target *t, int64_t id) { return id >= t->first_row && id < t->last_row; }

static void add_sample(const job *j, int64_t n, double weight, const target *to) {
    const psg_piece *p = j->piece;
    for (int64_t t = 0; t < p->positions; t++) {
        int64_t id = psg_id_at(&p->ids, n, t);
        if (!is_mine(to, id)) continue;
        psg_add_sparse_row(j->context->kernels[p->dtype], p, n, t, to->first, to->columns, weight * p->scale,
                           row_of(to, id));
    }
}

/* Duplicates are summed before they are squared. */
static void add_squares(const job *j, int64_t n, const target *to, psg_entry *entries) {
    const psg_piece *p = j->piece;
    double sum[MOST_COLUMNS];
    int64_t count = psg_sparse_entries(p, n, entries);
    for (int64_t first = 0, end; first < count; first = end) {
        end = psg_run_end(entries, first, count);
        if (!is_mine(to, entries[first].row)) continue;
        memset(sum, 0, sizeof sum);
        for (int64_t k = first; k < end; k++) {
            psg_add_sparse_row(j->context->kernels[p->dtype], p, n, entries[k].at, to->first, to->columns, p->scale,
                               sum);
        }
        j->context->kernels[PSG_F64]->add_squares_to_f64((size_t)to->columns, 1.0, sum, row_of(to, entries[first].row));
    }
}

static void add_samples(const job *j, const target *to, void *workspace) {
    for (int64_t n = 0; n < j->piece->batch; n++) {
        double weight = j->weights ? j->weights[n] : 1.0;
        if (j->squares) add_squares(j, n, to, workspace);
        else if (weight != 0) add_sample(j, n, weight, to);
    }
}

/* ---- outputs ---- */

static void *out_row(const job *j, const target *t, int64_t id) {
    return psg_elements_mutable(j->out.data, j->out.dtype, j->piece->offset + id * j->piece->row_stride + t->first);
}

static void add_directly(const job *j, target t, void *workspace) {
    t.sums = out_row(j, &t, t.first_row);
    t.stride = j->piece->row_stride;
    for (int64_t id = t.first_row; id < t.last_row && !j->accumulate; id++) {
        memset(out_row(j, &t, id), 0, (size_t)t.columns * sizeof(double));
    }
    add_samples(j, &t, workspace);
}

static void add_through_tile(const job *j, target t, void *workspace) {
    size_t size = psg_dtype_size(j->out.dtype);
    t.sums = psg_tile_memory(workspace);
    t.stride = t.columns;
    t.touched = psg_small_memory(workspace);
    memset(t.touched, 0, (size_t)(t.last_row - t.first_row));
    add_samples(j, &t, workspace);
    for (int64_t id = t.first_row; id < t.last_row; id++) {
        if (t.touched[id - t.first_row]) {
            j->context->kernels[j->out.dtype]->from_f64((size_t)t.columns, 1.0, row_of(&t, id), out_row(j, &t, id),
                                                        j->accumulate);
        } else if (!j->accumulate) {
            memset(out_row(j, &t, id), 0, (size_t)t.columns * size);
        }
    }
}

static void run_task(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    const psg_piece *p = j->piece;
    int64_t row = (int64_t)index / j->across * j->rows, column = (int64_t)index % j->across * j->columns;
    target t = { .first_row = row, .last_row = smaller(row + j->rows, p->rows), .first = column,
                 .columns = smaller(j->columns, p->g.columns - column) };
    void *workspace = j->context->workspace[slot];
    if (j->out.dtype == PSG_F64) add_directly(j, t, workspace);
    else add_through_tile(j, t, workspace);
}

void psg_sum_sparse(psg_context *context, const psg_piece *piece, const double *weights, bool squares, bool accumulate,
                    const psg_tensor *out) {
    if (!piece->rows || !piece->g.columns) return;
    job j = { .context = context, .piece = piece, .weights = weights, .squares = squares, .accumulate = accumulate,
              .out = *out };
    int64_t half = piece->g.columns <= MOST_COLUMNS ? (piece->g.columns + 1) / 2 : MOST_COLUMNS;
    j.columns = half < 16 ? smaller(piece->g.columns, 16) : half;
    j.across = (piece->g.columns + j.columns - 1) / j.columns;
    int64_t tile = smaller((int64_t)(PSG_TILE_BYTES / sizeof(double)) / j.columns, (int64_t)PSG_SMALL_BYTES);
    j.rows = out->dtype == PSG_F64 ? psg_even_part(piece->rows, (piece->rows + 3) / 4, 1)
                                   : psg_even_part(piece->rows, tile, 1);
    psg_parallel(context, (size_t)((piece->rows + j.rows - 1) / j.rows * j.across), run_task, &j);
}
