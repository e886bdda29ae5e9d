/* Each rank moves its own slice of the parameters, whose optimizer state no other rank needs, and gets the others'
 * slices as they have become: half the bytes of gathering sums, where values are f32.  That is stage 1 of ZeRO
 * (Rajbhandari et al., 2020), with the bits of one process, since an optimizer moves every element by itself. */
#include "dp/ranks_slices.h"

#include <string.h>

#include <sodium.h>

#include "base/context.h"
#include "base/memory.h"
#include "dp/ranks.h"

bool psg_has_slices(const psg_dp *dp) { return psg_dp_has_ranks(dp) && dp->ranks.slices; }

psg_slice psg_slice_of(const psg_dp *dp, int rank) {
    const size_t total = psg_dp_total(dp);
    if (!psg_dp_has_ranks(dp)) return (psg_slice){ 0, total };
    const size_t first = (size_t)rank * dp->block, end = first + dp->block;
    return (psg_slice){ first < total ? first : total, end < total ? end : total };
}

/* ---- arrays of an optimizer: its values, then its states ---- */

static char *array_of(const psg_optimizer *o, size_t which, size_t k) {
    return which ? o->state[k * o->state_count + which - 1] : o->values[k].data;
}

/* Bytes of the stage that an element has: those of the largest type. */
static size_t room_of(const psg_optimizer *o) {
    size_t room = 0;
    for (size_t k = 0; k < o->count; k++) {
        const size_t size = psg_dtype_size(o->values[k].dtype);
        room = size > room ? size : room;
    }
    return room;
}

/* A rank's slice of an array to its block of the stage, or from there. */
static void copy_slice(const psg_dp *dp, const psg_optimizer *o, size_t which, int rank, char *stage, bool to_stage) {
    const psg_slice slice = psg_slice_of(dp, rank);
    const size_t room = room_of(o);
    stage += (size_t)rank * dp->block * room;
    size_t k = psg_dp_parameter_at(dp, slice.first), count;
    for (size_t at = slice.first; at < slice.end; at += count) {
        while (dp->offset[k + 1] <= at) k++;
        const size_t size = psg_dtype_size(o->values[k].dtype);
        char *array = array_of(o, which, k) + (at - dp->offset[k]) * size, *place = stage + (at - slice.first) * room;
        count = (slice.end < dp->offset[k + 1] ? slice.end : dp->offset[k + 1]) - at;
        memcpy(to_stage ? place : array, to_stage ? array : place, count * size);
    }
}

static psg_status gather_array(psg_dp *dp, const char *function, const psg_optimizer *o, size_t which, char *stage) {
    copy_slice(dp, o, which, dp->ranks.rank, stage, true);
    const psg_status status = psg_ranks_gather(dp, function, stage, dp->block * room_of(o));
    for (int rank = 0; !status && rank < dp->ranks.ranks; rank++) {
        if (rank != dp->ranks.rank) copy_slice(dp, o, which, rank, stage, false);
    }
    return status;
}

/* ---- what ranks do together ---- */

psg_status psg_slices_share(psg_dp *dp, const char *function, psg_optimizer *optimizer) {
    const psg_status status = gather_array(dp, function, optimizer, 0, (char *)dp->sums);
    sodium_memzero(dp->sums, psg_dp_sum_room(dp) * sizeof *dp->sums);
    return psg_ranks_agree(dp, function, status);
}

psg_status psg_slices_gather_state(psg_dp *dp, const char *function, psg_optimizer *optimizer) {
    if (!psg_has_slices(dp) || !optimizer) return PSG_OK;
    const size_t bytes = dp->block * (size_t)dp->ranks.ranks * room_of(optimizer);
    char *stage = psg_alloc(dp->context, bytes);
    psg_status status = psg_ranks_agree(dp, function, stage ? PSG_OK : psg_fail_memory(dp->context, function, bytes));
    psg_status gathered = PSG_OK;
    for (size_t s = 1; !status && s <= optimizer->state_count; s++) {   /* after an error too: others go on */
        const psg_status one = gather_array(dp, function, optimizer, s, stage);
        if (!gathered) gathered = one;
    }
    psg_free(dp->context, stage);
    return status ? status : psg_ranks_agree(dp, function, gathered);
}
