#include "ops/arithmetic/broadcast.h"

#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/ranges.h"

/* ---- shapes and strides ---- */

bool psg_broadcast_shape(const psg_tensor *a, const psg_tensor *b, int64_t shape[PSG_MAX_RANK]) {
    for (int d = 0; d < a->rank; d++) {
        if (a->shape[d] != b->shape[d] && a->shape[d] != 1 && b->shape[d] != 1) return false;
        shape[d] = a->shape[d] == 1 ? b->shape[d] : a->shape[d];
    }
    return true;
}

/* The stride of a contiguous operand along dimension d of the whole. */
static int64_t stride_along(const psg_tensor *operand, int rank, int d) {
    int at = d - (rank - operand->rank);
    if (at < 0 || operand->shape[at] == 1) return 0;
    return psg_shape_product(operand->rank - at - 1, operand->shape + at + 1);
}

/* Whether dimension d and the one appended last, which encloses it, are one for this operand. */
static bool joins(int64_t outer_stride, int64_t inner_stride, int64_t inner_size) {
    return outer_stride == inner_stride * inner_size;
}

static void append(psg_broadcast *plan, int64_t size, int64_t whole, int64_t a, int64_t b) {
    int last = plan->rank - 1;
    if (last >= 0 && joins(plan->whole_stride[last], whole, size) && joins(plan->a_stride[last], a, size) &&
        joins(plan->b_stride[last], b, size)) {
        size *= plan->shape[last];
    } else {
        last = plan->rank++;
    }
    plan->shape[last] = size;
    plan->whole_stride[last] = whole;
    plan->a_stride[last] = a;
    plan->b_stride[last] = b;
}

psg_broadcast psg_broadcast_of(const psg_tensor *whole, const psg_tensor *a, const psg_tensor *b, int batch) {
    psg_broadcast plan = { .rank = 0 };
    for (int d = 0; d < whole->rank; d++) {
        int64_t inner = psg_shape_product(whole->rank - d - 1, whole->shape + d + 1);
        if (whole->shape[d] == 1 && d == batch) append(&plan, 1, inner, 1, 1);
        if (whole->shape[d] == 1) continue;
        append(&plan, whole->shape[d], stride_along(whole, whole->rank, d), stride_along(a, whole->rank, d),
               stride_along(b, whole->rank, d));
    }
    if (!plan.rank) append(&plan, 1, 1, 0, 0);
    return plan;
}

/* ---- rows: the last dimension of a plan, in pieces of at most PSG_RANGE elements ---- */

typedef struct place {
    int64_t whole, a, b;   /* element offsets */
} place;

/* The index-th combination, in row-major order, of the first `rank` dimensions for which (a's stride != 0) == kept, or
 * of all of them when kept < 0. */
static place place_at(const psg_broadcast *plan, int rank, int kept, int64_t index) {
    place at = { 0, 0, 0 };
    for (int d = rank - 1; d >= 0; d--) {
        if (kept >= 0 && (plan->a_stride[d] != 0) != kept) continue;
        int64_t k = index % plan->shape[d];
        index /= plan->shape[d];
        at.whole += k * plan->whole_stride[d];
        at.a += k * plan->a_stride[d];
        at.b += k * plan->b_stride[d];
    }
    return at;
}

static int64_t pieces_of(int64_t size, int64_t piece) { return size / piece + (size % piece != 0); }

typedef struct apply_job {
    psg_broadcast plan;
    int64_t pieces;        /* of a row */
    psg_pair_kernel kernel;
    const psg_tensor *whole, *a, *b;
} apply_job;

static void apply_pieces(void *argument, size_t begin, size_t count) {
    const apply_job *job = argument;
    const psg_broadcast *plan = &job->plan;
    int last = plan->rank - 1;
    int64_t a_step = plan->a_stride[last], b_step = plan->b_stride[last];
    for (int64_t k = (int64_t)begin; k < (int64_t)(begin + count); k++) {
        place at = place_at(plan, last, -1, k / job->pieces);
        int64_t start = k % job->pieces * PSG_RANGE, rest = plan->shape[last] - start;
        job->kernel((size_t)(rest < PSG_RANGE ? rest : PSG_RANGE),
                    psg_tensor_offset(job->a, at.a + start * a_step), (size_t)a_step,
                    psg_tensor_offset(job->b, at.b + start * b_step), (size_t)b_step,
                    psg_tensor_offset(job->whole, at.whole + start));
    }
}

void psg_broadcast_apply(psg_context *context, psg_pair_kernel kernel, const psg_tensor *whole, const psg_tensor *a,
                         const psg_tensor *b) {
    if (!psg_tensor_count(whole)) return;
    apply_job job = { .plan = psg_broadcast_of(whole, a, b, -1), .kernel = kernel, .whole = whole, .a = a, .b = b };
    int last = job.plan.rank - 1;
    int64_t rows = psg_shape_product(last, job.plan.shape);
    job.pieces = pieces_of(job.plan.shape[last], PSG_RANGE);
    psg_for_ranges(context, (size_t)(rows * job.pieces), psg_range_unit(job.plan.shape[last]), apply_pieces, &job);
}

/* ---- sums ---- */

enum { SUM_PIECE = 1024 };

typedef struct sum_job {
    psg_broadcast plan;
    const psg_kernel_table *kernels;
    const psg_tensor *whole, *a, *b;   /* b NULL: ones */
    double scale;
    int64_t repeats;                   /* combinations of the repeated outer dimensions */
    int64_t run;                       /* how many of them, the innermost's, lie evenly spaced: these strides apart */
    int64_t whole_step, b_step;
    int64_t length;                    /* of a row of a: 1 when a is repeated along the last dimension */
    int64_t pieces;                    /* of such a row */
} sum_job;

/* sum += the row of whole at `at`, times b's. */
static void add_row(const sum_job *job, size_t n, place at, double *sum) {
    const psg_kernel_table *kernels = job->kernels;
    int last = job->plan.rank - 1;
    const void *whole = psg_tensor_offset(job->whole, at.whole);
    const void *b = job->b ? psg_tensor_offset(job->b, at.b) : NULL;
    bool b_varies = b && job->plan.b_stride[last];
    double factor = b && !b_varies ? kernels->sum(1, b) : 1;
    if (job->plan.a_stride[last]) kernels->add_to_f64(n, factor, whole, sum);
    else if (b_varies) *sum += kernels->dot(n, whole, b);
    else *sum += factor * kernels->sum(n, whole);
}

/* The same for a run of rows. */
static void add_run(const sum_job *job, size_t n, place at, double *sum) {
    int last = job->plan.rank - 1;
    if (job->plan.a_stride[last] && (!job->b || job->plan.b_stride[last])) {
        job->kernels->add_products_to_f64((size_t)job->run, n, psg_tensor_offset(job->whole, at.whole), job->whole_step,
                                          job->b ? psg_tensor_offset(job->b, at.b) : NULL, job->b_step, sum);
        return;
    }
    for (int64_t r = 0; r < job->run; r++, at.whole += job->whole_step, at.b += job->b_step) add_row(job, n, at, sum);
}

static void sum_piece(const sum_job *job, int64_t k) {
    const psg_broadcast *plan = &job->plan;
    int last = plan->rank - 1;
    double sum[SUM_PIECE];
    int64_t start = k % job->pieces * SUM_PIECE, rest = job->length - start;
    size_t n = (size_t)(rest < SUM_PIECE ? rest : SUM_PIECE);
    size_t row = job->plan.a_stride[last] ? n : (size_t)plan->shape[last];
    place kept = place_at(plan, last, 1, k / job->pieces);
    memset(sum, 0, n * sizeof *sum);
    for (int64_t r = 0; r < job->repeats; r += job->run) {
        place at = place_at(plan, last, 0, r);
        at.whole += kept.whole + start;
        at.b += kept.b + start * plan->b_stride[last];
        add_run(job, row, at, sum);
    }
    job->kernels->from_f64(n, job->scale, sum, psg_tensor_offset(job->a, kept.a + start), false);
}

static void sum_pieces(void *argument, size_t begin, size_t count) {
    for (size_t k = begin; k < begin + count; k++) sum_piece(argument, (int64_t)k);
}

/* Nothing to add: scale times an empty sum. */
static void fill_empty_sums(const psg_kernel_table *kernels, double scale, const psg_tensor *a) {
    double empty = 0;
    int64_t count = psg_tensor_count(a);
    for (int64_t k = 0; k < count; k++) kernels->from_f64(1, scale, &empty, psg_tensor_offset(a, k), false);
}

void psg_broadcast_sum(psg_context *context, const psg_tensor *whole, const psg_tensor *b, double scale,
                       const psg_tensor *a, int batch) {
    sum_job job = { .kernels = context->kernels[whole->dtype], .whole = whole, .a = a, .b = b, .scale = scale };
    if (!psg_tensor_count(whole)) {
        fill_empty_sums(job.kernels, scale, a);
        return;
    }
    job.plan = psg_broadcast_of(whole, a, b ? b : a, batch);
    int last = job.plan.rank - 1;
    int64_t rows = 1;
    job.repeats = job.run = 1;
    for (int d = 0; d < last; d++) {
        *(job.plan.a_stride[d] ? &rows : &job.repeats) *= job.plan.shape[d];
        if (job.plan.a_stride[d]) continue;
        job.run = job.plan.shape[d];
        job.whole_step = job.plan.whole_stride[d];
        job.b_step = job.plan.b_stride[d];
    }
    job.length = job.plan.a_stride[last] ? job.plan.shape[last] : 1;
    job.pieces = pieces_of(job.length, SUM_PIECE);
    int64_t work = psg_tensor_count(whole) / (rows * job.pieces);
    psg_for_ranges(context, (size_t)(rows * job.pieces), psg_range_unit(work), sum_pieces, &job);
}
