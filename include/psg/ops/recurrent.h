/* psg/ops/recurrent.h: RNN, LSTM and GRU, layers and cells.
 *
 * Layout.  It is the pass's: x is (N, T, input), and (T, N, input) in a batch_second pass.  States follow the same law,
 * the batch where the ops of the pass look for it: L * D rows of a sample, (N, L * D, H), and (L * D, N, H) in a
 * batch_second pass (which is PyTorch's shape); of L layers and D directions row l * D + d is that of layer l and
 * direction d.
 *
 * Gates, in PyTorch's order (LSTM i, f, g, o; GRU r, z, n) and with its two biases; s is the logistic function:
 *   rnn   h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu
 *   lstm  c' = s(f) c + s(i) tanh(g),  h' = s(o) tanh(c');  with weight_hr h' = W_hr (s(o) tanh(c'))
 *   gru   n = tanh(W_in x + b_in + s(r) (W_hn h + b_hn)),  h' = (h - n) s(z) + n
 *
 * Lengths.  N integers in [0, T], in the order of the samples, any order: sample n is its first lengths[n] steps.  Its
 * output is 0 beyond them, its final states are those after its last step (the reverse direction starts there), and
 * nothing flows back from beyond.  A sample of length 0 keeps its initial states.
 *
 * Gradients: weights factored, one block over all steps a layer and direction; biases rows.
 * Errors: PSG_ERR_SHAPE for a sequence without a batch and for sizes that disagree, PSG_ERR_ARGUMENT for lengths
 * outside [0, T] and options outside their range, PSG_ERR_BATCH for an input of another batch size. */
#ifndef PSG_PUBLIC_OPS_RECURRENT_H
#define PSG_PUBLIC_OPS_RECURRENT_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The parameters of one layer and direction, or of a cell: G = 1 (rnn), 4 (lstm) or 3 (gru) blocks of H rows. */
typedef struct psg_rnn_weights {
    psg_var weight_ih;   /* (G H, input); of a layer above the first: (G H, D R) */
    psg_var weight_hh;   /* (G H, R), R = H without a projection */
    psg_var bias_ih;     /* (G H), or psg_none() */
    psg_var bias_hh;     /* (G H), or psg_none() */
    psg_var weight_hr;   /* lstm: the projection (R, H), or psg_none() */
} psg_rnn_weights;

/* Of psg_rnn and psg_rnn_cell. */
typedef enum psg_rnn_nonlinearity { PSG_RNN_TANH = 0, PSG_RNN_RELU = 1 } psg_rnn_nonlinearity;

/* Which layout the model was written for: anything but that of the pass is PSG_ERR_ARGUMENT. */
typedef enum psg_rnn_layout {
    PSG_RNN_LAYOUT_OF_PASS = 0,
    PSG_RNN_BATCH_FIRST = 1,
    PSG_RNN_BATCH_SECOND = 2
} psg_rnn_layout;

/* Of a stack of layers; zeroed: one layer, one direction, no dropout, tanh. */
typedef struct psg_rnn_options {
    int num_layers;                     /* 0 stands for 1; at most 65536 */
    int bidirectional;                  /* non-zero: two directions, the second from the last step to the first */
    double dropout;                     /* of each layer's output but the last's, as psg_dropout */
    psg_rnn_nonlinearity nonlinearity;  /* psg_rnn alone */
    psg_rnn_layout layout;
    uint64_t reserved[4];
} psg_rnn_options;

#define PSG_RNN_OPTIONS_INIT { 0, 0, 0.0, PSG_RNN_TANH, PSG_RNN_LAYOUT_OF_PASS, { 0, 0, 0, 0 } }

/* y (N, T, D R), both directions of a step side by side, the forward one first.
 *   lengths  (N) i32 or i64, or psg_none(): all T.  In a per-sample pass an input (psg_input).
 *   h0, c0   rows of R and of H (c0), or psg_none(): zero.  A parameter or a constant carries no batch: (L * D, R), one
 *            initial state for all samples, learnable; its gradient is rows.
 *   weights  L * D of them, layer by layer, the forward direction first
 *   options  NULL: the defaults
 *   h_n, c_n NULL, or receive the final states, rows like h0 and c0 (a classifier: psg_flatten(h_n, 1, -1); in a
 *            batch_second pass psg_select(h_n, 0, row)) */
PSG_API psg_var psg_rnn(psg_tape *tape, psg_var x, psg_var lengths, psg_var h0, const psg_rnn_weights *weights,
                        const psg_rnn_options *options, psg_var *h_n);
PSG_API psg_var psg_lstm(psg_tape *tape, psg_var x, psg_var lengths, psg_var h0, psg_var c0,
                         const psg_rnn_weights *weights, const psg_rnn_options *options, psg_var *h_n, psg_var *c_n);
PSG_API psg_var psg_gru(psg_tape *tape, psg_var x, psg_var lengths, psg_var h0, const psg_rnn_weights *weights,
                        const psg_rnn_options *options, psg_var *h_n);

/* One step: x (N, input); hx and cx (N, H), for a parameter or constant (H), or psg_none(): zero.  The new h (N, H). */
PSG_API psg_var psg_rnn_cell(psg_tape *tape, psg_var x, psg_var hx, const psg_rnn_weights *weights,
                             psg_rnn_nonlinearity nonlinearity);
/* The same with gates.  c (NULL, or receives the new c): (N, H). */
PSG_API psg_var psg_lstm_cell(psg_tape *tape, psg_var x, psg_var hx, psg_var cx, const psg_rnn_weights *weights,
                              psg_var *c);
PSG_API psg_var psg_gru_cell(psg_tape *tape, psg_var x, psg_var hx, const psg_rnn_weights *weights);

/* ---- the ops behind them, for psg_apply ----
 * "rnn", "lstm", "gru": one layer.  Inputs: input, hx, cx, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, the last
 * five once more for the reverse direction, lengths; at least the first weight_ih and weight_hh.
 * "rnn_cell", "lstm_cell", "gru_cell": the first seven of these. */
typedef struct psg_recurrent_attributes {
    psg_rnn_nonlinearity nonlinearity;
    psg_rnn_layout layout;
    int states;          /* non-zero: the output has further rows after step T - 1: the final h of both directions, the
                            final c (lstm); its rows then hold D max(R, H) elements (lstm), 0 where y or h has fewer.
                            lstm_cell: (N, 2, H), h and c */
    int64_t state_row;   /* the first row of hx and cx that is this layer's */
    int64_t state_rows;  /* how many rows they have; 0: the directions of this layer */
} psg_recurrent_attributes;

#ifdef __cplusplus
}
#endif
#endif
