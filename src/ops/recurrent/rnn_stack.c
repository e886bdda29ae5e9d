/* Layers on layers: one op a layer, with dropout between them; and the cells' common front.  An op with states has them
 * in rows after its steps; slices part them. */
#include "base/reserved.h"
#include "ops/recurrent/rnn_layer.h"
#include "psg/ops/activation.h"
#include "psg/ops/recurrent.h"
#include "psg/ops/shape.h"

/* The dimension of the steps; any of a pass that has failed meanwhile. */
static int steps_dim(const psg_tape *tape) {
    const psg_pass *pass = psg_tape_pass(tape);
    return pass && pass->batch_second ? 0 : 1;
}

static bool pass_has_begun(psg_tape *tape, const char *name) {
    if (psg_tape_pass(tape)) return true;
    psg_tape_fail(tape, PSG_ERR_STATE, "%s: no pass, call psg_tape_begin first", name);
    return false;
}

/* ---- layers ---- */

enum { MOST_LAYERS = 1 << 16 };

static psg_status check_options(psg_tape *tape, const psg_rnn_stack *stack) {
    const psg_rnn_options *o = stack->options;
    if (!stack->weights) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: weights is NULL, must be an array of one a layer and "
                             "direction", stack->layer->name);
    }
    if (psg_reserved_is_set(o->reserved)) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: options" PSG_RESERVED_TEXT, stack->layer->name);
    }
    if (o->num_layers < 0 || o->num_layers > MOST_LAYERS) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: num_layers is %d, must be in [1, %d] (0 stands for 1)",
                             stack->layer->name, o->num_layers, MOST_LAYERS);
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
    if (directions == 2 && !inputs[PSG_RNN_WEIGHTS + PSG_RNN_WEIGHT_COUNT + PSG_WEIGHT_IH].id) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: weight_ih_reverse of layer %d is absent, but bidirectional is set",
                      stack->layer->name, layer);
        return psg_none();
    }
    return psg_record(tape, stack->layer, inputs, PSG_RNN_INPUTS, &attributes);
}

/* The rows of a state, of `size` elements a direction side by side, go one after another behind those of *states. */
static void append_state(psg_tape *tape, psg_var row, int directions, int64_t size, psg_var *states) {
    for (int d = 0; d < directions; d++) {
        psg_var parts[2] = { *states, psg_slice(tape, row, -1, d * size, (d + 1) * size, 1) };
        *states = parts[0].id ? psg_cat(tape, parts, 2, steps_dim(tape)) : parts[1];
    }
}

/* Takes an output with states apart: its rows h (and c) go after those of the layers below, the steps are returned. */
static psg_var take_states(psg_tape *tape, const psg_rnn_stack *stack, const psg_rnn_weights *weights, psg_var output) {
    psg_tensor whole, ih, hh;
    if (!(stack->h_n || stack->c_n) || psg_value_shape(tape, output, &whole)) return output;
    if (psg_value_shape(tape, weights->weight_ih, &ih) || psg_value_shape(tape, weights->weight_hh, &hh)) return output;
    const psg_rnn_kind *kind = stack->layer->traits;
    int directions = stack->options->bidirectional ? 2 : 1, dim = steps_dim(tape), h_row = kind->has_cell ? -2 : -1;
    int64_t size = hh.shape[1], hidden = ih.shape[0] / kind->gates;
    psg_var h = psg_slice(tape, output, dim, h_row, kind->has_cell ? -1 : INT64_MAX, 1);
    if (stack->h_n) append_state(tape, h, directions, size, stack->h_n);
    if (stack->c_n) {
        append_state(tape, psg_slice(tape, output, dim, -1, INT64_MAX, 1), directions, hidden, stack->c_n);
    }
    psg_var y = psg_slice(tape, output, dim, 0, h_row, 1);
    return whole.shape[2] == directions * size ? y : psg_slice(tape, y, -1, 0, directions * size, 1);
}

psg_var psg_rnn_record(psg_tape *tape, const psg_rnn_stack *given) {
    static const psg_rnn_options defaults = PSG_RNN_OPTIONS_INIT;
    psg_rnn_stack stack = *given;
    if (!stack.options) stack.options = &defaults;
    if (stack.h_n) *stack.h_n = psg_none();
    if (stack.c_n) *stack.c_n = psg_none();
    if (!pass_has_begun(tape, stack.layer->name) || check_options(tape, &stack)) return psg_none();
    int layers = stack.options->num_layers ? stack.options->num_layers : 1;
    psg_var x = stack.x;
    for (int layer = 0; layer < layers && psg_tape_pass(tape); layer++) {
        if (layer && stack.options->dropout > 0) x = psg_dropout(tape, x, stack.options->dropout);
        psg_var output = record_layer(tape, &stack, layer, layers, x);
        x = take_states(tape, &stack, &stack.weights[layer * (stack.options->bidirectional ? 2 : 1)], output);
    }
    return x;
}

/* ---- cells ---- */

psg_var psg_rnn_record_cell(psg_tape *tape, const psg_op *cell, const psg_var state[3], const psg_rnn_weights *weights,
                            psg_rnn_nonlinearity nonlinearity, psg_var *c) {
    if (c) *c = psg_none();
    if (!pass_has_begun(tape, cell->name)) return psg_none();
    if (!weights || weights->weight_hr.id) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "%s: weights %s", cell->name,
                      weights ? "has a weight_hr, but a cell has no projection" : "is NULL");
        return psg_none();
    }
    psg_var inputs[PSG_RNN_WEIGHTS + PSG_RNN_WEIGHT_COUNT] = { state[0], state[1], state[2] };
    psg_recurrent_attributes attributes = { .nonlinearity = nonlinearity, .states = c != NULL };
    place_weights(weights, &inputs[PSG_RNN_WEIGHTS]);
    psg_var output = psg_record(tape, cell, inputs, PSG_RNN_CELL_INPUTS, &attributes);
    if (!c || !psg_tape_pass(tape)) return output;
    *c = psg_select(tape, output, steps_dim(tape), 1);
    return psg_select(tape, output, steps_dim(tape), 0);
}
