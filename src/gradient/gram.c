/* gram: inner products between samples, in double.
 *
 * For each tile of the parameter every sample's gradient there is written as a row of doubles, D (B x F), and D D^T is
 * added, by whole chains of row_dots, so that an entry depends on its two samples alone.  Two samples that both allow
 * it (one position; sparse rows) are answered without their gradients. */
#include <math.h>
#include <string.h>

#include "base/floats.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "gradient/plan.h"
#include "kernels.h"

enum { CHAIN = PSG_ROW_DOTS_BYTES / sizeof(double), BLOCK = 16 };   /* elements of an addition; samples a task */

typedef struct gram_job {
    const psg_plan *plan;
    const psg_part *part;
    double *gram, *of_part;    /* B x B */
    double *tile;              /* B x room */
    int64_t first, width, room;
} gram_job;

static void run_fill(void *argument, size_t n, unsigned slot) {
    const gram_job *j = argument;
    const psg_part *part = j->part;
    void *workspace = j->plan->context->workspace[slot], *real = psg_tile_memory(workspace);
    double *row = j->tile + (int64_t)n * j->room;
    bool gaps = !part->room->overwrites || (part->place.rows > 1 && part->place.stride != part->place.columns);
    if (gaps) memset(real, 0, (size_t)j->width * psg_dtype_size(part->dtype));
    memset(row, 0, (size_t)j->width * sizeof *row);
    part->room->write(part, (int64_t)n, part->scale, j->first, j->first + j->width, real, gaps, workspace);
    part->kernels->add_to_f64((size_t)j->width, 1.0, real, row);
}

/* Rows [i, i + BLOCK) of the lower triangle += D D^T; the longest first. */
static void run_product(void *argument, size_t index, unsigned slot) {
    const gram_job *j = argument;
    (void)slot;
    int64_t batch = j->plan->batch, i = (psg_parts_of(batch, BLOCK) - 1 - (int64_t)index) * BLOCK;
    int64_t rows = psg_least(BLOCK, batch - i);
    psg_row_dots dots = { .m = (size_t)rows, .n = (size_t)(i + rows), .k = (size_t)j->width, .diagonal = (size_t)i,
                          .accumulate = true, .x = j->tile + i * j->room, .x_stride = j->room, .y = j->tile,
                          .y_stride = j->room, .c = j->of_part + i * batch, .c_stride = batch };
    j->part->doubles->row_dots(&dots);
}

/* Tiles of 2 MiB, or of CHAIN elements a sample. */
static int64_t room_of(const psg_plan *plan) {
    int64_t chains = (int64_t)(PSG_WORKSPACE_BYTES / sizeof(double)) / CHAIN / psg_most(plan->batch, 1);
    return CHAIN * psg_most(1, psg_least(chains, 16));
}

static void add_tiles(gram_job *j) {
    int64_t end = psg_place_end(&j->part->place), batch = j->plan->batch;
    for (j->first = j->part->place.offset; j->first < end; j->first += j->room) {
        j->width = psg_least(j->room, end - j->first);
        psg_parallel(j->plan->context, (size_t)batch, run_fill, j);
        psg_parallel(j->plan->context, (size_t)psg_parts_of(batch, BLOCK), run_product, j);
    }
}

/* Any forced route forces tiles. */
static bool has_pairs(const gram_job *j, int64_t n) {
    const psg_room *room = j->part->room;
    return room->pair && !j->plan->context->forced_route && (!room->has_pairs || room->has_pairs(j->part, n));
}

static void run_pairs(void *argument, size_t n, unsigned slot) {
    const gram_job *j = argument;
    double *row = j->of_part + (int64_t)n * j->plan->batch;
    void *workspace = j->plan->context->workspace[slot];
    if (!has_pairs(j, (int64_t)n)) return;
    for (int64_t m = 0; m <= (int64_t)n; m++) {
        if (has_pairs(j, m)) row[m] = j->part->room->pair(j->part, (int64_t)n, m, workspace);
    }
}

static void add_part(gram_job *j) {
    int64_t batch = j->plan->batch, pairs = 0;
    for (int64_t n = 0; n < batch; n++) pairs += has_pairs(j, n);
    memset(j->of_part, 0, (size_t)(batch * batch) * sizeof *j->of_part);
    if (pairs < batch) add_tiles(j);
    if (pairs) psg_parallel(j->plan->context, (size_t)batch, run_pairs, j);
    for (int64_t k = 0; k < batch * batch; k++) j->gram[k] += j->of_part[k];
}

static psg_status add_parts(psg_plan *plan, double *gram) {
    size_t bytes = (size_t)(plan->batch * plan->batch) * sizeof *gram;
    gram_job job = { .plan = plan, .gram = gram, .room = room_of(plan) };
    job.of_part = psg_plan_take(plan, bytes);
    job.tile = psg_plan_take(plan, (size_t)(plan->batch * job.room) * sizeof(double));
    if (!job.of_part || !job.tile) return PSG_ERR_MEMORY;
    memset(gram, 0, bytes);
    psg_plan_visit(plan, NULL, NULL);
    for (job.part = plan->parts; job.part < plan->parts + plan->part_count; job.part++) add_part(&job);
    for (int64_t i = 0; i < plan->batch; i++) {
        for (int64_t k = 0; k < i; k++) gram[k * plan->batch + i] = gram[i * plan->batch + k];
    }
    for (int64_t i = 0; i < plan->batch; i++) {
        if (!psg_plan_is_bad(plan, i)) continue;
        for (int64_t k = 0; k < plan->batch; k++) gram[i * plan->batch + k] = gram[k * plan->batch + i] = NAN;
    }
    return PSG_OK;
}

static psg_status check_size(psg_context *context, int64_t batch) {
    int64_t cells;
    size_t bytes;
    if (psg_size_multiply(batch, batch, &cells) && psg_size_bytes(cells, sizeof(double), &bytes)) return PSG_OK;
    return psg_fail(context, PSG_ERR_OVERFLOW, "psg_gram: B x B does not fit, B = %lld", (long long)batch);
}

psg_status psg_gram(psg_context *context, const psg_gradient *const *gradients, size_t count, double *gram) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_gram", gradients, count };
    psg_plan plan = { .question = PSG_ASK_GRAM };
    psg_status status = psg_check_set(&set, false);
    if (!status) status = psg_check_array(&set, "gram", gram);
    if (!status) status = check_size(context, gradients[0]->batch_size);
    if (!status) status = psg_plan_make(&set, false, &plan);
    if (!status) status = add_parts(&plan, gram);
    psg_plan_end(&plan);
    return status;
}
