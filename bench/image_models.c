#include "image_models.h"

/* ---- mlp: 784 - 256 - 10, layer normalization in the hidden layer ---- */

static const model_param mlp_params[] = {
    { "weight_1", MODEL_UNIFORM, 2, { 256, 784 } }, { "bias_1", MODEL_ZEROS, 1, { 256 } },
    { "scale", MODEL_ONES, 1, { 256 } },            { "shift", MODEL_ZEROS, 1, { 256 } },
    { "weight_2", MODEL_UNIFORM, 2, { 10, 256 } },  { "bias_2", MODEL_ZEROS, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var mlp_scores(psg_tape *tape, const psg_var *w, psg_var images) {
    static const int64_t hidden_shape[] = { 256 };
    psg_var hidden = psg_linear(tape, images, w[0], w[1]);
    psg_var normal = psg_layer_norm(tape, hidden, 1, hidden_shape, w[2], w[3], 1e-5);
    return psg_linear(tape, psg_relu(tape, normal), w[4], w[5]);
}

const image_model image_models[] = {
    { { "mlp", "784 - 256 - 10, layer_norm, relu", mlp_params, mlp_scores }, { 10, 1024, 0.5, 0.5, 0.9 } },
};

const size_t image_model_count = sizeof image_models / sizeof *image_models;
