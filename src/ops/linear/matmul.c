/* matmul: products of matrices, leading dimensions broadcast. */
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "blas/gemm.h"
#include "ops/shared/operand.h"
#include "psg/ops.h"

enum { A, B };

/* ---- shape ---- */

/* Leading dimension d of an output of the given rank, as x has it: its own, or 1 where it has none. */
static int64_t leading(const psg_tensor *x, int rank, int d) {
    int own = d - (rank - x->rank);
    return own < 0 ? 1 : x->shape[own];
}

static psg_status fail_pair(psg_call *call, psg_status status, const char *rule) {
    char a[PSG_SHAPE_TEXT], b[PSG_SHAPE_TEXT];
    return psg_call_fail(call, status, "a has shape %s and b %s: %s", psg_tensor_text(&call->input[A].value, a),
                         psg_tensor_text(&call->input[B].value, b), rule);
}

static psg_status merge(psg_call *call, int *rank, int64_t *shape) {
    const psg_tensor *a = &call->input[A].value, *b = &call->input[B].value;
    if (a->rank < 2 || b->rank < 2) return fail_pair(call, PSG_ERR_SHAPE, "both must be matrices, of rank >= 2");
    if (a->shape[a->rank - 1] != b->shape[b->rank - 2]) {
        return fail_pair(call, PSG_ERR_SHAPE, "the last dimension of a must be dimension -2 of b");
    }
    *rank = a->rank > b->rank ? a->rank : b->rank;
    for (int d = 0; d < *rank - 2; d++) {
        int64_t x = leading(a, *rank, d), y = leading(b, *rank, d);
        if (x != y && x != 1 && y != 1) return fail_pair(call, PSG_ERR_SHAPE, "leading dimensions do not broadcast");
        shape[d] = x == 1 ? y : x;
    }
    shape[*rank - 2] = a->shape[a->rank - 2];
    shape[*rank - 1] = b->shape[b->rank - 1];
    return PSG_OK;
}

/* A batched operand has its batch where the output has it, not among what is summed over; one without must not have
 * that dimension. */
static psg_status check_batch(psg_call *call, int k) {
    const psg_operand *operand = &call->input[k];
    const psg_tensor *x = &operand->value, *out = &call->output;
    int batch = psg_call_batch_dim(call, out), own = batch - (out->rank - x->rank);
    bool free = batch < out->rank - 2 || (k == A && batch == out->rank - 2);
    if (operand->role == PSG_BATCHED) {
        bool carries = own >= 0 && own == psg_call_batch_dim(call, x) && x->shape[own] == call->batch_size;
        if (carries && free) return PSG_OK;
        return fail_pair(call, PSG_ERR_BATCH, "the batch must be one leading dimension of both and of the result");
    }
    bool has = own >= 0 && batch < out->rank - 2 && x->shape[own] != 1;
    if (!has || operand->role == PSG_CONSTANT || !operand->wants_grad) return PSG_OK;
    return fail_pair(call, PSG_ERR_BATCH, "a parameter must not have the dimension of the batch");
}

static psg_status shape(psg_call *call) {
    int rank = 0;
    int64_t out[PSG_MAX_RANK];
    psg_status status = psg_operands_real(call, 2);
    if (!status) status = merge(call, &rank, out);
    if (!status) status = psg_call_output(call, call->input[A].value.dtype, rank, out);
    for (int k = A; k <= B && !status && call->per_sample; k++) {
        if (call->input[A].role == PSG_BATCHED || call->input[B].role == PSG_BATCHED) status = check_batch(call, k);
    }
    return status;
}

/* ---- products over the leading dimensions ---- */

typedef struct product {
    psg_context *context;
    psg_gemm gemm;                /* of leading index 0 */
    size_t size;                  /* of an element */
    int rank;                     /* leading dimensions */
    int64_t shape[PSG_MAX_RANK];
    int64_t a[PSG_MAX_RANK], b[PSG_MAX_RANK], c[PSG_MAX_RANK];   /* steps; 0: repeated, c: summed */
} product;

static void set_steps(const psg_tensor *x, int rank, int64_t *step) {
    int64_t stride = x->shape[x->rank - 2] * x->shape[x->rank - 1];
    for (int d = rank - 3; d >= 0; d--) {
        int64_t size = leading(x, rank, d);
        step[d] = size == 1 ? 0 : stride;
        stride *= size;
    }
}

static int64_t row_of(const psg_tensor *x) { return x->shape[x->rank - 1] > 0 ? x->shape[x->rank - 1] : 1; }

/* c = op(a) op(b), summed over the dimensions along which c is repeated. */
static product product_of(const psg_call *call, const psg_tensor *a, bool transpose_a, const psg_tensor *b,
                          bool transpose_b, const psg_tensor *c) {
    int rank = call->output.rank;
    product p = { .context = call->context, .size = psg_dtype_size(c->dtype), .rank = rank - 2 };
    memcpy(p.shape, call->output.shape, sizeof p.shape);
    set_steps(a, rank, p.a);
    set_steps(b, rank, p.b);
    set_steps(c, rank, p.c);
    p.gemm = (psg_gemm){ .dtype = c->dtype, .transpose_a = transpose_a, .transpose_b = transpose_b,
                         .m = c->shape[c->rank - 2], .n = c->shape[c->rank - 1],
                         .k = a->shape[a->rank - (transpose_a ? 2 : 1)], .alpha = 1, .a = a->data, .lda = row_of(a),
                         .b = b->data, .ldb = row_of(b), .c = c->data, .ldc = row_of(c) };
    return p;
}

static bool is_summed(const product *p, int d) { return !p->c[d] && p->shape[d] != 1; }

/* Matrices of c, or (summed) terms of each. */
static int64_t count_of(const product *p, bool summed) {
    int64_t count = 1;
    for (int d = 0; d < p->rank; d++) count *= is_summed(p, d) == summed ? p->shape[d] : 1;
    return count;
}

static psg_gemm term_of(const product *p, int64_t index, int64_t term) {
    psg_gemm g = p->gemm;
    int64_t a = 0, b = 0, c = 0;
    g.beta = term > 0 ? 1 : 0;
    for (int d = p->rank - 1; d >= 0; d--) {
        int64_t *from = is_summed(p, d) ? &term : &index, i = *from % p->shape[d];
        *from /= p->shape[d];
        a += i * p->a[d];
        b += i * p->b[d];
        c += i * p->c[d];
    }
    g.a = (const char *)g.a + a * (int64_t)p->size;
    g.b = (const char *)g.b + b * (int64_t)p->size;
    g.c = (char *)g.c + c * (int64_t)p->size;
    return g;
}

static void run_matrix(void *argument, size_t index, unsigned slot) {
    const product *p = argument;
    int64_t terms = count_of(p, true);
    (void)slot;
    for (int64_t t = 0; t < terms; t++) {
        psg_gemm gemm = term_of(p, (int64_t)index, t);
        psg_gemm_rows_serial(p->context, &gemm);
    }
}

/* ---- many terms, of a matrix repeated over heads: f32 would lose digits as their square root ----
 * CHAIN at a time are summed in the real type, as one product onto the other, and these sums in double. */

enum { CHAIN = 16, TILE = 1 << 16, TILE_COLUMNS = 256 };   /* terms; elements: of c in double and a chain */

typedef struct tiles {
    int64_t rows, columns;     /* of a tile, at most */
    int64_t down, across;      /* tiles of a matrix */
} tiles;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static tiles tiles_of(const psg_gemm *g) {
    int64_t columns = smaller(g->n, TILE_COLUMNS), rows = TILE / columns;
    return (tiles){ rows, columns, (g->m + rows - 1) / rows, (g->n + columns - 1) / columns };
}

/* A term of the tile that is task `index`. */
static psg_gemm tile_of(const product *p, const tiles *all, int64_t index, int64_t term) {
    int64_t each = all->down * all->across, place = index % each;
    int64_t i = place / all->across * all->rows, j = place % all->across * all->columns;
    psg_gemm g = term_of(p, index / each, term);
    return psg_gemm_tile(&g, i, smaller(all->rows, g.m - i), j, smaller(all->columns, g.n - j));
}

static void run_tile(void *argument, size_t index, unsigned slot) {
    const product *p = argument;
    const psg_kernel_table *kernels = p->context->kernels[p->gemm.dtype];
    const tiles all = tiles_of(&p->gemm);
    const psg_gemm out = tile_of(p, &all, (int64_t)index, 0);
    const size_t count = (size_t)(out.m * out.n);
    const int64_t terms = count_of(p, true);
    double *sum = p->context->workspace[slot];
    memset(sum, 0, count * sizeof *sum);
    for (int64_t t = 0; t < terms; t++) {
        psg_gemm term = tile_of(p, &all, (int64_t)index, t);
        term.c = sum + TILE;
        term.ldc = term.n;
        term.beta = t % CHAIN ? 1 : 0;
        psg_gemm_rows_serial(p->context, &term);
        if ((t + 1) % CHAIN == 0 || t + 1 == terms) kernels->add_to_f64(count, 1, term.c, sum);
    }
    for (int64_t i = 0; i < out.m; i++) {
        kernels->from_f64((size_t)out.n, 1, sum + i * out.n, (char *)out.c + i * out.ldc * (int64_t)p->size, false);
    }
}

static void run_tiles(product *p, int64_t matrices) {
    if (!p->gemm.m || !p->gemm.n) return;
    tiles all = tiles_of(&p->gemm);
    psg_parallel(p->context, (size_t)(matrices * all.down * all.across), run_tile, p);
}

/* ---- who runs what ---- */

/* Leading dimensions that a and c have and b has not are rows of one matrix. */
static bool is_stacked(const product *p) {
    for (int d = 0; d < p->rank; d++) {
        if (p->shape[d] != 1 && (p->b[d] || !p->a[d] || !p->c[d])) return false;
    }
    return !p->gemm.transpose_a;
}

/* Few matrices are cut into tiles, many are a task each; their bits are the same. */
static void run(product *p) {
    enum { FEW = 8 };
    int64_t matrices = count_of(p, false), terms = count_of(p, true);
    if (is_stacked(p)) {
        p->gemm.m *= psg_shape_product(p->rank, p->shape);
        psg_gemm_rows(p->context, &p->gemm);
    } else if (!terms) {
        size_t bytes = (size_t)(matrices * p->gemm.m * p->gemm.n) * p->size;
        if (bytes) memset(p->gemm.c, 0, bytes);
    } else if (terms > CHAIN) {
        run_tiles(p, matrices);
    } else if (matrices >= FEW) {
        psg_parallel(p->context, (size_t)matrices, run_matrix, p);
    } else {
        for (int64_t i = 0; i < matrices * terms; i++) {
            psg_gemm gemm = term_of(p, i / terms, i % terms);
            psg_gemm_rows(p->context, &gemm);
        }
    }
}

static psg_status forward(psg_call *call) {
    product p = product_of(call, &call->input[A].value, false, &call->input[B].value, false, &call->output);
    run(&p);
    return PSG_OK;
}

/* ---- parameters: a block for each of their matrices ---- */

/* x as the output's leading dimensions see it, the batch first, without those that the parameter w has, at its matrix
 * `index`; the last two dimensions exchanged or not. */
static psg_tensor view_of(const psg_call *call, const psg_tensor *x, bool transpose, const psg_tensor *w,
                          int64_t index) {
    const psg_tensor *out = &call->output;
    int64_t step[PSG_MAX_RANK], offset = 0;
    psg_tensor view = { .dtype = x->dtype, .rank = out->rank };
    set_steps(x, out->rank, step);
    for (int d = out->rank - 3; d >= 0; d--) {
        int64_t size = leading(w, out->rank, d);
        bool fixed = size > 1;
        view.shape[d] = fixed ? 1 : out->shape[d];
        view.stride[d] = step[d];
        offset += fixed ? index % size * step[d] : 0;
        if (fixed) index /= size;
    }
    for (int j = 1; j <= 2; j++) {
        view.shape[out->rank - j] = x->shape[x->rank - j];
        view.stride[out->rank - j] = j == 1 ? 1 : x->shape[x->rank - 1];
    }
    view.data = psg_tensor_offset(x, offset);
    if (transpose) view = psg_tensor_swap(&view, out->rank - 2, out->rank - 1);
    return psg_tensor_swap(&view, 0, psg_call_batch_dim(call, out));
}

/* (B, T, columns), copied when no strides can say so. */
static psg_status merge_positions(psg_call *call, psg_tensor *view) {
    if (psg_tensor_merge(view, 1, view->rank - 2)) return PSG_OK;
    psg_tensor copy = psg_tensor_of(view->dtype, NULL, view->rank, view->shape);
    copy.data = psg_call_keep(call, (size_t)psg_tensor_count(view) * psg_dtype_size(view->dtype));
    if (!copy.data) return PSG_ERR_MEMORY;
    psg_tensor_copy(view, &copy);
    *view = copy;
    psg_tensor_merge(view, 1, view->rank - 2);
    return PSG_OK;
}

/* Of y = a w: a^T g.  Of y = w b: g b^T, whose positions are the columns of both. */
static psg_status add_matrix(psg_call *call, int k, int64_t index) {
    const psg_tensor *w = &call->input[k].value, *g = &call->grad_output, *other = &call->input[k == A ? B : A].value;
    psg_tensor left = view_of(call, k == A ? g : other, k == A, w, index);
    psg_tensor right = view_of(call, k == A ? other : g, k == A, w, index);
    psg_status status = merge_positions(call, &left);
    if (!status) status = merge_positions(call, &right);
    if (status) return status;
    psg_block block = psg_factored(&left, &right);
    block.offset = index * w->shape[w->rank - 2] * w->shape[w->rank - 1];
    return psg_call_add_block(call, k, &block);
}

static psg_status add_parameter(psg_call *call, int k) {
    const psg_tensor *w = &call->input[k].value;
    int64_t matrices = psg_shape_product(w->rank - 2, w->shape);
    psg_status status = PSG_OK;
    for (int64_t i = 0; i < matrices && !status; i++) status = add_matrix(call, k, i);
    return status;
}

static psg_status backward(psg_call *call) {
    const psg_tensor *a = &call->input[A].value, *b = &call->input[B].value, *g = &call->grad_output;
    psg_status status = PSG_OK;
    if (call->input[A].grad.data) {
        product p = product_of(call, g, false, b, true, &call->input[A].grad);
        run(&p);
    }
    if (call->input[B].grad.data) {
        product p = product_of(call, a, true, g, false, &call->input[B].grad);
        run(&p);
    }
    for (int k = A; k <= B && !status; k++) {
        bool wanted = call->input[k].role == PSG_PARAMETER && call->input[k].wants_grad;
        if (wanted && psg_tensor_count(g)) status = add_parameter(call, k);
    }
    return status;
}

static const char *const names[] = { "a", "b" };

const psg_op psg_op_matmul = {
    .name = "matmul",
    .input_count = 2,
    .input_names = names,
    .parameter_inputs = 1u << A | 1u << B,
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_matmul(psg_tape *tape, psg_var a, psg_var b) {
    return psg_record(tape, &psg_op_matmul, (psg_var[]){ a, b }, 2, NULL);
}
