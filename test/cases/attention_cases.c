#include "cases.h"

static psg_var product(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_scaled_dot_product_attention_options options = PSG_SCALED_DOT_PRODUCT_ATTENTION_OPTIONS_INIT;
    options.is_causal = case_flag(line, "is_causal");
    options.scale = case_real(line, "scale", 0);
    options.dropout_p = case_real(line, "dropout_p", 0);
    options.enable_gqa = case_flag(line, "enable_gqa");
    return psg_scaled_dot_product_attention(tape, var[0], var[1], var[2], var[3], &options);
}

/* Integers of attn_mask: non-zero attends. */
const case_op case_op_scaled_dot_product_attention = { "scaled_dot_product_attention",
                                                       { { "query", PSG_BATCHED, 0, CASE_REAL },
                                                         { "key", PSG_BATCHED, 0, CASE_REAL },
                                                         { "value", PSG_BATCHED, 0, CASE_REAL },
                                                         { "attn_mask", PSG_CONSTANT, 1, CASE_REAL } },
                                                       product };

enum { QUERY, KEY, VALUE, IN, Q_IN, K_IN, V_IN, IN_BIAS, BIAS_K, BIAS_V, OUT, OUT_BIAS, MASK, PADDING };

/* Without key it is the query, without value the key.  weights: the attention weights are the result (per_head: not
 * averaged). */
static psg_var layer(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_multi_head_attention_weights w = {
        .in_proj_weight = var[IN],
        .q_proj_weight = var[Q_IN],
        .k_proj_weight = var[K_IN],
        .v_proj_weight = var[V_IN],
        .in_proj_bias = var[IN_BIAS],
        .bias_k = var[BIAS_K],
        .bias_v = var[BIAS_V],
        .out_proj_weight = var[OUT],
        .out_proj_bias = var[OUT_BIAS],
    };
    psg_multi_head_attention_options options = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    options.is_causal = case_flag(line, "is_causal");
    options.dropout_p = case_real(line, "dropout_p", 0);
    options.add_zero_attn = case_flag(line, "add_zero_attn");
    options.per_head_weights = case_flag(line, "per_head");
    options.attn_mask = var[MASK];
    options.key_padding_mask = var[PADDING];
    psg_var key = line->operand[KEY].present ? var[KEY] : var[QUERY], weights;
    psg_var value = line->operand[VALUE].present ? var[VALUE] : key;
    int wanted = case_flag(line, "weights");
    psg_var y = psg_multi_head_attention(tape, var[QUERY], key, value, case_int(line, "num_heads", 1), &w, &options,
                                         wanted ? &weights : NULL);
    return wanted ? weights : y;
}

const case_op case_op_multi_head_attention = { "multi_head_attention",
                                               { { "query", PSG_BATCHED, 0, CASE_REAL },
                                                 { "key", PSG_BATCHED, 1, CASE_REAL },
                                                 { "value", PSG_BATCHED, 1, CASE_REAL },
                                                 { "in_proj_weight", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "q_proj_weight", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "k_proj_weight", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "v_proj_weight", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "in_proj_bias", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "bias_k", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "bias_v", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "out_proj_weight", PSG_PARAMETER, 0, CASE_REAL },
                                                 { "out_proj_bias", PSG_PARAMETER, 1, CASE_REAL },
                                                 { "attn_mask", PSG_CONSTANT, 1, CASE_REAL },
                                                 { "key_padding_mask", PSG_BATCHED, 1, CASE_INTEGER } },
                                               layer };
