/* grad_sample_sparse: the rows that a sample touches, instead of the whole table. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/floats.h"
#include "base/label.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "gradient/plan.h"
#include "kernels.h"

typedef struct collect_job {
    const psg_plan *plan;
    double scale;
    int64_t positions, width;
    int64_t *ids, *counts;
    const psg_tensor *rows;
} collect_job;

static int by_number(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Rows of the parameter, ascending: a part may be some columns of it, and begin below its first row. */
static int64_t find_rows(const collect_job *j, int64_t n, int64_t *ids) {
    int64_t found = 0, different = 0;
    for (const psg_part *part = j->plan->parts; part < j->plan->parts + j->plan->part_count; part++) {
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
    for (const psg_part *part = j->plan->parts; part < j->plan->parts + j->plan->part_count; part++) {
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
    const double scale = psg_plan_is_bad(j->plan, (int64_t)n) ? NAN : j->scale;
    for (int64_t k = 0; k < count; k++) {
        int64_t start = ((int64_t)n * j->positions + k) * j->width;
        for (int64_t first = 0; first < j->width; first += room) {
            int64_t some = psg_least(room, j->width - first);
            sum_row(j, (int64_t)n, ids[k], first, some, sums);
            j->plan->context->kernels[j->rows->dtype]->from_f64((size_t)some, scale, sums,
                                                                psg_tensor_offset(j->rows, start + first), false);
        }
    }
    for (int64_t k = count; k < j->positions; k++) ids[k] = -1;
    j->counts[n] = count;
}

/* Every block must be sparse rows inside the rows of a parameter (V, *D). */
static psg_status check_parts(const psg_plan *plan, const psg_gradient *gradient, int64_t width) {
    for (const psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        bool inside = gradient->rank > 0 && width && part->place.stride % width == 0 &&
                      part->place.offset % width + part->place.columns <= width;
        if (part->room == &psg_sparse_room && inside) continue;
        return psg_fail(plan->context, PSG_ERR_UNSUPPORTED, "%s: %s, block %lld is %s, must be sparse rows inside "
                        "the rows of a parameter of shape (V, *D), like every block; psg_grad_sample takes all forms",
                        plan->function, psg_label_at("gradients", 0, gradient->name).text,
                        (long long)part->pieces->block, part->room->name);
    }
    return PSG_OK;
}

static psg_status check_outputs(const psg_set *set, const psg_gradient *gradient, const int64_t *shape,
                                const psg_tensor *ids, const psg_tensor *rows) {
    psg_status status = psg_check_output(set, psg_label_of("ids", gradient->name).text, ids, PSG_I64, 2, shape,
                                         PSG_ALLOW_NOTHING);
    return status ? status : psg_check_output(set, psg_label_of("rows", gradient->name).text, rows, gradient->dtype, 3,
                                              shape, PSG_ALLOW_NOTHING);
}

psg_status psg_grad_sample_sparse(psg_context *context, const psg_gradient *gradient, double scale,
                                  const psg_tensor *ids, const psg_tensor *rows, int64_t *counts) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_grad_sample_sparse", &gradient, 1 };
    psg_plan plan = { .question = PSG_ASK_GRAD_SAMPLE, .is_apart = true };   /* rows are merged here, blocks in order */
    psg_status status = psg_plan_make(&set, false, &plan);
    if (status) return status;
    int64_t width = gradient->rank > 0 ? psg_shape_product(gradient->rank - 1, gradient->shape + 1) : 1;
    collect_job j = { &plan, scale, psg_gradient_positions(gradient), width, NULL, counts, rows };
    int64_t shape[3] = { gradient->batch_size, j.positions, width };
    status = check_parts(&plan, gradient, width);
    if (!status) status = check_outputs(&set, gradient, shape, ids, rows);
    if (!status) status = psg_check_array(&set, "counts", counts);
    j.ids = status ? NULL : ids->data;
    if (!status) psg_plan_visit(&plan, NULL, NULL);
    if (!status) psg_parallel(context, (size_t)plan.batch, run_sample, &j);
    psg_plan_end(&plan);
    return status;
}
