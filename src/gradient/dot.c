/* dot: <grad[n], v>, a sum over blocks.
 *
 * Factored, T > 1: tiles of the gradient against tiles of v.  T = 1: g^T V a with all samples' g V as one product, a
 * few samples at a time: (G V) . A. */
#include "base/parallel.h"
#include "blas/gemm.h"
#include "gradient/factored.h"
#include "gradient/plan.h"
#include "gradient/range.h"

typedef struct job {
    psg_context *context;
    const psg_kernel_table *kernels;
    psg_piece piece;
    const psg_tensor *direction;
    double *dots;
    int64_t samples;     /* a task of the projecting route */
    int64_t columns;     /* of V at a time, there */
} job;

/* <backprop[n, t], v>. */
static double row_dot(const job *j, int64_t n, int64_t t, const void *v) {
    const psg_piece *p = &j->piece;
    const void *row = psg_row(&p->g, p->dtype, n, t);
    double sum = 0;
    if (p->g.step == 1) return j->kernels->dot((size_t)p->g.columns, row, v);
    for (int64_t i = 0; i < p->g.columns; i++) {
        sum += j->kernels->dot(1, psg_elements(row, p->dtype, i * p->g.step), psg_elements(v, p->dtype, i));
    }
    return sum;
}

static double rows_dot(const job *j, int64_t n) {
    const psg_piece *p = &j->piece;
    const void *v = psg_elements(j->direction->data, p->dtype, p->offset);
    double sum = 0;
    for (int64_t t = 0; t < p->positions; t++) sum += row_dot(j, n, t, v);
    return sum * p->scale;
}

static double sparse_dot(const job *j, int64_t n) {
    const psg_piece *p = &j->piece;
    double sum = 0;
    for (int64_t t = 0; t < p->positions; t++) {
        int64_t id = psg_id_at(&p->ids, n, t);
        const void *v = psg_elements(j->direction->data, p->dtype, p->offset + id * p->row_stride);
        if (id >= 0) sum += row_dot(j, n, t, v);
    }
    return sum * p->scale;
}

static void run_sample(void *argument, size_t n, unsigned slot) {
    const job *j = argument;
    switch (j->piece.form) {
    case PSG_ROWS: j->dots[n] += rows_dot(j, (int64_t)n); break;
    case PSG_SPARSE_ROWS: j->dots[n] += sparse_dot(j, (int64_t)n); break;
    default:
        j->dots[n] += psg_dot_tiles(j->kernels, &j->piece, (int64_t)n, j->direction->data, j->context->workspace[slot]);
    }
}

static void run_projection(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    const psg_piece *p = &j->piece;
    int64_t first = (int64_t)index * j->samples;
    int64_t count = p->batch - first < j->samples ? p->batch - first : j->samples;
    void *projected = j->context->workspace[slot];
    for (int64_t c = 0; c < p->a.columns; c += j->columns) {
        int64_t columns = p->a.columns - c < j->columns ? p->a.columns - c : j->columns;
        psg_gemm gemm = { .dtype = p->dtype, .m = count, .n = columns, .k = p->g.columns, .alpha = 1,
                          .a = psg_row(&p->g, p->dtype, first, 0), .lda = p->g.batch,
                          .b = psg_elements(j->direction->data, p->dtype, p->offset + c), .ldb = p->row_stride,
                          .c = projected, .ldc = columns };
        psg_gemm_rows_serial(j->context, &gemm);
        for (int64_t n = 0; n < count; n++) {
            const void *a = psg_elements(psg_row(&p->a, p->dtype, first + n, 0), p->dtype, c);
            double part = j->kernels->dot((size_t)columns, psg_elements(projected, p->dtype, n * columns), a);
            j->dots[first + n] += part * p->scale;
        }
    }
}

static void add_projections(job *j) {
    const int64_t room = (int64_t)(PSG_WORKSPACE_BYTES / psg_dtype_size(j->piece.dtype));
    j->samples = psg_even_part(j->piece.batch, 64, 8);
    j->columns = room / j->samples < j->piece.a.columns ? room / j->samples : j->piece.a.columns;
    psg_parallel(j->context, (size_t)((j->piece.batch + j->samples - 1) / j->samples), run_projection, j);
}

static void add_dots(psg_context *context, const psg_gradient *gradient, const psg_tensor *direction, double *dots) {
    for (size_t k = 0; k < gradient->block_count; k++) {
        psg_gradient single = *gradient;
        single.blocks = &gradient->blocks[k];
        single.block_count = 1;
        job j = { .context = context, .kernels = context->kernels[gradient->dtype], .direction = direction,
                  .piece = psg_piece_of(gradient, k), .dots = dots };
        if (!j.piece.g.columns || !j.piece.a.columns) continue;
        if (psg_plan_dot(context, &single) == PSG_ROUTE_PROJECT) add_projections(&j);
        else psg_parallel(context, (size_t)gradient->batch_size, run_sample, &j);
    }
}

psg_status psg_dot(psg_context *context, const psg_gradient *const *gradients, size_t count,
                   const psg_tensor *direction, double *dots) {
    psg_status status = psg_check_questions(context, "psg_dot", gradients, count);
    if (!status) status = psg_check_tensors(context, "psg_dot", "direction", gradients, count, direction, false);
    if (status) return status;
    if (!dots) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dot: dots is NULL");
    for (int64_t n = 0; n < gradients[0]->batch_size; n++) dots[n] = 0;
    for (size_t k = 0; k < count; k++) add_dots(context, gradients[k], &direction[k], dots);
    return PSG_OK;
}
