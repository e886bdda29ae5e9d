/* gru: gates r, z, n; n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (h - n) z + n.
 *
 * Everything but the step itself is that of any recurrent layer (rnn_layer.h). */
#include "kernels.h"
#include "ops/recurrent/rnn_layer.h"

static psg_row_kernel forward_kernel(const psg_kernel_table *kernels) { return kernels->gru_forward; }
static psg_row_kernel backward_kernel(const psg_kernel_table *kernels) { return kernels->gru_backward; }

/* The n-gate's hidden part is multiplied by r: a sum of its own, and in the way back gradients of its own, so that
 * weight_ih has the first three blocks of them and weight_hh the last three. */
static const psg_rnn_kind layer = { .gates = 3, .sums = 4, .kept = 6, .hidden_part = 3, .carries_h = true,
                                    .forward = forward_kernel, .backward = backward_kernel };
static const psg_rnn_kind cell = { .gates = 3, .sums = 4, .kept = 6, .hidden_part = 3, .carries_h = true,
                                   .one_step = true,
                                   .forward = forward_kernel, .backward = backward_kernel };

/* ---- layer ---- */

const psg_op psg_op_gru = PSG_RNN_OP("gru", &layer, PSG_RNN_INPUTS);

psg_var psg_gru(psg_tape *tape, psg_var x, psg_var lengths, psg_var h0, const psg_rnn_weights *weights,
                const psg_rnn_options *options, psg_var *h_n) {
    psg_rnn_stack stack = { &psg_op_gru, x, lengths, h0, psg_none(), weights, options, h_n, NULL };
    return psg_rnn_record(tape, &stack);
}

/* ---- cell ---- */

const psg_op psg_op_gru_cell = PSG_RNN_OP("gru_cell", &cell, PSG_RNN_CELL_INPUTS);

psg_var psg_gru_cell(psg_tape *tape, psg_var x, psg_var hx, const psg_rnn_weights *weights) {
    return psg_rnn_record_cell(tape, &psg_op_gru_cell, (psg_var[3]){ x, hx }, weights, PSG_RNN_TANH, NULL);
}
