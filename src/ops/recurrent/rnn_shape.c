/* What a recurrent layer accepts, and the sizes that follow. */
#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/recurrent/rnn_layer.h"

const char *const psg_rnn_input_names[PSG_RNN_INPUTS] = {
    "input", "hx", "cx", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ih_reverse",
    "weight_hh_reverse", "bias_ih_reverse", "bias_hh_reverse", "weight_hr_reverse", "lengths",
};

static const psg_recurrent_attributes *attributes_of(const psg_call *call) { return call->attributes; }

const psg_operand *psg_rnn_operand(const psg_call *call, int k) {
    static const psg_operand absent;
    return k < call->input_count ? &call->input[k] : &absent;
}

const psg_operand *psg_rnn_weight(const psg_call *call, int64_t d, int which) {
    return psg_rnn_operand(call, PSG_RNN_WEIGHTS + (int)d * PSG_RNN_WEIGHT_COUNT + which);
}

/* ---- sizes ---- */

/* The sizes that the first direction's weights and the input tell; dimensions must have been checked. */
static psg_rnn_sizes sizes_of(const psg_call *call, const psg_rnn_kind *kind) {
    const psg_tensor *x = &call->input[PSG_RNN_INPUT].value, *w = &psg_rnn_weight(call, 0, PSG_WEIGHT_IH)->value;
    const psg_operand *hr = psg_rnn_weight(call, 0, PSG_WEIGHT_HR);
    psg_rnn_sizes s = { .batch = x->shape[0], .steps = kind->one_step ? 1 : x->shape[1],
                        .input = x->shape[x->rank - 1], .hidden = w->shape[0] / kind->gates, .h_row = -1, .c_row = -1 };
    s.projects = hr->role != PSG_ABSENT;
    s.output = s.projects ? hr->value.shape[0] : s.hidden;
    s.directions = psg_rnn_weight(call, 1, PSG_WEIGHT_IH)->role == PSG_ABSENT ? 1 : 2;
    s.sums = kind->sums * s.hidden;
    s.kept = kind->kept * s.hidden;
    bool states = attributes_of(call)->states != 0;
    s.rows = s.steps;
    if (states && !kind->one_step) s.h_row = s.rows++;
    if (states && kind->has_cell) s.c_row = s.rows++;
    s.width = s.directions * (s.c_row >= 0 && s.hidden > s.output ? s.hidden : s.output);
    return s;
}

/* Chunks of eight to 32 samples: as many as make four of them, whole tiles of the product kernel. */
static int64_t chunk_of(int64_t batch) {
    int64_t chunk = (batch / 4 + 7) / 8 * 8;
    return chunk < 8 ? 8 : chunk > 32 ? 32 : chunk;
}

psg_rnn_layer psg_rnn_layer_of(psg_call *call) {
    const psg_rnn_kind *kind = call->op->traits;
    psg_rnn_layer layer = { .call = call, .kind = kind, .kernels = psg_call_kernels(call),
                            .sizes = sizes_of(call, kind), .kept = call->kept };
    layer.element = psg_dtype_size(call->input[PSG_RNN_INPUT].value.dtype);
    layer.chunk = chunk_of(layer.sizes.batch);
    return layer;
}

/* ---- checks ---- */

static psg_status check_layout(psg_call *call) {
    const int second = call->pass->batch_second != 0;
    psg_rnn_layout layout = attributes_of(call)->layout, pass = second ? PSG_RNN_BATCH_SECOND : PSG_RNN_BATCH_FIRST;
    if (layout == PSG_RNN_LAYOUT_OF_PASS || layout == pass) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "layout is %d, but the batch is dimension %d of this pass "
                         "(psg_pass.batch_second): must be 0 or %d", (int)layout, second, (int)pass);
}

/* Products of two sizes then fit 63 bits. */
static psg_status check_below_2_31(psg_call *call, const char *name, const psg_tensor *x) {
    char text[PSG_SHAPE_TEXT];
    for (int d = 0; d < x->rank; d++) {
        if (x->shape[d] <= INT32_MAX) continue;
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "%s has shape %s, sizes must be below 2^31", name,
                             psg_tensor_text(x, text));
    }
    return PSG_OK;
}

static psg_status check_input(psg_call *call, const psg_rnn_kind *kind) {
    const psg_tensor *x = &call->input[PSG_RNN_INPUT].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = check_layout(call);
    if (status) return status;
    if (x->rank != (kind->one_step ? 2 : 3)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input must have shape %s, has %s; a sequence without a batch "
                             "dimension is not accepted", kind->one_step ? "(N, input_size)" : "(N, T, input_size)",
                             psg_tensor_text(x, text));
    }
    status = check_below_2_31(call, "input", x);
    if (!status) status = psg_operands_real(call, call->input_count < PSG_RNN_INPUTS ? call->input_count
                                                                                     : PSG_RNN_LENGTHS);
    return status ? status : psg_operand_carries_batch(call, PSG_RNN_INPUT);
}

static psg_status check_matrix(psg_call *call, int k, int64_t rows, int64_t columns) {
    const psg_tensor *w = &call->input[k].value;
    char have[PSG_SHAPE_TEXT];
    if (w->rank == 2 && w->shape[0] == rows && w->shape[1] == columns) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s must have shape (%lld, %lld), has %s", call->op->input_names[k],
                         (long long)rows, (long long)columns, psg_tensor_text(w, have));
}

static psg_status check_bias(psg_call *call, int k, int64_t rows) {
    const psg_operand *bias = psg_rnn_operand(call, k);
    char have[PSG_SHAPE_TEXT];
    if (bias->role == PSG_ABSENT || (bias->value.rank == 1 && bias->value.shape[0] == rows)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s must have shape (%lld), has %s", call->op->input_names[k],
                         (long long)rows, psg_tensor_text(&bias->value, have));
}

/* Weights carry no batch, and come in the pairs that a direction needs. */
static psg_status check_roles(psg_call *call, const psg_rnn_kind *kind) {
    for (int k = PSG_RNN_WEIGHTS; k < PSG_RNN_LENGTHS; k++) {
        if (psg_rnn_operand(call, k)->role != PSG_BATCHED) continue;
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s carries the batch, must be a parameter or a constant",
                             call->op->input_names[k]);
    }
    int reverse = PSG_RNN_WEIGHTS + PSG_RNN_WEIGHT_COUNT, given = 0;
    for (int k = reverse; k < PSG_RNN_LENGTHS; k++) given += psg_rnn_operand(call, k)->role != PSG_ABSENT;
    for (int k = reverse; k < reverse + 2 && given; k++) {
        if (psg_rnn_operand(call, k)->role != PSG_ABSENT) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is absent, but other weights of the reverse direction are "
                             "given", call->op->input_names[k]);
    }
    if (kind->has_cell) return PSG_OK;
    int only_lstm[] = { PSG_RNN_CX, PSG_RNN_WEIGHTS + PSG_WEIGHT_HR, reverse + PSG_WEIGHT_HR };
    for (int k = 0; k < 3; k++) {
        if (psg_rnn_operand(call, only_lstm[k])->role == PSG_ABSENT) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s is given, but only lstm has one",
                             call->op->input_names[only_lstm[k]]);
    }
    return PSG_OK;
}

/* The first weight_ih and weight_hr, which tell H and R. */
static psg_status check_first(psg_call *call, const psg_rnn_kind *kind) {
    const psg_tensor *w = &psg_rnn_weight(call, 0, PSG_WEIGHT_IH)->value;
    const psg_operand *hr = psg_rnn_weight(call, 0, PSG_WEIGHT_HR);
    char text[PSG_SHAPE_TEXT];
    if (w->rank != 2 || w->shape[0] % kind->gates) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "weight_ih must have shape (%d hidden_size, input_size), has %s",
                             kind->gates, psg_tensor_text(w, text));
    }
    psg_status status = check_below_2_31(call, "weight_ih", w);
    if (status || hr->role == PSG_ABSENT) return status;
    if (hr->value.rank == 2) return check_below_2_31(call, "weight_hr", &hr->value);
    return psg_call_fail(call, PSG_ERR_SHAPE, "weight_hr must have shape (proj_size, hidden_size), has %s",
                         psg_tensor_text(&hr->value, text));
}

static psg_status check_weights(psg_call *call, const psg_rnn_kind *kind, const psg_rnn_sizes *s, int d) {
    int at = PSG_RNN_WEIGHTS + d * PSG_RNN_WEIGHT_COUNT;
    int64_t rows = kind->gates * s->hidden;
    psg_status status = check_matrix(call, at + PSG_WEIGHT_IH, rows, s->input);
    if (!status) status = check_matrix(call, at + PSG_WEIGHT_HH, rows, s->output);
    if (!status) status = check_bias(call, at + PSG_BIAS_IH, rows);
    if (!status) status = check_bias(call, at + PSG_BIAS_HH, rows);
    if (status || (!s->projects && psg_rnn_weight(call, d, PSG_WEIGHT_HR)->role == PSG_ABSENT)) return status;
    if (psg_rnn_weight(call, d, PSG_WEIGHT_HR)->role == PSG_ABSENT || !s->projects) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "weight_hr must be given for both directions or for neither");
    }
    return check_matrix(call, at + PSG_WEIGHT_HR, s->output, s->hidden);
}

/* hx or cx: (B, rows, width), or (rows, width) for all samples; a cell's without the dimension of the rows. */
static psg_status check_state(psg_call *call, const psg_rnn_kind *kind, const psg_rnn_sizes *s, int k, int64_t width) {
    const psg_operand *state = &call->input[k];
    const psg_recurrent_attributes *a = attributes_of(call);
    if (state->role == PSG_ABSENT) return PSG_OK;
    int64_t rows = a->state_rows ? a->state_rows : s->directions, want[3];
    bool shared = state->role == PSG_PARAMETER ||
                  (state->role == PSG_CONSTANT && state->value.rank == (kind->one_step ? 1 : 2));
    int rank = 0;
    if (!shared) want[rank++] = s->batch;
    if (!kind->one_step) want[rank++] = rows;
    want[rank++] = width;
    char have[PSG_SHAPE_TEXT], text[PSG_SHAPE_TEXT];
    if (!psg_shape_equal(state->value.rank, state->value.shape, rank, want)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s must have shape %s, has %s", call->op->input_names[k],
                             psg_shape_text(rank, want, text), psg_tensor_text(&state->value, have));
    }
    if (rank == 3 && state->role == PSG_CONSTANT && call->pass->batch_second) {
        return psg_call_fail(call, PSG_ERR_BATCH, "%s is a constant with a row for every sample, must be an input "
                             "(psg_input) in a batch_second pass", call->op->input_names[k]);
    }
    if (kind->one_step || (a->state_row >= 0 && a->state_row <= rows - s->directions)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "state_row is %lld, must be in [0, %lld]", (long long)a->state_row,
                         (long long)(rows - s->directions));
}

static psg_status check_lengths(psg_call *call, const psg_rnn_sizes *s) {
    const psg_operand *lengths = psg_rnn_operand(call, PSG_RNN_LENGTHS);
    const psg_tensor *value = &lengths->value;
    char text[PSG_SHAPE_TEXT];
    if (lengths->role == PSG_ABSENT) return PSG_OK;
    if (value->dtype != PSG_I32 && value->dtype != PSG_I64) {
        return psg_call_fail(call, PSG_ERR_DTYPE, "lengths is %s, must be i32 or i64", psg_dtype_name(value->dtype));
    }
    if (value->rank != 1 || value->shape[0] != s->batch) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "lengths must have shape (%lld), has %s", (long long)s->batch,
                             psg_tensor_text(value, text));
    }
    if (lengths->role == PSG_BATCHED || call->pass->ordinary) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "lengths carries no batch, must be an input of the pass (psg_input)");
}

psg_status psg_rnn_shape(psg_call *call) {
    const psg_rnn_kind *kind = call->op->traits;
    psg_rnn_nonlinearity nonlinearity = attributes_of(call)->nonlinearity;
    if (nonlinearity != PSG_RNN_TANH && nonlinearity != PSG_RNN_RELU) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "nonlinearity is %d, must be PSG_RNN_TANH or PSG_RNN_RELU",
                             (int)nonlinearity);
    }
    psg_status status = check_input(call, kind);
    if (!status) status = check_roles(call, kind);
    if (!status) status = check_first(call, kind);
    if (status) return status;
    psg_rnn_sizes s = sizes_of(call, kind);
    for (int d = 0; d < s.directions && !status; d++) status = check_weights(call, kind, &s, d);
    if (!status) status = check_state(call, kind, &s, PSG_RNN_HX, s.output);
    if (!status) status = check_state(call, kind, &s, PSG_RNN_CX, s.hidden);
    if (!status) status = check_lengths(call, &s);
    if (status) return status;
    bool single = kind->one_step && s.rows == 1;
    const int64_t out[3] = { s.batch, s.rows, s.width }, one_row[2] = { s.batch, s.width };
    return psg_call_output(call, call->input[PSG_RNN_INPUT].value.dtype, single ? 2 : 3, single ? one_row : out);
}
