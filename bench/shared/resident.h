/* The resident memory of this process, from /proc. */
#ifndef BENCH_RESIDENT_H
#define BENCH_RESIDENT_H

/* Forgets the peak so far.  What is resident now, in MiB; NAN where the system does not tell or cannot forget. */
double resident_restart(void);
/* The most that was resident since, in MiB; NAN where the system does not tell. */
double resident_peak(void);

#endif
