/* Pieces of one parameter that differ in form or overlap: every answer goes by tiles, in which the inner parts, one a
 * piece, are added in the real type, one after the other; but for norms, see mixed_norm.c.  Before it what all rooms
 * share: live positions, tiles. */
#include <math.h>
#include <string.h>

#include "gradient/plan.h"

static const psg_room *const rooms[] = {
    [PSG_FACTORED] = &psg_factored_room,    [PSG_ROWS] = &psg_rows_room,
    [PSG_SPARSE_ROWS] = &psg_sparse_room,   [PSG_UNFOLDED] = &psg_factored_room,
    [PSG_ROWS_PRODUCT] = &psg_rows_room,    [PSG_DERIVED] = &psg_derived_room,
};

const psg_room *psg_room_of(psg_form form) {
    return form >= 0 && (size_t)form < sizeof rooms / sizeof rooms[0] ? rooms[form] : NULL;
}

int64_t psg_part_live(const psg_part *part, int64_t n) {
    int64_t live = 0;
    for (size_t k = 0; k < part->inner_count; k++) live += psg_part_live(&part->inner[k], n);
    for (size_t k = 0; k < part->count && !part->inner; k++) live += psg_live(part, k, n);
    return live;
}

int64_t psg_part_positions(const psg_part *part) {
    int64_t positions = 0;
    for (size_t k = 0; k < part->count; k++) positions += part->pieces[k].positions;
    return positions;
}

bool psg_leaves_cache(const psg_piece *p) {
    const double cache = 24 << 20;
    double elements = (double)p->place.rows * (double)p->place.columns;
    return (double)p->batch * elements * (double)psg_dtype_size(p->dtype) > cache;
}

void psg_write_parts(const psg_part *parts, size_t count, int64_t n, double scale, int64_t first, int64_t last,
                     void *out, void *workspace) {
    for (const psg_part *part = parts; part < parts + count; part++) {
        int64_t from = psg_most(first, part->place.offset), to = psg_least(last, psg_place_end(&part->place));
        if (from >= to || !psg_part_live(part, n)) continue;
        part->room->write(part, n, scale * part->scale, from, to, psg_elements_mutable(out, part->dtype, from - first),
                          true, workspace);
    }
}

psg_estimate psg_square_by_tiles(const psg_part *part, int64_t n, void *workspace) {
    int64_t first = part->place.offset, end = psg_place_end(&part->place);
    size_t bytes = part->room == &psg_mixed_room ? PSG_OUT_TILE_BYTES : PSG_TILE_BYTES;
    int64_t room = (int64_t)(bytes / psg_dtype_size(part->dtype));
    void *tile = psg_tile_memory(workspace);
    long double square = 0, scale = part->scale;
    if (!psg_part_live(part, n)) return (psg_estimate){ 0, 0 };
    for (; first < end; first += room) {
        int64_t last = psg_least(first + room, end);
        memset(tile, 0, (size_t)(last - first) * psg_dtype_size(part->dtype));
        part->room->write(part, n, 1.0, first, last, tile, true, workspace);
        square += psg_square_of(part->kernels, part->dtype, tile, 1, last - first);
    }
    square *= scale * scale;
    return (psg_estimate){ square, psg_summed_error(part, n, square) };
}

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
        double scale = fabs(inner->scale);   /* applied in the real type */
        sum += scale * inner->room->lengths(inner, n, quick);
        if (part->dtype == PSG_F32 && scale != 0 && !(scale >= 1e-30 && scale <= 1e30)) return INFINITY;
    }
    return psg_in_range(part, sum);
}

/* Each inner part's, and those of their sum. */
static double error(const psg_part *part, int64_t n, bool quick) {
    double sum = psg_gamma(part->dtype, (double)part->inner_count + 2) * psg_inner_lengths(part, n, quick);
    for (size_t k = 0; k < part->inner_count; k++) sum += 1.001 * psg_gradient_error(&part->inner[k], n, quick);
    return sum;
}

static void dot(const psg_part *part, int64_t first, int64_t count, const void *v, double *dots, void *workspace) {
    for (size_t k = 0; k < part->inner_count; k++) {
        part->inner[k].room->dot(&part->inner[k], first, count, v, dots, workspace);
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

static const char *route(const psg_part *part, psg_question question) {
    bool norms = question == PSG_ASK_SQNORM || question == PSG_ASK_CLIPPED_SUM;
    if (norms && psg_mixed_route(part) == PSG_ROUTE_GRAM) return "gram and cross terms";
    return question == PSG_ASK_GRAD_SAMPLE ? "materialise" : "tiles";
}

const psg_room psg_mixed_room = {
    .name = "mixed", .write = psg_write_inner, .lengths = psg_inner_lengths, .error = error,
    .square = psg_mixed_square, .dot = dot, .grid = grid, .sum = sum, .route = route,
};
