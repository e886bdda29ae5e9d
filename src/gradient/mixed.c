/* Pieces of one parameter that differ in form or overlap: every answer goes by tiles, in which the inner parts, one a
 * piece, are added in the real type, one after the other. */
#include <string.h>

#include "gradient/sink.h"

/* Elements of the part that no piece has are left alone. */
void psg_write_inner(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                     bool accumulate, void *workspace) {
    (void)accumulate;
    psg_write_parts(part->inner, part->inner_count, n, scale, first, last, out, workspace);
}

double psg_inner_lengths(const psg_part *part, int64_t n, bool quick) {
    double sum = 0;
    for (size_t k = 0; k < part->inner_count; k++) {
        const psg_part *inner = &part->inner[k];
        sum += (inner->scale < 0 ? -inner->scale : inner->scale) * inner->room->lengths(inner, n, quick);
    }
    return sum;
}

/* Each inner part's, and those of their sum. */
static double error(const psg_part *part, int64_t n, bool quick) {
    double sum = psg_gamma(part->dtype, (double)part->inner_count + 2) * psg_inner_lengths(part, n, quick);
    for (size_t k = 0; k < part->inner_count; k++) sum += 1.001 * psg_gradient_error(&part->inner[k], n, quick);
    return sum;
}

static void dot(const psg_part *part, int64_t first, int64_t count, const void *direction, double *dots,
                void *workspace) {
    for (size_t k = 0; k < part->inner_count; k++) {
        part->inner[k].room->dot(&part->inner[k], first, count, direction, dots, workspace);
    }
}

/* The tile memory holds a range's sums, then a sample's gradient. */
static psg_grid grid(const psg_part *part) {
    int64_t span = psg_place_span(&part->place);
    return (psg_grid){ 1, span, 1, psg_even_part(span, (int64_t)(PSG_OUT_TILE_BYTES / sizeof(double)) / 2, 16) };
}

static void sum(const psg_sink *to) {
    const psg_part *part = to->part;
    int64_t first = part->place.offset + to->at.column, count = to->at.columns;
    void *tile = to->sums + count;
    psg_sink_clear(to);
    for (int64_t n = 0; n < part->batch; n++) {
        double weight = psg_addend_weight(to, n);
        if (weight == 0) continue;
        memset(tile, 0, (size_t)count * psg_dtype_size(part->dtype));
        psg_write_inner(part, n, 1.0, first, first + count, tile, true, to->workspace);
        psg_sink_add(to, part->kernels, weight, tile, count, to->sums);
    }
    psg_sink_close(to, first, 0);
}

const psg_room psg_mixed_room = {
    .name = "mixed", .write = psg_write_inner, .lengths = psg_inner_lengths, .error = error,
    .square = psg_square_by_tiles, .dot = dot, .grid = grid, .sum = sum,
    .routes = { "materialise", "tiles", "tiles", "tiles", "tiles", "tiles", "tiles" },
};
