#include "base/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/blas_threads.h"
#include "base/context.h"
#include "base/floats.h"
#include "base/memory.h"
#include "base/relax.h"

/* A loop is open from its publication until the caller has found no index left.  A worker enters by raising `inside`
 * and then looking whether the loop is still open; the caller closes it and then waits until nobody is inside.  With
 * sequentially consistent order one of the two sees the other, so the fields of a loop never change under a worker.
 *
 * A worker is awake from the ticket that summoned it until it has spun in vain.  At most `helpers` are awake, one for
 * each processor but the caller's: what else could run would only take a processor from those that have work. */
struct psg_pool {
    _Alignas(64) atomic_uint generation;   /* raised by every loop and by the end */
    atomic_uint open;
    atomic_uint awake;                     /* summoned workers included */
    atomic_uint tickets;                   /* futex: summons not yet taken, one a sleeping worker */
    atomic_bool ending;
    _Alignas(64) atomic_size_t next;       /* the next index to take */
    _Alignas(64) atomic_uint inside;       /* futex of the caller */
    atomic_bool caller_sleeps;
    size_t count;
    psg_task task;
    void *argument;
    unsigned workers, helpers;
    struct worker {
        pthread_t thread;
        psg_pool *pool;
        unsigned slot;
    } worker[PSG_MAX_THREADS];
};

static const int spins_for_work = 4000;   /* some 50 microseconds: longer than the gap between two layers */
static const int spins_for_end = 20000;

static void futex_wait(atomic_uint *word, unsigned seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, unsigned sleepers) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, sleepers, NULL, NULL, 0);
}

/* ---- a worker ---- */

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
    if (atomic_fetch_sub(&pool->inside, 1) == 1 && atomic_load(&pool->caller_sleeps)) futex_wake(&pool->inside, 1);
}

static bool take_ticket(psg_pool *pool) {
    unsigned tickets = atomic_load(&pool->tickets);
    while (tickets) {
        if (atomic_compare_exchange_weak(&pool->tickets, &tickets, tickets - 1)) return true;
    }
    return false;
}

static void wait_for_ticket(psg_pool *pool) {
    while (!take_ticket(pool)) futex_wait(&pool->tickets, 0);
}

static bool stay_awake(psg_pool *pool) {
    unsigned awake = atomic_load(&pool->awake);
    while (awake < pool->helpers) {
        if (atomic_compare_exchange_weak(&pool->awake, &awake, awake + 1)) return true;
    }
    return false;
}

/* A loop that is published meanwhile either counts this worker asleep, or is seen here. */
static void sleep_until_summoned(psg_pool *pool, unsigned seen) {
    atomic_fetch_sub(&pool->awake, 1);
    if (atomic_load(&pool->generation) != seen && stay_awake(pool)) return;
    wait_for_ticket(pool);
}

static void wait_for_change(psg_pool *pool, unsigned seen) {
    for (int spin = 0; spin < spins_for_work; spin++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
        psg_relax();
    }
    sleep_until_summoned(pool, seen);
}

static void *worker_main(void *argument) {
    struct worker *self = argument;
    psg_pool *pool = self->pool;
    psg_floats_set(FE_DFL_ENV);   /* a thread begins with its maker's */
    psg_blas_thread_single();
    wait_for_ticket(pool);
    while (!atomic_load(&pool->ending)) {
        unsigned seen = atomic_load(&pool->generation);
        join_loop(pool, self->slot);
        wait_for_change(pool, seen);
    }
    return NULL;
}

/* ---- the caller ---- */

static void hand_out_tickets(psg_pool *pool, unsigned tickets) {
    atomic_fetch_add(&pool->tickets, tickets);
    futex_wake(&pool->tickets, tickets);
}

/* Wakes no more workers than there are tasks beside the caller's. */
static void announce(psg_pool *pool) {
    unsigned wanted = pool->count <= pool->helpers ? (unsigned)pool->count - 1 : pool->helpers;
    atomic_fetch_add(&pool->generation, 1);
    unsigned awake = atomic_load(&pool->awake);
    while (awake < wanted) {
        if (!atomic_compare_exchange_weak(&pool->awake, &awake, wanted)) continue;
        hand_out_tickets(pool, wanted - awake);
        return;
    }
}

static void wait_until_empty(psg_pool *pool) {
    for (int spin = 0; spin < spins_for_end; spin++) {
        if (!atomic_load(&pool->inside)) return;
        psg_relax();
    }
    atomic_store(&pool->caller_sleeps, true);
    for (unsigned inside; (inside = atomic_load(&pool->inside));) futex_wait(&pool->inside, inside);
    atomic_store(&pool->caller_sleeps, false);
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
    atomic_fetch_add(&pool->generation, 1);
    hand_out_tickets(pool, pool->workers);
    for (unsigned k = 0; k < pool->workers; k++) pthread_join(pool->worker[k].thread, NULL);
}

void psg_pool_free(psg_context *context, psg_pool *pool) { psg_free(context, pool); }

psg_status psg_pool_create(psg_context *context, unsigned threads, unsigned processors, psg_pool **pool) {
    psg_pool *made = psg_alloc_zeroed(context, sizeof *made);
    if (!made) return PSG_ERR_MEMORY;
    made->helpers = (threads < processors ? threads : processors) - 1;
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
