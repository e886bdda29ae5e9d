#include "gradient/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "gradient/factored.h"

/* ---- memory ---- */

static void *take(psg_plan *plan, size_t bytes) { return psg_arena_take(&plan->context->question, bytes); }

void *psg_plan_take(psg_plan *plan, const char *function, size_t bytes) {
    void *memory = take(plan, bytes);
    if (!memory) psg_fail_memory(plan->context, function, bytes);
    return memory;
}

/* What the question needed in several chunks, the next one finds in one. */
void psg_plan_end(psg_plan *plan) { psg_arena_reset(&plan->context->question); }

/* ---- pieces by place ---- */

static int compare(int64_t a, int64_t b) { return (a > b) - (a < b); }

/* By offset, then the same places together, in the order of the blocks. */
static int by_place(const void *left, const void *right) {
    const psg_piece *x = *(const psg_piece *const *)left, *y = *(const psg_piece *const *)right;
    int order = compare(x->place.offset, y->place.offset);
    if (!order) order = compare(x->place.rows, y->place.rows);
    if (!order) order = compare(x->place.columns, y->place.columns);
    if (!order) order = compare(x->place.stride, y->place.stride);
    return order ? order : compare(x - y, 0);
}

static bool same_place(const psg_piece *x, const psg_piece *y) { return !memcmp(&x->place, &y->place, sizeof x->place); }

static int64_t end_of(const psg_piece *p) { return p->place.offset + psg_place_span(&p->place); }

typedef struct grouping {
    psg_plan *plan;
    const psg_gradient *gradient;
    size_t index;
    psg_piece *pieces;         /* sorted */
    psg_part *parts;
    size_t part_count;
} grouping;

/* ---- parts ---- */

static bool may_join(const psg_piece *x, const psg_piece *y) {
    return x->room == y->room && !x->room->stays_single && x->scale == y->scale && x->batch == y->batch &&
           x->has_windows == y->has_windows && x->g.step == y->g.step && x->a.step == y->a.step && same_place(x, y);
}

static psg_part part_of(const grouping *g, const psg_piece *pieces, size_t count) {
    psg_context *context = g->plan->context;
    psg_part part = { .room = pieces->room, .context = context, .kernels = context->kernels[g->gradient->dtype],
                      .doubles = context->kernels[PSG_F64], .pieces = pieces, .count = count,
                      .dtype = g->gradient->dtype, .place = pieces->place, .scale = pieces->scale,
                      .gradient = g->index, .fallbacks = &g->plan->fallbacks };
    for (size_t k = 0; k < count; k++) part.batch = psg_most(part.batch, pieces[k].batch);
    return part;
}

static void mix(const grouping *g, psg_part *part, int64_t end) {
    int64_t first = part->place.offset;
    part->room = &psg_mixed_room;
    part->scale = 1;
    part->place = (psg_place){ first, 1, end - first, end - first };
    part->inner = take(g->plan, part->count * sizeof *part->inner);
    for (; part->inner && part->inner_count < part->count; part->inner_count++) {
        part->inner[part->inner_count] = part_of(g, &part->pieces[part->inner_count], 1);
    }
}

/* Pieces [first, last) as one part: of their form when they fill one place alike, else mixed over all they touch. */
static bool add_part(grouping *g, size_t first, size_t last) {
    psg_part part = part_of(g, g->pieces + first, last - first);
    int64_t end = 0;
    bool alike = true;
    for (size_t k = first; k < last; k++) {
        alike = alike && (k == first || may_join(part.pieces, &g->pieces[k]));
        end = psg_most(end, end_of(&g->pieces[k]));
    }
    if (!alike) mix(g, &part, end);
    g->parts[g->part_count++] = part;
    return alike || part.inner;
}

/* The columns of a place when its parameter is cut into rows of `row` elements; -1 when it does not fit between them. */
static int64_t column_of(const psg_piece *p, int64_t row) {
    int64_t column = row > 0 ? p->place.offset % row : 0;
    bool fits = row > 0 && column + p->place.columns <= row && (p->place.rows == 1 || p->place.stride == row);
    return fits ? column : -1;
}

/* Whether the places of [first, last), whose ranges overlap, lie side by side: no two share a column. */
static bool are_side_by_side(const grouping *g, size_t first, size_t last) {
    int64_t row = 0, taken = 0;
    for (size_t k = first; k < last; k++) row = psg_most(row, g->pieces[k].place.rows > 1 ? g->pieces[k].place.stride : 0);
    for (size_t k = first; k < last; k++) {
        bool again = k > first && same_place(&g->pieces[k], &g->pieces[k - 1]);
        int64_t column = column_of(&g->pieces[k], row);
        if (column < 0 || (!again && column < taken)) return false;
        taken = column + g->pieces[k].place.columns;
    }
    return true;
}

/* Pieces whose ranges overlap one after the other: a part a place where these are disjoint, else one part. */
static bool add_cluster(grouping *g, size_t first, size_t last) {
    bool apart = are_side_by_side(g, first, last), added = true;
    for (size_t k = first + 1; k <= last; k++) {
        if (k < last && (!apart || same_place(&g->pieces[first], &g->pieces[k]))) continue;
        added = added && add_part(g, first, k);
        first = k;
    }
    return added;
}

static bool add_clusters(grouping *g, size_t count) {
    bool added = true;
    for (size_t first = 0, k; first < count && added; first = k) {
        int64_t end = end_of(&g->pieces[first]);
        for (k = first + 1; k < count && g->pieces[k].place.offset < end; k++) end = psg_most(end, end_of(&g->pieces[k]));
        added = add_cluster(g, first, k);
    }
    return added;
}

/* The gradient's pieces that touch anything, sorted; false without memory. */
static bool view_pieces(grouping *g, size_t *count) {
    size_t blocks = g->gradient->block_count;
    psg_piece *views = take(g->plan, blocks * sizeof *views);
    const psg_piece **order = take(g->plan, blocks * sizeof *order);
    g->pieces = take(g->plan, blocks * sizeof *g->pieces);
    if (!views || !order || !g->pieces) return false;
    *count = 0;
    for (size_t k = 0; k < blocks; k++) {
        views[k] = psg_piece_of(g->gradient, &g->gradient->blocks[k]);
        if (psg_place_span(&views[k].place)) order[(*count)++] = &views[k];
    }
    qsort(order, *count, sizeof *order, by_place);
    for (size_t k = 0; k < *count; k++) g->pieces[k] = *order[k];
    return true;
}

/* Appends the gradient's parts; returns false without memory. */
static bool add_gradient(psg_plan *plan, const psg_gradient *gradient, size_t index, psg_part *parts, size_t *part_count) {
    grouping g = { .plan = plan, .gradient = gradient, .index = index, .parts = parts, .part_count = *part_count };
    size_t count = 0;
    if (!gradient->block_count) return true;
    bool added = view_pieces(&g, &count) && add_clusters(&g, count);
    *part_count = g.part_count;
    return added;
}

/* ---- what parts need for every sample ---- */

/* A derived part: the parts of its effective weight's gradient, E flat. */
static bool view_effective(psg_plan *plan, psg_part *part) {
    const psg_derivation *d = part->pieces->derivation;
    psg_gradient effective = psg_gradient_of_blocks(d->blocks, d->block_count, 2, (int64_t[]){ d->rows, d->columns });
    effective.dtype = part->dtype;
    effective.batch_size = part->batch;
    part->inner = take(plan, (d->block_count + 1) * sizeof *part->inner);
    if (!part->inner || !add_gradient(plan, &effective, part->gradient, part->inner, &part->inner_count)) return false;
    for (size_t k = 0; k < part->inner_count; k++) part->batch = psg_most(part->batch, part->inner[k].batch);
    return true;
}

static bool take_part_memory(psg_plan *plan, psg_part *part) {
    if (part->room == &psg_derived_room && !view_effective(plan, part)) return false;
    for (size_t k = 0; k < part->inner_count; k++) {
        if (!take_part_memory(plan, &part->inner[k])) return false;
        part->batch = psg_most(part->batch, part->inner[k].batch);
    }
    if (!plan->is_plain && !part->inner) {
        part->live = take(plan, part->count * (size_t)part->batch * sizeof *part->live);
        if (!part->live) return false;
    }
    part->memory = part->room->memory ? take(plan, part->room->memory(part)) : NULL;
    return !part->room->memory || part->memory;
}

static void prepare_part(const psg_part *part, int64_t n, void *workspace) {
    for (size_t k = 0; k < part->inner_count; k++) prepare_part(&part->inner[k], n, workspace);
    for (size_t k = 0; k < part->count && part->live && n < part->batch; k++) {
        part->live[(int64_t)k * part->batch + n] = psg_live_positions(&part->pieces[k], n);
    }
    if (part->room->prepare) part->room->prepare(part, n, workspace);
}

static void prepare_sample(void *argument, size_t n, unsigned slot) {
    const psg_plan *plan = argument;
    for (size_t k = 0; k < plan->part_count; k++) {
        prepare_part(&plan->parts[k], (int64_t)n, plan->context->workspace[slot]);
    }
}

/* ---- a weight and the bias that shares its backprop, found by the array's address ---- */

static bool same_backprop(const psg_part *x, const psg_part *y) {
    bool same = x->count == y->count && x->scale == y->scale && !x->partner;
    for (size_t k = 0; same && k < x->count; k++) {
        same = x->pieces[k].positions == y->pieces[k].positions &&
               !memcmp(&x->pieces[k].g, &y->pieces[k].g, sizeof x->pieces[k].g);
    }
    return same;
}

static bool may_have_partner(const psg_part *part, const psg_room *room) {
    return part->room == room && !(room == &psg_factored_room ? part->pieces->has_windows : part->pieces->a.data != NULL);
}

static bool find_partners(psg_plan *plan) {
    size_t size = 2 * plan->part_count + 1;
    psg_part **table = take(plan, size * sizeof *table), **end = table + size;
    if (!table) return false;
    memset(table, 0, size * sizeof *table);
    for (size_t k = 0; k < 2 * plan->part_count; k++) {   /* weights first, then biases */
        psg_part *part = &plan->parts[k % plan->part_count];
        bool is_weight = k < plan->part_count;
        if (!may_have_partner(part, is_weight ? &psg_factored_room : &psg_rows_room)) continue;
        psg_part **at = table + (uintptr_t)part->pieces->g.data / 16 * 0x9E3779B97F4A7C15u % size;
        while (*at && (is_weight || !same_backprop(*at, part))) at = at + 1 < end ? at + 1 : table;
        if (is_weight) *at = part;
        else if (*at) (*at)->partner = part;
        part->is_partner = !is_weight && *at;
    }
    return true;
}

/* ---- gradients kept between norms and sum ---- */

size_t psg_plan_kept_bytes(const psg_part *part, int64_t samples) {
    size_t bytes = (size_t)samples * (size_t)psg_place_span(&part->place) * psg_dtype_size(part->dtype);
    return (bytes + PSG_ALIGNMENT - 1) & ~(PSG_ALIGNMENT - 1);
}

static bool can_keep(const psg_plan *plan, const psg_part *part) {
    bool contiguous = part->place.rows == 1 || part->place.stride == part->place.columns;
    double bytes = (double)psg_most(plan->capacity, plan->batch) * (double)psg_place_span(&part->place) * 8;
    bool keeps = part->room == &psg_derived_room;
    if (part->room == &psg_factored_room) {
        keeps = psg_factored_may_keep(part, psg_least(psg_part_positions(part), PSG_LONGEST));
    }
    return keeps && contiguous && bytes < 0x1p62 && plan->context->forced_route != PSG_ROUTE_RECOMPUTE;
}

/* Windows cost their unfolding anew in norms and sum: a gradient that takes no more memory than the views it is made
 * from is kept with the plan. */
static bool is_small(const psg_part *part) {
    const psg_piece *p = part->pieces;
    const psg_unfolding *u = &p->window;
    int64_t image = u->channels * u->size[0] * u->size[1] * u->size[2];
    return p->has_windows && part->place.rows * part->place.columns <= (int64_t)part->count * (p->positions * p->g.columns + image);
}

static bool fits_budget(const psg_plan *plan, const psg_part *part) {
    return psg_plan_kept_bytes(part, plan->capacity) <= plan->context->memory_budget - plan->budget_held;
}

/* Parts that keep their gradients get their flags, small ones their memory; *held: what the others need. */
static bool choose_kept(psg_plan *plan, size_t *held) {
    for (size_t k = 0; k < plan->part_count; k++) {
        psg_part *part = &plan->parts[k];
        if (!can_keep(plan, part) || !(is_small(part) || fits_budget(plan, part))) continue;
        part->is_kept = take(plan, (size_t)plan->batch * sizeof *part->is_kept);
        if (!part->is_kept) return false;
        memset(part->is_kept, 0, (size_t)plan->batch * sizeof *part->is_kept);
        if (is_small(part)) {
            part->kept = take(plan, psg_plan_kept_bytes(part, plan->batch));
            if (!part->kept) return false;
            continue;
        }
        part->in_budget = true;
        plan->budget_held += psg_plan_kept_bytes(part, plan->capacity);
        *held += psg_plan_kept_bytes(part, plan->batch);
    }
    return true;
}

/* A budget that cannot be had leaves the parts without: they recompute. */
static bool keep_gradients(psg_plan *plan) {
    size_t held = 0;
    if (!choose_kept(plan, &held)) return false;
    char *memory = held ? psg_budget_memory(plan->context, held) : NULL;
    for (size_t k = 0; k < plan->part_count; k++) {
        psg_part *part = &plan->parts[k];
        if (!part->in_budget) continue;
        part->in_budget = memory != NULL;
        part->kept = memory;
        if (memory) memory += psg_plan_kept_bytes(part, plan->batch);
    }
    return true;
}

/* ---- the plan ---- */

static bool build(psg_plan *plan) {
    size_t blocks = 0;
    for (size_t k = 0; k < plan->gradient_count; k++) blocks += plan->gradients[k]->block_count;
    plan->parts = take(plan, (blocks + 1) * sizeof *plan->parts);
    if (!plan->parts) return false;
    for (size_t k = 0; k < plan->gradient_count; k++) {
        if (!add_gradient(plan, plan->gradients[k], k, plan->parts, &plan->part_count)) return false;
    }
    for (size_t k = 0; k < plan->part_count; k++) {
        if (!take_part_memory(plan, &plan->parts[k])) return false;
    }
    bool norms = plan->question == PSG_ASK_SQNORM || plan->question == PSG_ASK_CLIPPED_SUM;
    if (norms && !find_partners(plan)) return false;
    return plan->question != PSG_ASK_CLIPPED_SUM || keep_gradients(plan);
}

psg_status psg_plan_make(psg_context *context, const char *function, psg_question question,
                         const psg_gradient *const *gradients, size_t count, int64_t capacity, bool is_plain,
                         psg_plan *plan) {
    *plan = (psg_plan){ .context = context, .question = question, .gradients = gradients, .gradient_count = count,
                        .is_plain = is_plain, .batch = gradients[0]->batch_size, .capacity = capacity };
    if (psg_arena_reset(&context->question) || !build(plan)) {
        return psg_fail(context, PSG_ERR_MEMORY, "%s: no memory for a plan of %zu gradients", function, count);
    }
    psg_plan_samples(plan, prepare_sample, plan);
    return PSG_OK;
}

/* ---- samples ---- */

typedef struct sample_job {
    psg_task task;
    void *argument;
    size_t count, some;
} sample_job;

static void run_samples(void *argument, size_t index, unsigned slot) {
    const sample_job *job = argument;
    size_t first = index * job->some, last = first + job->some;
    for (size_t n = first; n < last && n < job->count; n++) job->task(job->argument, n, slot);
}

void psg_plan_samples(const psg_plan *plan, psg_task task, void *argument) {
    size_t batch = (size_t)plan->batch, some = batch / 32;
    sample_job job = { task, argument, batch, some < 1 ? 1 : some > 16 ? 16 : some };
    psg_parallel(plan->context, (batch + job.some - 1) / job.some, run_samples, &job);
}
