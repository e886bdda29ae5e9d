/* lstm: gates i, f, g, o; c' = f c + i g, h' = o tanh(c'), and W_hr times that.
 *
 * Everything but the step itself is that of any recurrent layer (rnn_layer.h). */
#include "kernels.h"
#include "ops/recurrent/rnn_layer.h"

static psg_row_kernel forward_kernel(const psg_kernel_table *kernels) { return kernels->lstm_forward; }
static psg_row_kernel backward_kernel(const psg_kernel_table *kernels) { return kernels->lstm_backward; }

static const psg_rnn_kind layer = { .gates = 4, .sums = 4, .kept = 4, .has_cell = true,
                                    .forward = forward_kernel, .backward = backward_kernel };
static const psg_rnn_kind cell = { .gates = 4, .sums = 4, .kept = 4, .has_cell = true, .one_step = true,
                                   .forward = forward_kernel, .backward = backward_kernel };

/* ---- layer ---- */

const psg_op psg_op_lstm = PSG_RNN_OP("lstm", &layer, PSG_RNN_INPUTS);

psg_var psg_lstm(psg_tape *tape, psg_var x, psg_var lengths, psg_var h0, psg_var c0,
                 const psg_rnn_weights *weights,
                 const psg_rnn_options *options, psg_var *h_n, psg_var *c_n) {
    psg_rnn_stack stack = { &psg_op_lstm, x, lengths, h0, c0, weights, options, h_n, c_n };
    return psg_rnn_record(tape, &stack);
}

/* ---- cell ---- */

const psg_op psg_op_lstm_cell = PSG_RNN_OP("lstm_cell", &cell, PSG_RNN_CELL_INPUTS);

psg_var psg_lstm_cell(psg_tape *tape, psg_var x, psg_var hx, psg_var cx, const psg_rnn_weights *weights, psg_var *c) {
    return psg_rnn_record_cell(tape, &psg_op_lstm_cell, (psg_var[3]){ x, hx, cx }, weights, PSG_RNN_TANH, c);
}
