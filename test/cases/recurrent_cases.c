#include <string.h>

#include "cases.h"

/* Operands as PyTorch names its parameters, of at most six layers and directions.
 *     num_layers=1 bidirectional dropout=0.0 nonlinearity=tanh|relu layout=pass|batch_first|batch_second
 *     output=y|h_n|c_n|all  which of the outputs the case is about; all: one behind the other
 *     tied                  every layer and direction has the first one's weights */

#define RULE(name, role, optional, kind)                                                                               \
    { #name, role, optional, kind }
#define STATE(name) RULE(name, PSG_BATCHED, 1, CASE_REAL)
#define REQUIRED(name) RULE(name, PSG_PARAMETER, 0, CASE_REAL)
#define OPTIONAL(name) RULE(name, PSG_PARAMETER, 1, CASE_REAL)
#define SEQUENCE RULE(x, PSG_BATCHED, 0, CASE_REAL), RULE(lengths, PSG_BATCHED, 1, CASE_INTEGER)
#define FIRST REQUIRED(weight_ih_l0), REQUIRED(weight_hh_l0), OPTIONAL(bias_ih_l0), OPTIONAL(bias_hh_l0)
#define LAYER(at) OPTIONAL(weight_ih_##at), OPTIONAL(weight_hh_##at), OPTIONAL(bias_ih_##at), OPTIONAL(bias_hh_##at)
#define LAYERS FIRST, LAYER(l0_reverse), LAYER(l1), LAYER(l1_reverse), LAYER(l2), LAYER(l2_reverse)
#define PROJECTED(at) LAYER(at), OPTIONAL(weight_hr_##at)
#define PROJECTED_LAYERS                                                                                               \
    FIRST, OPTIONAL(weight_hr_l0), PROJECTED(l0_reverse), PROJECTED(l1), PROJECTED(l1_reverse), PROJECTED(l2),         \
        PROJECTED(l2_reverse)
#define CELL REQUIRED(weight_ih), REQUIRED(weight_hh), OPTIONAL(bias_ih), OPTIONAL(bias_hh)

enum { WEIGHT_SETS = 6 };

static int is(const case_line *line, const char *key, const char *word) {
    return !strcmp(case_word(line, key, ""), word);
}

static psg_rnn_options options_of(const case_line *line) {
    psg_rnn_options options = PSG_RNN_OPTIONS_INIT;
    options.num_layers = (int)case_int(line, "num_layers", 1);
    options.bidirectional = case_flag(line, "bidirectional");
    options.dropout = case_real(line, "dropout", 0.0);
    static const char *const functions[] = { [PSG_RNN_TANH] = "tanh", [PSG_RNN_RELU] = "relu" };
    static const char *const layouts[] = { [PSG_RNN_LAYOUT_OF_PASS] = "pass", [PSG_RNN_BATCH_FIRST] = "batch_first",
                                           [PSG_RNN_BATCH_SECOND] = "batch_second" };
    options.nonlinearity = (psg_rnn_nonlinearity)case_choice(line, "nonlinearity", PSG_RNN_TANH, 2, functions);
    options.layout = (psg_rnn_layout)case_choice(line, "layout", PSG_RNN_LAYOUT_OF_PASS, 3, layouts);
    return options;
}

/* Sets of `size` operands, those of layer l after those of layer l - 1, at l0, l0_reverse, l1, ... */
static void take_weights(const case_line *line, const psg_var *var, int size, psg_rnn_weights *weights) {
    int step = case_flag(line, "bidirectional") ? 1 : 2;
    for (int at = 0, set = 0; set < WEIGHT_SETS; at++, set += step) {
        const psg_var *v = var + (case_flag(line, "tied") ? 0 : set * size);
        weights[at] = (psg_rnn_weights){ v[0], v[1], v[2], v[3], size == 5 ? v[4] : psg_none() };
    }
}

/* (N, ...) of each, behind one another. */
static psg_var joined(psg_tape *tape, const psg_var *part, int count) {
    psg_var flat[3];
    for (int k = 0; k < count; k++) flat[k] = psg_flatten(tape, part[k], 1, -1);
    return psg_cat(tape, flat, count, 1);
}

static psg_var chosen(const case_line *line, psg_var y, psg_var h_n, psg_var c_n) {
    return is(line, "output", "h_n") ? h_n : is(line, "output", "c_n") ? c_n : y;
}

static psg_var rnn(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_rnn_options options = options_of(line);
    psg_rnn_weights weights[WEIGHT_SETS];
    psg_var h_n;
    int states = case_flag(line, "output");
    take_weights(line, var + 3, 4, weights);
    psg_var y = psg_rnn(tape, var[0], var[1], var[2], weights, &options, states ? &h_n : NULL);
    if (is(line, "output", "all")) return joined(tape, (psg_var[]){ y, h_n }, 2);
    return states ? chosen(line, y, h_n, h_n) : y;
}

static psg_var gru(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_rnn_options options = options_of(line);
    psg_rnn_weights weights[WEIGHT_SETS];
    psg_var h_n;
    int states = case_flag(line, "output");
    take_weights(line, var + 3, 4, weights);
    psg_var y = psg_gru(tape, var[0], var[1], var[2], weights, &options, states ? &h_n : NULL);
    if (is(line, "output", "all")) return joined(tape, (psg_var[]){ y, h_n }, 2);
    return states ? chosen(line, y, h_n, h_n) : y;
}

static psg_var lstm(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_rnn_options options = options_of(line);
    psg_rnn_weights weights[WEIGHT_SETS];
    psg_var h_n, c_n;
    int states = case_flag(line, "output");
    take_weights(line, var + 4, 5, weights);
    psg_var y =
        psg_lstm(tape, var[0], var[1], var[2], var[3], weights, &options, states ? &h_n : NULL, states ? &c_n : NULL);
    if (is(line, "output", "all")) return joined(tape, (psg_var[]){ y, h_n, c_n }, 3);
    return states ? chosen(line, y, h_n, c_n) : y;
}

const case_op case_op_rnn = { "rnn", { SEQUENCE, STATE(h0), LAYERS }, rnn };
const case_op case_op_gru = { "gru", { SEQUENCE, STATE(h0), LAYERS }, gru };
const case_op case_op_lstm = { "lstm", { SEQUENCE, STATE(h0), STATE(c0), PROJECTED_LAYERS }, lstm };

static psg_var rnn_cell(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_rnn_weights weights = { var[2], var[3], var[4], var[5], psg_none() };
    return psg_rnn_cell(tape, var[0], var[1], &weights, options_of(line).nonlinearity);
}

static psg_var gru_cell(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    psg_rnn_weights weights = { var[2], var[3], var[4], var[5], psg_none() };
    return psg_gru_cell(tape, var[0], var[1], &weights);
}

static psg_var lstm_cell(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_rnn_weights weights = { var[3], var[4], var[5], var[6], psg_none() };
    psg_var c, h = psg_lstm_cell(tape, var[0], var[1], var[2], &weights, case_flag(line, "output") ? &c : NULL);
    return case_flag(line, "output") ? chosen(line, h, h, c) : h;
}

const case_op case_op_rnn_cell = { "rnn_cell", { RULE(x, PSG_BATCHED, 0, CASE_REAL), STATE(hx), CELL }, rnn_cell };
const case_op case_op_gru_cell = { "gru_cell", { RULE(x, PSG_BATCHED, 0, CASE_REAL), STATE(hx), CELL }, gru_cell };
const case_op case_op_lstm_cell = { "lstm_cell",
                                    { RULE(x, PSG_BATCHED, 0, CASE_REAL), STATE(hx), STATE(cx), CELL },
                                    lstm_cell };
