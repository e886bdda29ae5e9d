/* bilinear: y_o = x1^T W_o x2 + b_o.
 *
 * Everything is a product with rows that are outer products of rows:
 *   x1 (x) x2   for the output (times W as O x (I1 I2), transposed)
 *   g (x) x1    for the gradient of x2 (times W as (O I1) x I2)
 *   g (x) x2    for the gradient of x1 (times W_o^T, o by o)
 * These rows are made a chunk at a time in the workers' workspace.  The weight's per-sample gradient is factored,
 * g by x1 (x) x2 or g (x) x1 by x2, whichever is smaller; or rows, when positions are so many that the gradient itself
 * is smaller than both. */
#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "blas/gemm.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "psg/ops/linear.h"

enum { FIRST, SECOND, WEIGHT, BIAS, INPUTS };

/* Rows a task, and bytes of outer products a worker holds. */
enum { ROWS = 64, CHUNK_BYTES = 3 << 19, OUTPUTS = 64 };

/* ---- shape ---- */

static psg_status check_sizes(psg_call *call) {
    const psg_tensor *x1 = &call->input[FIRST].value, *x2 = &call->input[SECOND].value;
    const psg_tensor *w = &call->input[WEIGHT].value, *b = &call->input[BIAS].value;
    char text[PSG_SHAPE_TEXT], other[PSG_SHAPE_TEXT];
    if (x1->rank < 2 || !psg_shape_equal(x1->rank - 1, x1->shape, x2->rank - 1, x2->shape)) {
        return psg_call_fail(call, PSG_ERR_SHAPE,
                             "input1 has shape %s and input2 %s, must be (N, *, in1) and (N, *, in2)",
                             psg_tensor_text(x1, text), psg_tensor_text(x2, other));
    }
    int64_t in1 = x1->shape[x1->rank - 1], in2 = x2->shape[x2->rank - 1];
    if (w->rank != 3 || w->shape[1] != in1 || w->shape[2] != in2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight has shape %s, must be (out, %lld, %lld)",
                             psg_tensor_text(w, text), (long long)in1, (long long)in2);
    }
    if (w->shape[0] > INT32_MAX || in1 > INT32_MAX || in2 > INT32_MAX || in1 * in2 > INT32_MAX ||
        w->shape[0] * in1 > INT32_MAX || w->shape[0] * in2 > INT32_MAX) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "weight has shape %s, the product of two dimensions must be below "
                             "2^31", psg_tensor_text(w, text));
    }
    if (call->input[BIAS].role == PSG_ABSENT || (b->rank == 1 && b->shape[0] == w->shape[0])) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "bias must have shape (%lld), has %s", (long long)w->shape[0],
                         psg_tensor_text(b, text));
}

static psg_status shape(psg_call *call) {
    psg_status status = psg_operands_real(call, INPUTS);
    if (!status) status = check_sizes(call);
    if (!status) status = psg_operand_beside_batch(call, FIRST);
    if (!status) status = psg_operand_beside_batch(call, SECOND);
    if (!status) status = psg_operand_not_computed(call, WEIGHT);
    if (!status) status = psg_operand_not_computed(call, BIAS);
    if (status) return status;
    const psg_tensor *x = &call->input[FIRST].value;
    int64_t out[PSG_MAX_RANK];
    for (int d = 0; d < x->rank; d++) out[d] = x->shape[d];
    out[x->rank - 1] = call->input[WEIGHT].value.shape[0];
    return psg_call_output(call, x->dtype, x->rank, out);
}

/* ---- outer products of rows ---- */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Row r: all products of u[r, first .. + p) and v[r, second .. + q), side by side, p q elements apart. */
typedef struct chunk {
    int64_t rows, first, p, second, q;
} chunk;

static void outer_rows(const psg_kernel_table *kernels, const psg_tensor *u, const psg_tensor *v, int64_t row,
                       const chunk *c, const psg_tensor *out) {
    for (int64_t r = 0; r < c->rows; r++) {
        kernels->outer((size_t)c->p, (size_t)c->q, 1,
                       psg_tensor_offset(u, (row + r) * u->shape[1] + c->first),
                       psg_tensor_offset(v, (row + r) * v->shape[1] + c->second),
                       psg_tensor_offset(out, r * c->p * c->q), c->q, false, false);
    }
}

/* ---- to (R, n) = (rows of outer products of u (R, p) and v (R, q)) times the weight ---- */

typedef struct rows_job {
    const psg_call *call;
    psg_tensor u, v, to;
    const void *bias;
    void (*multiply)(const struct rows_job *job, const chunk *c, psg_gemm *gemm);
} rows_job;

/* Chunks of both factors such that one block of rows fits; more than one of u only with all of v. */
static chunk chunk_sizes(const rows_job *j) {
    int64_t most = CHUNK_BYTES / (int64_t)psg_dtype_size(j->to.dtype) / ROWS;
    chunk c = { .q = smaller(j->v.shape[1], most) };
    c.p = smaller(j->u.shape[1], c.q < j->v.shape[1] ? 1 : most / (c.q > 0 ? c.q : 1));
    return c;
}

static void run_rows(void *argument, size_t index, unsigned slot) {
    const rows_job *j = argument;
    const int64_t row = (int64_t)index * ROWS, n = j->to.shape[1];
    const chunk size = chunk_sizes(j);
    chunk c = { .rows = smaller(ROWS, j->to.shape[0] - row) };
    psg_tensor made = { .data = j->call->context->workspace[slot], .dtype = j->to.dtype };
    psg_gemm gemm = { .dtype = j->to.dtype, .m = c.rows, .n = n, .alpha = 1, .a = made.data,
                      .c = psg_tensor_offset(&j->to, row * n), .ldc = n > 0 ? n : 1, .bias = j->bias };
    do {
        c.p = smaller(size.p, j->u.shape[1] - c.first);
        c.second = 0;
        do {
            c.q = smaller(size.q, j->v.shape[1] - c.second);
            outer_rows(psg_call_kernels(j->call), &j->u, &j->v, row, &c, &made);
            j->multiply(j, &c, &gemm);
            gemm.bias = NULL;
            gemm.beta = 1;
            c.second += c.q;
        } while (c.second < j->v.shape[1]);
        c.first += c.p;
    } while (c.first < j->u.shape[1] && c.p);
}

static void multiply_rows(psg_call *call, rows_job *j) {
    j->call = call;
    psg_parallel(call->context, (size_t)((j->to.shape[0] + ROWS - 1) / ROWS), run_rows, j);
}

/* All leading dimensions as rows. */
static psg_tensor as_rows(const psg_tensor *x) {
    return psg_tensor_of(x->dtype, x->data, 2, (int64_t[]){ psg_shape_product(x->rank - 1, x->shape),
                                                            x->shape[x->rank - 1] });
}

static int64_t at_least_1(int64_t x) { return x > 0 ? x : 1; }

/* y (R, O): u = x1, v = x2. */
static void multiply_output(const rows_job *j, const chunk *c, psg_gemm *gemm) {
    const psg_tensor *w = &j->call->input[WEIGHT].value;
    gemm->transpose_b = true;
    gemm->k = c->p * c->q;
    gemm->lda = at_least_1(gemm->k);
    gemm->b = psg_tensor_offset(w, c->first * w->shape[2] + c->second);
    gemm->ldb = at_least_1(w->shape[1] * w->shape[2]);
    psg_gemm_rows_serial(j->call->context, gemm);
}

/* The gradient of x2 (R, I2): u = g, v = x1. */
static void multiply_second(const rows_job *j, const chunk *c, psg_gemm *gemm) {
    const psg_tensor *w = &j->call->input[WEIGHT].value;
    gemm->k = c->p * c->q;
    gemm->lda = at_least_1(gemm->k);
    gemm->b = psg_tensor_offset(w, (c->first * w->shape[1] + c->second) * w->shape[2]);
    gemm->ldb = at_least_1(w->shape[2]);
    psg_gemm_rows_serial(j->call->context, gemm);
}

/* Outputs [first, end) of the chunk, one product each, added to c. */
static void add_outputs(const rows_job *j, const chunk *c, int64_t first, int64_t end, psg_gemm gemm) {
    const psg_tensor *w = &j->call->input[WEIGHT].value;
    const psg_tensor products = { .data = (void *)(uintptr_t)gemm.a, .dtype = gemm.dtype };
    const char *weight = gemm.b;
    for (int64_t o = first; o == first || o < end; o++) {
        gemm.a = psg_tensor_offset(&products, o * c->q);
        gemm.b = weight + o * w->shape[1] * w->shape[2] * (int64_t)psg_dtype_size(gemm.dtype);
        psg_gemm_rows_serial(j->call->context, &gemm);
        gemm.beta = 1;
    }
}

/* The same by way of a partial sum. */
static void add_partial(const rows_job *j, const chunk *c, int64_t first, int64_t end, psg_gemm gemm, void *partial) {
    const psg_tensor sum = { .data = partial, .dtype = gemm.dtype }, to = { .data = gemm.c, .dtype = gemm.dtype };
    const int64_t stride = gemm.ldc;
    gemm.c = partial;
    gemm.ldc = at_least_1(gemm.n);
    gemm.beta = 0;
    add_outputs(j, c, first, end, gemm);
    for (int64_t r = 0; r < gemm.m; r++) {
        psg_call_kernels(j->call)->scale_row((size_t)gemm.n, 1, psg_tensor_offset(&sum, r * gemm.n), 1,
                                             psg_tensor_offset(&to, r * stride), true);
    }
}

/* The gradient of x1 (R, I1): u = g, v = x2.  The products of OUTPUTS outputs are added in the real type, and then such
 * sums, beside the chunk in the workspace: as many columns at a time as fit. */
static void multiply_first(const rows_job *j, const chunk *c, psg_gemm *gemm) {
    const psg_tensor *w = &j->call->input[WEIGHT].value;
    const size_t size = psg_dtype_size(gemm->dtype);
    const int64_t columns = (int64_t)((PSG_WORKSPACE_BYTES - CHUNK_BYTES) / ROWS / size);
    char *partial = (char *)(uintptr_t)gemm->a + CHUNK_BYTES;
    for (int64_t i = 0; i == 0 || i < w->shape[1]; i += columns) {
        psg_gemm part = *gemm;
        part.transpose_b = true;
        part.n = smaller(columns, w->shape[1] - i);
        part.k = c->p ? c->q : 0;
        part.lda = at_least_1(c->p * c->q);
        part.ldb = at_least_1(w->shape[2]);
        part.b = psg_tensor_offset(w, (c->first * w->shape[1] + i) * w->shape[2] + c->second);
        part.c = (char *)gemm->c + (size_t)i * size;
        add_outputs(j, c, 0, smaller(OUTPUTS, c->p), part);
        for (int64_t o = OUTPUTS; o < c->p; o += OUTPUTS) {
            add_partial(j, c, o, smaller(o + OUTPUTS, c->p), part, partial);
        }
    }
}

static psg_status forward(psg_call *call) {
    rows_job j = { .u = as_rows(&call->input[FIRST].value), .v = as_rows(&call->input[SECOND].value),
                   .to = as_rows(&call->output), .multiply = multiply_output };
    if (call->input[BIAS].role != PSG_ABSENT) j.bias = call->input[BIAS].value.data;
    multiply_rows(call, &j);
    return PSG_OK;
}

static void input_gradient(psg_call *call, int k) {
    const psg_operand *operand = &call->input[k];
    if (!operand->grad.data) return;
    rows_job j = { .u = as_rows(&call->grad_output), .v = as_rows(&call->input[k == FIRST ? SECOND : FIRST].value),
                   .to = as_rows(&operand->grad), .multiply = k == FIRST ? multiply_first : multiply_second };
    multiply_rows(call, &j);
}

/* ---- the weight's gradient ---- */

/* Views (B, T, features); an ordinary pass has one sample. */
typedef struct weight_job {
    const psg_call *call;
    psg_tensor g, x1, x2;
    const psg_tensor *u, *v;   /* factored: the two whose outer products are made */
    psg_tensor made;           /* these, (B, T, p q), or gradients (B, O, I1, I2) */
    int64_t blocks, outputs;   /* gradients: tasks a sample, outputs a task */
} weight_job;

static psg_status view_of(psg_call *call, const psg_tensor *x, psg_tensor *view) {
    *view = *x;
    psg_tensor_merge(view, 1, x->rank - 2);
    if (call->pass->ordinary && psg_tensor_merge(view, 0, 1)) psg_tensor_merge(view, 0, -1);
    return PSG_OK;
}

static const void *row_at(const psg_tensor *view, int64_t n, int64_t t, int64_t first) {
    return psg_tensor_offset(view, n * view->stride[0] + t * view->stride[1] + first);
}

static psg_status keep_made(psg_call *call, weight_job *j, int rank, const int64_t *sizes) {
    j->made = psg_tensor_of(j->g.dtype, NULL, rank, sizes);
    size_t bytes;
    if (!psg_size_bytes(psg_tensor_count(&j->made), psg_dtype_size(j->made.dtype), &bytes)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "the weight's per-sample gradients are too large");
    }
    j->made.data = psg_call_keep(call, bytes);
    return j->made.data ? PSG_OK : PSG_ERR_MEMORY;
}

/* made[n, t] = u[n, t] (x) v[n, t] */
static void outer_positions(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const weight_job *j = argument;
    int64_t n = (int64_t)index, positions = j->made.shape[1], size = j->made.shape[2];
    for (int64_t t = 0; t < positions; t++) {
        psg_call_kernels(j->call)->outer((size_t)j->u->shape[2], (size_t)j->v->shape[2], 1, row_at(j->u, n, t, 0),
                                         row_at(j->v, n, t, 0),
                                         psg_tensor_offset(&j->made, (n * positions + t) * size), j->v->shape[2], false,
                                         false);
    }
}

static psg_status add_factored(psg_call *call, weight_job *j) {
    bool inputs = j->x2.shape[2] < j->g.shape[2];   /* x1 (x) x2 is smaller than g (x) x1 */
    j->u = inputs ? &j->x1 : &j->g;
    j->v = inputs ? &j->x2 : &j->x1;
    psg_status status = keep_made(call, j, 3, (int64_t[]){ j->g.shape[0], j->g.shape[1],
                                                           j->u->shape[2] * j->v->shape[2] });
    if (status) return status;
    if (psg_tensor_count(&j->made)) psg_parallel(call->context, (size_t)j->g.shape[0], outer_positions, j);
    return inputs ? psg_call_add_factored(call, WEIGHT, &j->g, &j->made)
                  : psg_call_add_factored(call, WEIGHT, &j->made, &j->x2);
}

/* made[n, o, i, j] = sum_t g[n, t, o] x1[n, t, i] x2[n, t, j] for a block of outputs: as many positions' g (x) x1 a
 * time as the workspace holds, times x2. */
static void sum_block(void *argument, size_t index, unsigned slot) {
    const weight_job *j = argument;
    const psg_kernel_table *kernels = psg_call_kernels(j->call);
    const int64_t n = (int64_t)index / j->blocks, first = (int64_t)index % j->blocks * j->outputs;
    const int64_t outputs = smaller(j->outputs, j->g.shape[2] - first), in1 = j->x1.shape[2], in2 = j->x2.shape[2];
    const int64_t most = CHUNK_BYTES / (int64_t)psg_dtype_size(j->made.dtype) / (outputs * in1);
    psg_tensor rows = { .data = j->call->context->workspace[slot], .dtype = j->made.dtype };
    psg_gemm gemm = { .dtype = j->made.dtype, .transpose_a = true, .m = outputs * in1, .n = in2, .alpha = 1,
                      .a = rows.data, .lda = outputs * in1, .ldb = j->x2.shape[1] > 1 ? j->x2.stride[1] : in2,
                      .c = psg_tensor_offset(&j->made, (n * j->g.shape[2] + first) * in1 * in2), .ldc = in2 };
    for (int64_t t = 0; t < j->g.shape[1]; t += gemm.k) {
        gemm.k = smaller(most, j->g.shape[1] - t);
        for (int64_t k = 0; k < gemm.k; k++) {
            kernels->outer((size_t)outputs, (size_t)in1, 1, row_at(&j->g, n, t + k, first), row_at(&j->x1, n, t + k, 0),
                           psg_tensor_offset(&rows, k * outputs * in1), in1, false, false);
        }
        gemm.b = row_at(&j->x2, n, t, 0);
        psg_gemm_serial(j->call->context, &gemm);
        gemm.beta = 1;
    }
}

enum { BLOCK = 4096 };   /* elements of g (x) x1 of one position in a block */

static psg_status add_sums(psg_call *call, weight_job *j) {
    int64_t out = j->g.shape[2], in1 = j->x1.shape[2], in2 = j->x2.shape[2];
    psg_status status = keep_made(call, j, 2, (int64_t[]){ j->g.shape[0], out * in1 * in2 });
    if (status) return status;
    j->outputs = smaller(out, in1 < BLOCK ? BLOCK / in1 : 1);
    j->blocks = (out + j->outputs - 1) / j->outputs;
    psg_parallel(call->context, (size_t)(j->g.shape[0] * j->blocks), sum_block, j);
    return psg_call_add_rows(call, WEIGHT, &j->made);
}

/* Whether the gradients are smaller than either factor's outer products, and a position's fit a worker. */
static bool sums_are_smaller(const weight_job *j) {
    int64_t positions = j->g.shape[1], out = j->g.shape[2], in1 = j->x1.shape[2], in2 = j->x2.shape[2];
    int64_t widest = CHUNK_BYTES / (int64_t)psg_dtype_size(j->g.dtype);
    return positions > out && out > 0 && positions > in2 && in1 > 0 && in1 <= widest && in2 > 0 &&
           j->x2.stride[1] <= INT32_MAX;
}

static psg_status backward(psg_call *call) {
    input_gradient(call, FIRST);
    input_gradient(call, SECOND);
    if (!call->input[WEIGHT].wants_grad && !call->input[BIAS].wants_grad) return PSG_OK;
    weight_job j = { .call = call };
    psg_status status = view_of(call, &call->grad_output, &j.g);
    if (!status && call->input[WEIGHT].wants_grad) {
        status = view_of(call, &call->input[FIRST].value, &j.x1);
        if (!status) status = view_of(call, &call->input[SECOND].value, &j.x2);
        if (!status) status = sums_are_smaller(&j) ? add_sums(call, &j) : add_factored(call, &j);
    }
    if (!status && call->input[BIAS].wants_grad) status = psg_call_add_rows(call, BIAS, &j.g);
    return status;
}

static const char *const names[] = { "input1", "input2", "weight", "bias" };

const psg_op psg_op_bilinear = {
    .name = "bilinear",
    .input_count = INPUTS,
    .input_names = names,
    .optional_inputs = 1u << BIAS,
    .parameter_inputs = 1u << WEIGHT | 1u << BIAS,
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_bilinear(psg_tape *tape, psg_var x1, psg_var x2, psg_var weight, psg_var bias) {
    return psg_record(tape, &psg_op_bilinear, (psg_var[]){ x1, x2, weight, bias }, INPUTS, NULL);
}
