#include "base/owner.h"

#include "base/context.h"
#include "base/memory.h"

void psg_hold(psg_owner *owner) {
    if (owner) owner->holders++;
}

static void free_if_alone(psg_owner *owner) {
    if (owner->is_destroyed && !owner->holders) owner->free(owner->object);
}

void psg_let_go(psg_owner *owner) {
    if (!owner) return;
    owner->holders--;
    free_if_alone(owner);
}

void psg_destroy_handle(psg_owner *owner) {
    owner->is_destroyed = true;
    free_if_alone(owner);
}

void *psg_new_object(psg_context *context, size_t bytes) {
    void *object = psg_alloc(context, bytes);
    if (object) psg_hold(&context->owner);
    return object;
}

void psg_free_object(psg_context *context, void *object) {
    if (!object) return;
    psg_free(context, object);
    psg_let_go(&context->owner);
}

/* ---- lent memory ---- */

void psg_lend(psg_context *context, psg_lent *lent, psg_owner *owner, const void *data, size_t bytes) {
    *lent = (psg_lent){ data, bytes, owner, context->lent };
    if (bytes) context->lent = lent;
}

void psg_take_back(psg_context *context, psg_lent *lent) {
    psg_lent **link = &context->lent;
    while (*link && *link != lent) link = &(*link)->next;
    if (*link) *link = lent->next;
}

psg_owner *psg_owner_of(const psg_context *context, const void *data) {
    const uintptr_t place = (uintptr_t)data;
    for (const psg_lent *lent = context->lent; lent; lent = lent->next) {
        if (place - (uintptr_t)lent->data < lent->bytes) return lent->owner;
    }
    return NULL;
}
