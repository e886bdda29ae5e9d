#include "image_models.h"

#include "blocks.h"

/* ---- scattering: a linear model on fixed features (Tramer and Boneh, "Differentially private learning needs better
 * features", 2021) ---- */

static const model_param scattering_params[] = {
    { "weight", MODEL_UNIFORM, 2, { 10, 3969 } }, { "bias", MODEL_ZEROS, 1, { 10 } }, { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var scattering_scores(psg_tape *tape, const psg_var *w, psg_var features) {
    return psg_linear(tape, features, w[0], w[1]);
}

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

/* ---- cnn: 16@8x8 s2 - 32@4x4 s2 - 32 - 10, group_norm, tanh: the network of Papernot et al. (2021, "Tempered sigmoid
 * activations") without its pooling ---- */

static const model_param cnn_params[] = {
    { "conv_1.weight", MODEL_UNIFORM, 4, { 16, 1, 8, 8 } },  { "conv_1.bias", MODEL_ZEROS, 1, { 16 } },
    { "norm_1.weight", MODEL_ONES, 1, { 16 } },              { "norm_1.bias", MODEL_ZEROS, 1, { 16 } },
    { "conv_2.weight", MODEL_UNIFORM, 4, { 32, 16, 4, 4 } }, { "conv_2.bias", MODEL_ZEROS, 1, { 32 } },
    { "norm_2.weight", MODEL_ONES, 1, { 32 } },              { "norm_2.bias", MODEL_ZEROS, 1, { 32 } },
    { "fc_1.weight", MODEL_UNIFORM, 2, { 32, 1152 } },        { "fc_1.bias", MODEL_ZEROS, 1, { 32 } },
    { "fc_2.weight", MODEL_UNIFORM, 2, { 10, 32 } },         { "fc_2.bias", MODEL_ZEROS, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var cnn_scores(psg_tape *tape, const psg_var *w, psg_var images) {
    static const int64_t image_shape[] = { -1, 1, 28, 28 };
    psg_var x = psg_reshape(tape, images, 4, image_shape);
    x = psg_group_norm(tape, block_conv(tape, x, w[0], w[1], 2, 3), 4, w[2], w[3], 1e-5);
    x = psg_tanh(tape, x);
    x = psg_group_norm(tape, block_conv(tape, x, w[4], w[5], 2, 0), 4, w[6], w[7], 1e-5);
    x = psg_tanh(tape, x);
    x = psg_tanh(tape, psg_linear(tape, psg_flatten(tape, x, 1, -1), w[8], w[9]));
    return psg_linear(tape, x, w[10], w[11]);
}

/* ---- transformer: the 28 rows of an image are its tokens; one encoder layer of width 64 ---- */

static const model_param transformer_params[] = {
    { "rows.weight", MODEL_UNIFORM, 2, { 64, 28 } }, { "rows.bias", MODEL_ZEROS, 1, { 64 } },
    { "positions", MODEL_SMALL, 2, { 28, 64 } },
    BLOCK_ENCODER_PARAMS("layer_1", 64, 128),
    { "norm.weight", MODEL_ONES, 1, { 64 } },        { "norm.bias", MODEL_ZEROS, 1, { 64 } },
    { "head.weight", MODEL_UNIFORM, 2, { 10, 64 } }, { "head.bias", MODEL_ZEROS, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static const int64_t rows_shape[] = { -1, 28, 28 };

static psg_var transformer_scores(psg_tape *tape, const psg_var *w, psg_var images) {
    static const int64_t width = 64;
    static const int time[] = { 1 };
    psg_var x = psg_linear(tape, psg_reshape(tape, images, 3, rows_shape), w[0], w[1]);
    x = block_encoder(tape, w + 3, psg_add(tape, x, w[2]), width, 4);
    w += 3 + BLOCK_ENCODER_COUNT;
    x = psg_layer_norm(tape, psg_mean(tape, x, 1, time, 0), 1, &width, w[0], w[1], 1e-5);
    return psg_linear(tape, x, w[2], w[3]);
}

/* ---- lstm: reads an image row by row ---- */

static const model_param lstm_params[] = {
    { "lstm.weight_ih", MODEL_UNIFORM, 2, { 4 * 64, 28 } }, { "lstm.weight_hh", MODEL_UNIFORM, 2, { 4 * 64, 64 } },
    { "lstm.bias_ih", MODEL_ZEROS, 1, { 4 * 64 } },         { "lstm.bias_hh", MODEL_ZEROS, 1, { 4 * 64 } },
    { "head.weight", MODEL_UNIFORM, 2, { 10, 64 } },        { "head.bias", MODEL_ZEROS, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var lstm_scores(psg_tape *tape, const psg_var *w, psg_var images) {
    psg_var state = block_lstm_last(tape, psg_reshape(tape, images, 3, rows_shape), w, 64);
    return psg_linear(tape, state, w[4], w[5]);
}

/* Those of scattering but for lr are Tramer and Boneh's; lr and the average were chosen on 10,000 of the 60,000 images,
 * kept out of the training of the others, with noise as for all. */
const image_model image_models[] = {
    { { "scattering", "linear on scattering features", scattering_params, scattering_scores },
      { 40, 8192, 0.1, 24, 0.9, 0.97 }, INPUT_SCATTERING },
    { { "cnn", "conv 16 - conv 32 - 32 - 10, group_norm, tanh", cnn_params, cnn_scores },
      { 25, 2048, 0.3, 1.0, 0.9, 0.98 }, INPUT_PIXELS },
    { { "mlp", "784 - 256 - 10, layer_norm, relu", mlp_params, mlp_scores },
      { 10, 1024, 0.5, 0.5, 0.9, 0.98 }, INPUT_PIXELS },
    { { "transformer", "one encoder layer of width 64, rows as tokens", transformer_params, transformer_scores },
      { 10, 1024, 0.5, 0.5, 0.9, 0.98 }, INPUT_PIXELS },
    { { "lstm", "one layer of width 64, row by row", lstm_params, lstm_scores },
      { 10, 1024, 0.5, 0.5, 0.9, 0.98 }, INPUT_PIXELS },
};

const size_t image_model_count = sizeof image_models / sizeof *image_models;
