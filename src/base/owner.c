#include "base/owner.h"

#include "base/context.h"
#include "base/memory.h"

void psg_hold(psg_owner *owner) { owner->holders++; }

static bool is_alone(const psg_owner *owner) { return owner->is_destroyed && !owner->holders; }

bool psg_let_go(psg_owner *owner) {
    owner->holders--;
    return is_alone(owner);
}

bool psg_destroy_handle(psg_owner *owner) {
    owner->is_destroyed = true;
    return is_alone(owner);
}

void *psg_new_object(psg_context *context, size_t bytes) {
    void *object = psg_alloc(context, bytes);
    if (object) psg_hold(&context->owner);
    return object;
}

void psg_free_object(psg_context *context, void *object) {
    if (!object) return;
    psg_free(context, object);
    if (psg_let_go(&context->owner)) psg_context_free(context);
}
