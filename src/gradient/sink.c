#include "gradient/sink.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "blas/gemm.h"
#include "gradient/plan.h"

/* Weights below 2^-900, whose products with f32 or f64 may vanish in part, are nothing beside any C that may be given. */
double psg_addend_weight(const psg_sum *sum, const psg_part *part, int64_t n) {
    double weight = !psg_part_live(part, n) ? 0 : sum->weights && !sum->squares ? sum->weights[n] : 1.0;
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

/* Whether rows are evenly spaced over samples and positions together: one (B T) x p matrix. */
static bool is_stacked(const psg_operand_view *x, const psg_piece *p, ptrdiff_t *stride) {
    *stride = p->positions == 1 ? x->batch : x->position;
    bool even = p->positions == 1 || p->batch == 1 || x->batch == p->positions * x->position;
    return even && x->step == 1 && *stride >= x->columns && *stride < INT32_MAX;
}

/* The ordinary gradient in the real type: one large product. */
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

/* The part that has the task. */
static const psg_part *part_of(const psg_plan *plan, int64_t task) {
    size_t low = 0, high = plan->part_count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (plan->parts[middle].tasks <= task) low = middle + 1;
        else high = middle;
    }
    return &plan->parts[low];
}

static void run_task(void *argument, size_t index, unsigned slot) {
    const psg_sum *sum = argument;
    const psg_part *part = part_of(sum->plan, (int64_t)index);
    psg_grid g = part->room->grid(part);
    int64_t across = psg_parts_of(g.columns, g.wide), from_end = part->tasks - (int64_t)index;
    int64_t task = psg_parts_of(g.rows, g.high) * across - from_end;
    int64_t row = task / across * g.high, column = task % across * g.wide;
    psg_rectangle at = { row, psg_least(g.high, g.rows - row), column, psg_least(g.wide, g.columns - column) };
    part->room->sum(sum, part, &at, part->context->workspace[slot]);
}

void psg_sum_samples(psg_plan *plan, const double *weights, psg_write write, const psg_tensor *outs) {
    psg_sum sum = { plan, weights, plan->question == PSG_ASK_SUM_OF_SQUARES };
    int64_t tasks = 0;
    for (size_t k = 0; k < plan->gradient_count && write == PSG_OVERWRITE; k++) {   /* added to where parts leave gaps */
        size_t bytes = (size_t)psg_tensor_count(&outs[k]) * psg_dtype_size(outs[k].dtype);
        if (!psg_plan_covers(plan, k)) memset(outs[k].data, 0, bytes);
    }
    for (psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        part->out = &outs[part->gradient];
        part->accumulate = write == PSG_ACCUMULATE || !psg_plan_covers(plan, part->gradient);
        psg_grid g = part->room->grid(part);
        if (!sum_whole(&sum, part)) tasks += psg_parts_of(g.rows, g.high) * psg_parts_of(g.columns, g.wide);
        part->tasks = tasks;
    }
    if (tasks) psg_parallel(plan->context, (size_t)tasks, run_task, &sum);
}
