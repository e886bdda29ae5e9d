/* grad_sample_sparse: the rows that a sample touches, instead of the whole table. */
#include <stdlib.h>
#include <string.h>

#include "base/shape.h"
#include "gradient/sparse_rows.h"

static const char *const function = "psg_grad_sample_sparse";

typedef struct collect_job {
    const psg_plan *plan;
    double scale;
    int64_t positions, width;
    int64_t *ids, *counts;
    const psg_tensor *rows;
} collect_job;

/* ---- one sample ---- */

static int by_number(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Rows of the parameter, ascending: a part may be some columns of it, and begin below its first row. */
static int64_t find_rows(const collect_job *j, int64_t n, int64_t *ids) {
    int64_t found = 0, different = 0;
    for (size_t k = 0; k < j->plan->part_count; k++) {
        const psg_part *part = &j->plan->parts[k];
        int64_t count = psg_sparse_rows_of(part, n, ids + found);
        for (int64_t i = found; i < found + count; i++) {
            ids[i] = (part->place.offset + ids[i] * part->place.stride) / j->width;
        }
        found += count;
    }
    if (j->plan->part_count > 1) qsort(ids, (size_t)found, sizeof *ids, by_number);
    for (int64_t i = 0; i < found; i++) {
        if (!different || ids[i] != ids[different - 1]) ids[different++] = ids[i];
    }
    return different;
}

/* sums = elements [first, first + count) of a row of the parameter. */
static void sum_row(const collect_job *j, int64_t n, int64_t row, int64_t first, int64_t count, double *sums) {
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (size_t k = 0; k < j->plan->part_count; k++) {
        const psg_part *part = &j->plan->parts[k];
        int64_t column = part->place.offset % j->width, below = row * j->width + column - part->place.offset;
        int64_t from = psg_most(first, column), to = psg_least(first + count, column + part->place.columns);
        if (from >= to || below < 0 || below % part->place.stride) continue;
        psg_sparse_add_row(part, n, below / part->place.stride, from - column, to - from, part->scale,
                           sums + (from - first));
    }
}

static void run_sample(void *argument, size_t n, unsigned slot) {
    const collect_job *j = argument;
    const int64_t room = (int64_t)(PSG_TILE_BYTES / sizeof(double));
    int64_t *ids = j->ids + (int64_t)n * j->positions, count = j->width ? find_rows(j, (int64_t)n, ids) : 0;
    double *sums = psg_tile_memory(j->plan->context->workspace[slot]);
    for (int64_t k = 0; k < count; k++) {
        int64_t start = ((int64_t)n * j->positions + k) * j->width;
        for (int64_t first = 0; first < j->width; first += room) {
            int64_t some = psg_least(room, j->width - first);
            sum_row(j, (int64_t)n, ids[k], first, some, sums);
            j->plan->context->kernels[j->rows->dtype]->from_f64((size_t)some, j->scale, sums,
                                                                psg_tensor_offset(j->rows, start + first), false);
        }
    }
    for (int64_t k = count; k < j->positions; k++) ids[k] = -1;
    j->counts[n] = count;
}

/* ---- the question ---- */

static psg_status check_output(psg_context *context, const char *name, const psg_tensor *out, psg_dtype dtype, int rank,
                               const int64_t *shape) {
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    bool readable = out && out->rank >= 0 && out->rank <= PSG_MAX_RANK;
    if (!psg_tensor_is_valid(out) || !psg_shape_equal(out->rank, out->shape, rank, shape) ||
        !psg_tensor_is_contiguous(out)) {
        return psg_fail(context, PSG_ERR_SHAPE, "%s: %s must be contiguous of shape %s, is %s", function, name,
                        psg_shape_text(rank, shape, want), readable ? psg_tensor_text(out, have) : "no valid view");
    }
    if (out->dtype == dtype) return PSG_OK;
    return psg_fail(context, PSG_ERR_DTYPE, "%s: %s is %s, must be %s", function, name, psg_dtype_name(out->dtype),
                    psg_dtype_name(dtype));
}

/* Every block must be sparse rows inside the rows of a parameter (V, *D). */
static psg_status check_parts(const psg_plan *plan, const psg_gradient *gradient, int64_t width) {
    for (size_t k = 0; k < plan->part_count; k++) {
        const psg_part *part = &plan->parts[k];
        bool inside = gradient->rank > 0 && width && part->place.stride % width == 0 &&
                      part->place.offset % width + part->place.columns <= width;
        if (part->room == &psg_sparse_room && inside) continue;
        return psg_fail(plan->context, PSG_ERR_UNSUPPORTED, "%s: block %zu is %s, must be sparse rows inside the rows of "
                        "a parameter of shape (V, *D), like every block; psg_grad_sample takes all forms", function,
                        part->gradient, part->room->name);
    }
    return PSG_OK;
}

static psg_status check_outputs(const collect_job *j, const psg_gradient *gradient, const psg_tensor *ids) {
    int64_t shape[3] = { gradient->batch_size, j->positions, j->width };
    psg_context *context = j->plan->context;
    psg_status status = check_parts(j->plan, gradient, j->width);
    if (!status) status = check_output(context, "ids", ids, PSG_I64, 2, shape);
    if (!status) status = check_output(context, "rows", j->rows, gradient->dtype, 3, shape);
    if (!status && !j->counts) status = psg_fail(context, PSG_ERR_ARGUMENT, "%s: counts is NULL", function);
    return status;
}

/* A gradient a block: their rows are merged here. */
static psg_status plan_blocks(psg_context *context, const psg_gradient *gradient, psg_plan *plan) {
    size_t count = gradient->block_count ? gradient->block_count : 1;
    psg_gradient *single = psg_scratch(context, count * (sizeof *single + sizeof single));
    if (!single) return psg_fail_memory(context, function, count * sizeof *single);
    const psg_gradient **set = (const psg_gradient **)(void *)(single + count);
    for (size_t k = 0; k < count; k++) {
        single[k] = *gradient;
        if (gradient->block_count) single[k].blocks += k;
        single[k].block_count = gradient->block_count > 0;
        set[k] = &single[k];
    }
    return psg_plan_make(context, function, PSG_ASK_GRAD_SAMPLE, set, count, 0, false, plan);
}

psg_status psg_grad_sample_sparse(psg_context *context, const psg_gradient *gradient, double scale,
                                  const psg_tensor *ids, const psg_tensor *rows, int64_t *counts) {
    psg_plan plan;
    psg_status status = psg_check_questions(context, function, &gradient, 1);
    if (!status) status = plan_blocks(context, gradient, &plan);
    if (status) return status;
    int64_t width = gradient->rank > 0 ? psg_shape_product(gradient->rank - 1, gradient->shape + 1) : 1;
    collect_job j = { &plan, scale, psg_gradient_positions(gradient), width, NULL, counts, rows };
    status = check_outputs(&j, gradient, ids);
    j.ids = status ? NULL : ids->data;
    if (!status) psg_plan_samples(&plan, run_sample, &j);
    psg_plan_end(&plan);
    return status;
}
