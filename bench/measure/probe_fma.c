#include "probe_fma.h"

#include <string.h>

/* Chains of x = a x + b: enough to hide a latency of 4 cycles at 2 operations a cycle, and that of a product and a sum
 * where they are apart; with a and b they fill 16 registers.  The Makefile lets a x + b be one operation. */
#define CHAINS 14

#define CHAIN_LOOP(name, isa, real, vector_bytes)                                                                     \
    isa static uint64_t name(unsigned char *share, size_t bytes, size_t rounds) {                                     \
        typedef real vec __attribute__((vector_size(vector_bytes)));                                                  \
        vec x[CHAINS], a = (vec){ 0 } + (real)0.5, b = (vec){ 0 } + (real)0.25;                                       \
        (void)share;                                                                                                  \
        (void)bytes;                                                                                                  \
        for (int i = 0; i < CHAINS; i++) x[i] = b + (real)i;                                                          \
        for (size_t r = 0; r < rounds; r++) {                                                                         \
            _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++) x[i] = a * x[i] + b;                            \
        }                                                                                                             \
        for (int i = 1; i < CHAINS; i++) x[0] += x[i];                                                                \
        return (uint64_t)x[0][0];                                                                                     \
    }

#ifdef __x86_64__
CHAIN_LOOP(avx512_f32, __attribute__((target("avx512f"))), float, 64)
CHAIN_LOOP(avx512_f64, __attribute__((target("avx512f"))), double, 64)
CHAIN_LOOP(avx2_f32, __attribute__((target("avx2,fma"))), float, 32)
CHAIN_LOOP(avx2_f64, __attribute__((target("avx2,fma"))), double, 32)
#endif
CHAIN_LOOP(baseline_f32, , float, 16)
CHAIN_LOOP(baseline_f64, , double, 16)

probe_fma probe_fma_of(const char *isa, psg_dtype dtype) {
    const double vector = 2.0 * CHAINS / (double)psg_dtype_size(dtype);     /* flops of a round a byte of the vector */
#ifdef __x86_64__
    if (strcmp(isa, "avx512") == 0) return (probe_fma){ dtype == PSG_F64 ? avx512_f64 : avx512_f32, 64 * vector };
    if (strcmp(isa, "avx2") == 0) return (probe_fma){ dtype == PSG_F64 ? avx2_f64 : avx2_f32, 32 * vector };
#else
    (void)isa;
#endif
    return (probe_fma){ dtype == PSG_F64 ? baseline_f64 : baseline_f32, 16 * vector };
}
