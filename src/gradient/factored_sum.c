/* Sums over samples of a product part, a rectangle of the parameter a task.
 *
 * What sample n adds is its whole sum over live positions L, which then meets the others in double: L > 1: one chain of
 * the real type an element, in registers; L = 1: its products in double. */
#include <string.h>

#include "blas/gemm.h"
#include "gradient/factored.h"
#include "gradient/plan.h"
#include "kernels.h"

/* What does not go to the kernel in one call is added up in the real type first, in the small memory. */
static bool is_long(const psg_part *part) { return part->count > 1 || psg_part_positions(part) > PSG_LONGEST; }

/* Doubles (384 KiB) that stay in the second cache level, wide enough for packing to pay. */
psg_grid psg_factored_grid(const psg_part *part) {
    int64_t p = part->place.rows, d = part->place.columns, high = psg_even_part(p, is_long(part) ? 96 : 192, 12);
    int64_t wide = psg_even_part(d, 256, 32);
    if (part->pieces[0].has_windows) wide = psg_even_part(d, 96, 32);   /* windows cost little to unfold */
    else if (psg_parts_of(p, high) * psg_parts_of(d, wide) < 4) wide = psg_even_part(d, 128, 32);
    return (psg_grid){ p, d, high, wide };
}

/* Several pieces, or more positions than one call: stored, then added. */
static void add_long(const psg_sink *to, int64_t n, double weight) {
    const psg_part *part = to->part;
    void *tile = psg_small_memory(to->workspace);
    bool accumulate = false;
    for (size_t k = 0; k < part->count; k++) {
        int64_t live = psg_live(part, k, n);
        for (int64_t t = 0; t < live; t += PSG_LONGEST, accumulate = true) {
            psg_product product = psg_product_of(&part->pieces[k], n, &to->at, t, psg_least(PSG_LONGEST, live - t));
            product.finish = PSG_FINISH_STORE;
            product.c = tile;
            product.c_stride = to->at.columns;
            product.accumulate = accumulate;
            part->kernels->product(&product, to->workspace);
        }
    }
    psg_sink_add(to, part->kernels, weight, tile, to->at.rows * to->at.columns, to->sums);
}

/* Samples of one live position each, whose products are formed in double. */
static void add_singles(const psg_sink *to, const psg_piece *p, int64_t first, int64_t count, const double *weights) {
    psg_product product = psg_product_of(p, first, &to->at, 0, count);
    product.g_stride = p->g.batch;
    product.a_stride = p->a.batch;
    product.narrow = p->dtype == PSG_F32;
    product.row_weight = weights;
    product.flush = to->squares ? 1 : 256;
    psg_sink_add_product(to, to->part->doubles, &product, 1.0);
}

static void add_sample(const psg_sink *to, int64_t n) {
    const psg_part *part = to->part;
    double weight = part->is_kept && part->is_kept[n] ? 0 : psg_addend_weight(to, n);
    if (weight == 0) return;
    int64_t live = psg_part_live(part, n);
    if (psg_is_single(part, live)) {
        add_singles(to, psg_single_live_piece(part, n), n, 1, &weight);
        return;
    }
    psg_sample s;
    psg_take_sample(&s, part, n, &to->at, psg_small_memory(to->workspace));
    psg_product product = psg_product_of(s.one, s.n, &s.at, 0, live);
    if (s.is_whole && live <= PSG_LONGEST) psg_sink_add_product(to, part->kernels, &product, weight);
    else add_long(to, n, weight);
}

static void add_all_singles(const psg_sink *to) {
    double *weights = psg_small_memory(to->workspace);
    for (int64_t first = 0; first < to->part->batch; first += PSG_LONGEST) {
        int64_t count = psg_least(PSG_LONGEST, to->part->batch - first);
        for (int64_t n = 0; n < count; n++) weights[n] = psg_addend_weight(to, first + n);
        add_singles(to, to->part->pieces, first, count, weights);
    }
}

/* Gradients kept from the norms, several a pass. */
static void add_kept_some(const psg_sink *to, const int64_t *samples, const double *weights, size_t count) {
    const psg_part *part = to->part;
    for (int64_t i = 0; i < to->at.rows; i++) {
        const void *row[PSG_ROWS_AT_ONCE];
        for (size_t k = 0; k < count; k++) {
            int64_t place = (samples[k] * part->place.rows + to->at.row + i) * part->place.columns + to->at.column;
            row[k] = psg_elements(part->kept, part->dtype, place);
        }
        psg_sink_add_rows(to, i, count, weights, row);
    }
}

static void add_kept(const psg_sink *to) {
    int64_t samples[PSG_ROWS_AT_ONCE];
    double weights[PSG_ROWS_AT_ONCE];
    size_t count = 0;
    for (int64_t n = 0; n < to->part->batch; n++) {
        samples[count] = n;
        weights[count] = to->part->is_kept[n] ? psg_addend_weight(to, n) : 0;
        count += weights[count] != 0;
        if (count < PSG_ROWS_AT_ONCE && n + 1 < to->part->batch) continue;
        add_kept_some(to, samples, weights, count);
        count = 0;
    }
}

void psg_factored_sum(const psg_sink *to) {
    const psg_part *part = to->part;
    bool singles = part->count == 1 && part->pieces->positions == 1 && !part->pieces->has_windows;
    psg_sink_clear(to);
    if (singles) add_all_singles(to);
    for (int64_t n = 0; n < part->batch && !singles; n++) add_sample(to, n);
    if (part->is_kept) add_kept(to);
    psg_sink_close(to, part->place.offset + to->at.row * part->place.stride + to->at.column, part->place.stride);
}
