/* psg/params.h: a set of parameters that owns their memory, in one piece.
 *
 *     psg_params *params;
 *     psg_params_create(context, PSG_F32, &params);
 *     psg_param *weight = psg_params_add(params, "fc.weight", psg_init_linear(), PSG_SHAPE(10, 784));
 *     psg_param *bias = psg_params_add(params, "fc.bias", psg_init_constant(0), PSG_SHAPE(10));
 *     if (psg_params_initialize(params, 1)) puts(psg_context_message(context));
 *
 * Then psg_use(tape, weight) as for any other parameter, and the set as a whole for what takes arrays of parameters:
 *
 *     psg_param_list all = psg_params_trainable(params);
 *     psg_dp_create(context, generator, &options, all.counts, all.count, &dp);
 *     psg_sgd_create(context, &step, all.values, all.count, &sgd);
 *     ... psg_backward ...
 *     const psg_gradient *const *gradients;
 *     psg_params_gradients(params, tape, &gradients);
 *     psg_dp_accumulate(dp, &batch, gradients, all.count, NULL);
 *     psg_safetensors_write(context, "model.safetensors", all.named, all.count, NULL, 0);
 *
 * Messages are the context's. */
#ifndef PSG_PARAMS_H
#define PSG_PARAMS_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- first values ----
 * With fan_in the elements of a row, the product of shape[1:], and fan_out shape[0] times the product of shape[2:]: of
 * a weight (O, I, *K), the inputs of an output and the outputs of an input.  A shape of rank 0 or 1 has 1 and its
 * size. */

/* How first values are drawn. */
typedef enum psg_init_kind {
    PSG_INIT_CONSTANT = 0,  /* value */
    PSG_INIT_UNIFORM,       /* U(-value, value) */
    PSG_INIT_NORMAL,        /* N(0, value^2) */
    PSG_INIT_LINEAR,        /* U(-b, b), b = 1 / sqrt(fan_in): the weights of torch.nn.Linear and its convolutions */
    PSG_INIT_XAVIER,        /* U(-b, b), b = sqrt(6 / (fan_in + fan_out)): Glorot and Bengio (2010) */
    PSG_INIT_KAIMING        /* N(0, 2 / fan_in): He, Zhang, Ren and Sun (2015), for layers before a ReLU */
} psg_init_kind;

/* The law of the first values of one parameter. */
typedef struct psg_init {
    psg_init_kind kind;
    double value;           /* of the first three: finite, and not negative but for a constant */
} psg_init;

/* The laws by name, as psg_params_add takes them. */
static inline psg_init psg_init_constant(double value) { psg_init i = { PSG_INIT_CONSTANT, value }; return i; }
static inline psg_init psg_init_uniform(double bound) { psg_init i = { PSG_INIT_UNIFORM, bound }; return i; }
static inline psg_init psg_init_normal(double deviation) { psg_init i = { PSG_INIT_NORMAL, deviation }; return i; }
static inline psg_init psg_init_linear(void) { psg_init i = { PSG_INIT_LINEAR, 0.0 }; return i; }
static inline psg_init psg_init_xavier(void) { psg_init i = { PSG_INIT_XAVIER, 0.0 }; return i; }
static inline psg_init psg_init_kaiming(void) { psg_init i = { PSG_INIT_KAIMING, 0.0 }; return i; }

/* ---- the set ---- */

/* Parameters with their memory. */
typedef struct psg_params psg_params;

/* An empty set of parameters of one real type. */
PSG_API psg_status psg_params_create(psg_context *context, psg_dtype dtype, psg_params **params);
/* With its parameters and their memory, which passes that use them, and parameters and optimizers of this context over
 * it, keep until they end.  NULL is none. */
PSG_API void psg_params_destroy(psg_params *params);

/* rank and shape of a parameter, for psg_params_add in C: PSG_SHAPE(10, 784). */
#define PSG_SHAPE(...)                                                                                                 \
    (int)(sizeof((const int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]){ __VA_ARGS__ }

/* One more parameter (rank 0 to PSG_MAX_RANK - 1), trainable, the set's own: psg_param_destroy is not for it.  name is
 * copied; none may be there twice.  Its memory comes with psg_params_initialize, after which no more can be added.
 * Errors are sticky: NULL, also for all that follow, and psg_params_initialize returns the first one. */
PSG_API psg_param *psg_params_add(psg_params *params, const char *name, psg_init init, int rank, const int64_t *shape);

/* Takes the memory, if it is not there yet, and draws the first values: those of a parameter from ChaCha20 under the
 * seed and its name, so that they do not depend on the others; f32 ones are f64 ones, rounded.  The seed may be public:
 * first values depend on no data.  On an error nothing changes. */
PSG_API psg_status psg_params_initialize(psg_params *params, uint64_t seed);

/* The parameter of that name; NULL where there is none. */
PSG_API psg_param *psg_params_find(const psg_params *params, const char *name);
/* All elements of all parameters, one after the other in the order they were added: (elements), contiguous.  Of rank
 * -1, which every function refuses, before psg_params_initialize. */
PSG_API psg_tensor psg_params_flat(const psg_params *params);

/* Parameters in the order they were added, as other functions take them; arrays of count, the set's. */
typedef struct psg_param_list {
    size_t count;
    psg_param *const *params;
    const psg_tensor *values;   /* psg_sgd_create, psg_adam_create */
    const psg_named *named;     /* psg_weights_load, psg_safetensors_write, psg_checkpoint */
    const int64_t *counts;      /* elements of each: psg_dp_create */
} psg_param_list;

/* All parameters, and those that are trainable now; valid until the function is called again.  Before
 * psg_params_initialize count is 0. */
PSG_API psg_param_list psg_params_all(psg_params *params);
PSG_API psg_param_list psg_params_trainable(psg_params *params);

/* After psg_backward: the per-sample gradients of the trainable parameters, in the order of psg_params_trainable, as
 * the questions of psg/gradient.h and psg_dp_accumulate take them, as many as psg_params_trainable counts now (and NULL
 * for as many more as are frozen); the set's, until the next call.  A psg_dp is for the parameters it was created with:
 * one that is frozen later needs another.  Errors are those of psg_gradient_of. */
PSG_API psg_status psg_params_gradients(psg_params *params, const psg_tape *tape,
                                        const psg_gradient *const **gradients);

#ifdef __cplusplus
}
#endif
#endif
