/* What a question checks before it writes anything. */
#include "base/shape.h"
#include "gradient/block.h"

static int64_t positions_of(const psg_tensor *x) { return x->rank == 3 ? x->shape[1] : 1; }
static int64_t features_of(const psg_tensor *x) { return x->shape[x->rank - 1]; }

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

static psg_status check_factored(const check *c, const psg_gradient *gradient, const psg_block *b, int64_t numel) {
    psg_status status = check_operand(c, &b->activation, gradient, "activation");
    if (status) return status;
    if (positions_of(&b->activation) != positions_of(&b->backprop)) {
        return fail_block(c, PSG_ERR_SHAPE, "backprop and activation must have the same positions (B, T)");
    }
    return check_place(c, b, features_of(&b->backprop), features_of(&b->activation), numel);
}

/* ---- sparse rows ---- */

static psg_status check_ids_view(const check *c, const psg_gradient *gradient, const psg_block *b) {
    const psg_tensor *ids = &b->ids;
    char text[PSG_SHAPE_TEXT];
    if (ids->dtype != PSG_I32 && ids->dtype != PSG_I64) {
        return psg_fail(c->context, PSG_ERR_DTYPE, "%s: gradients[%zu], block %zu: ids is %s, must be i32 or i64",
                        c->function, c->gradient, c->block, psg_dtype_name(ids->dtype));
    }
    if (!psg_tensor_is_valid(ids) || ids->rank != 2 || ids->shape[0] != gradient->batch_size ||
        ids->shape[1] != positions_of(&b->backprop)) {
        return psg_fail(c->context, PSG_ERR_SHAPE, "%s: gradients[%zu], block %zu: ids must have shape (%lld, %lld), "
                        "has %s", c->function, c->gradient, c->block, (long long)gradient->batch_size,
                        (long long)positions_of(&b->backprop),
                        ids->rank >= 0 && ids->rank <= PSG_MAX_RANK ? psg_tensor_text(ids, text) : "no valid shape");
    }
    return PSG_OK;
}

static psg_status check_ids(const check *c, const psg_gradient *gradient, const psg_block *b, int64_t rows) {
    psg_ids ids = psg_ids_of(b);
    for (int64_t n = 0; n < gradient->batch_size; n++) {
        for (int64_t t = 0; t < b->ids.shape[1]; t++) {
            if (psg_id_at(&ids, n, t) < rows) continue;
            return psg_fail(c->context, PSG_ERR_ARGUMENT, "%s: gradients[%zu], block %zu: ids[%lld, %lld] is %lld, the "
                            "parameter has %lld rows", c->function, c->gradient, c->block, (long long)n, (long long)t,
                            (long long)psg_id_at(&ids, n, t), (long long)rows);
        }
    }
    return PSG_OK;
}

static psg_status check_sparse(const check *c, const psg_gradient *gradient, const psg_block *b, int64_t numel) {
    int64_t p = features_of(&b->backprop);
    psg_status status = check_ids_view(c, gradient, b);
    if (status || !p) return status;
    if (b->offset < 0 || b->row_stride < p) {
        return fail_block(c, PSG_ERR_SHAPE, "offset must be >= 0 and row_stride at least the length of a row");
    }
    return check_ids(c, gradient, b, psg_sparse_row_count(b, numel));
}

/* ---- windows of an image ---- */

static psg_status fail_window(const check *c, const char *what, int d, int64_t value, int64_t least) {
    return psg_fail(c->context, PSG_ERR_ARGUMENT, "%s: gradients[%zu], block %zu: window.%s[%d] is %lld, must be >= "
                    "%lld", c->function, c->gradient, c->block, what, d, (long long)value, (long long)least);
}

static psg_status check_window(const check *c, const psg_window *w) {
    for (int d = 0; d < w->spatial; d++) {
        if (w->kernel[d] < 1) return fail_window(c, "kernel", d, w->kernel[d], 1);
        if (w->stride[d] < 1) return fail_window(c, "stride", d, w->stride[d], 1);
        if (w->dilation[d] < 1) return fail_window(c, "dilation", d, w->dilation[d], 1);
        if (w->padding[d] < 0) return fail_window(c, "padding", d, w->padding[d], 0);
        if (w->output[d] < 0) return fail_window(c, "output", d, w->output[d], 0);
        int64_t reach, dilated;
        bool fits = psg_size_multiply(w->output[d], w->stride[d], &reach) &&
                    psg_size_multiply(w->kernel[d], w->dilation[d], &dilated) &&
                    !__builtin_add_overflow(reach, dilated, &reach) && w->padding[d] < INT64_MAX / 4 &&
                    reach < INT64_MAX / 4;
        if (!fits) return fail_block(c, PSG_ERR_OVERFLOW, "the window's reach does not fit 63 bits");
    }
    return PSG_OK;
}

static psg_status check_image(const check *c, const psg_gradient *gradient, const psg_block *b) {
    const psg_tensor *x = &b->activation;
    char text[PSG_SHAPE_TEXT];
    if (b->window.spatial < 1 || b->window.spatial > 3) {
        return psg_fail(c->context, PSG_ERR_ARGUMENT, "%s: gradients[%zu], block %zu: window.spatial is %d, must be 1, "
                        "2 or 3", c->function, c->gradient, c->block, b->window.spatial);
    }
    if (!psg_tensor_is_valid(x) || x->rank != 2 + b->window.spatial) {
        return psg_fail(c->context, PSG_ERR_SHAPE, "%s: gradients[%zu], block %zu: the image must be a valid "
                        "(B, C, *X) view of %d spatial dimensions, has rank %d", c->function, c->gradient, c->block,
                        b->window.spatial, x->rank);
    }
    if (x->dtype != gradient->dtype) {
        return psg_fail(c->context, PSG_ERR_DTYPE, "%s: gradients[%zu], block %zu: the image is %s, the gradient is %s",
                        c->function, c->gradient, c->block, psg_dtype_name(x->dtype), psg_dtype_name(gradient->dtype));
    }
    if (x->shape[0] != gradient->batch_size) {
        return psg_fail(c->context, PSG_ERR_BATCH, "%s: gradients[%zu], block %zu: the image has shape %s, the "
                        "gradient's batch size is %lld", c->function, c->gradient, c->block, psg_tensor_text(x, text),
                        (long long)gradient->batch_size);
    }
    return PSG_OK;
}

static psg_status check_unfolded(const check *c, const psg_gradient *gradient, const psg_block *b, int64_t numel) {
    psg_status status = check_image(c, gradient, b);
    if (!status) status = check_window(c, &b->window);
    if (status) return status;
    int64_t positions = psg_shape_product(b->window.spatial, b->window.output), d = b->activation.shape[1];
    if (positions != positions_of(&b->backprop)) {
        return psg_fail(c->context, PSG_ERR_SHAPE, "%s: gradients[%zu], block %zu: backprop has %lld positions, the "
                        "window's output %lld", c->function, c->gradient, c->block,
                        (long long)positions_of(&b->backprop), (long long)positions);
    }
    for (int k = 0; k < b->window.spatial; k++) {
        if (!psg_size_multiply(d, b->window.kernel[k], &d)) {
            return fail_block(c, PSG_ERR_OVERFLOW, "the window's elements do not fit 63 bits");
        }
    }
    return check_place(c, b, features_of(&b->backprop), d, numel);
}

/* ---- blocks, gradients, sets ---- */

static psg_status check_block(const check *c, const psg_gradient *gradient, const psg_block *b, int64_t numel) {
    psg_status status = check_operand(c, &b->backprop, gradient, "backprop");
    if (status) return status;
    switch (b->form) {
    case PSG_ROWS: return check_place(c, b, 1, features_of(&b->backprop), numel);
    case PSG_FACTORED: return check_factored(c, gradient, b, numel);
    case PSG_SPARSE_ROWS: return check_sparse(c, gradient, b, numel);
    case PSG_UNFOLDED: return check_unfolded(c, gradient, b, numel);
    }
    return fail_block(c, PSG_ERR_ARGUMENT, "form must be one of psg_form");
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
