/* psg/ops/attention.h: scaled dot-product and multi-head attention.
 *
 * A query whose every key is masked attends to nothing: its output is zero and passes no gradient on.
 * What a mask hides (by an integer, -Inf, is_causal) is not read: no result and no gradient of attention depends on it,
 * be it NaN or Inf, and keys and values that no query sees have gradient 0.  In PyTorch 0 times NaN spreads.  So
 * with psg_in_projection: a position without gradient has no part in its weight's. */
#ifndef PSG_PUBLIC_OPS_ATTENTION_H
#define PSG_PUBLIC_OPS_ATTENTION_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = softmax(scale q k^T + mask) v over the keys.  q (N, *, L, E), k (N, *, S, E), v (N, *, S, Ev), y (N, *, L, Ev);
 * all of one rank >= 3.  A constant may have size 1 in leading dimensions, or lack the first ones.
 * attn_mask, or psg_none(): broadcasts to (N, *, L, S); an f32 or f64 one is added to the scores (and has a gradient:
 * rows for a parameter), so that one of 0 and 1 masks nothing; of an integer one non-zero means ATTEND (in
 * psg_multi_head_attention it means MASKED).  A batched mask has the batch where q has it; one of fewer dimensions must
 * be a constant or a parameter.
 * In a batch_second pass the batch is dimension 1 of all of them: (L, N, E), (H, N, L, E). */
typedef struct psg_scaled_dot_product_attention_options {
    int is_causal;             /* query i attends to keys j <= i, on top of attn_mask */
    double scale;              /* 0: 1 / sqrt(E) */
    double dropout_p;          /* of the weights, unless the pass is an evaluation; a sample's mask is its own */
    int enable_gqa;            /* q may have a multiple of the heads (*, the last one) of k and v: groups share a key */
    uint64_t reserved[4];
} psg_scaled_dot_product_attention_options;
#define PSG_SCALED_DOT_PRODUCT_ATTENTION_OPTIONS_INIT { 0, 0.0, 0.0, 0, { 0, 0, 0, 0 } }
PSG_API psg_var psg_scaled_dot_product_attention(psg_tape *tape, psg_var query, psg_var key, psg_var value,
                                                 psg_var attn_mask,
                                                 const psg_scaled_dot_product_attention_options *options);

/* Concatenated heads: of each of num_heads slices of q, k, v, attention with scale 1 / sqrt(E / num_heads), and an
 * output projection.  query (N, L, E), key (N, S, kdim), value (N, S, vdim), result (N, L, E); (L, N, E) and so on in a
 * batch_second pass.  One var given as query, key and value is self-attention: with in_proj_weight a single product.
 *
 * weights: psg_none() where absent.  Either in_proj_weight or the three others (then kdim and vdim are free).
 * Gradients: factored for weights, rows for biases. */
typedef struct psg_multi_head_attention_weights {
    psg_var in_proj_weight;                                  /* (3 E, E): of q, k, v */
    psg_var q_proj_weight, k_proj_weight, v_proj_weight;     /* (E, E), (E, kdim), (E, vdim) */
    psg_var in_proj_bias;                                    /* (3 E), optional */
    psg_var bias_k, bias_v;                                  /* (1, 1, E), both or none: one more key and value */
    psg_var out_proj_weight, out_proj_bias;                  /* (E, E); (E), optional */
} psg_multi_head_attention_weights;

/* Zeroed: no mask, no dropout, weights averaged over the heads. */
typedef struct psg_multi_head_attention_options {
    int is_causal;             /* query i attends to keys j <= i, on top of attn_mask */
    double dropout_p;          /* of the attention weights, unless the pass is an evaluation */
    int add_zero_attn;         /* one more key and value of zeros, after bias_k and bias_v; no mask reaches these */
    int per_head_weights;      /* attention_weights: not averaged over the heads */
    psg_var attn_mask;         /* (L, S), (N num_heads, L, S) or (N or 1, num_heads or 1, L, S), or psg_none();
                                  integers: non-zero means MASKED (in scaled_dot_product_attention ATTEND); reals are
                                  added: 0 and 1 mask nothing.  Batch first in every pass */
    psg_var key_padding_mask;  /* (N, S) or psg_none(); integers: non-zero means MASKED; reals are added */
    uint64_t reserved[4];
} psg_multi_head_attention_options;
#define PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT { 0, 0.0, 0, 0, { 0 }, { 0 }, { 0, 0, 0, 0 } }

/* Multi-head attention, as above.  options NULL: all defaults.  attention_weights: NULL, or receives what multiplies
 * the values, dropout included: (N, L, S') averaged or (N, num_heads, L, S'), S' the number of all keys; in a
 * batch_second pass (L, N, S') and (num_heads, N, L, S'). */
PSG_API psg_var psg_multi_head_attention(psg_tape *tape, psg_var query, psg_var key, psg_var value, int64_t num_heads,
                                         const psg_multi_head_attention_weights *weights,
                                         const psg_multi_head_attention_options *options, psg_var *attention_weights);

/* ---- the parts of psg_multi_head_attention, for layers of one's own: adapters, other projections.  A low-rank adapter
 * B A of a frozen W goes to the output:
 *     psg_add(t, psg_in_projection(t, x, W, ...), psg_linear(t, psg_linear(t, x, A), B)) ---- */

/* y = x W^T + b with rows of larger parameters, from weight_row of weight and from bias_row of bias (or psg_none()):
 * x (N, L, size), y (N, L, features).  Gradients: factored and rows, into these rows. */
typedef struct psg_in_projection_attributes {
    int64_t weight_row, bias_row, features;
} psg_in_projection_attributes;
PSG_API psg_var psg_in_projection(psg_tape *tape, psg_var x, psg_var weight, psg_var bias,
                                  const psg_in_projection_attributes *rows);

/* The heads, side by side, before the output projection: (N, L, Ev) of projected query (N, L, E), key (N, S, E) and
 * value (N, S, Ev); without value (psg_none()) key holds both, (N, S, 2 E), and without key too query holds all three,
 * (N, L, 3 E).  bias_k and bias_v: E elements each, or psg_none().  options and attention_weights as of
 * psg_multi_head_attention; options NULL: all defaults. */
PSG_API psg_var psg_head_attention(psg_tape *tape, psg_var query, psg_var key, psg_var value, int64_t num_heads,
                                   psg_var bias_k, psg_var bias_v, const psg_multi_head_attention_options *options,
                                   psg_var *attention_weights);

/* Of the op "head_attention", whose inputs are query, key, value, attn_mask, key_padding_mask, bias_k, bias_v. */
typedef struct psg_head_attention_attributes {
    int64_t num_heads;
    int is_causal;
    double dropout_p;
    int add_zero_attn;
    int weights;               /* non-zero: a row of the result goes on with the weights, (N, L, Ev + num_heads S') */
} psg_head_attention_attributes;

#ifdef __cplusplus
}
#endif
#endif
