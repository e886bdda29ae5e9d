/* The range of some elements: for what squares them. */
#ifndef PSG_KERNELS_MAGNITUDE_H
#define PSG_KERNELS_MAGNITUDE_H

#include <float.h>

#include "vector.h"

/* The largest |x|; NaN is passed over. */
static inline double largest_magnitude(size_t n, const real *x) {
    vec most = vec_zero();
    for (size_t i = 0; i < n; i += LANES) {
        most = vec_max(vec_abs(vec_load_part(x + i, n - i < LANES ? n - i : LANES)), most);
    }
    double largest = 0;
    for (size_t k = 0; k < LANES; k++) largest = (double)most[k] > largest ? (double)most[k] : largest;
    return largest;
}

/* The power of two, as far as the type has it, that brings a magnitude to [1, 2); 1 for 0 and Inf. */
static inline double scale_to_one(double magnitude) {
    const int limit = PSG_REAL_IS_F64 ? 1022 : 126;
    if (!(magnitude > 0) || magnitude > DBL_MAX) return 1;
    int exponent = __builtin_ilogb(magnitude);
    return __builtin_ldexp(1, exponent > limit ? -limit : exponent < -limit ? limit : -exponent);
}

#endif
