#include "step_models.h"

#include "blocks.h"

/* ---- Conv 1 - 16 k8 s2 p3, ReLU, MaxPool 2 s1, Conv 16 - 32 k4 s2, ReLU, MaxPool 2 s1, Linear 512 - 32 - 10 ---- */

static const model_param cnn_mnist_params[] = {
    { "conv_1.weight", MODEL_UNIFORM, 4, { 16, 1, 8, 8 } },  { "conv_1.bias", MODEL_SMALL, 1, { 16 } },
    { "conv_2.weight", MODEL_UNIFORM, 4, { 32, 16, 4, 4 } }, { "conv_2.bias", MODEL_SMALL, 1, { 32 } },
    { "fc_1.weight", MODEL_UNIFORM, 2, { 32, 512 } },        { "fc_1.bias", MODEL_SMALL, 1, { 32 } },
    { "fc_2.weight", MODEL_UNIFORM, 2, { 10, 32 } },         { "fc_2.bias", MODEL_SMALL, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var cnn_mnist_scores(psg_tape *tape, const psg_var *w, psg_var x) {
    x = block_max_pool(tape, psg_relu(tape, block_conv(tape, x, w[0], w[1], 2, 3)), 2, 1);
    x = block_max_pool(tape, psg_relu(tape, block_conv(tape, x, w[2], w[3], 2, 0)), 2, 1);
    x = psg_relu(tape, psg_linear(tape, psg_flatten(tape, x, 1, -1), w[4], w[5]));
    return psg_linear(tape, x, w[6], w[7]);
}

const model_kind cnn_mnist_model = { "cnn_mnist", "the MNIST network of Opacus's examples", cnn_mnist_params,
                                     cnn_mnist_scores };

/* ---- three times Conv k3 p1, GroupNorm 8, ReLU: 3 - 32 - 64, AvgPool 2, 64 - 128, global average, Linear ---- */

static const model_param cnn_group_norm_params[] = {
    { "conv_1.weight", MODEL_UNIFORM, 4, { 32, 3, 3, 3 } },   { "conv_1.bias", MODEL_SMALL, 1, { 32 } },
    { "norm_1.weight", MODEL_ONES, 1, { 32 } },               { "norm_1.bias", MODEL_ZEROS, 1, { 32 } },
    { "conv_2.weight", MODEL_UNIFORM, 4, { 64, 32, 3, 3 } },  { "conv_2.bias", MODEL_SMALL, 1, { 64 } },
    { "norm_2.weight", MODEL_ONES, 1, { 64 } },               { "norm_2.bias", MODEL_ZEROS, 1, { 64 } },
    { "conv_3.weight", MODEL_UNIFORM, 4, { 128, 64, 3, 3 } }, { "conv_3.bias", MODEL_SMALL, 1, { 128 } },
    { "norm_3.weight", MODEL_ONES, 1, { 128 } },              { "norm_3.bias", MODEL_ZEROS, 1, { 128 } },
    { "head.weight", MODEL_UNIFORM, 2, { 10, 128 } },         { "head.bias", MODEL_SMALL, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var conv_norm_relu(psg_tape *tape, const psg_var *w, psg_var x) {
    x = block_conv(tape, x, w[0], w[1], 1, 1);
    return psg_relu(tape, psg_group_norm(tape, x, 8, w[2], w[3], 1e-5));
}

static psg_var cnn_group_norm_scores(psg_tape *tape, const psg_var *w, psg_var x) {
    static const int plane[] = { 2, 3 };
    x = conv_norm_relu(tape, w + 4, conv_norm_relu(tape, w, x));
    x = conv_norm_relu(tape, w + 8, block_avg_pool(tape, x, 2));
    return psg_linear(tape, psg_mean(tape, x, 2, plane, 0), w[12], w[13]);
}

const model_kind cnn_group_norm_model = { "cnn_group_norm", "three convolutions with group_norm at 32 x 32",
                                          cnn_group_norm_params, cnn_group_norm_scores };

/* ---- Embedding 1000 x 128, two encoder layers, mean over time, Linear ---- */

static const model_param transformer_params[] = {
    { "embedding.weight", MODEL_SMALL, 2, { TOKEN_COUNT, 128 } },
    BLOCK_ENCODER_PARAMS("layer_1", 128, 512),
    BLOCK_ENCODER_PARAMS("layer_2", 128, 512),
    { "head.weight", MODEL_UNIFORM, 2, { 10, 128 } }, { "head.bias", MODEL_SMALL, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var transformer_scores(psg_tape *tape, const psg_var *w, psg_var tokens) {
    static const int time[] = { 1 };
    psg_var x = psg_embedding(tape, tokens, w[0], NULL);
    x = block_encoder(tape, w + 1, x, 128, 4);
    x = block_encoder(tape, w + 1 + BLOCK_ENCODER_COUNT, x, 128, 4);
    return psg_linear(tape, psg_mean(tape, x, 1, time, 0), w[1 + 2 * BLOCK_ENCODER_COUNT],
                      w[2 + 2 * BLOCK_ENCODER_COUNT]);
}

const model_kind transformer_model = { "transformer", "two encoder layers of width 128 on 64 tokens",
                                       transformer_params, transformer_scores };

/* ---- Linear 784 - 32, ReLU, Linear 32 - 10 ---- */

static const model_param mlp_small_params[] = {
    { "fc_1.weight", MODEL_UNIFORM, 2, { 32, 784 } }, { "fc_1.bias", MODEL_SMALL, 1, { 32 } },
    { "fc_2.weight", MODEL_UNIFORM, 2, { 10, 32 } },  { "fc_2.bias", MODEL_SMALL, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var mlp_small_scores(psg_tape *tape, const psg_var *w, psg_var x) {
    return psg_linear(tape, psg_relu(tape, psg_linear(tape, x, w[0], w[1])), w[2], w[3]);
}

const model_kind mlp_small_model = { "mlp_small", "784 - 32 - 10, relu", mlp_small_params, mlp_small_scores };

/* ---- two GRU layers of 32 units, Linear 32 - 10 on the last step ---- */

#define GRU_LAYER(name)                                                                                               \
    { name ".weight_ih", MODEL_UNIFORM, 2, { 96, 32 } }, { name ".weight_hh", MODEL_UNIFORM, 2, { 96, 32 } },         \
    { name ".bias_ih", MODEL_SMALL, 1, { 96 } }, { name ".bias_hh", MODEL_SMALL, 1, { 96 } }

static const model_param gru_small_params[] = {
    GRU_LAYER("layer_1"),
    GRU_LAYER("layer_2"),
    { "head.weight", MODEL_UNIFORM, 2, { 10, 32 } }, { "head.bias", MODEL_SMALL, 1, { 10 } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var gru_small_scores(psg_tape *tape, const psg_var *w, psg_var x) {
    const psg_rnn_weights weights[] = { { w[0], w[1], w[2], w[3], psg_none() },
                                        { w[4], w[5], w[6], w[7], psg_none() } };
    psg_rnn_options options = PSG_RNN_OPTIONS_INIT;
    options.num_layers = 2;
    psg_var y = psg_gru(tape, x, psg_none(), psg_none(), weights, &options, NULL);
    return psg_linear(tape, psg_select(tape, y, 1, -1), w[8], w[9]);
}

const model_kind gru_small_model = { "gru_small", "two GRU layers of 32 units on 20 steps", gru_small_params,
                                     gru_small_scores };
