/* Models as data: the parameters with their first values, and the ops from an input to scores. */
#ifndef BENCH_MODEL_H
#define BENCH_MODEL_H

#include <psg/psg.h>

enum { MODEL_MAX_PARAMS = 32 };

/* First values.  Uniform: in +-1/sqrt(elements of a row), what PyTorch gives linear and convolution layers. */
typedef enum model_init { MODEL_ZEROS = 0, MODEL_ONES, MODEL_UNIFORM, MODEL_SMALL } model_init;

typedef struct model_param {
    const char *name;
    model_init init;            /* MODEL_SMALL: uniform in +-0.02 */
    int rank;
    int64_t shape[4];
} model_param;

/* w holds the parameters in the order of param.  A table of parameters ends with a name NULL. */
typedef struct model_kind {
    const char *name, *summary;
    const model_param *param;
    psg_var (*scores)(psg_tape *tape, const psg_var *w, psg_var input);
} model_kind;

typedef struct model {
    const model_kind *kind;
    int count;                                  /* parameters */
    int64_t size;                               /* elements of all of them */
    psg_tensor value[MODEL_MAX_PARAMS];         /* the model's own memory, in one piece from value[0].data */
    psg_param *param[MODEL_MAX_PARAMS];
} model;

int model_param_count(const model_kind *kind);

/* A zeroed tensor for each parameter, all in one piece of memory from the first one's data; PSG_ERR_MEMORY. */
psg_status model_tensors(const model_kind *kind, psg_dtype dtype, psg_tensor *tensors);
void model_tensors_free(psg_tensor *tensors);

/* First values, f32 or f64. */
void model_initialize(const model_kind *kind, uint64_t seed, psg_tensor *tensors);

/* The seed of the first values may be public: they depend on no data.  On an error model_destroy is still due. */
psg_status model_create(psg_context *context, const model_kind *kind, psg_dtype dtype, uint64_t seed, model *m);
void model_destroy(model *m);

/* Records the model. */
psg_var model_scores(const model *m, psg_tape *tape, psg_var input);

/* After backward: the per-sample gradients, and pointers to them as the questions of psg/gradient.h take them. */
typedef struct model_gradients {
    psg_gradient gradient[MODEL_MAX_PARAMS];
    const psg_gradient *list[MODEL_MAX_PARAMS];
} model_gradients;
psg_status model_gradients_of(const model *m, const psg_tape *tape, model_gradients *gradients);

#endif
