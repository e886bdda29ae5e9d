#include "parts.h"

#include <math.h>
#include <stdlib.h>

#include "base/context.h"
#include "base/memory.h"

psg_status psg_parts_reserve(psg_composition *composition, const char *function, size_t count) {
    if (count > SIZE_MAX / sizeof *composition->parts) {
        return psg_fail(composition->context, PSG_ERR_OVERFLOW, "%s: %zu runs do not fit memory", function, count);
    }
    composition->parts = psg_alloc(composition->context, count * sizeof *composition->parts);
    if (composition->parts) return PSG_OK;
    return psg_fail_memory(composition->context, function, count * sizeof *composition->parts);
}

psg_status psg_parts_add(psg_composition *composition, const psg_mechanism *part) {
    composition->parts[composition->part_count++] = *part;
    return PSG_OK;
}

/* ---- order ---- */

static int order_of(double a, double b) { return (a > b) - (a < b); }

static int order_of_counts(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

/* What cannot be merged first, what changes slowly over a training last. */
static int compare(const void *left, const void *right) {
    const psg_mechanism *a = left, *b = right;
    int order = (int)a->kind - (int)b->kind;
    if (!order) order = order_of_counts(a->group, b->group);
    if (!order) order = order_of_counts(a->batches, b->batches);
    if (!order) order = order_of_counts(a->position, b->position);
    if (!order) order = order_of(a->full, b->full);
    if (!order) order = order_of(a->full_rate, b->full_rate);
    if (!order) order = order_of(a->rate, b->rate);
    return order ? order : order_of(a->sigma, b->sigma);
}

static void add_up_equals(psg_composition *c) {
    size_t kept = 0;
    for (size_t k = 0; k < c->part_count; k++) {
        if (kept && !compare(&c->parts[kept - 1], &c->parts[k])) c->parts[kept - 1].releases += c->parts[k].releases;
        else c->parts[kept++] = c->parts[k];
    }
    c->part_count = kept;
}

/* ---- too many ---- */

static int may_merge(const psg_mechanism *a, const psg_mechanism *b) {
    return a->kind == b->kind && a->group == b->group &&
           (a->kind == PSG_MECHANISM_POISSON || a->kind == PSG_MECHANISM_FIXED_SIZE);
}

/* Less noise and a larger rate never cost less: both distributions of the better pair are a channel away from those of
 * the worse. */
static void merge_into(psg_mechanism *worse, const psg_mechanism *part) {
    worse->sigma = fmin(worse->sigma, part->sigma);
    worse->rate = fmax(worse->rate, part->rate);
    worse->releases += part->releases;
}

/* Neighbours in the order, `chunk` at a time. */
static void merge_chunks(psg_composition *c, size_t chunk) {
    size_t kept = 0, merged = 0;
    for (size_t k = 0; k < c->part_count; k++) {
        if (kept && merged < chunk && may_merge(&c->parts[kept - 1], &c->parts[k])) {
            merge_into(&c->parts[kept - 1], &c->parts[k]);
            merged++;
        } else {
            c->parts[kept++] = c->parts[k];
            merged = 1;
        }
    }
    c->part_count = kept;
}

/* The last resort: no credit for their sampling.  A part that is no pair of one record moves the sum by 2 group. */
static void drop_credit(psg_composition *c) {
    for (; c->part_count > PSG_MOST_PARTS; c->part_count--) {
        const psg_mechanism *part = &c->parts[c->part_count - 1];
        double mu = 2 * (double)part->group / part->sigma;
        c->squared_mu += (double)part->releases * mu * mu;
    }
}

void psg_parts_merge(psg_composition *composition) {
    psg_composition *c = composition;
    qsort(c->parts, c->part_count, sizeof *c->parts, compare);
    add_up_equals(c);
    if (c->part_count <= PSG_MOST_PARTS) return;
    c->coarse = 1;
    merge_chunks(c, (2 * c->part_count + PSG_MOST_PARTS - 1) / PSG_MOST_PARTS);
    drop_credit(c);
}
