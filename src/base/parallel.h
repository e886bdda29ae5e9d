/* Parallel loops over data: tasks by index, workers by slot. */
#ifndef PSG_BASE_PARALLEL_H
#define PSG_BASE_PARALLEL_H

#include "psg/base.h"

/* Starts the context's workers, threads as in psg_context_options, and reserves OpenBLAS's buffers for them:
 * PSG_ERR_ARGUMENT, PSG_ERR_MEMORY, PSG_ERR_SYSTEM. */
psg_status psg_parallel_start(psg_context *context, unsigned threads);
void psg_parallel_stop(psg_context *context);

/* Runs task(argument, i, slot) for i in [0, count) and returns when all are done.  The result must not depend on the
 * slot. context->workspace[slot] is the task's own while it runs; OpenBLAS is single-threaded in it.
 * In a forked child the caller does all the work. */
void psg_parallel(psg_context *context, size_t count, psg_task task, void *argument);

/* Brackets a call into OpenBLAS outside psg_parallel the same way; leave takes what enter returned. */
int psg_blas_enter(psg_context *context);
void psg_blas_leave(psg_context *context, int saved);

#endif
