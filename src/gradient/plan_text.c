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

static psg_route route_for(const psg_context *context, psg_question question, const psg_gradient *gradient,
                           size_t budget_left) {
    psg_route norm = psg_plan_sqnorm(context, gradient);
    switch (question) {
    case PSG_ASK_GRAD_SAMPLE: return PSG_ROUTE_MATERIALISE;
    case PSG_ASK_SQNORM: return norm;
    case PSG_ASK_CLIPPED_SUM: return psg_plan_clip(context, gradient, budget_left);
    case PSG_ASK_DOT: return psg_plan_dot(context, gradient);
    case PSG_ASK_GRAM: return psg_plan_gram(context, gradient);
    default: return psg_plan_sum(gradient);
    }
}

static void put_blocks(writer *w, const psg_gradient *gradient) {
    for (size_t b = 0; b < gradient->block_count; b++) {
        psg_piece p = psg_piece_of(gradient, b);
        put(w, ", %s T=%lld p=%lld", psg_form_name(p.form), (long long)p.positions, (long long)p.g.columns);
        if (psg_is_product(&p)) put(w, " d=%lld", (long long)p.a.columns);
    }
}

static void put_gradient(writer *w, const psg_context *context, psg_question question,
                         const psg_gradient *const *gradients, size_t count, size_t k, size_t *held) {
    const psg_gradient *gradient = gradients[k];
    bool norms = question == PSG_ASK_SQNORM || question == PSG_ASK_CLIPPED_SUM;
    psg_route route = route_for(context, question, gradient, context->memory_budget - *held);
    put(w, "%s: gradient %zu: %s", psg_question_name(question), k, psg_route_name(route));
    if (question == PSG_ASK_CLIPPED_SUM && route == PSG_ROUTE_RECOMPUTE) {
        put(w, " (norms by %s)", psg_route_name(psg_plan_sqnorm(context, gradient)));
    }
    if (norms && psg_plan_is_partner(gradients, count, k)) put(w, ", norm taken with its weight's");
    put_blocks(w, gradient);
    size_t keeps = route == PSG_ROUTE_KEEP ? psg_keep_bytes(gradient) : 0;
    *held += keeps;
    put(w, ", workspace %zu a worker, budget %zu of %zu\n", PSG_WORKSPACE_BYTES, keeps, context->memory_budget);
}

psg_status psg_plan_text(psg_context *context, psg_question question, const psg_gradient *const *gradients,
                         size_t count, char *text, size_t size, size_t *needed) {
    psg_status status = psg_check_set(context, "psg_plan_text", gradients, count);
    if (status) return status;
    if (question < 0 || question >= PSG_QUESTION_COUNT) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_plan_text: question is %d, must be one of psg_question",
                        (int)question);
    }
    if (size && !text) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_plan_text: text is NULL, size is %zu", size);
    writer w = { text, size, 0 };
    size_t held = 0;
    for (size_t k = 0; k < count; k++) put_gradient(&w, context, question, gradients, count, k, &held);
    if (needed) *needed = w.used;
    return PSG_OK;
}
