#include "block_draw.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that no memory has are above what the questions refuse (2^38 elements), so that none of them is begun. */
static const int64_t huge[] = { INT64_MAX, INT64_MIN, -1, (int64_t)1 << 39, (int64_t)1 << 61, (int64_t)1 << 40 | 1 };
enum { MOST_EXTENT = 1 << 15 };

/* ---- views ---- */

static void *memory_of(drawn_set *set, int64_t elements, size_t size) {
    void *memory = malloc((size_t)elements * size + !elements);
    FUZZ_CHECK(memory && set->array_count < DRAWN_ARRAYS);
    return set->array[set->array_count++] = memory;
}

/* Where the first element stands, and elements from the lowest to the highest; -1: too many. */
static int64_t extent_of(const psg_tensor *view, int64_t *origin) {
    int64_t low = 0, high = 0;
    for (int d = 0; d < view->rank; d++) {
        if (view->shape[d] <= 0) return *origin = 0;
    }
    for (int d = 0; d < view->rank; d++) {
        int64_t reach;
        bool fits = !__builtin_mul_overflow(view->shape[d] - 1, view->stride[d], &reach);
        if (!fits || llabs(reach) > MOST_EXTENT) return -1;
        if (reach < 0) low -= reach;
        else high += reach;
    }
    *origin = low;
    return low + high + 1 > MOST_EXTENT ? -1 : low + high + 1;
}

/* Contiguous strides, or in another order, with gaps, negative, zero. */
static void draw_strides(fuzz_bytes *bytes, psg_tensor *view) {
    int64_t step = 1;
    int layout = fuzz_one_in(bytes, 3) ? (int)fuzz_range(bytes, 0, 15) : 0;
    if (layout & 1) step = 2;
    for (int k = view->rank - 1; k >= 0; k--) {
        int d = layout & 2 ? view->rank - 1 - k : k;
        view->stride[d] = (layout & 4) && fuzz_one_in(bytes, 2) ? -step : step;
        if ((layout & 8) && fuzz_one_in(bytes, 2)) view->stride[d] = 0;
        else if (view->shape[d] > 0 && view->shape[d] < MOST_EXTENT) step *= view->shape[d];
        if (step > MOST_EXTENT) step = MOST_EXTENT;
    }
}

static psg_tensor draw_view(drawn_set *set, fuzz_bytes *bytes, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_tensor view = psg_tensor_of(dtype, NULL, rank, shape);
    int64_t origin = 0;
    if (fuzz_one_in(bytes, 64)) view.shape[fuzz_range(bytes, 0, rank - 1)] = FUZZ_PICK(bytes, huge);
    if (fuzz_one_in(bytes, 64)) view.shape[fuzz_range(bytes, 0, rank - 1)] = fuzz_range(bytes, 0, 9);
    if (fuzz_one_in(bytes, 64)) {
        view.rank += fuzz_one_in(bytes, 2) ? 1 : -1;
        view.shape[rank] = view.stride[rank] = 1;
    }
    draw_strides(bytes, &view);
    int64_t extent = extent_of(&view, &origin);
    if (extent < 0) {
        memset(view.stride, 0, sizeof view.stride);
        extent = extent_of(&view, &origin);
    }
    size_t size = psg_dtype_size(dtype);
    char *memory = memory_of(set, extent, size);
    if (dtype <= PSG_F64 && fuzz_fill(bytes, dtype, memory, extent)) set->is_plain = 0;
    view.data = memory + (size_t)origin * size;
    return view;
}

/* Ids of rows, some of none; now and then of a row that is not there. */
static psg_tensor draw_ids(drawn_set *set, fuzz_bytes *bytes, const int64_t *shape, int64_t rows) {
    psg_dtype dtype = fuzz_one_in(bytes, 2) ? PSG_I32 : PSG_I64;
    psg_tensor view = draw_view(set, bytes, dtype, 2, shape);
    int64_t origin, extent = extent_of(&view, &origin), least = fuzz_one_in(bytes, 2) ? -2 : 0;
    int64_t most = rows - !fuzz_one_in(bytes, 32);
    char *lowest = (char *)view.data - (size_t)origin * psg_dtype_size(dtype);
    for (int64_t k = 0; k < extent; k++) {
        int64_t id = least + (most < least ? 0 : (k * 7 + fuzz_byte(bytes)) % (most - least + 1));
        if (dtype == PSG_I32) ((int32_t *)(void *)lowest)[k] = (int32_t)id;
        else ((int64_t *)(void *)lowest)[k] = id;
    }
    return view;
}

/* ---- blocks ---- */

static psg_tensor draw_rows(drawn_set *set, fuzz_bytes *bytes, int64_t positions, int64_t features) {
    int64_t full[] = { set->batch_size, positions, features }, flat[] = { set->batch_size, features };
    int is_flat = positions == 1 && fuzz_one_in(bytes, 2);
    return draw_view(set, bytes, set->dtype, is_flat ? 2 : 3, is_flat ? flat : full);
}

static psg_block draw_unfolded(drawn_set *set, fuzz_bytes *bytes, int64_t positions, int64_t p, int64_t d) {
    int64_t kernel = fuzz_range(bytes, 1, 3);
    if (d % kernel) kernel = 1;
    psg_window w = { .spatial = (int)fuzz_range(bytes, 1, 3), .kernel = { kernel, 1, 1 }, .output = { 1, 1, 1 } };
    int64_t image[5] = { set->batch_size, d / kernel };
    w.output[w.spatial - 1] = positions;
    for (int s = 0; s < w.spatial; s++) {
        w.stride[s] = fuzz_range(bytes, 1, 3);
        w.dilation[s] = fuzz_range(bytes, 1, 3);
        w.padding[s] = fuzz_range(bytes, 0, 4);
        image[2 + s] = fuzz_range(bytes, 0, 9);
    }
    if (fuzz_one_in(bytes, 32)) (&w.kernel[0])[fuzz_range(bytes, 0, 2)] = FUZZ_PICK(bytes, huge);
    if (fuzz_one_in(bytes, 32)) (&w.stride[0])[fuzz_range(bytes, 0, 2)] = FUZZ_PICK(bytes, huge);
    if (fuzz_one_in(bytes, 32)) (&w.dilation[0])[fuzz_range(bytes, 0, 2)] = FUZZ_PICK(bytes, huge);
    if (fuzz_one_in(bytes, 32)) (&w.padding[0])[fuzz_range(bytes, 0, 2)] = FUZZ_PICK(bytes, huge);
    if (fuzz_one_in(bytes, 32)) (&w.output[0])[fuzz_range(bytes, 0, 2)] = FUZZ_PICK(bytes, huge);
    if (fuzz_one_in(bytes, 64)) w.spatial = (int)fuzz_range(bytes, 0, 4);
    psg_tensor backprop = draw_rows(set, bytes, positions, p);
    int spatial = w.spatial < 1 || w.spatial > 3 ? 1 : w.spatial;
    psg_tensor x = draw_view(set, bytes, set->dtype, 2 + spatial, image);
    return psg_unfolded(&backprop, &x, &w);
}

static psg_block draw_factored(drawn_set *set, fuzz_bytes *bytes, int64_t positions, int64_t p, int64_t d) {
    int is_transposed = fuzz_one_in(bytes, 2);
    psg_tensor backprop = draw_rows(set, bytes, positions, is_transposed ? d : p);
    psg_tensor activation = draw_rows(set, bytes, positions, is_transposed ? p : d);
    return is_transposed ? psg_factored_transposed(&backprop, &activation) : psg_factored(&backprop, &activation);
}

static psg_block draw_form(drawn_set *set, fuzz_bytes *bytes, int64_t p, int64_t d) {
    static const int64_t sizes[] = { 1, 0, 1, 2, 3, 5, 17, 40, 70 };
    int64_t positions = FUZZ_PICK(bytes, sizes), ids[] = { set->batch_size, positions };
    psg_tensor first, second;
    switch (fuzz_range(bytes, 0, 4)) {
    case 0: return draw_factored(set, bytes, positions, p, d);
    case 1:
        first = draw_rows(set, bytes, positions, p * d);
        return psg_rows(&first);
    case 2:
        first = draw_rows(set, bytes, positions, p * d);
        second = draw_rows(set, bytes, positions, p * d);
        return psg_rows_product(&first, &second);
    case 3:
        first = draw_view(set, bytes, set->dtype, 3, (int64_t[]){ set->batch_size, positions, d });
        second = draw_ids(set, bytes, ids, p);
        return psg_sparse_rows(&first, &second);
    default: return draw_unfolded(set, bytes, positions, p, d);
    }
}

/* One field becomes something else. */
static void change_field(drawn_set *set, fuzz_bytes *bytes, psg_block *block) {
    static const double scales[] = { 0, -1, 0.5, 2, 1e-100, 1e100, 1e101, NAN, INFINITY, 1e30, 1e-30, 1e-31 };
    int kind = (int)fuzz_range(bytes, 0, 5);
    if (block->form == PSG_DERIVED) set->is_known = 0;
    int64_t number = fuzz_one_in(bytes, 4) ? FUZZ_PICK(bytes, huge) : fuzz_range(bytes, -1, 20);
    if (kind == 0) {
        int64_t k = fuzz_range(bytes, 0, 11);
        block->scale = scales[k];
        set->is_plain &= k < 4;
    }
    if (kind == 1) block->offset = number;
    if (kind == 2) block->row_stride = number;
    if (kind == 3) block->row_step = number;
    if (kind == 4 && fuzz_one_in(bytes, 4)) block->form = (psg_form)fuzz_range(bytes, -1, 6);
    if (kind == 5 && fuzz_one_in(bytes, 4)) block->backprop.dtype ^= 1;
}

/* ---- derivations: E = W scaled by 2, a gain a row, or differences of neighbours ---- */

static void pull_twice(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    int64_t columns = *(const int64_t *)user;
    (void)first;
    for (int64_t k = 0; k < count * columns; k++) pulled[k] = 2 * grad[k];
}
static double norm_twice(const void *user, int64_t row) { return (void)user, (void)row, 2; }

static void pull_sum(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    int64_t columns = *(const int64_t *)user;
    (void)first;
    for (int64_t i = 0; i < count; i++) {
        pulled[i] = 0;
        for (int64_t j = 0; j < columns; j++) pulled[i] += grad[i * columns + j];
    }
}
static double norm_sum(const void *user, int64_t row) { return (void)row, sqrt((double)*(const int64_t *)user); }

static psg_block draw_derived(drawn_set *set, fuzz_bytes *bytes, psg_gradient *gradient, psg_block *inner,
                              psg_derivation *derivation) {
    int64_t rows = gradient->shape[0], columns = gradient->rank > 1 ? gradient->shape[1] : fuzz_range(bytes, 1, 9);
    int is_sum = gradient->rank == 1;
    *inner = draw_form(set, bytes, rows, columns);
    if (fuzz_one_in(bytes, 8)) change_field(set, bytes, inner);
    *derivation = (psg_derivation){ .blocks = inner, .block_count = 1, .rows = rows, .columns = columns,
                                    .width = is_sum ? 1 : columns, .pull = is_sum ? pull_sum : pull_twice,
                                    .norm = is_sum ? norm_sum : norm_twice };
    if (fuzz_one_in(bytes, 32)) derivation->rows = fuzz_range(bytes, -1, 9);
    if (fuzz_one_in(bytes, 32)) {
        derivation->inner = fuzz_range(bytes, -1, 9);
        set->is_known = 0;
    }
    if (fuzz_one_in(bytes, 32)) derivation->pull = NULL;
    derivation->user = &derivation->columns;
    return psg_derived(derivation, set->dtype, set->batch_size);
}

/* ---- sets ---- */

static void draw_gradient(drawn_set *set, fuzz_bytes *bytes, drawn_gradient *to) {
    static const int64_t sizes[] = { 3, 1, 0, 2, 4, 5, 8, 17, 33 };
    int64_t shape[] = { FUZZ_PICK(bytes, sizes), FUZZ_PICK(bytes, sizes) };
    int rank = fuzz_one_in(bytes, 4) ? 1 : 2;
    psg_gradient *gradient = &to->gradient;
    size_t count = (size_t)fuzz_range(bytes, 0, DRAWN_BLOCKS);
    *gradient = psg_gradient_of_blocks(to->block, 0, rank, shape);
    gradient->dtype = set->dtype;
    gradient->batch_size = set->batch_size;
    for (size_t k = 0; k < count; k++) {
        if (fuzz_one_in(bytes, 5)) {
            to->block[k] = draw_derived(set, bytes, gradient, &to->inner[k], &to->derivation[k]);
        } else {
            to->block[k] = draw_form(set, bytes, shape[0], rank > 1 ? shape[1] : 1);
        }
        if (fuzz_one_in(bytes, 6)) change_field(set, bytes, &to->block[k]);
    }
    gradient->blocks = to->block;
    gradient->block_count = count;
    if (fuzz_one_in(bytes, 64)) gradient->shape[0] = FUZZ_PICK(bytes, huge);
    if (fuzz_one_in(bytes, 128)) gradient->batch_size = FUZZ_PICK(bytes, huge);
}

void drawn_set_make(drawn_set *set, fuzz_bytes *bytes) {
    *set = (drawn_set){ .dtype = fuzz_one_in(bytes, 2) ? PSG_F64 : PSG_F32, .is_plain = 1, .is_known = 1 };
    set->batch_size = fuzz_range(bytes, 0, 5);
    set->count = (size_t)fuzz_range(bytes, 1, DRAWN_GRADIENTS);
    for (size_t k = 0; k < set->count; k++) {
        draw_gradient(set, bytes, &set->of[k]);
        set->list[k] = &set->of[k].gradient;
    }
    if (fuzz_one_in(bytes, 8)) {
        for (int n = 0; n < DRAWN_SAMPLES; n++) set->bad[n] = fuzz_one_in(bytes, 4);
        set->of[0].gradient.bad = set->bad;
    }
}

void drawn_set_free(drawn_set *set) {
    while (set->array_count) free(set->array[--set->array_count]);
}

/* ---- one sample ---- */

static void keep_sample(psg_tensor *view, int64_t n) {
    if (view->rank < 1) return;
    if (view->data) view->data = (char *)view->data + n * view->stride[0] * (int64_t)psg_dtype_size(view->dtype);
    view->shape[0] = 1;
}

static void keep_of_block(psg_block *block, int64_t n) {
    keep_sample(&block->backprop, n);
    keep_sample(&block->activation, n);
    keep_sample(&block->ids, n);
}

void drawn_set_alone(const drawn_set *from, int64_t n, drawn_set *alone) {
    *alone = *from;
    alone->batch_size = 1;
    alone->array_count = 0;
    for (size_t k = 0; k < from->count; k++) {
        drawn_gradient *g = &alone->of[k];
        for (size_t b = 0; b < g->gradient.block_count; b++) {
            keep_of_block(&g->block[b], n);
            if (!from->of[k].block[b].derivation) continue;
            keep_of_block(&g->inner[b], n);
            g->derivation[b].blocks = &g->inner[b];
            g->derivation[b].user = &g->derivation[b].columns;
            g->block[b].derivation = &g->derivation[b];
        }
        g->gradient.blocks = g->block;
        g->gradient.batch_size = 1;
        g->gradient.bad = from->of[k].gradient.bad ? from->bad + n : NULL;
        alone->list[k] = &g->gradient;
    }
}
