/* rnn: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.
 *
 * Everything but the step itself is that of any recurrent layer (rnn_layer.h). */
#include "kernels.h"
#include "ops/recurrent/rnn_layer.h"

static psg_row_kernel forward_kernel(const psg_kernel_table *kernels) { return kernels->rnn_forward; }
static psg_row_kernel backward_kernel(const psg_kernel_table *kernels) { return kernels->rnn_backward; }

static const psg_rnn_kind layer = { .gates = 1, .sums = 1, .kept = 1,
                                    .forward = forward_kernel, .backward = backward_kernel };
static const psg_rnn_kind cell = { .gates = 1, .sums = 1, .kept = 1, .one_step = true,
                                   .forward = forward_kernel, .backward = backward_kernel };

/* ---- layer ---- */

const psg_op psg_op_rnn = PSG_RNN_OP("rnn", &layer, PSG_RNN_INPUTS);

psg_var psg_rnn(psg_tape *tape, psg_var x, psg_var lengths, psg_var h0, const psg_rnn_weights *weights,
                const psg_rnn_options *options, psg_var *h_n) {
    psg_rnn_stack stack = { &psg_op_rnn, x, lengths, h0, psg_none(), weights, options, h_n, NULL };
    return psg_rnn_record(tape, &stack);
}

/* ---- cell ---- */

const psg_op psg_op_rnn_cell = PSG_RNN_OP("rnn_cell", &cell, PSG_RNN_CELL_INPUTS);

psg_var psg_rnn_cell(psg_tape *tape, psg_var x, psg_var hx, const psg_rnn_weights *weights,
                     psg_rnn_nonlinearity nonlinearity) {
    return psg_rnn_record_cell(tape, &psg_op_rnn_cell, (psg_var[3]){ x, hx }, weights, nonlinearity, NULL);
}
