/* Derived: the gradient of a parameter W whose effective weight E = f(W) is what a layer used.  Row i of E depends on
 * row i of W alone, so a sample's gradient of row i is J_i^T e_i: a tile of whole rows of its gradient of E is widened
 * and pulled back, in double, before samples meet.  Only a plain sum of all samples pulls once, their sum.
 *
 * |J^T e| may be far below |e|, so the norm's bound carries what rounding moves e by: |J| (error of e), and what the
 * pull rounds, |J| gamma |e|. */
#include <math.h>
#include <string.h>

#include "base/reserved.h"
#include "base/shapes.h"
#include "gradient/plan.h"
#include "kernels.h"

/* The tile memory holds what is written or summed, then a tile of E; the panels' memory doubles of it and what is
 * pulled. */
enum { MOST_COLUMNS = PSG_OUT_TILE_BYTES / sizeof(double) };
_Static_assert(MOST_COLUMNS == PSG_MOST_DERIVED_COLUMNS && 2 * MOST_COLUMNS * sizeof(double) <= PSG_PRODUCT_WORKSPACE,
               "a row must fit the workspace");

static bool is_sliced(const psg_derivation *d) { return d->inner && d->inner != d->columns; }

static psg_status check_sizes(const psg_check *at, const psg_derivation *d) {
    int64_t elements;
    if (!d || !d->pull || !d->norm || d->rows < 0 || d->columns < 0 || d->width < 0 || (d->block_count && !d->blocks)) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "the derivation has a NULL function or array, or a negative size");
    }
    if (psg_reserved_is_set(d->reserved)) return psg_check_fail(at, PSG_ERR_ARGUMENT, "derivation" PSG_RESERVED_TEXT);
    if (d->columns > MOST_COLUMNS || d->width > MOST_COLUMNS) {
        return psg_check_fail(at, PSG_ERR_UNSUPPORTED, "rows of %lld elements are derived, at most %d may be",
                              (long long)psg_most(d->columns, d->width), MOST_COLUMNS);
    }
    if (d->inner < 0 || (d->inner && d->columns % d->inner)) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "inner is %lld, must be 0 or a divisor of columns, %lld",
                              (long long)d->inner, (long long)d->columns);
    }
    if (psg_size_multiply(d->rows, psg_most(d->columns, d->width), &elements)) return PSG_OK;
    return psg_check_fail(at, PSG_ERR_OVERFLOW, "rows x columns of the derivation does not fit 63 bits");
}

/* Only W has the shape of E; beside a gain E is a flat array. */
static psg_gradient effective_gradient(const psg_check *at, const psg_derivation *d) {
    psg_gradient effective = *at->gradient;
    if (d->width == d->columns && d->columns > 1 && at->numel == d->rows * d->columns) return effective;
    effective.rank = 1;
    effective.shape[0] = d->rows * d->columns;
    return effective;
}

static psg_status check(const psg_check *at, const psg_block *b) {
    const psg_derivation *d = b->derivation;
    psg_status status = check_sizes(at, d);
    if (status) return status;
    psg_gradient effective = effective_gradient(at, d);
    psg_check own = *at;
    own.gradient = &effective;
    own.numel = d->rows * d->columns;
    for (own.block = 0; own.block < d->block_count; own.block++) {
        if (d->blocks[own.block].form == PSG_DERIVED) {
            return psg_check_fail(at, PSG_ERR_UNSUPPORTED, "block %zu of the derivation is derived itself", own.block);
        }
        status = psg_check_block(&own, &d->blocks[own.block]);
        if (status) return status;
    }
    bool whole = b->row_stride == d->width || (is_sliced(d) && d->width == d->columns);
    if (whole) return psg_check_place(at, b->offset, 1, d->rows * d->width, d->rows * d->width);
    return psg_check_place(at, b->offset, d->rows, d->width, b->row_stride);
}

static double largest_norm(const psg_derivation *d) {
    double most = 0;
    for (int64_t i = 0; i < d->rows; i++) {
        double norm = d->norm(d->user, i);
        if (!(norm >= 0)) return NAN;
        if (norm > most) most = norm;
    }
    return most;
}

static void view(const psg_block *b, psg_piece *piece) {
    const psg_derivation *d = b->derivation;
    piece->derivation = d;
    piece->positions = 1;
    piece->derived_norm = largest_norm(d);
    piece->place = (psg_place){ b->offset, d->rows, d->width, b->row_stride };
    if (d->rows == 1) piece->place.stride = d->width;
    if (is_sliced(d) && d->width == d->columns) {
        piece->place = (psg_place){ b->offset, 1, d->rows * d->width, d->rows * d->width };
    }
}

/* ---- whole rows of a sample ---- */

/* Rows of a matrix, or of slices of one: `lines` of `length` elements each, `step` apart from `first` on.  Line by line
 * they are the rows themselves, or the slices (lines, count, inner) of count rows. */
typedef struct layout {
    int64_t lines, length, first, step, inner;
} layout;

static layout layout_of_rows(const psg_derivation *d, int64_t width, int64_t stride, int64_t first, int64_t count) {
    if (is_sliced(d) && width == d->columns) {
        return (layout){ width / d->inner, count * d->inner, first * d->inner, d->rows * d->inner, d->inner };
    }
    return (layout){ count, width, first * stride, stride, width };
}

static layout layout_of_pulled(const psg_part *part, int64_t first, int64_t count) {
    const psg_derivation *d = part->pieces->derivation;
    layout l = layout_of_rows(d, d->width, part->place.stride, first, count);
    l.first += part->place.offset;
    return l;
}

/* to (outer, middle, inner) = from (middle, outer, inner). */
static void exchange(const double *from, int64_t middle, int64_t outer, int64_t inner, double *to) {
    for (int64_t i = 0; i < middle; i++) {
        for (int64_t a = 0; a < outer; a++) {
            for (int64_t b = 0; b < inner; b++) to[(a * middle + i) * inner + b] = from[(i * outer + a) * inner + b];
        }
    }
}

/* Rows of E at a time. */
static int64_t rows_at_once(const psg_part *part) {
    const psg_derivation *d = part->pieces->derivation;
    return psg_most(1, MOST_COLUMNS / psg_most(psg_most(d->columns, d->width), 1));
}

/* Whole rows of E's gradient of a sample, in the lines of E: the tile. */
static void *fill_tile(const psg_part *part, int64_t n, int64_t first, int64_t count, void *workspace) {
    const psg_derivation *d = part->pieces->derivation;
    layout l = layout_of_rows(d, d->columns, d->columns, first, count);
    void *tile = (char *)psg_tile_memory(workspace) + PSG_OUT_TILE_BYTES;
    memset(tile, 0, (size_t)(count * d->columns) * psg_dtype_size(part->dtype));
    if (l.step == l.length) {
        psg_write_inner(part, n, 1.0, l.first, l.first + l.lines * l.length, tile, true, workspace);
        return tile;
    }
    for (int64_t a = 0; a < l.lines; a++) {
        int64_t start = l.first + a * l.step;
        psg_write_inner(part, n, 1.0, start, start + l.length, psg_elements_mutable(tile, part->dtype, a * l.length),
                        true, workspace);
    }
    return tile;
}

/* Rows of E in double, in the lines of E, pulled back: in the lines of the parameter.  `lines` is the first half of the
 * panels' memory or not in it; the result is in the panels' memory. */
static double *pull(const psg_part *part, int64_t first, int64_t count, double *lines, void *workspace) {
    const psg_derivation *d = part->pieces->derivation;
    int64_t outer = is_sliced(d) ? d->columns / d->inner : 1;
    double *one = workspace, *other = one + MOST_COLUMNS;
    if (!is_sliced(d)) {
        d->pull(d->user, first, count, lines, other);
        return other;
    }
    exchange(lines, outer, count, d->inner, other);
    d->pull(d->user, first, count, other, one);
    if (d->width != d->columns) return one;
    exchange(one, count, outer, d->inner, other);
    return other;
}

/* A sample's pulled rows [first, first + count), unscaled, rounded to the real type: what the sample adds is then the
 * same whether it is kept or pulled anew.  A gradient of 0 stays one, also where the pull has infinite factors. */
static const double *pull_rows(const psg_part *part, int64_t n, int64_t first, int64_t count, void *workspace) {
    const psg_derivation *d = part->pieces->derivation;
    size_t elements = (size_t)(count * d->columns), pulled = (size_t)(count * d->width);
    if (!psg_part_live(part, n)) return memset(workspace, 0, pulled * sizeof(double));
    void *tile = fill_tile(part, n, first, count, workspace);
    memset(workspace, 0, elements * sizeof(double));
    part->kernels->add_to_f64(elements, 1.0, tile, workspace);
    double *rows = pull(part, first, count, workspace, workspace);
    if (part->dtype == PSG_F64) return rows;
    part->kernels->from_f64(pulled, 1.0, rows, tile, false);
    memset(rows, 0, pulled * sizeof(double));
    part->kernels->add_to_f64(pulled, 1.0, tile, rows);
    return rows;
}

/* ---- answers ---- */

/* The parameter's rows that elements [first, last) touch: [*row, *end). */
static void rows_in(const psg_part *part, int64_t first, int64_t last, int64_t *row, int64_t *end) {
    const psg_derivation *d = part->pieces->derivation;
    bool sliced = is_sliced(d) && d->width == d->columns;
    int64_t step = psg_most(sliced ? d->inner : part->place.stride, 1), slices = d->rows * step;
    first = psg_most(first - part->place.offset, 0);
    last -= part->place.offset;
    *row = 0;
    *end = d->rows;
    if (sliced && first / slices != (last - 1) / slices) return;
    if (sliced) last -= first / slices * slices;
    if (sliced) first %= slices;
    *row = first / step;
    *end = psg_least(psg_parts_of(last, step), d->rows);
}

static void write_range(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                        bool accumulate, void *workspace) {
    int64_t room = rows_at_once(part), i, end;
    for (rows_in(part, first, last, &i, &end); i < end; i += room) {
        int64_t count = psg_least(room, end - i);
        layout l = layout_of_pulled(part, i, count);
        const double *pulled = pull_rows(part, n, i, count, workspace);
        for (int64_t a = 0; a < l.lines; a++) {
            int64_t start = l.first + a * l.step;
            int64_t from = psg_most(first, start), to = psg_least(last, start + l.length);
            if (from >= to) continue;
            part->kernels->from_f64((size_t)(to - from), scale, pulled + a * l.length + (from - start),
                                    psg_elements_mutable(out, part->dtype, from - first), accumulate);
        }
    }
}

static double lengths(const psg_part *part, int64_t n, bool quick) {
    return psg_inner_lengths(part, n, quick) * part->pieces->derived_norm;
}

static double error(const psg_part *part, int64_t n, bool quick) {
    double sum = psg_gamma(PSG_F64, 8 * (double)part->pieces->derivation->columns + 64);
    sum *= psg_inner_lengths(part, n, true);
    for (size_t k = 0; k < part->inner_count; k++) sum += psg_gradient_error(&part->inner[k], n, quick);
    return sum * part->pieces->derived_norm;
}

/* What the real type's rounding moves a sample's pulled rows by. */
static double rounding(const psg_part *part, long double square) {
    if (part->dtype == PSG_F64) return 0;
    return psg_gamma(PSG_F32, 2) * (double)sqrtl(square) + sqrt((double)psg_place_span(&part->place)) * 0x1p-149;
}

static void keep_rows(const psg_part *part, int64_t n, int64_t first, int64_t count, const double *pulled) {
    layout l = layout_of_pulled(part, first, count);
    int64_t start = n * psg_place_span(&part->place) + l.first - part->place.offset;
    for (int64_t a = 0; a < l.lines; a++) {
        void *to = psg_elements_mutable(part->kept, part->dtype, start + a * l.step);
        part->kernels->from_f64((size_t)l.length, 1.0, pulled + a * l.length, to, false);
    }
}

static psg_estimate square(const psg_part *part, int64_t n, void *workspace) {
    const psg_derivation *d = part->pieces->derivation;
    long double sum = 0, scale = part->scale;
    int64_t room = rows_at_once(part);
    if (!psg_part_live(part, n)) return (psg_estimate){ 0, 0 };
    for (int64_t i = 0; i < d->rows; i += room) {
        int64_t count = psg_least(room, d->rows - i);
        const double *pulled = pull_rows(part, n, i, count, workspace);
        sum += psg_square_of(part->doubles, PSG_F64, pulled, 1, count * d->width);
        if (part->kept) keep_rows(part, n, i, count, pulled);
    }
    if (part->kept) part->is_kept[n] = true;
    return (psg_estimate){ sum * scale * scale, (error(part, n, false) + rounding(part, sum)) * fabs(part->scale) };
}

static double dot_sample(const psg_part *part, int64_t n, const void *direction, void *workspace) {
    int64_t room = rows_at_once(part), rows = part->pieces->derivation->rows;
    double *v = psg_tile_memory(workspace), sum = 0;
    for (int64_t i = 0; i < rows; i += room) {
        layout l = layout_of_pulled(part, i, psg_least(room, rows - i));
        const double *pulled = pull_rows(part, n, i, psg_least(room, rows - i), workspace);
        for (int64_t a = 0; a < l.lines; a++) {
            memset(v, 0, (size_t)l.length * sizeof *v);
            part->kernels->add_to_f64((size_t)l.length, 1.0,
                                      psg_elements(direction, part->dtype, l.first + a * l.step), v);
            sum += part->doubles->dot((size_t)l.length, pulled + a * l.length, v);
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

/* ---- sums: rows a task, as many as are pulled at once; their doubles fit half the tile memory ---- */

/* Slices are the dearer the thinner they are. */
static psg_grid grid(const psg_part *part) {
    int64_t rows = part->pieces->derivation->rows, most = rows_at_once(part);
    bool sliced = is_sliced(part->pieces->derivation);
    return (psg_grid){ rows, 1, psg_even_part(rows, sliced ? most : psg_least(most, psg_parts_of(rows, 8)), 1), 1 };
}

/* The lines of the sum of all samples as they are: E's gradients are added, then pulled once. */
static void sum_plain(const psg_sink *to, int64_t first, int64_t count) {
    const psg_part *part = to->part;
    int64_t elements = count * part->pieces->derivation->columns;
    double *effective = to->sums;
    memset(effective, 0, (size_t)elements * sizeof *effective);
    for (int64_t n = 0; n < part->batch; n++) {
        part->kernels->add_to_f64((size_t)elements, 1.0, fill_tile(part, n, first, count, to->workspace), effective);
    }
    const double *pulled = pull(part, first, count, effective, to->workspace);
    for (int64_t k = 0; k < to->at.rows * to->at.columns; k++) to->sums[k] = part->scale * pulled[k];
}

static void add_kept(const psg_sink *to, int64_t n, double weight, const layout *l) {
    const psg_part *part = to->part;
    int64_t start = n * psg_place_span(&part->place) + l->first - part->place.offset;
    for (int64_t a = 0; a < l->lines; a++) {
        psg_sink_add(to, part->kernels, weight, psg_elements(part->kept, part->dtype, start + a * l->step), l->length,
                     to->sums + a * l->length);
    }
}

static void sum_rows(const psg_sink *task) {
    const psg_part *part = task->part;
    int64_t first = task->at.row, count = task->at.rows;
    layout l = layout_of_pulled(part, first, count);
    psg_sink to = *task;
    to.at = (psg_rectangle){ 0, l.lines, 0, l.length };
    psg_sink_clear(&to);
    bool plain = to.plan->is_plain && !to.squares;
    if (plain) sum_plain(&to, first, count);
    for (int64_t n = 0; n < part->batch && !plain; n++) {
        double weight = psg_addend_weight(&to, n);
        if (weight == 0) continue;
        if (part->is_kept && part->is_kept[n]) {
            add_kept(&to, n, weight, &l);
            continue;
        }
        const double *pulled = pull_rows(part, n, first, count, to.workspace);
        psg_sink_add(&to, part->doubles, weight, pulled, l.lines * l.length, to.sums);
    }
    psg_sink_close(&to, l.first, l.step);
}

static const char *route(const psg_part *part, psg_question question) {
    if (question == PSG_ASK_CLIPPED_SUM && part->kept) return "keep";
    return question == PSG_ASK_GRAD_SAMPLE ? "materialise" : question == PSG_ASK_GRAM ? "tiles" : "pulled";
}

const psg_room psg_derived_room = {
    .name = "derived", .check = check, .view = view, .write = write_range, .overwrites = true, .stays_single = true,
    .lengths = lengths, .error = error, .square = square, .dot = dot, .grid = grid, .sum = sum_rows, .route = route,
};
