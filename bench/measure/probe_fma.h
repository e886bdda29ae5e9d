/* The peak of an instruction set: multiply-adds whose operands stay in registers. */
#ifndef BENCH_PROBE_FMA_H
#define BENCH_PROBE_FMA_H

#include <stddef.h>
#include <stdint.h>

#include <psg/tensor.h>

typedef struct probe_fma {
    uint64_t (*run)(unsigned char *share, size_t bytes, size_t rounds);     /* a probe's work; touches no memory */
    double flops;                                                           /* of a round */
} probe_fma;

/* Of what psg_context_isa calls "avx512" and "avx2", which the processor must have; of any other name, the vectors that
 * every processor of the architecture has. */
probe_fma probe_fma_of(const char *isa, psg_dtype dtype);

#endif
