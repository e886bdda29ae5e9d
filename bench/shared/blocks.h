/* Pieces that several models share. */
#ifndef BENCH_BLOCKS_H
#define BENCH_BLOCKS_H

#include "model.h"

/* Two-dimensional, the same stride and padding in both directions. */
psg_var block_conv(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, int64_t stride, int64_t padding);
psg_var block_max_pool(psg_tape *tape, psg_var x, int64_t kernel, int64_t stride);
psg_var block_avg_pool(psg_tape *tape, psg_var x, int64_t kernel);

/* A pre-norm encoder layer: x + attention(norm(x)), then x + feed_forward(norm(x)) with GELU, on (N, T, width). */
enum { BLOCK_ENCODER_COUNT = 12 };
#define BLOCK_ENCODER_PARAMS(name, width, hidden)                                                                     \
    { name ".norm_1.weight", MODEL_ONES, 1, { width } }, { name ".norm_1.bias", MODEL_ZEROS, 1, { width } },          \
    { name ".in_proj.weight", MODEL_UNIFORM, 2, { 3 * (width), width } },                                             \
    { name ".in_proj.bias", MODEL_ZEROS, 1, { 3 * (width) } },                                                        \
    { name ".out_proj.weight", MODEL_UNIFORM, 2, { width, width } },                                                  \
    { name ".out_proj.bias", MODEL_ZEROS, 1, { width } },                                                             \
    { name ".norm_2.weight", MODEL_ONES, 1, { width } }, { name ".norm_2.bias", MODEL_ZEROS, 1, { width } },          \
    { name ".fc_1.weight", MODEL_UNIFORM, 2, { hidden, width } }, { name ".fc_1.bias", MODEL_SMALL, 1, { hidden } },  \
    { name ".fc_2.weight", MODEL_UNIFORM, 2, { width, hidden } }, { name ".fc_2.bias", MODEL_SMALL, 1, { width } }
psg_var block_encoder(psg_tape *tape, const psg_var *w, psg_var x, int64_t width, int64_t heads);
/* The same with causal attention and the tanh form of GELU, as in GPT-2. */
psg_var block_decoder(psg_tape *tape, const psg_var *w, psg_var x, int64_t width, int64_t heads);

/* The state (N, hidden) of an LSTM after the last step of x (N, T, *); w: weight_ih, weight_hh, bias_ih, bias_hh. */
psg_var block_lstm_last(psg_tape *tape, psg_var x, const psg_var *w, int64_t hidden);

#endif
