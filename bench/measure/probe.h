/* What the machine can do: the rates behind the limits of the benchmark. */
#ifndef BENCH_PROBE_H
#define BENCH_PROBE_H

#include <stddef.h>

#include <psg/tensor.h>

typedef struct probe_rates {
    double fma_gflops;          /* multiply-adds in registers, on all threads at once */
    double copy_gbps;           /* bytes read plus bytes written, source and destination filling the working set */
    double write_gbps, read_gbps;
    double clear_gbps;          /* writing zeros, which some memory systems move faster than other bytes */
} probe_rates;

typedef struct probe probe;

/* isa: as psg_context_isa names it.  Takes a buffer only as large as the largest working set asked for. */
probe *probe_create(unsigned threads, const char *isa);
void probe_destroy(probe *p);

/* The best of several trials, each on all threads, in memory touched before.  A working set above 512 MiB counts as
 * 512 MiB.  Writing and copying are the better of ordinary and non-temporal stores. */
probe_rates probe_measure(probe *p, psg_dtype dtype, size_t working_set);

/* The first of these rates alone. */
double probe_fma_gflops(probe *p, psg_dtype dtype);

/* One single-threaded OpenBLAS product of 768^3 a thread, all at once.  Makes OpenBLAS single-threaded for good. */
double probe_openblas_gflops(probe *p, psg_dtype dtype);

#endif
