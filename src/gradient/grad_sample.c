/* grad_sample: the materialised B x P array, one sample and one range of a part a task. */
#include <math.h>
#include <string.h>

#include "base/floats.h"
#include "base/label.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "gradient/plan.h"
#include "kernels.h"

typedef struct store_job {
    const psg_plan *plan;
    double scale;
    bool accumulate;
    const psg_tensor *out;
    int64_t numel;             /* of a sample */
    const psg_part *part;
    int64_t range, ranges;     /* elements of a task; tasks a sample */
} store_job;

/* Elements [first, last) of a part; outputs whose samples are contiguous. */
static void write_range(const store_job *j, const psg_part *part, int64_t n, int64_t first, int64_t last,
                        void *workspace) {
    void *out = psg_tensor_offset(j->out, n * j->out->stride[0] + first);
    part->room->write(part, n, j->scale * part->scale, first, last, out, j->accumulate, workspace);
}

static void run_range(void *argument, size_t index, unsigned slot) {
    const store_job *j = argument;
    int64_t n = (int64_t)index / j->ranges, first = j->part->place.offset + (int64_t)index % j->ranges * j->range;
    int64_t last = psg_least(first + j->range, psg_place_end(&j->part->place));
    write_range(j, j->part, n, first, last, j->plan->context->workspace[slot]);
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

/* Ranges of whole rows; few samples are cut finer, so that there is work for every worker. */
static int64_t range_of(const psg_part *part, int64_t batch) {
    const psg_place *place = &part->place;
    int64_t rows = place->rows, row = place->columns;
    int64_t target = batch >= 32 || rows <= 96 ? rows : rows / 8 > 96 ? rows / 8 : 96;
    if (rows == 1) return psg_even_part(row, batch >= 32 ? row : 1 << 16, 64);
    return psg_even_part(rows, target, 12) * place->stride;
}

static int64_t ranges_of(const psg_part *part, int64_t batch) {
    return psg_parts_of(psg_place_span(&part->place), range_of(part, batch));
}

static void visit_whole(void *argument, const psg_visit *visit) {
    const store_job *j = argument;
    for (const psg_part *part = visit->first; part < visit->end; part++) {
        bool whole = ranges_of(part, j->plan->batch) == 1;
        for (int64_t n = visit->sample; n < visit->last && whole; n++) {
            write_range(j, part, n, part->place.offset, psg_place_end(&part->place), visit->workspace);
        }
    }
}

/* Parts that are cut get a section each. */
static void write_parts(store_job *j) {
    const psg_part *end = j->plan->parts + j->plan->part_count;
    bool whole = psg_plan_covers(j->plan, 0);
    for (j->part = j->plan->parts; j->part < end; j->part++) whole = whole && j->part->room->overwrites;
    if (!j->accumulate && !whole) {
        psg_parallel(j->plan->context, (size_t)j->plan->batch, run_clear, j);
        j->accumulate = true;
    }
    psg_plan_visit(j->plan, visit_whole, j);
    for (j->part = j->plan->parts; j->part < end; j->part++) {
        j->range = range_of(j->part, j->plan->batch);
        j->ranges = ranges_of(j->part, j->plan->batch);
        if (j->ranges > 1) psg_parallel(j->plan->context, (size_t)(j->plan->batch * j->ranges), run_range, j);
    }
}

static void materialise(store_job *j) {
    j->numel = psg_gradient_numel(j->plan->gradients[0]);
    if (!j->plan->batch || !j->numel) return;
    psg_tensor sample = psg_tensor_at(j->out, 0);
    j->range = psg_least(j->numel, (int64_t)(PSG_OUT_TILE_BYTES / psg_dtype_size(j->out->dtype)));
    j->ranges = psg_parts_of(j->numel, j->range);
    if (psg_tensor_is_contiguous(&sample)) {
        write_parts(j);
        return;
    }
    psg_plan_visit(j->plan, NULL, NULL);
    psg_parallel(j->plan->context, (size_t)(j->plan->batch * j->ranges), run_scattered, j);
}

static void fill_bad(const store_job *j) {
    for (int64_t n = 0; n < j->plan->batch; n++) {
        if (!psg_plan_is_bad(j->plan, n)) continue;
        psg_tensor sample = psg_tensor_at(j->out, n);
        for (int64_t f = 0; f < j->numel; f++) {
            j->plan->context->kernels[j->out->dtype]->from_f64(1, 1.0, &(double){ NAN }, element_of(&sample, f), false);
        }
    }
}

static psg_status check_out(const psg_set *set, const psg_gradient *gradient, const psg_tensor *out) {
    int64_t shape[PSG_MAX_RANK + 1] = { gradient->batch_size };
    memcpy(shape + 1, gradient->shape, sizeof gradient->shape);
    const psg_label label = psg_label_of("out", gradient->name);
    if (!out) return psg_check_array(set, label.text, out);
    return psg_check_output(set, label.text, out, gradient->dtype, gradient->rank + 1, shape, PSG_ALLOW_STRIDES);
}

psg_status psg_grad_sample(psg_context *context, const psg_gradient *gradient, double scale, psg_write write,
                           const psg_tensor *out) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_grad_sample", &gradient, 1 };
    psg_plan plan = { .question = PSG_ASK_GRAD_SAMPLE };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = psg_check_write(&set, write);
    if (!status) status = check_out(&set, gradient, out);
    store_job j = { .plan = &plan, .scale = scale, .accumulate = write == PSG_ACCUMULATE, .out = out };
    if (!status) materialise(&j);
    if (!status) fill_bad(&j);
    psg_plan_end(&plan);
    return status;
}
