#include "base/blas_threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

/* Weak: another BLAS behind the same soname has none of these, and libgomp is there only with the OpenMP build. */
extern void openblas_set_num_threads(int count) __attribute__((weak));
extern int openblas_get_num_threads(void) __attribute__((weak));
extern int openblas_get_parallel(void) __attribute__((weak));
extern int omp_get_max_threads(void) __attribute__((weak));
extern void omp_set_num_threads(int count) __attribute__((weak));

static const int openmp_build = 2;

/* The process-wide state of psg/base.h: how many brackets are open, and the host's value. */
static struct {
    pthread_mutex_t lock;
    unsigned open;
    int host_threads;
} bracket = { PTHREAD_MUTEX_INITIALIZER, 0, 0 };

/* Which process it belongs to; 0: none yet. */
static atomic_int owner;

static int is_openmp(void) { return openblas_get_parallel && openblas_get_parallel() == openmp_build; }

/* In the OpenMP build the count is each thread's own; openblas_set_num_threads there frees the buffers of calls that
 * are running in other threads. */
static int is_adjustable(void) { return openblas_set_num_threads && openblas_get_num_threads && !is_openmp(); }

/* A child inherits what its parent's threads held at the fork, but not the threads; with one thread, it starts anew. */
static void forget_parent(void) {
    int now = (int)getpid(), before = atomic_exchange(&owner, now);
    if (!before || before == now) return;
    int inherited = bracket.open ? bracket.host_threads : 0;
    pthread_mutex_init(&bracket.lock, NULL);
    bracket.open = 0;
    if (inherited > 1) openblas_set_num_threads(inherited);
}

void psg_blas_threads_enter(void) {
    if (!is_adjustable()) return;
    forget_parent();
    pthread_mutex_lock(&bracket.lock);
    if (bracket.open++ == 0) {
        bracket.host_threads = openblas_get_num_threads();
        if (bracket.host_threads != 1) openblas_set_num_threads(1);
    }
    pthread_mutex_unlock(&bracket.lock);
}

void psg_blas_threads_leave(void) {
    if (!is_adjustable()) return;
    pthread_mutex_lock(&bracket.lock);
    if (--bracket.open == 0 && bracket.host_threads != 1) openblas_set_num_threads(bracket.host_threads);
    pthread_mutex_unlock(&bracket.lock);
}

static int asks_openmp(void) { return is_openmp() && omp_get_max_threads && omp_set_num_threads; }

int psg_blas_thread_single(void) {
    if (!asks_openmp()) return 0;
    int saved = omp_get_max_threads();
    if (saved != 1) omp_set_num_threads(1);
    return saved;
}

void psg_blas_thread_restore(int saved) {
    if (saved > 1 && asks_openmp()) omp_set_num_threads(saved);
}
