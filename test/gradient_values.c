#include "gradient_values.h"

#include <math.h>
#include <stdlib.h>

int64_t block_positions(const psg_block *block) { return block->backprop.rank == 3 ? block->backprop.shape[1] : 1; }

static int64_t last_of(const psg_tensor *operand) { return operand->shape[operand->rank - 1]; }

bool block_is_product(const psg_block *block) { return block->form == PSG_FACTORED || block->form == PSG_UNFOLDED; }

bool block_has_activation(const psg_block *block) {
    return block_is_product(block) || block->form == PSG_ROWS_PRODUCT;
}

static int64_t columns_of(const psg_block *block) {
    if (!block_is_product(block)) return 1;
    if (block->form == PSG_FACTORED) return last_of(&block->activation);
    int64_t columns = block->activation.shape[1];
    for (int d = 0; d < block->window.spatial; d++) columns *= block->window.kernel[d];
    return columns;
}

double block_features(const psg_block *block) {
    return (double)last_of(&block->backprop) + (double)(block_is_product(block) ? columns_of(block) : 0);
}

/* ---- rows of the operands ---- */

static void load_row(const psg_tensor *operand, int64_t n, int64_t t, double *row) {
    for (int64_t j = 0; j < last_of(operand); j++) {
        row[j] = operand->rank == 3 ? test_get3(operand, n, t, j) : test_get(operand, (int64_t[]){ n, j });
    }
}

/* Column (c, k) of the window at position t. */
static double window_element(const psg_block *block, int64_t n, int64_t t, int64_t column) {
    const psg_window *w = &block->window;
    int64_t index[5] = { n };
    for (int d = w->spatial - 1; d >= 0; d--) {
        int64_t k = column % w->kernel[d], o = t % w->output[d];
        column /= w->kernel[d];
        t /= w->output[d];
        index[2 + d] = o * w->stride[d] + k * w->dilation[d] - w->padding[d];
        if (index[2 + d] < 0 || index[2 + d] >= block->activation.shape[2 + d]) return 0;
    }
    index[1] = column;
    return test_get(&block->activation, index);
}

static void load_second(const psg_block *block, int64_t n, int64_t t, double *row) {
    row[0] = 1.0;
    if (block->form == PSG_FACTORED) load_row(&block->activation, n, t, row);
    for (int64_t j = 0; block->form == PSG_UNFOLDED && j < columns_of(block); j++) {
        row[j] = window_element(block, n, t, j);
    }
}

static double norm_of(const double *row, int64_t count) {
    double sum = 0;
    for (int64_t j = 0; j < count; j++) sum += row[j] * row[j];
    return sqrt(sum);
}

/* ---- the block ---- */

/* Element i of rows. */
static int64_t step_of(const psg_block *block) {
    if (block_is_product(block)) return block->row_stride;
    return block->form != PSG_SPARSE_ROWS && block->row_step ? block->row_step : 1;
}

/* value[start + i * step + j] += scale g_i a_j; row products: g_i a_i. */
void block_add_values(const psg_block *block, int64_t n, long double *value, double *terms, double *mass) {
    int64_t p = last_of(&block->backprop), d = columns_of(block), step = step_of(block);
    bool pairs = block->form == PSG_ROWS_PRODUCT;
    double *g = malloc((size_t)(2 * p + d + 1) * sizeof *g), *a = g + p;
    for (int64_t t = 0; t < block_positions(block); t++) {
        int64_t start = block->offset;
        if (block->form == PSG_SPARSE_ROWS) {
            int64_t id = (int64_t)test_get(&block->ids, (int64_t[]){ n, t });
            if (id < 0) continue;
            start += id * block->row_stride;
        }
        load_row(&block->backprop, n, t, g);
        if (pairs) load_row(&block->activation, n, t, a);
        else load_second(block, n, t, a);
        for (int64_t i = 0; i < p; i++) {
            for (int64_t j = 0; j < d; j++) {
                long double term = (long double)g[i] * a[pairs ? i : j] * block->scale;
                value[start + i * step + j] += term;
                terms[start + i * step + j] += fabs((double)term);
            }
        }
        *mass += fabs(block->scale) * norm_of(g, p) * norm_of(a, pairs ? p : d);
    }
    free(g);
}
