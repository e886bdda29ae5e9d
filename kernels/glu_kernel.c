/* glu: a sigmoid(b). */
#include "kernels.h"
#include "logistic.h"

void PSG_KERNEL(glu)(size_t n, const void *a_, const void *b_, void *y_) {
    const real *a = a_, *b = b_;
    real *y = y_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(y + i, vec_load(a + i) * logistic(vec_load(b + i)));
    if (i < n) vec_store_part(y + i, vec_load_part(a + i, n - i) * logistic(vec_load_part(b + i, n - i)), n - i);
}

void PSG_KERNEL(glu_backward)(size_t n, const void *a_, const void *b_, const void *g_, void *ga_, void *gb_) {
    const real *a = a_, *b = b_, *g = g_;
    real *ga = ga_, *gb = gb_;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec gate = vec_load(b + i), gy = vec_load(g + i);
        vec_store(ga + i, gy * logistic(gate));
        vec_store(gb + i, gy * (vec_load(a + i) * logistic_derivative(gate)));
    }
    if (i < n) {
        vec gate = vec_load_part(b + i, n - i), gy = vec_load_part(g + i, n - i);
        vec_store_part(ga + i, gy * logistic(gate), n - i);
        vec_store_part(gb + i, gy * (vec_load_part(a + i, n - i) * logistic_derivative(gate)), n - i);
    }
}
