#include "classifier.h"

#include <math.h>
#include <stdlib.h>

enum { WEIGHT_1, BIAS_1, SCALE, SHIFT, WEIGHT_2, BIAS_2 };

static const struct { const char *name; int rank; int64_t shape[2]; } layout[CLASSIFIER_PARAMS] = {
    [WEIGHT_1] = { "weight_1", 2, { CLASSIFIER_HIDDEN, CLASSIFIER_PIXELS } },
    [BIAS_1] = { "bias_1", 1, { CLASSIFIER_HIDDEN } },
    [SCALE] = { "scale", 1, { CLASSIFIER_HIDDEN } },
    [SHIFT] = { "shift", 1, { CLASSIFIER_HIDDEN } },
    [WEIGHT_2] = { "weight_2", 2, { CLASSIFIER_CLASSES, CLASSIFIER_HIDDEN } },
    [BIAS_2] = { "bias_2", 1, { CLASSIFIER_CLASSES } },
};

static int64_t elements(int k) {
    return layout[k].shape[0] * (layout[k].rank == 2 ? layout[k].shape[1] : 1);
}

int64_t classifier_size(void) {
    int64_t size = 0;
    for (int k = 0; k < CLASSIFIER_PARAMS; k++) size += elements(k);
    return size;
}

psg_status classifier_tensors(psg_tensor tensors[CLASSIFIER_PARAMS]) {
    float *memory = calloc((size_t)classifier_size(), sizeof *memory);
    if (!memory) return PSG_ERR_MEMORY;
    for (int k = 0; k < CLASSIFIER_PARAMS; memory += elements(k++)) {
        tensors[k] = psg_tensor_of(PSG_F32, memory, layout[k].rank, layout[k].shape);
    }
    return PSG_OK;
}

void classifier_tensors_free(psg_tensor tensors[CLASSIFIER_PARAMS]) {
    free(tensors[0].data);
}

/* splitmix64 (Steele, Lea and Flood, 2014), its upper 53 bits as a number in [-1, 1) */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-52 - 1.0;
}

static void initialize(classifier *model, uint64_t seed) {
    static const int weights[] = { WEIGHT_1, WEIGHT_2 };
    for (int w = 0; w < 2; w++) {
        float *weight = model->value[weights[w]].data;
        double bound = 1.0 / sqrt((double)layout[weights[w]].shape[1]);
        for (int64_t i = 0; i < elements(weights[w]); i++) weight[i] = (float)(bound * uniform(&seed));
    }
    float *scale = model->value[SCALE].data;
    for (int64_t i = 0; i < CLASSIFIER_HIDDEN; i++) scale[i] = 1.0f;
}

psg_status classifier_create(psg_context *context, uint64_t seed, classifier *model) {
    psg_status status = classifier_tensors(model->value);
    if (status == PSG_OK) initialize(model, seed);
    for (int k = 0; k < CLASSIFIER_PARAMS && status == PSG_OK; k++) {
        status = psg_param_create(context, layout[k].name, &model->value[k], &model->param[k]);
    }
    return status;
}

void classifier_destroy(classifier *model) {
    for (int k = 0; k < CLASSIFIER_PARAMS; k++) psg_param_destroy(model->param[k]);
    classifier_tensors_free(model->value);
}

psg_var classifier_scores(const classifier *model, psg_tape *tape, psg_var images) {
    static const int64_t hidden_shape[] = { CLASSIFIER_HIDDEN };
    psg_var w[CLASSIFIER_PARAMS];
    for (int k = 0; k < CLASSIFIER_PARAMS; k++) w[k] = psg_use(tape, model->param[k]);
    psg_var hidden = psg_linear(tape, images, w[WEIGHT_1], w[BIAS_1]);
    psg_var normal = psg_layer_norm(tape, hidden, 1, hidden_shape, w[SCALE], w[SHIFT], 1e-5);
    return psg_linear(tape, psg_relu(tape, normal), w[WEIGHT_2], w[BIAS_2]);
}

psg_status classifier_gradients_of(const classifier *model, const psg_tape *tape, classifier_gradients *gradients) {
    psg_status status = PSG_OK;
    for (int k = 0; k < CLASSIFIER_PARAMS && status == PSG_OK; k++) {
        status = psg_gradient_of(tape, model->param[k], &gradients->gradient[k]);
        gradients->list[k] = &gradients->gradient[k];
    }
    return status;
}
