/* What psg-bench measures when no problem is named: op, question, problem in the order of the op's fields, budget. */
#ifndef BENCH_PROBLEMS_H
#define BENCH_PROBLEMS_H

#include "case.h"

#define GRANTED ((size_t)1 << 30)   /* enough memory budget to keep the per-sample gradients of these problems */

static const bench_problem default_problems[] = {
    { "linear", "grad_sample", { 256, 1, 784, 512 }, 0 },
    { "linear", "grad_sample", { 64, 1, 1024, 1024 }, 0 },
    { "linear", "grad_sample", { 64, 16, 256, 256 }, 0 },
    { "linear", "grad_sample", { 64, 128, 256, 256 }, 0 },
    { "linear", "grad_sample", { 32, 128, 768, 768 }, 0 },

    /* T positions, in and out as in the published comparisons of norm routes; few samples, so that a row is short */
    { "linear", "sqnorm", { 32, 32, 768, 768 }, 0 },
    { "linear", "sqnorm", { 32, 128, 768, 768 }, 0 },
    { "linear", "sqnorm", { 32, 197, 768, 768 }, 0 },
    { "linear", "sqnorm", { 16, 512, 768, 768 }, 0 },
    { "linear", "sqnorm", { 16, 768, 768, 768 }, 0 },
    { "linear", "sqnorm", { 16, 1024, 768, 768 }, 0 },
    { "linear", "sqnorm", { 8, 2048, 768, 768 }, 0 },
    { "linear", "sqnorm", { 8, 512, 3072, 768 }, 0 },
    { "linear", "sqnorm", { 16, 64, 4096, 4096 }, 0 },
    { "linear", "sqnorm", { 4, 512, 4096, 4096 }, 0 },
    { "linear", "sqnorm", { 32, 1024, 576, 64 }, 0 },
    { "linear", "sqnorm", { 32, 256, 1152, 128 }, 0 },
    { "linear", "sqnorm", { 32, 64, 4608, 512 }, 0 },
    { "linear", "sqnorm", { 32, 16, 4608, 512 }, 0 },

    { "linear", "clipped_sum", { 64, 128, 256, 256 }, GRANTED },
    { "linear", "clipped_sum", { 64, 128, 256, 256 }, 0 },
    { "linear", "clipped_sum", { 32, 128, 768, 768 }, GRANTED },
    { "linear", "clipped_sum", { 32, 128, 768, 768 }, 0 },

    { "linear", "weighted_sum", { 64, 16, 256, 256 }, 0 },
    { "linear", "dot", { 64, 16, 256, 256 }, 0 },
    { "linear", "gram", { 64, 16, 256, 256 }, 0 },
    { "linear", "sum_of_squares", { 64, 16, 256, 256 }, 0 },

    { "layer_norm", "grad_sample", { 64, 128, 768 }, 0 },
    { "layer_norm", "grad_sample", { 1024, 1, 256 }, 0 },
    { "layer_norm", "sqnorm", { 64, 128, 768 }, 0 },
    { "group_norm", "grad_sample", { 64, 64, 1024, 8 }, 0 },
    { "group_norm", "sqnorm", { 64, 64, 1024, 8 }, 0 },

    { "mlp_step", "private", { 256 }, 0 },
    { "mlp_step", "plain", { 256 }, 0 },
    { "mlp_step", "clipped_sum", { 256 }, 0 },
    { "noise", "gaussian", { 1000000 }, 0 },
};

#define DEFAULT_PROBLEM_COUNT (sizeof default_problems / sizeof *default_problems)

#endif
