/* How far a record moved the sum, in arithmetic that adds no doubt of its own: the difference of two doubles and its
 * square are off by 2^-112 of themselves at most, and nothing over- or underflows. */
#include <float.h>
#include <math.h>

#include "attack.h"

#if LDBL_MANT_DIG >= 113
typedef long double quad;
#else
__extension__ typedef __float128 quad;
#endif

static bool is_finite(const double *x, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(x[i])) return false;
    }
    return true;
}

attack_outcome attack_compare(const double *with, const double *without, int64_t count, double max_grad_norm) {
    if (!is_finite(with, count) || !is_finite(without, count)) return (attack_outcome){ BROKEN, INFINITY, "" };
    quad moved = 0, most = (quad)max_grad_norm * max_grad_norm;
    for (int64_t i = 0; i < count; i++) {
        quad difference = (quad)with[i] - without[i];
        moved += difference * difference;
    }
    return (attack_outcome){ moved > most ? BROKEN : HELD, sqrt((double)(moved / most)), "" };
}
