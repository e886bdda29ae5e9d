#include "io/tensors.h"

#include <string.h>
#include <sys/mman.h>

static void free_tensors(void *object) {
    psg_tensors *tensors = object;
    psg_take_back(tensors->context, &tensors->lent_values);
    psg_take_back(tensors->context, &tensors->lent_map);
    if (tensors->map) munmap(tensors->map, tensors->map_bytes);
    psg_free(tensors->context, tensors->values);
    psg_arena_release(&tensors->arena);
    psg_free_object(tensors->context, tensors);
}

psg_tensors *psg_tensors_new(psg_context *context) {
    psg_tensors *made = psg_new_object(context, sizeof *made);
    if (!made) return NULL;
    *made = (psg_tensors){ .context = context, .owner = { .free = free_tensors, .object = made } };
    psg_arena_init(&made->arena, context);
    return made;
}

void psg_tensors_destroy(psg_tensors *tensors) {
    if (tensors) psg_destroy_handle(&tensors->owner);
}

size_t psg_tensors_count(const psg_tensors *tensors) { return tensors ? tensors->count : 0; }
const psg_named *psg_tensors_list(const psg_tensors *tensors) { return tensors ? tensors->list : NULL; }

/* The index of the entry of that name, which stands first in it; count where there is none. */
static size_t bisect(const void *entries, size_t size, size_t count, const char *name) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *const *entry = (const void *)((const char *)entries + middle * size);
        int order = strcmp(*entry, name);
        if (order == 0) return middle;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return count;
}

const psg_tensor *psg_tensors_find(const psg_tensors *tensors, const char *name) {
    if (!tensors || !name) return NULL;
    size_t k = bisect(tensors->list, sizeof *tensors->list, tensors->count, name);
    return k < tensors->count ? &tensors->list[k].tensor : NULL;
}

const char *psg_tensors_metadata(const psg_tensors *tensors, const char *key) {
    if (!tensors || !key) return NULL;
    const size_t count = tensors->metadata_count, k = bisect(tensors->metadata, sizeof *tensors->metadata, count, key);
    return k < count ? tensors->metadata[k].value : NULL;
}
