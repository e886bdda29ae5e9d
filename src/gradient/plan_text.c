/* psg_plan_text: the plan of a question in words. */
#include <stdio.h>

#include "gradient/plan.h"

typedef struct writer {
    char *text;
    size_t size, used;
} writer;

static void PSG_PRINTF(2, 3) put(writer *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = w->used < w->size ? w->size - w->used : 0;
    int length = vsnprintf(room ? w->text + w->used : NULL, room, format, arguments);
    va_end(arguments);
    if (length > 0) w->used += (size_t)length;
}

static void put_name(writer *w, const psg_plan *plan, size_t gradient) {
    const char *name = plan->gradients[gradient]->name;
    put(w, "%s: gradient %zu%s%s%s: ", psg_question_name(plan->question), gradient, name ? " (" : "", name ? name : "",
        name ? ")" : "");
}

/* Pieces that are alike are counted. */
static void put_pieces(writer *w, const psg_part *part) {
    const psg_piece *p = part->pieces;
    put(w, ", %s", part->room->name);
    if (part->count > 1) put(w, " of %zu blocks", part->count);
    if (p->derivation) {
        put(w, " %lld rows of %lld", (long long)p->derivation->rows, (long long)p->derivation->columns);
        return;
    }
    put(w, "%s T=%lld p=%lld", p->has_windows ? " of windows" : "", (long long)psg_part_positions(part),
        (long long)p->g.columns);
    if (p->room == &psg_factored_room) put(w, " d=%lld", (long long)p->a.columns);
}

static void put_part(writer *w, const psg_plan *plan, const psg_part *part) {
    bool clips = plan->question == PSG_ASK_CLIPPED_SUM;
    psg_route route = part->room->route(part, plan->question);
    put_name(w, plan, part->gradient);
    if (clips && route != PSG_ROUTE_KEEP) put(w, "recompute (norms by %s)", psg_route_name(route));
    else put(w, "%s", psg_route_name(route));
    if (part->is_partner) put(w, ", norm taken with its weight's");
    put_pieces(w, part);
    put(w, ", budget %zu of %zu\n", part->in_budget ? psg_plan_kept_bytes(part, plan->capacity) : 0,
        plan->context->memory_budget);
}

/* A gradient without parts is zero. */
static void put_plan(writer *w, const psg_plan *plan) {
    for (size_t g = 0, k = 0; g < plan->gradient_count; g++) {
        size_t first = k;
        for (; k < plan->part_count && plan->parts[k].gradient == g; k++) put_part(w, plan, &plan->parts[k]);
        if (k > first) continue;
        put_name(w, plan, g);
        put(w, "none\n");
    }
}

psg_status psg_plan_text(psg_context *context, psg_question question, const psg_gradient *const *gradients,
                         size_t count, const psg_clip *clip, char *text, size_t size, size_t *needed) {
    const char *function = "psg_plan_text";
    psg_status status = psg_check_set(context, function, gradients, count);
    if (status) return status;
    if (question < 0 || question >= PSG_QUESTION_COUNT) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: question is %d, must be one of psg_question", function,
                        (int)question);
    }
    if (size && !text) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: text is NULL, size is %zu", function, size);
    psg_plan plan;
    writer w = { text, size, 0 };
    int64_t capacity = clip && clip->max_batch_size > 0 ? clip->max_batch_size : PSG_DEFAULT_MAX_BATCH_SIZE;
    status = psg_plan_make(context, function, question, gradients, count, capacity, false, &plan);
    if (!status) put_plan(&w, &plan);
    if (!status && needed) *needed = w.used;
    psg_plan_end(&plan);
    return status;
}
