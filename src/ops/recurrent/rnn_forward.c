/* The way forward: for every step one product with the packed weights, then the cell's kernel. */
#include <string.h>

#include "base/parallel.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/recurrent/rnn_layer.h"

/* Columns [first, first + n) of the sums, from k elements of the row [x, h] from `from` on. */
typedef struct gate_product {
    int64_t first, n, from, k;
    void *panels;
    const char *bias;         /* n elements, or NULL */
} gate_product;

typedef struct forward_direction {
    gate_product products[3];
    int product_count;
    void *projection;         /* panels of weight_hr */
    psg_rnn_rows y;
} forward_direction;

typedef struct forward_job {
    psg_rnn_layer layer;
    forward_direction direction[2];
    psg_rnn_rows x, y;
    char *inputs;             /* rows [x, h] in the order of the samples */
    char *sums;
    void **sums_row, **h_row;
} forward_job;

/* ---- weights: [W_ih, W_hh] as one matrix from [x, h] to the sums ---- */

static const void *bias_at(const psg_rnn_layer *layer, int64_t d, int which, int64_t row) {
    const psg_operand *bias = psg_rnn_weight(layer->call, d, which);
    return bias->role == PSG_ABSENT ? NULL : psg_tensor_offset(&bias->value, row);
}

/* The sum of two biases, either of which may be missing; *sum NULL when both are. */
static psg_status add_biases(const psg_rnn_layer *layer, const void *a, const void *b, int64_t n, const char **sum) {
    *sum = a ? a : b;
    if (!a || !b) return PSG_OK;
    void *both = psg_rnn_take(layer, n);
    if (!both) return PSG_ERR_MEMORY;
    layer->kernels->broadcast_add((size_t)n, a, 1, b, 1, both);
    *sum = both;
    return PSG_OK;
}

/* Rows [row, row + n) of weight_ih, weight_hh or both become the product's columns. */
static psg_status add_product(forward_job *j, int64_t d, int64_t row, int64_t first, int64_t n, bool x, bool h) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    forward_direction *direction = &j->direction[d];
    gate_product *product = &direction->products[direction->product_count++];
    int64_t input = x ? s->input : 0;
    *product = (gate_product){ .first = first, .n = n, .from = x ? 0 : s->input, .k = input + (h ? s->output : 0) };
    product->panels = psg_rnn_take(layer, psg_rnn_panel_elements(layer, n, product->k));
    if (!product->panels) return PSG_ERR_MEMORY;
    const psg_tensor *ih = &psg_rnn_weight(layer->call, d, PSG_WEIGHT_IH)->value;
    const psg_tensor *hh = &psg_rnn_weight(layer->call, d, PSG_WEIGHT_HH)->value;
    if (x) {
        psg_rnn_pack(layer, psg_tensor_offset(ih, row * s->input), n, s->input, s->input, 1, product->panels, 0,
                     product->k);
    }
    if (h) {
        psg_rnn_pack(layer, psg_tensor_offset(hh, row * s->output), n, s->output, s->output, 1, product->panels, input,
                     product->k);
    }
    return add_biases(layer, x ? bias_at(layer, d, PSG_BIAS_IH, row) : NULL,
                      h ? bias_at(layer, d, PSG_BIAS_HH, row) : NULL, n, &product->bias);
}

static psg_status pack_direction(forward_job *j, int64_t d) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    int apart = layer->kind->sums - layer->kind->gates;
    int64_t together = (layer->kind->gates - apart) * s->hidden, last = layer->kind->gates * s->hidden;
    psg_status status = add_product(j, d, 0, 0, together, true, true);
    if (!status && apart) status = add_product(j, d, together, together, s->hidden, true, false);
    if (!status && apart) status = add_product(j, d, together, last, s->hidden, false, true);
    if (status || !s->projects) return status;
    void *panels = psg_rnn_take(layer, psg_rnn_panel_elements(layer, s->output, s->hidden));
    j->direction[d].projection = panels;
    if (!panels) return PSG_ERR_MEMORY;
    psg_rnn_pack(layer, psg_rnn_weight(layer->call, d, PSG_WEIGHT_HR)->value.data, s->output, s->hidden, s->hidden, 1,
                 panels, 0, s->hidden);
    return PSG_OK;
}

/* ---- samples by length ---- */

static psg_status read_lengths(psg_rnn_layer *layer) {
    const psg_operand *operand = psg_rnn_operand(layer->call, PSG_RNN_LENGTHS);
    for (int64_t n = 0; n < layer->sizes.batch; n++) {
        int64_t length = layer->sizes.steps;
        if (operand->role != PSG_ABSENT) {
            const void *data = operand->value.data;
            length = operand->value.dtype == PSG_I32 ? ((const int32_t *)data)[n] : ((const int64_t *)data)[n];
        }
        if ((length < 0 || length > layer->sizes.steps) && psg_call_removes(layer->call, n)) length = 0;
        if (length < 0 || length > layer->sizes.steps) {
            return psg_call_fail(layer->call, PSG_ERR_ARGUMENT, "lengths[%lld] is %lld, must be in [0, %lld]",
                                 (long long)n, (long long)length, (long long)layer->sizes.steps);
        }
        layer->kept->lengths[n] = length;
    }
    return PSG_OK;
}

/* Counting sort; samples of one length stay in their order. */
static psg_status sort_samples(psg_rnn_layer *layer) {
    const psg_rnn_sizes *s = &layer->sizes;
    psg_rnn_kept *kept = layer->kept;
    int64_t *place = psg_call_keep(layer->call, (size_t)(s->steps + 2) * sizeof *place);
    if (!place) return PSG_ERR_MEMORY;
    memset(place, 0, (size_t)(s->steps + 2) * sizeof *place);
    for (int64_t n = 0; n < s->batch; n++) place[s->steps - kept->lengths[n] + 1]++;
    for (int64_t t = 0; t <= s->steps; t++) place[t + 1] += place[t];
    for (int64_t n = 0; n < s->batch; n++) kept->order[place[s->steps - kept->lengths[n]]++] = n;
    return PSG_OK;
}

static psg_status order_samples(psg_rnn_layer *layer) {
    size_t bytes = (size_t)layer->sizes.batch * sizeof(int64_t);
    layer->kept->lengths = psg_call_keep(layer->call, bytes);
    layer->kept->order = psg_call_keep(layer->call, bytes);
    if (!layer->kept->lengths || !layer->kept->order) return PSG_ERR_MEMORY;
    psg_status status = read_lengths(layer);
    return status || !layer->sizes.batch ? status : sort_samples(layer);
}

/* ---- memory ---- */

static psg_status take_rows(const psg_rnn_layer *layer, int64_t steps, int64_t width, psg_rnn_rows *rows) {
    int64_t of_sample, all = -1;
    if (psg_size_multiply(steps, width, &of_sample)) psg_size_multiply(of_sample, layer->sizes.batch, &all);
    rows->data = psg_rnn_take(layer, all);
    if (!rows->data) return PSG_ERR_MEMORY;
    rows->step = width * (int64_t)layer->element;
    rows->sample = steps * rows->step;
    return PSG_OK;
}

static psg_status take_states(const psg_rnn_layer *layer, psg_rnn_states *states) {
    const psg_rnn_sizes *s = &layer->sizes;
    psg_status status = take_rows(layer, s->steps, s->kept, &states->gates);
    if (!status) status = take_rows(layer, s->steps + 1, s->output, &states->h);
    if (!status && layer->kind->has_cell) status = take_rows(layer, s->steps + 1, s->hidden, &states->c);
    if (!status && s->projects) status = take_rows(layer, s->steps, s->hidden, &states->unprojected);
    return status;
}

static psg_status take_memory(forward_job *j) {
    psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    layer->kept = psg_call_keep(layer->call, sizeof *layer->kept);
    if (!layer->kept) return PSG_ERR_MEMORY;
    *layer->kept = (psg_rnn_kept){ 0 };
    psg_status status = order_samples(layer);
    for (int64_t d = 0; d < s->directions && !status; d++) status = take_states(layer, &layer->kept->states[d]);
    if (status) return status;
    size_t pointers = (size_t)s->batch * sizeof(void *);
    j->inputs = psg_rnn_take(layer, s->batch * (s->input + s->output));
    j->sums = psg_rnn_take(layer, s->batch * s->sums);
    j->sums_row = psg_call_keep(layer->call, pointers);
    j->h_row = psg_call_keep(layer->call, pointers);
    return j->inputs && j->sums && j->sums_row && j->h_row ? PSG_OK : PSG_ERR_MEMORY;
}

/* ---- a chunk: the samples order[first ..] ---- */

static int64_t sample_at(const forward_job *j, int64_t i) { return j->layer.kept->order[i]; }

static char *input_row(const forward_job *j, int64_t i) {
    return j->inputs + i * (j->layer.sizes.input + j->layer.sizes.output) * (int64_t)j->layer.element;
}

static char *h_input(const forward_job *j, int64_t i) {
    return input_row(j, i) + j->layer.sizes.input * (int64_t)j->layer.element;
}

static void copy_state(const psg_rnn_layer *layer, int k, int64_t n, int64_t d, void *to, int64_t width) {
    const psg_operand *state = &layer->call->input[k];
    size_t bytes = (size_t)width * layer->element;
    if (state->role == PSG_ABSENT) memset(to, 0, bytes);
    else memcpy(to, psg_rnn_state_row(layer, k, &state->value, n, d), bytes);
}

/* The initial state before the first step; zeros where no step will write. */
static void start_rows(const forward_job *j, int k, const psg_rnn_rows *rows, int64_t n, int64_t d, int64_t width) {
    const psg_rnn_layer *layer = &j->layer;
    int64_t length = layer->kept->lengths[n], beyond = layer->sizes.steps - length;
    copy_state(layer, k, n, d, psg_rnn_row(rows, n, d ? length : 0), width);
    memset(psg_rnn_row(rows, n, length + 1), 0, (size_t)(beyond * width) * layer->element);
}

static void start_direction(const forward_job *j, int64_t d, int64_t first, int64_t count) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    const psg_rnn_states *states = &j->layer.kept->states[d];
    for (int64_t i = first; i < first + count; i++) {
        int64_t n = sample_at(j, i), length = j->layer.kept->lengths[n];
        start_rows(j, PSG_RNN_HX, &states->h, n, d, s->output);
        memcpy(h_input(j, i), psg_rnn_row(&states->h, n, d ? length : 0), (size_t)s->output * j->layer.element);
        if (j->layer.kind->has_cell) start_rows(j, PSG_RNN_CX, &states->c, n, d, s->hidden);
        j->sums_row[i] = j->sums + i * s->sums * (int64_t)j->layer.element;
    }
}

static void multiply(const forward_job *j, int64_t d, int64_t first, int64_t active) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    const forward_direction *direction = &j->direction[d];
    for (int p = 0; p < direction->product_count; p++) {
        const gate_product *g = &direction->products[p];
        psg_panel_product product = {
            .rows = (size_t)active, .n = (size_t)g->n, .k = (size_t)g->k,
            .a = input_row(j, first) + g->from * (int64_t)j->layer.element, .a_stride = (size_t)(s->input + s->output),
            .panels = g->panels, .bias = g->bias, .c = j->sums_row + first, .first = (size_t)g->first,
        };
        j->layer.kernels->panel_product(&product);
    }
}

static void apply_cell(const forward_job *j, int64_t d, int64_t i, int64_t t, psg_row_kernel cell) {
    const psg_recurrent_attributes *attributes = j->layer.call->attributes;
    const psg_rnn_states *states = &j->layer.kept->states[d];
    int64_t n = sample_at(j, i), before = psg_rnn_before(d, t), after = psg_rnn_after(d, t);
    j->h_row[i] = psg_rnn_row(&states->h, n, after);
    psg_recurrent_row row = {
        .hidden = (size_t)j->layer.sizes.hidden, .relu = attributes->nonlinearity == PSG_RNN_RELU,
        .sums = j->sums_row[i], .gates = psg_rnn_row(&states->gates, n, t),
        .h_prev = psg_rnn_row(&states->h, n, before), .h = j->h_row[i],
    };
    if (j->layer.kind->has_cell) {
        row.c_prev = psg_rnn_row(&states->c, n, before);
        row.c = psg_rnn_row(&states->c, n, after);
    }
    if (j->layer.sizes.projects) row.h = psg_rnn_row(&states->unprojected, n, t);
    cell(&row);
}

/* The rows to multiply must lie one after another: the sums, which the cells have read, make room. */
static void project(const forward_job *j, int64_t d, int64_t first, int64_t active, int64_t t) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    size_t bytes = (size_t)s->hidden * j->layer.element;
    char *rows = j->sums_row[first];
    const psg_rnn_rows *unprojected = &j->layer.kept->states[d].unprojected;
    for (int64_t i = 0; i < active; i++) {
        memcpy(rows + i * (int64_t)bytes, psg_rnn_row(unprojected, sample_at(j, first + i), t), bytes);
    }
    psg_panel_product product = { .rows = (size_t)active, .n = (size_t)s->output, .k = (size_t)s->hidden, .a = rows,
                                  .a_stride = (size_t)s->hidden, .panels = j->direction[d].projection,
                                  .c = j->h_row + first };
    j->layer.kernels->panel_product(&product);
}

static void run_step(const forward_job *j, int64_t d, int64_t first, int64_t active, int64_t t) {
    const psg_rnn_layer *layer = &j->layer;
    size_t input = (size_t)layer->sizes.input * layer->element, output = (size_t)layer->sizes.output * layer->element;
    psg_row_kernel cell = layer->kind->forward(layer->kernels);
    for (int64_t i = first; i < first + active; i++) {
        memcpy(input_row(j, i), psg_rnn_row(&j->x, sample_at(j, i), t), input);
    }
    multiply(j, d, first, active);
    for (int64_t i = first; i < first + active; i++) apply_cell(j, d, i, t, cell);
    if (layer->sizes.projects) project(j, d, first, active, t);
    for (int64_t i = first; i < first + active; i++) {
        memcpy(h_input(j, i), j->h_row[i], output);
        memcpy(psg_rnn_row(&j->direction[d].y, sample_at(j, i), t), j->h_row[i], output);
    }
}

/* Zeros beyond the length, and the final states. */
static void finish_sample(const forward_job *j, int64_t d, int64_t n) {
    const psg_rnn_layer *layer = &j->layer;
    const psg_rnn_sizes *s = &layer->sizes;
    const psg_rnn_states *states = &layer->kept->states[d];
    size_t output = (size_t)s->output * layer->element, hidden = (size_t)s->hidden * layer->element;
    int64_t length = layer->kept->lengths[n], last = d ? 0 : length;
    for (int64_t t = length; t < s->steps; t++) memset(psg_rnn_row(&j->direction[d].y, n, t), 0, output);
    if (s->h_row >= 0) memcpy(psg_rnn_row(&j->direction[d].y, n, s->h_row), psg_rnn_row(&states->h, n, last), output);
    if (s->c_row >= 0) {
        memcpy((char *)psg_rnn_row(&j->y, n, s->c_row) + d * (int64_t)hidden, psg_rnn_row(&states->c, n, last), hidden);
    }
}

static void run_direction(const forward_job *j, int64_t d, int64_t first, int64_t count) {
    int64_t steps = j->layer.sizes.steps;
    start_direction(j, d, first, count);
    for (int64_t s = 0; s < steps; s++) {
        int64_t t = d ? steps - 1 - s : s, active = psg_rnn_active(&j->layer, first, count, t);
        if (active) run_step(j, d, first, active, t);
    }
    for (int64_t i = first; i < first + count; i++) finish_sample(j, d, sample_at(j, i));
}

/* Where h or y has fewer elements than the output's rows. */
static void clear_sample(const forward_job *j, int64_t n) {
    const psg_rnn_sizes *s = &j->layer.sizes;
    for (int64_t t = 0; t < s->rows; t++) memset(psg_rnn_row(&j->y, n, t), 0, (size_t)s->width * j->layer.element);
}

static void run_chunk(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const forward_job *j = argument;
    const psg_rnn_sizes *s = &j->layer.sizes;
    int64_t first = (int64_t)index * j->layer.chunk, left = s->batch - first;
    int64_t count = left < j->layer.chunk ? left : j->layer.chunk;
    if (s->width != s->directions * s->output || (s->c_row >= 0 && s->hidden != s->output)) {
        for (int64_t i = first; i < first + count; i++) clear_sample(j, sample_at(j, i));
    }
    for (int64_t d = 0; d < s->directions; d++) run_direction(j, d, first, count);
}

psg_status psg_rnn_forward(psg_call *call) {
    forward_job j = { .layer = psg_rnn_layer_of(call) };
    const psg_rnn_sizes *s = &j.layer.sizes;
    psg_status status = take_memory(&j);
    for (int64_t d = 0; d < s->directions && !status; d++) status = pack_direction(&j, d);
    if (status) return status;
    j.x = psg_rnn_rows_of(&j.layer, &call->input[PSG_RNN_INPUT].value);
    j.y = psg_rnn_rows_of(&j.layer, &call->output);
    for (int64_t d = 0; d < s->directions; d++) {
        j.direction[d].y = j.y;
        j.direction[d].y.data += d * s->output * (int64_t)j.layer.element;
    }
    call->kept = j.layer.kept;
    psg_parallel(call->context, (size_t)((s->batch + j.layer.chunk - 1) / j.layer.chunk), run_chunk, &j);
    return PSG_OK;
}
