/* grad_sample: the materialised B x P array, one sample and one range of a part a task. */
#include <string.h>

#include "base/parallel.h"
#include "base/shape.h"
#include "gradient/plan.h"

typedef struct store_job {
    const psg_plan *plan;
    const psg_part *part;
    double scale;
    bool accumulate;
    const psg_tensor *out;
    int64_t numel;             /* of a sample */
    int64_t first, last, range; /* elements of the part, of a task */
    int64_t ranges;            /* tasks a sample */
} store_job;

/* Outputs whose samples are contiguous. */
static void run_direct(void *argument, size_t index, unsigned slot) {
    const store_job *j = argument;
    int64_t n = (int64_t)index / j->ranges, first = j->first + (int64_t)index % j->ranges * j->range;
    int64_t last = psg_least(first + j->range, j->last);
    void *out = psg_tensor_offset(j->out, n * j->out->stride[0] + first);
    j->part->room->write(j->part, n, j->scale * j->part->scale, first, last, out, j->accumulate,
                         j->plan->context->workspace[slot]);
}

static void run_clear(void *argument, size_t n, unsigned slot) {
    const store_job *j = argument;
    void *sample = psg_tensor_offset(j->out, (int64_t)n * j->out->stride[0]);
    (void)slot;
    j->plan->context->kernels[j->out->dtype]->clear((size_t)j->numel, sample);
}

static void *element_of(const psg_tensor *sample, int64_t flat) {
    int64_t position = 0;
    for (int d = sample->rank - 1; d >= 0; d--) {
        position += flat % sample->shape[d] * sample->stride[d];
        flat /= sample->shape[d];
    }
    return psg_tensor_offset(sample, position);
}

/* Others: through a tile. */
static void run_scattered(void *argument, size_t index, unsigned slot) {
    const store_job *j = argument;
    int64_t n = (int64_t)index / j->ranges, first = (int64_t)index % j->ranges * j->range;
    int64_t last = psg_least(first + j->range, j->numel);
    void *workspace = j->plan->context->workspace[slot], *tile = psg_tile_memory(workspace);
    const psg_kernel_table *kernels = j->plan->context->kernels[j->out->dtype];
    psg_tensor sample = psg_tensor_at(j->out, n);
    memset(tile, 0, (size_t)(last - first) * psg_dtype_size(j->out->dtype));
    psg_write_parts(j->plan->parts, j->plan->part_count, n, j->scale, first, last, tile, workspace);
    for (int64_t f = first; f < last; f++) {
        const void *element = psg_elements(tile, j->out->dtype, f - first);
        kernels->scale_row(1, 1.0, element, 1, element_of(&sample, f), j->accumulate);
    }
}

/* Tasks of whole rows; few samples are cut finer, so that there is work for every worker. */
static void cut(store_job *j) {
    const psg_place *place = &j->part->place;
    int64_t batch = j->plan->batch, rows = place->rows, row = rows > 1 ? place->stride : place->columns;
    int64_t target = batch >= 32 || rows <= 96 ? rows : rows / 8 > 96 ? rows / 8 : 96;
    j->first = place->offset;
    j->last = psg_place_end(place);
    j->range = psg_even_part(rows, target, 12) * row;
    if (rows == 1) j->range = psg_even_part(row, batch >= 32 ? row : 1 << 16, 64);
    j->ranges = psg_parts_of(j->last - j->first, j->range);
}

/* Vectors of few elements go several samples a task. */
static void write_parts(store_job *j) {
    bool whole = psg_plan_covers(j->plan, 0);
    for (size_t k = 0; k < j->plan->part_count; k++) whole = whole && j->plan->parts[k].room->overwrites;
    if (!j->accumulate && !whole) {
        psg_parallel(j->plan->context, (size_t)j->plan->batch, run_clear, j);
        j->accumulate = true;
    }
    for (size_t k = 0; k < j->plan->part_count; k++) {
        j->part = &j->plan->parts[k];
        cut(j);
        if (j->ranges == 1) psg_plan_samples(j->plan, run_direct, j);
        else psg_parallel(j->plan->context, (size_t)(j->plan->batch * j->ranges), run_direct, j);
    }
}

static void materialise(store_job *j) {
    j->numel = psg_gradient_numel(j->plan->gradients[0]);
    if (!j->plan->batch || !j->numel) return;
    psg_tensor sample = psg_tensor_at(j->out, 0);
    j->range = psg_least(j->numel, (int64_t)(PSG_OUT_TILE_BYTES / psg_dtype_size(j->out->dtype)));
    j->ranges = psg_parts_of(j->numel, j->range);
    if (psg_tensor_is_contiguous(&sample)) write_parts(j);
    else psg_parallel(j->plan->context, (size_t)(j->plan->batch * j->ranges), run_scattered, j);
}

static psg_status check_out(const psg_set *set, const psg_gradient *gradient, const psg_tensor *out) {
    int64_t shape[PSG_MAX_RANK + 1] = { gradient->batch_size };
    memcpy(shape + 1, gradient->shape, sizeof gradient->shape);
    if (!out) return psg_check_array(set, "out", out);
    return psg_check_output(set, "out", out, gradient->dtype, gradient->rank + 1, shape, PSG_ALLOW_STRIDES);
}

psg_status psg_grad_sample(psg_context *context, const psg_gradient *gradient, double scale, psg_write write,
                           const psg_tensor *out) {
    psg_set set = { context, "psg_grad_sample", &gradient, 1 };
    psg_plan plan = { .question = PSG_ASK_GRAD_SAMPLE };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = psg_check_write(&set, write);
    if (!status) status = check_out(&set, gradient, out);
    store_job j = { .plan = &plan, .scale = scale, .accumulate = write == PSG_ACCUMULATE, .out = out };
    if (!status) materialise(&j);
    psg_plan_end(&plan);
    return status;
}
