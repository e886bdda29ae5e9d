/* Sparse rows: gradient[n][ids[n, t]] += g[n, t].  A question sorts each sample's positions by row once; what shares a
 * row is summed in double before anything else happens to it. */
#include <math.h>
#include <string.h>

#include "base/shapes.h"
#include "gradient/plan.h"

/* Position t of a piece of a sample belongs to a row. */
typedef struct entry { int64_t row; uint32_t piece, t; } entry;

/* The rows that fit between the block's offset and the parameter's end. */
static int64_t row_count(const psg_block *b, int64_t numel) {
    int64_t p = psg_features_of(&b->backprop);
    if (b->offset > numel - p) return 0;
    return b->row_stride > 0 ? (numel - p - b->offset) / b->row_stride + 1 : 1;
}

static psg_status check_ids_view(const psg_check *at, const psg_block *b) {
    const psg_tensor *ids = &b->ids;
    const int64_t shape[2] = { b->backprop.shape[0], psg_positions_of(&b->backprop) };
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (ids->dtype != PSG_I32 && ids->dtype != PSG_I64) {
        return psg_check_fail(at, PSG_ERR_DTYPE, "ids is %s, must be i32 or i64", psg_dtype_name(ids->dtype));
    }
    if (psg_tensor_is_valid(ids) && psg_shape_equal(ids->rank, ids->shape, 2, shape)) return PSG_OK;
    bool readable = ids->rank >= 0 && ids->rank <= PSG_MAX_RANK;
    return psg_check_fail(at, PSG_ERR_SHAPE, "ids must have shape %s, has %s", psg_shape_text(2, shape, want),
                          readable ? psg_tensor_text(ids, have) : "no valid shape");
}

static psg_status check_ids(const psg_check *at, const psg_block *b, int64_t rows) {
    psg_ids ids = psg_ids_of(b);
    for (int64_t n = 0; n < b->ids.shape[0]; n++) {
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

static void view(const psg_block *b, psg_piece *piece) {
    piece->ids = psg_ids_of(b);
    int64_t p = piece->g.columns;
    piece->place = (psg_place){ b->offset, p ? row_count(b, piece->numel) : 0, p, b->row_stride };
}

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

static void prepare(const psg_part *part, int64_t n) {
    entry *entries = entries_of(part, n);
    int64_t count = 0;
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

/* Element `first` of entry k, its elements step apart. */
static const void *row_of(const psg_vector *v, int64_t k, int64_t first, ptrdiff_t *step) {
    const entry *e = (const entry *)v->terms + k;
    const psg_operand_view *g = &v->part->pieces[e->piece].g;
    *step = g->step;
    return psg_at(g, v->part->dtype, v->n, e->t, first);
}

static void add_scaled(const psg_vector *v, double scale, int64_t first, int64_t count, double *sums) {
    for (int64_t k = 0; k < v->count; k++) {
        ptrdiff_t step;
        const void *row = row_of(v, k, first, &step);
        psg_add_strided(v->part, scale, row, step, count, sums);
    }
}

static void add_entries(const psg_vector *v, int64_t first, int64_t count, double *sums) {
    add_scaled(v, 1.0, first, count, sums);
}

static psg_vector vector_of(const psg_part *part, int64_t n, int64_t first, int64_t count) {
    psg_vector v = { part, n, NULL, 0, add_entries, entries_of(part, n) + first, count };
    if (count == 1) v.row = row_of(&v, 0, 0, &v.step);
    return v;
}

/* The entries from the first of a row on that share it. */
static psg_vector row_at(const psg_part *part, int64_t n, int64_t first) {
    const entry *entries = entries_of(part, n) + first;
    int64_t most = entry_count(part, n) - first, count = 1;
    while (count < most && entries[count].row == entries->row) count++;
    return vector_of(part, n, first, count);
}

static int64_t row_number(const psg_vector *v) { return ((const entry *)v->terms)->row; }

static double lengths(const psg_part *part, int64_t n, bool quick) {
    psg_vector all = vector_of(part, n, 0, entry_count(part, n));
    double sum = 0;
    (void)quick;
    for (int64_t k = 0; k < all.count; k++) {
        ptrdiff_t step;
        const void *row = row_of(&all, k, 0, &step);
        sum += psg_norm_bound(part, row, step, part->place.columns);
    }
    return sum;
}

/* Sums in double round by gamma of the entries times their lengths, where rows share one. */
static psg_estimate square(const psg_part *part, int64_t n, void *workspace) {
    long double sum = 0, scale = part->scale;
    int64_t count = entry_count(part, n), rows = 0;
    if (part->context->forced_route == PSG_ROUTE_TILES) return psg_square_by_tiles(part, n, workspace);
    for (int64_t at = 0; at < count; rows++) {
        psg_vector v = row_at(part, n, at);
        sum += psg_vector_square(&v, part->place.columns, workspace);
        at += v.count;
    }
    double moved = rows < count ? lengths(part, n, true) : 0;
    return (psg_estimate){ sum * scale * scale, psg_gamma(PSG_F64, (double)count) * moved * fabs(part->scale) };
}

/* Rows without an entry are not touched: accumulate alone. */
static void write_range(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                        bool accumulate, void *workspace) {
    int64_t stride = psg_most(part->place.stride, 1);
    int64_t at = first_of(part, n, psg_most(0, (first - part->place.offset) / stride - 1));
    (void)accumulate;
    while (at < entry_count(part, n)) {
        psg_vector v = row_at(part, n, at);
        int64_t start = part->place.offset + row_number(&v) * stride;
        int64_t from = psg_most(first, start), to = psg_least(last, start + part->place.columns);
        if (start >= last) break;
        void *target = psg_elements_mutable(out, part->dtype, from - first);
        if (from < to) psg_vector_write(&v, scale, from - start, to - from, target, true, workspace);
        at += v.count;
    }
}

int64_t psg_sparse_rows_of(const psg_part *part, int64_t n, int64_t *rows) {
    const entry *entries = entries_of(part, n);
    int64_t found = 0;
    for (int64_t k = 0; k < entry_count(part, n); k++) {
        if (!found || rows[found - 1] != entries[k].row) rows[found++] = entries[k].row;
    }
    return found;
}

void psg_sparse_add_row(const psg_part *part, int64_t n, int64_t row, int64_t first, int64_t count, double scale,
                        double *sums) {
    int64_t at = first_of(part, n, row), end = at;
    const entry *entries = entries_of(part, n);
    while (end < entry_count(part, n) && entries[end].row == row) end++;
    psg_vector v = { .part = part, .n = n, .terms = entries + at, .count = end - at };
    add_scaled(&v, scale, first, count, sums);
}

static double dot_sample(const psg_part *part, int64_t n, const void *direction) {
    psg_vector all = vector_of(part, n, 0, entry_count(part, n));
    const entry *entries = all.terms;
    double sum = 0;
    for (int64_t k = 0; k < all.count; k++) {
        ptrdiff_t step;
        const void *row = row_of(&all, k, 0, &step);
        const void *to = psg_elements(direction, part->dtype, part->place.offset + entries[k].row * part->place.stride);
        sum += psg_strided_dot(part, row, step, to, 1, part->place.columns);
    }
    return sum;
}

static void dot(const psg_part *part, int64_t first, int64_t count, const void *v, double *dots, void *workspace) {
    (void)workspace;
    for (int64_t n = 0; n < count; n++) dots[n] += part->scale * dot_sample(part, first + n, v);
}

static double pair(const psg_part *part, int64_t i, int64_t j, void *workspace) {
    double sum = 0;
    for (int64_t at = 0, to = 0; at < entry_count(part, i) && to < entry_count(part, j);) {
        psg_vector x = row_at(part, i, at), y = row_at(part, j, to);
        int64_t left = row_number(&x), right = row_number(&y);
        if (left == right) sum += psg_vector_dot(&x, &y, part->place.columns, PSG_AT_ONCE / 2, workspace);
        at += left <= right ? x.count : 0;
        to += right <= left ? y.count : 0;
    }
    return sum * part->scale * part->scale;
}

enum { MOST_COLUMNS = 64 };
/* Rows and columns of the parameter a task: tiles of doubles that leave room for a flag a row. */
static psg_grid grid(const psg_part *part) {
    int64_t rows = part->place.rows, p = part->place.columns, half = p <= MOST_COLUMNS ? (p + 1) / 2 : MOST_COLUMNS;
    int64_t wide = half < 16 ? psg_least(p, 16) : half;
    int64_t tile = psg_least((int64_t)(PSG_TILE_BYTES / sizeof(double)) / wide, (int64_t)PSG_SMALL_BYTES);
    return (psg_grid){ rows, p, psg_even_part(rows, psg_least(tile, psg_parts_of(rows, 4)), 1), wide };
}

/* Of each row of a task, whether it holds something. */
static unsigned char *touched_of(const psg_sink *to) { return psg_small_memory(to->workspace); }

static double *sums_of(const psg_sink *to, int64_t id) {
    unsigned char *touched = touched_of(to) + (id - to->at.row);
    double *sums = to->sums + (id - to->at.row) * to->at.columns;
    if (!*touched) psg_sink_clear_row(to, sums);
    *touched = 1;
    return sums;
}

static void add_sample(const psg_sink *to, int64_t n, double weight) {
    const psg_part *part = to->part;
    double w[MOST_COLUMNS];
    for (int64_t at = first_of(part, n, to->at.row); at < entry_count(part, n);) {
        psg_vector v = row_at(part, n, at);
        if (row_number(&v) >= to->at.row + to->at.rows) break;
        double *sums = sums_of(to, row_number(&v));
        if (v.row && v.step == 1 && !to->squares) {
            const void *row = psg_elements(v.row, part->dtype, to->at.column);
            psg_sink_add(to, part->kernels, weight, row, to->at.columns, sums);
        } else {
            psg_vector_sum(&v, to->at.column, to->at.columns, w);
            psg_sink_add(to, part->doubles, weight, w, to->at.columns, sums);
        }
        at += v.count;
    }
}

static void sum_rows(const psg_sink *to) {
    const psg_place *place = &to->part->place;
    memset(touched_of(to), 0, (size_t)to->at.rows);
    for (int64_t n = 0; n < to->part->batch; n++) {
        double weight = psg_addend_weight(to, n);
        if (weight != 0) add_sample(to, n, weight);
    }
    psg_sink row = *to;
    row.at.rows = 1;
    for (int64_t id = to->at.row; id < to->at.row + to->at.rows; id++) {
        if (to->part->accumulate && !touched_of(to)[id - to->at.row]) continue;
        row.sums = sums_of(to, id);
        psg_sink_close(&row, place->offset + id * place->stride + to->at.column, 0);
    }
}

const psg_room psg_sparse_room = {
    .name = "sparse rows", .check = check, .view = view, .write = write_range, .lengths = lengths,
    .square = square, .dot = dot, .grid = grid, .sum = sum_rows, .pair = pair, .memory = memory, .prepare = prepare,
    .routes = { "materialise", "sorted", "scatter", "sorted", "gather", "merge", "scatter" },
};
