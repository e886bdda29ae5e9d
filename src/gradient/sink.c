#include "gradient/plan.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "blas/gemm.h"
#include "grid_sum.h"
#include "kernels.h"

static bool is_on_grid(const psg_sink *to) { return to->plan->units != 0; }

/* In units, and odd: its last bit is set.  Downwards, for the sake of the bound. */
static double grid_weight(double weight, double units) {
    int64_t bits;
    weight *= units;
    memcpy(&bits, &weight, sizeof bits);
    if (weight != 0) bits = (bits - 1) | 1;
    memcpy(&weight, &bits, sizeof weight);
    return weight;
}

/* Weights below 2^-900, whose products with f32 or f64 may vanish in part, are nothing beside any C that may be. */
double psg_addend_weight(const psg_sink *to, int64_t n) {
    if (n < to->first || n >= to->end || !psg_part_live(to->part, n)) return 0;
    double weight = to->weights && !to->squares ? to->weights[n] : 1.0;
    if (weight != 0) weight *= to->part->scale;
    if (fabs(weight) < 0x1p-900) return 0;
    return is_on_grid(to) ? grid_weight(weight, to->plan->units) : weight;
}

static void clear(const psg_sink *to, int64_t count, double *sums) {
    if (is_on_grid(to)) to->part->kernels->grid_begin((size_t)count, sums);
    else memset(sums, 0, (size_t)count * sizeof *sums);
}

void psg_sink_clear(const psg_sink *to) { clear(to, to->at.rows * to->at.columns, to->sums); }
void psg_sink_clear_row(const psg_sink *to, double *sums) { clear(to, to->at.columns, sums); }

void psg_sink_close(const psg_sink *to, int64_t first, int64_t stride) {
    const psg_tensor *out = to->part->out;
    size_t columns = (size_t)to->at.columns;
    const double *sums = to->sums;
    for (int64_t i = 0; i < to->at.rows; i++, first += stride, sums += columns) {
        if (is_on_grid(to)) {
            to->part->kernels->grid_end(columns, sums, (int64_t *)out->data + first);
        } else {
            void *row = psg_elements_mutable(out->data, out->dtype, first);
            to->part->context->kernels[out->dtype]->from_f64(columns, 1.0, sums, row, to->part->accumulate);
        }
    }
}

void psg_sink_add_product(const psg_sink *to, const psg_kernel_table *kernels, psg_product *product, double weight) {
    product->finish = to->squares ? PSG_FINISH_ADD_SQUARES_F64 : PSG_FINISH_ADD_F64;
    product->alpha = weight;
    product->grid = is_on_grid(to);
    product->c = to->sums;
    product->c_stride = to->at.columns;
    kernels->product(product, to->workspace);
}

void psg_sink_add(const psg_sink *to, const psg_kernel_table *kernels, double weight, const void *x, int64_t count,
                  double *sums) {
    if (to->squares) kernels->add_squares_to_f64((size_t)count, weight * weight, x, sums);
    else if (is_on_grid(to)) kernels->add_rows_to_grid(1, (size_t)count, &weight, &x, sums);
    else kernels->add_to_f64((size_t)count, weight, x, sums);
}

void psg_sink_add_rows(const psg_sink *to, int64_t row, size_t count, const double *weights, const void *const *x) {
    const psg_kernel_table *kernels = to->part->kernels;
    size_t columns = (size_t)to->at.columns;
    double *sums = to->sums + row * to->at.columns;
    if (is_on_grid(to)) kernels->add_rows_to_grid(count, columns, weights, x, sums);
    else kernels->add_rows_to_f64(count, columns, weights, x, sums);
}

/* Whether rows are evenly spaced over samples and positions together: one (B T) x p matrix. */
static bool is_stacked(const psg_operand_view *x, const psg_piece *p, ptrdiff_t *stride) {
    *stride = p->positions == 1 ? x->batch : x->position;
    bool even = p->positions == 1 || p->batch == 1 || x->batch == p->positions * x->position;
    return even && x->step == 1 && *stride >= x->columns && *stride < INT32_MAX;
}

/* The ordinary gradient in the real type: one product, which is whether there is one. */
static bool find_product(const psg_plan *plan, const psg_part *part, psg_gemm *gemm) {
    const psg_piece *p = part->pieces;
    const psg_tensor *out = part->out;
    ptrdiff_t g_stride, a_stride;
    bool product = plan->is_plain && part->room == &psg_factored_room && part->count == 1 && !p->has_windows;
    if (!product || out->dtype != part->dtype || part->place.stride >= INT32_MAX ||
        !is_stacked(&p->g, p, &g_stride) || !is_stacked(&p->a, p, &a_stride)) return false;
    *gemm = (psg_gemm){ .dtype = p->dtype, .transpose_a = true, .m = p->g.columns, .n = p->a.columns,
                        .k = p->batch * p->positions, .alpha = p->scale,
                        .beta = part->accumulate ? 1.0 : 0.0, .a = p->g.data, .lda = g_stride,
                        .b = p->a.data, .ldb = a_stride,
                        .c = psg_elements_mutable(out->data, out->dtype, part->place.offset),
                        .ldc = part->place.stride };
    return true;
}

/* The first part that has the task. */
static const psg_part *part_of(const psg_plan *plan, int64_t task) {
    size_t low = 0, high = plan->part_count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (plan->parts[middle].tasks <= task) low = middle + 1;
        else high = middle;
    }
    return &plan->parts[low];
}

static int64_t rectangles_of(const psg_grid *g) {
    return psg_parts_of(g->rows, g->high) * psg_parts_of(g->columns, g->wide);
}

static void run_rectangle(psg_sink *to, const psg_part *part, const psg_grid *g, int64_t index) {
    psg_gemm gemm;
    if (find_product(to->plan, part, &gemm)) {
        psg_gemm_rows_serial(part->context, &gemm);
        return;
    }
    int64_t across = psg_parts_of(g->columns, g->wide), row = index / across * g->high, column = index % across * g->wide;
    to->part = part;
    to->at = (psg_rectangle){ row, psg_least(g->high, g->rows - row), column, psg_least(g->wide, g->columns - column) };
    part->room->sum(to);
}

/* One rectangle of a part, or all of several small parts. */
static void run_task(void *argument, size_t index, unsigned slot) {
    psg_sink to = *(const psg_sink *)argument;
    const psg_part *end = to.plan->parts + to.plan->part_count;
    int64_t task = (int64_t)index;
    to.workspace = to.plan->context->workspace[slot];
    to.sums = psg_tile_memory(to.workspace);
    for (const psg_part *part = part_of(to.plan, task); part < end && part->first_task <= task; part++) {
        psg_grid g = part->room->grid(part);
        if (part->tasks > task && !part->is_summed) run_rectangle(&to, part, &g, task - part->first_task);
    }
}

/* Parts of one rectangle share a task of some 10 microseconds. */
static int64_t assign_tasks(const psg_plan *plan) {
    int64_t tasks = 0;
    double room = -1;   /* of the last task */
    for (psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        psg_grid g = part->room->grid(part);
        psg_gemm gemm;
        int64_t rectangles = part->is_summed ? 0 : find_product(plan, part, &gemm) ? 1 : rectangles_of(&g);
        double cost = psg_part_cost(part, false) * (double)part->batch;
        bool joins = rectangles == 1 && cost <= room;
        part->first_task = tasks - (joins || part->is_summed);
        part->tasks = tasks += rectangles - joins;
        if (rectangles) room = joins ? room - cost : rectangles == 1 ? PSG_TASK_COST - cost : -1;
    }
    return tasks;
}

/* Products of fewer multiplications are not worth several workers. */
static const double large = 4 * PSG_TASK_COST;

void psg_sum_samples(psg_plan *plan, const double *weights, psg_write write, const psg_tensor *outs) {
    psg_sink to = { .plan = plan, .weights = weights, .end = plan->batch,
                    .squares = plan->question == PSG_ASK_SUM_OF_SQUARES };
    for (size_t k = 0; k < plan->gradient_count && write == PSG_OVERWRITE; k++) {   /* what no part writes is 0 */
        size_t bytes = (size_t)psg_tensor_count(&outs[k]) * psg_dtype_size(outs[k].dtype);
        if (!psg_plan_covers(plan, k)) memset(outs[k].data, 0, bytes);
    }
    for (psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        part->out = &outs[part->gradient];
        part->accumulate = write == PSG_ACCUMULATE || !psg_plan_covers(plan, part->gradient);
        psg_gemm gemm;
        part->is_summed = find_product(plan, part, &gemm) && psg_part_cost(part, false) * (double)part->batch > large;
        if (part->is_summed) psg_gemm_rows(plan->context, &gemm);
    }
    psg_parallel(plan->context, (size_t)assign_tasks(plan), run_task, &to);
}

/* Doubles hold some samples' sums on the grid; these go to the integers before the next. */
void psg_sum_on_grid(psg_plan *plan, const double *weights, double most, const psg_tensor *outs) {
    int64_t at_once = psg_most(1, (int64_t)fmin(PSG_GRID_ROOM / most, 0x1p40));
    for (psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        part->out = &outs[part->gradient];
        part->accumulate = true;
        part->is_summed = false;
    }
    for (psg_sink to = { .plan = plan, .weights = weights }; to.first < plan->batch; to.first = to.end) {
        to.end = psg_least(plan->batch, to.first + at_once);
        psg_parallel(plan->context, (size_t)assign_tasks(plan), run_task, &to);
    }
}
