#include "gradient_fixture.h"

#include "gradient_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int64_t feature_sizes[] = { 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130 };
static const int64_t position_sizes[] = { 0, 1, 1, 1, 2, 3, 17, 64, 130 };
static const int64_t batch_sizes[] = { 0, 1, 2, 5, 33 };
static const double most_products = 1e6;   /* B T p d of one block */

/* ---- construction ---- */

typedef struct extent { int64_t batch, positions, p, d; } extent;

static const psg_tensor *new_operand(fixture *f, test_random *random, extent size, int64_t features, bool flat,
                                     int layout) {
    int64_t full[3] = { size.batch, size.positions, features }, short_form[2] = { size.batch, features };
    if ((layout & TEST_ANY) && !test_range(random, 0, 7)) layout |= TEST_SHARED_BATCH;
    test_array *array = &f->array[f->array_count++];
    *array = test_array_normal(random, f->dtype, flat ? 2 : 3, flat ? short_form : full, layout);
    return &array->view;
}

const psg_tensor *fixture_operand(fixture *f, test_random *random, int rank, const int64_t *shape, int layout) {
    test_array *array = &f->array[f->array_count++];
    *array = test_array_normal(random, f->dtype, rank, shape, layout);
    return &array->view;
}

/* Ids of size.d rows, some of them no row. */
static const psg_tensor *new_ids(fixture *f, test_random *random, extent size, int layout) {
    test_array *array = &f->array[f->array_count++];
    *array = test_array_new(random, test_range(random, 0, 1) ? PSG_I64 : PSG_I32, 2,
                            (int64_t[]){ size.batch, size.positions }, layout);
    test_fill_integers(random, &array->view, test_range(random, -2, 0), size.d - 1);
    return &array->view;
}

static psg_block new_block(fixture *f, test_random *random, fixture_kind kind, extent size, int layout) {
    bool flat = size.positions == 1 && test_range(random, 0, 1);   /* (B, p) instead of (B, 1, p) */
    const psg_tensor *backprop = new_operand(f, random, size, size.p, flat, layout);
    if (kind == FIXTURE_ROWS) return psg_rows(backprop);
    if (kind == FIXTURE_SPARSE) return psg_sparse_rows(backprop, new_ids(f, random, size, layout));
    const psg_tensor *activation = new_operand(f, random, size, size.d, flat, layout);
    return kind == FIXTURE_WHOLE ? psg_factored(backprop, activation) : psg_factored_transposed(backprop, activation);
}

void fixture_add(fixture *f, size_t block_count, int rank, const int64_t *shape) {
    size_t k = f->count++;
    f->gradient[k] = psg_gradient_of_blocks(f->block[k], block_count, rank, shape);
    f->gradient[k].dtype = f->dtype;
    f->gradient[k].batch_size = f->batch_size;
    f->pointer[k] = &f->gradient[k];
}

static void draw_sizes(test_random *random, int64_t batch, extent *size) {
    do {
        *size = (extent){ batch, TEST_PICK(random, position_sizes), TEST_PICK(random, feature_sizes),
                          TEST_PICK(random, feature_sizes) };
    } while ((double)batch * (double)size->positions * (double)size->p * (double)size->d > most_products ||
             (double)batch * (double)size->p * (double)size->d > 2e5);
}

static double draw_scale(test_random *random) {
    static const double scales[] = { 1.0, 1.0, 33.0, -0.5, 0.3 };
    return scales[test_range(random, 0, 4)];
}

/* A window whose kernel may reach outside the image, an image for it, and a backprop for its positions. */
static psg_block new_unfolded(fixture *f, test_random *random, extent size, int layout) {
    psg_window w = { .spatial = (int)test_range(random, 1, 3) };
    int64_t image[5] = { size.batch, test_range(random, 1, 5) }, positions = 1;
    for (int d = 0; d < w.spatial; d++) {
        int64_t most = w.spatial == 1 ? 40 : w.spatial == 2 ? 9 : 4;
        w.kernel[d] = test_range(random, 1, 3);
        w.stride[d] = test_range(random, 1, 2);
        w.dilation[d] = test_range(random, 1, 2);
        w.padding[d] = test_range(random, 0, 2);
        image[2 + d] = test_range(random, 1, most);
        w.output[d] = test_range(random, 1, most);
        positions *= w.output[d];
    }
    test_array *array = &f->array[f->array_count++];
    *array = test_array_normal(random, f->dtype, 2 + w.spatial, image, layout);
    size.positions = positions;
    const psg_tensor *backprop = new_operand(f, random, size, size.p, false, layout);
    return psg_unfolded(backprop, &array->view, &w);
}

static void add_unfolded(fixture *f, test_random *random, extent size) {
    psg_block *block = &f->block[f->count][0];
    if (size.p > 33) size.p = 33;
    *block = new_unfolded(f, random, size, TEST_ANY);
    block->scale = draw_scale(random);
    fixture_add(f, 1, 2, (int64_t[]){ size.p, block->row_stride });
}

/* A table whose rows are named by one to three blocks, or also filled by a head that is tied to it. */
static void add_table(fixture *f, test_random *random, extent size) {
    size_t count = (size_t)test_range(random, 1, 3);
    bool head = !test_range(random, 0, 2);
    if (size.positions > 17) size.positions = 17;
    for (size_t b = 0; b < count; b++) {
        psg_block *block = &f->block[f->count][b];
        *block = new_block(f, random, FIXTURE_SPARSE, size, TEST_ANY);
        block->scale = draw_scale(random);
    }
    if (head) {
        extent own = { size.batch, size.positions, size.d, size.p };
        f->block[f->count][count++] = new_block(f, random, FIXTURE_WHOLE, own, TEST_ANY);
    }
    fixture_add(f, count, 2, (int64_t[]){ size.d, size.p });
}

/* One block that fills the parameter. */
static void add_whole(fixture *f, test_random *random, extent size) {
    fixture_kind kind = (fixture_kind)test_range(random, 0, 2);
    psg_block *block = &f->block[f->count][0];
    *block = new_block(f, random, kind, size, TEST_ANY);
    block->scale = draw_scale(random);
    if (kind == FIXTURE_WHOLE) fixture_add(f, 1, 2, (int64_t[]){ size.p, size.d });
    if (kind == FIXTURE_TRANSPOSED) fixture_add(f, 1, 2, (int64_t[]){ size.d, size.p });
    if (kind == FIXTURE_ROWS) fixture_add(f, 1, 2, (int64_t[]){ 1, size.p });
}

/* Blocks of one p x d: tied uses, with numbers of positions of their own, at times through the transpose. */
static void add_tied(fixture *f, test_random *random, extent size) {
    size_t count = (size_t)test_range(random, 2, FIXTURE_BLOCKS);
    for (size_t b = 0; b < count; b++) {
        extent own = size;
        if (own.positions > 1) own.positions = test_range(random, 0, own.positions);
        bool transposed = !test_range(random, 0, 3);
        if (transposed) own = (extent){ own.batch, own.positions, size.d, size.p };
        psg_block *block = &f->block[f->count][b];
        *block = new_block(f, random, transposed ? FIXTURE_TRANSPOSED : FIXTURE_WHOLE, own, TEST_ANY);
        block->scale = draw_scale(random);
    }
    fixture_add(f, count, 2, (int64_t[]){ size.p, size.d });
}

/* Rectangles of a larger parameter, overlapping or not, and rows onto any part of it. */
static void add_rectangles(fixture *f, test_random *random, extent size) {
    size_t count = (size_t)test_range(random, 1, FIXTURE_BLOCKS);
    int64_t rows = size.p + test_range(random, 0, 3), columns = size.d + test_range(random, 0, 3);
    for (size_t b = 0; b < count; b++) {
        psg_block *block = &f->block[f->count][b];
        int64_t form = test_range(random, 0, 5);
        if (form == 0) {   /* some columns of some rows of a table */
            extent own = { size.batch, size.positions, test_range(random, 1, size.d), size.p };
            *block = new_block(f, random, FIXTURE_SPARSE, own, TEST_ANY);
            block->offset = test_range(random, 0, rows - size.p) * columns + test_range(random, 0, columns - own.p);
            block->row_stride = columns;
        } else if (form < 5) {
            extent own = { size.batch, size.positions, test_range(random, 1, size.p), test_range(random, 1, size.d) };
            *block = new_block(f, random, FIXTURE_WHOLE, own, TEST_ANY);
            block->offset = test_range(random, 0, rows - own.p) * columns + test_range(random, 0, columns - own.d);
            block->row_stride = columns;
        } else {
            int64_t longest = rows * columns < 200 ? rows * columns : 200;
            extent own = { size.batch, size.positions, test_range(random, 1, longest), 0 };
            *block = new_block(f, random, FIXTURE_ROWS, own, TEST_ANY);
            block->offset = test_range(random, 0, rows * columns - own.p);
        }
        block->scale = draw_scale(random);
    }
    fixture_add(f, count, 2, (int64_t[]){ rows, columns });
}

/* Up to four gradients over one backprop: weights of layers that received the same output gradient, and biases. */
static void add_sharers(fixture *f, test_random *random, extent size) {
    const psg_tensor *backprop = new_operand(f, random, size, size.p, false, TEST_ANY);
    double scale = draw_scale(random);
    for (int64_t sharers = test_range(random, 2, 4); sharers > 0 && f->count < FIXTURE_GRADIENTS; sharers--) {
        psg_block *block = &f->block[f->count][0];
        bool weight = test_range(random, 0, 1);
        if (weight) *block = psg_factored(backprop, new_operand(f, random, size, size.d, false, TEST_ANY));
        else *block = psg_rows(backprop);
        block->scale = test_range(random, 0, 3) ? scale : draw_scale(random);
        fixture_add(f, 1, weight ? 2 : 1, (int64_t[]){ size.p, size.d });
    }
}

void fixture_random(fixture *f, test_random *random, psg_dtype dtype) {
    *f = (fixture){ .dtype = dtype, .batch_size = TEST_PICK(random, batch_sizes) };
    size_t count = (size_t)test_range(random, 1, FIXTURE_GRADIENTS);
    while (f->count < count) {
        extent size;
        draw_sizes(random, f->batch_size, &size);
        switch (test_range(random, 0, 10)) {
        case 8: add_table(f, random, size); break;
        case 9: case 10: add_unfolded(f, random, size); break;
        case 0: add_rectangles(f, random, size); break;
        case 7: add_sharers(f, random, size); break;
        case 1: add_tied(f, random, size); break;
        case 2: if (!test_range(random, 0, 2)) { fixture_add(f, 0, 1, (int64_t[]){ size.p }); break; }
        /* fall through */
        default: add_whole(f, random, size);
        }
    }
    fixture_refresh(f);
}

void fixture_single(fixture *f, test_random *random, psg_dtype dtype, fixture_kind kind, int64_t batch_size,
                    int64_t positions, int64_t p, int64_t d, int layout) {
    *f = (fixture){ .dtype = dtype, .batch_size = batch_size };
    f->block[0][0] = new_block(f, random, kind, (extent){ batch_size, positions, p, d }, layout);
    if (kind == FIXTURE_WHOLE) fixture_add(f, 1, 2, (int64_t[]){ p, d });
    if (kind == FIXTURE_TRANSPOSED) fixture_add(f, 1, 2, (int64_t[]){ d, p });
    if (kind == FIXTURE_ROWS) fixture_add(f, 1, 1, (int64_t[]){ p });
    if (kind == FIXTURE_SPARSE) fixture_add(f, 1, 2, (int64_t[]){ d, p });
    fixture_refresh(f);
}

void fixture_unfolded(fixture *f, test_random *random, psg_dtype dtype, int64_t batch_size, int64_t p,
                      const psg_window *window, const int64_t *image, int layout) {
    *f = (fixture){ .dtype = dtype, .batch_size = batch_size };
    int64_t shape[5] = { batch_size, image[0], image[1], image[2], image[3] }, positions = 1;
    for (int d = 0; d < window->spatial; d++) positions *= window->output[d];
    f->array[0] = test_array_normal(random, dtype, 2 + window->spatial, shape, layout);
    f->array_count = 1;
    const psg_tensor *backprop = new_operand(f, random, (extent){ batch_size, positions, p, 0 }, p, false, layout);
    f->block[0][0] = psg_unfolded(backprop, &f->array[0].view, window);
    fixture_add(f, 1, 2, (int64_t[]){ p, f->block[0][0].row_stride });
    fixture_refresh(f);
}

void fixture_layer(fixture *f, test_random *random, psg_dtype dtype, int64_t batch_size, int64_t positions, int64_t p,
                   int64_t d) {
    *f = (fixture){ .dtype = dtype, .batch_size = batch_size };
    extent size = { batch_size, positions, p, d };
    f->block[0][0] = new_block(f, random, FIXTURE_WHOLE, size, TEST_CONTIGUOUS);
    fixture_add(f, 1, 2, (int64_t[]){ p, d });
    f->block[1][0] = psg_rows(&f->array[0].view);
    fixture_add(f, 1, 1, (int64_t[]){ p });
    f->block[2][0] = new_block(f, random, FIXTURE_ROWS, size, TEST_CONTIGUOUS);
    fixture_add(f, 1, 1, (int64_t[]){ p });
    fixture_refresh(f);
}

void fixture_draw_layer(fixture *f, test_random *random, int round, int64_t batch_size) {
    static const int64_t positions[] = { 1, 2, 17, 64 }, features[] = { 1, 7, 16, 33, 65 };
    fixture_layer(f, random, (psg_dtype)(round % 2), batch_size, positions[round / 2 % 4],
                  TEST_PICK(random, features), TEST_PICK(random, features));
}

void fixture_free(fixture *f) {
    for (size_t k = 0; k < f->array_count; k++) test_array_free(&f->array[k]);
    free(f->dense);
    free(f->terms);
    free(f->mass);
    *f = (fixture){ 0 };
}

/* ---- values ---- */

static void measure_gradient(fixture *f, size_t k) {
    double positions = 0;
    for (size_t b = 0; b < f->gradient[k].block_count; b++) {
        const psg_block *block = &f->gradient[k].blocks[b];
        positions += (double)block_positions(block);
        f->features = fmax(f->features, block_features(block));
    }
    f->positions = fmax(f->positions, positions);
}

void fixture_refresh(fixture *f) {
    f->total = 0;
    for (size_t k = 0; k < f->count; k++) {
        f->start[k] = f->total;
        f->size[k] = 1;
        for (int d = 0; d < f->gradient[k].rank; d++) f->size[k] *= f->gradient[k].shape[d];
        f->total += f->size[k];
        measure_gradient(f, k);
    }
    free(f->dense);
    free(f->terms);
    free(f->mass);
    size_t elements = (size_t)(f->batch_size * f->total) + 1;
    f->dense = calloc(elements, sizeof *f->dense);
    f->terms = calloc(elements, sizeof *f->terms);
    f->mass = calloc((size_t)f->batch_size * f->count + 1, sizeof *f->mass);
    for (int64_t n = 0; n < f->batch_size; n++) {
        for (size_t k = 0; k < f->count; k++) {
            for (size_t b = 0; b < f->gradient[k].block_count; b++) {
                int64_t at = n * f->total + f->start[k];
                block_add_values(&f->gradient[k].blocks[b], n, f->dense + at, f->terms + at,
                                 &f->mass[(size_t)n * f->count + k]);
            }
        }
    }
}

static void copy_samples(fixture *f, const psg_tensor *from, const int64_t *samples, int64_t count) {
    test_random unused = { 1 };
    int64_t shape[PSG_MAX_RANK] = { count }, inner = 1;
    for (int d = 1; d < from->rank; d++) inner *= shape[d] = from->shape[d];
    test_array *array = &f->array[f->array_count++];
    *array = test_array_new(&unused, from->dtype, from->rank, shape, TEST_CONTIGUOUS);
    for (int64_t n = 0; n < count; n++) {
        for (int64_t e = 0; e < inner; e++) {
            test_set_at(&array->view, n * inner + e, test_get_at(from, samples[n] * inner + e));
        }
    }
}

static psg_tensor copy_of(const fixture *f, const fixture *source, const psg_tensor *operand) {
    for (size_t k = 0; k < source->array_count; k++) {
        if (source->array[k].view.data == operand->data) return f->array[k].view;
    }
    return (psg_tensor){ .rank = -1 };
}

void fixture_select(fixture *f, const fixture *from, const int64_t *samples, int64_t count) {
    *f = (fixture){ .dtype = from->dtype, .batch_size = count };
    for (size_t k = 0; k < from->array_count; k++) copy_samples(f, &from->array[k].view, samples, count);
    for (size_t k = 0; k < from->count; k++) {
        size_t blocks = from->gradient[k].block_count;
        for (size_t b = 0; b < blocks; b++) {
            psg_block *block = &f->block[k][b];
            *block = from->gradient[k].blocks[b];
            block->backprop = copy_of(f, from, &block->backprop);
            if (block_has_activation(block)) block->activation = copy_of(f, from, &block->activation);
            if (block->form == PSG_SPARSE_ROWS) block->ids = copy_of(f, from, &block->ids);
        }
        fixture_add(f, blocks, from->gradient[k].rank, from->gradient[k].shape);
    }
    fixture_refresh(f);
}

long double fixture_sqnorm(const fixture *f, int64_t sample) {
    long double sum = 0;
    for (int64_t e = 0; e < f->total; e++) sum += f->dense[sample * f->total + e] * f->dense[sample * f->total + e];
    return sum;
}

double fixture_mass_product(const fixture *f, int64_t n, int64_t m) {
    double sum = 0;
    for (size_t k = 0; k < f->count; k++) sum += f->mass[(size_t)n * f->count + k] * f->mass[(size_t)m * f->count + k];
    return sum;
}
