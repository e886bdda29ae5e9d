#include "gradient/piece.h"

#include "base/shapes.h"
#include "gradient/room.h"

/* A rank that cannot be is for the questions to refuse. */
static int64_t last_dimension(const psg_tensor *x) {
    return x->rank > 0 && x->rank <= PSG_MAX_RANK ? x->shape[x->rank - 1] : 0;
}

/* No view, which the questions refuse. */
static psg_tensor given(const psg_tensor *tensor) { return tensor ? *tensor : (psg_tensor){ .rank = -1 }; }

psg_block psg_factored(const psg_tensor *backprop, const psg_tensor *activation) {
    const psg_tensor columns = given(activation);
    return (psg_block){ .form = PSG_FACTORED, .backprop = given(backprop), .activation = columns, .scale = 1.0,
                        .row_stride = last_dimension(&columns) };
}

psg_block psg_factored_transposed(const psg_tensor *backprop, const psg_tensor *activation) {
    return psg_factored(activation, backprop);   /* (G^T A)^T = A^T G */
}

psg_block psg_rows(const psg_tensor *backprop) {
    const psg_tensor rows = given(backprop);
    return (psg_block){ .form = PSG_ROWS, .backprop = rows, .scale = 1.0, .row_stride = last_dimension(&rows) };
}

psg_block psg_rows_product(const psg_tensor *backprop, const psg_tensor *activation) {
    psg_block block = psg_rows(backprop);
    block.form = PSG_ROWS_PRODUCT;
    block.activation = given(activation);
    return block;
}

psg_block psg_sparse_rows(const psg_tensor *backprop, const psg_tensor *ids) {
    psg_block block = psg_rows(backprop);
    block.form = PSG_SPARSE_ROWS;
    block.ids = given(ids);
    return block;
}

bool psg_window_columns(const psg_tensor *image, const psg_window *window, int64_t *columns) {
    bool fits = true;
    *columns = image->rank > 1 ? image->shape[1] : 0;
    for (int k = 0; k < window->spatial && k < 3 && fits; k++) {
        fits = psg_size_multiply(*columns, window->kernel[k], columns);
    }
    return fits;
}

psg_block psg_unfolded(const psg_tensor *backprop, const psg_tensor *image, const psg_window *window) {
    psg_block block = psg_factored(backprop, image);
    block.form = PSG_UNFOLDED;
    if (window) block.window = *window;   /* none has no spatial dimension: the questions refuse it */
    if (!psg_window_columns(&block.activation, &block.window, &block.row_stride)) block.row_stride = 0;
    return block;
}

psg_block psg_derived(const psg_derivation *derivation, psg_dtype dtype, int64_t batch_size) {
    static const double none;
    int64_t shape[3] = { batch_size, 0, 0 };
    return (psg_block){ .form = PSG_DERIVED, .backprop = psg_tensor_of(dtype, (void *)(uintptr_t)&none, 3, shape),
                        .scale = 1.0, .row_stride = derivation ? derivation->width : 0, .derivation = derivation };
}

psg_block psg_block_scaled(psg_block block, double scale) {
    block.scale *= scale;
    return block;
}

psg_block psg_block_at(psg_block block, int64_t offset, int64_t stride) {
    const bool is_rows = block.form == PSG_ROWS || block.form == PSG_ROWS_PRODUCT;
    /* No parameter begins before its first element: what overflows is refused as that. */
    if (block.offset == INT64_MIN || __builtin_add_overflow(block.offset, offset, &block.offset)) block.offset = INT64_MIN;
    if (stride) *(is_rows ? &block.row_step : &block.row_stride) = stride;
    return block;
}

psg_gradient psg_gradient_of_blocks(const psg_block *blocks, size_t block_count, int rank, const int64_t *shape) {
    psg_gradient gradient = { .blocks = blocks, .block_count = block_count, .rank = rank };
    if ((rank > 0 && !shape) || (block_count && !blocks)) return (psg_gradient){ .rank = -1 };
    for (int d = 0; d < rank && d < PSG_MAX_RANK; d++) gradient.shape[d] = shape[d];
    if (block_count) {
        gradient.dtype = blocks[0].backprop.dtype;
        gradient.batch_size = blocks[0].backprop.shape[0];
    }
    return gradient;
}

int64_t psg_gradient_numel(const psg_gradient *gradient) { return psg_shape_product(gradient->rank, gradient->shape); }

int64_t psg_gradient_positions(const psg_gradient *gradient) {
    int64_t positions = 0;
    if (!gradient) return 0;
    for (size_t k = 0; k < gradient->block_count; k++) positions += psg_positions_of(&gradient->blocks[k].backprop);
    return positions;
}

psg_ids psg_ids_of(const psg_block *block) {
    return (psg_ids){ block->ids.data, block->ids.dtype == PSG_I64, block->ids.stride[0], block->ids.stride[1] };
}

int64_t psg_place_span(const psg_place *place) {
    return place->rows && place->columns ? (place->rows - 1) * place->stride + place->columns : 0;
}

static psg_operand_view view_of(const psg_tensor *x) {
    int last = x->rank - 1;
    return (psg_operand_view){ x->data, x->shape[last], x->stride[0], x->rank == 3 ? x->stride[1] : 0,
                               x->shape[last] == 1 ? 1 : x->stride[last] };
}

/* The image's sizes and strides, its spatial dimensions put last of three. */
static psg_unfolding unfold_of(const psg_tensor *image, const psg_window *window) {
    psg_unfolding u = { .channels = image->shape[1], .channel_step = image->stride[1], .size = { 1, 1, 1 },
                        .kernel = { 1, 1, 1 }, .stride = { 1, 1, 1 }, .dilation = { 1, 1, 1 }, .output = { 1, 1, 1 } };
    for (int from = 0, d = 3 - window->spatial; d < 3; from++, d++) {
        u.size[d] = image->shape[2 + from];
        u.step[d] = image->stride[2 + from];
        u.kernel[d] = window->kernel[from];
        u.stride[d] = window->stride[from];
        u.dilation[d] = window->dilation[from];
        u.padding[d] = window->padding[from];
        u.output[d] = window->output[from];
    }
    return u;
}

/* Kernels of one element without padding: the windows are the pixels, which are rows of a view when their spatial
 * dimensions are one evenly spaced sequence. */
static bool is_pixels(const psg_unfolding *u, int slowest, ptrdiff_t *position) {
    int64_t count = 1;
    *position = 1;
    for (int d = 2; d >= 0; d--) {
        if (u->kernel[d] != 1 || u->padding[d] != 0 || (u->output[d] - 1) * u->stride[d] >= u->size[d]) return false;
        if (u->output[d] == 1 && d != slowest) continue;
        int64_t step;
        if (__builtin_mul_overflow((int64_t)u->step[d], u->stride[d], &step)) return false;
        if (count == 1) *position = step;
        else if (step != *position * count) return false;
        count *= u->output[d];
    }
    return true;
}

static void view_windows(const psg_block *b, psg_piece *piece) {
    piece->window = unfold_of(&b->activation, &b->window);
    piece->slowest = 3 - b->window.spatial;
    piece->a = (psg_operand_view){ .data = b->activation.data, .batch = b->activation.stride[0], .step = 1 };
    psg_window_columns(&b->activation, &b->window, &piece->a.columns);
    ptrdiff_t position;
    piece->has_windows = !is_pixels(&piece->window, piece->slowest, &position);
    if (piece->has_windows) return;
    piece->a.position = position;
    piece->a.step = piece->a.columns == 1 ? 1 : piece->window.channel_step;
}

psg_piece psg_piece_of(const psg_gradient *gradient, const psg_block *b) {
    psg_piece piece = { .room = psg_room_of(b->form), .dtype = gradient->dtype, .batch = b->backprop.shape[0],
                        .positions = psg_positions_of(&b->backprop), .g = view_of(&b->backprop), .scale = b->scale,
                        .numel = psg_gradient_numel(gradient) };
    if (b->form == PSG_UNFOLDED) view_windows(b, &piece);
    else if (b->form == PSG_FACTORED || b->form == PSG_ROWS_PRODUCT) piece.a = view_of(&b->activation);
    piece.room->view(b, &piece);
    return piece;
}

bool psg_is_zero_row(psg_dtype dtype, const void *row, ptrdiff_t step, int64_t columns) {
    int64_t i = 0;
    if (dtype == PSG_F64) while (i < columns && ((const double *)row)[i * step] == 0) i++;
    else while (i < columns && ((const float *)row)[i * step] == 0) i++;
    return i == columns;
}

static bool is_padding(const psg_piece *p, int64_t n, int64_t t) {
    if (p->ids.data && psg_id_at(&p->ids, n, t) < 0) return true;
    return psg_is_zero_row(p->dtype, psg_at(&p->g, p->dtype, n, t, 0), p->g.step, p->g.columns);
}

int64_t psg_live_positions(const psg_piece *p, int64_t n) {
    int64_t live = p->positions;
    while (live > 0 && is_padding(p, n, live - 1)) live--;
    return live;
}
