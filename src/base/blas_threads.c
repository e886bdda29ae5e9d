#include "base/blas_threads.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

#include "base/fork_mark.h"

/* Weak: another BLAS behind the same soname has none of these, and libgomp is there only with the OpenMP build. */
extern void openblas_set_num_threads(int count) __attribute__((weak));
extern int openblas_get_num_threads(void) __attribute__((weak));
extern int openblas_get_parallel(void) __attribute__((weak));
extern void *blas_memory_alloc(int position) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));
extern int omp_get_max_threads(void) __attribute__((weak));
extern void omp_set_num_threads(int count) __attribute__((weak));

static const int openmp_build = 2;

/* The process-wide state of psg/base.h: how many brackets are open, and the host's value; for how many calls the
 * contexts have reserved buffers, and how many buffers were mapped for them. */
static struct {
    pthread_mutex_t lock;
    unsigned open;
    int host_threads;
    unsigned reserved, mapped;
} bracket = { PTHREAD_MUTEX_INITIALIZER, 0, 0, 0, 0 };

/* Which process it belongs to. */
static psg_fork_mark owner;
static pthread_once_t owned = PTHREAD_ONCE_INIT;
static void own(void) { psg_fork_mark_set(&owner); }

static int is_openmp(void) { return openblas_get_parallel && openblas_get_parallel() == openmp_build; }

/* In the OpenMP build the count is each thread's own; openblas_set_num_threads there frees the buffers of calls that
 * are running in other threads. */
static int is_adjustable(void) { return openblas_set_num_threads && openblas_get_num_threads && !is_openmp(); }

/* A child inherits what its parent's threads held at the fork, but not the threads; with one thread, it starts anew. */
static void forget_parent(void) {
    pthread_once(&owned, own);
    if (!psg_has_forked(&owner)) return;
    own();
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

/* ---- buffers ---- */

/* Half of OpenBLAS's table: what finds none free there gets a warning on stderr. */
enum { MOST_BUFFERS = 64 };

/* BUFFER_SIZE of OpenBLAS's x86_64 and arm64. */
static const size_t buffer_bytes = (size_t)128 << 20;

/* One by one, as OpenBLAS will: a kernel that does not overcommit much may refuse them in one piece. */
static bool can_be_mapped(unsigned buffers) {
    void *piece[MOST_BUFFERS];
    unsigned count = 0;
    bool fits = true;
    while (fits && count < buffers) {
        piece[count] = mmap(NULL, buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        fits = piece[count] != MAP_FAILED;
        count += fits;
    }
    while (count) munmap(piece[--count], buffer_bytes);
    return fits;
}

/* Taken together, they are as many. */
static void map(unsigned buffers) {
    void *buffer[MOST_BUFFERS];
    for (unsigned k = 0; k < buffers; k++) buffer[k] = blas_memory_alloc(0);
    for (unsigned k = 0; k < buffers; k++) blas_memory_free(buffer[k]);
}

/* OpenBLAS's own threads take a buffer each when they begin to run, which may be later than this; 0.3.29, which
 * keeps a table of them, also the thread that calls. */
static unsigned own_threads(void) {
    int count = !is_adjustable() ? 0 : bracket.open ? bracket.host_threads : openblas_get_num_threads();
    return count > 0 ? (unsigned)count : 0;
}

/* All are asked for, not those that are missing: the mapped ones may be in use at the moment. */
static bool reserve(unsigned reserved) {
    const unsigned all = reserved + own_threads(), wanted = all < MOST_BUFFERS ? all : MOST_BUFFERS;
    if (wanted > bracket.mapped) {
        if (!can_be_mapped(wanted)) return false;
        map(wanted);
        bracket.mapped = wanted;
    }
    bracket.reserved = reserved;
    return true;
}

bool psg_blas_buffers_reserve(unsigned calls) {
    if (!blas_memory_alloc || !blas_memory_free) return true;
    forget_parent();
    pthread_mutex_lock(&bracket.lock);
    bool reserved = reserve(bracket.reserved + calls);
    pthread_mutex_unlock(&bracket.lock);
    return reserved;
}

void psg_blas_buffers_release(unsigned calls) {
    if (!blas_memory_alloc || !blas_memory_free) return;
    forget_parent();
    pthread_mutex_lock(&bracket.lock);
    bracket.reserved -= calls;
    pthread_mutex_unlock(&bracket.lock);
}
