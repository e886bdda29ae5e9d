/* OpenBLAS's thread count: 1 while any context computes; it belongs to the process, in the OpenMP build to each thread.
 * And its buffers, which belong to the process. */
#ifndef PSG_BASE_BLAS_THREADS_H
#define PSG_BASE_BLAS_THREADS_H

#include <stdbool.h>

/* The first to enter saves the host's value and sets 1; the last to leave restores it.  In the OpenMP build nothing. */
void psg_blas_threads_enter(void);
void psg_blas_threads_leave(void);

/* For a thread that will call OpenBLAS inside the bracket: makes its own calls single-threaded and returns what
 * psg_blas_thread_restore needs.  Matters in the OpenMP build alone, which asks libgomp in the calling thread. */
int psg_blas_thread_single(void);
void psg_blas_thread_restore(int saved);

/* OpenBLAS maps a buffer for each call that runs beside others, keeps it for later ones, and tries for ever where it
 * cannot have it.  Sees to it that there are buffers for so many calls at a time beside those that were reserved
 * before, the library's calls being 64 at a time at most.  False, and nothing is reserved: they cannot be had. */
bool psg_blas_buffers_reserve(unsigned calls);
void psg_blas_buffers_release(unsigned calls);

#endif
