/* The models whose whole steps psg-bench times: the MNIST network of Opacus's examples, a three-layer network with
 * group_norm, a two-layer transformer encoder, GPT-2 small, and two models small enough for devices. */
#ifndef BENCH_STEP_MODELS_H
#define BENCH_STEP_MODELS_H

#include "model.h"

/* Input (N, 1, 28, 28), (N, 3, 32, 32), tokens (N, 64) below TOKEN_COUNT; scores (N, 10). */
enum { TOKEN_COUNT = 1000, TOKENS = 64 };
extern const model_kind cnn_mnist_model, cnn_group_norm_model, transformer_model;

/* Input tokens (N, GPT2_TOKENS) below GPT2_VOCABULARY; scores (N, GPT2_VOCABULARY, GPT2_TOKENS). */
enum { GPT2_VOCABULARY = 50257, GPT2_TOKENS = 256, GPT2_WIDTH = 768, GPT2_LAYERS = 12 };
extern const model_kind gpt2_model;

/* Input (N, 784), (N, GRU_STEPS, 32); scores (N, 10). */
enum { GRU_STEPS = 20 };
extern const model_kind mlp_small_model, gru_small_model;

#endif
