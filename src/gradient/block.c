#include "gradient/block.h"

#include "base/shape.h"

/* ---- public constructors ---- */

static int64_t last_dimension(const psg_tensor *x) { return x->rank > 0 ? x->shape[x->rank - 1] : 0; }

psg_block psg_factored(const psg_tensor *backprop, const psg_tensor *activation) {
    return (psg_block){ .form = PSG_FACTORED, .backprop = *backprop, .activation = *activation, .scale = 1.0,
                        .row_stride = last_dimension(activation) };
}

psg_block psg_factored_transposed(const psg_tensor *backprop, const psg_tensor *activation) {
    return psg_factored(activation, backprop);   /* (G^T A)^T = A^T G */
}

psg_block psg_rows(const psg_tensor *backprop) {
    return (psg_block){ .form = PSG_ROWS, .backprop = *backprop, .scale = 1.0, .row_stride = last_dimension(backprop) };
}

psg_gradient psg_gradient_of_blocks(const psg_block *blocks, size_t block_count, int rank, const int64_t *shape) {
    psg_gradient gradient = { .blocks = blocks, .block_count = block_count, .rank = rank };
    for (int d = 0; d < rank && d < PSG_MAX_RANK; d++) gradient.shape[d] = shape[d];
    if (block_count) {
        gradient.dtype = blocks[0].backprop.dtype;
        gradient.batch_size = blocks[0].backprop.shape[0];
    }
    return gradient;
}

/* ---- views ---- */

int64_t psg_gradient_numel(const psg_gradient *gradient) { return psg_shape_product(gradient->rank, gradient->shape); }

static int64_t positions_of(const psg_tensor *x) { return x->rank == 3 ? x->shape[1] : 1; }

static psg_operand_view view_of(const psg_tensor *x) {
    int last = x->rank - 1;
    return (psg_operand_view){ x->data, x->shape[last], x->stride[0], x->rank == 3 ? x->stride[1] : 0,
                               x->shape[last] == 1 ? 1 : x->stride[last] };
}

psg_piece psg_piece_of(const psg_gradient *gradient, size_t block) {
    const psg_block *b = &gradient->blocks[block];
    psg_piece piece = { .form = b->form, .dtype = gradient->dtype, .batch = gradient->batch_size,
                        .positions = positions_of(&b->backprop), .g = view_of(&b->backprop),
                        .scale = b->scale, .offset = b->offset, .row_stride = b->row_stride };
    piece.a = b->form == PSG_FACTORED ? view_of(&b->activation) : (psg_operand_view){ .columns = 1 };
    bool one_row = piece.g.columns == 1 && piece.form == PSG_FACTORED;
    if (one_row) piece.row_stride = piece.a.columns;   /* whatever was given: there is no next row */
    return piece;
}

bool psg_piece_is_whole(const psg_piece *piece, int64_t numel) {
    if (piece->form == PSG_ROWS) return piece->offset == 0 && piece->g.columns == numel;
    return piece->offset == 0 && piece->row_stride == piece->a.columns &&
           piece->g.columns * piece->a.columns == numel;
}

bool psg_operand_is_stacked(const psg_operand_view *x, int64_t batch, int64_t positions, ptrdiff_t *stride) {
    *stride = positions == 1 ? x->batch : x->position;
    return positions == 1 || batch == 1 || x->batch == positions * x->position;
}

bool psg_same_backprop(const psg_piece *x, const psg_piece *y) {
    return x->g.data == y->g.data && x->positions == y->positions && x->g.columns == y->g.columns &&
           x->g.batch == y->g.batch && x->g.position == y->g.position && x->g.step == y->g.step;
}

/* ---- checks ---- */

typedef struct check {
    psg_context *context;
    const char *function;
    size_t gradient, block;
} check;

static psg_status fail_block(const check *c, psg_status status, const char *what) {
    return psg_fail(c->context, status, "%s: gradients[%zu], block %zu: %s", c->function, c->gradient, c->block, what);
}

static psg_status check_operand(const check *c, const psg_tensor *x, const psg_gradient *gradient, const char *name) {
    char text[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(x) || (x->rank != 2 && x->rank != 3)) {
        return psg_fail(c->context, PSG_ERR_SHAPE,
                        "%s: gradients[%zu], block %zu: %s must be a valid (B, p) or (B, T, p) view, has rank %d",
                        c->function, c->gradient, c->block, name, x->rank);
    }
    if (x->dtype != gradient->dtype) {
        return psg_fail(c->context, PSG_ERR_DTYPE, "%s: gradients[%zu], block %zu: %s is %s, the gradient is %s",
                        c->function, c->gradient, c->block, name, psg_dtype_name(x->dtype),
                        psg_dtype_name(gradient->dtype));
    }
    if (x->shape[0] != gradient->batch_size) {
        return psg_fail(c->context, PSG_ERR_BATCH,
                        "%s: gradients[%zu], block %zu: %s has shape %s, the gradient's batch size is %lld",
                        c->function, c->gradient, c->block, name, psg_tensor_text(x, text),
                        (long long)gradient->batch_size);
    }
    return PSG_OK;
}

/* The last element a block touches must lie in the parameter, and rows must not overlap one another. */
static psg_status check_place(const check *c, const psg_block *b, int64_t p, int64_t d, int64_t numel) {
    if (p == 0 || d == 0) return PSG_OK;
    int64_t reach;
    bool fits = b->offset >= 0 && b->row_stride >= 0 && (p == 1 || b->row_stride >= d) &&
                psg_size_multiply(p - 1, b->row_stride, &reach) && !__builtin_add_overflow(reach, b->offset, &reach) &&
                !__builtin_add_overflow(reach, d, &reach) && reach <= numel;
    return fits ? PSG_OK : fail_block(c, PSG_ERR_SHAPE, "the block does not fit into the parameter's shape");
}

static psg_status check_block(const check *c, const psg_gradient *gradient, const psg_block *b, int64_t numel) {
    psg_status status = check_operand(c, &b->backprop, gradient, "backprop");
    if (status) return status;
    int64_t p = b->backprop.shape[b->backprop.rank - 1];
    if (b->form == PSG_ROWS) return check_place(c, b, 1, p, numel);
    if (b->form != PSG_FACTORED) return fail_block(c, PSG_ERR_ARGUMENT, "form must be PSG_FACTORED or PSG_ROWS");
    status = check_operand(c, &b->activation, gradient, "activation");
    if (status) return status;
    if (positions_of(&b->activation) != positions_of(&b->backprop)) {
        return fail_block(c, PSG_ERR_SHAPE, "backprop and activation must have the same positions (B, T)");
    }
    return check_place(c, b, p, b->activation.shape[b->activation.rank - 1], numel);
}

static psg_status check_gradient(const check *c, const psg_gradient *gradient) {
    if (!gradient || (gradient->block_count && !gradient->blocks)) {
        return psg_fail(c->context, PSG_ERR_ARGUMENT, "%s: gradients[%zu] is NULL or has no blocks array", c->function,
                        c->gradient);
    }
    if (gradient->rank < 0 || gradient->rank > PSG_MAX_RANK || gradient->batch_size < 0) {
        return psg_fail(c->context, PSG_ERR_SHAPE, "%s: gradients[%zu] has rank %d and batch size %lld", c->function,
                        c->gradient, gradient->rank, (long long)gradient->batch_size);
    }
    if (!psg_dtype_is_real(gradient->dtype)) {
        return psg_fail(c->context, PSG_ERR_DTYPE, "%s: gradients[%zu] is %s, must be f32 or f64", c->function,
                        c->gradient, psg_dtype_name(gradient->dtype));
    }
    for (int d = 0; d < gradient->rank; d++) {
        if (gradient->shape[d] < 0) return fail_block(c, PSG_ERR_SHAPE, "the parameter has a negative dimension");
    }
    int64_t numel = psg_gradient_numel(gradient), total;
    if (numel < 0 || !psg_size_multiply(numel, gradient->batch_size, &total)) {
        return psg_fail(c->context, PSG_ERR_OVERFLOW, "%s: gradients[%zu]: B x P does not fit 63 bits", c->function,
                        c->gradient);
    }
    for (size_t k = 0; k < gradient->block_count; k++) {
        check at = { c->context, c->function, c->gradient, k };
        psg_status status = check_block(&at, gradient, &gradient->blocks[k], numel);
        if (status) return status;
    }
    return PSG_OK;
}

static psg_status check_agreement(const check *c, const psg_gradient *first, const psg_gradient *other) {
    if (first->batch_size != other->batch_size) {
        return psg_fail(c->context, PSG_ERR_BATCH, "%s: gradients[0] has batch size %lld, gradients[%zu] has %lld",
                        c->function, (long long)first->batch_size, c->gradient, (long long)other->batch_size);
    }
    if (first->dtype != other->dtype) {
        return psg_fail(c->context, PSG_ERR_DTYPE, "%s: gradients[0] is %s, gradients[%zu] is %s", c->function,
                        psg_dtype_name(first->dtype), c->gradient, psg_dtype_name(other->dtype));
    }
    return PSG_OK;
}

psg_status psg_check_set(psg_context *context, const char *function, const psg_gradient *const *gradients,
                         size_t count) {
    if (!context) return PSG_ERR_ARGUMENT;
    if (!gradients || !count) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: gradients is NULL or empty, must hold at least one", function);
    }
    for (size_t k = 0; k < count; k++) {
        check c = { context, function, k, 0 };
        psg_status status = check_gradient(&c, gradients[k]);
        if (!status) status = check_agreement(&c, gradients[0], gradients[k]);
        if (status) return status;
    }
    return PSG_OK;
}

psg_status psg_check_questions(psg_context *context, const char *function, const psg_gradient *const *gradients,
                               size_t count) {
    psg_status status = psg_check_set(context, function, gradients, count);
    for (size_t k = 0; !status && k < count; k++) {
        if (gradients[k]->batch_coupled) {
            status = psg_fail(context, PSG_ERR_UNSUPPORTED,
                              "%s: gradients[%zu] is of an ordinary pass, whose samples have no gradients of their "
                              "own; only psg_weighted_sum with weights NULL is answered", function, k);
        }
    }
    return status;
}

psg_status psg_check_write(psg_context *context, const char *function, psg_write write) {
    if (write == PSG_OVERWRITE || write == PSG_ACCUMULATE) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: write is %d, must be PSG_OVERWRITE or PSG_ACCUMULATE", function,
                    (int)write);
}

static psg_status check_tensor(const check *c, const char *argument, const psg_gradient *gradient, const psg_tensor *t,
                               bool allow_f64) {
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(t) || !psg_shape_equal(t->rank, t->shape, gradient->rank, gradient->shape)) {
        return psg_fail(c->context, PSG_ERR_SHAPE, "%s: %s[%zu] must have the parameter's shape %s, has %s",
                        c->function, argument, c->gradient, psg_shape_text(gradient->rank, gradient->shape, want),
                        t->rank >= 0 && t->rank <= PSG_MAX_RANK ? psg_tensor_text(t, have) : "no valid shape");
    }
    if (t->dtype != gradient->dtype && !(allow_f64 && t->dtype == PSG_F64)) {
        return psg_fail(c->context, PSG_ERR_DTYPE, "%s: %s[%zu] is %s, must be %s%s", c->function, argument,
                        c->gradient, psg_dtype_name(t->dtype), psg_dtype_name(gradient->dtype),
                        allow_f64 && gradient->dtype != PSG_F64 ? " or f64" : "");
    }
    if (!psg_tensor_is_contiguous(t)) {
        return psg_fail(c->context, PSG_ERR_SHAPE, "%s: %s[%zu] must be contiguous", c->function, argument,
                        c->gradient);
    }
    return PSG_OK;
}

psg_status psg_check_tensors(psg_context *context, const char *function, const char *argument,
                             const psg_gradient *const *gradients, size_t count, const psg_tensor *tensors,
                             bool allow_f64) {
    if (!tensors) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: %s is NULL", function, argument);
    for (size_t k = 0; k < count; k++) {
        check c = { context, function, k, 0 };
        psg_status status = check_tensor(&c, argument, gradients[k], &tensors[k], allow_f64);
        if (status) return status;
    }
    return PSG_OK;
}
