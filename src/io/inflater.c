#include "io/inflater.h"

#include "base/memory.h"

static void *allocate(void *context, unsigned count, unsigned size) {
    return psg_alloc(context, (size_t)count * size);
}

static void release(void *context, void *memory) { psg_free(context, memory); }

z_stream psg_inflater_of(psg_context *context) {
    return (z_stream){ .zalloc = allocate, .zfree = release, .opaque = context };
}
