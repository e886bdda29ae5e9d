/* The way back: the gradients of all steps' sums first, a chunk of samples at a time; what the parameters get are views
 * of these beside the inputs and the states. */
#include <string.h>

#include "base/parallel.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/recurrent/rnn_layer.h"

typedef struct backward_direction {
    void *to_input;           /* panels of weight_ih; NULL: nobody wants the gradient of x */
    void *to_hidden;          /* of weight_hh */
    void *to_unprojected;     /* of weight_hr */
    psg_rnn_rows grad_projected;  /* gradients of h, of all steps: for weight_hr */
    psg_rnn_rows grad_y;
} backward_direction;

typedef struct backward_job {
    psg_rnn_layer layer;
    backward_direction direction[2];
    psg_rnn_rows grad_output, grad_x;
    psg_rnn_rows x;           /* the activation of the blocks of weight_ih */
    bool copies_x;            /* it is a copy, zero beyond the lengths */
    void **grad_h, **grad_c, **grad_u, **grad_sums;   /* a row each, in the order of the samples */
    void **grad_x_row;
    char *grad_state[2];      /* of a parameter hx or cx: (B, D, R or H); else NULL */
} backward_job;

static int64_t sample_at(const backward_job *j, int64_t i) { return j->layer.kept->order[i]; }

/* ---- weights and memory ---- */

/* A (k, n) matrix whose rows are the sums. */
static void *pack_matrix(const psg_rnn_layer *layer, int64_t d, int which) {
    const psg_tensor *w = &psg_rnn_weight(layer->call, d, which)->value;
    int64_t k = w->shape[0], n = w->shape[1];
    void *panels = psg_rnn_take(layer, psg_rnn_panel_elements(layer, n, k));
    if (panels) psg_rnn_pack(layer, w->data, n, 1, k, n, panels, 0, k);
    return panels;
}

static psg_status start_direction(backward_job *j, int64_t d) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    int64_t element = (int64_t)layer->element;
    backward_direction *direction = &j->direction[d];
    direction->grad_y = j->grad_output;
    direction->grad_y.data += d * s->output * element;
    direction->to_hidden = pack_matrix(layer, d, PSG_WEIGHT_HH);
    if (!direction->to_hidden) return PSG_ERR_MEMORY;
    if (j->grad_x.data) direction->to_input = pack_matrix(layer, d, PSG_WEIGHT_IH);
    if (j->grad_x.data && !direction->to_input) return PSG_ERR_MEMORY;
    if (!s->projects) return PSG_OK;
    direction->to_unprojected = pack_matrix(layer, d, PSG_WEIGHT_HR);
    direction->grad_projected = (psg_rnn_rows){ .step = s->output * element,
                                                .sample = s->output * element * s->steps };
    direction->grad_projected.data = psg_rnn_take(layer, s->batch * s->steps * s->output);
    return direction->to_unprojected && direction->grad_projected.data ? PSG_OK : PSG_ERR_MEMORY;
}

static bool wants_weight_ih(const psg_rnn_layer *layer) {
    for (int64_t d = 0; d < layer->sizes.directions; d++) {
        if (psg_rnn_weight(layer->call, d, PSG_WEIGHT_IH)->wants_grad) return true;
    }
    return false;
}

/* Whatever x holds beyond a length must not reach the blocks of weight_ih: the gradients there are 0, but 0 times NaN
 * is not, and large values would loosen the bound on the norm's error.  Where no sample is shorter than T there is no
 * beyond, and x itself serves. */
static psg_status take_input(backward_job *j) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    j->x = psg_rnn_rows_of(layer, &layer->call->input[PSG_RNN_INPUT].value);
    bool shorter = s->batch && layer->kept->lengths[layer->kept->order[s->batch - 1]] < s->steps;
    j->copies_x = shorter && wants_weight_ih(layer);
    if (!j->copies_x) return PSG_OK;
    int64_t step = s->input * (int64_t)layer->element;
    j->x = (psg_rnn_rows){ .data = psg_rnn_take(layer, s->batch * s->steps * s->input), .step = step,
                           .sample = s->steps * step };
    return j->x.data ? PSG_OK : PSG_ERR_MEMORY;
}

/* B rows of width elements, one after another; NULL: no memory. */
static void **take_scratch(const psg_rnn_layer *layer, int64_t width) {
    int64_t batch = layer->sizes.batch;
    void **rows = psg_call_keep(layer->call, (size_t)batch * sizeof *rows);
    char *data = psg_rnn_take(layer, batch * width);
    if (!rows || !data) return NULL;
    for (int64_t i = 0; i < batch; i++) rows[i] = data + i * width * (int64_t)layer->element;
    return rows;
}

static psg_status take_memory(backward_job *j) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    j->grad_h = take_scratch(layer, s->output);
    j->grad_c = take_scratch(layer, layer->kind->has_cell ? s->hidden : 0);
    j->grad_u = take_scratch(layer, s->projects ? s->hidden : 0);
    j->grad_sums = take_scratch(layer, s->kept);
    j->grad_x_row = take_scratch(layer, 0);
    if (!j->grad_h || !j->grad_c || !j->grad_u || !j->grad_sums || !j->grad_x_row) return PSG_ERR_MEMORY;
    for (int k = PSG_RNN_HX; k <= PSG_RNN_CX; k++) {
        const psg_operand *state = &layer->call->input[k];
        if (state->grad.data) memset(state->grad.data, 0, (size_t)psg_tensor_count(&state->grad) * layer->element);
        if (state->role != PSG_PARAMETER || !state->wants_grad) continue;
        int64_t width = k == PSG_RNN_HX ? s->output : s->hidden;
        j->grad_state[k - PSG_RNN_HX] = psg_rnn_take(layer, s->batch * s->directions * width);
        if (!j->grad_state[k - PSG_RNN_HX]) return PSG_ERR_MEMORY;
    }
    return PSG_OK;
}

/* ---- a chunk: the samples order[first ..] ---- */

/* The gradient of a final state, 0 when it is no output. */
static void start_gradient(const backward_job *j, int64_t n, int64_t row, int64_t column, void *grad, int64_t width) {
    size_t bytes = (size_t)width * j->layer.element;
    if (row < 0) memset(grad, 0, bytes);
    else memcpy(grad, (char *)psg_rnn_row(&j->grad_output, n, row) + column * (int64_t)j->layer.element, bytes);
}

/* Nothing flows beyond the length. */
static void clear_beyond(const backward_job *j, int64_t d, int64_t n) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    const psg_rnn_rows *sums = &j->layer.kept->states[d].gates, *projected = &j->direction[d].grad_projected;
    int64_t length = j->layer.kept->lengths[n];
    size_t element = j->layer.element, beyond = (size_t)(s->steps - length);
    memset(psg_rnn_row(sums, n, length), 0, beyond * (size_t)sums->step);
    if (s->projects) {   /* both factors: 0 times what memory happens to hold may be NaN */
        const psg_rnn_rows *unprojected = &j->layer.kept->states[d].unprojected;
        memset(psg_rnn_row(projected, n, length), 0, beyond * (size_t)projected->step);
        memset(psg_rnn_row(unprojected, n, length), 0, beyond * (size_t)unprojected->step);
    }
    if (!j->grad_x.data || d) return;
    for (int64_t t = length; t < s->steps; t++) memset(psg_rnn_row(&j->grad_x, n, t), 0, (size_t)s->input * element);
}

static void start_chunk(const backward_job *j, int64_t d, int64_t first, int64_t count) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    for (int64_t i = first; i < first + count; i++) {
        int64_t n = sample_at(j, i);
        start_gradient(j, n, s->h_row, d * s->output, j->grad_h[i], s->output);
        if (j->layer.kind->has_cell) start_gradient(j, n, s->c_row, d * s->hidden, j->grad_c[i], s->hidden);
        clear_beyond(j, d, n);
    }
}

/* c rows (+)= the part of the gradients of the sums from block `part` on, times packed weights. */
static void multiply(const backward_job *j, void **a, int64_t part, int64_t stride, int64_t k, const void *panels,
                     int64_t n, int64_t active, void **c, bool accumulate) {
    psg_panel_product product = {
        .rows = (size_t)active, .n = (size_t)n, .k = (size_t)k,
        .a = (char *)a[0] + part * (int64_t)j->layer.element, .a_stride = (size_t)stride, .panels = panels,
        .accumulate = accumulate, .c = c,
    };
    j->layer.kernels->panel_product(&product);
}

/* Gradients of h become those of o tanh(c). */
static void unproject(const backward_job *j, int64_t d, int64_t first, int64_t active, int64_t t) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    const backward_direction *direction = &j->direction[d];
    for (int64_t i = first; i < first + active; i++) {
        int64_t n = sample_at(j, i);
        j->layer.kernels->scale_row((size_t)s->output, 1.0, psg_rnn_row(&direction->grad_y, n, t), 1, j->grad_h[i],
                                    true);
        memcpy(psg_rnn_row(&direction->grad_projected, n, t), j->grad_h[i], (size_t)s->output * j->layer.element);
    }
    multiply(j, j->grad_h + first, 0, s->output, s->output, direction->to_unprojected, s->hidden, active,
             j->grad_u + first, false);
}

static void apply_cell(const backward_job *j, int64_t d, int64_t i, int64_t t, psg_row_kernel cell) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_recurrent_attributes *attributes = layer->call->attributes;
    const psg_rnn_states *states = &layer->kept->states[d];
    int64_t n = sample_at(j, i), before = psg_rnn_before(d, t), after = psg_rnn_after(d, t);
    void *kept = psg_rnn_row(&states->gates, n, t);
    psg_recurrent_row row = {
        .hidden = (size_t)layer->sizes.hidden, .relu = attributes->nonlinearity == PSG_RNN_RELU, .gates = kept,
        .h_prev = psg_rnn_row(&states->h, n, before), .h = psg_rnn_row(&states->h, n, after),
        .grad_output = psg_rnn_row(&j->direction[d].grad_y, n, t), .grad_h = j->grad_h[i],
        .grad_c = j->grad_c[i], .grad_sums = j->grad_sums[i],
    };
    if (layer->kind->has_cell) {
        row.c_prev = psg_rnn_row(&states->c, n, before);
        row.c = psg_rnn_row(&states->c, n, after);
    }
    if (layer->sizes.projects) {
        row.grad_h = j->grad_u[i];
        row.grad_output = NULL;
    }
    cell(&row);
    memcpy(kept, row.grad_sums, (size_t)layer->sizes.kept * layer->element);
}

static void run_step(const backward_job *j, int64_t d, int64_t first, int64_t active, int64_t t) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    const backward_direction *direction = &j->direction[d];
    psg_row_kernel cell = layer->kind->backward(layer->kernels);
    int64_t gates = layer->kind->gates * s->hidden;
    if (s->projects) unproject(j, d, first, active, t);
    for (int64_t i = first; i < first + active; i++) apply_cell(j, d, i, t, cell);
    if (direction->to_input) {
        for (int64_t i = first; i < first + active; i++) j->grad_x_row[i] = psg_rnn_row(&j->grad_x, sample_at(j, i), t);
        multiply(j, j->grad_sums + first, 0, s->kept, gates, direction->to_input, s->input, active,
                 j->grad_x_row + first, d > 0);
    }
    multiply(j, j->grad_sums + first, layer->kind->hidden_part * s->hidden, s->kept, gates, direction->to_hidden,
             s->output, active, j->grad_h + first, layer->kind->carries_h);
}

static void store_state(const backward_job *j, int k, int64_t n, int64_t d, const void *grad, int64_t width) {
    const psg_operand *state = &j->layer.call->input[k];
    char *rows = j->grad_state[k - PSG_RNN_HX];
    size_t bytes = (size_t)width * j->layer.element;
    if (state->grad.data) memcpy(psg_rnn_state_row(&j->layer, k, &state->grad, n, d), grad, bytes);
    if (rows) memcpy(rows + (n * j->layer.sizes.directions + d) * (int64_t)bytes, grad, bytes);
}

/* The forward direction's final state lies where the first step beyond would read its activation of weight_hh.  All
 * further states beyond are zeros since forward. */
static void clear_final(const backward_job *j, int64_t n) {
    const psg_rnn_rows *h = &j->layer.kept->states[0].h;
    memset(psg_rnn_row(h, n, j->layer.kept->lengths[n]), 0, (size_t)h->step);
}

static void run_direction(const backward_job *j, int64_t d, int64_t first, int64_t count) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    start_chunk(j, d, first, count);
    for (int64_t u = 0; u < s->steps; u++) {
        int64_t t = d ? u : s->steps - 1 - u, active = psg_rnn_active(&j->layer, first, count, t);
        if (active) run_step(j, d, first, active, t);
    }
    for (int64_t i = first; i < first + count; i++) {
        store_state(j, PSG_RNN_HX, sample_at(j, i), d, j->grad_h[i], s->output);
        if (j->layer.kind->has_cell) store_state(j, PSG_RNN_CX, sample_at(j, i), d, j->grad_c[i], s->hidden);
        if (d == 0) clear_final(j, sample_at(j, i));
    }
}

static void copy_input(const backward_job *j, int64_t n) {
    psg_rnn_rows x = psg_rnn_rows_of(&j->layer, &j->layer.call->input[PSG_RNN_INPUT].value);
    int64_t length = j->layer.kept->lengths[n], beyond = j->layer.sizes.steps - length;
    size_t bytes = (size_t)j->x.step;
    for (int64_t t = 0; t < length; t++) memcpy(psg_rnn_row(&j->x, n, t), psg_rnn_row(&x, n, t), bytes);
    memset(psg_rnn_row(&j->x, n, length), 0, (size_t)beyond * bytes);
}

static void run_chunk(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const backward_job *j = argument;
    int64_t first = (int64_t)index * j->layer.chunk, left = j->layer.sizes.batch - first;
    int64_t count = left < j->layer.chunk ? left : j->layer.chunk;
    for (int64_t d = 0; d < j->layer.sizes.directions; d++) run_direction(j, d, first, count);
    for (int64_t i = first; i < first + count && j->copies_x; i++) copy_input(j, sample_at(j, i));
}

/* ---- parameters ---- */

/* width elements from column `first` of the rows of all steps, as (B, T, width). */
static psg_tensor view_of(const backward_job *j, const psg_rnn_rows *rows, int64_t first, int64_t width) {
    const psg_rnn_layer *layer = &j->layer;
    int64_t element = (int64_t)layer->element;
    int64_t shape[3] = { layer->sizes.batch, layer->sizes.steps, width };
    int64_t stride[3] = { rows->sample / element, rows->step / element, 1 };
    return psg_tensor_strided(layer->call->output.dtype, rows->data + first * element, 3, shape, stride);
}

static psg_status add_blocks(const backward_job *j, int64_t d) {
    psg_call *call = j->layer.call;
    const psg_rnn_sizes *s = &j->layer.sizes;
    const psg_rnn_states *states = &j->layer.kept->states[d];
    int first = PSG_RNN_WEIGHTS + (int)d * PSG_RNN_WEIGHT_COUNT;
    int64_t gates = j->layer.kind->gates * s->hidden;
    psg_rnn_rows before = states->h;
    before.data += psg_rnn_before(d, 0) * before.step;
    psg_tensor from_input = view_of(j, &states->gates, 0, gates), inputs = view_of(j, &j->x, 0, s->input);
    psg_tensor from_hidden = view_of(j, &states->gates, j->layer.kind->hidden_part * s->hidden, gates);
    psg_tensor hidden = view_of(j, &before, 0, s->output);
    psg_status status = psg_call_add_factored(call, first + PSG_WEIGHT_IH, &from_input, &inputs);
    if (!status) status = psg_call_add_factored(call, first + PSG_WEIGHT_HH, &from_hidden, &hidden);
    if (!status) status = psg_call_add_rows(call, first + PSG_BIAS_IH, &from_input);
    if (!status) status = psg_call_add_rows(call, first + PSG_BIAS_HH, &from_hidden);
    if (status || !s->projects) return status;
    psg_tensor projected = view_of(j, &j->direction[d].grad_projected, 0, s->output);
    psg_tensor unprojected = view_of(j, &states->unprojected, 0, s->hidden);
    return psg_call_add_factored(call, first + PSG_WEIGHT_HR, &projected, &unprojected);
}

/* A parameter hx or cx: its rows of this layer, from every sample. */
static psg_status add_state(const backward_job *j, int k, int64_t width) {
    const psg_recurrent_attributes *attributes = j->layer.call->attributes;
    char *rows = j->grad_state[k - PSG_RNN_HX];
    if (!rows) return PSG_OK;
    int64_t shape[3] = { j->layer.sizes.batch, 1, j->layer.sizes.directions * width };
    psg_tensor view = psg_tensor_of(j->layer.call->output.dtype, rows, 3, shape);
    psg_block block = psg_rows(&view);
    block.offset = j->layer.kind->one_step ? 0 : attributes->state_row * width;
    return psg_call_add_block(j->layer.call, k, &block);
}

psg_status psg_rnn_backward(psg_call *call) {
    backward_job j = { .layer = psg_rnn_layer_of(call) };
    const psg_rnn_sizes *s = &j.layer.sizes;
    j.grad_output = psg_rnn_rows_of(&j.layer, &call->grad_output);
    if (call->input[PSG_RNN_INPUT].grad.data) {
        j.grad_x = psg_rnn_rows_of(&j.layer, &call->input[PSG_RNN_INPUT].grad);
    }
    psg_status status = take_memory(&j);
    if (!status) status = take_input(&j);
    for (int64_t d = 0; d < s->directions && !status; d++) status = start_direction(&j, d);
    if (status) return status;
    psg_parallel(call->context, (size_t)((s->batch + j.layer.chunk - 1) / j.layer.chunk), run_chunk, &j);
    for (int64_t d = 0; d < s->directions && !status; d++) status = add_blocks(&j, d);
    if (!status) status = add_state(&j, PSG_RNN_HX, s->output);
    return status ? status : add_state(&j, PSG_RNN_CX, s->hidden);
}
