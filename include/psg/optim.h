/* psg/optim.h: optimizers.  They update the caller's arrays in place from gradients of the caller's.
 * Messages are the context's.  All tensors contiguous; values and gradients of one real type and count.  State is the
 * optimizer's, in double for f64 values and float for f32, and so is the
 * arithmetic: an lr too small for the type is 0. */
#ifndef PSG_OPTIM_H
#define PSG_OPTIM_H

#include "psg/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A rule of updates, views of the values that it updates, and its state. */
typedef struct psg_optimizer psg_optimizer;

/* Options are filled from their INIT macros; a zeroed struct, whose lr is 0, is refused, and so is Adam's with nothing
 * but lr, which would divide by 0. */

/* v = momentum * v + (1 - dampening) * (g + weight_decay * w), v = g at the first step;
 * w -= lr * v, or lr * (g + momentum * v) with nesterov.  torch.optim.SGD. */
typedef struct psg_sgd_options {
    double lr;
    double momentum, dampening, weight_decay;
    int nesterov;
    uint64_t reserved[4];
} psg_sgd_options;
#define PSG_SGD_OPTIONS_INIT { 1e-3, 0.0, 0.0, 0.0, 0, { 0, 0, 0, 0 } }

/* torch.optim.Adam; decoupled != 0: AdamW.  Gradients of any finite magnitude: the root of the second moment is kept
 * (PyTorch's values stand still once a square has overflowed). */
typedef struct psg_adam_options {
    double lr, beta1, beta2, eps, weight_decay;
    int decoupled;
    uint64_t reserved[4];
} psg_adam_options;
#define PSG_ADAM_OPTIONS_INIT { 1e-3, 0.9, 0.999, 1e-8, 0.0, 0, { 0, 0, 0, 0 } }

/* An optimizer of these values, which are kept as views of the caller's memory, or of a set's or a file's of this
 * context, which is held.  options NULL: the defaults above. */
PSG_API psg_status psg_sgd_create(psg_context *context, const psg_sgd_options *options, const psg_tensor *values,
                                  size_t count, psg_optimizer **optimizer);
PSG_API psg_status psg_adam_create(psg_context *context, const psg_adam_options *options, const psg_tensor *values,
                                   size_t count, psg_optimizer **optimizer);
/* The values are the caller's and stay.  NULL is none. */
PSG_API void psg_optimizer_destroy(psg_optimizer *optimizer);

/* The rate of the next steps, finite and at least 0: a schedule sets it before each. */
PSG_API psg_status psg_optimizer_set_lr(psg_optimizer *optimizer, double lr);
/* The rate of the next step. */
PSG_API double psg_optimizer_lr(const psg_optimizer *optimizer);

/* One step; gradients in the order of values. */
PSG_API psg_status psg_optimizer_step(psg_optimizer *optimizer, const psg_tensor *gradients, size_t count);

/* ---- state: what the next step depends on beside values, gradients, options and lr ---- */

PSG_API uint64_t psg_optimizer_steps(const psg_optimizer *optimizer);          /* made so far */
/* How many arrays each value has: SGD with momentum one (momentum_buffer), without none; Adam two (exp_avg and
 * exp_avg_sq_root, the root of PyTorch's exp_avg_sq). */
PSG_API size_t psg_optimizer_state_count(const psg_optimizer *optimizer);
/* Array `index` of value `value`: its name, and a view of the optimizer's own memory in the value's type and shape,
 * zero before the first step. */
PSG_API psg_status psg_optimizer_state(const psg_optimizer *optimizer, size_t value, size_t index, psg_named *state);
/* The state of an optimizer that has made `steps` steps: states[value * state_count + index], each of its value's type
 * and number of elements, copied.  On an error nothing changes. */
PSG_API psg_status psg_optimizer_set_state(psg_optimizer *optimizer, uint64_t steps, const psg_tensor *states,
                                           size_t count);

#ifdef __cplusplus
}
#endif
#endif
