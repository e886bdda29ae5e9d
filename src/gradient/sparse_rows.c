/* Sparse rows: gradient[n][ids[n, t]] += g[n, t].  A question sorts each sample's positions by row once; what shares a
 * row is summed in double before anything else happens to it. */
#include "gradient/sparse_rows.h"

#include <math.h>
#include <string.h>

#include "base/shape.h"
#include "gradient/sink.h"

/* Position t of a piece of a sample belongs to a row. */
typedef struct entry {
    int64_t row;
    uint32_t piece, t;
} entry;

/* ---- checks, views ---- */

/* The rows that fit between the block's offset and the parameter's end. */
static int64_t row_count(const psg_block *b, int64_t numel) {
    int64_t p = psg_features_of(&b->backprop);
    if (b->offset > numel - p) return 0;
    return b->row_stride > 0 ? (numel - p - b->offset) / b->row_stride + 1 : 1;
}

static psg_status check_ids_view(const psg_check *at, const psg_block *b) {
    const psg_tensor *ids = &b->ids;
    char text[PSG_SHAPE_TEXT];
    if (ids->dtype != PSG_I32 && ids->dtype != PSG_I64) {
        return psg_check_fail(at, PSG_ERR_DTYPE, "ids is %s, must be i32 or i64", psg_dtype_name(ids->dtype));
    }
    if (!psg_tensor_is_valid(ids) || ids->rank != 2 || ids->shape[0] != at->gradient->batch_size ||
        ids->shape[1] != psg_positions_of(&b->backprop)) {
        return psg_check_fail(at, PSG_ERR_SHAPE, "ids must have shape (%lld, %lld), has %s",
                              (long long)at->gradient->batch_size, (long long)psg_positions_of(&b->backprop),
                              ids->rank >= 0 && ids->rank <= PSG_MAX_RANK ? psg_tensor_text(ids, text)
                                                                          : "no valid shape");
    }
    return PSG_OK;
}

static psg_status check_ids(const psg_check *at, const psg_block *b, int64_t rows) {
    psg_ids ids = psg_ids_of(b);
    for (int64_t n = 0; n < at->gradient->batch_size; n++) {
        for (int64_t t = 0; t < b->ids.shape[1]; t++) {
            if (psg_id_at(&ids, n, t) < rows) continue;
            return psg_check_fail(at, PSG_ERR_ARGUMENT, "ids[%lld, %lld] is %lld, the parameter has %lld rows",
                                  (long long)n, (long long)t, (long long)psg_id_at(&ids, n, t), (long long)rows);
        }
    }
    return PSG_OK;
}

static psg_status check(const psg_check *at, const psg_block *b) {
    int64_t p = psg_features_of(&b->backprop);
    psg_status status = check_ids_view(at, b);
    if (status || !p) return status;
    if (b->offset < 0 || b->row_stride < p) {
        return psg_check_fail(at, PSG_ERR_SHAPE, "offset must be >= 0 and row_stride at least the length of a row");
    }
    return check_ids(at, b, row_count(b, at->numel));
}

static void view(const psg_block *b, int64_t numel, psg_piece *piece) {
    piece->ids = psg_ids_of(b);
    piece->place = (psg_place){ b->offset, piece->g.columns ? row_count(b, numel) : 0, piece->g.columns, b->row_stride };
}

/* ---- a sample's entries, in order ---- */

static void merge(const entry *from, int64_t middle, int64_t end, entry *to) {
    for (int64_t left = 0, right = middle; left < middle || right < end;) {
        bool take_right = left == middle || (right < end && from[right].row < from[left].row);
        *to++ = take_right ? from[right++] : from[left++];
    }
}

/* Stable; the upper half of the array is spare. */
static void sort(entry *entries, entry *spare, int64_t count) {
    entry *from = entries, *to = spare;
    for (int64_t width = 1; width < count; width *= 2) {
        for (int64_t i = 0; i < count; i += 2 * width) {
            int64_t end = psg_least(2 * width, count - i);
            merge(from + i, psg_least(width, end), end, to + i);
        }
        entry *swap = from;
        from = to;
        to = swap;
    }
    if (from != entries) memcpy(entries, from, (size_t)count * sizeof *entries);
}

/* B counts, then of each sample its entries and as many spare ones. */
static size_t memory(const psg_part *part) {
    return (size_t)part->batch * (sizeof(int64_t) + 2 * (size_t)psg_part_positions(part) * sizeof(entry));
}

static entry *entries_of(const psg_part *part, int64_t n) {
    return (entry *)(void *)((int64_t *)part->memory + part->batch) + 2 * n * psg_part_positions(part);
}

static int64_t entry_count(const psg_part *part, int64_t n) { return ((const int64_t *)part->memory)[n]; }

static void prepare(const psg_part *part, int64_t n, void *workspace) {
    entry *entries = entries_of(part, n);
    int64_t count = 0;
    (void)workspace;
    for (size_t k = 0; k < part->count; k++) {
        for (int64_t t = 0, live = psg_live(part, k, n); t < live; t++) {
            int64_t id = psg_id_at(&part->pieces[k].ids, n, t);
            if (id >= 0) entries[count++] = (entry){ id, (uint32_t)k, (uint32_t)t };
        }
    }
    sort(entries, entries + psg_part_positions(part), count);
    ((int64_t *)part->memory)[n] = count;
}

/* The first entry of sample n whose row is at least `row`. */
static int64_t first_of(const psg_part *part, int64_t n, int64_t row) {
    const entry *entries = entries_of(part, n);
    int64_t low = 0, high = entry_count(part, n);
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (entries[middle].row < row) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* ---- one row of a sample: entries [first, end) ---- */

typedef struct run {
    const psg_part *part;
    int64_t n;
    const entry *entries;
    int64_t count;
} run;

static run run_at(const psg_part *part, int64_t n, int64_t first) {
    const entry *entries = entries_of(part, n) + first;
    int64_t most = entry_count(part, n) - first, count = 1;
    while (count < most && entries[count].row == entries->row) count++;
    return (run){ part, n, entries, count };
}

static const void *row_of(const run *r, int64_t k, int64_t first) {
    const psg_operand_view *g = &r->part->pieces[r->entries[k].piece].g;
    return psg_at(g, r->part->dtype, r->n, r->entries[k].t, first);
}

static ptrdiff_t step_of(const run *r, int64_t k) { return r->part->pieces[r->entries[k].piece].g.step; }

/* sums = elements [first, first + count) of the row. */
static void sum_run(const run *r, int64_t first, int64_t count, double *sums) {
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int64_t k = 0; k < r->count; k++) {
        psg_add_strided(r->part->kernels, r->part->dtype, 1.0, row_of(r, k, first), step_of(r, k), count, sums);
    }
}

/* Elements of a row at a time: doubles that fit the small memory. */
static const int64_t at_once = (int64_t)(PSG_SMALL_BYTES / sizeof(double));

/* ---- the norm ---- */

static double lengths(const psg_part *part, int64_t n, bool quick) {
    run all = { part, n, entries_of(part, n), entry_count(part, n) };
    double sum = 0;
    (void)quick;
    for (int64_t k = 0; k < all.count; k++) {
        sum += psg_norm_bound(part->kernels, part->dtype, row_of(&all, k, 0), step_of(&all, k), part->place.columns);
    }
    return sum;
}

static long double square_run(const run *r, double *sums) {
    int64_t columns = r->part->place.columns;
    long double square = 0;
    if (r->count == 1) return psg_square_of(r->part->kernels, r->part->dtype, row_of(r, 0, 0), step_of(r, 0), columns);
    for (int64_t first = 0; first < columns; first += at_once) {
        int64_t count = psg_least(at_once, columns - first);
        sum_run(r, first, count, sums);
        square += psg_square_of(r->part->doubles, PSG_F64, sums, 1, count);
    }
    return square;
}

/* Sums in double round by gamma of the entries times their lengths, where rows share one. */
static psg_estimate square(const psg_part *part, int64_t n, void *workspace) {
    long double sum = 0, scale = part->scale;
    int64_t count = entry_count(part, n), runs = 0;
    if (part->context->forced_route == PSG_ROUTE_TILES) return psg_square_by_tiles(part, n, workspace);
    for (int64_t first = 0; first < count; runs++) {
        run r = run_at(part, n, first);
        sum += square_run(&r, psg_small_memory(workspace));
        first += r.count;
    }
    double moved = runs < count ? lengths(part, n, true) : 0;
    return (psg_estimate){ sum * scale * scale, psg_gamma(PSG_F64, (double)count) * moved * fabs(part->scale) };
}

/* ---- writing ---- */

static void write_run(const run *r, double scale, int64_t first, int64_t count, void *out, double *sums) {
    const psg_part *part = r->part;
    if (r->count == 1) {
        part->kernels->scale_row((size_t)count, scale, row_of(r, 0, first), step_of(r, 0), out, true);
        return;
    }
    for (int64_t i = 0; i < count; i += at_once) {
        int64_t some = psg_least(at_once, count - i);
        sum_run(r, first + i, some, sums);
        part->kernels->from_f64((size_t)some, scale, sums, psg_elements_mutable(out, part->dtype, i), true);
    }
}

/* Rows without an entry are not touched: accumulate alone. */
static void write_range(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                        bool accumulate, void *workspace) {
    int64_t stride = psg_most(part->place.stride, 1);
    int64_t at = first_of(part, n, psg_most(0, (first - part->place.offset) / stride - 1));
    (void)accumulate;
    while (at < entry_count(part, n)) {
        run r = run_at(part, n, at);
        int64_t start = part->place.offset + r.entries->row * stride;
        int64_t from = psg_most(first, start), to = psg_least(last, start + part->place.columns);
        if (start >= last) break;
        if (from < to) {
            write_run(&r, scale, from - start, to - from, psg_elements_mutable(out, part->dtype, from - first),
                      psg_small_memory(workspace));
        }
        at += r.count;
    }
}

/* ---- for grad_sample_sparse ---- */

int64_t psg_sparse_rows_of(const psg_part *part, int64_t n, int64_t *rows) {
    int64_t found = 0;
    for (int64_t at = 0; at < entry_count(part, n); found++) {
        run r = run_at(part, n, at);
        rows[found] = r.entries->row;
        at += r.count;
    }
    return found;
}

void psg_sparse_add_row(const psg_part *part, int64_t n, int64_t row, int64_t first, int64_t count, double scale,
                        double *sums) {
    int64_t at = first_of(part, n, row);
    if (at == entry_count(part, n)) return;
    run r = run_at(part, n, at);
    for (int64_t k = 0; k < r.count && r.entries->row == row; k++) {
        psg_add_strided(part->kernels, part->dtype, scale, row_of(&r, k, first), step_of(&r, k), count, sums);
    }
}

/* ---- dot, pairs ---- */

static void dot(const psg_part *part, int64_t first, int64_t count, const void *direction, double *dots,
                void *workspace) {
    (void)workspace;
    for (int64_t n = 0; n < count; n++) {
        double sum = 0;
        int64_t entries = entry_count(part, first + n);
        run r = { part, first + n, entries_of(part, first + n), entries };
        for (int64_t k = 0; k < entries; k++) {
            const void *v = psg_elements(direction, part->dtype,
                                         part->place.offset + r.entries[k].row * part->place.stride);
            sum += psg_strided_dot(part->kernels, part->dtype, row_of(&r, k, 0), step_of(&r, k), v, 1,
                                   part->place.columns);
        }
        dots[n] += part->scale * sum;
    }
}

static bool has_pairs(const psg_part *part, int64_t n) {
    (void)part, (void)n;
    return true;
}

/* <sum of x's entries, sum of y's entries>, both of one row. */
static double pair_of_runs(const run *x, const run *y, double *sums) {
    const int64_t half = at_once / 2, columns = x->part->place.columns;
    double dot = 0;
    if (x->count == 1 && y->count == 1) {
        return psg_strided_dot(x->part->kernels, x->part->dtype, row_of(x, 0, 0), step_of(x, 0), row_of(y, 0, 0),
                               step_of(y, 0), columns);
    }
    for (int64_t first = 0; first < columns; first += half) {
        int64_t count = psg_least(half, columns - first);
        sum_run(x, first, count, sums);
        sum_run(y, first, count, sums + half);
        dot += x->part->doubles->dot((size_t)count, sums, sums + half);
    }
    return dot;
}

static double pair(const psg_part *part, int64_t i, int64_t j, void *workspace) {
    double sum = 0;
    for (int64_t at = 0, to = 0; at < entry_count(part, i) && to < entry_count(part, j);) {
        run x = run_at(part, i, at), y = run_at(part, j, to);
        int64_t left = x.entries->row, right = y.entries->row;
        if (left == right) sum += pair_of_runs(&x, &y, psg_small_memory(workspace));
        at += left <= right ? x.count : 0;
        to += right <= left ? y.count : 0;
    }
    return sum * part->scale * part->scale;
}

/* ---- sums: rows and columns of the parameter a task ---- */

enum { MOST_COLUMNS = 64 };

typedef struct grid {
    int64_t rows, columns, across;
} grid;

/* Tiles of doubles that leave room for a flag a row. */
static grid grid_of(const psg_part *part) {
    int64_t p = part->place.columns, half = p <= MOST_COLUMNS ? (p + 1) / 2 : MOST_COLUMNS;
    grid g = { 0, half < 16 ? psg_least(p, 16) : half, 0 };
    int64_t tile = psg_least((int64_t)(PSG_TILE_BYTES / sizeof(double)) / g.columns, (int64_t)PSG_SMALL_BYTES);
    g.rows = psg_even_part(part->place.rows, psg_least(tile, psg_parts_of(part->place.rows, 4)), 1);
    g.across = psg_parts_of(p, g.columns);
    return g;
}

static int64_t sum_tasks(const psg_part *part) {
    grid g = grid_of(part);
    return psg_parts_of(part->place.rows, g.rows) * g.across;
}

/* A task's rows of doubles, and which of them hold something. */
typedef struct target {
    int64_t row, rows, first, columns;
    double *sums;
    unsigned char *touched;
} target;

static double *target_row(const target *t, int64_t id) {
    double *row = t->sums + (id - t->row) * t->columns;
    if (!t->touched[id - t->row]) memset(row, 0, (size_t)t->columns * sizeof *row);
    t->touched[id - t->row] = 1;
    return row;
}

static void add_sample(const psg_sum *sum, const psg_part *part, int64_t n, double weight, const target *to) {
    double v[MOST_COLUMNS];
    for (int64_t at = first_of(part, n, to->row); at < entry_count(part, n);) {
        run r = run_at(part, n, at);
        if (r.entries->row >= to->row + to->rows) break;
        double *sums = target_row(to, r.entries->row);
        if (r.count == 1 && step_of(&r, 0) == 1 && !sum->squares) {
            psg_sink_add(sum, part->kernels, weight, row_of(&r, 0, to->first), to->columns, sums);
        } else {
            sum_run(&r, to->first, to->columns, v);
            psg_sink_add(sum, part->doubles, weight, v, to->columns, sums);
        }
        at += r.count;
    }
}

static void close_target(const psg_part *part, const target *t) {
    for (int64_t id = t->row; id < t->row + t->rows; id++) {
        if (part->accumulate && !t->touched[id - t->row]) continue;
        psg_sink sink = { target_row(t, id), 1, t->columns };
        psg_sink_close(part, &sink, part->place.offset + id * part->place.stride + t->first, 0);
    }
}

static void sum_rows(const psg_sum *sum, const psg_part *part, int64_t task, void *workspace) {
    grid g = grid_of(part);
    int64_t row = task / g.across * g.rows, column = task % g.across * g.columns;
    target t = { row, psg_least(g.rows, part->place.rows - row), column,
                 psg_least(g.columns, part->place.columns - column), psg_tile_memory(workspace),
                 psg_small_memory(workspace) };
    memset(t.touched, 0, (size_t)t.rows);
    for (int64_t n = 0; n < part->batch; n++) {
        double weight = entry_count(part, n) ? psg_addend_weight(sum, part, n) : 0;
        if (weight != 0) add_sample(sum, part, n, weight, &t);
    }
    close_target(part, &t);
}

const psg_room psg_sparse_room = {
    .name = "sparse rows", .check = check, .view = view, .write = write_range, .lengths = lengths,
    .square = square, .dot = dot, .sum_tasks = sum_tasks, .sum = sum_rows, .has_pairs = has_pairs, .pair = pair,
    .memory = memory, .prepare = prepare,
    .routes = { PSG_ROUTE_MATERIALISE, PSG_ROUTE_SORTED, PSG_ROUTE_SCATTER, PSG_ROUTE_SORTED, PSG_ROUTE_GATHER,
                PSG_ROUTE_MERGE, PSG_ROUTE_SCATTER },
};
