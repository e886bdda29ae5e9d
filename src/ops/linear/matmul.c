/* matmul: products of matrices, leading dimensions broadcast. */
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "blas/gemm.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "psg/ops/arithmetic.h"

enum { A, B };

/* ---- shape ---- */

static psg_status fail_pair(psg_call *call, psg_status status, const char *rule) {
    char a[PSG_SHAPE_TEXT], b[PSG_SHAPE_TEXT];
    return psg_call_fail(call, status, "a has shape %s and b %s: %s", psg_tensor_text(&call->input[A].value, a),
                         psg_tensor_text(&call->input[B].value, b), rule);
}

/* The operands and the output as matrices of one rank, leading dimensions in one order. */
typedef struct views {
    psg_tensor x[2], out;
    int inserted;             /* a dimension of `out` that the op's output has not; 0: none */
    bool vector[2];           /* the operand is a vector: a row for a, a column for b, which the output has not */
} views;

/* To the caller of a batch_second pass a (T, N, K) has the samples in the rows of its matrices.  Beside one matrix b
 * that is (N, T, K), the batch in front; beside a matrix b for each t it is (N, T, 1, K). */
static bool has_batch_in_rows(const psg_call *call, int rank) {
    const psg_tensor *b = &call->input[B].value;
    return rank == 3 && call->input[A].batch_second && b->rank == 3 && b->shape[0] != 1;
}

static void insert(psg_tensor *x, int d) { psg_tensor_merge(x, d, d - 1); }

static views views_of(const psg_call *call) {
    int rank = 2;
    for (int k = A; k <= B; k++) rank = call->input[k].value.rank > rank ? call->input[k].value.rank : rank;
    views v = { .inserted = has_batch_in_rows(call, rank) ? 2 : 0 };
    for (int k = A; k <= B; k++) {
        const psg_tensor *value = &call->input[k].value;
        bool leads = rank > 3;   /* the batch is a leading dimension */
        v.vector[k] = value->rank == 1;
        v.x[k] = leads && !v.vector[k] ? psg_operand_aligned(call, k, rank) : *value;
        if (v.vector[k]) insert(&v.x[k], k == A ? 0 : 1);
        while (v.x[k].rank < rank) insert(&v.x[k], 0);
        if (v.inserted) insert(&v.x[k], k == A ? v.inserted : 0);
    }
    return v;
}

/* What the op's output has of `out`. */
static psg_tensor declared(const views *v) {
    psg_tensor out = v->out;
    if (v->inserted) psg_tensor_merge(&out, v->inserted - 1, v->inserted);
    if (v->vector[A]) out.shape[out.rank - 2] = out.shape[out.rank - 1];
    out.rank -= v->vector[A] + v->vector[B];
    return out;
}

static psg_status merge(psg_call *call, views *v) {
    const psg_tensor *a = &v->x[A], *b = &v->x[B];
    int rank = a->rank;
    v->out = *a;
    if (call->input[A].value.rank < 1 || call->input[B].value.rank < 1) {
        return fail_pair(call, PSG_ERR_SHAPE, "both must be vectors or matrices, of rank >= 1");
    }
    if (a->shape[rank - 1] != b->shape[rank - 2]) {
        return fail_pair(call, PSG_ERR_SHAPE, "the last dimension of a must be dimension -2 of b, or b of that size");
    }
    for (int d = 0; d < rank - 2; d++) {
        int64_t x = a->shape[d], y = b->shape[d];
        if (x != y && x != 1 && y != 1) return fail_pair(call, PSG_ERR_SHAPE, "leading dimensions do not broadcast");
        v->out.shape[d] = x == 1 ? y : x;
    }
    v->out.shape[rank - 1] = b->shape[rank - 1];
    v->out = psg_tensor_of(a->dtype, NULL, rank, v->out.shape);
    return PSG_OK;
}

/* A batched operand has its batch where the output has it, not among what is summed over; a trainable parameter, and in
 * a batch_second pass a constant, must not have that dimension. */
static psg_status check_batch(psg_call *call, const views *v, int k) {
    const psg_operand *operand = &call->input[k];
    const psg_tensor *x = &v->x[k];
    bool second = psg_call_is_batch_second(call), leads = x->rank > (second ? 3 : 2);
    if (psg_operand_keeps_batch(call, k)) {
        bool own = operand->value.rank + (v->inserted != 0) == x->rank;
        if (own && (leads || k == A) && x->shape[0] == v->out.shape[0]) return PSG_OK;
        return fail_pair(call, PSG_ERR_BATCH, "the batch must be one leading dimension of both and of the result");
    }
    bool trainable = operand->role == PSG_PARAMETER && operand->wants_grad && !call->pass->ordinary;
    if (!leads || x->shape[0] == 1 || !(trainable || second)) return PSG_OK;
    return fail_pair(call, PSG_ERR_BATCH, "what is no input of the pass must not have the dimension of the batch");
}

static psg_status shape(psg_call *call) {
    psg_status status = psg_operands_real(call, 2);
    if (status) return status;
    views v = views_of(call);
    status = merge(call, &v);
    for (int k = A; k <= B && !status; k++) {
        bool batched = call->input[A].role == PSG_BATCHED || call->input[B].role == PSG_BATCHED;
        if (batched && !status) status = psg_operand_carries_batch(call, k);
        if (batched && !status) status = check_batch(call, &v, k);
    }
    if (status) return status;
    psg_tensor out = declared(&v);
    return psg_call_output(call, out.dtype, out.rank, out.shape);
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

static void set_steps(const psg_tensor *x, int64_t *step) {
    int64_t stride = x->shape[x->rank - 2] * x->shape[x->rank - 1];
    for (int d = x->rank - 3; d >= 0; d--) {
        step[d] = x->shape[d] == 1 ? 0 : stride;
        stride *= x->shape[d];
    }
}

static int64_t row_of(const psg_tensor *x) { return x->shape[x->rank - 1] > 0 ? x->shape[x->rank - 1] : 1; }

/* c = op(a) op(b), summed over the dimensions along which c is repeated. */
static product product_of(const psg_call *call, const psg_tensor *out, const psg_tensor *a, bool transpose_a,
                          const psg_tensor *b, bool transpose_b, const psg_tensor *c) {
    product p = { .context = call->context, .size = psg_dtype_size(c->dtype), .rank = out->rank - 2 };
    memcpy(p.shape, out->shape, sizeof p.shape);
    set_steps(a, p.a);
    set_steps(b, p.b);
    set_steps(c, p.c);
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
    int64_t matrices = count_of(p, false), terms = p->gemm.k ? count_of(p, true) : 0;
    if (!p->gemm.m || !p->gemm.n) return; /* however many matrices there are */
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

/* The views of a call that was checked, `out` over the data of the output or of its gradient. */
static views checked_views(psg_call *call, void *out) {
    views v = views_of(call);
    merge(call, &v);
    v.out.data = out;
    return v;
}

static psg_status forward(psg_call *call) {
    views v = checked_views(call, call->output.data);
    product p = product_of(call, &v.out, &v.x[A], false, &v.x[B], false, &v.out);
    run(&p);
    return PSG_OK;
}

/* ---- parameters: a block for each of their matrices ---- */

/* x as the output's leading dimensions see it, without those that the parameter w has, at its matrix `index`; the last
 * two dimensions exchanged or not. */
static psg_tensor view_of(const psg_tensor *out, const psg_tensor *x, bool transpose, const psg_tensor *w,
                          int64_t index) {
    int64_t step[PSG_MAX_RANK], offset = 0;
    psg_tensor view = *x;
    set_steps(x, step);
    for (int d = out->rank - 3; d >= 0; d--) {
        int64_t size = w->shape[d];
        bool fixed = size > 1;
        view.shape[d] = fixed ? 1 : out->shape[d];
        view.stride[d] = step[d];
        offset += fixed ? index % size * step[d] : 0;
        if (fixed) index /= size;
    }
    view.data = psg_tensor_offset(x, offset);
    return transpose ? psg_tensor_swap(&view, out->rank - 2, out->rank - 1) : view;
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
static psg_status add_matrix(psg_call *call, const views *v, int k, int64_t index) {
    const psg_tensor *w = &v->x[k], *g = &v->out, *other = &v->x[k == A ? B : A];
    psg_tensor left = view_of(g, k == A ? g : other, k == A, w, index);
    psg_tensor right = view_of(g, k == A ? other : g, k == A, w, index);
    psg_status status = merge_positions(call, &left);
    if (!status) status = merge_positions(call, &right);
    if (status) return status;
    psg_block block = psg_factored(&left, &right);
    block.offset = index * w->shape[w->rank - 2] * w->shape[w->rank - 1];
    return psg_call_add_block(call, k, &block);
}

static psg_status add_parameter(psg_call *call, const views *v, int k) {
    int64_t matrices = psg_shape_product(v->x[k].rank - 2, v->x[k].shape);
    psg_status status = PSG_OK;
    for (int64_t i = 0; i < matrices && !status; i++) status = add_matrix(call, v, k, i);
    return status;
}

/* grad = op(a) op(b), of operand k. */
static void add_input(psg_call *call, const views *v, int k) {
    psg_tensor grad = v->x[k];
    grad.data = call->input[k].grad.data;
    if (!grad.data) return;
    product p = k == A ? product_of(call, &v->out, &v->out, false, &v->x[B], true, &grad)
                       : product_of(call, &v->out, &v->x[A], true, &v->out, false, &grad);
    run(&p);
}

static psg_status backward(psg_call *call) {
    const views v = checked_views(call, call->grad_output.data);
    psg_status status = PSG_OK;
    for (int k = A; k <= B && !status; k++) {
        add_input(call, &v, k);
        bool wanted = call->input[k].role == PSG_PARAMETER && call->input[k].wants_grad;
        if (wanted && psg_tensor_count(&v.out)) status = add_parameter(call, &v, k);
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
