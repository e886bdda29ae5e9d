/* What psg-bench measures when no problem is named: op, question, problem in the order of the op's fields, budget, or
 * a line of the op's case table. */
#ifndef BENCH_PROBLEMS_H
#define BENCH_PROBLEMS_H

#include "case.h"

#define GRANTED ((size_t)1 << 30)   /* enough memory budget to keep the per-sample gradients of these problems */

static const bench_problem default_problems[] = {
    { "linear", "grad_sample", { 256, 1, 784, 512 }, 0, NULL },
    { "linear", "grad_sample", { 64, 1, 1024, 1024 }, 0, NULL },
    { "linear", "grad_sample", { 64, 16, 256, 256 }, 0, NULL },
    { "linear", "grad_sample", { 64, 128, 256, 256 }, 0, NULL },
    { "linear", "grad_sample", { 32, 128, 768, 768 }, 0, NULL },

    /* T positions, in and out as in the published comparisons of norm routes; few samples, so that a row is short */
    { "linear", "sqnorm", { 32, 32, 768, 768 }, 0, NULL },
    { "linear", "sqnorm", { 32, 128, 768, 768 }, 0, NULL },
    { "linear", "sqnorm", { 32, 197, 768, 768 }, 0, NULL },
    { "linear", "sqnorm", { 16, 512, 768, 768 }, 0, NULL },
    { "linear", "sqnorm", { 16, 768, 768, 768 }, 0, NULL },
    { "linear", "sqnorm", { 16, 1024, 768, 768 }, 0, NULL },
    { "linear", "sqnorm", { 8, 2048, 768, 768 }, 0, NULL },
    { "linear", "sqnorm", { 8, 512, 3072, 768 }, 0, NULL },
    { "linear", "sqnorm", { 16, 64, 4096, 4096 }, 0, NULL },
    { "linear", "sqnorm", { 4, 512, 4096, 4096 }, 0, NULL },
    { "linear", "sqnorm", { 32, 1024, 576, 64 }, 0, NULL },
    { "linear", "sqnorm", { 32, 256, 1152, 128 }, 0, NULL },
    { "linear", "sqnorm", { 32, 64, 4608, 512 }, 0, NULL },
    { "linear", "sqnorm", { 32, 16, 4608, 512 }, 0, NULL },

    { "linear", "clipped_sum", { 64, 128, 256, 256 }, GRANTED, NULL },
    { "linear", "clipped_sum", { 64, 128, 256, 256 }, 0, NULL },
    { "linear", "clipped_sum", { 32, 128, 768, 768 }, GRANTED, NULL },
    { "linear", "clipped_sum", { 32, 128, 768, 768 }, 0, NULL },

    { "linear", "weighted_sum", { 64, 16, 256, 256 }, 0, NULL },
    { "linear", "dot", { 64, 16, 256, 256 }, 0, NULL },
    { "linear", "gram", { 64, 16, 256, 256 }, 0, NULL },
    { "linear", "sum_of_squares", { 64, 16, 256, 256 }, 0, NULL },

    { "tensors", "clipped_sum", { 20, 16, 8, 8 }, 0, NULL },
    { "tensors", "clipped_sum", { 320, 16, 8, 8 }, 0, NULL },
    { "tensors", "clipped_sum", { 1280, 16, 8, 8 }, 0, NULL },
    { "tensors", "clipped_sum", { 320, 16, 64, 64 }, 0, NULL },
    { "tensors", "clipped_sum", { 1280, 16, 64, 64 }, 0, NULL },

    { "layer_norm", "grad_sample", { 64, 128, 768 }, 0, NULL },
    { "layer_norm", "grad_sample", { 1024, 1, 256 }, 0, NULL },
    { "layer_norm", "sqnorm", { 64, 128, 768 }, 0, NULL },
    { "group_norm", "grad_sample", { 64, 64, 1024, 8 }, 0, NULL },
    { "group_norm", "sqnorm", { 64, 64, 1024, 8 }, 0, NULL },

    { "conv2d", "grad_sample", { 0 }, 0, "B64_3_64_32x32_k3" },
    { "conv2d", "grad_sample", { 0 }, 0, "B64_64_64_32x32_k3" },
    { "conv2d", "grad_sample", { 0 }, 0, "B64_128_128_8x8_k3" },
    { "conv2d", "grad_sample", { 0 }, 0, "B64_64_14x14_k3_depthwise" },
    { "conv1d", "grad_sample", { 0 }, 0, "B64_64_64_256_k5" },
    { "conv3d", "grad_sample", { 0 }, 0, "B32_8_16_8x8x8_k3" },
    { "conv2d", "clipped_sum", { 0 }, 0, "B64_64_64_32x32_k3" },
    { "conv2d", "clipped_sum", { 0 }, 0, "B64_128_128_8x8_k3" },
    { "instance_norm", "grad_sample", { 0 }, 0, "B64_64_32x32" },
    { "embedding", "sparse", { 0 }, 0, "B64_T128_10000_64" },
    { "embedding", "grad_sample", { 0 }, 0, "B64_T128_10000_64" },
    { "lstm", "grad_sample", { 0 }, 0, "B64_T64_128_128" },
    { "lstm", "clipped_sum", { 0 }, 0, "B64_T64_128_128" },
    { "multi_head_attention", "grad_sample", { 0 }, 0, "B64_T64_128_H4" },
    { "multi_head_attention", "clipped_sum", { 0 }, 0, "B64_T64_128_H4" },

    { "mlp_step", "private", { 256 }, GRANTED, NULL },
    { "mlp_step", "plain", { 256 }, 0, NULL },
    { "mlp_step", "clipped_sum", { 256 }, GRANTED, NULL },
    { "cnn_mnist_step", "private", { 256 }, GRANTED, NULL },
    { "cnn_mnist_step", "plain", { 256 }, 0, NULL },
    { "cnn_mnist_step", "clipped_sum", { 256 }, GRANTED, NULL },
    { "cnn_group_norm_step", "private", { 64 }, GRANTED, NULL },
    { "cnn_group_norm_step", "plain", { 64 }, 0, NULL },
    { "cnn_group_norm_step", "clipped_sum", { 64 }, GRANTED, NULL },
    { "transformer_step", "private", { 64 }, GRANTED, NULL },
    { "transformer_step", "plain", { 64 }, 0, NULL },
    { "transformer_step", "clipped_sum", { 64 }, GRANTED, NULL },
    { "gpt2_step", "private", { 4 }, 0, NULL },
    { "gpt2_step", "plain", { 4 }, 0, NULL },
    { "gpt2_step", "clipped_sum", { 4 }, 0, NULL },
    { "mlp_small_step", "private", { 16 }, GRANTED, NULL },
    { "mlp_small_step", "plain", { 16 }, 0, NULL },
    { "mlp_small_step", "clipped_sum", { 16 }, GRANTED, NULL },
    { "gru_small_step", "private", { 8 }, GRANTED, NULL },
    { "gru_small_step", "plain", { 8 }, 0, NULL },
    { "gru_small_step", "clipped_sum", { 8 }, GRANTED, NULL },
    { "noise", "gaussian", { 1000000 }, 0, NULL },
    { "noise", "discrete_gaussian", { 1000000 }, 0, NULL },
};

#define DEFAULT_PROBLEM_COUNT (sizeof default_problems / sizeof *default_problems)

#endif
