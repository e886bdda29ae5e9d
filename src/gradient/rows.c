/* Rows and row products: one vector a sample, v[n] = sum_t g[n, t] or sum_t g[n, t] a[n, t], summed in double.  A
 * single row stands for itself. */
#include <math.h>
#include <string.h>

#include "gradient/plan.h"
#include "kernels.h"

void psg_vector_sum(const psg_vector *v, int64_t first, int64_t count, double *sums) {
    memset(sums, 0, (size_t)count * sizeof *sums);
    const void *row = v->row ? psg_elements(v->row, v->part->dtype, first * v->step) : NULL;
    if (row) psg_add_strided(v->part, 1.0, row, v->step, count, sums);
    else v->add(v, first, count, sums);
}

long double psg_vector_square(const psg_vector *v, int64_t columns, void *workspace) {
    double *sums = psg_small_memory(workspace);
    long double square = 0;
    if (v->row) return psg_square_of(v->part->kernels, v->part->dtype, v->row, v->step, columns);
    for (int64_t first = 0; first < columns; first += PSG_AT_ONCE) {
        int64_t count = psg_least(PSG_AT_ONCE, columns - first);
        psg_vector_sum(v, first, count, sums);
        square += psg_square_of(v->part->doubles, PSG_F64, sums, 1, count);
    }
    return square;
}

double psg_vector_dot(const psg_vector *x, const psg_vector *y, int64_t columns, int64_t some, void *workspace) {
    const psg_part *part = x->part;
    double *sums = psg_small_memory(workspace), *others = psg_tile_memory(workspace), dot = 0;
    if (x->row && y->row) return psg_strided_dot(part, x->row, x->step, y->row, y->step, columns);
    for (int64_t first = 0; first < columns; first += some) {
        int64_t count = psg_least(some, columns - first);
        psg_vector_sum(x, first, count, sums);
        psg_vector_sum(y, first, count, others);
        dot += part->doubles->dot((size_t)count, sums, others);
    }
    return dot;
}

void psg_vector_write(const psg_vector *v, double scale, int64_t first, int64_t count, void *out, bool accumulate,
                      void *workspace) {
    const psg_part *part = v->part;
    const void *row = v->row ? psg_elements(v->row, part->dtype, first * v->step) : NULL;
    double *sums = psg_small_memory(workspace);
    if (row) part->kernels->scale_row((size_t)count, scale, row, v->step, out, accumulate);
    for (int64_t i = 0; i < count && !row; i += PSG_AT_ONCE) {
        int64_t some = psg_least(PSG_AT_ONCE, count - i);
        psg_vector_sum(v, first + i, some, sums);
        part->kernels->from_f64((size_t)some, scale, sums, psg_elements_mutable(out, part->dtype, i), accumulate);
    }
}

static psg_status check(const psg_check *at, const psg_block *b) {
    int64_t p = psg_features_of(&b->backprop), step = b->row_step ? b->row_step : 1;
    if (b->form == PSG_ROWS_PRODUCT) {
        psg_status status = psg_check_operand(at, b, &b->activation, "activation");
        if (status) return status;
        int64_t positions = psg_positions_of(&b->backprop);
        if (psg_features_of(&b->activation) != p || psg_positions_of(&b->activation) != positions) {
            return psg_check_fail(at, PSG_ERR_SHAPE, "backprop and activation must have one shape");
        }
    }
    return psg_check_place(at, b->offset, step == 1 ? 1 : p, step == 1 ? p : 1, step == 1 ? p : step);
}

static void view(const psg_block *b, psg_piece *piece) {
    int64_t p = piece->g.columns, step = b->row_step ? b->row_step : 1;
    piece->place = step == 1 ? (psg_place){ b->offset, 1, p, p } : (psg_place){ b->offset, p, 1, step };
}

static int64_t columns_of(const psg_part *part) { return part->pieces[0].g.columns; }
static ptrdiff_t step_of(const psg_part *part) { return part->place.rows > 1 ? part->place.stride : 1; }

/* ---- a sample's vector ---- */

static void add_adjacent(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, int64_t first,
                         int64_t count, double *v) {
    static const double ones[PSG_ROWS_AT_ONCE] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    const void *row[PSG_ROWS_AT_ONCE];
    for (int64_t t = 0; t < live; t += PSG_ROWS_AT_ONCE) {
        size_t held = (size_t)psg_least(PSG_ROWS_AT_ONCE, live - t);
        for (size_t k = 0; k < held; k++) row[k] = psg_at(&p->g, p->dtype, n, t + (int64_t)k, first);
        part->kernels->add_rows_to_f64(held, (size_t)count, ones, row, v);
    }
}

/* As many elements a call as lie one after the other. */
static void add_piece(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, int64_t first, int64_t count,
                      double *v) {
    int64_t some = p->g.step == 1 && p->a.step == 1 ? count : 1;
    bool adjacent = !p->a.data && p->g.step == 1;
    if (adjacent) add_adjacent(part, p, n, live, first, count, v);
    for (int64_t t = 0; t < live && !adjacent; t++) {
        const void *row = psg_at(&p->g, p->dtype, n, t, first);
        if (!p->a.data) psg_add_strided(part, 1.0, row, p->g.step, count, v);
        for (int64_t i = 0; i < count && p->a.data; i += some) {
            part->kernels->add_products_to_f64(1, (size_t)some, psg_at(&p->g, p->dtype, n, t, first + i), 0,
                                               psg_at(&p->a, p->dtype, n, t, first + i), 0, v + i);
        }
    }
}

static void add_positions(const psg_vector *v, int64_t first, int64_t count, double *sums) {
    for (size_t k = 0; k < v->part->count; k++) {
        add_piece(v->part, &v->part->pieces[k], v->n, psg_live(v->part, k, v->n), first, count, sums);
    }
}

/* The row that is sample n's gradient, or the sum over positions. */
static psg_vector vector_of(const psg_part *part, int64_t n) {
    const psg_piece *p = &part->pieces[0];
    bool single = part->count == 1 && !p->a.data && psg_live(part, 0, n) == 1;
    return (psg_vector){ part, n, single ? psg_at(&p->g, p->dtype, n, 0, 0) : NULL, p->g.step, add_positions, NULL, 0 };
}

/* A column of the parameter is written element by element. */
static void write_range(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                        bool accumulate, void *workspace) {
    int64_t step = step_of(part), offset = part->place.offset;
    int64_t from = psg_parts_of(psg_most(first - offset, 0), step);
    int64_t to = psg_least(psg_parts_of(last - offset, step), columns_of(part)), run = step == 1 ? to - from : 1;
    psg_vector v = vector_of(part, n);
    for (int64_t j = from; j < to; j += run) {
        void *target = psg_elements_mutable(out, part->dtype, offset + j * step - first);
        psg_vector_write(&v, scale, j, run, target, accumulate, workspace);
    }
}

/* sum_t of the length of what is added at t. */
static double lengths(const psg_part *part, int64_t n, bool quick) {
    double sum = 0;
    (void)quick;
    for (size_t k = 0; k < part->count; k++) {
        const psg_piece *p = &part->pieces[k];
        for (int64_t t = 0; t < psg_live(part, k, n); t++) {
            double g = psg_row_bound(part, &p->g, n, t);
            sum += p->a.data ? g * psg_row_bound(part, &p->a, n, t) : g;
        }
    }
    return sum;
}

/* Sums in double round by gamma_{L+1} sum_t |g_t|. */
static psg_estimate square(const psg_part *part, int64_t n, void *workspace) {
    int64_t live = psg_part_live(part, n);
    long double scale = part->scale;
    psg_estimate e = { 0, 0 };
    psg_vector v = vector_of(part, n);
    if (part->context->forced_route == PSG_ROUTE_TILES) return psg_square_by_tiles(part, n, workspace);
    if (live) e.square = psg_vector_square(&v, columns_of(part), workspace) * (scale * scale);
    if (!v.row) e.error = psg_gamma(PSG_F64, (double)live + 1) * fabs(part->scale) * lengths(part, n, false);
    return e;
}

static double dot_sample(const psg_part *part, int64_t n, const void *direction, void *workspace) {
    psg_vector v = vector_of(part, n), to = { .part = part, .step = step_of(part) };
    to.row = psg_elements(direction, part->dtype, part->place.offset);
    return psg_vector_dot(&v, &to, columns_of(part), PSG_AT_ONCE, workspace);
}

static void dot(const psg_part *part, int64_t first, int64_t count, const void *v, double *dots, void *workspace) {
    for (int64_t n = 0; n < count; n++) {
        if (psg_part_live(part, first + n)) dots[n] += part->scale * dot_sample(part, first + n, v, workspace);
    }
}

static psg_grid grid(const psg_part *part) {
    int64_t columns = columns_of(part), eighth = columns / 8;
    return (psg_grid){ 1, columns, 1, psg_even_part(columns, eighth < 128 ? 128 : psg_least(eighth, 2048), 16) };
}

/* Single rows are added several a pass. */
typedef struct held_rows {
    const void *row[PSG_ROWS_AT_ONCE];
    double weight[PSG_ROWS_AT_ONCE];
    size_t count;
} held_rows;

static void add_held(const psg_sink *to, held_rows *held) {
    psg_sink_add_rows(to, 0, held->count, held->weight, held->row);
    held->count = 0;
}

static void sum_columns(const psg_sink *task) {
    const psg_part *part = task->part;
    psg_sink to = *task;
    held_rows held = { .count = 0 };
    double *sums = psg_small_memory(to.workspace);
    int64_t first = to.at.column, count = to.at.columns;
    psg_sink_clear(&to);
    for (int64_t n = 0; n < part->batch; n++) {
        double weight = psg_addend_weight(&to, n);
        psg_vector v = vector_of(part, n);
        bool holds = v.row && v.step == 1 && !to.squares;
        if (weight == 0) continue;
        if (holds) {
            held.row[held.count] = psg_elements(v.row, part->dtype, first);
            held.weight[held.count++] = weight;
        }
        if (held.count == PSG_ROWS_AT_ONCE || !holds) add_held(&to, &held);
        if (holds) continue;
        psg_vector_sum(&v, first, count, sums);
        psg_sink_add(&to, part->doubles, weight, sums, count, to.sums);
    }
    add_held(&to, &held);
    if (part->place.rows > 1) to.at = (psg_rectangle){ 0, count, 0, 1 };
    psg_sink_close(&to, part->place.offset + first * step_of(part), step_of(part));
}

const psg_room psg_rows_room = {
    .name = "rows", .check = check, .view = view, .write = write_range, .overwrites = true,
    .lengths = lengths, .square = square, .dot = dot, .grid = grid, .sum = sum_columns,
    .routes = { "materialise", "rows", "rows", "rows", "rows", "tiles", "rows" },
};
