/* psg_plan_text: the plan of a question in words; the names of routes and questions. */
#include <stdio.h>
#include <string.h>

#include "base/floats.h"
#include "base/label.h"
#include "base/writer.h"
#include "gradient/plan.h"

static const char *const route_names[] = { "none", "identity", "gram", "tiles", "keep", "recompute" };
const char *psg_route_name(psg_route route) { return route_names[route]; }

static const char *const question_names[PSG_QUESTION_COUNT] = {
    "grad_sample", "sqnorm", "weighted_sum", "clipped_sum", "dot", "gram", "sum_of_squares",
};
const char *psg_question_name(psg_question question) {
    return question >= 0 && question < PSG_QUESTION_COUNT ? question_names[question] : "unknown question";
}

psg_status psg_context_force_route(psg_context *context, const char *route) {
    if (!context) return PSG_ERR_ARGUMENT;
    int k = route ? PSG_ROUTE_RECOMPUTE : PSG_ROUTE_NONE;
    while (k > PSG_ROUTE_NONE && strcmp(route, route_names[k])) k--;
    if (route && k == PSG_ROUTE_NONE) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_context_force_route: route is \"%s\", must be identity, gram, "
                        "tiles, keep or recompute", route);
    }
    context->forced_route = k;
    return PSG_OK;
}

static void put_name(psg_writer *w, const psg_plan *plan, size_t gradient) {
    char place[32];
    snprintf(place, sizeof place, "gradient %zu", gradient);
    psg_put(w, "%s: %s: ", psg_question_name(plan->question),
            psg_label_of(place, plan->gradients[gradient]->name).text);
}

/* Pieces that are alike are counted. */
static void put_pieces(psg_writer *w, const psg_part *part) {
    const psg_piece *p = part->pieces;
    psg_put(w, ", %s", part->room->name);
    if (part->count > 1) psg_put(w, " of %zu blocks", part->count);
    if (p->derivation) {
        psg_put(w, " %lld rows of %lld", (long long)p->derivation->rows, (long long)p->derivation->columns);
        return;
    }
    psg_put(w, "%s T=%lld p=%lld", p->has_windows ? " of windows" : "", (long long)psg_part_positions(part),
        (long long)p->g.columns);
    if (p->room == &psg_factored_room) psg_put(w, " d=%lld", (long long)p->a.columns);
}

static const char *route_of(const psg_plan *plan, const psg_part *part) {
    bool norms = plan->question == PSG_ASK_SQNORM || plan->question == PSG_ASK_CLIPPED_SUM;
    int forced = plan->context->forced_route;
    if (part->room->route) return part->room->route(part, plan->question);
    bool tiles = (norms && forced == PSG_ROUTE_TILES) || (plan->question == PSG_ASK_GRAM && forced);
    return tiles ? "tiles" : part->room->routes[plan->question];
}

static void put_part(psg_writer *w, const psg_plan *plan, const psg_part *part) {
    const char *route = route_of(plan, part);
    bool recomputes = plan->question == PSG_ASK_CLIPPED_SUM && strcmp(route, "keep");
    put_name(w, plan, part->gradient);
    psg_put(w, recomputes ? "recompute (norms by %s)" : "%s", route);
    if (part->is_partner) psg_put(w, ", norm taken with its weight's");
    put_pieces(w, part);
    psg_put(w, ", budget %zu of %zu\n", part->in_budget ? psg_plan_kept_bytes(part, plan->capacity) : 0,
        plan->context->memory_budget);
}

/* A gradient without parts is zero. */
static void put_plan(psg_writer *w, const psg_plan *plan) {
    for (size_t g = 0, k = 0; g < plan->gradient_count; g++) {
        size_t first = k;
        for (; k < plan->part_count && plan->parts[k].gradient == g; k++) put_part(w, plan, &plan->parts[k]);
        if (k > first) continue;
        put_name(w, plan, g);
        psg_put(w, "none\n");
    }
}

psg_status psg_plan_text(psg_context *context, psg_question question, const psg_gradient *const *gradients,
                         size_t count, const psg_clip *clip, char *text, size_t size, size_t *needed) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_plan_text", gradients, count };
    psg_plan plan = { .question = question, .capacity = psg_capacity_of(clip) };
    psg_writer w = { text, size, 0 };
    psg_status status = psg_plan_make(&set, true, &plan);
    if (!status && (question < 0 || question >= PSG_QUESTION_COUNT)) {
        status = psg_fail(context, PSG_ERR_ARGUMENT, "%s: question is %d, must be one of psg_question", set.function,
                          (int)question);
    }
    if (!status && size) status = psg_check_array(&set, "text", text);
    if (!status) put_plan(&w, &plan);
    if (!status && needed) *needed = w.used;
    psg_plan_end(&plan);
    return status;
}
