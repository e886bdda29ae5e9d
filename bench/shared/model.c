#include "model.h"

#include <math.h>
#include <stdlib.h>

static int64_t elements(const model_param *p) {
    int64_t count = 1;
    for (int d = 0; d < p->rank; d++) count *= p->shape[d];
    return count;
}

int model_param_count(const model_kind *kind) {
    int count = 0;
    while (kind->param[count].name) count++;
    return count;
}

static int64_t size_of(const model_kind *kind) {
    int64_t size = 0;
    for (const model_param *p = kind->param; p->name; p++) size += elements(p);
    return size;
}

psg_status model_tensors(const model_kind *kind, psg_dtype dtype, psg_tensor *tensors) {
    size_t size = psg_dtype_size(dtype);
    char *memory = calloc((size_t)size_of(kind), size);
    if (!memory) return PSG_ERR_MEMORY;
    for (const model_param *p = kind->param; p->name; p++) {
        *tensors++ = psg_tensor_of(dtype, memory, p->rank, p->shape);
        memory += (size_t)elements(p) * size;
    }
    return PSG_OK;
}

void model_tensors_free(psg_tensor *tensors) { free(tensors[0].data); }

/* ---- first values ---- */

/* splitmix64 (Steele, Lea and Flood, 2014), its upper 53 bits as a number in [-1, 1) */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-52 - 1.0;
}

static double first_value(const model_param *p, uint64_t *state) {
    int64_t row = elements(p) / p->shape[0];
    switch (p->init) {
    case MODEL_ONES: return 1.0;
    case MODEL_UNIFORM: return uniform(state) / sqrt((double)row);
    case MODEL_SMALL: return 0.02 * uniform(state);
    default: return 0.0;
    }
}

static void initialize(const model_param *p, uint64_t *state, const psg_tensor *value) {
    float *f32 = value->data;
    double *f64 = value->data;
    for (int64_t i = 0; i < elements(p); i++) {
        double x = first_value(p, state);
        if (value->dtype == PSG_F64) f64[i] = x;
        else f32[i] = (float)x;
    }
}

void model_initialize(const model_kind *kind, uint64_t seed, psg_tensor *tensors) {
    for (const model_param *p = kind->param; p->name; p++) initialize(p, &seed, tensors++);
}

/* ---- the model ---- */

psg_status model_create(psg_context *context, const model_kind *kind, psg_dtype dtype, uint64_t seed, model *m) {
    *m = (model){ .kind = kind, .count = model_param_count(kind), .size = size_of(kind) };
    psg_status status = model_tensors(kind, dtype, m->value);
    if (status == PSG_OK) model_initialize(kind, seed, m->value);
    for (int k = 0; k < m->count && status == PSG_OK; k++) {
        status = psg_param_create(context, kind->param[k].name, &m->value[k], &m->param[k]);
    }
    return status;
}

void model_destroy(model *m) {
    for (int k = 0; k < m->count; k++) psg_param_destroy(m->param[k]);
    model_tensors_free(m->value);
}

psg_var model_scores(const model *m, psg_tape *tape, psg_var input) {
    psg_var w[MODEL_MAX_PARAMS];
    for (int k = 0; k < m->count; k++) w[k] = psg_use(tape, m->param[k]);
    return m->kind->scores(tape, w, input);
}

psg_status model_gradients_of(const model *m, const psg_tape *tape, model_gradients *gradients) {
    psg_status status = PSG_OK;
    for (int k = 0; k < m->count && status == PSG_OK; k++) {
        status = psg_gradient_of(tape, m->param[k], &gradients->gradient[k]);
        gradients->list[k] = &gradients->gradient[k];
    }
    return status;
}
