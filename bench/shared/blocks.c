#include "blocks.h"

psg_var block_conv(psg_tape *tape, psg_var x, psg_var weight, psg_var bias, int64_t stride, int64_t padding) {
    psg_conv_options options = { .stride = PSG_ALL(stride), .padding = PSG_ALL(padding) };
    return psg_conv2d(tape, x, weight, bias, &options);
}

psg_var block_max_pool(psg_tape *tape, psg_var x, int64_t kernel, int64_t stride) {
    psg_max_pool_options options = { .stride = PSG_ALL(stride) };
    return psg_max_pool2d(tape, x, (int64_t[]){ kernel, kernel }, &options);
}

psg_var block_avg_pool(psg_tape *tape, psg_var x, int64_t kernel) {
    return psg_avg_pool2d(tape, x, (int64_t[]){ kernel, kernel }, NULL);
}

static psg_var attention(psg_tape *tape, const psg_var *w, psg_var x, int64_t heads, int is_causal) {
    psg_multi_head_attention_options options = { .is_causal = is_causal };
    psg_multi_head_attention_weights weights = { .in_proj_weight = w[0], .in_proj_bias = w[1],
                                                 .out_proj_weight = w[2], .out_proj_bias = w[3] };
    return psg_multi_head_attention(tape, x, x, x, heads, &weights, &options, NULL);
}

static psg_var layer(psg_tape *tape, const psg_var *w, psg_var x, int64_t width, int64_t heads, int is_decoder) {
    psg_var normal = psg_layer_norm(tape, x, 1, &width, w[0], w[1], 1e-5);
    x = psg_add(tape, x, attention(tape, w + 2, normal, heads, is_decoder));
    normal = psg_layer_norm(tape, x, 1, &width, w[6], w[7], 1e-5);
    psg_var hidden = psg_gelu(tape, psg_linear(tape, normal, w[8], w[9]), is_decoder);
    return psg_add(tape, x, psg_linear(tape, hidden, w[10], w[11]));
}

psg_var block_encoder(psg_tape *tape, const psg_var *w, psg_var x, int64_t width, int64_t heads) {
    return layer(tape, w, x, width, heads, 0);
}

psg_var block_decoder(psg_tape *tape, const psg_var *w, psg_var x, int64_t width, int64_t heads) {
    return layer(tape, w, x, width, heads, 1);
}

psg_var block_lstm_last(psg_tape *tape, psg_var x, const psg_var *w, int64_t hidden) {
    psg_rnn_weights weights = { w[0], w[1], w[2], w[3], psg_none() };
    psg_var last;
    psg_lstm(tape, x, psg_none(), psg_none(), psg_none(), &weights, NULL, &last, NULL);
    return psg_reshape(tape, last, 2, (int64_t[]){ -1, hidden });
}
