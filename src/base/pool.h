/* A small pool of threads: one loop at a time, the caller takes part, idle workers spin shortly and then sleep, and no
 * more of them are awake than there are processors. */
#ifndef PSG_BASE_POOL_H
#define PSG_BASE_POOL_H

#include "psg/base.h"

typedef struct psg_pool psg_pool;

/* threads >= 2, the caller included; processors >= 1: how many of them are to run at a time.  PSG_ERR_MEMORY,
 * PSG_ERR_SYSTEM. */
psg_status psg_pool_create(psg_context *context, unsigned threads, unsigned processors, psg_pool **pool);
void psg_pool_join(psg_pool *pool);
/* After psg_pool_join, or in a child process, where the workers do not exist. */
void psg_pool_free(psg_context *context, psg_pool *pool);

/* count >= 1.  The caller is slot 0.  Returns without waiting for workers that have not begun. */
void psg_pool_run(psg_pool *pool, size_t count, psg_task task, void *argument);

#endif
