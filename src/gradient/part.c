/* What the rooms share: live positions, tiles of the gradient, the rounding of a gradient in the real type. */
#include <math.h>
#include <string.h>

#include "gradient/room.h"

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

/* gamma_K |scale| sum_t |g_t||a_t|, K the products in one sum; what a product loses below the smallest number is less
 * than that number. */
double psg_gradient_error(const psg_part *part, int64_t n, bool quick) {
    double lengths = part->room->lengths(part, n, quick), positions = (double)psg_part_live(part, n) + 1;
    double elements = (double)psg_place_span(&part->place), smallest = part->dtype == PSG_F64 ? 0x1p-1074 : 0x1p-149;
    if (part->room->error) return fabs(part->scale) * part->room->error(part, n, quick);
    double lost = positions * sqrt(elements) * smallest;
    return fabs(part->scale) * (psg_gamma(part->dtype, positions + (double)part->count + 2) * lengths + lost);
}

/* The quick bound where it is tight against the norm. */
double psg_summed_error(const psg_part *part, int64_t n, long double square) {
    double quick = psg_gradient_error(part, n, true);
    return (long double)quick * quick <= psg_loose * psg_loose * square ? quick : psg_gradient_error(part, n, false);
}
