/* Optimizer steps.  Plain loops: the compiler vectorises them, and they wait for memory. */
#include "kernels.h"
#include "vector.h"

static void plain_step(size_t n, real lr, real decay, real *restrict w, const real *restrict g) {
    for (size_t i = 0; i < n; i++) w[i] -= lr * (g[i] + decay * w[i]);
}

void PSG_KERNEL(sgd)(size_t n, const psg_sgd_step *step, void *w_, const void *g_, void *v_) {
    real *restrict w = w_, *restrict v = v_;
    const real *restrict g = g_;
    const real lr = (real)step->lr, momentum = (real)step->momentum, keep = (real)step->keep;
    const real decay = (real)step->weight_decay;
    if (!v) {
        plain_step(n, lr, decay, w, g);
        return;
    }
    const bool nesterov = step->nesterov;
    for (size_t i = 0; i < n; i++) {
        real d = g[i] + decay * w[i];
        v[i] = momentum * v[i] + keep * d;
        w[i] -= lr * (nesterov ? d + momentum * v[i] : v[i]);
    }
}

void PSG_KERNEL(adam)(size_t n, const psg_adam_step *step, void *w_, const void *g_, void *m_, void *v_) {
    real *restrict w = w_, *restrict m = m_, *restrict v = v_;
    const real *restrict g = g_;
    const real into_m = (real)(1 - step->beta1), beta2 = (real)step->beta2, into_v = (real)(1 - step->beta2);
    const real eps = (real)step->eps, l2 = (real)step->l2, shrink = (real)step->shrink;
    const real step_size = (real)step->step_size, root_scale = (real)step->root_scale;
    for (size_t i = 0; i < n; i++) {
        real d = g[i] + l2 * w[i];
        m[i] += into_m * (d - m[i]);
        v[i] = beta2 * v[i] + into_v * (d * d);
        real root = (real)__builtin_sqrt(v[i]);
        w[i] = shrink * w[i] - step_size * m[i] / (root * root_scale + eps);
    }
}
