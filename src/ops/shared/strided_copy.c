#include "ops/shared/strided_copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/shapes.h"
#include "ops/shared/ranges.h"

/* ---- the plan: dimensions that both sides walk alike are one axis ---- */

typedef struct axis {
    int64_t size, from, to;      /* strides in bytes */
} axis;

typedef struct copy_plan {
    int rank;
    axis axis[PSG_MAX_RANK];
    int64_t bytes;               /* of an element, or of a run of elements that lie together on both sides */
    int64_t pieces;              /* of a run */
    int64_t tile_rows, tile_columns;
    int row;                     /* tiles: the axis along which from is densest; -1: the last one */
    const char *from;
    char *to;
} copy_plan;

static void append(copy_plan *plan, axis next) {
    axis *last = plan->axis + plan->rank - 1;
    if (next.size == 1) return;
    if (plan->rank && last->from == next.from * next.size && last->to == next.to * next.size) {
        *last = (axis){ last->size * next.size, next.from, next.to };
    } else {
        plan->axis[plan->rank++] = next;
    }
}

static copy_plan plan_of(const psg_tensor *from, const psg_tensor *to) {
    int64_t size = (int64_t)psg_dtype_size(from->dtype);
    copy_plan plan = { .rank = 0, .bytes = size, .row = -1, .from = from->data, .to = to->data };
    for (int d = 0; d < from->rank; d++) {
        append(&plan, (axis){ from->shape[d], from->stride[d] * size, to->stride[d] * size });
    }
    return plan;
}

/* ---- runs ---- */

enum { PIECE = 8 * PSG_RANGE };   /* bytes of a run a task */

typedef struct cursor {
    int64_t index[PSG_MAX_RANK];
    const char *from;
    char *to;
} cursor;

static cursor cursor_at(const copy_plan *plan, int64_t k) {
    cursor at = { .from = plan->from, .to = plan->to };
    for (int d = plan->rank - 1; d >= 0; d--) {
        at.index[d] = k % plan->axis[d].size;
        k /= plan->axis[d].size;
        at.from += at.index[d] * plan->axis[d].from;
        at.to += at.index[d] * plan->axis[d].to;
    }
    return at;
}

static void advance(const copy_plan *plan, cursor *at) {
    for (int d = plan->rank - 1; d >= 0; d--) {
        const axis *a = &plan->axis[d];
        at->from += a->from;
        at->to += a->to;
        if (++at->index[d] < a->size) return;
        at->index[d] = 0;
        at->from -= a->size * a->from;
        at->to -= a->size * a->to;
    }
}

static void copy_whole_runs(const copy_plan *plan, int64_t begin, int64_t end) {
    cursor at = cursor_at(plan, begin);
    for (int64_t k = begin; k < end; k++) {
        memcpy(at.to, at.from, (size_t)plan->bytes);
        advance(plan, &at);
    }
}

static void copy_runs(void *argument, size_t begin, size_t count) {
    const copy_plan *plan = argument;
    int64_t end = (int64_t)(begin + count);
    if (plan->pieces == 1) {
        copy_whole_runs(plan, (int64_t)begin, end);
        return;
    }
    for (int64_t k = (int64_t)begin; k < end; k++) {
        cursor at = cursor_at(plan, k / plan->pieces);
        int64_t start = k % plan->pieces * PIECE, rest = plan->bytes - start;
        memcpy(at.to + start, at.from + start, (size_t)(rest < PIECE ? rest : PIECE));
    }
}

static void run_copy(psg_context *context, copy_plan *plan, int64_t runs, size_t element) {
    plan->pieces = (plan->bytes + PIECE - 1) / PIECE;
    size_t unit = psg_range_unit(plan->bytes / plan->pieces / (int64_t)element);
    psg_for_ranges(context, (size_t)(runs * plan->pieces), unit, copy_runs, plan);
}

/* ---- tiles of rows and columns, the columns along the last axis: for transposed copies both sides of a tile stay in
 * the first cache ---- */

enum { TILE = 16, STRETCH = 256 };

/* A copy of a size known to the compiler is one move. */
static inline __attribute__((always_inline)) void copy_tile(const char *from, char *to, const axis *row,
                                                            const axis *column, int64_t column_to, size_t size) {
    for (int64_t i = 0; i < row->size; i++) {
        for (int64_t j = 0; j < column->size; j++) {
            memcpy(to + i * row->to + j * column_to, from + i * row->from + j * column->from, size);
        }
    }
}

static int64_t tiles_along(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

/* Takes the tile that index k names along an axis; returns the index that is left for the other axes. */
static int64_t cut(const axis *whole, int64_t tile, int64_t k, axis *part, const char **from, char **to) {
    int64_t tiles = tiles_along(whole->size, tile), start = k % tiles * tile;
    *part = *whole;
    part->size = whole->size - start < tile ? whole->size - start : tile;
    *from += start * whole->from;
    *to += start * whole->to;
    return k / tiles;
}

static void copy_one_tile(const copy_plan *plan, int64_t k) {
    const char *from = plan->from;
    char *to = plan->to;
    axis row = { 1, 0, 0 }, column, single;
    int last = plan->rank - 1;
    if (plan->row >= 0) k = cut(&plan->axis[plan->row], plan->tile_rows, k, &row, &from, &to);
    k = cut(&plan->axis[last], plan->tile_columns, k, &column, &from, &to);
    for (int d = last - 1; d >= 0; d--) {
        if (d != plan->row) k = cut(&plan->axis[d], 1, k, &single, &from, &to);
    }
    if (plan->bytes == 4 && column.to == 4) copy_tile(from, to, &row, &column, 4, 4);
    else if (plan->bytes == 8 && column.to == 8) copy_tile(from, to, &row, &column, 8, 8);
    else if (plan->bytes == 4) copy_tile(from, to, &row, &column, column.to, 4);
    else copy_tile(from, to, &row, &column, column.to, 8);
}

static void copy_tiles(void *argument, size_t begin, size_t count) {
    for (size_t k = begin; k < begin + count; k++) copy_one_tile(argument, (int64_t)k);
}

static int densest_axis(const copy_plan *plan) {
    int last = plan->rank - 1, found = last;
    for (int d = last - 1; d >= 0; d--) {
        if (llabs(plan->axis[d].from) < llabs(plan->axis[found].from) && plan->axis[d].from) found = d;
    }
    return plan->axis[last].from == 0 || found == last ? -1 : found;
}

static void tile_copy(psg_context *context, copy_plan *plan, int64_t items) {
    int last = plan->rank - 1;
    plan->row = densest_axis(plan);
    plan->tile_rows = TILE;
    plan->tile_columns = plan->row >= 0 ? TILE : STRETCH;
    const axis *row = &plan->axis[plan->row >= 0 ? plan->row : last];
    int64_t tiles = items / plan->axis[last].size * tiles_along(plan->axis[last].size, plan->tile_columns);
    if (plan->row >= 0) tiles = tiles / row->size * tiles_along(row->size, TILE);
    psg_for_ranges(context, (size_t)tiles, psg_range_unit(items / tiles), copy_tiles, plan);
}

/* ---- */

void psg_strided_copy(psg_context *context, const psg_tensor *from, const psg_tensor *to) {
    int64_t count = psg_tensor_count(from);
    if (count <= 0) return;
    copy_plan plan = plan_of(from, to);
    const axis *last = plan.axis + plan.rank - 1;
    if (plan.rank && (last->from != plan.bytes || last->to != plan.bytes)) {
        tile_copy(context, &plan, count);
        return;
    }
    if (plan.rank) {
        plan.rank--;
        plan.bytes *= last->size;
        count /= last->size;
    }
    run_copy(context, &plan, count, psg_dtype_size(from->dtype));
}

static void zero_range(void *argument, size_t begin, size_t count) {
    const psg_tensor *tensor = argument;
    memset(psg_tensor_offset(tensor, (int64_t)begin), 0, count * psg_dtype_size(tensor->dtype));
}

void psg_fill_zero(psg_context *context, const psg_tensor *tensor) {
    psg_for_ranges(context, (size_t)psg_tensor_count(tensor), PSG_RANGE, zero_range, (void *)(uintptr_t)tensor);
}
