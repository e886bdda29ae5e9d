/* Pieces of one parameter that differ in form or overlap: every answer goes by tiles, in which the pieces are added in
 * the real type, one after the other. */
#include <string.h>

#include "gradient/sink.h"

/* Memory that the pieces before k have. */
static size_t memory_before(const psg_part *part, size_t k) {
    size_t bytes = 0;
    for (size_t i = 0; i < k; i++) {
        psg_part own = psg_part_of_piece(part, i);
        if (own.room->memory) bytes += (own.room->memory(&own) + 15) / 16 * 16;
    }
    return bytes;
}

static size_t memory(const psg_part *part) { return memory_before(part, part->count); }

static psg_part piece_of(const psg_part *part, size_t k) {
    psg_part own = psg_part_of_piece(part, k);
    if (own.room->memory) own.memory = (char *)part->memory + memory_before(part, k);
    return own;
}

static void prepare(const psg_part *part, int64_t n, void *workspace) {
    for (size_t k = 0; k < part->count; k++) {
        psg_part own = piece_of(part, k);
        if (own.room->prepare) own.room->prepare(&own, n, workspace);
    }
}

/* Elements of the part that no piece has are left alone. */
static void write_range(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                        bool accumulate, void *workspace) {
    (void)accumulate;
    for (size_t k = 0; k < part->count; k++) {
        psg_part own = piece_of(part, k);
        int64_t from = psg_most(first, own.place.offset);
        int64_t to = psg_least(last, own.place.offset + psg_place_span(&own.place));
        if (from >= to || !psg_part_live(&own, n)) continue;
        own.room->write(&own, n, scale * own.scale, from, to, psg_elements_mutable(out, part->dtype, from - first), true,
                        workspace);
    }
}

static void dot(const psg_part *part, int64_t first, int64_t count, const void *direction, double *dots,
                void *workspace) {
    for (size_t k = 0; k < part->count; k++) {
        psg_part own = piece_of(part, k);
        own.room->dot(&own, first, count, direction, dots, workspace);
    }
}

/* ---- sums: a range of the parameter a task; the tile memory holds its sums, then a sample's gradient ---- */

static int64_t task_elements(const psg_part *part) {
    return psg_even_part(psg_place_span(&part->place), (int64_t)(PSG_OUT_TILE_BYTES / sizeof(double)) / 2, 16);
}

static int64_t sum_tasks(const psg_sum *s, const psg_part *part) {
    (void)s;
    return psg_parts_of(psg_place_span(&part->place), task_elements(part));
}

static void sum(const psg_sum *s, const psg_part *part, int64_t task, void *workspace) {
    int64_t elements = task_elements(part), first = part->place.offset + task * elements;
    int64_t count = psg_least(elements, part->place.offset + psg_place_span(&part->place) - first);
    psg_sink sink = psg_sink_open(1, count, workspace);
    void *tile = sink.sums + count;
    for (int64_t n = 0; n < part->batch; n++) {
        double weight = psg_part_live(part, n) ? psg_addend_weight(s, part, n) : 0;
        if (weight == 0) continue;
        memset(tile, 0, (size_t)count * psg_dtype_size(part->dtype));
        part->room->write(part, n, 1.0, first, first + count, tile, true, workspace);
        psg_sink_add(s, part->kernels, weight, tile, count, sink.sums);
    }
    psg_sink_close(s, part, &sink, first, 0);
}

const psg_room psg_mixed_room = {
    .name = "mixed", .write = write_range, .square = psg_square_by_tiles, .dot = dot, .sum_tasks = sum_tasks, .sum = sum,
    .memory = memory, .prepare = prepare,
    .routes = { PSG_ROUTE_MATERIALISE, PSG_ROUTE_TILES, PSG_ROUTE_TILES, PSG_ROUTE_TILES, PSG_ROUTE_TILES,
                PSG_ROUTE_TILES, PSG_ROUTE_TILES },
};
