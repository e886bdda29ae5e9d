#include "cases.h"

/* Beside bias, a recurrent layer's other weight. */
static psg_var recurrent(psg_tape *tape, const case_line *line, const psg_var *var, psg_var weight) {
    const psg_var none = psg_none();
    const psg_rnn_weights of_lstm = { weight, var[3], none, none, none }, of_gru = { var[3], weight, none, none, none };
    if (case_flag(line, "gru")) return psg_gru(tape, var[0], none, none, &of_gru, NULL, NULL);
    return psg_lstm(tape, var[0], none, none, none, &of_lstm, NULL, NULL, NULL);
}

/* The layer that takes the weight, by its name, or by the weight's rank a product, linear, conv1d, conv2d.  head: of
 * looked up rows, by the same table. */
static psg_var layer(psg_tape *tape, const case_line *line, const psg_var *var, psg_var weight) {
    psg_conv_options conv = { .groups = case_int(line, "groups", 1) };
    psg_conv_transpose_options transposed = { .groups = conv.groups };
    for (int d = 0; d < line->operand[1].rank - 2 && d < 2; d++) {
        conv.stride[d] = case_int(line, "stride", 0);
        conv.padding[d] = case_int(line, "padding", 0);
    }
    psg_var none = psg_none(), rows = none;
    if (case_flag(line, "lstm") || case_flag(line, "gru")) return recurrent(tape, line, var, weight);
    if (case_flag(line, "transposed")) return psg_conv_transpose1d(tape, var[0], weight, var[3], &transposed);
    if (case_flag(line, "bilinear")) return psg_bilinear(tape, var[0], var[0], weight, var[3]);
    if (case_flag(line, "bag")) return psg_embedding_bag(tape, var[0], weight, none, none, NULL);
    if (case_flag(line, "scaled")) return psg_mul(tape, psg_tanh(tape, var[0]), weight);
    if (case_flag(line, "lookup") || case_flag(line, "head")) rows = psg_embedding(tape, var[0], weight, NULL);
    if (case_flag(line, "head")) return psg_linear(tape, rows, weight, none);
    if (case_flag(line, "lookup")) return rows;
    if (case_flag(line, "matmul")) return psg_matmul(tape, var[0], weight);
    switch (line->operand[1].rank) {
    case 1: return psg_mul(tape, var[0], weight);
    case 2: return psg_linear(tape, var[0], weight, var[3]);
    case 3: return psg_conv1d(tape, var[0], weight, var[3], &conv);
    default: return psg_conv2d(tape, var[0], weight, var[3], &conv);
    }
}

/* tied: the layer twice, multiplied; raw: beside a layer of the parameter itself; two: beside one of another derivation
 * of it. */
static psg_var network(psg_tape *tape, const case_line *line, const psg_var *var, psg_var weight, psg_var other) {
    psg_var y = layer(tape, line, var, weight);
    if (case_flag(line, "tied")) y = psg_mul(tape, y, layer(tape, line, var, weight));
    if (case_flag(line, "raw")) y = psg_mul(tape, y, layer(tape, line, var, var[1]));
    if (case_flag(line, "two")) y = psg_mul(tape, y, layer(tape, line, var, other));
    return y;
}

static psg_var standardized(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_weight_standardize_options options = { case_flag(line, "by_fan_in"), case_flag(line, "eps"),
                                               case_real(line, "eps", 0), { 0 } };
    return psg_weight_standardize(tape, var[1], var[2], &options);
}

static psg_var normed(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_weight_norm_options options = { (int)case_int(line, "dim", 0), case_flag(line, "over_all"), { 0 } };
    return psg_weight_norm(tape, var[1], var[2], &options);
}

static psg_var weight_standardize(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_var none[3] = { var[0], var[1], psg_none() };
    psg_var other = case_flag(line, "two") ? normed(tape, line, none) : psg_none();
    return network(tape, line, var, standardized(tape, line, var), other);
}

const case_op case_op_weight_standardize = { "weight_standardize",
                                             { { "x", PSG_BATCHED, 0, CASE_REAL },
                                               { "weight", PSG_PARAMETER, 0, CASE_REAL },
                                               { "gain", PSG_PARAMETER, 1, CASE_REAL },
                                               { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                             weight_standardize };

static psg_var weight_norm(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_var none[3] = { var[0], var[1], psg_none() };
    psg_var other = case_flag(line, "two") ? standardized(tape, line, none) : psg_none();
    return network(tape, line, var, normed(tape, line, var), other);
}

const case_op case_op_weight_norm = { "weight_norm",
                                      { { "x", PSG_BATCHED, 0, CASE_REAL },
                                        { "v", PSG_PARAMETER, 0, CASE_REAL },
                                        { "g", PSG_PARAMETER, 1, CASE_REAL },
                                        { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                      weight_norm };

static psg_var cosine_linear(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_cosine_linear(tape, var[0], var[1], case_real(line, "scale", 1), case_real(line, "eps", 1e-12));
}

const case_op case_op_cosine_linear = { "cosine_linear",
                                        { { "x", PSG_BATCHED, 0, CASE_REAL },
                                          { "weight", PSG_PARAMETER, 0, CASE_REAL } },
                                        cosine_linear };
