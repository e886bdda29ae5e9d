#include "gradient/sink.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "blas/gemm.h"
#include "gradient/plan.h"

/* ---- addends ---- */

/* Weights below 2^-900, whose products with f32 or f64 may vanish in part, are nothing beside any C that may be given. */
double psg_addend_weight(const psg_sum *sum, const psg_part *part, int64_t n) {
    double weight = sum->weights && !sum->squares ? sum->weights[n] : 1.0;
    if (weight != 0) weight *= part->scale;
    return fabs(weight) < 0x1p-900 ? 0 : weight;
}

psg_sink psg_sink_open(int64_t rows, int64_t columns, void *workspace) {
    double *sums = psg_tile_memory(workspace);
    memset(sums, 0, (size_t)(rows * columns) * sizeof *sums);
    return (psg_sink){ sums, rows, columns };
}

void psg_sink_close(const psg_part *part, const psg_sink *sink, int64_t first, int64_t stride) {
    const psg_tensor *out = part->out;
    for (int64_t i = 0; i < sink->rows; i++) {
        void *row = psg_elements_mutable(out->data, out->dtype, first + i * stride);
        part->context->kernels[out->dtype]->from_f64((size_t)sink->columns, 1.0, sink->sums + i * sink->columns, row,
                                                     part->accumulate);
    }
}

void psg_sink_add_product(const psg_sum *sum, const psg_kernel_table *kernels, psg_product *product, double weight,
                          const psg_sink *sink, void *workspace) {
    product->finish = sum->squares ? PSG_FINISH_ADD_SQUARES_F64 : PSG_FINISH_ADD_F64;
    product->alpha = weight;
    product->c = sink->sums;
    product->c_stride = sink->columns;
    kernels->product(product, workspace);
}

void psg_sink_add(const psg_sum *sum, const psg_kernel_table *kernels, double weight, const void *x, int64_t count,
                  double *sums) {
    if (sum->squares) kernels->add_squares_to_f64((size_t)count, weight * weight, x, sums);
    else kernels->add_to_f64((size_t)count, weight, x, sums);
}

void psg_sink_add_rows(const psg_kernel_table *kernels, size_t rows, const double *weights, const void *const *x,
                       int64_t count, double *sums) {
    kernels->add_rows_to_f64(rows, (size_t)count, weights, x, sums);
}

/* ---- the ordinary gradient in the real type: one large product ---- */

/* Whether rows are evenly spaced over samples and positions together: one (B T) x p matrix. */
static bool is_stacked(const psg_operand_view *x, const psg_piece *p, ptrdiff_t *stride) {
    *stride = p->positions == 1 ? x->batch : x->position;
    bool even = p->positions == 1 || p->batch == 1 || x->batch == p->positions * x->position;
    return even && x->step == 1 && *stride >= x->columns && *stride < INT32_MAX;
}

static bool sum_whole(const psg_sum *sum, const psg_part *part) {
    const psg_piece *p = part->pieces;
    const psg_tensor *out = part->out;
    ptrdiff_t g_stride, a_stride;
    bool product = sum->plan->is_plain && part->room == &psg_factored_room && part->count == 1 && !p->has_windows;
    if (!product || out->dtype != part->dtype || part->place.stride >= INT32_MAX ||
        !is_stacked(&p->g, p, &g_stride) || !is_stacked(&p->a, p, &a_stride)) return false;
    psg_gemm gemm = { .dtype = p->dtype, .transpose_a = true, .m = p->g.columns, .n = p->a.columns,
                      .k = p->batch * p->positions, .alpha = p->scale,
                      .beta = part->accumulate ? 1.0 : 0.0, .a = p->g.data, .lda = g_stride,
                      .b = p->a.data, .ldb = a_stride,
                      .c = psg_elements_mutable(out->data, out->dtype, part->place.offset),
                      .ldc = part->place.stride };
    psg_gemm_rows(part->context, &gemm);
    return true;
}

/* ---- all parts in one parallel section ---- */

typedef struct sum_job {
    const psg_sum *sum;
    const psg_part **parts;
    int64_t *ends;             /* of each part's tasks */
    size_t count;
} sum_job;

static void run_task(void *argument, size_t index, unsigned slot) {
    const sum_job *job = argument;
    size_t low = 0, high = job->count;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        bool before = (int64_t)index < job->ends[middle - 1];
        low = before ? low : middle;
        high = before ? middle : high;
    }
    const psg_part *part = job->parts[low];
    part->room->sum(job->sum, part, (int64_t)index - (low ? job->ends[low - 1] : 0), part->context->workspace[slot]);
}

/* ---- the sum ---- */

/* What no part writes is cleared first, and then added to. */
static void start(psg_plan *plan, psg_write write, const psg_tensor *outs, int64_t *covered) {
    memset(covered, 0, plan->gradient_count * sizeof *covered);
    for (size_t k = 0; k < plan->part_count; k++) {
        covered[plan->parts[k].gradient] += plan->parts[k].place.rows * plan->parts[k].place.columns;
    }
    for (size_t k = 0; k < plan->gradient_count && write == PSG_OVERWRITE; k++) {
        size_t bytes = (size_t)psg_tensor_count(&outs[k]) * psg_dtype_size(outs[k].dtype);
        if (covered[k] != psg_tensor_count(&outs[k])) memset(outs[k].data, 0, bytes);
    }
    for (size_t k = 0; k < plan->part_count; k++) {
        psg_part *part = &plan->parts[k];
        part->out = &outs[part->gradient];
        part->accumulate = write == PSG_ACCUMULATE || covered[part->gradient] != psg_tensor_count(part->out);
    }
}

psg_status psg_sum_samples(psg_plan *plan, const char *function, const double *weights, bool squares, psg_write write,
                           const psg_tensor *outs) {
    int64_t *covered = psg_plan_take(plan, function, (plan->gradient_count + plan->part_count) * sizeof *covered);
    psg_sum sum = { plan, weights, squares };
    sum_job job = { .sum = &sum, .ends = covered + plan->gradient_count };
    job.parts = psg_plan_take(plan, function, plan->part_count * sizeof *job.parts);
    if (!covered || !job.parts) return PSG_ERR_MEMORY;
    start(plan, write, outs, covered);
    for (size_t k = 0; k < plan->part_count; k++) {
        const psg_part *part = &plan->parts[k];
        if (sum_whole(&sum, part)) continue;
        job.parts[job.count] = part;
        job.ends[job.count] = (job.count ? job.ends[job.count - 1] : 0) + part->room->sum_tasks(part);
        job.count++;
    }
    if (job.count) psg_parallel(plan->context, (size_t)job.ends[job.count - 1], run_task, &job);
    return PSG_OK;
}
