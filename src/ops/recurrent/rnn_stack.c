/* Layers on layers: one op a layer, with dropout between them; and the cells' common front. */
#include "ops/recurrent/rnn_layer.h"
#include "tape/tape_struct.h"

static psg_var part_of(psg_tape *tape, psg_var output, psg_var before, const psg_rnn_part_attributes *attributes) {
    return psg_record(tape, &psg_op_rnn_part, (psg_var[]){ output, before }, 2, attributes);
}

/* ---- layers ---- */

static psg_status check_options(psg_tape *tape, const psg_rnn_stack *stack) {
    const psg_rnn_options *o = stack->options;
    if (!psg_tape_alive(tape, stack->layer->name)) return PSG_ERR_STATE;
    if (!stack->weights) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: weights is NULL, must be an array of one a layer and "
                             "direction", stack->layer->name);
    }
    if (o->num_layers < 0) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: num_layers is %d, must be at least 1 (0 stands for 1)",
                             stack->layer->name, o->num_layers);
    }
    if (o->dropout >= 0 && o->dropout <= 1) return PSG_OK;
    return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: dropout is %g, must be in [0, 1]", stack->layer->name,
                         o->dropout);
}

static void place_weights(const psg_rnn_weights *weights, psg_var *inputs) {
    inputs[PSG_WEIGHT_IH] = weights->weight_ih;
    inputs[PSG_WEIGHT_HH] = weights->weight_hh;
    inputs[PSG_BIAS_IH] = weights->bias_ih;
    inputs[PSG_BIAS_HH] = weights->bias_hh;
    inputs[PSG_WEIGHT_HR] = weights->weight_hr;
}

static psg_var record_layer(psg_tape *tape, const psg_rnn_stack *stack, int layer, int layers, psg_var x) {
    const psg_rnn_options *o = stack->options;
    int directions = o->bidirectional ? 2 : 1;
    psg_var inputs[PSG_RNN_INPUTS] = { { 0 } };
    psg_recurrent_attributes attributes = {
        .nonlinearity = o->nonlinearity, .layout = o->layout, .states = stack->h_n || stack->c_n,
        .state_row = layer * directions, .state_rows = layers * directions,
    };
    inputs[PSG_RNN_INPUT] = x;
    inputs[PSG_RNN_HX] = stack->h0;
    inputs[PSG_RNN_CX] = stack->c0;
    inputs[PSG_RNN_LENGTHS] = stack->lengths;
    for (int d = 0; d < directions; d++) {
        place_weights(&stack->weights[layer * directions + d],
                      &inputs[PSG_RNN_WEIGHTS + d * PSG_RNN_WEIGHT_COUNT]);
    }
    return psg_record(tape, stack->layer, inputs, PSG_RNN_INPUTS, &attributes);
}

/* Takes an output with states apart: its rows h (and c) go after those of the layers below, the steps are returned. */
static psg_var take_states(psg_tape *tape, const psg_rnn_stack *stack, int layer, psg_var output) {
    const psg_tape_var *whole = psg_tape_var_of(tape, output);
    if (!whole || !(stack->h_n || stack->c_n)) return output;
    int64_t directions = stack->options->bidirectional ? 2 : 1;
    const psg_rnn_weights *weights = &stack->weights[layer * directions];
    const psg_tensor *ih = &psg_tape_var_of(tape, weights->weight_ih)->value;
    const psg_tensor *hh = &psg_tape_var_of(tape, weights->weight_hh)->value;
    bool has_c = stack->layer == &psg_op_lstm;
    int64_t steps = whole->value.shape[1] - (has_c ? 2 : 1);
    int64_t h = directions * hh->shape[1], c = directions * (ih->shape[0] / 4);
    psg_rnn_part_attributes y = { 0, steps, h, 1, 0 }, h_n = { steps, 1, h, directions, 0 };
    psg_rnn_part_attributes c_n = { steps + 1, 1, c, directions, 0 };
    psg_var none = psg_none();
    if (stack->h_n) *stack->h_n = part_of(tape, output, layer ? *stack->h_n : none, &h_n);
    if (stack->c_n) *stack->c_n = part_of(tape, output, layer ? *stack->c_n : none, &c_n);
    return part_of(tape, output, none, &y);
}

psg_var psg_rnn_record(psg_tape *tape, const psg_rnn_stack *given) {
    static const psg_rnn_options defaults = PSG_RNN_OPTIONS_INIT;
    psg_rnn_stack stack = *given;
    if (!stack.options) stack.options = &defaults;
    if (stack.h_n) *stack.h_n = psg_tape_no_var();
    if (stack.c_n) *stack.c_n = psg_tape_no_var();
    if (check_options(tape, &stack)) return psg_tape_no_var();
    int layers = stack.options->num_layers ? stack.options->num_layers : 1;
    psg_var x = stack.x;
    for (int layer = 0; layer < layers; layer++) {
        if (layer && stack.options->dropout > 0) x = psg_dropout(tape, x, stack.options->dropout);
        x = take_states(tape, &stack, layer, record_layer(tape, &stack, layer, layers, x));
    }
    return x;
}

/* ---- cells ---- */

psg_var psg_rnn_record_cell(psg_tape *tape, const psg_op *cell, const psg_var state[3], const psg_rnn_weights *weights,
                            psg_rnn_nonlinearity nonlinearity, psg_var *c) {
    if (c) *c = psg_tape_no_var();
    if (!psg_tape_alive(tape, cell->name)) return psg_tape_no_var();
    if (!weights || weights->weight_hr.id) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: weights %s", cell->name,
                      weights ? "has a weight_hr, but a cell has no projection" : "is NULL");
        return psg_tape_no_var();
    }
    psg_var inputs[PSG_RNN_WEIGHTS + PSG_RNN_WEIGHT_COUNT] = { state[0], state[1], state[2] };
    psg_recurrent_attributes attributes = { .nonlinearity = nonlinearity, .states = c != NULL };
    place_weights(weights, &inputs[PSG_RNN_WEIGHTS]);
    psg_var output = psg_record(tape, cell, inputs, PSG_RNN_CELL_INPUTS, &attributes);
    const psg_tape_var *whole = psg_tape_var_of(tape, output);
    if (!c || !whole) return output;
    int64_t hidden = whole->value.shape[2];
    psg_rnn_part_attributes h_part = { 0, 1, hidden, 1, 1 }, c_part = { 1, 1, hidden, 1, 1 };
    *c = part_of(tape, output, psg_none(), &c_part);
    return part_of(tape, output, psg_none(), &h_part);
}
