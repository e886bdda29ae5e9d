/* The models whose whole steps psg-bench times: the MNIST network of Opacus's examples, a three-layer network with
 * group_norm, and a two-layer transformer encoder. */
#ifndef BENCH_STEP_MODELS_H
#define BENCH_STEP_MODELS_H

#include "model.h"

/* Input (N, 1, 28, 28), (N, 3, 32, 32), tokens (N, 64) below TOKEN_COUNT; scores (N, 10). */
enum { TOKEN_COUNT = 1000, TOKENS = 64 };
extern const model_kind cnn_mnist_model, cnn_group_norm_model, transformer_model;

#endif
