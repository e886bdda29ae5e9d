/* multi_head_attention against plain loops in f64: one case is one configuration, run on the tape and by the loops. */
#ifndef PSG_TEST_ATTENTION_FIXTURE_H
#define PSG_TEST_ATTENTION_FIXTURE_H

#include "support.h"

typedef enum attention_mask {
    MASK_NONE, MASK_INTEGER, MASK_REAL, MASK_HEADS_INTEGER, MASK_HEADS_REAL, MASK_BATCHED_REAL, MASK_COUNT
} attention_mask;

typedef enum attention_sources { SELF, KEY_IS_VALUE, ALL_APART, SOURCES_COUNT } attention_sources;

typedef struct attention_case {
    psg_dtype dtype;
    int64_t samples, queries, keys, heads, head_size, kdim, vdim;   /* kdim, vdim: with separate weights */
    attention_sources sources;
    attention_mask mask;
    int padding;                /* 0: none, 1: integers, 2: reals */
    bool batch_second, separate, in_bias, out_bias, bias_kv, zero_attn, causal, per_head, no_weights, frozen;
    double dropout_p;
} attention_case;

/* Runs the case and compares the result, the weights, the gradients of the inputs and of the mask, and the per-sample
 * gradients of every parameter. */
void attention_check(psg_context *context, const attention_case *c, test_random *random);

#endif
