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

psg_block psg_sparse_rows(const psg_tensor *backprop, const psg_tensor *ids) {
    psg_block block = psg_rows(backprop);
    block.form = PSG_SPARSE_ROWS;
    block.ids = *ids;
    return block;
}

/* d = C prod kernel; 0 for a window that the questions refuse. */
static int64_t window_columns(const psg_tensor *image, const psg_window *window) {
    int64_t d = image->rank > 1 ? image->shape[1] : 0;
    for (int k = 0; k < window->spatial && k < 3; k++) {
        if (!psg_size_multiply(d, window->kernel[k], &d)) return 0;
    }
    return d;
}

psg_block psg_unfolded(const psg_tensor *backprop, const psg_tensor *image, const psg_window *window) {
    return (psg_block){ .form = PSG_UNFOLDED, .backprop = *backprop, .activation = *image, .window = *window,
                        .scale = 1.0, .row_stride = window_columns(image, window) };
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

const char *psg_form_name(psg_form form) {
    static const char *const names[] = { [PSG_FACTORED] = "factored", [PSG_ROWS] = "rows",
                                         [PSG_SPARSE_ROWS] = "sparse rows", [PSG_UNFOLDED] = "unfolded" };
    return names[form];
}

/* ---- views ---- */

int64_t psg_gradient_numel(const psg_gradient *gradient) { return psg_shape_product(gradient->rank, gradient->shape); }

static int64_t positions_of(const psg_tensor *x) { return x->rank == 3 ? x->shape[1] : 1; }

int64_t psg_gradient_positions(const psg_gradient *gradient) {
    int64_t positions = 0;
    for (size_t k = 0; k < gradient->block_count; k++) positions += positions_of(&gradient->blocks[k].backprop);
    return positions;
}

static psg_operand_view view_of(const psg_tensor *x) {
    int last = x->rank - 1;
    return (psg_operand_view){ x->data, x->shape[last], x->stride[0], x->rank == 3 ? x->stride[1] : 0,
                               x->shape[last] == 1 ? 1 : x->stride[last] };
}

/* ---- windows ---- */

/* The image's sizes and strides, its spatial dimensions put last of three. */
static psg_unfolding unfold_of(const psg_tensor *image, const psg_window *window) {
    psg_unfolding u = { .channels = image->shape[1], .channel_step = image->stride[1] };
    for (int d = 0, from = window->spatial - 3; d < 3; d++, from++) {
        bool there = from >= 0;
        u.size[d] = there ? image->shape[2 + from] : 1;
        u.step[d] = there ? image->stride[2 + from] : 0;
        u.kernel[d] = there ? window->kernel[from] : 1;
        u.stride[d] = there ? window->stride[from] : 1;
        u.dilation[d] = there ? window->dilation[from] : 1;
        u.padding[d] = there ? window->padding[from] : 0;
        u.output[d] = there ? window->output[from] : 1;
    }
    return u;
}

/* Kernels of one element without padding: the windows are the pixels, which are rows of a view when their spatial
 * dimensions are one evenly spaced sequence. */
static bool is_pixels(const psg_unfolding *u, ptrdiff_t *position) {
    int64_t count = 1;
    *position = 1;
    for (int d = 2; d >= 0; d--) {
        bool one = u->kernel[d] == 1 && u->padding[d] == 0 && (u->output[d] - 1) * u->stride[d] < u->size[d];
        if (!one) return false;
        if (u->output[d] == 1) continue;
        ptrdiff_t step = u->step[d] * u->stride[d];
        if (count == 1) *position = step;
        else if (step != *position * count) return false;
        count *= u->output[d];
    }
    return true;
}

/* One window that is the image: one row. */
static bool is_image(const psg_unfolding *u) {
    ptrdiff_t step = 1;
    for (int d = 2; d >= 0; step *= u->size[d--]) {
        bool all = u->kernel[d] == u->size[d] && u->padding[d] == 0 && u->output[d] == 1 &&
                   (u->dilation[d] == 1 || u->kernel[d] == 1);
        if (!all || (u->size[d] != 1 && u->step[d] != step)) return false;
    }
    return u->channels == 1 || u->channel_step == step;
}

static void set_windows(psg_piece *piece, const psg_block *b) {
    piece->window = unfold_of(&b->activation, &b->window);
    piece->a = (psg_operand_view){ b->activation.data, window_columns(&b->activation, &b->window),
                                   b->activation.stride[0], 0, 1 };
    ptrdiff_t position;
    if (is_pixels(&piece->window, &position)) {
        piece->form = PSG_FACTORED;
        piece->a.position = position;
        piece->a.step = piece->a.columns == 1 ? 1 : piece->window.channel_step;
    } else if (is_image(&piece->window)) {
        piece->form = PSG_FACTORED;
    }
}

/* ---- pieces ---- */

psg_piece psg_piece_of(const psg_gradient *gradient, size_t block) {
    const psg_block *b = &gradient->blocks[block];
    psg_piece piece = { .form = b->form, .dtype = gradient->dtype, .batch = gradient->batch_size,
                        .positions = positions_of(&b->backprop), .g = view_of(&b->backprop), .a = { .columns = 1 },
                        .scale = b->scale, .offset = b->offset, .row_stride = b->row_stride };
    if (b->form == PSG_FACTORED) piece.a = view_of(&b->activation);
    if (b->form == PSG_UNFOLDED) set_windows(&piece, b);
    if (b->form == PSG_SPARSE_ROWS) {
        piece.ids = psg_ids_of(b);
        piece.rows = psg_sparse_row_count(b, psg_gradient_numel(gradient));
    }
    if (psg_is_product(&piece) && piece.g.columns == 1) {
        piece.row_stride = piece.a.columns;   /* whatever was given: there is no next row */
    }
    return piece;
}

psg_ids psg_ids_of(const psg_block *block) {
    return (psg_ids){ block->ids.data, block->ids.dtype == PSG_I64, block->ids.stride[0], block->ids.stride[1] };
}

int64_t psg_sparse_row_count(const psg_block *b, int64_t numel) {
    int64_t p = last_dimension(&b->backprop);
    if (b->offset > numel - p) return 0;
    return b->row_stride > 0 ? (numel - p - b->offset) / b->row_stride + 1 : 1;
}

bool psg_piece_is_whole(const psg_piece *piece, int64_t numel) {
    if (piece->form == PSG_SPARSE_ROWS) {
        return piece->offset == 0 && piece->row_stride == piece->g.columns && piece->rows * piece->g.columns == numel;
    }
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
