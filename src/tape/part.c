/* Parts of parameters: what slice, transpose, reshape and others make of one.  A part has a value of its own, a view
 * or a copy for this pass; its blocks are those of the whole at other places. */
#include "base/shapes.h"
#include "gradient/piece.h"
#include "tape/tape_struct.h"

/* ---- recording ---- */

static psg_status check_strides(psg_tape_node *node, const psg_tensor *place) {
    for (int d = 0; d < place->rank; d++) {
        if (place->shape[d] <= 1 || place->stride[d] > 0) continue;
        return psg_call_fail(&node->call, PSG_ERR_UNSUPPORTED, "the result is no part of a parameter: dimension %d would go "
                             "backwards", d);
    }
    return PSG_OK;
}

psg_status psg_tape_add_part(psg_tape_node *node, psg_tape_var *output) {
    psg_call *call = &node->call;
    psg_tape *tape = node->tape;
    const size_t of = tape->vars[node->input[0]].use;
    const psg_tape_use *given = &tape->uses[of];
    psg_tape_use part = { .name = given->name, .is_part = true, .whole = given->is_part ? given->whole : of,
                          .place = given->is_part ? given->place : given->value, .trainable = given->trainable };
    call->input[0].value.data = tape->vars[node->input[0]].value.data;
    call->output.rank = -1;
    psg_status status = call->op->shape(call);
    if (status) return psg_call_fail(call, status, "shape failed with %s", psg_status_name(status));
    if (call->op->view(call, &part.place)) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "the result is no part of parameter \"%s\": its elements are not "
                             "evenly spaced there", part.name);
    }
    status = check_strides(node, &part.place);
    if (status) return status;
    part.value = psg_tape_contiguous(tape, &part.place);
    *output = (psg_tape_var){ .role = PSG_PARAMETER, .wants_grad = call->input[0].wants_grad, .value = part.value,
                              .use = tape->use_count };
    psg_tape_add_use(tape, &part);
    return tape->status;
}

/* ---- places ----
 * Element k of the flattened part lies at place_of(k) of the flattened whole. */

typedef struct place {
    psg_tensor view;
    int64_t offset;
} place;

static place place_in(const psg_tape_use *part, const psg_tape_use *whole) {
    ptrdiff_t bytes = (const char *)part->place.data - (const char *)whole->value.data;
    bool empty = psg_tensor_count(&part->place) == 0;
    return (place){ part->place, empty ? 0 : bytes / (ptrdiff_t)psg_dtype_size(whole->value.dtype) };
}

static int64_t place_of(const place *p, int64_t k) {
    int64_t at = p->offset;
    for (int d = p->view.rank - 1; d >= 0; d--) {
        at += k % p->view.shape[d] * p->view.stride[d];
        k /= p->view.shape[d];
    }
    return at;
}

/* How many of the elements first, first + step, ... (count of them) are evenly spaced, and how far apart. */
static int64_t run_of(const place *p, int64_t first, int64_t step, int64_t count, int64_t *apart) {
    int64_t length = 1, start = place_of(p, first);
    *apart = 1;
    if (count < 2) return count;
    *apart = place_of(p, first + step) - start;
    while (length < count && place_of(p, first + length * step) == start + length * *apart) length++;
    return length;
}

/* ---- blocks ---- */

/* Columns [first, first + count) of a view. */
static psg_tensor columns(const psg_tensor *x, int64_t first, int64_t count) {
    psg_tensor part = *x;
    const int last = x->rank - 1;
    part.data = psg_tensor_offset(x, first * x->stride[last]);
    part.shape[last] = count;
    return part;
}

static psg_status append(psg_call *call, const psg_tape_use *part, const psg_block *block, double scale) {
    const psg_tape_node *node = call->internal;
    return psg_tape_push_block(node->tape, &node->tape->uses[part->whole], block, scale);
}

static psg_status append_rows(psg_call *call, const psg_tape_use *part, const place *p, const psg_block *given,
                              double scale) {
    int64_t count = given->backprop.shape[given->backprop.rank - 1], step = given->row_step ? given->row_step : 1;
    psg_status status = PSG_OK;
    for (int64_t j = 0, length; j < count && !status; j += length) {
        psg_block block = *given;
        length = run_of(p, given->offset + j * step, step, count - j, &block.row_step);
        block.backprop = columns(&given->backprop, j, length);
        if (given->form == PSG_ROWS_PRODUCT) block.activation = columns(&given->activation, j, length);
        block.offset = place_of(p, given->offset + j * step);
        status = append(call, part, &block, scale);
    }
    return status;
}

/* A rectangle of the block, rows [i, i + rows) and columns [j, j + width), that are so far apart in the whole.  Columns
 * that do not lie side by side are rows of the transpose, (G^T A)^T = A^T G. */
typedef struct rectangle {
    int64_t i, rows, row_apart, j, width, apart;
} rectangle;

static psg_status append_rectangle(psg_call *call, const psg_tape_use *part, const place *p, const psg_block *given,
                                   const rectangle *r, double scale) {
    psg_block block = *given;
    psg_tensor g = columns(&given->backprop, r->i, r->rows), a = columns(&given->activation, r->j, r->width);
    bool transposed = r->width > 1 && r->apart != 1;
    block.backprop = transposed ? a : g;
    block.activation = transposed ? g : a;
    block.offset = place_of(p, given->offset + r->i * given->row_stride + r->j);
    int64_t stride = transposed ? r->apart : r->row_apart, least = transposed ? r->rows : r->width;
    block.row_stride = stride > least ? stride : least;   /* of a single row it says nothing */
    return append(call, part, &block, scale);
}

/* Of a rectangle with gaps along rows and columns each column is a block. */
static psg_status append_factored(psg_call *call, const psg_tape_use *part, const place *p, const psg_block *given,
                                  double scale) {
    const int64_t p_rows = given->backprop.shape[given->backprop.rank - 1];
    const int64_t p_columns = given->activation.shape[given->activation.rank - 1];
    psg_status status = PSG_OK;
    rectangle r = { .i = 0 };
    for (r.i = 0; r.i < p_rows && !status; r.i += r.rows) {
        const int64_t first = given->offset + r.i * given->row_stride;
        r.rows = run_of(p, first, given->row_stride, p_rows - r.i, &r.row_apart);
        for (r.j = 0; r.j < p_columns && !status; r.j += r.width) {
            r.width = run_of(p, first + r.j, 1, p_columns - r.j, &r.apart);
            if (r.width > 1 && r.apart != 1 && r.rows > 1 && r.row_apart != 1) r.width = 1;
            status = append_rectangle(call, part, p, given, &r, scale);
        }
    }
    return status;
}

static psg_status refuse(psg_call *call, const psg_tape_use *part, const char *what) {
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "takes a part of parameter \"%s\" whose %s are not evenly spaced "
                         "in it", part->name, what);
}

/* A filter is one run of the whole. */
static psg_status append_unfolded(psg_call *call, const psg_tape_use *part, const place *p, const psg_block *given,
                                  double scale) {
    psg_block block = *given;
    int64_t width, apart, rows = given->backprop.shape[given->backprop.rank - 1];
    psg_window_columns(&given->activation, &given->window, &width);
    if (run_of(p, given->offset, 1, width, &apart) < width || apart != 1) return refuse(call, part, "filters");
    if (run_of(p, given->offset, given->row_stride, rows, &apart) < rows) return refuse(call, part, "filters");
    block.offset = place_of(p, given->offset);
    block.row_stride = apart > width ? apart : width;
    return append(call, part, &block, scale);
}

static psg_status append_sparse(psg_call *call, const psg_tape_use *part, const place *p, const psg_block *given,
                                double scale) {
    const int64_t width = given->backprop.shape[given->backprop.rank - 1];
    const int64_t rows = width ? psg_tensor_count(&part->value) / given->row_stride : 0;
    psg_status status = PSG_OK;
    int64_t apart, row_apart;
    if (run_of(p, given->offset, given->row_stride, rows, &row_apart) < rows) return refuse(call, part, "rows");
    for (int64_t j = 0, length; j < width && !status; j += length) {
        psg_block block = *given;
        length = run_of(p, given->offset + j, 1, width - j, &apart);
        if (apart != 1) length = 1;
        block.backprop = columns(&given->backprop, j, length);
        block.offset = place_of(p, given->offset + j);
        block.row_stride = row_apart > length ? row_apart : length;
        status = append(call, part, &block, scale);
    }
    return status;
}

psg_status psg_tape_append_part(psg_call *call, const psg_tape_use *part, const psg_block *block, double scale) {
    const psg_tape_node *node = call->internal;
    const place p = place_in(part, &node->tape->uses[part->whole]);
    if (!psg_tensor_count(&part->value)) return PSG_OK;
    switch (block->form) {
    case PSG_FACTORED: return append_factored(call, part, &p, block, scale);
    case PSG_UNFOLDED: return append_unfolded(call, part, &p, block, scale);
    case PSG_SPARSE_ROWS: return append_sparse(call, part, &p, block, scale);
    case PSG_ROWS:
    case PSG_ROWS_PRODUCT: return append_rows(call, part, &p, block, scale);
    default: return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "derives from a part of parameter \"%s\"", part->name);
    }
}
