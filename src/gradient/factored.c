/* The factored and unfolded forms: gradient[n] = sum_t g[n, t]^T a[n, t], p x d. */
#include <string.h>

#include "base/shapes.h"
#include "blas/gemm.h"
#include "gradient/factored.h"
#include "gradient/plan.h"
#include "kernels.h"

static psg_status check_window(const psg_check *at, const psg_window *w) {
    const struct { const char *name; const int64_t *values, least; } limits[] = {
        { "kernel", w->kernel, 1 }, { "stride", w->stride, 1 }, { "dilation", w->dilation, 1 },
        { "padding", w->padding, 0 }, { "output", w->output, 0 },
    };
    for (int d = 0; d < w->spatial; d++) {
        for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
            if (limits[k].values[d] >= limits[k].least) continue;
            return psg_check_fail(at, PSG_ERR_ARGUMENT, "window.%s[%d] is %lld, must be >= %lld", limits[k].name, d,
                                  (long long)limits[k].values[d], (long long)limits[k].least);
        }
        int64_t reach, dilated;
        bool fits = psg_size_multiply(w->output[d], w->stride[d], &reach) &&
                    psg_size_multiply(w->kernel[d], w->dilation[d], &dilated) &&
                    !__builtin_add_overflow(reach, dilated, &reach) && w->padding[d] < INT64_MAX / 4 &&
                    reach < INT64_MAX / 4;
        if (!fits) return psg_check_fail(at, PSG_ERR_OVERFLOW, "the window's reach does not fit 63 bits");
    }
    return PSG_OK;
}

static psg_status check_windows(const psg_check *at, const psg_block *b, int64_t *columns) {
    if (b->window.spatial < 1 || b->window.spatial > 3) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "window.spatial is %d, must be 1, 2 or 3", b->window.spatial);
    }
    psg_status status = psg_check_operand(at, b, &b->activation, "the image");
    if (!status) status = check_window(at, &b->window);
    if (status) return status;
    int64_t positions = psg_shape_product(b->window.spatial, b->window.output);
    if (positions != psg_positions_of(&b->backprop)) {
        return psg_check_fail(at, PSG_ERR_SHAPE, "backprop has %lld positions, the window's output %lld",
                              (long long)psg_positions_of(&b->backprop), (long long)positions);
    }
    bool counted = psg_window_columns(&b->activation, &b->window, columns);
    return counted ? PSG_OK : psg_check_fail(at, PSG_ERR_OVERFLOW, "the window's elements do not fit 63 bits");
}

static psg_status check(const psg_check *at, const psg_block *b) {
    const psg_tensor *g = &b->backprop, *a = &b->activation;
    bool windows = b->form == PSG_UNFOLDED;
    int64_t columns = 0;
    psg_status status = windows ? check_windows(at, b, &columns) : psg_check_operand(at, b, a, "activation");
    if (!status && !windows && psg_positions_of(a) != psg_positions_of(g)) {
        status = psg_check_fail(at, PSG_ERR_SHAPE, "backprop has %lld positions, activation %lld",
                                (long long)psg_positions_of(g), (long long)psg_positions_of(a));
    }
    if (status) return status;
    return psg_check_place(at, b->offset, psg_features_of(g), windows ? columns : psg_features_of(a), b->row_stride);
}

static void view(const psg_block *b, psg_piece *piece) {
    piece->place = (psg_place){ b->offset, piece->g.columns, piece->a.columns, b->row_stride };
    if (piece->g.columns == 1) piece->place.stride = piece->a.columns;   /* whatever was given: there is no next row */
}

psg_product psg_product_of(const psg_piece *p, int64_t n, const psg_rectangle *at, int64_t t, int64_t count) {
    psg_product product = {
        .m = (size_t)at->rows, .n = (size_t)at->columns, .k = (size_t)count, .alpha = 1.0,
        .g = psg_at(&p->g, p->dtype, n, t, at->row),
        .g_stride = p->g.position, .g_step = p->g.step, .a_stride = p->a.position, .a_step = p->a.step,
    };
    if (p->has_windows) {
        product.a = psg_at(&p->a, p->dtype, n, 0, 0);
        product.window = &p->window;
        product.a_position = t;
        product.a_column = at->column;
    } else {
        product.a = psg_at(&p->a, p->dtype, n, t, at->column);
    }
    return product;
}

/* Elements [first, first + count) of every live row, one row after the other; the end of the copy. */
static void *gather_operand(const psg_part *part, int64_t n, bool activations, int64_t first, int64_t count, char *to) {
    size_t bytes = (size_t)count * psg_dtype_size(part->dtype);
    for (size_t k = 0; k < part->count; k++) {
        const psg_operand_view *x = activations ? &part->pieces[k].a : &part->pieces[k].g;
        for (int64_t t = 0; t < psg_live(part, k, n); t++, to += bytes) {
            const void *row = psg_at(x, part->dtype, n, t, first);
            part->kernels->scale_row((size_t)count, 1.0, row, x->step, to, false);
        }
    }
    return to;
}

bool psg_is_copied(const psg_part *part, int64_t live) {
    int64_t position = (part->place.rows + part->place.columns) * (int64_t)psg_dtype_size(part->dtype);
    bool fits = live <= psg_least(PSG_LONGEST, (int64_t)PSG_SMALL_BYTES / position);
    return part->count > 1 && !part->pieces[0].has_windows && fits;
}

void psg_take_sample(psg_sample *s, const psg_part *part, int64_t n, const psg_rectangle *at, void *memory) {
    s->one = part->pieces;
    s->at = *at;
    s->n = n;
    s->live = psg_part_live(part, n);
    s->is_copied = psg_is_copied(part, s->live);
    s->is_whole = part->count == 1 || s->is_copied;
    if (!s->is_copied) return;
    void *a = gather_operand(part, n, false, at->row, at->rows, memory);
    gather_operand(part, n, true, at->column, at->columns, a);
    s->copy = part->pieces[0];
    s->copy.g = (psg_operand_view){ memory, at->rows, 0, at->rows, 1 };
    s->copy.a = (psg_operand_view){ a, at->columns, 0, at->columns, 1 };
    s->one = &s->copy;
    s->at = (psg_rectangle){ 0, at->rows, 0, at->columns };
    s->n = 0;
}

/* BLAS takes rows with unit steps and a stride of at least their length. */
bool psg_suits_blas(const psg_operand_view *x, int64_t positions) {
    return x->step == 1 && (positions <= 1 || x->position >= x->columns) && x->columns < INT32_MAX &&
           x->position < INT32_MAX;
}

static void store_by_blas(psg_context *context, const psg_piece *p, const psg_product *product, int64_t live) {
    psg_gemm gemm = { .dtype = p->dtype, .transpose_a = true, .m = (int64_t)product->m, .n = (int64_t)product->n,
                      .k = live, .alpha = product->alpha, .beta = product->accumulate ? 1 : 0, .a = product->g,
                      .lda = psg_most(product->g_stride, p->g.columns), .b = product->a,
                      .ldb = psg_most(product->a_stride, p->a.columns), .c = product->c, .ldc = product->c_stride };
    psg_gemm_serial(context, &gemm);
}

static void store(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, const psg_rectangle *at,
                  double scale, void *out, bool accumulate, void *workspace) {
    const psg_kernel_table *kernels = part->kernels;
    bool blas = psg_gemm_materialises(part->context) && !p->has_windows && psg_suits_blas(&p->g, live) &&
                psg_suits_blas(&p->a, live) && p->place.stride < INT32_MAX;
    int64_t t = 0;
    do {
        psg_product product = psg_product_of(p, n, at, t, psg_least(PSG_LONGEST, live - t));
        product.finish = PSG_FINISH_STORE;
        product.alpha = scale;
        product.c = out;
        product.c_stride = p->place.stride;
        product.accumulate = accumulate || t > 0;
        product.stream = !accumulate && live <= PSG_LONGEST && psg_leaves_cache(p);
        if (blas) {
            store_by_blas(part->context, p, &product, live);
            return;
        }
        if (product.k == 1 && !product.window && p->g.step == 1 && p->a.step == 1) {
            kernels->outer(product.m, product.n, scale, product.g, product.a, out, product.c_stride,
                           product.accumulate, product.stream);
        } else {
            kernels->product(&product, workspace);
        }
        t += PSG_LONGEST;
    } while (t < live);
}

/* Whole rows are taken together; a range may begin and end inside a row. */
static void write_piece(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, double scale, int64_t first,
                        int64_t last, void *out, bool accumulate, void *workspace) {
    const psg_place *place = &part->place;
    int64_t stride = psg_most(place->stride, 1), i = psg_most((first - place->offset) / stride, 0), rows;
    for (int64_t start; i < place->rows && (start = place->offset + i * stride) < last; i += rows) {
        int64_t from = psg_most(first - start, 0), to = psg_least(last - start, place->columns);
        bool whole = from == 0 && to == place->columns;
        rows = whole ? psg_least((last - place->columns - start) / stride + 1, place->rows - i) : 1;
        psg_rectangle at = { i, rows, from, to - from };
        void *target = psg_elements_mutable(out, p->dtype, start + from - first);
        if (from < to) store(part, p, n, live, &at, scale, target, accumulate, workspace);
    }
}

static void write_range(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                        bool accumulate, void *workspace) {
    for (size_t k = 0; k < part->count; k++) {
        write_piece(part, &part->pieces[k], n, psg_live(part, k, n), scale, first, last, out, accumulate || k > 0,
                    workspace);
    }
}

/* Tiles of the gradient against tiles of v. */
static double dot_tiles(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, const void *direction,
                        void *workspace) {
    double dot = 0;
    psg_rectangle all = psg_whole(part);
    for (int64_t t = 0; t < live; t += PSG_LONGEST) {
        psg_product product = psg_product_of(p, n, &all, t, psg_least(PSG_LONGEST, live - t));
        product.finish = PSG_FINISH_DOT;
        product.c = (void *)(uintptr_t)psg_elements(direction, p->dtype, p->place.offset);
        product.c_stride = p->place.stride;
        product.squares = &dot;
        product.workspace_bytes = PSG_WORKSPACE_BYTES;
        part->kernels->product(&product, workspace);
    }
    return dot;
}

enum { PROJECTED = 64 };   /* samples at once */
/* dots[i] = <g V, a> of samples first + i of one position each, (G V) . A in double. */
static void project(const psg_part *part, const psg_piece *p, int64_t first, int64_t count, const void *direction,
                    double *dots, void *workspace) {
    const int64_t room = (int64_t)(PSG_TILE_BYTES / sizeof(double)) / PROJECTED;
    double *projected = psg_tile_memory(workspace), *a = psg_small_memory(workspace);
    const void *v = psg_elements(direction, p->dtype, p->place.offset);
    for (int64_t n = 0; n < count; n++) dots[n] = 0;
    for (int64_t c = 0; c < p->a.columns; c += room) {
        int64_t columns = psg_least(room, p->a.columns - c);
        for (int64_t i = 0; i < p->g.columns; i += PSG_LONGEST) {
            int64_t terms = psg_least(PSG_LONGEST, p->g.columns - i);
            psg_product product = { .finish = PSG_FINISH_STORE, .m = (size_t)count, .n = (size_t)columns,
                                    .k = (size_t)terms, .alpha = 1, .narrow = p->dtype == PSG_F32,
                                    .g = psg_at(&p->g, p->dtype, first, 0, i),
                                    .g_stride = p->g.step, .g_step = p->g.batch,
                                    .a = psg_elements(v, p->dtype, i * p->place.stride + c),
                                    .a_stride = p->place.stride, .a_step = 1, .c = projected, .c_stride = columns,
                                    .accumulate = i > 0 };
            part->doubles->product(&product, workspace);
        }
        for (int64_t n = 0; n < count; n++) {
            memset(a, 0, (size_t)columns * sizeof *a);
            const void *row = psg_at(&p->a, p->dtype, first + n, 0, c);
            psg_add_strided(part, 1.0, row, p->a.step, columns, a);
            dots[n] += part->doubles->dot((size_t)columns, projected + n * columns, a);
        }
    }
}

static double dot_sample(const psg_part *part, int64_t n, const void *direction, void *workspace) {
    bool single = psg_is_single(part, psg_part_live(part, n));
    double sum = 0;
    if (single) project(part, psg_single_live_piece(part, n), n, 1, direction, &sum, workspace);
    for (size_t k = 0; k < part->count && !single; k++) {
        sum += dot_tiles(part, &part->pieces[k], n, psg_live(part, k, n), direction, workspace);
    }
    return sum;
}

/* Samples of one position share the packed direction. */
static void dot(const psg_part *part, int64_t first, int64_t count, const void *v, double *dots, void *workspace) {
    const psg_piece *p = &part->pieces[0];
    bool together = part->count == 1 && p->positions == 1 && !p->has_windows;
    for (int64_t n = 0; n < count && !together; n++) {
        dots[n] += part->scale * dot_sample(part, first + n, v, workspace);
    }
    for (int64_t n = 0; n < count && together; n += PROJECTED) {
        double some[PROJECTED];
        int64_t taken = psg_least(PROJECTED, count - n);
        project(part, p, first + n, taken, v, some, workspace);
        for (int64_t i = 0; i < taken; i++) {
            if (psg_live(part, 0, first + n + i)) dots[n + i] += part->scale * some[i];
        }
    }
}

/* Pairs of samples: <g_i a_i^T, g_j a_j^T> = <g_i, g_j> <a_i, a_j>. */
static bool has_pairs(const psg_part *part, int64_t n) {
    int64_t live = psg_part_live(part, n);
    return !live || psg_is_single(part, live);
}

static double operand_dot(const psg_part *part, const psg_operand_view *x, int64_t i, const psg_operand_view *y,
                          int64_t j) {
    const void *left = psg_at(x, part->dtype, i, 0, 0), *right = psg_at(y, part->dtype, j, 0, 0);
    return psg_strided_dot(part, left, x->step, right, y->step, x->columns);
}

static double pair(const psg_part *part, int64_t i, int64_t j, void *workspace) {
    (void)workspace;
    if (!psg_part_live(part, i) || !psg_part_live(part, j)) return 0;
    const psg_piece *x = psg_single_live_piece(part, i), *y = psg_single_live_piece(part, j);
    return part->scale * part->scale * operand_dot(part, &x->g, i, &y->g, j) * operand_dot(part, &x->a, i, &y->a, j);
}

const psg_piece *psg_single_live_piece(const psg_part *part, int64_t n) {
    size_t k = 0;
    while (!psg_live(part, k, n)) k++;
    return &part->pieces[k];
}

static const char *route(const psg_part *part, psg_question question) {
    int64_t positions = psg_part_positions(part);
    bool single = psg_is_single(part, positions), keeps = question == PSG_ASK_CLIPPED_SUM;
    if (question == PSG_ASK_GRAD_SAMPLE) return "materialise";
    if (question == PSG_ASK_DOT) return single ? "project" : "tiles";
    if (question == PSG_ASK_GRAM) return single ? "identity" : "tiles";
    if (keeps && psg_factored_keeps(part, positions)) return "keep";
    if (keeps || question == PSG_ASK_SQNORM) return psg_route_name(psg_factored_route(part, positions));
    return single ? "stacked" : "samples";
}

const psg_room psg_factored_room = {
    .name = "factored", .check = check, .view = view, .write = write_range, .overwrites = true,
    .lengths = psg_product_lengths, .square = psg_factored_square, .dot = dot, .grid = psg_factored_grid,
    .sum = psg_factored_sum, .has_pairs = has_pairs, .pair = pair, .route = route,
};
