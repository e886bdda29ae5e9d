/* OpenBLAS's thread count: 1 while any context computes.  It belongs to the process, in the OpenMP build to each
 * thread. */
#ifndef PSG_BASE_BLAS_THREADS_H
#define PSG_BASE_BLAS_THREADS_H

/* The first to enter saves the host's value and sets 1; the last to leave restores it.  In the OpenMP build nothing. */
void psg_blas_threads_enter(void);
void psg_blas_threads_leave(void);

/* For a thread that will call OpenBLAS inside the bracket: makes its own calls single-threaded and returns what
 * psg_blas_thread_restore needs.  Matters in the OpenMP build alone, which asks libgomp in the calling thread. */
int psg_blas_thread_single(void);
void psg_blas_thread_restore(int saved);

#endif
