#include "base/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/blas_threads.h"
#include "base/context.h"
#include "base/memory.h"

/* A loop is open from its publication until the caller has found no index left.  A worker enters by raising `inside`
 * and then looking whether the loop is still open; the caller closes it and then waits until nobody is inside.  With
 * sequentially consistent order one of the two sees the other, so the fields of a loop never change under a worker. */
struct psg_pool {
    _Alignas(64) atomic_uint generation;   /* futex: raised by every loop and by the end */
    atomic_uint open;
    atomic_uint sleepers;
    atomic_bool ending;
    _Alignas(64) atomic_size_t next;       /* the next index to take */
    _Alignas(64) atomic_uint inside;
    size_t count;
    psg_task task;
    void *argument;
    unsigned workers;
    struct worker {
        pthread_t thread;
        psg_pool *pool;
        unsigned slot;
    } worker[PSG_MAX_THREADS];
};

static const int spins_before_sleep = 4000;   /* some 50 microseconds: longer than the gap between two layers */
static const int spins_before_yield = 20000;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void take_indices(psg_pool *pool, unsigned slot) {
    size_t count = pool->count;
    for (;;) {
        size_t index = atomic_fetch_add(&pool->next, 1);
        if (index >= count) return;
        pool->task(pool->argument, index, slot);
    }
}

static void join_loop(psg_pool *pool, unsigned slot) {
    atomic_fetch_add(&pool->inside, 1);
    if (atomic_load(&pool->open)) take_indices(pool, slot);
    atomic_fetch_sub(&pool->inside, 1);
}

static void sleep_until_change(psg_pool *pool, unsigned seen) {
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->generation) == seen) {
        syscall(SYS_futex, &pool->generation, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
}

static unsigned wait_for_change(psg_pool *pool, unsigned seen) {
    for (int spin = 0; spin < spins_before_sleep; spin++) {
        unsigned now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen) return now;
        relax();
    }
    sleep_until_change(pool, seen);
    return atomic_load(&pool->generation);
}

static void *worker_main(void *argument) {
    struct worker *self = argument;
    psg_pool *pool = self->pool;
    psg_blas_thread_single();
    unsigned seen = 0;
    while (!atomic_load(&pool->ending)) {
        seen = wait_for_change(pool, seen);
        join_loop(pool, self->slot);
    }
    return NULL;
}

static void announce(psg_pool *pool) {
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->sleepers)) {
        syscall(SYS_futex, &pool->generation, FUTEX_WAKE_PRIVATE, PSG_MAX_THREADS, NULL, NULL, 0);
    }
}

static void wait_until_empty(psg_pool *pool) {
    for (int spin = 0; atomic_load_explicit(&pool->inside, memory_order_acquire); spin++) {
        if (spin > spins_before_yield) sched_yield();
        else relax();
    }
    (void)atomic_load(&pool->inside);
}

void psg_pool_run(psg_pool *pool, size_t count, psg_task task, void *argument) {
    pool->count = count;
    pool->task = task;
    pool->argument = argument;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->open, 1);
    announce(pool);
    take_indices(pool, 0);
    atomic_store(&pool->open, 0);
    wait_until_empty(pool);
}

void psg_pool_join(psg_pool *pool) {
    atomic_store(&pool->ending, true);
    announce(pool);
    for (unsigned k = 0; k < pool->workers; k++) pthread_join(pool->worker[k].thread, NULL);
}

void psg_pool_free(psg_context *context, psg_pool *pool) { psg_free(context, pool); }

psg_status psg_pool_create(psg_context *context, unsigned threads, psg_pool **pool) {
    psg_pool *made = psg_alloc_zeroed(context, sizeof *made);
    if (!made) return PSG_ERR_MEMORY;
    for (unsigned k = 0; k + 1 < threads; k++) {
        made->worker[k] = (struct worker){ .pool = made, .slot = k + 1 };
        if (pthread_create(&made->worker[k].thread, NULL, worker_main, &made->worker[k])) {
            psg_pool_join(made);
            psg_pool_free(context, made);
            return PSG_ERR_SYSTEM;
        }
        made->workers++;
    }
    *pool = made;
    return PSG_OK;
}
