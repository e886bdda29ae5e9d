/* One layer of a recurrent network, both directions, whatever its cell: what rnn.c, lstm.c and gru.c share.
 *
 * Arrays that outlive a call are (B, T, *) in the order of time, for either direction.  Samples are taken in the order
 * of descending lengths and cut into chunks at fixed places; a chunk goes through all steps on one worker, and those of
 * its samples that a step reaches are its first ones. */
#ifndef PSG_OPS_RNN_LAYER_H
#define PSG_OPS_RNN_LAYER_H

#include <stdbool.h>

#include "base/context.h"
#include "psg/ops/recurrent.h"
#include "recurrent_kernel.h"

/* ---- operands ---- */

enum { PSG_RNN_INPUT, PSG_RNN_HX, PSG_RNN_CX, PSG_RNN_WEIGHTS };
/* Of direction d: operand PSG_RNN_WEIGHTS + d * PSG_RNN_WEIGHT_COUNT + one of these. */
enum { PSG_WEIGHT_IH, PSG_WEIGHT_HH, PSG_BIAS_IH, PSG_BIAS_HH, PSG_WEIGHT_HR, PSG_RNN_WEIGHT_COUNT };
enum { PSG_RNN_LENGTHS = PSG_RNN_WEIGHTS + 2 * PSG_RNN_WEIGHT_COUNT, PSG_RNN_INPUTS };

/* ---- what tells the cells apart ---- */

typedef void (*psg_row_kernel)(const psg_recurrent_row *row);

typedef struct psg_rnn_kind {
    int gates;          /* blocks of H rows of weight_ih */
    int sums;           /* blocks of pre-activations; more than gates: the last gate's hidden part is apart */
    int kept;           /* blocks of what is kept of a step, and of the gradients of its sums */
    int hidden_part;    /* the block in these where the gradients that belong to weight_hh begin */
    bool has_cell;      /* there is a c */
    bool carries_h;     /* the new h contains the old one */
    bool one_step;      /* the op of a single step */
    psg_row_kernel (*forward)(const psg_kernel_table *kernels);
    psg_row_kernel (*backward)(const psg_kernel_table *kernels);
} psg_rnn_kind;

/* ---- sizes ---- */

typedef struct psg_rnn_sizes {
    int64_t batch, steps, input, hidden;
    int64_t output;               /* R: of h */
    int64_t directions;
    int64_t sums, kept;           /* elements of a step */
    int64_t width;                /* elements of a row of the output */
    int64_t h_row, c_row;         /* rows of the output that hold the final states; -1: none */
    int64_t rows;                 /* of the output */
    bool projects;
} psg_rnn_sizes;

/* Rows of samples and steps, in bytes. */
typedef struct psg_rnn_rows {
    char *data;
    int64_t sample, step;
} psg_rnn_rows;

static inline void *psg_rnn_row(const psg_rnn_rows *rows, int64_t n, int64_t t) {
    return rows->data + n * rows->sample + t * rows->step;
}

/* What forward keeps for backward, a direction.  h and c hold one state more than there are steps, h0 and c0 first
 * (reverse: last): the state after step t is at t + 1 (reverse: t). */
typedef struct psg_rnn_states {
    psg_rnn_rows gates;       /* backward turns them into the gradients of the sums */
    psg_rnn_rows h, c;
    psg_rnn_rows unprojected; /* o tanh(c) */
} psg_rnn_states;

typedef struct psg_rnn_kept {
    int64_t *order;           /* B samples by descending length */
    int64_t *lengths;         /* by sample */
    psg_rnn_states states[2];
} psg_rnn_kept;

/* ---- a call, read ---- */

typedef struct psg_rnn_layer {
    psg_call *call;
    const psg_rnn_kind *kind;
    const psg_kernel_table *kernels;
    psg_rnn_sizes sizes;
    size_t element;           /* bytes */
    int64_t chunk;            /* samples */
    psg_rnn_kept *kept;
} psg_rnn_layer;

/* Operand k, an absent one past the op's inputs; direction d's weights. */
const psg_operand *psg_rnn_operand(const psg_call *call, int k);
const psg_operand *psg_rnn_weight(const psg_call *call, int64_t d, int which);
/* Sizes from operands that have been checked. */
psg_rnn_layer psg_rnn_layer_of(psg_call *call);

/* Rows of a tensor (B, T, width), or (B, width). */
psg_rnn_rows psg_rnn_rows_of(const psg_rnn_layer *layer, const psg_tensor *tensor);
/* The row of sample n of direction d in hx or cx, or in its gradient. */
void *psg_rnn_state_row(const psg_rnn_layer *layer, int k, const psg_tensor *tensor, int64_t n, int64_t d);
/* Whether hx or cx (operand k) holds a row for every sample. */
bool psg_rnn_state_is_batched(const psg_rnn_layer *layer, int k);

/* How many of the samples order[first ..], at most count, have a step t. */
int64_t psg_rnn_active(const psg_rnn_layer *layer, int64_t first, int64_t count, int64_t t);
/* Where the state before and after step t lies. */
static inline int64_t psg_rnn_before(int64_t d, int64_t t) { return d ? t + 1 : t; }
static inline int64_t psg_rnn_after(int64_t d, int64_t t) { return d ? t : t + 1; }

/* A k x n matrix as panels, from element (t, j) at w[j * n_stride + t * k_stride], in rows [from, from + k) of panels
 * that are panel_k long. */
void psg_rnn_pack(const psg_rnn_layer *layer, const void *w, int64_t n, int64_t n_stride, int64_t k, int64_t k_stride,
                  void *panels, int64_t from, int64_t panel_k);
/* Elements of such panels. */
int64_t psg_rnn_panel_elements(const psg_rnn_layer *layer, int64_t n, int64_t k);
/* count elements that live until the next pass; NULL after failing the call. */
void *psg_rnn_take(const psg_rnn_layer *layer, int64_t count);

/* ---- the ops, whose traits are their psg_rnn_kind ---- */

psg_status psg_rnn_shape(psg_call *call);
psg_status psg_rnn_forward(psg_call *call);
psg_status psg_rnn_backward(psg_call *call);

extern const char *const psg_rnn_input_names[PSG_RNN_INPUTS];
enum { PSG_RNN_CELL_INPUTS = PSG_RNN_WEIGHTS + PSG_WEIGHT_HR };
#define PSG_RNN_REVERSE_INPUTS (0x1fu << (PSG_RNN_WEIGHTS + PSG_RNN_WEIGHT_COUNT))
#define PSG_RNN_OPTIONAL_INPUTS                                                                    \
    (1u << PSG_RNN_HX | 1u << PSG_RNN_CX | 7u << (PSG_RNN_WEIGHTS + PSG_BIAS_IH) |              \
     PSG_RNN_REVERSE_INPUTS | 1u << PSG_RNN_LENGTHS)
#define PSG_RNN_PARAMETER_INPUTS ((1u << PSG_RNN_LENGTHS) - 2u)

/* An op of the first `inputs` operands. */
#define PSG_RNN_OP(name_, kind, inputs)                                   \
    {                                                                     \
        .name = name_,                                                    \
        .input_count = inputs,                                            \
        .input_names = psg_rnn_input_names,                               \
        .optional_inputs = PSG_RNN_OPTIONAL_INPUTS & ((1u << inputs) - 1u),   \
        .parameter_inputs = PSG_RNN_PARAMETER_INPUTS & ((1u << inputs) - 1u), \
        .attributes_size = sizeof(psg_recurrent_attributes),              \
        .shape = psg_rnn_shape,                                           \
        .forward = psg_rnn_forward,                                       \
        .backward = psg_rnn_backward,                                     \
        .traits = kind,                                                   \
    }

/* ---- fronts ---- */

typedef struct psg_rnn_stack {
    const psg_op *layer;      /* the op of one layer */
    psg_var x, lengths, h0, c0;
    const psg_rnn_weights *weights;
    const psg_rnn_options *options;
    psg_var *h_n, *c_n;
} psg_rnn_stack;

/* All layers and directions. */
psg_var psg_rnn_record(psg_tape *tape, const psg_rnn_stack *stack);
/* A cell's op on the operands; c NULL: its h is the output. */
psg_var psg_rnn_record_cell(psg_tape *tape, const psg_op *cell, const psg_var state[3], const psg_rnn_weights *weights,
                            psg_rnn_nonlinearity nonlinearity, psg_var *c);

#endif
