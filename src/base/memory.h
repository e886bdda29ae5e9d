/* Memory: the only callers of the allocator are here.  Every block is 64-byte aligned. */
#ifndef PSG_BASE_MEMORY_H
#define PSG_BASE_MEMORY_H

#include "psg/base.h"

#define PSG_ALIGNMENT ((size_t)64)

/* bytes of memory, not cleared; NULL when the allocator has none or bytes is too large.  0 bytes give a valid block. */
void *psg_alloc(psg_context *context, size_t bytes);
void *psg_alloc_zeroed(psg_context *context, size_t bytes);
/* memory from psg_alloc, or NULL. */
void psg_free(psg_context *context, void *memory);

/* ---- arena: many blocks, freed together ----
 * Blocks of one round live until psg_arena_reset, which merges what the round needed into one chunk, so that a round
 * of the same needs allocates nothing. */
typedef struct psg_arena_chunk psg_arena_chunk;

typedef struct psg_arena {
    psg_context *context;
    psg_arena_chunk *chunks;   /* newest first */
    size_t used;               /* bytes handed out since the last reset */
    size_t peak;               /* the most that any round used */
} psg_arena;

void psg_arena_init(psg_arena *arena, psg_context *context);
void psg_arena_release(psg_arena *arena);
/* NULL when there is no memory. */
void *psg_arena_take(psg_arena *arena, size_t bytes);
/* Starts a new round.  PSG_ERR_MEMORY leaves an empty arena, which may be used. */
psg_status psg_arena_reset(psg_arena *arena);
/* Makes the next round find bytes without the allocator.  The arena must hold nothing. */
psg_status psg_arena_reserve(psg_arena *arena, size_t bytes);

#endif
