/* Derived: the gradient of a parameter W whose effective weight E = f(W) is what a layer used.  Row i of E depends on row
 * i of W alone, so a sample's gradient of row i is J_i^T e_i: a tile of whole rows of its gradient of E is widened and
 * pulled back, in double, before samples meet.
 *
 * |J^T e| may be far below |e|, so the norm's bound carries what rounding moves e by: |J| (error of e), and what the pull
 * rounds, |J| gamma |e|. */
#include <math.h>
#include <string.h>

#include "gradient/plan.h"
#include "gradient/sink.h"

/* The tile memory holds a sink and a tile of E, the panels' memory doubles of it and what is pulled. */
#define HALF_TILE (PSG_TILE_BYTES / 2)
enum { MOST_COLUMNS = HALF_TILE / sizeof(double) };

static psg_status check(const psg_check *at, const psg_block *b) {
    const psg_derivation *d = b->derivation;
    if (!d || !d->pull || !d->norm || d->rows < 0 || d->columns < 0 || d->width < 0 || (d->block_count && !d->blocks)) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "the derivation has a NULL function or array, or a negative size");
    }
    if (d->columns > MOST_COLUMNS || d->width > MOST_COLUMNS) {
        return psg_check_fail(at, PSG_ERR_UNSUPPORTED, "rows of %lld elements are derived, at most %d may be",
                              (long long)psg_most(d->columns, d->width), MOST_COLUMNS);
    }
    psg_gradient inner = { .dtype = at->gradient->dtype, .batch_size = at->gradient->batch_size, .rank = 2,
                           .shape = { d->rows, d->columns }, .name = at->gradient->name };
    psg_check own = *at;
    own.gradient = &inner;
    own.numel = d->rows * d->columns;
    for (own.block = 0; own.block < d->block_count; own.block++) {
        if (d->blocks[own.block].form == PSG_DERIVED) {
            return psg_check_fail(at, PSG_ERR_UNSUPPORTED, "block %zu of the derivation is derived itself", own.block);
        }
        psg_status status = psg_check_block(&own, &d->blocks[own.block]);
        if (status) return status;
    }
    return psg_check_place(at, b->offset, d->rows, d->width, b->row_stride);
}

static void view(const psg_block *b, int64_t numel, psg_piece *piece) {
    const psg_derivation *d = b->derivation;
    (void)numel;
    piece->derivation = d;
    piece->positions = 1;
    piece->place = (psg_place){ b->offset, d->rows, d->width, b->row_stride };
    if (d->rows == 1) piece->place.stride = d->width;
}

/* ---- whole rows of a sample ---- */

/* Rows of E at a time. */
static int64_t rows_at_once(const psg_part *part) {
    const psg_derivation *d = part->pieces->derivation;
    int64_t doubles = (int64_t)(PSG_PRODUCT_WORKSPACE / sizeof(double)), row = psg_most(d->columns, 1);
    return psg_most(1, psg_least(MOST_COLUMNS / row, doubles / (row + d->width)));
}

/* The pulled rows [first, first + count), unscaled, in the workspace: count x width doubles. */
static const double *pull_rows(const psg_part *part, int64_t n, int64_t first, int64_t count, void *workspace) {
    const psg_piece *piece = part->pieces;
    const psg_derivation *d = piece->derivation;
    int64_t begin = first * d->columns, elements = count * d->columns;
    void *tile = (char *)psg_tile_memory(workspace) + HALF_TILE;
    double *wide = workspace, *pulled = wide + elements;
    memset(tile, 0, (size_t)elements * psg_dtype_size(part->dtype));
    for (size_t k = 0; k < piece->inner_count; k++) {
        const psg_part *inner = &piece->inner[k];
        int64_t from = psg_most(begin, inner->place.offset);
        int64_t to = psg_least(begin + elements, inner->place.offset + psg_place_span(&inner->place));
        if (from >= to) continue;
        inner->room->write(inner, n, inner->scale, from, to, psg_elements_mutable(tile, part->dtype, from - begin), true,
                           workspace);
    }
    memset(wide, 0, (size_t)elements * sizeof *wide);
    part->kernels->add_to_f64((size_t)elements, 1.0, tile, wide);
    d->pull(d->user, first, count, wide, pulled);
    return pulled;
}

/* ---- answers ---- */

static void write_range(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                        bool accumulate, void *workspace) {
    int64_t stride = psg_most(part->place.stride, 1), width = part->place.columns, room = rows_at_once(part);
    int64_t i = psg_most((first - part->place.offset) / stride, 0);
    int64_t end = psg_least(psg_parts_of(last - part->place.offset, stride), part->place.rows);
    for (; i < end; i += room) {
        int64_t count = psg_least(room, end - i);
        const double *pulled = pull_rows(part, n, i, count, workspace);
        for (int64_t r = 0; r < count; r++) {
            int64_t start = part->place.offset + (i + r) * stride;
            int64_t from = psg_most(first, start), to = psg_least(last, start + width);
            if (from >= to) continue;
            part->kernels->from_f64((size_t)(to - from), scale, pulled + r * width + (from - start),
                                    psg_elements_mutable(out, part->dtype, from - first), accumulate);
        }
    }
}

static double largest_norm(const psg_derivation *d) {
    double most = 0;
    for (int64_t i = 0; i < d->rows; i++) most = fmax(most, d->norm(d->user, i));
    return most;
}

static double lengths(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, bool quick) {
    double sum = 0;
    (void)part, (void)live;
    for (size_t k = 0; k < p->inner_count; k++) {
        const psg_part *inner = &p->inner[k];
        for (size_t i = 0; i < inner->count; i++) {
            const psg_piece *piece = &inner->pieces[i];
            sum += fabs(piece->scale) * piece->room->lengths(inner, piece, n, psg_live(inner, i, n), quick);
        }
    }
    return sum * largest_norm(p->derivation);
}

static double error_of(const psg_part *part, int64_t n) {
    const psg_piece *p = part->pieces;
    double error = 0, pulled = psg_gamma(PSG_F64, 8 * (double)p->derivation->columns + 64);
    for (size_t k = 0; k < p->inner_count; k++) error += psg_gradient_error(&p->inner[k], n, false);
    return error * largest_norm(p->derivation) + pulled * lengths(part, p, n, 0, true);
}

static psg_estimate square(const psg_part *part, int64_t n, void *workspace) {
    long double sum = 0, scale = part->scale;
    int64_t room = rows_at_once(part);
    if (!psg_part_live(part, n)) return (psg_estimate){ 0, 0 };
    for (int64_t i = 0; i < part->place.rows; i += room) {
        int64_t count = psg_least(room, part->place.rows - i);
        const double *pulled = pull_rows(part, n, i, count, workspace);
        sum += psg_square_of(part->doubles, PSG_F64, pulled, 1, count * part->place.columns);
    }
    return (psg_estimate){ sum * scale * scale, error_of(part, n) * fabs(part->scale) };
}

static double dot_sample(const psg_part *part, int64_t n, const void *direction, void *workspace) {
    int64_t room = rows_at_once(part), width = part->place.columns;
    double *v = psg_tile_memory(workspace), sum = 0;
    for (int64_t i = 0; i < part->place.rows; i += room) {
        int64_t count = psg_least(room, part->place.rows - i);
        const double *pulled = pull_rows(part, n, i, count, workspace);
        for (int64_t r = 0; r < count; r++) {
            const void *row = psg_elements(direction, part->dtype, part->place.offset + (i + r) * part->place.stride);
            memset(v, 0, (size_t)width * sizeof *v);
            part->kernels->add_to_f64((size_t)width, 1.0, row, v);
            sum += part->doubles->dot((size_t)width, pulled + r * width, v);
        }
    }
    return sum;
}

static void dot(const psg_part *part, int64_t first, int64_t count, const void *direction, double *dots,
                void *workspace) {
    for (int64_t n = 0; n < count; n++) {
        if (psg_part_live(part, first + n)) dots[n] += part->scale * dot_sample(part, first + n, direction, workspace);
    }
}

/* ---- sums: rows a task, whose doubles fit half the tile memory ---- */

static int64_t task_rows(const psg_part *part) {
    int64_t most = psg_most(1, MOST_COLUMNS / psg_most(part->place.columns, 1));
    return psg_even_part(part->place.rows, psg_least(most, psg_parts_of(part->place.rows, 8)), 1);
}

static int64_t sum_tasks(const psg_sum *sum, const psg_part *part) {
    (void)sum;
    return psg_parts_of(part->place.rows, task_rows(part));
}

static void sum_rows(const psg_sum *sum, const psg_part *part, int64_t task, void *workspace) {
    int64_t rows = task_rows(part), first = task * rows, width = part->place.columns, room = rows_at_once(part);
    psg_sink sink = psg_sink_open(psg_least(rows, part->place.rows - first), width, workspace);
    for (int64_t n = 0; n < part->batch; n++) {
        double weight = psg_part_live(part, n) ? psg_addend_weight(sum, part, n) : 0;
        for (int64_t i = 0; weight != 0 && i < sink.rows; i += room) {
            int64_t count = psg_least(room, sink.rows - i);
            const double *pulled = pull_rows(part, n, first + i, count, workspace);
            psg_sink_add(sum, part->doubles, weight, pulled, count * width, sink.sums + i * width);
        }
    }
    psg_sink_close(sum, part, &sink, part->place.offset + first * part->place.stride, part->place.stride);
}

const psg_room psg_derived_room = {
    .name = "derived", .check = check, .view = view, .write = write_range, .overwrites = true, .lengths = lengths,
    .square = square, .dot = dot, .sum_tasks = sum_tasks, .sum = sum_rows,
    .routes = { PSG_ROUTE_MATERIALISE, PSG_ROUTE_PULLED, PSG_ROUTE_PULLED, PSG_ROUTE_PULLED, PSG_ROUTE_PULLED,
                PSG_ROUTE_TILES, PSG_ROUTE_PULLED },
};
