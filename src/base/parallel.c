#include "base/parallel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/blas_threads.h"
#include "base/context.h"
#include "base/floats.h"
#include "base/pool.h"
#include "base/processors.h"

/* ---- the number of workers ---- */

static psg_status default_threads(unsigned *threads) {
    const char *text = getenv("PSG_NUM_THREADS");
    if (!text || !*text) {
        *threads = psg_processors();
        return PSG_OK;
    }
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || value < 1) return PSG_ERR_ARGUMENT;
    *threads = value > PSG_MAX_THREADS ? PSG_MAX_THREADS : (unsigned)value;
    return PSG_OK;
}

/* LAPACK alone calls OpenBLAS where products do not; of a pool no more workers run than there are processors. */
static psg_status reserve_buffers(psg_context *context, unsigned processors) {
    unsigned calls = context->threads < processors ? context->threads : processors;
    if (context->gemm == PSG_GEMM_KERNEL) calls = 1;
    if (!psg_blas_buffers_reserve(calls)) return PSG_ERR_MEMORY;
    context->blas_calls = calls;
    return PSG_OK;
}

psg_status psg_parallel_start(psg_context *context, unsigned threads) {
    if (!threads) {
        psg_status status = default_threads(&threads);
        if (status) return status;
    }
    context->threads = threads > PSG_MAX_THREADS ? PSG_MAX_THREADS : threads;
    const bool has_pool = context->threads > 1 && !context->parallel_for;
    const unsigned processors = has_pool ? psg_processors() : context->threads;
    psg_status status = reserve_buffers(context, processors);
    return status || !has_pool ? status : psg_pool_create(context, context->threads, processors, &context->pool);
}

void psg_parallel_stop(psg_context *context) {
    if (context->pool && !psg_has_forked(&context->process)) psg_pool_join(context->pool);
    psg_pool_free(context, context->pool);
    context->pool = NULL;
    psg_blas_buffers_release(context->blas_calls);
}

/* ---- OpenBLAS around our work ---- */

/* Of the two settings one takes effect: the calling thread's own in the OpenMP build, else the process's. */
int psg_blas_enter(psg_context *context) {
    if (context->leave_openblas_alone) return 0;
    int saved = psg_blas_thread_single();
    psg_blas_threads_enter();
    return saved;
}

void psg_blas_leave(psg_context *context, int saved) {
    if (context->leave_openblas_alone) return;
    psg_blas_threads_leave();
    psg_blas_thread_restore(saved);
}

/* ---- loops ---- */

typedef struct guarded_task {
    psg_task task;
    void *argument;
    bool leave_openblas_alone;
} guarded_task;

/* A task in a thread of the host's: its environment and its OpenMP setting are put back afterwards. */
static void run_guarded(void *argument, size_t index, unsigned slot) {
    PSG_DEFAULT_FLOATS;
    const guarded_task *guarded = argument;
    int saved = guarded->leave_openblas_alone ? 0 : psg_blas_thread_single();
    guarded->task(guarded->argument, index, slot);
    psg_blas_thread_restore(saved);
}

static void run_here(size_t count, psg_task task, void *argument) {
    for (size_t i = 0; i < count; i++) task(argument, i, 0);
}

static void run_loop(psg_context *context, size_t count, psg_task task, void *argument) {
    if (count == 1 || context->threads == 1 || psg_has_forked(&context->process)) {
        run_here(count, task, argument);
    } else if (!context->parallel_for) {
        psg_pool_run(context->pool, count, task, argument);
    } else {
        guarded_task guarded = { task, argument, context->leave_openblas_alone };
        context->parallel_for(context->parallel_user, count, context->threads, run_guarded, &guarded);
    }
}

void psg_parallel(psg_context *context, size_t count, psg_task task, void *argument) {
    if (!count) return;
    int saved = psg_blas_enter(context);
    run_loop(context, count, task, argument);
    psg_blas_leave(context, saved);
}
