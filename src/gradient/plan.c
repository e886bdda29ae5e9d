#include "gradient/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "gradient/factored.h"

/* A failure sticks to the plan: what is built after it is not used. */
void *psg_plan_take(psg_plan *plan, size_t bytes) {
    void *memory = psg_arena_take(&plan->context->question, bytes);
    if (memory) return memory;
    plan->failed = true;
    psg_fail_memory(plan->context, plan->function, bytes);
    return NULL;
}

static void *take_zeroed(psg_plan *plan, size_t bytes) {
    void *memory = psg_plan_take(plan, bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

/* What the question needed in several chunks, the next one finds in one. */
void psg_plan_end(psg_plan *plan) {
    if (plan->context) psg_arena_reset(&plan->context->question);
}

/* By offset, then the same places together, in the order of the blocks. */
static int by_place(const void *left, const void *right) {
    const psg_piece *x = left, *y = right;
    const int64_t a[] = { x->place.offset, x->place.rows, x->place.columns, x->place.stride, x->block };
    const int64_t b[] = { y->place.offset, y->place.rows, y->place.columns, y->place.stride, y->block };
    int k = 0;
    while (k < 4 && a[k] == b[k]) k++;
    return (a[k] > b[k]) - (a[k] < b[k]);
}

static bool same_place(const psg_piece *x, const psg_piece *y) {
    return !memcmp(&x->place, &y->place, sizeof x->place);
}

/* Pieces, sorted, to be made parts of. */
typedef struct grouping {
    psg_plan *plan;
    size_t gradient;
    psg_piece *pieces;
    psg_part *parts;
    size_t count;              /* of parts */
} grouping;

static bool may_join(const psg_piece *x, const psg_piece *y) {
    return x->room == y->room && !x->room->stays_single && x->scale == y->scale && x->batch == y->batch &&
           x->has_windows == y->has_windows && x->g.step == y->g.step && x->a.step == y->a.step && same_place(x, y);
}

static psg_part part_of(const grouping *g, const psg_piece *pieces, size_t count) {
    psg_context *context = g->plan->context;
    psg_part part = { .room = pieces->room, .context = context, .kernels = context->kernels[pieces->dtype],
                      .doubles = context->kernels[PSG_F64], .pieces = pieces, .count = count, .dtype = pieces->dtype,
                      .place = pieces->place, .scale = pieces->scale, .gradient = g->gradient,
                      .fallbacks = &g->plan->fallbacks };
    for (size_t k = 0; k < count; k++) part.batch = psg_most(part.batch, pieces[k].batch);
    return part;
}

/* Pieces [first, last) as one part: of their form when they fill one place alike, else mixed over all they touch. */
static void add_part(grouping *g, size_t first, size_t last) {
    psg_part *part = &g->parts[g->count++];
    *part = part_of(g, g->pieces + first, last - first);
    int64_t start = part->place.offset, end = start;
    bool alike = true;
    for (size_t k = first; k < last; k++) {
        alike = alike && (k == first || may_join(part->pieces, &g->pieces[k]));
        end = psg_most(end, psg_place_end(&g->pieces[k].place));
    }
    if (alike || !(part->inner = psg_plan_take(g->plan, part->count * sizeof *part->inner))) return;
    part->room = &psg_mixed_room;
    part->scale = 1;
    part->place = (psg_place){ start, 1, end - start, end - start };
    for (size_t k = 0; k < part->count; k++) part->inner[part->inner_count++] = part_of(g, &part->pieces[k], 1);
}

/* The column of a place when its parameter is cut into rows of `row` elements; -1 when it does not fit one. */
static int64_t column_of(const psg_place *place, int64_t row) {
    int64_t column = row > 0 ? place->offset % row : 0;
    bool fits = row > 0 && column + place->columns <= row && (place->rows == 1 || place->stride == row);
    return fits ? column : -1;
}

/* Whether the places of [first, last), whose ranges overlap, lie side by side, no two sharing a column, each with a
 * part of its own: pieces of one place that are unlike make a mixed part, which would run through its neighbours'
 * columns. */
static bool are_side_by_side(const psg_piece *first, const psg_piece *last) {
    int64_t row = 0, taken = 0;
    for (const psg_piece *p = first; p < last; p++) row = psg_most(row, p->place.rows > 1 ? p->place.stride : 0);
    for (const psg_piece *p = first; p < last; p++) {
        bool again = p > first && same_place(p, p - 1);
        int64_t column = column_of(&p->place, row);
        if (column < 0 || (again ? !may_join(p - 1, p) : column < taken)) return false;
        taken = column + p->place.columns;
    }
    return true;
}

/* Pieces whose ranges overlap one after the other: a part a place where these are disjoint, else one part. */
static void add_cluster(grouping *g, size_t first, size_t last) {
    bool apart = are_side_by_side(g->pieces + first, g->pieces + last);
    for (size_t k = first + 1; k <= last; k++) {
        if (k < last && (!apart || same_place(&g->pieces[first], &g->pieces[k]))) continue;
        add_part(g, first, k);
        first = k;
    }
}

static void add_clusters(grouping *g, size_t count) {
    for (size_t first = 0, k; first < count; first = k) {
        int64_t end = psg_place_end(&g->pieces[first].place);
        for (k = first + 1; k < count && g->pieces[k].place.offset < end; k++) {
            end = psg_most(end, psg_place_end(&g->pieces[k].place));
        }
        add_cluster(g, first, k);
    }
}

/* Appends the parts that a gradient's blocks make, those that touch anything; how many there are then. */
static size_t add_gradient(psg_plan *plan, const psg_gradient *gradient, size_t index, psg_part *parts, size_t count) {
    grouping g = { plan, index, psg_plan_take(plan, gradient->block_count * sizeof *g.pieces), parts, count };
    size_t pieces = 0;
    for (size_t k = 0; k < gradient->block_count && g.pieces; k++) {
        g.pieces[pieces] = psg_piece_of(gradient, &gradient->blocks[k]);
        g.pieces[pieces].block = (int64_t)k;
        pieces += psg_place_span(&g.pieces[pieces].place) > 0;
    }
    for (size_t k = 0; k < pieces && plan->is_apart; k++) add_part(&g, k, k + 1);
    if (pieces && !plan->is_apart) qsort(g.pieces, pieces, sizeof *g.pieces, by_place);
    if (!plan->is_apart) add_clusters(&g, pieces);
    return g.count;
}

/* A derived part: the parts of its effective weight's gradient, E flat. */
static void add_effective(psg_plan *plan, psg_part *part) {
    const psg_derivation *d = part->pieces->derivation;
    psg_gradient effective = psg_gradient_of_blocks(d->blocks, d->block_count, 2, (int64_t[]){ d->rows, d->columns });
    effective.dtype = part->dtype;
    effective.batch_size = part->batch;
    part->inner = psg_plan_take(plan, (d->block_count + 1) * sizeof *part->inner);
    if (part->inner) part->inner_count = add_gradient(plan, &effective, part->gradient, part->inner, 0);
}

static void take_part_memory(psg_plan *plan, psg_part *part) {
    if (part->room == &psg_derived_room) add_effective(plan, part);
    for (size_t k = 0; k < part->inner_count; k++) {
        take_part_memory(plan, &part->inner[k]);
        part->batch = psg_most(part->batch, part->inner[k].batch);
    }
    size_t numbers = part->count * (size_t)part->batch;
    if (!plan->is_plain && !part->inner) part->live = psg_plan_take(plan, numbers * sizeof *part->live);
    if (part->room->memory) part->memory = psg_plan_take(plan, part->room->memory(part));
}

/* A partner's live positions are its weight's. */
static void prepare_part(const psg_part *part, int64_t first, int64_t last) {
    for (size_t k = 0; k < part->inner_count; k++) prepare_part(&part->inner[k], first, last);
    last = psg_least(last, part->batch);
    for (size_t k = 0; k < part->count && part->live && !part->is_partner; k++) {
        int64_t *live = part->live + (int64_t)k * part->batch;
        for (int64_t n = first; n < last; n++) live[n] = psg_live_positions(&part->pieces[k], n);
    }
    for (int64_t n = first; n < last && part->room->prepare; n++) part->room->prepare(part, n);
}

static bool same_backprop(const psg_part *x, const psg_part *y) {
    bool same = x->count == y->count && x->scale == y->scale && !x->partner;
    for (size_t k = 0; same && k < x->count; k++) {
        same = x->pieces[k].positions == y->pieces[k].positions &&
               !memcmp(&x->pieces[k].g, &y->pieces[k].g, sizeof x->pieces[k].g);
    }
    return same;
}

static bool may_have_partner(const psg_part *part, const psg_room *room) {
    const psg_piece *p = part->pieces;
    return part->room == room && !(room == &psg_factored_room ? p->has_windows : p->a.data != NULL);
}

/* A weight and the bias that shares its backprop find each other by the array's address. */
static void find_partners(psg_plan *plan) {
    size_t size = 2 * plan->part_count + 1;
    psg_part **table = take_zeroed(plan, size * sizeof *table), **end = table + size;
    for (size_t k = 0; k < 2 * plan->part_count && table; k++) {   /* weights first, then biases */
        psg_part *part = &plan->parts[k % plan->part_count];
        bool is_weight = k < plan->part_count;
        if (!may_have_partner(part, is_weight ? &psg_factored_room : &psg_rows_room)) continue;
        psg_part **at = table + (uintptr_t)part->pieces->g.data / 16 * 0x9E3779B97F4A7C15u % size;
        while (*at && (is_weight || !same_backprop(*at, part))) at = at + 1 < end ? at + 1 : table;
        if (is_weight) *at = part;
        part->is_partner = !is_weight && *at;
        if (!part->is_partner) continue;
        (*at)->partner = part;
        part->live = (*at)->live;
    }
}

size_t psg_plan_kept_bytes(const psg_part *part, int64_t samples) {
    size_t bytes = (size_t)samples * (size_t)psg_place_span(&part->place) * psg_dtype_size(part->dtype);
    return (bytes + PSG_ALIGNMENT - 1) & ~(PSG_ALIGNMENT - 1);
}

static bool can_keep(const psg_plan *plan, psg_part *part) {
    bool contiguous = part->place.rows == 1 || part->place.stride == part->place.columns;
    double bytes = (double)psg_most(plan->capacity, plan->batch) * (double)psg_place_span(&part->place) * 8;
    bool may = contiguous && bytes < 0x1p62 && plan->context->forced_route != PSG_ROUTE_RECOMPUTE;
    bool keeps = part->room == &psg_derived_room;
    part->has_room = may && psg_plan_kept_bytes(part, plan->capacity) <= plan->context->memory_budget;
    if (part->room == &psg_factored_room) {
        keeps = psg_factored_may_keep(part, psg_least(psg_part_positions(part), PSG_LONGEST));
    }
    return may && keeps;
}

/* Windows cost their unfolding anew in norms and sum: a gradient that takes no more memory than the views it is made
 * from is kept with the plan. */
static bool is_small(const psg_part *part) {
    const psg_piece *p = part->pieces;
    const psg_unfolding *u = &p->window;
    int64_t image = u->channels * u->size[0] * u->size[1] * u->size[2];
    int64_t views = (int64_t)part->count * (p->positions * p->g.columns + image);
    return p->has_windows && part->place.rows * part->place.columns <= views;
}

/* Gradients kept between norms and sum: small ones have memory of the plan, others share the budget's.  A budget that
 * cannot be had leaves them without: they are recomputed. */
static void keep_gradients(psg_plan *plan) {
    size_t held = 0;
    for (psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        bool small = is_small(part);
        size_t bytes = psg_plan_kept_bytes(part, plan->capacity);
        size_t left = plan->context->memory_budget - plan->budget_held;
        if (!can_keep(plan, part) || !(small || bytes <= left)) continue;
        part->is_kept = take_zeroed(plan, (size_t)plan->batch * sizeof *part->is_kept);
        part->in_budget = !small;
        if (small) part->kept = psg_plan_take(plan, psg_plan_kept_bytes(part, plan->batch));
        plan->budget_held += small ? 0 : bytes;
        held += small ? 0 : psg_plan_kept_bytes(part, plan->batch);
    }
    char *memory = held ? psg_budget_memory(plan->context, held) : NULL;
    for (psg_part *part = plan->parts; part < plan->parts + plan->part_count; part++) {
        if (!part->in_budget) continue;
        part->in_budget = memory != NULL;
        part->kept = memory;
        if (memory) memory += psg_plan_kept_bytes(part, plan->batch);
    }
}

double psg_part_cost(const psg_part *part, bool is_norm) {
    const psg_piece *p = part->pieces;
    double positions = (double)psg_part_positions(part), elements = (double)part->place.rows * (double)part->place.columns;
    return 256 + positions * (is_norm ? fmin(elements, positions * (double)(p->g.columns + p->a.columns)) : elements);
}

static void cut_visits(psg_plan *plan) {
    bool norms = plan->question == PSG_ASK_SQNORM || plan->question == PSG_ASK_CLIPPED_SUM;
    double cost = 1;
    for (size_t k = 0; k < plan->part_count; k++) cost += psg_part_cost(&plan->parts[k], norms);
    plan->runs = psg_parts_of(psg_most((int64_t)plan->part_count, 1), PSG_RUN);
    plan->some = 1 + (int64_t)(PSG_TASK_COST * (double)plan->runs / cost);
}

static void build(psg_plan *plan) {
    size_t blocks = 0;
    for (size_t k = 0; k < plan->gradient_count; k++) blocks += plan->gradients[k]->block_count;
    plan->parts = psg_plan_take(plan, (blocks + 1) * sizeof *plan->parts);
    plan->covered = take_zeroed(plan, plan->gradient_count * sizeof *plan->covered);
    for (size_t k = 0; k < plan->gradient_count && !plan->failed; k++) {
        plan->part_count = add_gradient(plan, plan->gradients[k], k, plan->parts, plan->part_count);
    }
    for (size_t k = 0; k < plan->part_count && !plan->failed; k++) {
        take_part_memory(plan, &plan->parts[k]);
        plan->batch = psg_most(plan->batch, plan->parts[k].batch);   /* of an ordinary pass, they differ */
        plan->covered[plan->parts[k].gradient] += plan->parts[k].place.rows * plan->parts[k].place.columns;
    }
    cut_visits(plan);
    bool clips = plan->question == PSG_ASK_CLIPPED_SUM;
    if (clips) keep_gradients(plan);
    if (!clips && plan->question != PSG_ASK_SQNORM) return;
    find_partners(plan);
    int64_t squares = plan->runs * plan->batch;
    plan->square = psg_plan_take(plan, 2 * (size_t)squares * sizeof *plan->square);
    plan->upper = plan->square + squares;
}

psg_status psg_plan_make(const psg_set *set, bool coupled, psg_plan *plan) {
    psg_status status = psg_check_set(set, coupled);
    if (status) return status;
    plan->context = set->context;
    plan->function = set->function;
    plan->gradients = set->gradients;
    plan->gradient_count = set->count;
    plan->batch = set->gradients[0]->batch_size;
    size_t needed = plan->context->question.peak;
    if (psg_arena_reset(&plan->context->question)) return psg_fail_memory(plan->context, plan->function, needed);
    build(plan);
    return plan->failed ? PSG_ERR_MEMORY : PSG_OK;
}

bool psg_plan_is_bad(const psg_plan *plan, int64_t n) {
    for (size_t k = 0; k < plan->gradient_count; k++) {
        if (plan->gradients[k]->bad && plan->gradients[k]->bad[n]) return true;
    }
    return false;
}

bool psg_plan_covers(const psg_plan *plan, size_t gradient) {
    return plan->covered[gradient] == psg_gradient_numel(plan->gradients[gradient]);
}

typedef struct visit_job {
    const psg_plan *plan;
    psg_visitor visitor;
    void *argument;
} visit_job;

static void run_visit(void *argument, size_t index, unsigned slot) {
    const visit_job *job = argument;
    const psg_plan *plan = job->plan;
    int64_t groups = psg_parts_of(plan->batch, plan->some), run = (int64_t)index / groups;
    int64_t sample = (int64_t)index % groups * plan->some, last = psg_least(sample + plan->some, plan->batch);
    int64_t first = run * PSG_RUN, end = psg_least(first + PSG_RUN, (int64_t)plan->part_count);
    psg_visit visit = { plan->parts + first, plan->parts + end, run, sample, last, plan->context->workspace[slot] };
    for (const psg_part *part = visit.first; part < visit.end; part++) prepare_part(part, sample, last);
    if (job->visitor) job->visitor(job->argument, &visit);
}

void psg_plan_visit(const psg_plan *plan, psg_visitor visitor, void *argument) {
    visit_job job = { plan, visitor, argument };
    psg_parallel(plan->context, (size_t)(plan->runs * psg_parts_of(plan->batch, plan->some)), run_visit, &job);
}
