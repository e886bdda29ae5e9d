/* Standard normal deviates from random words, by the Box-Muller transform.
 *
 * Noise is double whatever the real type of the gradients, so both tables hold this same kernel. */
#undef PSG_REAL_IS_F64
#define PSG_REAL_IS_F64 1

#include "kernels.h"
#include "vector.h"

#define HALF ((size_t)8)   /* of a group of 16 */

/* k 2^-53 with k the high 53 bits of the word: in [0, 1).  k = 2^32 high + low is put together from the mantissas of
 * 2^84 + 2^32 high and 2^52 + low: exact, and every instruction set has the operations. */
static inline vec uniform(vec word) {
    vec_bits high = ((vec_bits)word >> 43) & 0x1fffff, low = ((vec_bits)word >> 11) & 0xffffffff;
    vec a = (vec)(high | 0x4530000000000000), b = (vec)(low | 0x4330000000000000);
    return (a - (0x1p84 + 0x1p52) + b) * 0x1p-53;
}

static inline vec square_root(vec x) {
    for (size_t k = 0; k < LANES; k++) x[k] = __builtin_sqrt(x[k]);
    return x;
}

/* With u in (0, 1] and v in [0, 1): sqrt(-2 log u) (cos 2 pi v, sin 2 pi v).  u >= 2^-53 reaches 8.57 deviations. */
void PSG_KERNEL(gaussian)(size_t n, double *words) {
    const double two_pi = 6.283185307179586;
    for (size_t group = 0; group + 2 * HALF <= n; group += 2 * HALF) {
        for (size_t i = group; i < group + HALF; i += LANES) {
            vec radius = square_root(-2.0 * vec_log(uniform(vec_load(words + i)) + 0x1p-53));
            vec angle = two_pi * uniform(vec_load(words + i + HALF));
            vec_store(words + i, radius * vec_cos(angle));
            vec_store(words + i + HALF, radius * vec_sin(angle));
        }
    }
}
