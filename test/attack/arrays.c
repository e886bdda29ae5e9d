#include "arrays.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void *attack_take(attack_memory *memory, size_t count, size_t size) {
    void *chunk = calloc(count ? count : 1, size);
    if (!chunk || memory->count == (int)(sizeof memory->chunk / sizeof *memory->chunk)) {
        fputs("attack: out of memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    return memory->chunk[memory->count++] = chunk;
}

void attack_free(attack_memory *memory) {
    while (memory->count) free(memory->chunk[--memory->count]);
}

/* ---- samples in their order ---- */

attack_side attack_side_of(const attack_pair *pair, bool with) {
    return (attack_side){ pair, with, pair->settings.batch + with };
}

int64_t attack_id(const attack_side *side, int64_t n) {
    const attack_settings *s = &side->pair->settings;
    if (!side->with || n < s->place) return n;
    return n == s->place ? s->batch : n - 1;
}

/* ---- views ---- */

/* order[0] is the slowest dimension in memory. */
static void order_dimensions(int rank, int layout, uint64_t seed, int *order) {
    for (int d = 0; d < rank; d++) order[d] = d;
    if (!(layout & LAYOUT_PERMUTED)) return;
    for (int d = rank - 1; d > 0; d--) {
        int other = (int)(attack_hash(seed + (uint64_t)d) % (uint64_t)(d + 1)), kept = order[d];
        order[d] = order[other];
        order[other] = kept;
    }
}

static size_t set_strides(psg_tensor *view, int layout, uint64_t seed) {
    int order[PSG_MAX_RANK];
    order_dimensions(view->rank, layout, seed, order);
    int64_t stride = layout & LAYOUT_GAPS ? 1 + (int64_t)(seed % 3) : 1;
    for (int k = view->rank - 1; k >= 0; k--) {
        int d = order[k];
        bool shared = d == 0 && layout & LAYOUT_SHARED;
        view->stride[d] = shared ? 0 : stride;
        if (!shared) stride = stride * (view->shape[d] ? view->shape[d] : 1) + (layout & LAYOUT_GAPS ? 3 : 0);
    }
    return (size_t)stride;
}

static void fill_gaps(const psg_tensor *view, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (view->dtype == PSG_F64) ((double *)view->data)[i] = NAN;
        else ((float *)view->data)[i] = NAN;
    }
}

/* Element (0, ..., 0) moves to the end of each dimension that runs backwards. */
static void turn_round(psg_tensor *view, uint64_t seed) {
    for (int d = 0; d < view->rank; d++) {
        if (!view->shape[d] || (attack_hash(seed + 7) >> d & 1)) continue;
        view->data = (char *)view->data + (view->shape[d] - 1) * view->stride[d] * (int64_t)psg_dtype_size(view->dtype);
        view->stride[d] = -view->stride[d];
    }
}

psg_tensor attack_view(attack_memory *memory, psg_dtype dtype, int rank, const int64_t *shape, int layout,
                       uint64_t seed) {
    psg_tensor view = psg_tensor_of(dtype, NULL, rank, shape);
    size_t count = set_strides(&view, layout, seed);
    view.data = attack_take(memory, count, psg_dtype_size(dtype));
    if (layout & LAYOUT_GAPS && (dtype == PSG_F32 || dtype == PSG_F64)) fill_gaps(&view, count);
    if (layout & LAYOUT_NEGATIVE) turn_round(&view, seed);
    return view;
}

void attack_set_element(const psg_tensor *view, int64_t n, int64_t t, int64_t column, double value) {
    int64_t last = view->rank == 3 ? column * view->stride[2] : 0;
    int64_t at = n * view->stride[0] + (view->rank >= 2 ? t * view->stride[1] : 0) + last;
    if (view->dtype == PSG_F64) ((double *)view->data)[at] = value;
    else if (view->dtype == PSG_F32) ((float *)view->data)[at] = (float)value;
    else ((int64_t *)view->data)[at] = (int64_t)value;
}

psg_tensor attack_part(const psg_tensor *view, int64_t first, int64_t last) {
    psg_tensor part = *view;
    part.data = (char *)view->data + first * view->stride[0] * (int64_t)psg_dtype_size(view->dtype);
    part.shape[0] = last - first;
    return part;
}

/* ---- blocks ---- */

typedef struct filling {
    const attack_side *side;
    const attack_block *block;
    int array;
    bool activation;
    int64_t first_term;      /* of the block among those of its parameter */
} filling;

static int64_t padded(const attack_side *side, const attack_block *b) {
    return b->positions + (side->with && b->form != PSG_UNFOLDED ? side->pair->set.pad : 0);
}

/* What the padding is for: the record alone is as long as the batch. */
static int64_t length_of(const attack_side *side, const attack_block *b, int64_t id) {
    return id == side->pair->settings.batch ? padded(side, b) : b->positions;
}

static void fill_sample(const filling *f, const psg_tensor *view, int64_t n, int64_t id) {
    const attack_pair *pair = f->side->pair;
    attack_element e = { .id = id, .batch = pair->settings.batch, .array = f->array,
                         .activation = f->activation, .rows = f->block->p, .columns = f->block->d };
    if (f->block->form == PSG_ROWS || f->block->form == PSG_SPARSE_ROWS) e.columns = 1;
    int64_t length = f->block->form == PSG_UNFOLDED ? view->shape[1] : length_of(f->side, f->block, e.id);
    for (int64_t t = 0; t < view->shape[1]; t++) {
        e.term = f->first_term + t;
        for (e.column = 0; e.column < view->shape[2]; e.column++) {
            attack_set_element(view, n, t, e.column, t < length ? attack_value(&pair->contents, &e) : 0);
        }
    }
}

/* An array that all samples share holds what sample 0 of D has, with the record and without it. */
static psg_tensor new_operand(attack_memory *memory, const filling *f, int64_t positions, int64_t columns, int layout) {
    int64_t shape[3] = { f->side->samples, positions, columns };
    psg_tensor view = attack_view(memory, f->side->pair->settings.dtype, 3, shape, layout,
                                  f->side->pair->contents.seed + (uint64_t)f->array);
    bool shared = layout & LAYOUT_SHARED;
    int64_t samples = shared && shape[0] > 1 ? 1 : shape[0];
    for (int64_t n = 0; n < samples; n++) fill_sample(f, &view, n, shared ? 0 : attack_id(f->side, n));
    return view;
}

/* Any row; pairs of terms meet in one where the contents are more than random. */
static int64_t row_of(const filling *f, int64_t id, int64_t t) {
    const attack_pair *pair = f->side->pair;
    const attack_contents *c = &pair->contents;
    int64_t rows = pair->set.rows[f->block->param] - f->block->row;
    attack_kind kind = c->role[attack_role_of(c, id, pair->settings.batch)].kind;
    uint64_t any = attack_hash(c->seed + (uint64_t)(id * 977 + t));
    uint64_t together = (uint64_t)attack_special_number(c, id) / (uint64_t)f->block->p + (uint64_t)t / 8;
    return (int64_t)((kind == KIND_RANDOM ? any : together) % (uint64_t)rows);
}

static void set_ids(const filling *f, const psg_tensor *ids) {
    for (int64_t n = 0; n < ids->shape[0]; n++) {
        int64_t id = attack_id(f->side, n), length = length_of(f->side, f->block, id);
        for (int64_t t = 0; t < ids->shape[1]; t++) {
            attack_set_element(ids, n, t, 0, t < length ? (double)row_of(f, id, t) : -1);
        }
    }
}

static psg_tensor new_ids(attack_memory *memory, const filling *f, int64_t positions) {
    int64_t shape[2] = { f->side->samples, positions };
    psg_tensor ids = attack_view(memory, PSG_I64, 2, shape, f->block->a_layout & ~LAYOUT_SHARED,
                                 f->side->pair->contents.seed);
    set_ids(f, &ids);
    return ids;
}

static psg_window window_of(const attack_block *b) {
    psg_window w = { .spatial = b->spatial };
    for (int d = 0; d < b->spatial; d++) {
        w.kernel[d] = b->kernel;
        w.stride[d] = b->stride;
        w.dilation[d] = 1;
        w.padding[d] = b->padding;
        w.output[d] = (b->image + 2 * b->padding - b->kernel) / b->stride + 1;
    }
    return w;
}

/* (B, C, X) or (B, C, X, X): filled as (B, C, *). */
static psg_tensor new_image(attack_memory *memory, const filling *f) {
    const attack_block *b = f->block;
    psg_tensor flat = new_operand(memory, f, b->channels, b->spatial == 1 ? b->image : b->image * b->image,
                                  LAYOUT_CONTIGUOUS);
    int64_t shape[4] = { flat.shape[0], b->channels, b->image, b->image };
    return psg_tensor_of(flat.dtype, flat.data, 2 + b->spatial, shape);
}

static psg_block block_of(attack_memory *memory, const filling *at, const psg_tensor *shared) {
    filling f = *at;
    const attack_block *b = f.block;
    int64_t positions = padded(f.side, b);
    psg_tensor g = shared ? *shared : new_operand(memory, &f, positions, b->p, b->g_layout);
    if (b->form == PSG_ROWS) return psg_rows(&g);
    if (b->form == PSG_SPARSE_ROWS) {
        psg_tensor ids = new_ids(memory, &f, positions);
        return psg_sparse_rows(&g, &ids);
    }
    f.array++;
    f.activation = true;
    if (b->form == PSG_UNFOLDED) {
        psg_tensor image = new_image(memory, &f);
        psg_window window = window_of(b);
        return psg_unfolded(&g, &image, &window);
    }
    psg_tensor a = new_operand(memory, &f, positions, b->d, b->a_layout);
    return b->transposed ? psg_factored_transposed(&g, &a) : psg_factored(&g, &a);
}

/* Blocks of one parameter have one after another; arrays of tied blocks hold the same where their kinds do. */
attack_built attack_build_set(attack_memory *memory, const attack_side *side) {
    const attack_set *set = &side->pair->set;
    attack_built built = { .params = set->params, .blocks = set->blocks, .dtype = side->pair->settings.dtype,
                           .samples = side->samples };
    int64_t term = 0;
    for (int k = 0, param = -1; k < set->blocks; k++) {
        const attack_block *b = &set->block[k];
        while (param < b->param) {
            built.first[++param] = k;
            term = 0;
        }
        const psg_tensor *shared = b->shares < 0 ? NULL : &built.block[b->shares].backprop;
        filling f = { side, b, 2 * (param % ATTACK_PARAMS), false, term };
        built.block[k] = block_of(memory, &f, shared);
        built.block[k].scale = b->scale;
        built.block[k].offset = b->row * set->columns[b->param] + b->column;
        if (b->form != PSG_ROWS) built.block[k].row_stride = set->columns[b->param];
        term += b->positions;
    }
    built.first[set->params] = set->blocks;
    for (int k = 0; k < set->params; k++) {
        built.shape[k][0] = set->rows[k];
        built.shape[k][1] = set->columns[k];
    }
    return built;
}

void attack_gradients(const attack_built *built, int64_t first, int64_t last, psg_block blocks[ATTACK_BLOCKS],
                      psg_gradient gradients[ATTACK_PARAMS]) {
    for (int k = 0; k < built->blocks; k++) {
        blocks[k] = built->block[k];
        blocks[k].backprop = attack_part(&blocks[k].backprop, first, last);
        if (blocks[k].form == PSG_SPARSE_ROWS) blocks[k].ids = attack_part(&blocks[k].ids, first, last);
        else if (blocks[k].form != PSG_ROWS) blocks[k].activation = attack_part(&blocks[k].activation, first, last);
    }
    for (int k = 0; k < built->params; k++) {
        gradients[k] = psg_gradient_of_blocks(blocks + built->first[k], (size_t)(built->first[k + 1] - built->first[k]),
                                              2, built->shape[k]);
        gradients[k].dtype = built->dtype;
        gradients[k].batch_size = last - first;
    }
}
