#include "base/memory.h"

#include <stdatomic.h>
#include <string.h>

#include "base/context.h"

/* Before each block: what the allocator gave, for the way back. */
typedef struct header {
    void *base;
    size_t bytes;
} header;

void *psg_alloc(psg_context *context, size_t bytes) {
    if (bytes > SIZE_MAX - PSG_ALIGNMENT - sizeof(header)) return NULL;
    size_t total = bytes + PSG_ALIGNMENT + sizeof(header);
    char *base = context->allocator.allocate(context->allocator.user, total);
    if (!base) return NULL;
    uintptr_t aligned = ((uintptr_t)base + sizeof(header) + PSG_ALIGNMENT - 1) & ~(uintptr_t)(PSG_ALIGNMENT - 1);
    char *block = base + (aligned - (uintptr_t)base);
    header saved = { base, total };
    memcpy(block - sizeof saved, &saved, sizeof saved);
    context->live_bytes += total;
    context->allocations++;
    return block;
}

void *psg_alloc_zeroed(psg_context *context, size_t bytes) {
    void *block = psg_alloc(context, bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

void psg_free(psg_context *context, void *memory) {
    if (!memory) return;
    header saved;
    memcpy(&saved, (char *)memory - sizeof saved, sizeof saved);
    context->live_bytes -= saved.bytes;
    context->allocator.release(context->allocator.user, saved.base, saved.bytes);
}

/* ---- arena ---- */

struct psg_arena_chunk {
    psg_arena_chunk *next;
    size_t capacity;
    size_t used;
    char *data;
};

static const size_t smallest_chunk = 64 * 1024;

static size_t round_up(size_t bytes) { return (bytes + PSG_ALIGNMENT - 1) & ~(PSG_ALIGNMENT - 1); }

static psg_arena_chunk *new_chunk(psg_arena *arena, size_t capacity) {
    size_t head = round_up(sizeof(psg_arena_chunk));
    if (capacity > SIZE_MAX - head) return NULL;
    psg_arena_chunk *chunk = psg_alloc(arena->context, head + capacity);
    if (!chunk) return NULL;
    *chunk = (psg_arena_chunk){ .next = arena->chunks, .capacity = capacity, .data = (char *)chunk + head };
    arena->chunks = chunk;
    return chunk;
}

void psg_arena_init(psg_arena *arena, psg_context *context) { *arena = (psg_arena){ .context = context }; }

void psg_arena_release(psg_arena *arena) {
    while (arena->chunks) {
        psg_arena_chunk *next = arena->chunks->next;
        psg_free(arena->context, arena->chunks);
        arena->chunks = next;
    }
    arena->used = 0;
}

void *psg_arena_take(psg_arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    size_t size = round_up(bytes ? bytes : 1);
    psg_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->capacity - chunk->used < size) {
        size_t grown = arena->used > smallest_chunk ? arena->used : smallest_chunk;
        chunk = new_chunk(arena, size > grown ? size : grown);
        if (!chunk) return NULL;
    }
    void *block = chunk->data + chunk->used;
    chunk->used += size;
    arena->used += size;
    if (arena->used > arena->peak) arena->peak = arena->used;
    return block;
}

psg_status psg_arena_reserve(psg_arena *arena, size_t bytes) {
    if (arena->chunks && !arena->chunks->next && arena->chunks->capacity >= bytes) return PSG_OK;
    psg_arena_release(arena);
    return new_chunk(arena, bytes) ? PSG_OK : PSG_ERR_MEMORY;
}

psg_status psg_arena_reset(psg_arena *arena) {
    psg_arena_chunk *chunk = arena->chunks;
    arena->used = 0;
    if (!chunk) return PSG_OK;
    chunk->used = 0;
    return chunk->next ? psg_arena_reserve(arena, arena->peak) : PSG_OK;
}
